/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store-hosts - hosts, epochs and holes of a batch.
 *
 * Of each host that the batch has anything of, the row is read, its events are shown
 * to the epochs' coverage, reports are applied, and the row is written. Open holes are read only of
 * epochs in which something comes out of order.
 */
#include "spooler/base/util.h"
#include "spooler/recorder/coverage.h"
#include "spooler/recorder/store-internal.h"

/* A hole that was filled sooner than this was only on its way and leaves no trace. */
#define HOLE_NOTED_USEC (60 * (int64_t)USEC_PER_SEC)

struct epoch {
	unsigned char epoch[16];
	bool is_new, has_first, changed, has_holes, holes_changed;
	unsigned char first_id[16];
	int64_t reported;
	char boot[64];
	struct coverage coverage;
	struct hole *filled; /* of this batch: last is first, found is as it was */
	size_t n_filled, allocated;
};

struct host {
	int64_t no;
	char name[256];
	bool has_online, online, has_first, has_epoch, has_boot_id;
	int64_t status_time, missing, last_time;
	char *status; /* of a report in the batch */
	size_t status_size;
	char boot[64];
	unsigned char epoch[16], first_id[16], last_id[16], boot_id[16];
	struct epoch *epochs; /* those that this batch touches */
	size_t n_epochs, allocated;
};

/* All of a batch, in the order of their numbers. */
struct hosts {
	struct host *list;
	size_t n;
};

/* --- reading */

static const struct db_statement select_hosts = {
	"SELECT name, online, status_time, boot, epoch, missing, first_id, last_id, last_time, boot_id, no "
	"FROM hosts WHERE (no) {in}",
	"i"};

static void copy_id(const struct db_value *v, unsigned char ret[16], bool *ret_has)
{
	*ret_has = v->type != DB_NULL && v->size == 16;
	if (*ret_has)
		memcpy(ret, v->data, 16);
}

static struct host *find_host(const struct hosts *b, int64_t no);

static int take_host(const struct db_value *v, void *userdata)
{
	struct host *h = find_host(userdata, v[10].number);
	bool has_last;

	if (!h)
		return 0;

	(void)snprintf(h->name, sizeof(h->name), "%s", db_string(&v[0]));
	h->has_online = v[1].type != DB_NULL;
	h->online = v[1].number;
	h->status_time = v[2].number;
	(void)snprintf(h->boot, sizeof(h->boot), "%s", db_string(&v[3]));
	copy_id(&v[4], h->epoch, &h->has_epoch);
	h->missing = v[5].number;
	copy_id(&v[6], h->first_id, &h->has_first);
	copy_id(&v[7], h->last_id, &has_last);
	h->last_time = v[8].number;
	copy_id(&v[9], h->boot_id, &h->has_boot_id);
	return 0;
}

static struct host *find_host(const struct hosts *b, int64_t no)
{
	size_t low = 0, high = b->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (b->list[middle].no < no)
			low = middle + 1;
		else
			high = middle;
	}
	return low < b->n && b->list[low].no == no ? &b->list[low] : NULL;
}

static const struct db_statement select_epochs = {
	"SELECT first_id, lowest, highest, reported, begin_at, boot, host, epoch FROM epochs WHERE "
	"(host, epoch) {in}",
	"iu"};

static struct epoch *known_epoch(const struct host *h, const unsigned char id[16])
{
	for (size_t i = 0; i < h->n_epochs; i++)
		if (memcmp(h->epochs[i].epoch, id, 16) == 0)
			return &h->epochs[i];
	return NULL;
}

static int take_epoch(const struct db_value *v, void *userdata)
{
	const struct host *h = find_host(userdata, v[6].number);
	struct epoch *e = h ? known_epoch(h, v[7].data) : NULL;

	if (!e)
		return 0;
	e->is_new = false;
	copy_id(&v[0], e->first_id, &e->has_first);
	e->coverage.lowest = v[1].number;
	e->coverage.highest = v[2].number;
	e->reported = v[3].number;
	e->coverage.begin_at = v[4].number;
	(void)snprintf(e->boot, sizeof(e->boot), "%s", db_string(&v[5]));
	return 0;
}

