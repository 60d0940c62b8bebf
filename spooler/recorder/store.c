/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* store - see store.h and, for its parts, store-internal.h. */
#include <search.h>

#include "spooler/base/util.h"
#include "spooler/event/topic.h"
#include "spooler/base/utf8.h"
#include "spooler/recorder/schema.h"
#include "spooler/recorder/store-internal.h"

#define COPY_TRIES 3
/* Repetitions come together: after a connection was lost, or the recorder was killed. */
#define CAREFUL_BATCHES 10

struct known_host {
	char *name;
	int64_t no;
};

/* One message of the batch. */
struct item {
	const struct store_message *message;
	struct cloudevent event;
	bool owned;   /* the event is this item's, and not the caller's */
	int64_t host; /* 0: not known */
	bool rejected, duplicate;
	bool judged, learned; /* as of struct store_parsed */
	enum verification verification;
	char why[128]; /* it was rejected */
};

struct batch {
	struct item *items;
	size_t n;
	struct item **events; /* the new ones, sorted by id and host */
	size_t n_events;
	struct fresh_event *fresh;
	size_t n_fresh;
	struct fresh_report *reports;
	size_t n_reports;
	int64_t now;
};

/* FNV-1a, twice: it only has to find repetitions. */
static void digest(const void *data, size_t size, const char *text, const char *more,
		   unsigned char ret[16])
{
	uint64_t h[2] = {0xcbf29ce484222325, 0x84222325cbf29ce4};
	const unsigned char *bytes = data;

	for (int k = 0; k < 2; k++) {
		for (const char *t = text; *t; t++)
			h[k] = (h[k] ^ (unsigned char)*t) * 0x100000001b3;
		for (size_t i = 0; i < size; i++)
			h[k] = (h[k] ^ bytes[i]) * 0x100000001b3;
		for (const char *t = more; *t; t++)
			h[k] = (h[k] ^ (unsigned char)*t) * 0x100000001b3;
	}
	memcpy(ret, h, 16);
}

/* --- hosts' numbers */

static int compare_hosts(const void *a, const void *b)
{
	return strcmp(((const struct known_host *)a)->name, ((const struct known_host *)b)->name);
}

static void free_host(void *p)
{
	free(((struct known_host *)p)->name);
	free(p);
}

/* Numbers from a transaction that was rolled back must not be remembered. */
static void forget_hosts(struct store *s)
{
	tdestroy(s->hosts, free_host);
	s->hosts = NULL;
	s->n_hosts = 0;
}

static int64_t known_host(const struct store *s, const char *name)
{
	struct known_host key = {.name = (char *)name},
			  **found = tfind(&key, &s->hosts, compare_hosts);

	return found ? (*found)->no : 0;
}

static int take_host(const struct db_value *v, void *userdata)
{
	struct store *s = userdata;
	struct known_host *h = calloc(1, sizeof(*h)), **node;

	if (!h || !(h->name = strdup(db_string(&v[0])))) {
		free(h);
		return -ENOMEM;
	}
	h->no = v[1].number;
	node = tsearch(h, &s->hosts, compare_hosts);
	if (node && *node == h)
		s->n_hosts++;
	else
		free_host(h);
	return node ? 0 : -ENOMEM;
}

static const struct db_statement select_host = {"SELECT name, no FROM hosts WHERE name = $1", "t"};
static const struct db_statement count_hosts = {"SELECT count(*) FROM hosts", ""};
static const struct db_statement insert_host = {
	"INSERT INTO hosts (name) {values} ON CONFLICT (name) DO NOTHING", "t"};

static int take_count(const struct db_value *v, void *userdata)
{
	*(int64_t *)userdata = v[0].number;
	return 0;
}

/* The host's number; 0: there are too many hosts already. */
static int number_host(struct store *s, const char *name, int64_t *ret_no)
{
	struct db_value key = db_text(name);
	int64_t count = 0;
	int r = 0;

	*ret_no = known_host(s, name);
	if (*ret_no)
		return 0;
	r = db_run(s->db, &select_host, &key, 1, take_host, s);
	*ret_no = known_host(s, name);
	if (r < 0 || *ret_no)
		return r;
	r = db_run(s->db, &count_hosts, NULL, 1, take_count, &count);
	if (r < 0 || count >= STORE_HOSTS_MAX)
		return r;
	r = db_run(s->db, &insert_host, &key, 1, NULL, NULL);
	if (r >= 0)
		r = db_run(s->db, &select_host, &key, 1, take_host, s);
	*ret_no = known_host(s, name);
	return r;
}

