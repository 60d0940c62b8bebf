/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* listing - see listing.h. */
#include "spooler/admin/command.h"
#include "spooler/admin/listing.h"
#include "spooler/base/format.h"
#include "spooler/base/rfc3339.h"
#include "spooler/base/terminal.h"
#include "spooler/base/utf8.h"
#include "spooler/base/util.h"

/* --- for programs */

static void set(json_t *o, const char *key, json_t *value)
{
	(void)json_object_set_new(o, key, value);
}

/* libvirt passes "-" for an absent value. */
static bool is_said(struct bytes b)
{
	return b.size > 0 && !(b.size == 1 && b.data[0] == '-');
}

/* As published in the event: exact, but for bytes that are not UTF-8. Left out where there is
   nothing. */
static void set_text(json_t *o, const char *key, struct bytes b)
{
	_cleanup_free_ char *text = is_said(b) ? malloc(3 * b.size) : NULL;

	if (text)
		set(o, key, json_stringn(text, utf8_replace(b.data, b.size, text)));
}

static void set_string(json_t *o, const char *key, const char *s)
{
	if (s && *s)
		set_text(o, key, (struct bytes){s, strlen(s)});
}

static json_t *place_json(const char *key, const char *name, enum place place, uint64_t ms,
			  uint64_t size)
{
	json_t *o = json_object();
	char when[RFC3339_SIZE];

	rfc3339_utc((int64_t)(ms / 1000), (unsigned)(ms % 1000) * 1000000, 3, when);
	set(o, key, json_string(name));
	set(o, "where", json_string(place_table[place].name));
	set(o, "time", json_string(when));
	set(o, "size", json_integer((json_int_t)size));
	return o;
}

json_t *listing_event_json(const struct found *f, const struct waiting *waiting)
{
	const struct record *r = &f->record;
	json_t *o = place_json("id", f->name, f->place, spool_id_ms(&f->id), f->size);

	set_string(o, "problem", f->problem);
	set_string(o, "failure", f->reason);
	if (!f->problem) {
		set(o, "epoch", json_string(r->stamp.epoch));
		set(o, "sequence", json_integer((json_int_t)r->stamp.sequence));
		set_text(o, "driver", r->driver);
		set_text(o, "name", r->object);
		set_string(o, "uuid", f->uuid);
		set_text(o, "operation", r->operation);
		set_text(o, "suboperation", r->suboperation);
		set_text(o, "reason", r->extra);
	}
	if (waiting && PLACES_WAITING & PLACE_BIT(f->place))
		waiting_add_json(waiting, f, o);
	return o;
}

json_t *listing_stray_json(const struct lookup *l, const struct stray *f)
{
	_cleanup_free_ char *reason = lookup_reason(l, f->place, f->name);
	json_t *o = place_json("file", f->text, f->place, f->ms, f->size);

	set_string(o, "problem", stray_problem(f));
	set_string(o, "failure", reason);
	return o;
}

/* --- for people: the layout */

#define COLUMN_GAP 2
#define ID_LENGTH 36
#define OPERATION_WIDTH 9
#define DRIVER_WIDTH 7
#define WIDE 100	 /* columns of a terminal that has room for everything */
#define NAME_WIDTH_MIN 8 /* for the guest's name, however narrow the terminal is */
#define DETAIL_INDENT 4

static const size_t time_widths[] = {
	[LISTING_TIME_FULL] = 23,
	[LISTING_TIME_SHORT] = 19,
	[LISTING_TIME_YEAR] = 14,
	[LISTING_TIME_DAY] = 12,
};

static bool same_day(uint64_t a_ms, uint64_t b_ms, bool *ret_same_year)
{
	time_t a = (time_t)(a_ms / 1000), b = (time_t)(b_ms / 1000);
	struct tm x = {0}, y = {.tm_year = 1};

	(void)localtime_r(&a, &x);
	(void)localtime_r(&b, &y);
	*ret_same_year = x.tm_year == y.tm_year;
	return *ret_same_year && x.tm_yday == y.tm_yday;
}

/* The shortest form in which times from the first to the last id are clear today. */
static enum listing_time choose_time(const struct listing *g, const struct id_list *ids)
{
	uint64_t now = command_now_ms(), first, last;
	bool first_year, last_year, today;

	if (g->width == 0 || g->width >= WIDE)
		return LISTING_TIME_FULL;
	if (ids->n == 0)
		return LISTING_TIME_YEAR;
	first = spool_id_ms(&ids->entries[0]);
	last = spool_id_ms(&ids->entries[ids->n - 1]);
	today = same_day(first, now, &first_year);
	today = same_day(last, now, &last_year) && today;
	if (today && !g->follows)
		return LISTING_TIME_DAY;
	return first_year && last_year ? LISTING_TIME_YEAR : LISTING_TIME_SHORT;
}