static bool is_first_epoch(const struct host *h, const struct epoch *e)
{
	return e->has_first && h->has_first && memcmp(e->first_id, h->first_id, 16) == 0;
}

/* An entry for the epoch; its row is not read yet. NULL: no memory. */
static struct epoch *add_epoch(struct host *h, const unsigned char id[16])
{
	struct epoch *e = known_epoch(h, id);

	if (e)
		return e;
	if (h->n_epochs == h->allocated) {
		size_t n = h->allocated ? 2 * h->allocated : 2;

		e = reallocarray(h->epochs, n, sizeof(*e));
		if (!e)
			return NULL;
		h->epochs = e;
		h->allocated = n;
	}
	e = &h->epochs[h->n_epochs++];
	*e = (struct epoch){.is_new = true, .coverage.begin_at = 1};
	memcpy(e->epoch, id, 16);
	return e;
}

/* Pointers to the host's other epochs are invalid afterwards. */
static int find_epoch(struct store *s, struct host *h, const unsigned char id[16],
		      struct epoch **ret_epoch)
{
	struct db_value key[2] = {db_int(h->no), db_uuid(id)};
	struct hosts one = {h, 1};
	int r;

	*ret_epoch = known_epoch(h, id);
	if (*ret_epoch)
		return 0;
	*ret_epoch = add_epoch(h, id);
	if (!*ret_epoch)
		return -ENOMEM;
	r = db_run(s->db, &select_epochs, key, 1, take_epoch, &one);
	(*ret_epoch)->coverage.first_epoch = is_first_epoch(h, *ret_epoch);
	return r;
}

static const struct db_statement select_holes = {
	"SELECT first, last, found, lost FROM holes WHERE host = $1 AND epoch = $2 AND filled IS NULL",
	"iu"};

static int take_hole(const struct db_value *v, void *userdata)
{
	struct hole hole = {v[0].number, v[1].number, v[2].number, v[3].number};
	struct coverage *c = userdata;

	coverage_load(c, &hole);
	return 0;
}

/* Whatever changes the holes needs to know them. */
static int need_holes(struct store *s, const struct host *h, struct epoch *e)
{
	struct db_value key[2] = {db_int(h->no), db_uuid(e->epoch)};
	int r = 0;

	if (!e->has_holes && !e->is_new)
		r = db_run(s->db, &select_holes, key, 1, take_hole, &e->coverage);
	e->has_holes = e->holes_changed = true;
	return r;
}

/* --- applying */

static int note_filled(struct epoch *e, int64_t sequence, int64_t found)
{
	struct hole *last = e->n_filled ? &e->filled[e->n_filled - 1] : NULL;

	if (last && last->last + 1 == sequence && last->found == found) {
		last->last = sequence;
		return 0;
	}
	if (!e->filled || e->n_filled == e->allocated) {
		size_t n = e->allocated ? 2 * e->allocated : 4;
		struct hole *list = reallocarray(e->filled, n, sizeof(*list));

		if (!list)
			return -ENOMEM;
		e->filled = list;
		e->allocated = n;
	}
	e->filled[e->n_filled++] =
		(struct hole){.first = sequence, .last = sequence, .found = found};
	return 0;
}

static int see(struct store *s, const struct host *h, struct epoch *e, int64_t sequence,
	       int64_t now)
{
	struct coverage *c = &e->coverage;
	int64_t next = c->lowest == 0 && c->highest == 0 ? (c->first_epoch ? sequence : 1)
							 : c->highest + 1;
	int64_t before;
	struct hole hole;
	int r = 0;

	e->changed = true;
	if (sequence != next) {
		r = need_holes(s, h, e);
		if (r < 0)
			return r;
	}
	before = sequence != next ? coverage_missing(c) : 0;
	if (coverage_see(c, sequence, now, &hole) && now - hole.found >= HOLE_NOTED_USEC)
		r = note_filled(e, sequence, hole.found);
	if (sequence != next)
		((struct host *)h)->missing += coverage_missing(c) - before;
	return c->failed ? -ENOMEM : r;
}

