/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store-upkeep - retention, and rebuilding all state.
 *
 * What pruned events said of a guest is kept as the memory that the last operation before the limit
 * began with (guests.base): rebuilding begins there, and gives the same rows. Numbers that were
 * pruned are not missed later: the epoch's coverage begins after them (epochs.begin_at).
 */
#include "spooler/base/memory.h"
#include "spooler/base/util.h"
#include "spooler/recorder/schema.h"
#include "spooler/recorder/store-internal.h"

#define REBUILD_PAGE 1000

static void id_of_time(int64_t usec, unsigned char ret_id[16])
{
	uint64_t ms = (uint64_t)usec / 1000;

	memset(ret_id, 0, 16);
	for (int i = 0; i < 6; i++)
		ret_id[i] = (unsigned char)(ms >> (40 - 8 * i));
}

/* --- retention */

static int count_row(const struct db_value *v, void *userdata)
{
	++*(size_t *)userdata;
	return 0;
}

/* A guest's memory as it was at its last operation before the limit; $3: where the last step ended. */
static const struct db_statement set_bases = {
	"UPDATE guests SET (base_id, base) = (SELECT o.id, o.before FROM operations o WHERE o.guest = guests.uuid AND "
	"o.id < $1 ORDER BY o.id DESC, o.host DESC LIMIT 1) WHERE uuid IN (SELECT DISTINCT o.guest FROM operations o JOIN guests g "
	"ON g.uuid = o.guest WHERE o.id >= $3 AND o.id < $1 AND (g.base_id IS NULL OR o.id > g.base_id) LIMIT $2) "
	"RETURNING uuid, base_id",
	"uiu"};
/* The oldest events that may go; $3: where the last step ended. */
static const struct db_statement delete_events = {
	"DELETE FROM events WHERE (id, host) IN (SELECT e.id, e.host FROM events e LEFT JOIN guests g ON g.uuid = "
	"e.guest WHERE e.id >= $3 AND e.id < $1 AND (g.uuid IS NULL OR e.call = 0 OR e.id < g.base_id) ORDER BY e.id "
	"LIMIT $2) RETURNING host, epoch, sequence, id",
	"uiu"};
static const struct db_statement raise_begin = {
	"UPDATE epochs SET begin_at = $3 WHERE host = $1 AND epoch = $2 AND begin_at < $3", "iui"};
/* Holes that are older than what is kept. */
static const struct db_statement delete_old_holes = {
	"DELETE FROM holes WHERE host = $1 AND epoch = $2 AND filled IS NULL AND last < $3 RETURNING 1",
	"iui"};
static const struct db_statement cut_holes = {
	"UPDATE holes SET first = $3 WHERE host = $1 AND epoch = $2 AND filled IS NULL AND first < $3 RETURNING 1",
	"iui"};
static const struct db_statement count_missing = {
	"UPDATE hosts SET missing = (SELECT coalesce(sum(last - first + 1), 0) FROM holes WHERE host = $1 AND filled IS "
	"NULL) WHERE no = $1",
	"i"};
/* Guests that stopped before the limit, and all that is of them. */
static const struct db_statement select_guests = {
	"SELECT uuid FROM guests WHERE place = 'stopped' AND last_id < $1 LIMIT $2", "ui"};
static const struct db_statement delete_guest_events = {
	"DELETE FROM events WHERE guest = $1 AND call <> 0 RETURNING host, epoch, sequence, id",
	"u"};
static const struct db_statement delete_guest_operations = {
	"DELETE FROM operations WHERE guest = $1", "u"};
static const struct db_statement delete_guest = {"DELETE FROM guests WHERE uuid = $1", "u"};
static const struct db_statement delete_operations = {
	"DELETE FROM operations WHERE (guest, id, host) IN (SELECT p.guest, p.id, p.host {sqlite:FROM operations p WHERE} "
	"{from} {postgresql:JOIN operations p ON} p.guest = {1} AND p.id < {2})",
	"uu"};
static const struct db_statement delete_holes = {
	"DELETE FROM holes WHERE (host, epoch, first) IN (SELECT host, epoch, first FROM holes WHERE filled < $1 LIMIT $2) "
	"RETURNING 1",
	"ii"};
static const struct db_statement delete_rejects = {
	"DELETE FROM rejects WHERE no IN (SELECT no FROM rejects WHERE received < $1 LIMIT $2) RETURNING 1",
	"ii"};

