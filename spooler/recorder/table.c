/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* table - see table.h. */
#include <inttypes.h>

#include "spooler/base/rfc3339.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"
#include "spooler/recorder/lines.h"
#include "spooler/recorder/table.h"

#define WIDE 100    /* columns of a terminal that has room for milliseconds */
#define ORDINARY 80 /* for the year */
#define TEXT_LEAST 6
#define REST_LEAST 14 /* that wider texts leave */
#define DETAIL_INDENT 4

/* Of a time: "2026-11-21 14:03:05.250+01:00", and what is left of it where there is less room. */
#define TIME_MS 23
#define TIME_SECONDS 19
#define TIME_SHORT 14
#define TIME_OFFSET 6

/* --- the layout */

static unsigned time_width(const struct table *t, enum table_kind kind)
{
	if (t->terminal == 0)
		return (kind == TABLE_TIME_MS ? TIME_MS : TIME_SECONDS) + TIME_OFFSET;
	if (t->terminal < ORDINARY)
		return TIME_SHORT;
	return kind == TABLE_TIME_MS && t->terminal >= WIDE ? TIME_MS : TIME_SECONDS;
}

static bool has_rest(const struct table *t)
{
	return t->columns[t->n - 1].kind == TABLE_REST;
}

/* Columns that are taken, each with the blank after it. */
static unsigned taken(const struct table *t)
{
	unsigned sum = 0;

	for (size_t i = 0; i < t->n; i++)
		sum += t->widths[i] ? t->widths[i] + 1 : 0;
	return sum;
}

/* Makes the texts wider, or narrower, by one each; false: none can be. */
static bool stretch(struct table *t, bool wider)
{
	bool any = false;

	for (size_t i = 0; i < t->n; i++) {
		const struct table_column *c = &t->columns[i];

		if (c->kind != TABLE_TEXT || !t->widths[i] ||
		    (wider ? t->widths[i] >= c->most : t->widths[i] <= TEXT_LEAST))
			continue;
		t->widths[i] += wider ? 1 : -1;
		any = true;
	}
	return any;
}

static void fit(struct table *t)
{
	unsigned room = t->terminal + (has_rest(t) ? 0 : 1);
	size_t last = t->n - (has_rest(t) ? 1 : 0);

	while (taken(t) > room && stretch(t, false))
		;
	while (taken(t) > room && last > 1)
		t->widths[--last] = 0;
	while (taken(t) + (has_rest(t) ? REST_LEAST : 0) + t->n <= room && stretch(t, true))
		;
}

static void lay_out(struct table *t)
{
	t->terminal = terminal_width(stdout);
	rfc3339_offset(now_usec(CLOCK_REALTIME) / 1000, t->offset);
	for (size_t i = 0; i < t->n; i++) {
		const struct table_column *c = &t->columns[i];

		t->widths[i] = c->kind == TABLE_REST   ? 0
			       : c->kind >= TABLE_TIME ? time_width(t, c->kind)
						       : c->width;
	}
	if (t->terminal)
		fit(t);
	t->before_rest = taken(t);
}

/* --- cells */

struct cell {
	const char *text;
	size_t bytes, columns;
	char *copy; /* what `text` points to, if it had to be made safe */
};

/* Most texts are plain, and tables are long: no copy is made of those. */
static struct cell make_cell(const char *text)
{
	size_t n = terminal_plain(text, SIZE_MAX);
	struct cell c = {.text = text, .bytes = n, .columns = n};

	if (!text[n])
		return c;
	c.copy = terminal_text(stdout, text, n + strlen(text + n));
	c.text = c.copy ? c.copy : "";
	c.bytes = strlen(c.text);
	c.columns = terminal_columns(c.text, c.bytes);
	return c;
}

static void release_cell(struct cell *c)
{
	free(c->copy);
}

static void write_out(struct table *t, const char *s, size_t n)
{
	if (t->lines)
		lines_add(t->lines, s, n);
	else
		(void)fwrite(s, 1, n, stdout);
}

static void flush_line(struct table *t)
{
	write_out(t, t->line, t->used);
	t->used = 0;
}

static void put_bytes(struct table *t, const char *s, size_t n)
{
	if (n > sizeof(t->line) - t->used)
		flush_line(t);
	if (n > sizeof(t->line)) {
		write_out(t, s, n);
		return;
	}
	memcpy(t->line + t->used, s, n);
	t->used += n;
}

static void put_string(struct table *t, const char *s)
{
	put_bytes(t, s, strlen(s));
}

static void put_gap(struct table *t)
{
	static const char blanks[] = "                                ";

	while (t->gap > 0) {
		size_t n = t->gap < strlen(blanks) ? t->gap : strlen(blanks);

		put_bytes(t, blanks, n);
		t->gap -= (unsigned)n;
	}
}

/* In a column of this width; on a terminal it is cut off. */
static void put_cell(struct table *t, const struct cell *c, unsigned width, bool right)
{
	bool cut = t->terminal && c->columns > width;
	size_t bytes = cut ? terminal_fit(c->text, width - 1) : c->bytes;
	unsigned columns = (unsigned)(cut ? terminal_columns(c->text, bytes) + 1 : c->columns);

	if (right && columns < width)
		t->gap += width - columns;
	put_gap(t);
	put_bytes(t, c->text, bytes);
	if (cut)
		put_bytes(t, "~", 1);
	t->gap = (right || columns >= width ? 0 : width - columns) + 1;
}

