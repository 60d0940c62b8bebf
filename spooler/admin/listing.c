/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* listing - see listing.h. */
#include "spooler/admin/command.h"
#include "spooler/admin/listing.h"
#include "spooler/base/terminal.h"
#include "spooler/base/utf8.h"
#include "spooler/base/util.h"

/* --- for programs */

static void set(json_t *o, const char *key, json_t *value)
{
	(void)json_object_set_new(o, key, value);
}

/* libvirt says "-" where it has nothing to say. */
static bool is_said(struct bytes b)
{
	return b.size > 0 && !(b.size == 1 && b.data[0] == '-');
}

/* As published in the event: exact, but for bytes that are not UTF-8. Left out where there is nothing. */
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
	char when[32];

	format_time_utc(ms, when);
	set(o, key, json_string(name));
	set(o, "where", json_string(place_table[place].name));
	set(o, "time", json_string(when));
	set(o, "size", json_integer((json_int_t)size));
	return o;
}

json_t *listing_event_json(const struct found *f)
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

/* --- for people */

/* Id or name, time, place; what follows is the caller's. */
static void print_place(struct listing *g, const char *name, uint64_t ms, enum place place)
{
	const char *colour = place == PLACE_FAILED ? TERMINAL_RED
			     : place == PLACE_SENT ? ""
						   : TERMINAL_YELLOW;
	char when[32];

	if (g->lines == 0) {
		g->colour = terminal_colour(stdout);
		printf("%s%-36s  %-23s  %-9s  %-7s  %-9s  %s%s\n", g->colour ? TERMINAL_BOLD : "",
		       "ID", "TIME", "WHERE", "DRIVER", "OPERATION", "VM  REASON",
		       g->colour ? TERMINAL_RESET : "");
	}
	if (!g->colour)
		colour = "";
	format_time(ms, when);
	printf("%-36s  %-23s  %s%-9s%s  ", name, when, colour, place_table[place].name,
	       *colour ? TERMINAL_RESET : "");
}

static void print_reason(const char *reason, const char *problem)
{
	_cleanup_free_ char *why = reason ? terminal_text(stdout, reason, strlen(reason)) : NULL;

	if (why && (!problem || strcmp(why, problem) != 0))
		printf("  (%s)", why);
	(void)putchar('\n');
}

static void print_event(struct listing *g, const struct found *f)
{
	const struct record *r = &f->record;
	_cleanup_free_ char *driver = terminal_text(stdout, r->driver.data, r->driver.size),
			    *vm = terminal_text(stdout, r->object.data, r->object.size),
			    *operation =
				    terminal_text(stdout, r->operation.data, r->operation.size),
			    *extra = terminal_text(stdout, r->extra.data, r->extra.size);

	if (!driver || !vm || !operation || !extra)
		return;
	print_place(g, f->name, spool_id_ms(&f->id), f->place);
	if (f->problem)
		printf("(%s)", f->problem);
	else
		printf("%-7s  %-9s  %s%s%s", driver, operation, is_said(r->object) ? vm : "-",
		       is_said(r->extra) ? "  " : "", is_said(r->extra) ? extra : "");
	print_reason(f->reason, f->problem);
}

static void print_stray(struct listing *g, const struct lookup *l, const struct stray *f)
{
	_cleanup_free_ char *reason = lookup_reason(l, f->place, f->name);

	print_place(g, f->text, f->ms, f->place);
	printf("(%s)", stray_problem(f));
	print_reason(reason, stray_problem(f));
}

/* --- a line */

unsigned listing_wants(const struct listing *g)
{
	return LOOKUP_REASON | (g->json ? LOOKUP_UUID : 0);
}

void listing_event(struct listing *g, const struct found *f)
{
	if (g->json)
		command_print_json(listing_event_json(f));
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