/* Which epoch is the first may change when an older event comes. */
static int set_first(struct store *s, struct host *h, struct epoch *e, bool first, int64_t now)
{
	int64_t before;
	int r;

	if (e->coverage.first_epoch == first)
		return 0;
	r = need_holes(s, h, e);
	if (r < 0)
		return r;
	before = coverage_missing(&e->coverage);
	coverage_set_first(&e->coverage, first, now);
	h->missing += coverage_missing(&e->coverage) - before;
	e->changed = true;
	return e->coverage.failed ? -ENOMEM : 0;
}

static const struct db_statement select_epoch_of_id = {
	"SELECT epoch FROM epochs WHERE host = $1 AND first_id = $2", "iu"};

static int take_id(const struct db_value *v, void *userdata)
{
	memcpy(userdata, v[0].data, 16);
	return 0;
}

/* The host's first event is of another epoch now. */
static int change_first(struct store *s, struct host *h, const unsigned char old_first[16],
			int64_t now)
{
	struct db_value key[2] = {db_int(h->no), db_uuid(old_first)};
	unsigned char epoch[16] = {0};
	struct epoch *e;
	int r = 0;

	for (size_t i = 0; i < h->n_epochs; i++)
		if (h->epochs[i].has_first && memcmp(h->epochs[i].first_id, old_first, 16) == 0)
			return set_first(s, h, &h->epochs[i], is_first_epoch(h, &h->epochs[i]),
					 now);
	r = db_run(s->db, &select_epoch_of_id, key, 1, take_id, epoch);
	if (r < 0 || memcmp(epoch, (unsigned char[16]){0}, 16) == 0)
		return r;
	r = find_epoch(s, h, epoch, &e);
	return r < 0 ? r : set_first(s, h, e, is_first_epoch(h, e), now);
}

/* Numbers that the host said it has assigned are missed at the end of an epoch that is over. */
static int end_epoch(struct store *s, struct host *h, struct epoch *e, int64_t now)
{
	int64_t before;
	int r;

	if (e->reported <= e->coverage.highest)
		return 0;
	r = need_holes(s, h, e);
	if (r < 0)
		return r;
	before = coverage_missing(&e->coverage);
	coverage_end(&e->coverage, e->reported, now);
	h->missing += coverage_missing(&e->coverage) - before;
	e->changed = true;
	return e->coverage.failed ? -ENOMEM : 0;
}

static int apply_event(struct store *s, struct host *h, const struct fresh_event *f, int64_t now)
{
	const struct guest_event *g = &f->event;
	unsigned char old_first[16];
	struct epoch *e;
	int r;

	if (g->time > h->last_time)
		h->last_time = g->time;
	if (f->flags & EVENT_UNORDERED)
		return 0;
	r = find_epoch(s, h, g->epoch, &e);
	if (r < 0)
		return r;
	if (!e->has_first || memcmp(g->id, e->first_id, 16) < 0) {
		bool earlier = !h->has_first || memcmp(g->id, h->first_id, 16) < 0;
		bool had_first = h->has_first;

		if (earlier && had_first)
			memcpy(old_first, h->first_id, 16);
		if (earlier) {
			memcpy(h->first_id, g->id, 16);
			h->has_first = true;
			if (had_first &&
			    !(e->has_first && memcmp(old_first, e->first_id, 16) == 0)) {
				r = change_first(s, h, old_first, now);
				if (r >= 0) /* the list may have moved */
					r = find_epoch(s, h, g->epoch, &e);
				if (r < 0)
					return r;
			}
		}
		memcpy(e->first_id, g->id, 16);
		e->has_first = true;
		r = set_first(s, h, e, is_first_epoch(h, e), now);
		if (r < 0)
			return r;
	}
	return see(s, h, e, f->sequence, now);
}

/* The epoch of the last event is the one that goes on; the one before it is over. */
static int apply_last(struct store *s, struct host *h, const struct fresh_event *f, int64_t now)
{
	const struct guest_event *g = &f->event;
	struct epoch *e;
	int r = 0;

	if (f->flags & EVENT_UNORDERED)
		return 0;
	if (!h->has_epoch || memcmp(g->id, h->last_id, 16) > 0) {
		if (h->has_epoch && memcmp(h->epoch, g->epoch, 16) != 0) {
			r = find_epoch(s, h, h->epoch, &e);
			if (r >= 0)
				r = end_epoch(s, h, e, now);
		}
		memcpy(h->last_id, g->id, 16);
		memcpy(h->epoch, g->epoch, 16);
		h->has_epoch = true;
	} else if (memcmp(h->epoch, g->epoch, 16) != 0) {
		r = find_epoch(s, h, g->epoch, &e);
		if (r >= 0)
			r = end_epoch(s, h, e, now);
	}
	return r;
}