/* A text that is safe. */
static void put_ascii(struct table *t, const char *text, unsigned width, bool right)
{
	size_t n = strlen(text);

	put_cell(t, &(struct cell){.text = text, .bytes = n, .columns = n}, width, right);
}

static void put_heading(struct table *t)
{
	bool colour = terminal_colour(stdout);

	put_string(t, colour ? TERMINAL_BOLD : "");
	for (size_t i = 0; i < t->n; i++) {
		const struct table_column *c = &t->columns[i];
		bool time = c->kind == TABLE_TIME || c->kind == TABLE_TIME_MS;
		char text[48];

		(void)snprintf(text, sizeof(text), "%s%s%s", c->heading,
			       time && t->terminal ? " " : "",
			       time && t->terminal ? t->offset : "");
		if (strlen(text) > t->widths[i])
			(void)snprintf(text, sizeof(text), "%s", c->heading);
		if (c->kind == TABLE_REST && t->terminal &&
		    t->before_rest + strlen(c->heading) > t->terminal)
			break;
		if (t->widths[i] || c->kind == TABLE_REST)
			put_ascii(t, text, t->widths[i] ? t->widths[i] : sizeof(text),
				  c->kind == TABLE_NUMBER);
	}
	put_string(t, colour ? TERMINAL_RESET "\n" : "\n");
	(void)fwrite(t->line, 1, t->used, stdout);
	t->used = t->gap = 0;
}

/* The width of the next cell; 0: it is left out. */
static unsigned next_cell(struct table *t)
{
	if (!t->begun) {
		t->begun = true;
		lay_out(t);
		put_heading(t);
	}
	return t->widths[t->at++];
}

void table_text(struct table *t, const char *text)
{
	unsigned width = next_cell(t);
	struct cell c;

	if (!width)
		return;
	c = make_cell(text);
	put_cell(t, &c, width, false);
	release_cell(&c);
}

void table_label(const char *text, unsigned width)
{
	struct table t = {.terminal = terminal_width(stdout)};
	struct cell c = make_cell(text);

	put_cell(&t, &c, width, false);
	put_gap(&t);
	flush_line(&t);
	release_cell(&c);
}

void table_number(struct table *t, int64_t n)
{
	unsigned width = next_cell(t);
	char text[32];

	(void)snprintf(text, sizeof(text), "%" PRId64, n);
	if (width)
		put_ascii(t, text, width, true);
}

/* The heading has the offset; a time with another one has its own, and no seconds. */
static void fit_time(const struct table *t, uint64_t ms, unsigned width,
		     char text[static RFC3339_SIZE])
{
	size_t begin = width == TIME_SHORT ? strlen("2026-") : 0;
	char offset[8];

	rfc3339_offset(ms, offset);
	memmove(text, text + begin, strlen(text + begin) + 1);
	text[width] = 0;
	if (strcmp(offset, t->offset) == 0)
		return;
	offset[strlen("+01")] = 0;
	width = width == TIME_MS ? TIME_SECONDS : width - (unsigned)strlen(":00");
	(void)snprintf(text + width, RFC3339_SIZE - width, "%s", offset);
}

void table_time(struct table *t, int64_t usec)
{
	unsigned width = next_cell(t);
	uint64_t ms = (uint64_t)usec / 1000;
	char text[RFC3339_SIZE];

	if (!width)
		return;
	rfc3339_local(ms, text);
	if (usec <= 0)
		(void)snprintf(text, sizeof(text), "-");
	else if (text[0] != '@' && t->terminal)
		fit_time(t, ms, width, text);
	else if (text[0] != '@' && width == TIME_SECONDS + TIME_OFFSET)
		memmove(text + TIME_SECONDS, text + TIME_MS, strlen(text + TIME_MS) + 1);
	put_ascii(t, text, width, false);
}

/* Text on lines of its own, broken at blanks where that is possible. */
static void put_wrapped(const char *text, unsigned terminal, unsigned indent)
{
	size_t room = terminal > indent + TEXT_LEAST ? terminal - indent : TEXT_LEAST;

	terminal_wrap(stdout, text, room, indent);
}

void table_paragraph(const char *text)
{
	_cleanup_free_ char *safe = terminal_text(stdout, text, strlen(text));
	unsigned terminal = terminal_width(stdout);

	if (safe && terminal)
		put_wrapped(safe, terminal, 0);
	else
		puts(safe ? safe : "");
}

void table_end(struct table *t, const char *rest)
{
	struct cell c = make_cell(rest ? rest : "");
	bool fits = !t->terminal || t->before_rest + c.columns <= t->terminal;

	if (c.columns > 0 && fits) {
		put_gap(t);
		put_bytes(t, c.text, c.bytes);
	}
	put_bytes(t, "\n", 1);
	flush_line(t);
	if (c.columns > 0 && !fits)
		put_wrapped(c.text, t->terminal, DETAIL_INDENT);
	release_cell(&c);
	t->at = t->gap = 0;
}
