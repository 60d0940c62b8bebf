/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * api-timeline - a guest's, or a host's, states as intervals of time.
 *
 * Nothing is stored for this. guest.h's memory before an operation is kept with the operation, so a
 * window begins with the memory before the last operation that began before it, and the events from
 * there to the window's end are folded in. The state between two changes is an interval. All rules
 * are in guest.c.
 *
 * Bounded: EVENTS_MAX events of a guest, GUESTS_MAX guests of a host; `truncated` says so.
 */
#include "spooler/base/hex.h"
#include "spooler/base/util.h"
#include "spooler/recorder/api-internal.h"

#define EVENTS_MAX 5000
#define OPERATIONS_MAX 2000
#define HOLES_MAX 100
#define EPOCHS_MAX 200
#define GUESTS_MAX 200
#define GUESTS_DEFAULT 60
#define HOSTS_MAX 64 /* of one guest's timeline */

struct host_name {
	int64_t no;
	char *name;
};

/* A boot of a host: guests that ran before did not survive it. */
struct boot {
	int64_t host, time;
	unsigned char epoch[16];
};

struct interval {
	bool open;
	int64_t host, from;
	const char *state;
	char reason[GUEST_REASON_MAX];
	unsigned char epoch[16]; /* of the host when it began */
};

struct timeline {
	struct api_request *r;
	int64_t from, to; /* the window, us */
	int64_t only;	  /* this host's intervals; 0: all */
	struct host_name hosts[HOSTS_MAX];
	size_t n_hosts;
	struct boot boots[EPOCHS_MAX]; /* by time */
	size_t n_boots, next_boot;
	struct interval intervals[GUEST_PLACES_MAX];
	struct guest guest;
	struct operations ops;
	unsigned char start[16]; /* the first event to fold */
	size_t n_events;
	json_t *states;
	bool truncated;
};

/* --- hosts' names */

static const char *host_name(struct timeline *t, int64_t no)
{
	for (size_t i = 0; i < t->n_hosts; i++)
		if (t->hosts[i].no == no)
			return t->hosts[i].name;
	return NULL;
}

static int take_host(const struct db_value *v, void *userdata)
{
	struct timeline *t = userdata;

	if (t->n_hosts < HOSTS_MAX)
		t->hosts[t->n_hosts++] = (struct host_name){v[0].number, strdup(db_string(&v[1]))};
	return 0;
}

static void release_hosts(struct timeline *t)
{
	for (size_t i = 0; i < t->n_hosts; i++)
		free(t->hosts[i].name);
	t->n_hosts = 0;
}

/* --- intervals */

static void write_interval(struct timeline *t, const struct interval *x, int64_t to)
{
	if (x->from > t->to || (to && to <= t->from) || (to && to <= x->from) ||
	    (t->only && x->host != t->only))
		return;
	(void)json_array_append_new(
		t->states,
		json_pack("{s:s?, s:s, s:o, s:o, s:o}", "host", host_name(t, x->host), "state",
			  x->state, "from", json_when_usec(x->from), "to", json_when_usec(to),
			  "reason", x->reason[0] ? json_string(x->reason) : json_null()));
}

static void close_interval(struct timeline *t, struct interval *x, int64_t at)
{
	if (x->open)
		write_interval(t, x, at);
	x->open = false;
}

static struct interval *find_interval(struct timeline *t, int64_t host)
{
	for (size_t i = 0; i < GUEST_PLACES_MAX; i++)
		if (t->intervals[i].open && t->intervals[i].host == host)
			return &t->intervals[i];
	return NULL;
}

static void open_interval(struct timeline *t, const struct guest_place *p, int64_t at,
			  const char *state, const char *reason)
{
	for (size_t i = 0; i < GUEST_PLACES_MAX; i++) {
		struct interval *x = &t->intervals[i];

		if (x->open)
			continue;
		*x = (struct interval){.open = true, .host = p->host, .from = at, .state = state};
		memcpy(x->epoch, p->epoch, 16);
		(void)snprintf(x->reason, sizeof(x->reason), "%s", reason);
		return;
	}
}

