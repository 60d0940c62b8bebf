/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool-recorder timeline VM - what happened to one guest: a bar per host (where it was in
 * which state, see intervals.h), and below it the operations, one a line.
 */
#include <inttypes.h>

#include "spooler/base/format.h"
#include "spooler/base/memory.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"
#include "spooler/recorder/command.h"
#include "spooler/recorder/intervals.h"
#include "spooler/recorder/table.h"

#define HOSTS_MAX 32
#define NAME_WIDTH_MIN 8
#define NAME_WIDTH_MAX 32
#define BAR_MAX 512
#define BAR_MIN 8
#define OTHERS_MAX 5 /* guests of the same name that are listed */

struct entry {
	char *id, *host, *kind, *outcome, *reason, *from, *to;
	int64_t begun, ended;
};

/* A guest that is called so. */
struct candidate {
	unsigned char uuid[16];
	char uuid_text[UUID_TEXT];
	char *name, *host, *state, *reason, *also_on;
	int64_t since, last_time;
};

struct timeline {
	struct entry *list;
	size_t n, allocated;
	bool more; /* older ones are left out */
	struct candidate guest, others[OTHERS_MAX];
	uint64_t n_candidates;
};

/* --- reading */

static void candidate_release(struct candidate *c)
{
	free(c->name);
	free(c->host);
	free(c->state);
	free(c->reason);
	free(c->also_on);
	*c = (struct candidate){.name = NULL};
}

/* The one with the last event is shown, and the others are named. */
static int on_guest(const struct query_guest *g, void *userdata)
{
	struct timeline *t = userdata;
	struct candidate new = {.name = strdup(g->name),
				.host = strdup(g->host),
				.state = strdup(g->state),
				.reason = strdup(g->reason),
				.also_on = strdup(g->also_on),
				.since = g->since,
				.last_time = g->last_time};

	if (!new.name || !new.host || !new.state || !new.reason || !new.also_on) {
		candidate_release(&new);
		return -ENOMEM;
	}
	memcpy(new.uuid_text, g->uuid, UUID_TEXT);
	(void)uuid_parse(g->uuid, new.uuid);
	if (t->n_candidates > 0 && new.last_time < t->guest.last_time) {
		struct candidate smaller = new;

		new = t->guest;
		t->guest = smaller;
	}
	if (t->n_candidates > 0 && t->n_candidates <= OTHERS_MAX)
		t->others[t->n_candidates - 1] = t->guest;
	else if (t->n_candidates > 0)
		candidate_release(&t->guest);
	t->guest = new;
	t->n_candidates++;
	return 0;
}

static void entry_release(struct entry *e)
{
	free(e->id);
	free(e->host);
	free(e->kind);
	free(e->outcome);
	free(e->reason);
	free(e->from);
	free(e->to);
}

static int on_operation(const struct query_operation *o, void *userdata)
{
	struct timeline *t = userdata;
	struct entry *e;

	if (memory_reserve(&t->list, &t->allocated, t->n + 1, sizeof(*e)) < 0)
		return -ENOMEM;
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
	for (size_t i = 0; i < t->n; i++)
		entry_release(&t->list[i]);
	free(t->list);
	candidate_release(&t->guest);
	for (size_t i = 0; i < OTHERS_MAX; i++)
		candidate_release(&t->others[i]);
}

/* --- bars */

enum state { ELSEWHERE, STOPPED, CHANGING, PAUSED, RUNNING, UNKNOWN, FAILED, N_STATES };

static const struct {
	const char *name, *block, *ascii;
} states[N_STATES] = {
	[ELSEWHERE] = {"", " ", " "},	     [STOPPED] = {"stopped", "·", "."},
	[CHANGING] = {"changing", "▒", "~"}, [PAUSED] = {"paused", "═", "="},
	[RUNNING] = {"running", "█", "#"},   [UNKNOWN] = {"unknown", "?", "?"},
	[FAILED] = {"failed", "×", "x"},
};

struct stretch {
	size_t host; /* its row */
	int64_t from, to;
	enum state state;
};