/* --- from messages to items */

int store_parse(const struct cloudevent_topics *topics, const struct store_message *m,
		struct store_parsed *ret_parsed)
{
	int r;

	*ret_parsed = (struct store_parsed){};
	r = cloudevent_parse(topics, m->topic, m->payload, m->size, &ret_parsed->event,
			     ret_parsed->why, sizeof(ret_parsed->why));
	ret_parsed->good = r >= 0;
	return r == -EBADMSG ? 0 : r;
}

void store_parsed_release(struct store_parsed *p)
{
	cloudevent_release(&p->event);
}

static int parse_items(struct store *s, struct batch *b, const struct store_message *messages)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct store_parsed *parsed = messages[i].parsed;
		struct item *e = &b->items[i];
		struct store_parsed own;
		int r;

		e->message = &messages[i];
		if (!parsed) {
			r = store_parse(&s->topics, &messages[i], &own);
			if (r < 0)
				return r;
			e->owned = true;
			parsed = &own;
		}
		e->event = parsed->event;
		e->judged = parsed->judged;
		e->learned = parsed->learned;
		e->verification = parsed->verification;
		e->rejected = !parsed->good;
		if (e->rejected)
			memcpy(e->why, parsed->why, sizeof(e->why));
	}
	return 0;
}

/* --- certificates */

static const struct db_statement insert_certificate = {
	"INSERT INTO certificates (host, digest, learned, certificate) {values} "
	"ON CONFLICT (host, digest) DO NOTHING",
	"iuit"};

static int write_certificates(struct store *s, const struct batch *b)
{
	int r = 0;

	for (size_t i = 0; i < b->n && r >= 0; i++) {
		const struct item *e = &b->items[i];
		const char *certificate;
		unsigned char key[16];

		if (!e->learned || e->rejected)
			continue;
		certificate = json_string_value(
			json_object_get(json_object_get(e->event.json, "data"), "certificate"));
		digest(certificate, strlen(certificate), "", "", key);
		r = db_run(s->db, &insert_certificate,
			   (struct db_value[]){db_int(e->host), db_uuid(key), db_int(b->now),
					       db_text(certificate)},
			   1, NULL, NULL);
	}
	return r;
}

static const struct db_statement select_certificates = {
	"SELECT h.name, c.certificate FROM certificates c JOIN hosts h ON h.no = c.host "
	"ORDER BY c.learned",
	""};

struct certificate_reader {
	int (*fn)(const char *host, const char *certificate, void *userdata);
	void *userdata;
};

static int take_certificate(const struct db_value *v, void *userdata)
{
	const struct certificate_reader *c = userdata;

	return c->fn(db_string(&v[0]), db_string(&v[1]), c->userdata);
}

int store_each_certificate(struct store *s,
			   int (*fn)(const char *host, const char *certificate, void *userdata),
			   void *userdata)
{
	struct certificate_reader c = {fn, userdata};
	int r = db_run(s->db, &select_certificates, NULL, 1, take_certificate, &c);

	return r < 0 ? store_fail(s, r) : 0;
}

static int number_hosts(struct store *s, struct batch *b)
{
	int r = 0;

	for (size_t i = 0; i < b->n && r >= 0; i++) {
		struct item *e = &b->items[i];

		if (e->rejected)
			continue;
		r = number_host(s, e->event.host, &e->host);
		if (r >= 0 && !e->host) {
			e->rejected = true;
			(void)snprintf(e->why, sizeof(e->why), "more than %d hosts",
				       STORE_HOSTS_MAX);
		}
	}
	return r;
}

static int compare_items(const void *a, const void *b)
{
	const struct item *x = *(const struct item *const *)a, *y = *(const struct item *const *)b;

	return guest_event_compare(x->event.id, x->host, y->event.id, y->host);
}