static size_t widest_place(const struct id_list *ids)
{
	size_t widest = strlen("WHERE");

	for (size_t i = 0; i < ids->n; i++) {
		size_t n = strlen(place_table[ids->entries[i].source].name);

		widest = n > widest ? n : widest;
	}
	return widest;
}

void listing_start(struct listing *g, struct lookup *l, const struct id_list *ids)
{
	if (g->json)
		return;
	g->colour = terminal_colour(stdout);
	g->width = terminal_width(stdout);
	g->driver = g->width == 0 || g->width >= WIDE;
	g->id_width = g->width > 0 ? lookup_unique_prefix(l, ids) : ID_LENGTH;
	g->place_width = g->width > 0 && !g->follows ? widest_place(ids) : strlen("emergency");
	g->time = choose_time(g, ids);
	rfc3339_offset(ids->n > 0 ? spool_id_ms(&ids->entries[0]) : command_now_ms(), g->offset);
}

static size_t name_column(const struct listing *g)
{
	return g->id_width + time_widths[g->time] + (g->width > 0 ? 0 : strlen(g->offset)) +
	       g->place_width + OPERATION_WIDTH + 4 * COLUMN_GAP +
	       (g->driver ? DRIVER_WIDTH + COLUMN_GAP : 0);
}

/* --- for people: a line */

static void print_heading(const struct listing *g)
{
	char time[32];

	(void)snprintf(time, sizeof(time), "TIME%s%s", g->width > 0 ? " " : "",
		       g->width > 0 ? g->offset : "");
	printf("%s%-*s  %-*s  %-*s  ", g->colour ? TERMINAL_BOLD : "", (int)g->id_width, "ID",
	       (int)(time_widths[g->time] + (g->width > 0 ? 0 : strlen(g->offset))), time,
	       (int)g->place_width, "WHERE");
	if (g->driver)
		printf("%-*s  ", DRIVER_WIDTH, "DRIVER");
	printf("%-*s  %s%s\n", OPERATION_WIDTH, "OPERATION", "VM  REASON",
	       g->colour ? TERMINAL_RESET : "");
}

/* On a terminal the heading has the offset; a line has its own only where it is another one. */
static void format_when(const struct listing *g, uint64_t ms, char ret[static RFC3339_SIZE])
{
	size_t begin = g->time == LISTING_TIME_YEAR  ? strlen("2026-")
		       : g->time == LISTING_TIME_DAY ? strlen("2026-11-21 ")
						     : 0;
	char text[RFC3339_SIZE], offset[8];

	rfc3339_local(ms, text);
	rfc3339_offset(ms, offset);
	if (g->width == 0 || text[0] == '@') {
		(void)snprintf(ret, RFC3339_SIZE, "%s", text);
		return;
	}
	(void)snprintf(ret, RFC3339_SIZE, "%.*s%s", (int)time_widths[g->time], text + begin,
		       strcmp(offset, g->offset) == 0 ? "" : offset);
}

/* Id or name, time, place; the caller prints the rest. A name that is too long for its column
   has a line of its own. */
static void print_place(struct listing *g, const char *name, uint64_t ms, enum place place)
{
	const char *colour = !g->colour		     ? ""
			     : place == PLACE_FAILED ? TERMINAL_RED
			     : place == PLACE_SENT   ? ""
						     : TERMINAL_YELLOW;
	char when[RFC3339_SIZE];

	if (g->lines == 0)
		print_heading(g);
	format_when(g, ms, when);
	if (g->width > 0 && strlen(name) > g->id_width) {
		puts(name);
		name = "";
	}
	printf("%-*s  %-*s  %s%-*s%s  ", (int)g->id_width, name, (int)time_widths[g->time], when,
	       colour, (int)g->place_width, place_table[place].name, *colour ? TERMINAL_RESET : "");
}

/* Text on lines of its own, broken at blanks where that is possible. */
static void print_detail(const struct listing *g, const char *text)
{
	size_t room = g->width > DETAIL_INDENT + NAME_WIDTH_MIN ? g->width - DETAIL_INDENT
								: NAME_WIDTH_MIN;

	terminal_wrap(stdout, text, room, DETAIL_INDENT);
}

/* The end of a line: a name, and in parentheses what there is to say. */
static void print_rest(const struct listing *g, const char *name, const char *detail)
{
	size_t used = name_column(g), columns = terminal_columns(name, SIZE_MAX);
	size_t room = g->width > used + NAME_WIDTH_MIN ? g->width - used : NAME_WIDTH_MIN;
	size_t needed = detail ? terminal_columns(detail, SIZE_MAX) + (columns > 0 ? 2 : 0) : 0;
	const char *gap = columns > 0 ? "  " : "";

	if (g->width == 0 || columns + needed <= room) {
		printf("%s%s%s\n", name, detail ? gap : "", detail ? detail : "");
		return;
	}
	if (columns > room)
		printf("%.*s...\n", (int)terminal_fit(name, room - 3), name);
	else
		puts(name);
	if (detail)
		print_detail(g, detail);
}

