/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-recorder hosts - every host that was heard of: online, when it was last heard of,
   and how complete its events are. */
#include "spooler/base/util.h"
#include "spooler/recorder/command.h"
#include "spooler/recorder/table.h"

#define PAGE 10000

static const struct table_column columns[] = {
	{"HOST", TABLE_TEXT, 24, 64},	  {"STATE", TABLE_TEXT, 7, 0},
	{"LAST HEARD", TABLE_TIME, 0, 0}, {"GUESTS", TABLE_NUMBER, 6, 0},
	{"MISSING", TABLE_NUMBER, 7, 0},  {"BEHIND", TABLE_NUMBER, 6, 0}};

struct output {
	const struct command *command;
	struct table table;
	uint64_t shown;
};

/* As in query-sql.h: silent, if the broker reported in its place; its will has no time. */
static const char *state_of(const struct query_host *h)
{
	return h->online < 0	     ? "unknown"
	       : h->online	     ? "online"
	       : h->status_time == 0 ? "silent"
				     : "offline";
}

static void print_json(const struct query_host *h)
{
	command_print_json(json_pack(
		"{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I}", "host", h->name, "state",
		state_of(h), "status_time", json_time((uint64_t)h->status_time), "last_seen",
		json_time((uint64_t)h->seen), "last_event", json_time((uint64_t)h->last_time),
		"epoch", command_json_text(h->epoch), "boot", command_json_text(h->boot),
		"sequence", (json_int_t)h->sequence, "missing", (json_int_t)h->missing, "behind",
		(json_int_t)h->behind, "guests", (json_int_t)h->guests));
}

static void print_line(struct table *t, const struct query_host *h)
{
	table_text(t, h->name);
	table_text(t, state_of(h));
	table_time(t, h->seen);
	table_number(t, h->guests);
	table_number(t, h->missing);
	table_number(t, h->behind);
	table_end(t, NULL);
}

static int on_host(const struct query_host *h, void *userdata)
{
	struct output *o = userdata;

	if (o->command->json)
		print_json(h);
	else
		print_line(&o->table, h);
	o->shown++;
	return command_output_ended() ? -EPIPE : 0;
}

static int ask(struct command *c, void *userdata, struct query_page *ret_page)
{
	return query_hosts(c->query, &c->filter, on_host, userdata, ret_page);
}

int cmd_hosts(int argc, char **argv)
{
	static const struct argp_option options[] = {
		COMMAND_JSON, COMMAND_LIMIT, COMMAND_HOST, COMMAND_COMMON, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Shows every host: whether it is online, when it was last heard of, how many guests it has, and how "
		       "many of its events are missing or still on their way (behind).",
	};
	struct command c = {.reads_table = true};
	struct output o = {.command = &c, .table = {.columns = columns, .n = ELEMENTSOF(columns)}};
	bool more = false;
	int r;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	r = command_open(&c);
	if (r == COMMAND_OK) {
		r = command_pages(&c, command_limit(&c), PAGE, ask, &o, &more);
		r = command_footer(&c, r, o.shown, more,
				   c.filter.host ? "no such host has reported"
						 : "no host has reported yet");
	}
	command_release(&c);
	return command_finish(r);
}