struct bars {
	char *hosts[HOSTS_MAX];
	size_t n;
	struct stretch *list; /* later ones cover earlier ones */
	size_t n_list, allocated;
	bool failed; /* no memory */
	int64_t from, until;

	unsigned width, name_width;
	unsigned char cells[HOSTS_MAX][BAR_MAX];
};

static size_t row_of(struct bars *b, const char *host)
{
	for (size_t i = 0; i < b->n; i++)
		if (strcmp(b->hosts[i], host) == 0)
			return i;
	if (b->n == HOSTS_MAX || !(b->hosts[b->n] = strdup(host)))
		return HOSTS_MAX;
	return b->n++;
}

static void add_stretch(struct bars *b, const char *host, int64_t from, int64_t to,
			enum state state)
{
	size_t row;

	if (to < b->from || from > b->until || (row = row_of(b, host)) == HOSTS_MAX)
		return;
	if (memory_reserve(&b->list, &b->allocated, b->n_list + 1, sizeof(*b->list)) < 0) {
		b->failed = true;
		return;
	}
	b->list[b->n_list++] = (struct stretch){row, from, to, state};
}

static enum state state_of(const char *name)
{
	static const struct {
		const char *name;
		enum state state;
	} names[] = {{"crashed", FAILED},  {"starting", CHANGING}, {"incoming", CHANGING},
		     {"running", RUNNING}, {"paused", PAUSED},	   {"unknown", UNKNOWN}};

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		if (strcmp(name, names[i].name) == 0)
			return names[i].state;
	return STOPPED;
}

static void on_interval(const struct interval *x, void *userdata)
{
	struct bars *b = userdata;

	add_stretch(b, x->host ? x->host : "?", x->from, x->to ? x->to : b->until,
		    state_of(x->state));
}

/* A state that goes on may have begun before one that has ended. */
static int compare_stretches(const void *a, const void *b)
{
	const struct stretch *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

static int read_bars(struct command *c, const struct timeline *t, struct bars *b, bool *ret_cut)
{
	struct intervals i = {.db = query_db(c->query),
			      .from = b->from,
			      .to = b->until,
			      .fn = on_interval,
			      .userdata = b};
	int r = intervals_find_hosts(&i, t->guest.uuid);

	if (r >= 0)
		r = intervals_read(&i, t->guest.uuid);
	*ret_cut = i.truncated;
	intervals_release(&i);
	if (b->n_list > 0)
		qsort(b->list, b->n_list, sizeof(b->list[0]), compare_stretches);
	for (size_t k = 0; k < t->n; k++) { /* what was short shall be seen */
		const struct entry *e = &t->list[k];

		if (strcmp(e->outcome, "failed") == 0)
			add_stretch(b, e->host, e->begun, e->ended ? e->ended : e->begun, FAILED);
	}
	return b->failed ? -ENOMEM : r;
}

/* The longest name has room, but not more than a third of the line. */
static void measure(struct bars *b, unsigned columns)
{
	unsigned most = columns / 3 < NAME_WIDTH_MAX ? columns / 3 : NAME_WIDTH_MAX, name = 0;

	for (size_t i = 0; i < b->n; i++) {
		_cleanup_free_ char *safe = terminal_text(stdout, b->hosts[i], strlen(b->hosts[i]));
		unsigned n = safe ? (unsigned)terminal_columns(safe, SIZE_MAX) : 0;

		name = n > name ? n : name;
	}
	b->name_width = name < NAME_WIDTH_MIN ? NAME_WIDTH_MIN : name > most ? most : name;
	b->width = columns > b->name_width + 1 + BAR_MIN ? columns - b->name_width - 1 : BAR_MIN;
	b->width = b->width < BAR_MAX ? b->width : BAR_MAX;
}

static unsigned column(const struct bars *b, int64_t time)
{
	if (time <= b->from)
		return 0;
	if (time >= b->until)
		return b->width - 1;
	return (unsigned)((double)(time - b->from) / (double)(b->until - b->from) * b->width);
}

/* A short state is still seen, as one cell. */
static void paint(struct bars *b)
{
	for (size_t i = 0; i < b->n_list; i++) {
		const struct stretch *x = &b->list[i];

		for (unsigned c = column(b, x->from); c <= column(b, x->to); c++)
			b->cells[x->host][c] = (unsigned char)x->state;
	}
}

/* As much of both times as there is room for; the offset is in the table's heading. */
static void print_scale(const struct bars *b)
{
	size_t begin = b->width < 40 ? strlen("2026-") : 0;
	char from[32], until[32];

	command_format_time(b->from, from);
	command_format_time(b->until, until);
	from[19] = until[19] = 0;
	if (b->width < 30)
		from[16] = until[16] = 0;
	printf("%*s%s%*s\n", (int)b->name_width + 1, "", from + begin,
	       (int)b->width - (int)strlen(from + begin), until + begin);
}

static void print_legend(const bool used[N_STATES], bool ascii, unsigned columns)
{
	size_t at = 0;

	for (size_t s = ELSEWHERE + 1; s < N_STATES; s++) {
		size_t n = strlen(states[s].name) + strlen("#   ");

		if (!used[s])
			continue;
		if (at > 0 && at + n > columns)
			at = 0, (void)putchar('\n');
		at += n;
		printf("%s %s  ", ascii ? states[s].ascii : states[s].block, states[s].name);
	}
	fputs("\n\n", stdout);
}

static void print_bars(const struct bars *b)
{
	bool ascii = terminal_ascii(stdout), used[N_STATES] = {false};

	print_scale(b);
	for (size_t i = 0; i < b->n; i++) {
		table_label(b->hosts[i], b->name_width);
		for (unsigned c = 0; c < b->width; c++) {
			enum state s = b->cells[i][c];

			used[s] = true;
			fputs(ascii ? states[s].ascii : states[s].block, stdout);
		}
		(void)putchar('\n');
	}
	print_legend(used, ascii, b->name_width + 1 + b->width);
}

static void bars_free(struct bars *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->hosts[i]);
	free(b->list);
	free(b);
}