/* Sorted, so that two recorders lock in the same order; each event once. */
static void sort_items(struct batch *b)
{
	size_t n = 0;

	for (size_t i = 0; i < b->n; i++) {
		struct item *e = &b->items[i];

		if (e->rejected)
			continue;
		if (e->event.kind == CLOUDEVENT_EVENT)
			b->events[b->n_events++] = e;
		else
			b->reports[b->n_reports++] = (struct fresh_report){
				e->host, &e->event, e->message->payload, e->message->size};
	}
	qsort(b->events, b->n_events, sizeof(b->events[0]), compare_items);
	for (size_t i = 0; i < b->n_events; i++)
		if (n > 0 && compare_items(&b->events[n - 1], &b->events[i]) == 0)
			b->events[i]->duplicate = true;
		else
			b->events[n++] = b->events[i];
	b->n_events = n;
}

/* --- rows of `events` */

static const struct db_statement select_known = {
	"SELECT id, host FROM events WHERE (id, host) {in}", "ui"};
#define COLUMNS                                                                                    \
	"id, host, time, received, epoch, sequence, call, flags, guest, driver, operation, reason, name, payload"
#define TYPES "uiiiuiiiuttttt"
static const struct db_statement copy_events = {"{copy: events (" COLUMNS ")}", TYPES};
static const struct db_statement insert_numbered = {"{copy: events (rowid, " COLUMNS ")}",
						    "i" TYPES};

static int take_known(const struct db_value *v, void *userdata)
{
	struct batch *b = userdata;
	struct item key = {.host = v[1].number}, *at = &key, **found;

	memcpy(key.event.id, v[0].data, 16);
	found = bsearch(&at, b->events, b->n_events, sizeof(at), compare_items);
	if (found)
		(*found)->duplicate = true;
	return 0;
}

/* Looks for the events that are there already, and takes them out of the batch. Does not
   look if no repetition is expected: if there is one all the same, inserting fails. */
static int drop_known(struct store *s, struct batch *b)
{
	_cleanup_(free_memory) struct db_value *keys =
		calloc(2 * b->n_events + 1, sizeof(struct db_value));
	size_t n = 0;
	int r;

	if (!keys)
		return -ENOMEM;
	if (!s->careful)
		return 0;
	for (size_t i = 0; i < b->n_events; i++) {
		keys[2 * i] = db_uuid(b->events[i]->event.id);
		keys[2 * i + 1] = db_int(b->events[i]->host);
	}
	r = db_run(s->db, &select_known, keys, b->n_events, take_known, b);
	for (size_t i = 0; i < b->n_events; i++)
		if (!b->events[i]->duplicate)
			b->events[n++] = b->events[i];
	s->careful = n < b->n_events ? CAREFUL_BATCHES : s->careful - 1;
	b->n_events = n;
	return r;
}

/* The order of arrival. SQLite: the number of the row, which retention must not free for another; an
   older recorder that still runs does not count here. PostgreSQL: `received`, which several recorders
   share. Returns the last one of the batch. */
static const struct db_statement take_arrivals = {
	"UPDATE meta SET number = {sqlite:max(number, (SELECT coalesce(max(rowid), 0) FROM events))}"
	"{postgresql:greatest(number, $1 - 1)} + $2 WHERE name = 'arrival' RETURNING number",
	"ii"};

static int insert_rows(struct store *s, struct batch *b)
{
	_cleanup_(free_memory) struct db_value *rows =
		calloc(b->n_events + 1, 15 * sizeof(struct db_value));
	struct db_value *v = rows, n[2] = {db_int(b->now), db_int((int64_t)b->n_events)};
	bool numbers = !db_is_postgresql(s->db);
	int64_t arrival = 0;
	int r;

	if (!rows)
		return -ENOMEM;
	if (b->n_events == 0)
		return 0;
	r = db_run(s->db, &take_arrivals, n, 1, take_count, &arrival);
	if (r < 0)
		return r;
	arrival -= (int64_t)b->n_events - 1;
	for (size_t i = 0; i < b->n_events; i++, arrival++) {
		const struct item *e = b->events[i];
		const struct cloudevent *c = &e->event;

		if (numbers)
			*v++ = db_int(arrival);
		*v++ = db_uuid(c->id);
		*v++ = db_int(e->host);
		*v++ = db_int(c->time);
		*v++ = db_int(numbers ? b->now : arrival);
		*v++ = db_uuid(c->epoch);
		*v++ = db_int(c->sequence);
		*v++ = db_int(c->call);
		*v++ = db_int(c->flags);
		*v++ = c->has_guest ? db_uuid(c->guest) : db_null();
		*v++ = db_text(c->driver);
		*v++ = db_text(c->operation);
		*v++ = db_text(c->reason);
		*v++ = db_text(c->name);
		*v++ = db_text_n(e->message->payload, e->message->size);
	}
	return db_run(s->db, numbers ? &insert_numbered : &copy_events, rows, b->n_events, NULL,
		      NULL);
}

