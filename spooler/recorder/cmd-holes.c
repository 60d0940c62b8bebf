/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-recorder holes, rejects - what did not come, and what came but could not be taken. */
#include <inttypes.h>

#include "spooler/base/util.h"
#include "spooler/recorder/command.h"

struct output {
	const struct command *command;
	uint64_t shown;
};

static const char *state_of(const struct query_hole *h)
{
	return h->filled ? "filled" : h->lost ? "lost on the host" : "open";
}

static int on_hole(const struct query_hole *h, void *userdata)
{
	struct output *o = userdata;
	char numbers[64], found[32];

	if (o->command->json) {
		command_print_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:s}", "host",
					     h->host, "epoch", h->epoch, "first",
					     (json_int_t)h->first, "last", (json_int_t)h->last,
					     "missing", (json_int_t)(h->last - h->first + 1),
					     "found", json_time((uint64_t)h->found), "filled",
					     json_time((uint64_t)h->filled), "state", state_of(h)));
	} else {
		if (o->shown == 0)
			command_header(
				"HOST               NUMBERS             EPOCH    FOUND               STATE");
		(void)snprintf(numbers, sizeof(numbers),
			       h->first == h->last ? "%" PRId64 : "%" PRId64 "-%" PRId64, h->first,
			       h->last);
		command_format_time(h->found, false, found);
		command_cell(h->host, 18);
		command_cell(numbers, 19);
		printf("%.8s ", h->epoch);
		command_cell(found, 19);
		command_last_cell(state_of(h), 68);
	}
	o->shown++;
	return command_output_ended() ? -EPIPE : 0;
}

static int on_reject(const struct query_reject *j, void *userdata)
{
	struct output *o = userdata;
	char when[32], times[32];

	if (o->command->json) {
		command_print_json(
			json_pack("{s:o, s:I, s:s, s:o, s:s, s:I, s:o}", "time",
				  json_time((uint64_t)j->received), "times", (json_int_t)j->times,
				  "topic", j->topic, "host", command_json_text(j->host), "reason",
				  j->reason, "size", (json_int_t)j->size, "payload",
				  json_stringn(j->payload, j->payload_size) ?: json_null()));
	} else {
		if (o->shown == 0)
			command_header(
				"LAST TIME           TIMES  TOPIC                              REASON");
		command_format_time(j->received, false, when);
		(void)snprintf(times, sizeof(times), "%" PRId64, j->times);
		command_cell(when, 19);
		command_cell(times, 6);
		command_cell(j->topic, 34);
		command_last_cell(j->reason, 62);
	}
	o->shown++;
	return command_output_ended() ? -EPIPE : 0;
}

static int show(const struct argp *argp, int argc, char **argv, bool rejects)
{
	struct command c = {0};
	struct output o = {.command = &c};
	struct query_page page = {.cursor = ""};
	int r;

	if (!command_parse(argp, argc, argv, &c))
		return COMMAND_USAGE;
	r = command_open(&c);
	if (r == COMMAND_OK) {
		c.filter.limit = command_limit(&c);
		c.filter.all = c.all;
		r = rejects ? query_rejects(c.query, &c.filter, on_reject, &o, &page)
			    : query_holes(c.query, &c.filter, on_hole, &o, &page);
		r = command_footer(&c, r, o.shown, page.cursor[0],
				   rejects ? "nothing was rejected" : "nothing is missing");
	}
	command_release(&c);
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

	return show(&argp, argc, argv, false);
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

	return show(&argp, argc, argv, true);
}
