/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* running-table - see running-table.h. */
#include "spooler/daemon/running-table.h"

#include <jansson.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/daemon/boot-report.h"
#include "spooler/spool/document-uuid.h"
#include "spooler/spool/record-parse.h"

#define GUESTS_MAX 20000

/* --- the guests */

static int compare_guests(const void *a, const void *b)
{
	return strcmp(((const struct running_guest *)a)->uuid,
		      ((const struct running_guest *)b)->uuid);
}

static struct running_guest *find(const struct running_table *t, const char *uuid)
{
	struct running_guest key;
	void *node;

	(void)snprintf(key.uuid, sizeof(key.uuid), "%s", uuid);
	node = t->n ? tfind(&key, (void *const *)&t->root, compare_guests) : NULL;
	return node ? *(struct running_guest **)node : NULL;
}

struct running_guest *running_table_any(const struct running_table *t)
{
	return t->n ? *(struct running_guest **)t->root : NULL;
}

void running_table_remove(struct running_table *t, struct running_guest *guest)
{
	(void)tdelete(guest, &t->root, compare_guests);
	free(guest);
	t->n--;
}

void running_table_clear(struct running_table *t)
{
	tdestroy(t->root, free);
	t->root = NULL;
	t->n = 0;
}

static struct bytes copy_bytes(char *to, struct bytes from)
{
	if (from.size)
		memcpy(to, from.data, from.size);
	return (struct bytes){to, from.size};
}

static void put_in(struct running_table *t, const char *uuid, const struct spool_id *id,
		   struct bytes driver, struct bytes name)
{
	struct running_guest *guest;

	if (t->n >= GUESTS_MAX) {
		if (!t->full_logged)
			log_warning(
				"more than %d guests run: the rest is not reported after a boot",
				GUESTS_MAX);
		t->full_logged = true;
		return;
	}
	guest = malloc(sizeof(*guest) + driver.size + name.size);
	if (!guest)
		return;
	(void)snprintf(guest->uuid, sizeof(guest->uuid), "%s", uuid);
	guest->id = *id;
	guest->driver = copy_bytes(guest->data, driver);
	guest->name = copy_bytes(guest->data + driver.size, name);
	if (tsearch(guest, &t->root, compare_guests))
		t->n++;
	else
		free(guest);
}

/* --- what a record says */

enum effect { EFFECT_NONE, EFFECT_RUNS, EFFECT_ENDED };

static bool is_one_of(struct bytes b, const char *const *words)
{
	while (*words && !bytes_are(b, *words))
		words++;
	return *words;
}

static bool is_report(const struct record *r)
{
	return bytes_are(r->origin, BOOT_REPORT_ORIGIN);
}

/* A guest that is being started has resources and perhaps a process, which a boot ends as well. */
static enum effect effect_of(const struct record *r)
{
	static const char *const runs[] = {"started", "prepare", "start",     "restore",
					   "migrate", "attach",	 "reconnect", NULL},
				 *const ended[] = {"stopped", "release", NULL},
				 *const states[] = {"shutoff", "absent", NULL};

	if (bytes_are(r->driver, "network") || bytes_are(r->driver, "daemon"))
		return EFFECT_NONE;
	if (!r->origin.size)
		return is_one_of(r->operation, runs)	? EFFECT_RUNS
		       : is_one_of(r->operation, ended) ? EFFECT_ENDED
							: EFFECT_NONE;
	if (bytes_are(r->operation, "reconciled"))
		return is_one_of(r->suboperation, states) ? EFFECT_ENDED : EFFECT_RUNS;
	if (!(r->flags & RECORD_NO_HOOK)) /* the hook's record counts */
		return EFFECT_NONE;
	return bytes_are(r->operation, "lifecycle-started")   ? EFFECT_RUNS
	       : bytes_are(r->operation, "lifecycle-stopped") ? EFFECT_ENDED
							      : EFFECT_NONE;
}

void running_table_apply(struct running_table *t, const struct spool_id *id, const struct record *r)
{
	enum effect effect = effect_of(r);
	struct running_guest *guest;
	char uuid[UUID_TEXT];

	if (!is_report(r) && spool_id_compare(id, &t->seen) > 0)
		t->seen = *id;
	if (effect == EFFECT_NONE)
		return;
	document_uuid(r->document, uuid);
	guest = find(t, uuid);
	if (!*uuid || (guest && spool_id_compare(id, &guest->id) <= 0))
		return;
	if (guest)
		running_table_remove(t, guest);
	if (effect == EFFECT_RUNS)
		put_in(t, uuid, id, r->driver, r->object);
}

/* --- the text */

static json_t *escaped(struct bytes b)
{
	_cleanup_free_ char *text = record_escape(b);

	return text ? json_string(text) : NULL;
}

static void add_guest(const void *node, VISIT visit, void *userdata)
{
	const struct running_guest *guest = *(struct running_guest *const *)node;
	char id[UUID_TEXT];

	if (visit != postorder && visit != leaf)
		return;
	spool_id_name(&guest->id, id);
	(void)json_array_append_new(userdata, json_pack("{s:s, s:s, s:o, s:o}", "uuid", guest->uuid,
							"id", id, "driver", escaped(guest->driver),
							"name", escaped(guest->name)));
}

char *running_table_text(const struct running_table *t)
{
	static const struct spool_id none;
	json_t *list = json_array(), *o;
	char seen[UUID_TEXT] = "", *text;

	if (spool_id_compare(&t->seen, &none) > 0)
		spool_id_name(&t->seen, seen);
	twalk_r(t->root, add_guest, list);
	o = json_pack("{s:s, s:s, s:o}", "boot", t->boot, "seen", seen, "guests", list);
	text = o && json_array_size(list) == t->n ? json_dumps(o, JSON_INDENT(1)) : NULL;
	json_decref(o);
	return text;
}

static bool load_guest(struct running_table *t, json_t *o)
{
	const char *uuid, *id, *driver, *name;
	struct spool_id parsed;
	struct bytes driver_bytes, name_bytes;
	char *d, *n;
	bool good = true;

	if (json_unpack(o, "{s:s, s:s, s:s, s:s}", "uuid", &uuid, "id", &id, "driver", &driver,
			"name", &name) < 0 ||
	    strlen(uuid) != UUID_TEXT - 1 || !spool_id_parse(id, &parsed) || find(t, uuid))
		return false;
	d = strdup(driver);
	n = strdup(name);
	if (d && n) {
		good = record_unescape(d, strlen(d), &driver_bytes) &&
		       record_unescape(n, strlen(n), &name_bytes);
		if (good)
			put_in(t, uuid, &parsed, driver_bytes, name_bytes);
	}
	free(d);
	free(n);
	return good;
}

bool running_table_parse(struct running_table *t, const char *text, size_t size)
{
	json_t *o = json_loadb(text, size, 0, NULL), *list, *guest;
	const char *boot, *seen;
	bool good = json_unpack(o, "{s:s, s:s, s:o}", "boot", &boot, "seen", &seen, "guests",
				&list) == 0 &&
		    strlen(boot) < sizeof(t->boot) && (!*seen || spool_id_parse(seen, &t->seen)) &&
		    json_is_array(list);
	size_t i;

	if (good) {
		(void)snprintf(t->boot, sizeof(t->boot), "%s", boot);
		json_array_foreach (list, i, guest)
			good = good && load_guest(t, guest);
	}
	json_decref(o);
	if (!good) {
		running_table_clear(t);
		*t = (struct running_table){0};
	}
	return good;
}
