/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool-recorder timeline VM - what happened to one guest: a bar per host (where it was in
 * which state), and below it the operations, one a line.
 *
 * The bars are made from the operations: a guest runs on a host from the end of a start, or of a
 * migration to it, until it is stopped there. The end of the last one is now, or --until.
 */
#include <inttypes.h>

#include "spooler/base/format.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"
#include "spooler/recorder/command.h"

#define HOSTS_MAX 32
#define NAME_WIDTH 16

struct entry {
	char *id, *host, *kind, *outcome, *reason, *from, *to;
	int64_t begun, ended;
};

struct timeline {
	struct entry *list;
	size_t n, allocated;
	struct query_guest guest;
	char *name, *host, *state;
	bool known;
	int64_t since;
};

/* --- reading */

static int on_guest(const struct query_guest *g, void *userdata)
{
	struct timeline *t = userdata;

	if (t->known) /* several have this name: the first is shown */
		return 0;
	t->known = true;
	t->guest = *g;
	t->name = strdup(g->name);
	t->host = strdup(g->host);
	t->state = strdup(g->state);
	t->since = g->since;
	return t->name && t->host && t->state ? 0 : -ENOMEM;
}

static int on_operation(const struct query_operation *o, void *userdata)
{
	struct timeline *t = userdata;
	struct entry *e;

	if (t->n == t->allocated) {
		size_t n = t->allocated ? 2 * t->allocated : 64;

		e = reallocarray(t->list, n, sizeof(*e));
		if (!e)
			return -ENOMEM;
		t->list = e;
		t->allocated = n;
	}
	e = &t->list[t->n++];
	*e = (struct entry){.id = strdup(o->id),
			    .host = strdup(o->host),
			    .kind = strdup(o->kind),
			    .outcome = strdup(o->outcome),
			    .reason = strdup(o->reason),
			    .from = strdup(o->from),
			    .to = strdup(o->to),
			    .begun = o->begun,
			    .ended = o->ended};
	return e->id && e->host && e->kind && e->outcome && e->reason && e->from && e->to ? 0
											  : -ENOMEM;
}

static void timeline_release(struct timeline *t)
{
	for (size_t i = 0; i < t->n; i++) {
		struct entry *e = &t->list[i];

		free(e->id);
		free(e->host);
		free(e->kind);
		free(e->outcome);
		free(e->reason);
		free(e->from);
		free(e->to);
	}
	free(t->list);
	free(t->name);
	free(t->host);
	free(t->state);
}

/* --- bars */

enum state { ELSEWHERE, STOPPED, CHANGING, RUNNING, FAILED };

struct bars {
	const char *hosts[HOSTS_MAX];
	size_t n;
	unsigned char cells[HOSTS_MAX][256];
	unsigned width;
	int64_t from, until;
};

static size_t row_of(struct bars *b, const char *host)
{
	for (size_t i = 0; i < b->n; i++)
		if (strcmp(b->hosts[i], host) == 0)
			return i;
	if (b->n == HOSTS_MAX)
		return HOSTS_MAX;
	b->hosts[b->n] = host;
	return b->n++;
}

static unsigned column(const struct bars *b, int64_t time)
{
	if (time <= b->from)
		return 0;
	if (time >= b->until)
		return b->width - 1;
	return (unsigned)((double)(time - b->from) / (double)(b->until - b->from) * b->width);
}

/* Later states cover earlier ones; a short one is still seen, as one cell. */
static void paint(struct bars *b, const char *host, int64_t from, int64_t until, enum state state)
{
	size_t row = row_of(b, host);

	if (row == HOSTS_MAX || until < b->from || from > b->until)
		return;
	for (unsigned c = column(b, from); c <= column(b, until); c++)
		b->cells[row][c] = (unsigned char)state;
}

static bool is(const struct entry *e, const char *kind)
{
	return strcmp(e->kind, kind) == 0;
}

/* When what began with this operation ended: on its host, or anywhere. */
static int64_t end_of_run(const struct timeline *t, size_t at, bool anywhere, int64_t now)
{
	for (size_t i = at + 1; i < t->n; i++) {
		const struct entry *e = &t->list[i];

		if ((anywhere || strcmp(e->host, t->list[at].host) == 0) &&
		    (is(e, "stop") || is(e, "start") || is(e, "restore") || is(e, "migration")))
			return e->begun;
	}
	return now;
}

static void paint_all(struct bars *b, const struct timeline *t, int64_t now)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct entry *e = &t->list[i];
		int64_t ended = e->ended ? e->ended : e->begun;

		if (is(e, "stop"))
			paint(b, e->host, ended, end_of_run(t, i, true, now), STOPPED);
		else if (strcmp(e->outcome, "success") == 0)
			paint(b, e->host, ended, end_of_run(t, i, false, now), RUNNING);
	}
	for (size_t i = 0; i < t->n; i++) { /* what was short shall be seen */
		const struct entry *e = &t->list[i];

		if (strcmp(e->outcome, "failed") == 0)
			paint(b, e->host, e->begun, e->ended ? e->ended : e->begun, FAILED);
		else if (strcmp(e->outcome, "running") == 0 && !is(e, "stop"))
			paint(b, e->host, e->begun, end_of_run(t, i, false, now), CHANGING);
	}
}