/* --- for people: what there is to say of an event */

static void add(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends to text, which may be NULL; without memory it stays as it is. */
static void add(char **text, const char *format, ...)
{
	_cleanup_free_ char *more = NULL;
	char *sum;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&more, format, ap);
	va_end(ap);
	if (n < 0) {
		more = NULL;
		return;
	}
	if (asprintf(&sum, "%s%s", *text ? *text : "", more) < 0)
		return;
	free(*text);
	*text = sum;
}

static void add_waiting(char **text, const struct waiting *w, const struct found *f)
{
	struct wait_reason reason;
	uint64_t now = now_usec(CLOCK_REALTIME);
	char count[48], age[32];

	waiting_explain(w, f, &reason);
	if (!reason.of_this_event)
		return; /* the whole list has it: waiting_summary() */
	add(text, "%s%s", *text ? "  " : "", reason.why);
	if (reason.topic)
		add(text, " on topic %s", reason.topic);
	if (reason.attempts > 0) {
		format_count(reason.attempts, "attempt", count);
		add(text, "; %s", count);
	}
	if (reason.waits_for[0])
		add(text, "%s%s", reason.attempts > 0 ? "; waits for " : ": ", reason.waits_for);
	if (reason.next_usec > now) {
		format_age((reason.next_usec - now + USEC_PER_SEC - 1) / USEC_PER_SEC, age);
		add(text, ", next in %s", age);
	}
}

/* libvirt's reason, the daemon's of a failure, why it waits; safe for the terminal, to be freed.
   NULL: there is nothing to say. */
static char *event_detail(const struct listing *g, const struct found *f)
{
	_cleanup_free_ char *text = NULL;
	const struct record *r = &f->record;

	if (f->problem)
		add(&text, "(%s)", f->problem);
	else if (is_said(r->extra))
		add(&text, "%.*s", (int)r->extra.size, r->extra.data);
	if (f->reason && (!f->problem || strcmp(f->reason, f->problem) != 0))
		add(&text, "%s(%s)", text ? "  " : "", f->reason);
	if (g->waiting && PLACES_WAITING & PLACE_BIT(f->place))
		add_waiting(&text, g->waiting, f);
	return text ? terminal_text(stdout, text, strlen(text)) : NULL;
}

static void print_event(struct listing *g, const struct found *f)
{
	const struct record *r = &f->record;
	_cleanup_free_ char *driver = terminal_text(stdout, r->driver.data, r->driver.size),
			    *object = terminal_text(stdout, r->object.data, r->object.size),
			    *operation =
				    terminal_text(stdout, r->operation.data, r->operation.size),
			    *detail = event_detail(g, f), *name = NULL;
	/* without a column for it, only an unusual driver is worth the room */
	char id[37];
	bool prefix = !g->driver && driver && driver[0] && strcmp(driver, "qemu") != 0;

	if (!driver || !object || !operation)
		return;
	if (!f->problem)
		add(&name, "%s%s%s", prefix ? driver : "", prefix ? ":" : "",
		    is_said(r->object) ? object : "-");
	(void)snprintf(id, sizeof(id), "%.*s", (int)g->id_width, f->name);
	print_place(g, id, spool_id_ms(&f->id), f->place);
	if (g->driver)
		printf("%-*s  ", DRIVER_WIDTH, driver);
	printf("%-*s  ", OPERATION_WIDTH, operation);
	print_rest(g, name ? name : "", detail);
}

static void print_stray(struct listing *g, const struct lookup *l, const struct stray *f)
{
	_cleanup_free_ char *reason = lookup_reason(l, f->place, f->name), *text = NULL,
			    *detail = NULL;

	add(&text, "(%s)", stray_problem(f));
	if (reason && strcmp(reason, stray_problem(f)) != 0)
		add(&text, "  (%s)", reason);
	detail = text ? terminal_text(stdout, text, strlen(text)) : NULL;
	print_place(g, f->text, f->ms, f->place);
	print_rest(g, "", detail);
}

/* --- a line */

unsigned listing_wants(const struct listing *g)
{
	return LOOKUP_REASON | (g->json ? LOOKUP_UUID : 0);
}

void listing_event(struct listing *g, const struct found *f)
{
	if (g->json)
		command_print_json(listing_event_json(f, g->waiting));
	else
		print_event(g, f);
	g->lines++;
}

void listing_stray(struct listing *g, const struct lookup *l, const struct stray *f)
{
	if (g->json)
		command_print_json(listing_stray_json(l, f));
	else
		print_stray(g, l, f);
	g->lines++;
}
