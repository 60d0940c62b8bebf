/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-recorder log - the events, a line each; with --follow those that arrive, as they do. */
#include <poll.h>

#include "spooler/base/util.h"
#include "spooler/recorder/command.h"

#define FOLLOW_MS 300

struct output {
	const struct command *command;
	uint64_t shown;
	int64_t arrival; /* of the last one that has arrived */
};

static void print_json(const struct query_event *e)
{
	json_t *event = json_loadb(e->payload, e->payload_size, 0, NULL);

	command_print_json(json_pack(
		"{s:s, s:I, s:s, s:o, s:o, s:o, s:s, s:s, s:o, s:o, s:s, s:I, s:s, s:o}", "id",
		e->id, "arrival", (json_int_t)e->arrival, "host", e->host, "time",
		json_time((uint64_t)e->time), "received", json_time((uint64_t)e->received), "uuid",
		command_json_text(e->guest), "driver", e->driver, "operation", e->operation,
		"reason", command_json_text(e->reason), "name", command_json_text(e->name), "epoch",
		e->epoch, "sequence", (json_int_t)e->sequence, "signature",
		cloudevent_signature(e->flags), "event", event ? event : json_null()));
}

static void print_line(const struct query_event *e)
{
	const char *signature = cloudevent_signature(e->flags);
	bool checked = strcmp(signature, "unchecked") != 0;
	char when[32], note[128];

	(void)snprintf(note, sizeof(note), "%.80s%s%s", e->reason,
		       *e->reason && checked ? "  " : "", checked ? signature : "");
	command_format_time(e->time, true, when);
	command_cell(when, 23);
	command_cell(e->host, 14);
	command_cell(*e->name ? e->name : "-", 16);
	command_cell(e->operation, 9);
	command_last_cell(note, 66);
}

static int on_event(const struct query_event *e, void *userdata)
{
	struct output *o = userdata;

	if (e->arrival > o->arrival)
		o->arrival = e->arrival;
	if (o->command->json) {
		print_json(e);
	} else {
		if (o->shown == 0)
			command_header(
				"TIME                    HOST           VM               OPERATION REASON");
		print_line(e);
	}
	o->shown++;
	return command_output_ended() ? -EPIPE : 0;
}

/* Until whoever reads goes away. */
static int follow(struct command *c, struct output *o)
{
	struct query_filter f = {.vm = c->filter.vm,
				 .host = c->filter.host,
				 .operation = c->filter.operation,
				 .driver = c->filter.driver,
				 .limit = QUERY_LIMIT_MAX};
	struct pollfd out = {.fd = STDOUT_FILENO};
	int r = 0;

	while (r >= 0) {
		f.arrived_after = o->arrival;
		r = query_log(c->query, &f, on_event, o, NULL);
		if (fflush(stdout) != 0 ||
		    (poll(&out, 1, FOLLOW_MS) > 0 && out.revents & (POLLERR | POLLHUP)))
			return -EPIPE;
	}
	return r;
}

/* Those that are there already, if a number or a time was given, and then what arrives. */
static int show_followed(struct command *c, struct output *o)
{
	int64_t last = c->after;
	int r = c->after ? 0 : query_last_arrival(c->query, &last);

	o->arrival = last;
	if (r >= 0 && (c->limit || c->filter.since)) {
		c->filter.oldest_first = true;
		r = query_log(c->query, &c->filter, on_event, o, NULL);
	}
	return r < 0 ? r : follow(c, o);
}

static int print_last_arrival(struct command *c)
{
	int64_t last;
	int r = query_last_arrival(c->query, &last);

	if (r >= 0)
		printf("%lld\n", (long long)last);
	return r;
}

int cmd_log(int argc, char **argv)
{
	static const struct argp_option options[] = {
		COMMAND_JSON,
		COMMAND_LIMIT,
		{"oldest", OPTION_OLDEST, NULL, 0, "the oldest first", 1},
		{"follow", 'f', NULL, 0, "show events as they arrive", 1},
		{"after", OPTION_AFTER, "ARRIVAL", 0,
		 "with --follow: begin after the event with this 'arrival' in --json; -1: with the first",
		 1},
		{"last-arrival", OPTION_LAST_ARRIVAL, NULL, 0,
		 "print the 'arrival' of the last event, for --after", 1},
		COMMAND_VM,
		COMMAND_HOST,
		{"op", 'o', "GLOB", 0, "of this operation: start, release ...", 2},
		{"driver", 'd', "GLOB", 0, "of this driver: qemu, lxc, network ...", 2},
		COMMAND_TIMES,
		COMMAND_COMMON,
		{0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Shows events, the newest first.",
	};
	struct command c = {0};
	struct output o = {.command = &c};
	struct query_page page = {.cursor = ""};
	int r;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	r = command_open(&c);
	if (r == COMMAND_OK) {
		c.filter.limit = command_limit(&c);
		if (c.filter.limit > QUERY_LIMIT_MAX)
			c.filter.limit = QUERY_LIMIT_MAX;
		r = c.last_arrival ? print_last_arrival(&c)
		    : c.follow	   ? show_followed(&c, &o)
				   : query_log(c.query, &c.filter, on_event, &o, &page);
		while (r >= 0 && page.cursor[0] && command_limit(&c) == UINT64_MAX) {
			struct query_page next = {.cursor = ""};

			c.filter.cursor = page.cursor;
			r = query_log(c.query, &c.filter, on_event, &o, &next);
			page = next;
		}
		r = command_footer(&c, r, o.shown, page.cursor[0],
				   c.follow || c.last_arrival ? NULL
							      : "no such event was recorded");
	}
	command_release(&c);
	return command_finish(r);
}
