/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-recorder holes, rejects - what did not come, and what came but could not be taken. */
#include <inttypes.h>

#include "spooler/base/util.h"
#include "spooler/recorder/command.h"
#include "spooler/recorder/table.h"

#define HOLES_PAGE 10000
#define REJECTS_PAGE 100 /* each with up to STORE_FORGED_PAYLOAD_MAX bytes of its payload */

static const struct table_column hole_columns[] = {{"HOST", TABLE_TEXT, 14, 40},
						   {"NUMBERS", TABLE_TEXT, 19, 28},
						   {"EPOCH", TABLE_TEXT, 8, 0},
						   {"FOUND", TABLE_TIME, 0, 0},
						   {"STATE", TABLE_REST, 0, 0}};
static const struct table_column reject_columns[] = {{"LAST TIME", TABLE_TIME, 0, 0},
						     {"TIMES", TABLE_NUMBER, 6, 0},
						     {"TOPIC", TABLE_TEXT, 20, 80},
						     {"REASON", TABLE_REST, 0, 0}};

struct output {
	struct command command;
	struct table table;
	bool rejects;
	uint64_t shown;
};

static const char *state_of(const struct query_hole *h)
{
	return h->filled ? "filled" : h->lost ? "lost on the host" : "open";
}

static int on_hole(const struct query_hole *h, void *userdata)
{
	struct output *o = userdata;
	char numbers[64], epoch[9];

	if (o->command.json) {
		command_print_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:s}", "host",
					     h->host, "epoch", h->epoch, "first",
					     (json_int_t)h->first, "last", (json_int_t)h->last,
					     "missing", (json_int_t)(h->last - h->first + 1),
					     "found", json_time((uint64_t)h->found), "filled",
					     json_time((uint64_t)h->filled), "state", state_of(h)));
	} else {
		(void)snprintf(numbers, sizeof(numbers),
			       h->first == h->last ? "%" PRId64 : "%" PRId64 "-%" PRId64, h->first,
			       h->last);
		(void)snprintf(epoch, sizeof(epoch), "%.8s", h->epoch);
		table_text(&o->table, h->host);
		table_text(&o->table, numbers);
		table_text(&o->table, epoch);
		table_time(&o->table, h->found);
		table_end(&o->table, state_of(h));
	}
	o->shown++;
	return command_output_ended() ? -EPIPE : 0;
}

static int on_reject(const struct query_reject *j, void *userdata)
{
	struct output *o = userdata;

	if (o->command.json) {
		command_print_json(json_pack("{s:o, s:I, s:o, s:o, s:o, s:I, s:o}", "time",
					     json_time((uint64_t)j->received), "times",
					     (json_int_t)j->times, "topic",
					     command_json_bytes(j->topic, strlen(j->topic)), "host",
					     command_json_text(j->host), "reason",
					     command_json_bytes(j->reason, strlen(j->reason)),
					     "size", (json_int_t)j->size, "payload",
					     command_json_bytes(j->payload, j->payload_size)));
	} else {
		table_time(&o->table, j->received);
		table_number(&o->table, j->times);
		table_text(&o->table, j->topic);
		table_end(&o->table, j->reason);
	}
	o->shown++;
	return command_output_ended() ? -EPIPE : 0;
}

static int ask(struct command *c, void *userdata, struct query_page *ret_page)
{
	const struct output *o = userdata;

	return o->rejects ? query_rejects(c->query, &c->filter, on_reject, userdata, ret_page)
			  : query_holes(c->query, &c->filter, on_hole, userdata, ret_page);
}

static int show(const struct argp *argp, int argc, char **argv, struct output *o)
{
	struct command *c = &o->command;
	bool more = false;
	int r;

	if (!command_parse(argp, argc, argv, c))
		return COMMAND_USAGE;
	r = command_open(c);
	if (r == COMMAND_OK) {
		c->filter.all = c->all;
		r = command_pages(c, command_limit(c), o->rejects ? REJECTS_PAGE : HOLES_PAGE, ask,
				  o, &more);
		r = command_footer(c, r, o->shown, more,
				   o->rejects ? "nothing was rejected" : "nothing is missing");
	}
	command_release(c);
	return command_finish(r);
}

int cmd_holes(int argc, char **argv)
{
	static const struct argp_option options[] = {
		COMMAND_JSON,
		{"limit", 'n', "N", 0, "show at most N lines [100 on a terminal, otherwise all]",
		 1},
		{"all", 'a', NULL, 0, "also holes that were filled later", 1},
		COMMAND_HOST,
		COMMAND_TIMES,
		COMMAND_COMMON,
		{0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Shows which numbers of which hosts' sequences have not arrived. Such an event may wait on its host, or "
		       "its configuration filters it out; 'lost on the host': it never reached the host's spool, or was dropped "
		       "from it. On the host, `virtspool replay --from sent` sends archived events again.",
	};

	struct output o = {.table = {.columns = hole_columns, .n = ELEMENTSOF(hole_columns)}};

	return show(&argp, argc, argv, &o);
}

int cmd_rejects(int argc, char **argv)
{
	static const struct argp_option options[] = {COMMAND_JSON,  COMMAND_LIMIT,  COMMAND_HOST,
						     COMMAND_TIMES, COMMAND_COMMON, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Shows messages that were not recorded, and why; the newest first.",
	};

	struct output o = {.table = {.columns = reject_columns, .n = ELEMENTSOF(reject_columns)},
			   .rejects = true};

	return show(&argp, argc, argv, &o);
}
