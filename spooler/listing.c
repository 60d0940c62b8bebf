/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* listing - see listing.h. */
#include <jansson.h>

#include "command.h"
#include "listing.h"
#include "terminal.h"
#include "util.h"

static void set(json_t *o, const char *key, json_t *value)
{
	(void)json_object_set_new(o, key, value);
}

/* Left out where there is nothing; "-" is libvirt's nothing. */
static void set_text(json_t *o, const char *key, struct bytes b)
{
	_cleanup_free_ char *text = b.size > 0 && !(b.size == 1 && b.data[0] == '-') ? printable(b) : NULL;

	if (text)
		set(o, key, json_string(text));
}

static void set_string(json_t *o, const char *key, const char *s)
{
	if (s && *s)
		set_text(o, key, (struct bytes){s, strlen(s)});
}

void listing_json(const struct found *f)
{
	const struct record *r = &f->record;
	json_t *o = json_object();
	char when[32];

	format_time_utc(spool_id_ms(&f->id), when);
	set(o, "id", json_string(f->name));
	set(o, "where", json_string(place_name(f->place)));
	set(o, "time", json_string(when));
	set(o, "size", json_integer((json_int_t)f->size));
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
	(void)json_dumpf(o, stdout, JSON_COMPACT);
	(void)putchar('\n');
	json_decref(o);
}

static bool is_said(struct bytes b)
{
	return b.size > 0 && !(b.size == 1 && b.data[0] == '-');
}

void listing_line(const struct found *f, bool colour)
{
	const struct record *r = &f->record;
	_cleanup_free_ char *driver = printable(r->driver), *vm = printable(r->object),
			    *operation = printable(r->operation), *extra = printable(r->extra),
			    *why = f->reason ? printable((struct bytes){f->reason, strlen(f->reason)}) : NULL;
	const char *on = !colour		    ? ""
			 : f->place == PLACE_FAILED ? TERMINAL_RED
			 : f->place == PLACE_SENT   ? ""
						    : TERMINAL_YELLOW;
	char when[32];

	if (!driver || !vm || !operation || !extra)
		return;
	format_time(spool_id_ms(&f->id), when);
	printf("%s  %-23s  %s%-9s%s  ", f->name, when, on, place_name(f->place), *on ? TERMINAL_RESET : "");
	if (f->problem)
		printf("(%s)", f->problem);
	else
		printf("%-7s  %-9s  %s%s%s", driver, operation, is_said(r->object) ? vm : "-",
		       is_said(r->extra) ? "  " : "", is_said(r->extra) ? extra : "");
	if (why && (!f->problem || strcmp(why, f->problem) != 0))
		printf("  (%s)", why);
	(void)putchar('\n');
}

void listing_heading(bool colour)
{
	printf("%s%-36s  %-23s  %-9s  %-7s  %-9s  %s%s\n", colour ? TERMINAL_BOLD : "", "ID", "TIME", "WHERE", "DRIVER",
	       "OPERATION", "VM  REASON", colour ? TERMINAL_RESET : "");
}