/* A start that failed, or a migration to here, is not a crash of the guest. */
static bool is_crash(const struct guest_place *p)
{
	const char *reason = p->operation.reason;

	return p->phase == PHASE_STOPPED && p->operation.kind == OPERATION_STOP &&
	       (strcmp(reason, "crashed") == 0 || strcmp(reason, "panicked") == 0 ||
		strcmp(reason, "failed") == 0);
}

static const char *state_of(const struct guest_place *p)
{
	return is_crash(p) ? "crashed" : guest_phase_name(p->phase);
}

/* It runs on another host, or was stopped there later. */
static bool is_elsewhere(const struct guest *g, const struct guest_place *p)
{
	for (const struct guest_place *q = g->places; q < g->places + g->n_places; q++)
		if (q != p && (q->phase != PHASE_STOPPED || q->since > p->since))
			return true;
	return false;
}

/* On a host where it never was, or is no longer, it has no state. */
static bool is_shown(const struct guest *g, const struct guest_place *p)
{
	return p->phase != PHASE_STOPPED ||
	       (strcmp(p->operation.reason, "migrated") != 0 &&
		p->operation.kind != OPERATION_MIGRATION && !is_elsewhere(g, p));
}

/* Brings the open intervals in line with the guest's places, as of an event at `at`. */
static void compare(struct timeline *t, int64_t at)
{
	for (size_t i = 0; i < GUEST_PLACES_MAX; i++) {
		struct interval *x = &t->intervals[i];
		bool there = false;

		for (unsigned k = 0; k < t->guest.n_places; k++)
			there |= t->guest.places[k].host == x->host &&
				 is_shown(&t->guest, &t->guest.places[k]);
		if (x->open && !there)
			close_interval(t, x, at);
	}
	for (unsigned k = 0; k < t->guest.n_places; k++) {
		const struct guest_place *p = &t->guest.places[k];
		struct interval *x = find_interval(t, p->host);
		const char *state = state_of(p),
			   *reason = p->phase == PHASE_STOPPED ? p->operation.reason : "";

		if (!is_shown(&t->guest, p))
			continue;
		if (x && p->phase == PHASE_STOPPED && at - x->from < 60 * (int64_t)USEC_PER_SEC &&
		    (strcmp(x->state, "stopped") == 0 || strcmp(x->state, "crashed") == 0)) {
			x->state = state; /* the reason of a stop comes after it */
			(void)snprintf(x->reason, sizeof(x->reason), "%s", reason);
		} else if (!x || strcmp(x->state, state) != 0) {
			if (x)
				close_interval(t, x, at);
			open_interval(t, p,
				      p->phase == PHASE_STOPPED || !x
					      ? (p->since && p->since < at ? p->since : at)
					      : at,
				      state, reason);
		}
	}
}

/* After a boot the state of the host's guests is unknown, until an event shows it. */
static void pass_boots(struct timeline *t, int64_t until)
{
	for (; t->next_boot < t->n_boots && t->boots[t->next_boot].time <= until; t->next_boot++) {
		const struct boot *b = &t->boots[t->next_boot];
		struct interval *x = find_interval(t, b->host);

		if (!x || memcmp(x->epoch, b->epoch, 16) == 0 || strcmp(x->state, "stopped") == 0 ||
		    strcmp(x->state, "crashed") == 0 || x->from >= b->time)
			continue;
		close_interval(t, x, b->time);
		*x = (struct interval){
			.open = true, .host = b->host, .from = b->time, .state = "unknown"};
		memcpy(x->epoch, b->epoch, 16);
	}
}

/* --- what the store has */

static int take_start(const struct db_value *v, void *userdata)
{
	struct timeline *t = userdata;

	if (v[1].size && guest_decode(v[1].data, v[1].size, &t->guest) < 0)
		return 0;
	memcpy(t->start, v[0].data, 16);
	return 0;
}