static int lose(struct store *s, struct host *h, const unsigned char epoch[16], int64_t first,
		int64_t last, int64_t now)
{
	struct epoch *e;
	int64_t before;
	int r;

	r = find_epoch(s, h, epoch, &e);
	if (r >= 0)
		r = need_holes(s, h, e);
	if (r < 0)
		return r;
	before = coverage_missing(&e->coverage);
	coverage_lose(&e->coverage, first, last, now);
	h->missing += coverage_missing(&e->coverage) - before;
	e->changed = true;
	return e->coverage.failed ? -ENOMEM : 0;
}

/* The least id of a moment. */
static void id_of_time(int64_t usec, unsigned char ret_id[16])
{
	uint64_t ms = (uint64_t)usec / 1000;

	memset(ret_id, 0, 16);
	for (int i = 0; i < 6; i++)
		ret_id[i] = (unsigned char)(ms >> (40 - 8 * i));
}

static int apply_report(struct store *s, struct host *h, const struct fresh_report *report,
			int64_t now)
{
	const struct cloudevent *c = report->event;
	bool newer = !h->has_online || c->time == 0 || c->time >= h->status_time;
	struct epoch *e;
	int r = 0;

	if (c->has_epoch) {
		r = find_epoch(s, h, c->epoch, &e);
		if (r < 0)
			return r;
		if (c->sequence > e->reported)
			e->reported = c->sequence;
		if (c->boot)
			(void)snprintf(e->boot, sizeof(e->boot), "%s", c->boot);
		e->changed = true;
		if (h->has_epoch && memcmp(h->epoch, c->epoch, 16) != 0 && e->has_first)
			r = end_epoch(s, h, e, now);
	}
	for (size_t i = 0; i < c->n_lost && r >= 0; i++)
		r = lose(s, h, c->lost[i].epoch, c->lost[i].first, c->lost[i].last, now);
	if (r < 0 || !newer)
		return r;
	h->has_online = true;
	h->online = c->online;
	if (c->time)
		h->status_time = c->time;
	if (c->boot && c->online && strcmp(c->boot, h->boot) != 0) {
		/* Booted since: no guest that was there before is, whatever comes later. */
		if ((h->boot[0] || !c->has_epoch) && c->time &&
		    (!c->has_epoch || memcmp(c->epoch, h->epoch, 16) != 0)) {
			id_of_time(c->time, h->boot_id);
			h->has_boot_id = true;
		}
		(void)snprintf(h->boot, sizeof(h->boot), "%s", c->boot);
	}
	free(h->status);
	h->status = strndup(report->payload, report->size);
	h->status_size = report->size;
	return h->status ? 0 : -ENOMEM;
}

/* --- since when the host has been up */

static const struct db_statement select_boot = {
	"SELECT first_id FROM epochs WHERE host = $1 AND boot = $2 AND first_id IS NOT NULL ORDER BY first_id "
	"LIMIT 1",
	"it"};

struct boot_id {
	unsigned char id[16];
	bool found;
};

static int take_boot(const struct db_value *v, void *userdata)
{
	struct boot_id *b = userdata;

	copy_id(&v[0], b->id, &b->found);
	return 0;
}