static void collect_fresh(struct batch *b)
{
	for (size_t i = 0; i < b->n_events; i++) {
		const struct cloudevent *c = &b->events[i]->event;
		struct fresh_event *f = &b->fresh[b->n_fresh++];

		*f = (struct fresh_event){
			.event = {.host = b->events[i]->host,
				  .time = c->time,
				  .call = c->call,
				  .reason = c->reason,
				  .name = c->name,
				  .driver = c->driver},
			.sequence = c->sequence,
			.flags = c->flags,
			.has_guest = c->has_guest,
		};
		memcpy(f->event.id, c->id, 16);
		memcpy(f->event.epoch, c->epoch, 16);
		memcpy(f->guest, c->guest, 16);
	}
}

/* --- rejects */

static const struct db_statement insert_reject = {
	"INSERT INTO rejects (digest, received, times, topic, host, reason, size, payload) {values} "
	"ON CONFLICT (digest) DO UPDATE SET received = excluded.received, times = rejects.times + 1",
	"uiitt"
	"tib"};
static const struct db_statement bound_rejects = {
	"DELETE FROM rejects WHERE no <= (SELECT max(no) FROM rejects) - $1", "i"};

static int write_reject(struct store *s, const struct item *e, int64_t now)
{
	const struct store_message *m = e->message;
	char topic[1024], host[256] = "", why[sizeof(e->why) * 3 + 1];
	size_t n = strnlen(m->topic, 300);
	bool forged = e->judged && e->verification == VERIFICATION_FORGED;
	size_t most = forged ? STORE_FORGED_PAYLOAD_MAX : STORE_REJECT_PAYLOAD_MAX;
	unsigned char key[16];

	topic[utf8_replace_controls(m->topic, n, topic)] = 0;
	why[utf8_replace_controls(e->why, strlen(e->why), why)] = 0;
	if (!topic_host(s->topics.events, m->topic, host) &&
	    !(s->topics.status && topic_host(s->topics.status, m->topic, host)))
		host[0] = 0;
	digest(m->payload, m->size, m->topic, e->why, key);
	{
		struct db_value row[8] = {
			db_uuid(key),
			db_int(now),
			db_int(1),
			db_text(topic),
			host[0] ? db_text(host) : db_null(),
			db_text(why),
			db_int((int64_t)m->size),
			db_bytes(m->payload, m->size < most ? m->size : most),
		};

		return db_run(s->db, &insert_reject, row, 1, NULL, NULL);
	}
}

static int write_rejects(struct store *s, const struct batch *b)
{
	struct db_value most = db_int(STORE_REJECTS_MAX);
	bool any = false;
	int r = 0;

	for (size_t i = 0; i < b->n && r >= 0; i++)
		if (b->items[i].rejected) {
			r = write_reject(s, &b->items[i], b->now);
			any = true;
		}
	return r >= 0 && any ? db_run(s->db, &bound_rejects, &most, 1, NULL, NULL) : r;
}

/* --- a batch */

static void count(const struct batch *b, struct store_counts *c)
{
	*c = (struct store_counts){.events = b->n_fresh, .reports = b->n_reports};
	for (size_t i = 0; i < b->n; i++) {
		c->rejects += b->items[i].rejected;
		if (b->items[i].judged)
			c->verifications[b->items[i].verification]++;
		c->duplicates += b->items[i].duplicate;
	}
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, 16);
}