/* The memory that the window begins with. */
static int read_start(struct timeline *t, const unsigned char uuid[16])
{
	static const struct db_statement s = {
		"SELECT id, before FROM operations WHERE guest = $1 AND id < $2 "
		"ORDER BY id DESC LIMIT 1",
		"uu"};
	struct db_value v[2];
	unsigned char from[16];

	id_at(t->from, from);
	v[0] = db_uuid(uuid);
	v[1] = db_uuid(from);
	return db_run(t->r->api->db, &s, v, 1, take_start, t);
}

static int take_event(const struct db_value *v, void *userdata)
{
	struct timeline *t = userdata;
	struct guest_event e = {
		.host = v[1].number, .time = v[2].number, .call = (enum guest_call)v[4].number};

	if (++t->n_events > EVENTS_MAX) {
		t->truncated = true;
		return 0;
	}
	memcpy(e.id, v[0].data, 16);
	memcpy(e.epoch, v[3].data, 16);
	e.reason = v[5].type == DB_NULL ? NULL : db_string(&v[5]);
	pass_boots(t, e.time);
	guest_fold(&t->guest, &e, &t->ops);
	operations_release(&t->ops);
	for (size_t i = 0; i < GUEST_PLACES_MAX; i++) /* it is alive in this epoch */
		if (t->intervals[i].open && t->intervals[i].host == e.host)
			memcpy(t->intervals[i].epoch, e.epoch, 16);
	compare(t, e.time);
	return 0;
}

static int read_events(struct timeline *t, const unsigned char uuid[16])
{
	static const struct db_statement s = {
		"SELECT id, host, time, epoch, call, reason FROM events WHERE guest = $1 AND id >= $2 AND id < $3 AND "
		"call <> 0 ORDER BY id, host LIMIT $4",
		"uuui"};
	struct db_value v[4];
	unsigned char to[16];

	id_at(t->to + 1000, to);
	v[0] = db_uuid(uuid);
	v[1] = db_uuid(t->start);
	v[2] = db_uuid(to);
	v[3] = db_int(EVENTS_MAX + 1);
	return db_run(t->r->api->db, &s, v, 1, take_event, t);
}

static int take_boot(const struct db_value *v, void *userdata)
{
	struct timeline *t = userdata;
	struct boot *b = &t->boots[t->n_boots];
	const unsigned char *id = v[2].data;

	if (t->n_boots == EPOCHS_MAX)
		return 0;
	b->host = v[0].number;
	memcpy(b->epoch, v[1].data, 16);
	b->time = 0;
	for (int i = 0; i < 6; i++)
		b->time = b->time << 8 | id[i];
	b->time *= 1000;
	t->n_boots++;
	return 0;
}

/* The guest's intervals in the window, into t->states. */
static int read_states(struct timeline *t, const unsigned char uuid[16])
{
	int n;

	memset(&t->guest, 0, sizeof(t->guest));
	memset(t->intervals, 0, sizeof(t->intervals));
	memset(t->start, 0, sizeof(t->start));
	t->n_events = t->next_boot = 0;
	n = read_start(t, uuid);
	if (n < 0)
		return n;
	compare(t, t->guest.last_time);
	n = read_events(t, uuid);
	if (n < 0)
		return n;
	pass_boots(t, t->to);
	for (size_t i = 0; i < GUEST_PLACES_MAX; i++)
		close_interval(t, &t->intervals[i], 0);
	return 0;
}

/* Names of the hosts that a guest's events are of, and their boots. */
static int read_hosts(struct timeline *t, const unsigned char uuid[16])
{
	static const struct db_statement names = {
		"SELECT no, name FROM hosts WHERE no IN (SELECT host FROM operations WHERE guest = $1 UNION SELECT from_host "
		"FROM operations WHERE guest = $1 UNION SELECT host FROM guests WHERE uuid = $1 UNION SELECT other_host FROM "
		"guests WHERE uuid = $1)",
		"u"};
	static const struct db_statement boots = {
		"SELECT e.host, e.epoch, e.first_id FROM epochs e WHERE e.first_id IS NOT NULL AND e.host IN (SELECT host "
		"FROM operations WHERE guest = $1 UNION SELECT host FROM guests WHERE uuid = $1) AND EXISTS (SELECT 1 FROM "
		"epochs p WHERE p.host = e.host AND p.first_id < e.first_id) ORDER BY e.first_id",
		"u"};
	struct db_value v = db_uuid(uuid);
	int n = db_run(t->r->api->db, &names, &v, 1, take_host, t);

	return n < 0 ? n : db_run(t->r->api->db, &boots, &v, 1, take_boot, t);
}