/* The first event of the current epoch, or of another epoch of the same boot. */
static int set_boot_id(struct store *s, struct host *h)
{
	struct boot_id first = {};
	struct epoch *e;
	int r;

	if (!h->has_epoch)
		return 0;
	r = find_epoch(s, h, h->epoch, &e);
	if (r < 0 || !e->has_first)
		return r;
	if (h->boot[0] && strcmp(h->boot, e->boot) != 0 && h->has_boot_id &&
	    memcmp(e->first_id, h->boot_id, 16) < 0)
		return 0; /* booted, and nothing has happened since */
	if (e->boot[0]) {
		struct db_value key[2] = {db_int(h->no), db_text(e->boot)};

		r = db_run(s->db, &select_boot, key, 1, take_boot, &first);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < h->n_epochs; i++) /* not written yet */
		if (h->epochs[i].has_first &&
		    (&h->epochs[i] == e ||
		     (e->boot[0] && strcmp(h->epochs[i].boot, e->boot) == 0)) &&
		    (!first.found || memcmp(h->epochs[i].first_id, first.id, 16) < 0)) {
			memcpy(first.id, h->epochs[i].first_id, 16);
			first.found = true;
		}
	memcpy(h->boot_id, first.id, 16);
	h->has_boot_id = true;
	return 0;
}

/* --- writing */

static const struct db_statement copy_epochs = {
	"{copy: epochs (host, epoch, first_id, lowest, highest, reported, boot, begin_at)}",
	"iuuiiiti"};
static const struct db_statement update_epochs = {
	"UPDATE epochs SET first_id = {3}, lowest = {4}, highest = {5}, reported = {6}, boot = {7} {from} "
	"WHERE host = {1} AND epoch = {2}",
	"iuuiiit"};

static const struct db_statement delete_holes = {
	"DELETE FROM holes WHERE host = $1 AND epoch = $2 AND filled IS NULL", "iu"};

static const struct db_statement insert_hole = {
	"INSERT INTO holes (host, epoch, first, last, found, filled, lost) {values} "
	"ON CONFLICT (host, epoch, first) DO UPDATE SET last = excluded.last, found = excluded.found, "
	"filled = excluded.filled, lost = excluded.lost",
	"iuiiiii"};

static int write_holes(struct store *s, const struct host *h, struct epoch *e, int64_t now)
{
	struct db_value key[2] = {db_int(h->no), db_uuid(e->epoch)};
	int r = 0;

	if (!e->is_new)
		r = db_run(s->db, &delete_holes, key, 1, NULL, NULL);
	for (size_t i = 0; i < e->coverage.n_holes + e->n_filled && r >= 0; i++) {
		bool open = i < e->coverage.n_holes;
		const struct hole *o =
			open ? &e->coverage.holes[i] : &e->filled[i - e->coverage.n_holes];
		struct db_value row[7] = {key[0],	    key[1],
					  db_int(o->first), db_int(o->last),
					  db_int(o->found), open ? db_null() : db_int(now),
					  db_int(o->lost)};

		r = db_run(s->db, &insert_hole, row, 1, NULL, NULL);
	}
	return r;
}

static struct db_value id_or_null(bool has, const unsigned char id[16])
{
	return has ? db_uuid(id) : db_null();
}