static int show_bars(struct command *c, const struct timeline *t)
{
	int64_t now = (int64_t)now_usec(CLOCK_REALTIME);
	unsigned columns = terminal_width(stdout) ? terminal_width(stdout) : 80;
	struct bars *b = calloc(1, sizeof(*b));
	bool cut = false;
	int r = 0;

	if (!b)
		return -ENOMEM;
	b->from = c->filter.since ? c->filter.since : t->n ? t->list[0].begun : t->guest.since;
	b->until = c->filter.until && c->filter.until < now ? c->filter.until : now;
	if (b->from > 0 && b->until > b->from) {
		r = read_bars(c, t, b, &cut);
		measure(b, columns);
		paint(b);
		if (r >= 0 && b->n > 0)
			print_bars(b);
	}
	bars_free(b);
	command_flush();
	if (cut)
		fprintf(stderr, "too many events for the bars; see --since and --until\n");
	return r;
}

/* --- operations */

static const struct table_column columns[] = {{"BEGIN", TABLE_TIME, 0, 0},
					      {"OPERATION", TABLE_TEXT, 9, 0},
					      {"HOST", TABLE_TEXT, 16, 64},
					      {"TOOK", TABLE_TEXT, 11, 0},
					      {"OUTCOME", TABLE_REST, 0, 0}};

static void format_duration(const struct entry *e, char ret[static 32])
{
	int64_t ms = e->ended > e->begun ? (e->ended - e->begun) / 1000 : 0; /* two hosts' clocks */

	if (!e->ended)
		strcpy(ret, "-");
	else if (ms < 10000)
		(void)snprintf(ret, 32, "%" PRId64 ".%03" PRId64 " s", ms / 1000, ms % 1000);
	else
		format_age((uint64_t)ms / 1000, ret);
}