/* --- operations and holes */

static int take_operation(const struct db_value *v, void *userdata)
{
	return json_array_append_new(
		userdata,
		json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id",
			  json_id(&v[0]), "kind", json_text(&v[1]), "guest", json_id(&v[2]), "name",
			  json_text(&v[3]), "host",
			  v[5].type == DB_NULL ? json_text(&v[4]) : json_text(&v[5]), "source",
			  json_text(&v[6]), "begin", json_when(&v[7]), "end", json_when(&v[8]),
			  "outcome", json_text(&v[9]), "reason", json_text(&v[10])));
}

/* Those that overlap the window, of what `where` and its value select. */
static int read_operations(struct timeline *t, const char *where, char type, struct db_value value,
			   json_t *ret)
{
	struct sql s = {.n = 0};
	unsigned char to[16];
	json_t *list = json_array();
	int n;

	id_at(t->to + 1000, to);
	sql_add(&s,
		"SELECT o.id, o.kind, o.guest, g.name, h.name, t.name, f.name, o.begun, o.ended, o.outcome, o.reason "
		"FROM operations o JOIN hosts h ON h.no = o.host LEFT JOIN guests g ON g.uuid = o.guest LEFT JOIN hosts f "
		"ON f.no = o.from_host LEFT JOIN hosts t ON t.no = o.to_host WHERE");
	sql_bind(&s, where, type, value);
	sql_bind(&s, "AND o.id <", 'u', db_uuid(to));
	sql_bind(&s, "AND (o.ended IS NULL OR o.ended >=", 'i', db_int(t->from));
	sql_add(&s, ") ORDER BY o.id DESC");
	sql_bind(&s, "LIMIT", 'i', db_int(OPERATIONS_MAX + 1));
	n = sql_run(t->r, &s, take_operation, list);
	if (json_array_size(list) > OPERATIONS_MAX) {
		t->truncated = true;
		(void)json_array_remove(list, OPERATIONS_MAX);
	}
	(void)json_object_set_new(ret, "operations", list);
	return n;
}

struct hole_row {
	int64_t host, first, last, found, from, to;
	unsigned char epoch[16], before[16];
	bool lost;
};

struct hole_list {
	struct hole_row list[HOLES_MAX];
	size_t n;
};

static int take_hole(const struct db_value *v, void *userdata)
{
	struct hole_list *l = userdata;
	struct hole_row *o = &l->list[l->n];

	if (l->n == HOLES_MAX)
		return 0;
	*o = (struct hole_row){.host = v[0].number,
			       .first = v[2].number,
			       .last = v[3].number,
			       .found = v[4].number,
			       .lost = v[5].number != 0};
	memcpy(o->epoch, v[1].data, 16);
	l->n++;
	return 0;
}

static int take_bound(const struct db_value *v, void *userdata)
{
	struct hole_row *o = userdata;

	if (o->from) {
		o->to = v[1].number;
	} else {
		memcpy(o->before, v[0].data, 16);
		o->from = v[1].number;
	}
	return 0;
}

