/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* waiting - see waiting.h. */
#include "spooler/admin/command.h"
#include "spooler/admin/waiting.h"
#include "hook/spool.h"
#include "spooler/base/format.h"
#include "spooler/base/json-time.h"
#include "spooler/base/util.h"

static void hold(struct waiting *w, const struct found *f)
{
	const struct record *r = &f->record;
	struct held_domain *h = &w->held[w->n_held];

	*h = (struct held_domain){
		.id = f->id,
		.driver = r->driver.size ? strndup(r->driver.data, r->driver.size) : NULL,
		.driver_size = r->driver.size,
		.object = r->object.size ? strndup(r->object.data, r->object.size) : NULL,
		.object_size = r->object.size,
	};
	w->n_held++;
}

void waiting_load(struct waiting *w, struct lookup *l)
{
	*w = (struct waiting){0};
	w->error = status_file_read(spool_run_directory(), &w->status);
	for (size_t i = 0; i < w->status.n_attempts; i++) {
		const struct status_attempt *a = &w->status.attempts[i];
		struct spool_id id;
		struct found f;

		if (lookup_find(l, PLACES_WAITING, a->id, &id) != 1 ||
		    lookup_read(l, &id, 0, &f) < 0)
			continue;
		if (!f.problem)
			hold(w, &f);
		found_release(&f);
	}
}

void waiting_release(struct waiting *w)
{
	for (size_t i = 0; i < w->n_held; i++) {
		free(w->held[i].driver);
		free(w->held[i].object);
	}
	w->n_held = 0;
	status_file_release(&w->status);
}

static bool same_bytes(const char *data, size_t size, struct bytes b)
{
	return size == b.size && (size == 0 || (data && memcmp(data, b.data, size) == 0));
}

/* The refused event that this one follows; NULL: it follows none. */
static const struct held_domain *find_held(const struct waiting *w, const struct found *f)
{
	for (size_t i = 0; i < w->n_held; i++) {
		const struct held_domain *h = &w->held[i];

		if (!f->problem && spool_id_compare(&h->id, &f->id) < 0 &&
		    same_bytes(h->driver, h->driver_size, f->record.driver) &&
		    same_bytes(h->object, h->object_size, f->record.object))
			return h;
	}
	return NULL;
}

/* The daemon's own state: it keeps every event. */
static void explain_daemon(const struct waiting *w, struct wait_reason *ret)
{
	const struct status_file *s = &w->status;

	if (w->error == -ENOENT) {
		ret->why = "the daemon is not running";
	} else if (w->error < 0) {
		ret->why = "unknown: the daemon's status cannot be read";
	} else if (!s->connected) {
		ret->why = s->last_error ? s->last_error : "not connected to a broker";
		ret->next_usec = s->next_connect_usec;
	} else if (s->paused_until_usec > now_usec(CLOCK_REALTIME)) {
		ret->why = s->last_error ? s->last_error : "the broker is busy";
		ret->next_usec = s->paused_until_usec;
	}
}

void waiting_explain(const struct waiting *w, const struct found *f, struct wait_reason *ret)
{
	const struct status_attempt *a = status_file_attempt(&w->status, f->name);
	const struct held_domain *h = find_held(w, f);

	*ret = (struct wait_reason){0};
	explain_daemon(w, ret);
	if (a) {
		ret->why = a->why;
		ret->topic = a->topic;
		ret->attempts = a->attempts;
		ret->next_usec = a->next_usec > 0 ? a->next_usec : ret->next_usec;
		ret->of_this_event = true;
	} else if (h) {
		ret->why = "an earlier event of the same domain waits";
		ret->next_usec = 0;
		ret->of_this_event = true;
	}
	if (h)
		spool_id_name(&h->id, ret->waits_for);
}

char *waiting_summary(const struct waiting *w)
{
	struct wait_reason reason = {0};
	char age[32], *text = NULL;
	uint64_t now = now_usec(CLOCK_REALTIME);
	int n;

	explain_daemon(w, &reason);
	if (!reason.why)
		return NULL;
	if (reason.next_usec > now) {
		format_age((reason.next_usec - now + USEC_PER_SEC - 1) / USEC_PER_SEC, age);
		n = asprintf(&text, "events wait: %s; next attempt in %s", reason.why, age);
	} else {
		n = asprintf(&text, "events wait: %s", reason.why);
	}
	return n < 0 ? NULL : text;
}

void waiting_add_json(const struct waiting *w, const struct found *f, json_t *o)
{
	struct wait_reason reason;

	waiting_explain(w, f, &reason);
	if (w->error == 0)
		(void)json_object_set_new(o, "attempts", json_integer((json_int_t)reason.attempts));
	if (reason.why)
		(void)json_object_set_new(o, "why", json_string(reason.why));
	if (reason.topic)
		(void)json_object_set_new(o, "topic", json_string(reason.topic));
	if (reason.next_usec > 0)
		(void)json_object_set_new(o, "next_try", json_time(reason.next_usec));
	if (reason.waits_for[0])
		(void)json_object_set_new(o, "waits_for", json_string(reason.waits_for));
}