struct pruned {
	struct pruned_number {
		int64_t host, sequence;
		unsigned char epoch[16];
	} * list;
	size_t n, allocated;
	unsigned char last_id[16];
};

static int take_pruned(const struct db_value *v, void *userdata)
{
	struct pruned *p = userdata;

	if (memory_reserve(&p->list, &p->allocated, p->n + 1, sizeof(*p->list)) < 0)
		return -ENOMEM;
	p->list[p->n].host = v[0].number;
	memcpy(p->list[p->n].epoch, v[1].data, 16);
	p->list[p->n++].sequence = v[2].number;
	if (memcmp(v[3].data, p->last_id, 16) > 0)
		memcpy(p->last_id, v[3].data, 16);
	return 0;
}

static int compare_pruned(const void *a, const void *b)
{
	const struct pruned_number *x = a, *y = b;
	int d = memcmp(x->epoch, y->epoch, 16);

	if (d || x->host != y->host)
		return d ? d : x->host < y->host ? -1 : 1;
	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static int raise_begin_of(struct store *s, const struct db_value row[3])
{
	size_t changed = 0;
	int r;

	r = db_run(s->db, &raise_begin, row, 1, NULL, NULL);
	if (r >= 0)
		r = db_run(s->db, &delete_old_holes, row, 1, count_row, &changed);
	if (r >= 0)
		r = db_run(s->db, &cut_holes, row, 1, count_row, &changed);
	if (r >= 0 && changed)
		r = db_run(s->db, &count_missing, row, 1, NULL, NULL);
	return r;
}

/* The coverage of each epoch begins after the highest number that went. */
static int raise_begins(struct store *s, struct pruned *p)
{
	int r = 0;

	if (p->n > 0)
		qsort(p->list, p->n, sizeof(p->list[0]), compare_pruned);
	for (size_t i = 0; i < p->n && r >= 0; i++) {
		const struct pruned_number *x = &p->list[i];
		struct db_value row[3] = {db_int(x->host), db_uuid(x->epoch),
					  db_int(x->sequence + 1)};

		if (i + 1 == p->n || x[1].host != x->host || memcmp(x[1].epoch, x->epoch, 16) != 0)
			r = raise_begin_of(s, row);
	}
	return r;
}

struct uuids {
	unsigned char list[64][16];
	size_t n;
};

static int take_uuid(const struct db_value *v, void *userdata)
{
	struct uuids *u = userdata;

	if (u->n < ELEMENTSOF(u->list))
		memcpy(u->list[u->n++], v[0].data, 16);
	return 0;
}

static int prune_guests(struct store *s, const struct db_value *limits, struct pruned *p)
{
	struct uuids u = {.n = 0};
	int r = db_run(s->db, &select_guests, limits, 1, take_uuid, &u);

	for (size_t i = 0; i < u.n && r >= 0; i++) {
		struct db_value key = db_uuid(u.list[i]);

		r = db_run(s->db, &delete_guest_events, &key, 1, take_pruned, p);
		if (r >= 0)
			r = db_run(s->db, &delete_guest_operations, &key, 1, NULL, NULL);
		if (r >= 0)
			r = db_run(s->db, &delete_guest, &key, 1, NULL, NULL);
	}
	return r;
}

/* Guests whose memory was moved forward. */
struct bases {
	struct base {
		unsigned char guest[16], id[16];
	} * list;
	size_t n, most;
};

static int take_base(const struct db_value *v, void *userdata)
{
	struct bases *b = userdata;

	if (b->n < b->most && v[1].type != DB_NULL) {
		memcpy(b->list[b->n].guest, v[0].data, 16);
		memcpy(b->list[b->n++].id, v[1].data, 16);
	}
	return 0;
}

/* Moves at most `limit` guests' memory forward, and removes what they did before. */
static int move_bases(struct store *s, const unsigned char id[16], size_t limit, size_t *ret_moved)
{
	struct bases b = {.list = calloc(limit, sizeof(struct base)), .most = limit};
	_cleanup_(free_memory) struct db_value *rows = calloc(2 * limit, sizeof(*rows));
	struct db_value key[3] = {db_uuid(id), db_int((int64_t)limit), db_uuid(s->based_to)};
	int r = b.list && rows ? 0 : -ENOMEM;

	if (r >= 0)
		r = db_run(s->db, &set_bases, key, 1, take_base, &b);
	for (size_t i = 0; i < b.n && r >= 0; i++) {
		rows[2 * i] = db_uuid(b.list[i].guest);
		rows[2 * i + 1] = db_uuid(b.list[i].id);
	}
	if (r >= 0)
		r = db_run(s->db, &delete_operations, rows, b.n, NULL, NULL);
	if (r >= 0 && b.n < limit)
		memcpy(s->based_to, id, 16);
	*ret_moved = b.n;
	free(b.list);
	return r;
}

static int prune(struct store *s, int64_t before, size_t limit, size_t *removed)
{
	unsigned char id[16], from[16];
	struct db_value by_time[2] = {db_int(before), db_int((int64_t)limit)};
	struct db_value by_id[3] = {db_uuid(id), by_time[1], db_uuid(from)};
	struct pruned p = {};
	size_t others = 0;
	int r;

	id_of_time(before, id);
	memcpy(from, s->pruned_to, 16);
	r = move_bases(s, id, limit, &others);
	if (r < 0 || others == limit) { /* their events can go when all have one */
		*removed = others;
		return r;
	}
	if (r >= 0)
		r = db_run(s->db, &delete_events, by_id, 1, take_pruned, &p);
	memcpy(s->pruned_to, p.n == limit ? p.last_id : (unsigned char[16]){0}, 16);
	if (r >= 0)
		r = prune_guests(s, by_id, &p);
	if (r >= 0)
		r = raise_begins(s, &p);
	if (r >= 0)
		r = db_run(s->db, &delete_holes, by_time, 1, count_row, &others);
	if (r >= 0)
		r = db_run(s->db, &delete_rejects, by_time, 1, count_row, &others);
	*removed = p.n > others ? p.n : others;
	free(p.list);
	return r;
}

int store_prune(struct store *s, int64_t before, size_t limit, size_t *ret_removed)
{
	size_t removed = 0;
	int r;

	r = db_begin(s->db);
	if (r >= 0)
		r = store_lock(s);
	if (r >= 0)
		r = prune(s, before, limit, &removed);
	if (r >= 0)
		r = db_commit(s->db);
	if (r < 0)
		return store_fail(s, r);
	if (removed < limit)
		(void)schema_drop_months(s->db, before); /* another time, if it is in use */
	*ret_removed = removed;
	return 0;
}

/* --- rebuilding state */

struct page {
	struct fresh_event *events;
	size_t n;
	unsigned char from_id[16];
	int64_t from_host;
	char **strings; /* of the events: reason, name, driver */
};

static const struct db_statement select_page = {
	"SELECT id, host, time, epoch, call, flags, guest, sequence, reason, name, driver FROM events WHERE "
	"(id, host) > ($1, $2) ORDER BY id, host LIMIT 1000",
	"ui"};

static int take_event(const struct db_value *v, void *userdata)
{
	struct page *p = userdata;
	struct fresh_event *f = &p->events[p->n];
	char **strings = p->strings + 3 * p->n;

	*f = (struct fresh_event){.event = {.host = v[1].number,
					    .time = v[2].number,
					    .call = (enum guest_call)v[4].number},
				  .sequence = v[7].number,
				  .flags = (unsigned)v[5].number,
				  .has_guest = v[6].type != DB_NULL};
	memcpy(f->event.id, v[0].data, 16);
	memcpy(f->event.epoch, v[3].data, 16);
	if (f->has_guest)
		memcpy(f->guest, v[6].data, 16);
	for (size_t i = 0; i < 3; i++) {
		strings[i] = strdup(db_string(&v[8 + i]));
		if (!strings[i])
			return -ENOMEM;
	}
	f->event.reason = strings[0];
	f->event.name = strings[1];
	f->event.driver = strings[2];
	memcpy(p->from_id, f->event.id, 16);
	p->from_host = f->event.host;
	p->n++;
	return 0;
}

static int rebuild_page(struct store *s, struct page *p, int64_t now)
{
	unsigned char from[16] = {0};
	struct db_value key[2] = {db_uuid(from), db_int(p->from_host)};
	int r;

	memcpy(from, p->from_id, 16);
	p->n = 0;
	r = db_run(s->db, &select_page, key, 1, take_event, p);
	if (r >= 0 && p->n > 0)
		r = store_update_hosts(s, p->events, p->n, NULL, 0, now);
	if (r >= 0 && p->n > 0)
		r = store_update_guests(s, p->events, p->n);
	for (size_t i = 0; i < 3 * (p->n + 1) && i < 3 * REBUILD_PAGE; i++) {
		free(p->strings[i]);
		p->strings[i] = NULL;
	}
	return r;
}

/* Everything that is not in the events stays: names, reports, when a host was last heard of, and
   when holes were found and filled. */
static const char clear_state[] =
	"CREATE TEMPORARY TABLE old_holes AS SELECT * FROM holes WHERE filled IS NULL;"
	"CREATE TEMPORARY TABLE old_hosts AS SELECT no, seen FROM hosts;"
	"DELETE FROM operations;"
	"DELETE FROM guests WHERE base_id IS NULL;"
	"UPDATE guests SET state = base;"
	"DELETE FROM holes WHERE filled IS NULL;"
	/* Pruned events cannot be seen again. */
	"UPDATE epochs SET first_id = CASE WHEN begin_at > 1 THEN first_id END, lowest = CASE WHEN begin_at > 1 THEN "
	"lowest ELSE 0 END, highest = begin_at - 1;"
	"UPDATE hosts SET missing = 0";
static const char restore_times[] =
	"UPDATE holes SET found = (SELECT o.found FROM old_holes o WHERE o.host = holes.host AND o.epoch = holes.epoch "
	"AND o.first <= holes.first AND o.last >= holes.first) WHERE filled IS NULL AND EXISTS (SELECT 1 FROM old_holes o "
	"WHERE o.host = holes.host AND o.epoch = holes.epoch AND o.first <= holes.first AND o.last >= holes.first);"
	"UPDATE hosts SET seen = (SELECT o.seen FROM old_hosts o WHERE o.no = hosts.no);"
	"DELETE FROM epochs WHERE first_id IS NULL AND reported = 0";

struct lost_range {
	int64_t host, first, last;
	unsigned char epoch[16];
};

struct lost_ranges {
	struct lost_range *list;
	size_t n, allocated;
};

static int take_lost(const struct db_value *v, void *userdata)
{
	struct lost_ranges *l = userdata;

	if (memory_reserve(&l->list, &l->allocated, l->n + 1, sizeof(*l->list)) < 0)
		return -ENOMEM;
	l->list[l->n].host = v[0].number;
	memcpy(l->list[l->n].epoch, v[1].data, 16);
	l->list[l->n].first = v[2].number;
	l->list[l->n++].last = v[3].number;
	return 0;
}

/* Facts from status reports, which events do not repeat. */
static int mark_missing(struct store *s, int64_t now)
{
	static const char lost[] = "SELECT host, epoch, first, last FROM old_holes WHERE lost = 1";
	static const char ended[] =
		"SELECT e.host, e.epoch, 0, e.reported FROM epochs e JOIN hosts h ON h.no = e.host "
		"WHERE e.reported > e.highest AND e.first_id IS NOT NULL AND e.epoch <> h.epoch";
	struct lost_ranges l = {};
	int r = db_query(s->db, lost, "", NULL, take_lost, &l);

	if (r >= 0)
		r = db_query(s->db, ended, "", NULL, take_lost, &l);
	for (size_t i = 0; i < l.n && r >= 0; i++)
		r = store_mark_missing(s, l.list[i].host, l.list[i].epoch, l.list[i].first,
				       l.list[i].last, now);
	free(l.list);
	return r;
}

static int rebuild(struct store *s, struct page *p, int64_t now,
		   void (*progress)(uint64_t events, void *userdata), void *userdata)
{
	uint64_t events = 0;
	int r = db_execute(s->db, clear_state);

	do {
		if (r >= 0)
			r = rebuild_page(s, p, now);
		events += p->n;
		if (r >= 0 && progress)
			progress(events, userdata);
	} while (r >= 0 && p->n == REBUILD_PAGE);
	if (r >= 0)
		r = mark_missing(s, now);
	if (r >= 0)
		r = db_execute(s->db, restore_times);
	if (r >= 0)
		r = db_execute(s->db, "DROP TABLE old_holes; DROP TABLE old_hosts");
	return r;
}

int store_rebuild(struct store *s, int64_t now, void (*progress)(uint64_t events, void *userdata),
		  void *userdata)
{
	struct page p = {.events = calloc(REBUILD_PAGE, sizeof(struct fresh_event)),
			 .strings = calloc(3 * REBUILD_PAGE + 3, sizeof(char *))};
	int r = p.events && p.strings ? db_begin(s->db) : -ENOMEM;

	if (r >= 0)
		r = store_lock(s);
	if (r >= 0)
		r = rebuild(s, &p, now, progress, userdata);
	if (r >= 0)
		r = db_commit(s->db);
	free(p.events);
	free(p.strings);
	return r < 0 ? store_fail(s, r) : 0;
}