/* Reports which hosts and guests the batch has changed. */
static void report_change(const struct store *s, const struct batch *b)
{
	_cleanup_(free_memory) const char **hosts = calloc(b->n + 1, sizeof(*hosts));
	_cleanup_(free_memory) unsigned char(*guests)[16] = calloc(b->n + 1, sizeof(*guests));
	struct store_change change = {.hosts = hosts, .guests = (const unsigned char(*)[16])guests};
	size_t n_hosts = 0, n_guests = 0;

	if (!s->changed || !hosts || !guests)
		return;
	for (size_t i = 0; i < b->n; i++) {
		const struct cloudevent *c = &b->items[i].event;

		if (b->items[i].rejected || b->items[i].duplicate)
			continue;
		hosts[n_hosts++] = c->host;
		if (c->has_guest)
			memcpy(guests[n_guests++], c->guest, 16);
	}
	qsort(hosts, n_hosts, sizeof(*hosts), compare_names);
	for (size_t i = 0; i < n_hosts; i++)
		if (i == 0 || strcmp(hosts[i], hosts[change.n_hosts - 1]) != 0)
			hosts[change.n_hosts++] = hosts[i];
	qsort(guests, n_guests, sizeof(*guests), compare_ids);
	for (size_t i = 0; i < n_guests; i++)
		if (i == 0 || memcmp(guests[i], guests[change.n_guests - 1], 16) != 0)
			memmove(guests[change.n_guests++], guests[i], 16);
	if (change.n_hosts)
		s->changed(&change, s->changed_userdata);
}

void store_on_change(struct store *s, store_changed_fn fn, void *userdata)
{
	s->changed = fn;
	s->changed_userdata = userdata;
}

static void batch_release(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->items[i].owned)
			cloudevent_release(&b->items[i].event);
	free(b->items);
	free(b->events);
	free(b->fresh);
	free(b->reports);
}

static int batch_init(struct batch *b, size_t n, int64_t now)
{
	*b = (struct batch){.n = n,
			    .now = now,
			    .items = calloc(n + 1, sizeof(struct item)),
			    .events = calloc(n + 1, sizeof(struct item *)),
			    .fresh = calloc(n + 1, sizeof(struct fresh_event)),
			    .reports = calloc(n + 1, sizeof(struct fresh_report))};
	return b->items && b->events && b->fresh && b->reports ? 0 : -ENOMEM;
}

/* PostgreSQL: the partitions of the batch's months. Those of hosts whose clock is far off share the
   default one. */
static int add_months(struct store *s, const struct batch *b)
{
	const int64_t month_usec = 2629746 * (int64_t)USEC_PER_SEC;
	int now = (int)(b->now / month_usec);
	int r = 0;

	if (!db_is_postgresql(s->db) || s->month == now)
		return 0;
	for (int64_t t = b->now - month_usec; t <= b->now + month_usec && r >= 0; t += month_usec)
		r = schema_add_month(s->db, t);
	if (r >= 0)
		s->month = now;
	return r;
}

int store_lock(struct store *s)
{
	return db_execute(s->db, "{postgresql:SELECT pg_advisory_xact_lock(864002)}");
}

static int transaction(struct store *s, struct batch *b)
{
	int r;

	r = db_begin(s->db);
	if (r >= 0)
		r = number_hosts(s, b);
	if (r >= 0)
		r = store_lock(s);
	if (r >= 0) {
		sort_items(b);
		r = drop_known(s, b);
	}
	if (r >= 0)
		r = insert_rows(s, b);
	if (r >= 0) {
		collect_fresh(b);
		r = store_update_hosts(s, b->fresh, b->n_fresh, b->reports, b->n_reports, b->now);
	}
	if (r >= 0)
		r = write_certificates(s, b);
	if (r >= 0)
		r = store_update_guests(s, b->fresh, b->n_fresh);
	if (r >= 0)
		r = write_rejects(s, b);
	if (r >= 0)
		r = db_commit(s->db);
	return r;
}

int store_fail(struct store *s, int error)
{
	if (error == -EAGAIN || error == -ENOTCONN)
		(void)snprintf(s->error, sizeof(s->error), "%s", db_error(s->db));
	else if (error == -ENOMEM)
		(void)snprintf(s->error, sizeof(s->error), "out of memory");
	else if (error == -ENOSPC)
		(void)snprintf(s->error, sizeof(s->error), "%s; make room, or shorten 'retention'",
			       db_error(s->db));
	else
		(void)snprintf(s->error, sizeof(s->error), "%s", db_error(s->db));
	db_rollback(s->db);
	forget_hosts(s);
	return error;
}