/* When it was: between the event before its numbers and the one after. */
static int place_hole(struct timeline *t, struct hole_row *o)
{
	static const struct db_statement before = {
		"SELECT id, time FROM events WHERE host = $1 AND id <= $2 AND epoch = $3 AND sequence < $4 ORDER BY id DESC "
		"LIMIT 1",
		"iuui"};
	static const struct db_statement after = {
		"SELECT id, time FROM events WHERE host = $1 AND id > $2 AND epoch = $3 AND sequence > $4 ORDER BY id LIMIT 1",
		"iuui"};
	struct db_value v[4] = {db_int(o->host)};
	unsigned char found[16];
	int n;

	id_at(o->found + 60 * (int64_t)USEC_PER_SEC, found); /* its host's clock may be ahead */
	v[1] = db_uuid(found);
	v[2] = db_uuid(o->epoch);
	v[3] = db_int(o->first);
	n = db_run(t->r->api->db, &before, v, 1, take_bound, o);
	if (n < 0 || o->from == 0)
		return n;
	v[1] = db_uuid(o->before);
	v[3] = db_int(o->last);
	return db_run(t->r->api->db, &after, v, 1, take_bound, o);
}

/* Open holes of one host that lie in the window. */
static int read_holes(struct timeline *t, int64_t host, json_t *ret)
{
	static const struct db_statement s = {
		"SELECT host, epoch, first, last, found, lost FROM holes WHERE host = $1 AND "
		"filled IS NULL ORDER BY found DESC",
		"i"};
	_cleanup_(free_memory) struct hole_list *l = calloc(1, sizeof(*l));
	struct db_value v = db_int(host);
	int n = l ? db_run(t->r->api->db, &s, &v, 1, take_hole, l) : -ENOMEM;

	for (size_t i = 0; n >= 0 && i < l->n; i++) {
		struct hole_row *o = &l->list[i];

		n = place_hole(t, o);
		if (o->from == 0) /* the first numbers of an epoch, or long ago */
			o->from = o->to = o->found;
		if (o->to == 0)
			o->to = o->found > o->from ? o->found : o->from;
		if (o->from > t->to || o->to < t->from)
			continue;
		(void)json_array_append_new(
			ret, json_pack("{s:s?, s:o, s:o, s:I, s:I, s:I, s:s}", "host",
				       host_name(t, o->host), "from", json_when_usec(o->from), "to",
				       json_when_usec(o->to), "first", (json_int_t)o->first, "last",
				       (json_int_t)o->last, "missing",
				       (json_int_t)(o->last - o->first + 1), "status",
				       o->lost ? "lost" : "open"));
	}
	return n;
}

/* --- requests */

static int read_window(struct api_request *r, struct timeline *t)
{
	int64_t now = (int64_t)now_usec(CLOCK_REALTIME);

	t->r = r;
	t->to = api_time(r, "to", now);
	t->from = api_time(r, "from", t->to - 86400 * (int64_t)USEC_PER_SEC);
	if (!r->answered && t->from >= t->to)
		return api_refuse(r, 400, "from must be before to");
	return r->answered ? -EINVAL : 0;
}

static void write_window(const struct timeline *t, json_t *ret)
{
	(void)json_object_set_new(ret, "from", json_when_usec(t->from));
	(void)json_object_set_new(ret, "to", json_when_usec(t->to));
	(void)json_object_set_new(ret, "truncated", json_boolean(t->truncated));
}

static int take_anything(const struct db_value *v, void *userdata)
{
	*(bool *)userdata = true;
	return 0;
}

static int guest_timeline(struct api_request *r, struct timeline *t, json_t *ret)
{
	static const struct db_statement known = {"SELECT 1 FROM guests WHERE uuid = $1", "u"};
	unsigned char uuid[16];
	json_t *holes = json_array();
	struct db_value v;
	bool found = false;
	int n = api_key_uuid(r, uuid);

	(void)json_object_set_new(ret, "holes", holes);
	v = db_uuid(uuid);
	if (n >= 0)
		n = db_run(r->api->db, &known, &v, 1, take_anything, &found);
	if (n >= 0 && !found)
		return api_refuse(r, 404, "no guest with this UUID has been seen");
	if (n >= 0)
		n = read_window(r, t);
	if (n >= 0)
		n = read_hosts(t, uuid);
	t->states = json_array();
	(void)json_object_set_new(ret, "states", t->states);
	if (n >= 0)
		n = read_states(t, uuid);
	if (n >= 0)
		n = read_operations(t, "o.guest =", 'u', v, ret);
	for (size_t i = 0; i < t->n_hosts && n >= 0; i++)
		n = read_holes(t, t->hosts[i].no, holes);
	write_window(t, ret);
	return n;
}

