/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * api-timeline - a guest's, or a host's, states as intervals of time: intervals.h, and what else lies
 * in the window.
 *
 * Bounded: GUESTS_MAX guests of a host; `truncated` says so.
 */
#include "spooler/base/hex.h"
#include "spooler/base/util.h"
#include "spooler/recorder/api-internal.h"

#define OPERATIONS_MAX 2000
#define HOLES_MAX 100
#define EPOCHS_MAX 200
#define GUESTS_MAX 200
#define GUESTS_DEFAULT 60

struct timeline {
	struct api_request *r;
	struct intervals i;
	json_t *states;
	bool truncated;
};

static void on_interval(const struct interval *x, void *userdata)
{
	struct timeline *t = userdata;

	(void)json_array_append_new(t->states,
				    json_pack("{s:s?, s:s, s:o, s:o, s:o}", "host", x->host,
					      "state", x->state, "from", json_when_usec(x->from),
					      "to", json_when_usec(x->to), "reason",
					      x->reason[0] ? json_string(x->reason) : json_null()));
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

	id_at(t->i.to + 1000, to);
	sql_add(&s,
		"SELECT o.id, o.kind, o.guest, g.name, h.name, t.name, f.name, o.begun, o.ended, o.outcome, o.reason "
		"FROM operations o JOIN hosts h ON h.no = o.host LEFT JOIN guests g ON g.uuid = o.guest LEFT JOIN hosts f "
		"ON f.no = o.from_host LEFT JOIN hosts t ON t.no = o.to_host WHERE");
	sql_bind(&s, where, type, value);
	sql_bind(&s, "AND o.id <", 'u', db_uuid(to));
	sql_bind(&s, "AND (o.ended IS NULL OR o.ended >=", 'i', db_int(t->i.from));
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
		if (o->from > t->i.to || o->to < t->i.from)
			continue;
		(void)json_array_append_new(
			ret, json_pack("{s:s?, s:o, s:o, s:I, s:I, s:I, s:s}", "host",
				       intervals_host_name(&t->i, o->host), "from",
				       json_when_usec(o->from), "to", json_when_usec(o->to),
				       "first", (json_int_t)o->first, "last", (json_int_t)o->last,
				       "missing", (json_int_t)(o->last - o->first + 1), "status",
				       o->lost ? "lost" : "open"));
	}
	return n;
}

/* --- requests */

static int read_window(struct api_request *r, struct timeline *t)
{
	int64_t now = (int64_t)now_usec(CLOCK_REALTIME);

	t->r = r;
	t->i.db = r->api->db;
	t->i.fn = on_interval;
	t->i.userdata = t;
	t->i.to = api_time(r, "to", now);
	t->i.from = api_time(r, "from", t->i.to - 86400 * (int64_t)USEC_PER_SEC);
	if (!r->answered && t->i.from >= t->i.to)
		return api_refuse(r, 400, "from must be before to");
	return r->answered ? -EINVAL : 0;
}

static void write_window(const struct timeline *t, json_t *ret)
{
	(void)json_object_set_new(ret, "from", json_when_usec(t->i.from));
	(void)json_object_set_new(ret, "to", json_when_usec(t->i.to));
	(void)json_object_set_new(ret, "truncated", json_boolean(t->truncated || t->i.truncated));
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
		n = intervals_find_hosts(&t->i, uuid);
	t->states = json_array();
	(void)json_object_set_new(ret, "states", t->states);
	if (n >= 0)
		n = intervals_read(&t->i, uuid);
	if (n >= 0)
		n = read_operations(t, "o.guest =", 'u', v, ret);
	for (size_t i = 0; i < t->i.n_hosts && n >= 0; i++)
		n = read_holes(t, t->i.hosts[i].no, holes);
	write_window(t, ret);
	return n;
}

int api_guest_timeline(struct api_request *r, json_t *ret)
{
	struct timeline *t = calloc(1, sizeof(*t));
	int n = t ? guest_timeline(r, t, ret) : -ENOMEM;

	if (t)
		intervals_release(&t->i);
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

static int take_epoch(const struct db_value *v, void *userdata)
{
	struct epoch_list *l = userdata;

	if (l->n < EPOCHS_MAX) {
		l->list[l->n].from = id_time(v[0].data);
		l->list[l->n++].to = v[1].type == DB_NULL ? 0 : id_time(v[1].data);
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
	if (from > t->i.to || (to && (to <= t->i.from || to <= from)))
		return;
	on_interval(&(struct interval){.host = intervals_host_name(&t->i, host),
				       .state = state,
				       .reason = "",
				       .from = from,
				       .to = to},
		    t);
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

	id_at(t->i.from, from);
	id_at(t->i.to + 1000, to);
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
		n = intervals_read(&t->i, l->list[i].uuid);
	}
	return n;
}

static int host_timeline(struct api_request *r, struct timeline *t, struct guest_list *l,
			 json_t *ret)
{
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
	t->i.only = host;
	v = db_int(host);
	n = intervals_add_host(&t->i, host, r->key);
	if (n >= 0)
		n = read_host_states(t, host, ret);
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
		intervals_release(&t->i);
	free(t);
	free(l);
	return n;
}