/* `refused`: the database refuses the message's values, so it becomes a reject. */
static int apply(struct store *s, const struct store_message *messages, size_t n, int64_t now,
		 bool refused, struct store_counts *ret_counts)
{
	struct batch b;
	int r;

	r = batch_init(&b, n, now);
	if (r >= 0)
		r = parse_items(s, &b, messages);
	if (r >= 0 && refused) {
		b.items[0].rejected = true;
		(void)snprintf(b.items[0].why, sizeof(b.items[0].why),
			       "the database refuses it: %.90s", db_error(s->db));
	}
	if (r >= 0)
		r = add_months(s, &b);
	if (r >= 0)
		r = transaction(s, &b);
	if (r >= 0) {
		count(&b, ret_counts);
		report_change(s, &b);
	}
	batch_release(&b);
	return r < 0 ? store_fail(s, r) : 0;
}

static void add_counts(struct store_counts *sum, const struct store_counts *c)
{
	sum->events += c->events;
	sum->duplicates += c->duplicates;
	sum->reports += c->reports;
	sum->rejects += c->rejects;
	for (size_t i = 0; i < N_VERIFICATIONS; i++)
		sum->verifications[i] += c->verifications[i];
}

/* An event that is there was not expected, or another recorder was given it as well and came first. It
   is found the next time. */
static int apply_again(struct store *s, const struct store_message *messages, size_t n, int64_t now,
		       bool refused, struct store_counts *ret_counts)
{
	int r = -EEXIST;

	for (unsigned tries = 0; r == -EEXIST && tries < COPY_TRIES; tries++) {
		r = apply(s, messages, n, now, refused, ret_counts);
		if (r == -EEXIST)
			s->careful = CAREFUL_BATCHES;
	}
	return r == -EEXIST ? -EAGAIN : r;
}

int store_apply(struct store *s, const struct store_message *messages, size_t n, int64_t now,
		struct store_counts *ret_counts)
{
	struct store_counts c = {}, sum = {};
	int r;

	r = apply_again(s, messages, n, now, false, &c);
	if (r != -EBADMSG) {
		if (r >= 0)
			*ret_counts = c;
		return r;
	}
	for (size_t i = 0; i < n; i++) { /* find the one that is refused */
		r = apply_again(s, &messages[i], 1, now, false, &c);
		if (r == -EBADMSG)
			r = apply_again(s, &messages[i], 1, now, true, &c);
		if (r < 0)
			return r;
		add_counts(&sum, &c);
	}
	*ret_counts = sum;
	return 0;
}

/* --- opening */

static int open_with(const char *url, unsigned flags, const struct cloudevent_topics *topics,
		     struct store **ret_store, char **ret_error)
{
	struct store *s = calloc(1, sizeof(*s));
	int r;

	*ret_error = NULL;
	if (!s)
		return -ENOMEM;
	s->topics = *topics;
	s->month = -1;
	s->careful = CAREFUL_BATCHES;
	r = db_open(url, flags, &s->db, ret_error);
	if (r >= 0)
		r = schema_migrate(s->db, ret_error);
	if (r < 0) {
		store_close(s);
		return r;
	}
	*ret_store = s;
	return 0;
}

int store_open(const char *url, const struct cloudevent_topics *topics, struct store **ret_store,
	       char **ret_error)
{
	return open_with(url, 0, topics, ret_store, ret_error);
}

int store_reopen(const char *url, const struct cloudevent_topics *topics, struct store **ret_store,
		 char **ret_error)
{
	return open_with(url, DB_EXISTING, topics, ret_store, ret_error);
}

void store_close(struct store *s)
{
	if (!s)
		return;
	forget_hosts(s);
	db_close(s->db);
	free(s);
}

const char *store_error(const struct store *s)
{
	return s->error;
}

uint64_t store_size(struct store *s)
{
	return db_size(s->db);
}

void store_interrupt(struct store *s)
{
	db_interrupt(s->db);
}