int api_guest_timeline(struct api_request *r, json_t *ret)
{
	struct timeline *t = calloc(1, sizeof(*t));
	int n = t ? guest_timeline(r, t, ret) : -ENOMEM;

	if (t)
		release_hosts(t);
	free(t);
	return n;
}

/* --- a host: its own states, and those of its guests */

struct epoch_list {
	struct {
		int64_t from, to;
	} list[EPOCHS_MAX];
	size_t n;
};

static int64_t time_of(const unsigned char *id)
{
	int64_t ms = 0;

	for (int i = 0; i < 6; i++)
		ms = ms << 8 | id[i];
	return ms * 1000;
}

static int take_epoch(const struct db_value *v, void *userdata)
{
	struct epoch_list *l = userdata;

	if (l->n < EPOCHS_MAX) {
		l->list[l->n].from = time_of(v[0].data);
		l->list[l->n++].to = v[1].type == DB_NULL ? 0 : time_of(v[1].data);
	}
	return 0;
}

struct host_now {
	int64_t seen, status_time;
	char state[16];
};

static int take_now(const struct db_value *v, void *userdata)
{
	struct host_now *h = userdata;

	h->seen = v[0].number;
	h->status_time = v[1].type == DB_NULL ? 0 : v[1].number;
	(void)snprintf(h->state, sizeof(h->state), "%s", db_string(&v[2]));
	return 0;
}

static void add_state(struct timeline *t, int64_t host, const char *state, int64_t from, int64_t to)
{
	struct interval x = {.host = host, .from = from, .state = state};

	write_interval(t, &x, to);
}

/* 0: it is there. */
static int64_t gone_since(const struct host_now *h)
{
	if (strcmp(h->state, "silent") == 0)
		return h->seen;
	return strcmp(h->state, "offline") == 0 ? h->status_time : 0;
}

/* It was there from an epoch's first event to its last; since the last, as it says itself. */
static int read_host_states(struct timeline *t, int64_t host, json_t *ret)
{
	/* Its last event is the last before the next epoch's first. */
	static const struct db_statement epochs = {
		"SELECT p.first_id, (SELECT max(e.id) FROM events e WHERE e.host = $1 AND e.id < (SELECT min(n.first_id) "
		"FROM epochs n WHERE n.host = $1 AND n.first_id > p.first_id)) FROM epochs p WHERE p.host = $1 AND "
		"p.first_id IS NOT NULL ORDER BY p.first_id",
		"i"};
	static const struct db_statement now = {
		"SELECT h.seen, h.status_time, " HOST_STATE " FROM hosts h WHERE h.no = $1", "i"};
	struct epoch_list l = {.n = 0};
	struct host_now h = {.seen = 0};
	struct db_value v = db_int(host);
	int64_t end = 0;
	int n = db_run(t->r->api->db, &epochs, &v, 1, take_epoch, &l);

	if (n >= 0)
		n = db_run(t->r->api->db, &now, &v, 1, take_now, &h);
	t->states = json_array();
	for (size_t i = 0; i < l.n; i++) {
		bool last = i + 1 == l.n;

		end = last ? gone_since(&h) : l.list[i].to;
		add_state(t, host, "online", l.list[i].from, end);
		if (!last && l.list[i + 1].from > end)
			add_state(t, host, "offline", end, l.list[i + 1].from);
	}
	if (l.n && end)
		add_state(t, host, strcmp(h.state, "silent") == 0 ? "silent" : "offline", end, 0);
	(void)json_object_set_new(ret, "host_states", t->states);
	t->states = NULL;
	return n;
}

struct guest_list {
	struct {
		unsigned char uuid[16];
		char *name;
	} list[GUESTS_MAX];
	size_t n;
};