static void print_bars(const struct bars *b)
{
	static const char *const blocks[] = {" ", "·", "▒", "█", "×"}, *const ascii[] = {" ", ".",
											 "~", "#",
											 "x"};
	const char *const *glyphs = terminal_ascii(stdout) ? ascii : blocks;
	char from[32], until[32];

	command_format_time(b->from, false, from);
	command_format_time(b->until, false, until);
	printf("%-*s %-*s%s\n", NAME_WIDTH, "", (int)b->width - 19, from, until);
	for (size_t i = 0; i < b->n; i++) {
		command_cell(b->hosts[i], NAME_WIDTH);
		for (unsigned c = 0; c < b->width; c++)
			fputs(glyphs[b->cells[i][c]], stdout);
		(void)putchar('\n');
	}
	printf("%-*s %s running  %s changing  %s stopped  %s failed\n\n", NAME_WIDTH, "",
	       glyphs[RUNNING], glyphs[CHANGING], glyphs[STOPPED], glyphs[FAILED]);
}

static void show_bars(const struct timeline *t, const struct query_filter *f)
{
	int64_t now = (int64_t)now_usec(CLOCK_REALTIME);
	unsigned columns = command_columns() ? command_columns() : 80;
	struct bars *b;

	if (t->n == 0 || !(b = calloc(1, sizeof(*b))))
		return;
	b->width = columns - NAME_WIDTH - 2 < 256 ? columns - NAME_WIDTH - 2 : 255;
	b->from = f->since ? f->since : t->list[0].begun;
	b->until = f->until ? f->until : now;
	if (b->until > b->from) {
		paint_all(b, t, b->until < now ? b->until : now);
		print_bars(b);
	}
	free(b);
}

/* --- operations */

static void format_duration(const struct entry *e, char ret[static 32])
{
	int64_t ms = (e->ended - e->begun) / 1000;

	if (!e->ended)
		strcpy(ret, "-");
	else if (ms < 10000)
		(void)snprintf(ret, 32, "%" PRId64 ".%03" PRId64 " s", ms / 1000, ms % 1000);
	else
		format_age((uint64_t)ms / 1000, ret);
}

static void print_entry(const struct entry *e)
{
	_cleanup_free_ char *where = NULL, *what = NULL;
	char when[32], took[32];

	command_format_time(e->begun, false, when);
	format_duration(e, took);
	if (is(e, "migration") ? asprintf(&where, "%s > %s", *e->from ? e->from : "?", e->to) < 0
			       : asprintf(&where, "%s", e->host) < 0)
		where = NULL;
	if (asprintf(&what, "%s%s%s", e->outcome, *e->reason ? ": " : "", e->reason) < 0)
		what = NULL;
	command_cell(when, 19);
	command_cell(e->kind, 9);
	command_cell(where ? where : "", 20);
	command_cell(took, 11);
	command_last_cell(what ? what : "", 63);
}

static void print_entry_json(const struct entry *e)
{
	command_print_json(json_pack(
		"{s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "id", e->id, "operation",
		e->kind, "host", e->host, "begin", json_time((uint64_t)e->begun), "end",
		json_time((uint64_t)e->ended), "seconds",
		e->ended ? json_real((double)(e->ended - e->begun) / 1e6) : json_null(), "outcome",
		e->outcome, "reason", command_json_text(e->reason), "from",
		command_json_text(e->from), "to", command_json_text(e->to)));
}

static void show(const struct command *c, const struct timeline *t)
{
	char since[32];

	if (!c->json) {
		command_format_time(t->since, false, since);
		command_last_cell(t->name, 0);
		puts(t->guest.uuid);
		printf("%s since %s on ", t->state, since);
		command_last_cell(t->host, 45);
		(void)putchar('\n');
		show_bars(t, &c->filter);
		if (t->n)
			command_header(
				"BEGIN               OPERATION HOST                 TOOK        OUTCOME");
	}
	for (size_t i = 0; i < t->n && !command_output_ended(); i++)
		if (c->json)
			print_entry_json(&t->list[i]);
		else
			print_entry(&t->list[i]);
}

static int read_all(struct command *c, struct timeline *t)
{
	struct query_filter by_name = {.vm = c->argument, .limit = 1};
	struct query_filter f = c->filter;
	int r;

	r = query_guests(c->query, &by_name, on_guest, t, NULL);
	if (r < 0 || !t->known)
		return r;
	f.vm = t->guest.uuid;
	f.oldest_first = true;
	f.limit = c->limit ? c->limit : QUERY_LIMIT_MAX;
	return query_operations(c->query, &f, on_operation, t, NULL);
}

int cmd_timeline(int argc, char **argv)
{
	static const struct argp_option options[] = {
		COMMAND_JSON, COMMAND_TIMES, COMMAND_COMMON, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.args_doc = "VM",
		.doc = "Shows where a virtual machine was, as a bar for each host, and each start, stop and migration with its "
		       "duration and outcome. VM is a name or UUID.",
	};
	struct command c = {.argument_name = "VM"};
	struct timeline t = {0};
	int r;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	r = command_open(&c);
	if (r == COMMAND_OK) {
		r = read_all(&c, &t);
		if (r < 0) {
			r = command_failure(r, query_error(c.query));
		} else if (!t.known) {
			fprintf(stderr,
				"no guest '%s' is known; `virtspool-recorder guests` lists them\n",
				c.argument);
			r = COMMAND_FAILED;
		} else {
			show(&c, &t);
		}
	}
	timeline_release(&t);
	command_release(&c);
	return command_finish(r);
}
