/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-recorder guests - where each guest is, in which state, since when and why. */
#include "spooler/base/util.h"
#include "spooler/recorder/command.h"
#include "spooler/recorder/lines.h"
#include "spooler/recorder/table.h"

#define PAGE 25000
#define SORTED_MOST 100000 /* lines of some 100 bytes, in memory */

static const struct table_column columns[] = {{"VM", TABLE_TEXT, 20, 40},
					      {"HOST", TABLE_TEXT, 16, 40},
					      {"STATE", TABLE_TEXT, 8, 0},
					      {"SINCE", TABLE_TIME, 0, 0},
					      {"REASON", TABLE_REST, 0, 0}};

struct output {
	const struct command *command;
	struct table table;
	struct lines lines;
	uint64_t shown;
};

static void print_json(const struct query_guest *g)
{
	json_t *migration = json_null();

	if (g->migration_begin)
		migration = json_pack(
			"{s:o, s:o, s:o, s:o, s:s}", "from", command_json_text(g->migration_from),
			"to", command_json_text(g->migration_to), "begin",
			json_time((uint64_t)g->migration_begin), "end",
			json_time((uint64_t)g->migration_end), "outcome", g->migration_outcome);
	command_print_json(json_pack(
		"{s:s, s:s, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "uuid", g->uuid, "name",
		g->name, "driver", command_json_text(g->driver), "host", command_json_text(g->host),
		"state", g->state, "since", json_time((uint64_t)g->since), "reason",
		command_json_text(g->reason), "last_event", json_time((uint64_t)g->last_time),
		"also_on", command_json_text(g->also_on), "migration", migration));
}

static void print_line(struct table *t, const struct query_guest *g)
{
	_cleanup_free_ char *note = NULL;

	if (t->lines)
		lines_begin(t->lines, g->name);
	if ((*g->also_on && asprintf(&note, "also on %s!", g->also_on) < 0) ||
	    (!*g->also_on && *g->going_to && asprintf(&note, "going to %s", g->going_to) < 0))
		note = NULL;
	table_text(t, *g->name ? g->name : g->uuid);
	table_text(t, g->host);
	table_text(t, g->state);
	table_time(t, g->since);
	table_end(t, note ? note : g->reason);
}

static int on_guest(const struct query_guest *g, void *userdata)
{
	struct output *o = userdata;

	if (o->command->json)
		print_json(g);
	else
		print_line(&o->table, g);
	o->shown++;
	return command_output_ended() ? -EPIPE : 0;
}

static int ask(struct command *c, void *userdata, struct query_page *ret_page)
{
	return query_guests(c->query, &c->filter, on_guest, userdata, ret_page);
}

/* The store gives all guests faster in its own order, so they are sorted here. -E2BIG: they are too many
   for that, and only the heading was printed. */
static int show_sorted(struct command *c, struct output *o)
{
	struct query_page page = {.cursor = ""};
	int r;

	c->filter.any_order = true;
	c->filter.limit = SORTED_MOST;
	o->table.lines = &o->lines;
	r = ask(c, o, &page);
	if (r >= 0)
		r = page.cursor[0] ? -E2BIG : lines_print(&o->lines, stdout);
	lines_release(&o->lines);
	o->table.lines = NULL;
	c->filter.any_order = false;
	return r;
}

static int show(struct command *c, struct output *o, bool *ret_more)
{
	int r = -E2BIG;

	if (!c->json && command_limit(c) == UINT64_MAX && !isatty(STDOUT_FILENO))
		r = show_sorted(c, o);
	if (r != -E2BIG)
		return r;
	o->shown = 0;
	return command_pages(c, command_limit(c), PAGE, ask, o, ret_more);
}

int cmd_guests(int argc, char **argv)
{
	static const struct argp_option options[] = {
		COMMAND_JSON,
		COMMAND_LIMIT,
		COMMAND_VM,
		COMMAND_HOST,
		{"state", OPTION_STATE, "STATE", 0,
		 "only in this state: running, stopped, paused, crashed, starting, incoming, unknown",
		 2},
		{"driver", 'd', "GLOB", 0, "only this driver: qemu, lxc ...", 2},
		COMMAND_COMMON,
		{0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Shows where each virtual machine is, or was last, its state and since when. 'unknown': its host has "
		       "been booted since, and has not reported it yet; 'incoming': a migration from an unknown host.",
	};
	struct command c = {.reads_table = true};
	struct output o = {.command = &c, .table = {.columns = columns, .n = ELEMENTSOF(columns)}};
	bool more = false;
	int r;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	r = command_open(&c);
	if (r == COMMAND_OK) {
		c.filter.brief = !c.json;
		r = show(&c, &o, &more);
		r = command_footer(&c, r, o.shown, more, "no such guest is known");
	}
	command_release(&c);
	return command_finish(r);
}