static int take_guest(const struct db_value *v, void *userdata)
{
	struct guest_list *l = userdata;

	if (l->n < GUESTS_MAX) {
		memcpy(l->list[l->n].uuid, v[0].data, 16);
		l->list[l->n++].name = strdup(db_string(&v[1]));
	}
	return 0;
}

/* Those that are on the host now, or had an operation there in the window. */
static int read_guests(struct timeline *t, int64_t host, struct guest_list *l)
{
	static const struct db_statement page = {
		"SELECT g.uuid, g.name FROM guests g WHERE g.uuid IN (SELECT uuid FROM guests WHERE host = $1 UNION SELECT "
		"uuid FROM guests WHERE other_host = $1 UNION SELECT guest FROM operations WHERE host = $1 AND id >= $2 AND "
		"id < $3) ORDER BY g.name, g.uuid LIMIT $4 OFFSET $5",
		"iuuii"};
	struct db_value v[5];
	unsigned char from[16], to[16];

	id_at(t->from, from);
	id_at(t->to + 1000, to);
	v[0] = db_int(host);
	v[1] = db_uuid(from);
	v[2] = db_uuid(to);
	v[3] = db_int((int64_t)api_number(t->r, "limit", GUESTS_DEFAULT, GUESTS_MAX));
	v[4] = db_int((int64_t)api_number(t->r, "offset", 0, API_OFFSET_MAX));
	if (t->r->answered)
		return -EINVAL;
	return db_run(t->r->api->db, &page, v, 1, take_guest, l);
}

static int host_guests(struct timeline *t, const struct guest_list *l, json_t *guests)
{
	int n = 0;

	for (size_t i = 0; i < l->n && n >= 0; i++) {
		char text[UUID_TEXT];

		t->states = json_array();
		uuid_format(l->list[i].uuid, text);
		(void)json_array_append_new(guests,
					    json_pack("{s:s, s:s?, s:o}", "uuid", text, "name",
						      l->list[i].name, "states", t->states));
		n = read_states(t, l->list[i].uuid);
	}
	return n;
}

static int host_timeline(struct api_request *r, struct timeline *t, struct guest_list *l,
			 json_t *ret)
{
	static const struct db_statement boots = {
		"SELECT e.host, e.epoch, e.first_id FROM epochs e WHERE e.host = $1 AND e.first_id IS NOT NULL AND EXISTS "
		"(SELECT 1 FROM epochs p WHERE p.host = e.host AND p.first_id < e.first_id) ORDER BY e.first_id",
		"i"};
	json_t *guests = json_array(), *holes = json_array();
	struct db_value v;
	int64_t host;
	int n = api_find_host(r, r->key, &host);

	(void)json_object_set_new(ret, "guests", guests);
	(void)json_object_set_new(ret, "holes", holes);
	if (n >= 0)
		n = read_window(r, t);
	if (n < 0)
		return n;
	t->only = host;
	t->hosts[t->n_hosts++] = (struct host_name){host, strdup(r->key)};
	v = db_int(host);
	n = read_host_states(t, host, ret);
	if (n >= 0)
		n = db_run(r->api->db, &boots, &v, 1, take_boot, t);
	if (n >= 0)
		n = read_guests(t, host, l);
	if (n >= 0)
		n = host_guests(t, l, guests);
	if (n >= 0)
		n = read_operations(t, "o.host =", 'i', v, ret);
	if (n >= 0)
		n = read_holes(t, host, holes);
	write_window(t, ret);
	return n;
}

int api_host_timeline(struct api_request *r, json_t *ret)
{
	struct timeline *t = calloc(1, sizeof(*t));
	struct guest_list *l = calloc(1, sizeof(*l));
	int n = t && l ? host_timeline(r, t, l, ret) : -ENOMEM;

	for (size_t i = 0; l && i < l->n; i++)
		free(l->list[i].name);
	if (t)
		release_hosts(t);
	free(t);
	free(l);
	return n;
}
