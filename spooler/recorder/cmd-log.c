/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-recorder log - the events, a line each; with --follow those that arrive, as they do. */
#include <poll.h>

#include "spooler/base/util.h"
#include "spooler/recorder/command.h"
#include "spooler/recorder/table.h"

#define FOLLOW_MS 300
#define RETRY_MS 1000
#define PAGE 1000

static const struct table_column columns[] = {{"TIME", TABLE_TIME_MS, 0, 0},
					      {"HOST", TABLE_TEXT, 14, 40},
					      {"VM", TABLE_TEXT, 16, 40},
					      {"OPERATION", TABLE_TEXT, 9, 20},
					      {"REASON", TABLE_REST, 0, 0}};

struct output {
	const struct command *command;
	struct table table;
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

static void print_line(struct table *t, const struct query_event *e)
{
	const char *signature = cloudevent_signature(e->flags);
	bool checked = strcmp(signature, "unchecked") != 0;
	_cleanup_free_ char *note = NULL;

	if (asprintf(&note, "%s%s%s", e->reason, *e->reason && checked ? "  " : "",
		     checked ? signature : "") < 0)
		note = NULL;
	table_time(t, e->time);
	table_text(t, e->host);
	table_text(t, *e->name ? e->name : "-");
	table_text(t, e->operation);
	table_end(t, note);
}

static int on_event(const struct query_event *e, void *userdata)
{
	struct output *o = userdata;

	if (e->arrival > o->arrival)
		o->arrival = e->arrival;
	if (o->command->json)
		print_json(e);
	else
		print_line(&o->table, e);
	o->shown++;
	return command_output_ended() ? -EPIPE : 0;
}

static int ask(struct command *c, void *userdata, struct query_page *ret_page)
{
	return query_log(c->query, &c->filter, on_event, userdata, ret_page);
}

/* --- in the order of arrival */

/* At most `limit` events that arrived after the last one that was shown. */
static int show_arrived(struct command *c, struct output *o, uint64_t limit)
{
	struct query_page page = {.cursor = ""};
	char cursor[QUERY_CURSOR_SIZE] = "";
	int r;

	c->filter.cursor = cursor;
	do {
		c->filter.arrived_after = o->arrival;
		c->filter.limit = limit < PAGE ? limit : PAGE;
		r = query_log(c->query, &c->filter, on_event, o, &page);
		command_flush();
		if (r < 0)
			break;
		limit -= page.rows;
		memcpy(cursor, page.cursor, sizeof(cursor));
	} while (cursor[0] && limit > 0 && !command_output_ended());
	c->filter.cursor = NULL;
	return r;
}

/* Nobody reads any more. */
static bool reader_left(int ms)
{
	struct pollfd out = {.fd = STDOUT_FILENO};

	return command_output_ended() ||
	       (poll(&out, 1, ms) > 0 && out.revents & (POLLERR | POLLHUP));
}

/* A database that is started anew, moved or locked: it comes back. */
static bool passes(int error)
{
	return error == -ENOTCONN || error == -EAGAIN || error == -ENOENT || error == -EIO;
}

/* Until the store can be read again, or whoever reads us goes away. One that was restored from a
   copy has not come as far. */
static int wait_for_store(struct command *c, struct output *o)
{
	int64_t last;
	int r;

	fprintf(stderr, "%s; trying again\n", query_error(c->query));
	do {
		if (reader_left(RETRY_MS))
			return -EPIPE;
		r = command_reopen(c);
		if (r >= 0)
			r = query_last_arrival(c->query, &last);
	} while (passes(r));
	if (r >= 0 && last < o->arrival)
		o->arrival = last;
	if (r >= 0)
		fprintf(stderr, "the store can be read again\n");
	return r;
}

/* Until whoever reads goes away. */
static int follow(struct command *c, struct output *o)
{
	int r;

	c->filter.since = 0; /* what arrives late is news as well */
	do {
		r = show_arrived(c, o, UINT64_MAX);
		if (passes(r))
			r = wait_for_store(c, o);
		else if (r >= 0 && reader_left(FOLLOW_MS))
			r = -EPIPE;
	} while (r >= 0);
	return r;
}

/* Those that are there already, if a number or a time was given, and then what arrives. */
static int show_followed(struct command *c, struct output *o)
{
	bool more;
	int r;

	if (c->after) {
		o->arrival = c->after;
		return follow(c, o);
	}
	r = query_last_arrival(c->query, &o->arrival);
	if (r >= 0 && (c->limit || c->filter.since)) {
		c->filter.oldest_first = true;
		c->filter.newest = c->limit != 0;
		r = command_pages(c, c->limit ? c->limit : UINT64_MAX,
				  c->limit ? QUERY_LIMIT_MAX : PAGE, ask, o, &more);
		c->filter.newest = false;
	}
	return r < 0 ? r : follow(c, o);
}

static int show(struct command *c, struct output *o, bool *ret_more)
{
	if (c->follow)
		return show_followed(c, o);
	if (!c->after)
		return command_pages(c, command_limit(c), PAGE, ask, o, ret_more);
	o->arrival = c->after;
	return show_arrived(c, o, c->limit ? c->limit : UINT64_MAX);
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
		 "in the order of arrival, after the event with this 'arrival' in --json; -1: from the first",
		 1},
		{"last-arrival", OPTION_LAST_ARRIVAL, NULL, 0,
		 "print the 'arrival' of the last event, for --after", 1},
		COMMAND_VM,
		COMMAND_HOST,
		{"op", 'o', "GLOB", 0, "only this operation: start, release ...", 2},
		{"driver", 'd', "GLOB", 0, "only this driver: qemu, lxc, network ...", 2},
		COMMAND_TIMES,
		COMMAND_COMMON,
		{0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Shows events, the newest first.",
	};
	struct command c = {0};
	struct output o = {.command = &c, .table = {.columns = columns, .n = ELEMENTSOF(columns)}};
	bool more = false;
	int r;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	r = command_open(&c);
	if (r == COMMAND_OK) {
		r = c.last_arrival ? print_last_arrival(&c) : show(&c, &o, &more);
		r = command_footer(&c, r, o.shown, more,
				   c.follow || c.last_arrival ? NULL
							      : "no such event was recorded");
	}
	command_release(&c);
	return command_finish(r);
}