/* The epochs that are new, or those that are not. */
static int write_epoch_rows(struct store *s, const struct hosts *b, bool new)
{
	_cleanup_(free_memory) struct db_value *rows = NULL;
	size_t n = 0, columns = new ? 8 : 7;
	struct db_value *row;

	for (size_t i = 0; i < b->n; i++)
		n += b->list[i].n_epochs;
	rows = row = calloc(n + 1, columns * sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	for (size_t i = 0; i < b->n; i++)
		for (size_t j = 0; j < b->list[i].n_epochs; j++) {
			const struct epoch *e = &b->list[i].epochs[j];
			const struct coverage *c = &e->coverage;

			if (!e->changed || e->is_new != new)
				continue;
			*row++ = db_int(b->list[i].no);
			*row++ = db_uuid(e->epoch);
			*row++ = id_or_null(e->has_first, e->first_id);
			*row++ = db_int(c->lowest);
			*row++ = db_int(c->highest);
			*row++ = db_int(e->reported);
			*row++ = e->boot[0] ? db_text(e->boot) : db_null();
			if (new)
				*row++ = db_int(c->begin_at);
		}
	return db_run(s->db, new ? &copy_epochs : &update_epochs, rows,
		      (size_t)(row - rows) / columns, NULL, NULL);
}

static int write_epochs(struct store *s, const struct hosts *b, int64_t now)
{
	int r = write_epoch_rows(s, b, true);

	if (r >= 0)
		r = write_epoch_rows(s, b, false);
	for (size_t i = 0; i < b->n && r >= 0; i++)
		for (size_t j = 0; j < b->list[i].n_epochs && r >= 0; j++)
			if (b->list[i].epochs[j].holes_changed)
				r = write_holes(s, &b->list[i], &b->list[i].epochs[j], now);
	return r;
}

static const struct db_statement update_hosts = {
	"UPDATE hosts SET online = {2}, status_time = {3}, status = coalesce({4}, status), boot = {5}, epoch = {6}, "
	"sequence = {7}, reported = {8}, missing = {9}, first_id = {10}, last_id = {11}, last_time = {12}, "
	"boot_id = {13}, seen = {14} {from} WHERE no = {1}",
	"iiittuiiiuuiui"};

static int write_hosts(struct store *s, const struct hosts *b, int64_t now)
{
	_cleanup_(free_memory) struct db_value *rows = calloc(b->n, 14 * sizeof(struct db_value));
	struct db_value *row = rows;

	if (!rows)
		return -ENOMEM;
	for (size_t i = 0; i < b->n; i++) {
		struct host *h = &b->list[i];
		const struct epoch *e = h->has_epoch ? known_epoch(h, h->epoch) : NULL;

		*row++ = db_int(h->no);
		*row++ = h->has_online ? db_int(h->online) : db_null();
		*row++ = h->status_time ? db_int(h->status_time) : db_null();
		*row++ = h->status ? db_text_n(h->status, h->status_size) : db_null();
		*row++ = h->boot[0] ? db_text(h->boot) : db_null();
		*row++ = id_or_null(h->has_epoch, h->epoch);
		*row++ = db_int(e ? e->coverage.highest : 0);
		*row++ = db_int(e ? e->reported : 0);
		*row++ = db_int(h->missing);
		*row++ = id_or_null(h->has_first, h->first_id);
		*row++ = id_or_null(h->has_epoch, h->last_id);
		*row++ = h->last_time ? db_int(h->last_time) : db_null();
		*row++ = id_or_null(h->has_boot_id, h->boot_id);
		*row++ = db_int(now);
	}
	return db_run(s->db, &update_hosts, rows, b->n, NULL, NULL);
}

static void hosts_release(struct hosts *b)
{
	for (size_t i = 0; i < b->n; i++) {
		struct host *h = &b->list[i];

		for (size_t j = 0; j < h->n_epochs; j++) {
			coverage_release(&h->epochs[j].coverage);
			free(h->epochs[j].filled);
		}
		free(h->epochs);
		free(h->status);
	}
	free(b->list);
}

/* --- a batch */

static int compare_numbers(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* Every host that the batch has anything of. */
static int list_hosts(const struct fresh_event *events, size_t n,
		      const struct fresh_report *reports, size_t n_reports, struct hosts *ret_hosts)
{
	_cleanup_(free_memory) int64_t *numbers = calloc(n + n_reports + 1, sizeof(int64_t));
	size_t count = 0;

	if (!numbers)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		numbers[count++] = events[i].event.host;
	for (size_t i = 0; i < n_reports; i++)
		numbers[count++] = reports[i].host;
	qsort(numbers, count, sizeof(*numbers), compare_numbers);
	*ret_hosts = (struct hosts){.list = calloc(count + 1, sizeof(struct host))};
	if (!ret_hosts->list)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (i == 0 || numbers[i] != numbers[i - 1])
			ret_hosts->list[ret_hosts->n++].no = numbers[i];
	return 0;
}

static int read_hosts(struct store *s, const struct hosts *b)
{
	_cleanup_(free_memory) struct db_value *keys = calloc(b->n + 1, sizeof(struct db_value));

	if (!keys)
		return -ENOMEM;
	for (size_t i = 0; i < b->n; i++)
		keys[i] = db_int(b->list[i].no);
	return db_run(s->db, &select_hosts, keys, b->n, take_host, (void *)b);
}

static int read_epochs(struct store *s, const struct hosts *b)
{
	_cleanup_(free_memory) struct db_value *keys = NULL;
	struct db_value *key;
	size_t n = 0;
	int r;

	for (size_t i = 0; i < b->n; i++)
		n += b->list[i].n_epochs;
	keys = key = calloc(n + 1, 2 * sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	for (size_t i = 0; i < b->n; i++)
		for (size_t j = 0; j < b->list[i].n_epochs; j++) {
			*key++ = db_int(b->list[i].no);
			*key++ = db_uuid(b->list[i].epochs[j].epoch);
		}
	r = db_run(s->db, &select_epochs, keys, n, take_epoch, (void *)b);
	for (size_t i = 0; i < b->n; i++)
		for (size_t j = 0; j < b->list[i].n_epochs; j++)
			b->list[i].epochs[j].coverage.first_epoch =
				is_first_epoch(&b->list[i], &b->list[i].epochs[j]);
	return r;
}

static bool add_epoch_of(const struct hosts *b, int64_t no, const unsigned char id[16])
{
	struct host *h = find_host(b, no);

	return h && add_epoch(h, id);
}

/* Every epoch that the batch has anything of, and the hosts' current ones. */
static int list_epochs(const struct hosts *b, const struct fresh_event *events, size_t n,
		       const struct fresh_report *reports, size_t n_reports)
{
	bool good = true;

	for (size_t i = 0; i < b->n; i++)
		if (b->list[i].has_epoch)
			good &= add_epoch(&b->list[i], b->list[i].epoch) != NULL;
	for (size_t i = 0; i < n; i++)
		if (!(events[i].flags & EVENT_UNORDERED))
			good &= add_epoch_of(b, events[i].event.host, events[i].event.epoch);
	for (size_t i = 0; i < n_reports; i++)
		if (reports[i].event->has_epoch)
			good &= add_epoch_of(b, reports[i].host, reports[i].event->epoch);
	return good ? 0 : -ENOMEM;
}

static int apply(struct store *s, const struct hosts *b, const struct fresh_event *events, size_t n,
		 const struct fresh_report *reports, size_t n_reports, int64_t now)
{
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++)
		r = apply_event(s, find_host(b, events[i].event.host), &events[i], now);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = apply_last(s, find_host(b, events[i].event.host), &events[i], now);
	for (size_t i = 0; i < n_reports && r >= 0; i++)
		r = apply_report(s, find_host(b, reports[i].host), &reports[i], now);
	for (size_t i = 0; i < b->n && r >= 0; i++)
		r = set_boot_id(s, &b->list[i]);
	return r;
}

int store_update_hosts(struct store *s, const struct fresh_event *events, size_t n,
		       const struct fresh_report *reports, size_t n_reports, int64_t now)
{
	struct hosts b = {};
	int r;

	r = list_hosts(events, n, reports, n_reports, &b);
	if (r >= 0)
		r = read_hosts(s, &b);
	if (r >= 0)
		r = list_epochs(&b, events, n, reports, n_reports);
	if (r >= 0)
		r = read_epochs(s, &b);
	if (r >= 0)
		r = apply(s, &b, events, n, reports, n_reports, now);
	if (r >= 0)
		r = write_epochs(s, &b, now);
	if (r >= 0)
		r = write_hosts(s, &b, now);
	hosts_release(&b);
	return r;
}

int store_mark_missing(struct store *s, int64_t host, const unsigned char epoch[16], int64_t first,
		       int64_t last, int64_t now)
{
	struct hosts b = {.list = calloc(1, sizeof(struct host)), .n = 1};
	struct epoch *e;
	int r;

	if (!b.list)
		return -ENOMEM;
	b.list[0].no = host;
	r = read_hosts(s, &b);
	if (r >= 0 && first)
		r = lose(s, &b.list[0], epoch, first, last, now);
	if (r >= 0)
		r = find_epoch(s, &b.list[0], epoch, &e);
	if (r >= 0 && !first)
		r = end_epoch(s, &b.list[0], e, now);
	if (r >= 0 && b.list[0].has_epoch) /* its row shows how far it has come */
		r = find_epoch(s, &b.list[0], b.list[0].epoch, &e);
	if (r >= 0)
		r = write_epochs(s, &b, now);
	if (r >= 0)
		r = write_hosts(s, &b, now);
	hosts_release(&b);
	return r;
}