static void print_entry(struct table *table, const struct entry *e)
{
	_cleanup_free_ char *where = NULL, *what = NULL;
	char took[32];

	format_duration(e, took);
	if (strcmp(e->kind, "migration") == 0
		    ? asprintf(&where, "%s > %s", *e->from ? e->from : "?", e->to) < 0
		    : asprintf(&where, "%s", e->host) < 0)
		where = NULL;
	if (asprintf(&what, "%s%s%s", e->outcome, *e->reason ? ": " : "", e->reason) < 0)
		what = NULL;
	table_time(table, e->begun);
	table_text(table, e->kind);
	table_text(table, where ? where : "");
	table_text(table, took);
	table_end(table, what);
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

/* --- the whole */

static void print_guest(const struct candidate *g)
{
	bool stopped = strcmp(g->state, "stopped") == 0 || strcmp(g->state, "crashed") == 0;
	_cleanup_free_ char *line = NULL;
	char since[32];

	command_format_time(g->since, since);
	if (asprintf(&line, "%s%s%s on %s%s%s%s%s", g->state, g->since ? " since " : "",
		     g->since ? since : "", *g->host ? g->host : "an unknown host",
		     *g->also_on ? ", also on " : "", g->also_on, stopped && *g->reason ? ": " : "",
		     stopped ? g->reason : "") < 0)
		line = NULL;
	table_paragraph(*g->name ? g->name : "(no name)");
	table_paragraph(g->uuid_text);
	table_paragraph(line ? line : "");
	(void)putchar('\n');
}

static void report_others(const struct timeline *t)
{
	if (t->n_candidates < 2)
		return;
	fprintf(stderr, "%" PRIu64 " guests match; the one with the last event is shown. Others:\n",
		t->n_candidates);
	for (uint64_t i = 0; i + 1 < t->n_candidates && i < OTHERS_MAX; i++) {
		const struct candidate *o = &t->others[i];
		_cleanup_free_ char *name = terminal_text(stderr, o->name, strlen(o->name)),
				    *host = terminal_text(stderr, o->host, strlen(o->host));

		fprintf(stderr, "  %s %s, %s on %s\n", o->uuid_text, name ? name : "", o->state,
			host ? host : "");
	}
	if (t->n_candidates - 1 > OTHERS_MAX)
		fprintf(stderr, "  ...\n");
}

static int show(struct command *c, const struct timeline *t)
{
	struct table table = {.columns = columns, .n = ELEMENTSOF(columns)};
	int r = 0;

	report_others(t);
	if (!c->json) {
		print_guest(&t->guest);
		r = show_bars(c, t);
	}
	for (size_t i = 0; r >= 0 && i < t->n && !command_output_ended(); i++)
		if (c->json)
			print_entry_json(&t->list[i]);
		else
			print_entry(&table, &t->list[i]);
	return r;
}

static int read_all(struct command *c, struct timeline *t)
{
	struct query_filter by_name = {.vm = c->argument, .limit = QUERY_LIMIT_MAX};
	struct query_filter f = c->filter;
	uint64_t limit = command_limit(c);
	int r;

	r = query_guests(c->query, &by_name, on_guest, t, NULL);
	if (r < 0 || t->n_candidates == 0)
		return r;
	f.vm = t->guest.uuid_text;
	f.oldest_first = f.newest = true;
	f.limit = limit < QUERY_LIMIT_MAX ? limit + 1 : QUERY_LIMIT_MAX;
	r = query_operations(c->query, &f, on_operation, t, NULL);
	t->more = t->n > limit;
	if (t->more) {
		entry_release(&t->list[0]);
		memmove(&t->list[0], &t->list[1], --t->n * sizeof(t->list[0]));
	}
	return r;
}

static int unknown_guest(const struct command *c)
{
	_cleanup_free_ char *name = terminal_text(stderr, c->argument, strlen(c->argument));

	fprintf(stderr, "no guest '%s' is known; `virtspool-recorder guests` lists them\n",
		name ? name : "");
	return COMMAND_FAILED;
}

int cmd_timeline(int argc, char **argv)
{
	static const struct argp_option options[] = {
		COMMAND_JSON, COMMAND_LIMIT, COMMAND_TIMES, COMMAND_COMMON, {0}};
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
		if (r >= 0 && t.n_candidates > 0)
			r = show(&c, &t);
		if (r < 0 || t.n_candidates > 0)
			r = command_footer(&c, r, t.n, t.more, "no operation in this time");
		else
			r = unknown_guest(&c);
	}
	timeline_release(&t);
	command_release(&c);
	return command_finish(r);
}
