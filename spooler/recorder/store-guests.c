/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store-guests - guests and operations of a batch.
 *
 * If a guest's new events come after all of its stored ones, they are folded into its memory. If
 * one arrives late, the stored events are folded again, from the memory with which the last
 * operation before it began, until an operation begins with the memory that is stored for it: from
 * there on nothing can differ. So a late event costs the events between two starts, not the guest's
 * whole past.
 */
#include "spooler/base/memory.h"
#include "spooler/base/util.h"
#include "spooler/recorder/store-internal.h"

#define PAGE 256 /* stored events that are read at a time */

struct row {
	unsigned char uuid[16];
	bool found;
	unsigned char base_id[16]; /* events before it were pruned */
	struct guest guest;
	size_t first, n; /* its events in the batch */
	struct operations operations;
	char *name, *driver; /* if guest.name does not live elsewhere */
	unsigned char state[GUEST_ENCODED_MAX];
	size_t state_size;
	bool unchanged;
	bool refolded; /* its operations may be there or not */
};

struct guests {
	struct row *list; /* sorted by uuid */
	size_t n;
};

static bool counts(const struct fresh_event *f)
{
	return f->has_guest && f->event.call != CALL_NONE;
}

/* --- reading */

static const struct db_statement select_guests = {
	"SELECT uuid, state, base_id FROM guests WHERE (uuid) {in}", "u"};

static int compare_rows(const void *a, const void *b)
{
	return memcmp(((const struct row *)a)->uuid, ((const struct row *)b)->uuid, 16);
}

static int take_guest(const struct db_value *v, void *userdata)
{
	const struct guests *b = userdata;
	struct row key = {0}, *row;

	memcpy(key.uuid, v[0].data, 16);
	row = bsearch(&key, b->list, b->n, sizeof(*row), compare_rows);
	if (!row)
		return 0;
	row->found = true;
	if (v[2].type != DB_NULL)
		memcpy(row->base_id, v[2].data, 16);
	return guest_decode(v[1].data, v[1].type == DB_NULL ? 0 : v[1].size, &row->guest);
}

static int read_guests(struct store *s, const struct guests *b)
{
	_cleanup_(free_memory) struct db_value *keys = calloc(b->n + 1, sizeof(struct db_value));

	if (!keys)
		return -ENOMEM;
	for (size_t i = 0; i < b->n; i++)
		keys[i] = db_uuid(b->list[i].uuid);
	return db_run(s->db, &select_guests, keys, b->n, take_guest, (void *)b);
}

/* --- folding again */

struct refold {
	struct store *s;
	struct row *row;
	/* The newest event of the batch: before it nothing is settled. */
	unsigned char from_id[16], last_new_id[16];
	int64_t from_host, last_new_host;
	struct guest guest;
	/* The stored operations from `from` on, in order. */
	struct stored {
		unsigned char id[16];
		int64_t host;
		unsigned char *before;
		size_t before_size;
	} * stored;
	size_t n_stored, allocated;
	size_t settled; /* from this one on they stay as they are */
	bool done;
	size_t n_read;
};

static const struct db_statement select_start = {
	"SELECT id, host, before FROM operations WHERE guest = $1 AND (id, host) <= ($2, $3) "
	"ORDER BY id DESC, host DESC LIMIT 1",
	"uui"};

static int take_start(const struct db_value *v, void *userdata)
{
	struct refold *f = userdata;

	memcpy(f->from_id, v[0].data, 16);
	f->from_host = v[1].number;
	return guest_decode(v[2].data, v[2].size, &f->guest);
}

static const struct db_statement select_stored = {
	"SELECT id, host, before FROM operations WHERE guest = $1 AND (id, host) >= ($2, $3) ORDER BY id, host",
	"uui"};

static int take_stored(const struct db_value *v, void *userdata)
{
	struct refold *f = userdata;
	struct stored *o;

	if (memory_reserve(&f->stored, &f->allocated, f->n_stored + 1, sizeof(*o)) < 0)
		return -ENOMEM;
	o = &f->stored[f->n_stored];
	*o = (struct stored){.host = v[1].number, .before_size = v[2].size};
	memcpy(o->id, v[0].data, 16);
	o->before = malloc(v[2].size + 1);
	if (!o->before)
		return -ENOMEM;
	if (v[2].size)
		memcpy(o->before, v[2].data, v[2].size);
	f->n_stored++;
	return 0;
}

/* The stored operation that begins with this event. */
static size_t find_stored(const struct refold *f, const unsigned char id[16], int64_t host)
{
	for (size_t i = 0; i < f->n_stored; i++)
		if (f->stored[i].host == host && memcmp(f->stored[i].id, id, 16) == 0)
			return i;
	return f->n_stored;
}

/* Has the event just folded begun an operation, with the memory that is stored for it? */
static bool is_settled(struct refold *f, const struct guest_event *e)
{
	const struct operations *ops = &f->row->operations;
	const struct operation *last = ops->n ? &ops->list[ops->n - 1] : NULL;
	size_t i;

	if (guest_event_compare(e->id, e->host, f->last_new_id, f->last_new_host) <= 0 || !last ||
	    last->host != e->host || memcmp(last->id, e->id, 16) != 0)
		return false;
	i = find_stored(f, e->id, e->host);
	if (i == f->n_stored || f->stored[i].before_size != last->before_size ||
	    memcmp(f->stored[i].before, last->before, last->before_size) != 0)
		return false;
	f->settled = i;
	return true;
}

static const struct db_statement select_events = {
	"SELECT id, host, time, epoch, call, reason, name, driver FROM events WHERE guest = $1 AND (id, host) >= ($2, $3) "
	"AND call <> 0 ORDER BY id, host LIMIT 256",
	"uui"};

static int keep_string(char **to, const char *s)
{
	char *copy;

	if (!s || (*to && strcmp(*to, s) == 0))
		return 0;
	copy = strdup(s);
	if (!copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

static int take_event(const struct db_value *v, void *userdata)
{
	struct refold *f = userdata;
	struct guest_event e = {.host = v[1].number,
				.time = v[2].number,
				.call = (enum guest_call)v[4].number,
				.reason = db_string(&v[5]),
				.name = db_string(&v[6]),
				.driver = db_string(&v[7])};
	int r;

	memcpy(e.id, v[0].data, 16);
	memcpy(e.epoch, v[3].data, 16);
	f->n_read++;
	if (f->done)
		return 0;
	memcpy(f->from_id, e.id, 16);
	f->from_host = e.host;
	guest_fold(&f->guest, &e, &f->row->operations);
	r = keep_string(&f->row->name, f->guest.name);
	if (r >= 0)
		r = keep_string(&f->row->driver, f->guest.driver);
	f->guest.name = f->guest.driver = NULL;
	f->done = is_settled(f, &e);
	return r < 0 ? r : f->row->operations.failed ? -ENOMEM : 0;
}

static int read_and_fold(struct refold *f)
{
	int r;

	for (;;) {
		struct db_value key[3] = {db_uuid(f->row->uuid), db_uuid(f->from_id),
					  db_int(f->from_host)};
		unsigned char from[16];

		memcpy(from, f->from_id, 16);
		key[1] = db_uuid(from);
		f->n_read = 0;
		r = db_run(f->s->db, &select_events, key, 1, take_event, f);
		if (r < 0 || f->done || f->n_read < PAGE)
			return r;
		f->from_host++; /* the next key in the order of id and host */
	}
}

static const struct db_statement delete_operation = {
	"DELETE FROM operations WHERE guest = $1 AND id = $2 AND host = $3", "uui"};

/* Operations that were stored and are not found again never took place. */
static int delete_others(struct refold *f)
{
	const struct operations *ops = &f->row->operations;
	int r = 0;

	for (size_t i = 0; i < f->n_stored && i < f->settled && r >= 0; i++) {
		struct db_value key[3] = {db_uuid(f->row->uuid), db_uuid(f->stored[i].id),
					  db_int(f->stored[i].host)};
		bool again = false;

		for (size_t j = 0; j < ops->n && !again; j++)
			again = ops->list[j].host == f->stored[i].host &&
				memcmp(ops->list[j].id, f->stored[i].id, 16) == 0;
		if (!again)
			r = db_run(f->s->db, &delete_operation, key, 1, NULL, NULL);
	}
	return r;
}

static const struct db_statement update_before = {
	"UPDATE operations SET before = $4 WHERE guest = $1 AND id = $2 AND host = $3", "uuib"};

static bool is_in_memory(const struct guest *g, const struct operation *o)
{
	for (unsigned i = 0; i < g->n_places; i++)
		if (g->places[i].host == o->host && g->places[i].operation.kind != OPERATION_NONE &&
		    memcmp(g->places[i].operation.id, o->id, 16) == 0)
			return true;
	return false;
}

/* An operation in the memory that was met again ends as it is stored; only how it began is new. */
static int keep_ends(struct refold *f)
{
	struct operations *ops = &f->row->operations;
	size_t n = 0;
	int r = 0;

	ops->n--; /* the one that begins where the memory was met again */
	for (size_t i = 0; i < ops->n && r >= 0; i++) {
		const struct operation *o = &ops->list[i];
		struct db_value row[4] = {db_uuid(f->row->uuid), db_uuid(o->id), db_int(o->host),
					  db_bytes(o->before, o->before_size)};

		if (!is_in_memory(&f->guest, o))
			ops->list[n++] = *o;
		else if (o->before_size)
			r = db_run(f->s->db, &update_before, row, 1, NULL, NULL);
	}
	ops->n = n;
	return r;
}

/* The operations that are in the memory stand as they stood then. */
static void restore_operations(struct refold *f)
{
	for (unsigned i = 0; i < f->guest.n_places; i++)
		guest_report(&f->guest.places[i], &f->row->operations);
}

static int fold_again(struct store *s, struct row *row, const struct fresh_event *first,
		      const struct fresh_event *last)
{
	struct refold f = {.s = s, .row = row, .last_new_host = last->event.host};
	struct db_value key[3] = {db_uuid(row->uuid), db_uuid(first->event.id),
				  db_int(first->event.host)};
	struct db_value from[3];
	int r;

	memcpy(f.last_new_id, last->event.id, 16);
	row->refolded = true;
	r = db_run(s->db, &select_start, key, 1, take_start, &f);
	from[0] = key[0];
	from[1] = db_uuid(f.from_id);
	from[2] = db_int(f.from_host);
	if (r >= 0)
		r = db_run(s->db, &select_stored, from, 1, take_stored, &f);
	f.settled = f.n_stored;
	if (r >= 0) {
		restore_operations(&f);
		r = read_and_fold(&f);
	}
	if (r >= 0)
		r = delete_others(&f);
	if (r >= 0 && f.done) {
		r = keep_ends(&f);
		row->unchanged = true;
	} else if (r >= 0) {
		row->guest = f.guest;
		row->guest.name = row->name;
		row->guest.driver = row->driver;
	}
	for (size_t i = 0; i < f.n_stored; i++)
		free(f.stored[i].before);
	free(f.stored);
	return r;
}

/* --- writing */

/* Whether an operation is there already. */
enum presence {
	ABSENT,
	PRESENT,
	MAYBE_PRESENT,
	N_PRESENCES,
};

#define OPERATION_COLUMNS                                                                          \
	"operations (guest, id, host, kind, begun, ended, outcome, reason, from_host, to_host, before)"
static const struct db_statement write_operations_of[N_PRESENCES] = {
	[ABSENT] = {"{copy: " OPERATION_COLUMNS "}", "uuitiittiib"},
	[PRESENT] =
		{"UPDATE operations SET kind = {4}, begun = {5}, ended = {6}, outcome = {7}, reason = {8}, "
		 "from_host = {9}, to_host = {10} {from} WHERE guest = {1} AND id = {2} AND host = {3}",
		 "uuitiittii"},
	[MAYBE_PRESENT] =
		{"INSERT INTO " OPERATION_COLUMNS
		 " {values} ON CONFLICT (guest, id, host) DO UPDATE SET kind = excluded.kind, begun = excluded.begun, "
		 "ended = excluded.ended, outcome = excluded.outcome, reason = excluded.reason, "
		 "from_host = excluded.from_host, to_host = excluded.to_host, before = CASE WHEN length(excluded.before) "
		 "= 0 THEN operations.before ELSE excluded.before END",
		 "uuitiittiib"},
};

static struct db_value number_or_null(int64_t n)
{
	return n ? db_int(n) : db_null();
}

static struct db_value text_or_null(const char *s)
{
	return s && *s ? db_text(s) : db_null();
}

static enum presence presence_of(const struct store *s, const struct row *row,
				 const struct operation *o)
{
	if (row->refolded || s->careful)
		return MAYBE_PRESENT;
	return o->before_size ? ABSENT : PRESENT; /* it begins in this batch, or not */
}

static int write_operations(struct store *s, const struct guests *b, enum presence which)
{
	size_t columns = strlen(write_operations_of[which].types), n = 0;
	_cleanup_(free_memory) struct db_value *rows = NULL;
	struct db_value *v;

	for (size_t i = 0; i < b->n; i++)
		n += b->list[i].operations.n;
	rows = v = calloc(n + 1, columns * sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	for (size_t i = 0; i < b->n; i++)
		for (size_t j = 0; j < b->list[i].operations.n; j++) {
			const struct operation *o = &b->list[i].operations.list[j];

			if (memcmp(o->id, b->list[i].base_id, 16) < 0)
				continue; /* pruned */
			if (presence_of(s, &b->list[i], o) != which)
				continue;
			*v++ = db_uuid(b->list[i].uuid);
			*v++ = db_uuid(o->id);
			*v++ = db_int(o->host);
			*v++ = db_text(operation_kind_name(o->kind));
			*v++ = db_int(o->begun);
			*v++ = number_or_null(o->ended);
			*v++ = db_text(operation_outcome_name(o->outcome));
			*v++ = text_or_null(o->reason);
			*v++ = number_or_null(o->from);
			*v++ = number_or_null(o->to);
			if (which != PRESENT)
				*v++ = db_bytes(o->before, o->before_size);
		}
	return db_run(s->db, &write_operations_of[which], rows, (size_t)(v - rows) / columns, NULL,
		      NULL);
}

#define GUEST_TYPES "utttiituiutiuiiiiitb"
static const struct db_statement copy_guests = {
	"{copy: guests (uuid, name, driver, place, host, since, reason, last_id, last_time, place_id, other_place, "
	"other_host, other_id, other_since, migration_from, migration_to, migration_begin, migration_end, "
	"migration_outcome, state)}",
	GUEST_TYPES};
static const struct db_statement update_guests = {
	"UPDATE guests SET name = CASE WHEN {2} = '' THEN name ELSE {2} END, driver = CASE WHEN {3} = '' THEN driver ELSE {3} "
	"END, place = {4}, host = {5}, since = {6}, reason = {7}, last_id = {8}, last_time = {9}, place_id = {10}, "
	"other_place = {11}, other_host = {12}, other_id = {13}, other_since = {14}, migration_from = {15}, "
	"migration_to = {16}, migration_begin = {17}, migration_end = {18}, migration_outcome = {19}, state = {20} {from} "
	"WHERE uuid = {1}",
	GUEST_TYPES};

static struct db_value *put_guest(struct db_value *v, struct row *row)
{
	const struct guest *g = &row->guest;
	const struct guest_place *p = guest_place(g), *other = guest_other_place(g);
	const struct guest_migration *m = &g->migration;

	row->state_size = guest_encode(g, row->state);
	*v++ = db_uuid(row->uuid);
	*v++ = db_text(g->name ? g->name : "");
	*v++ = db_text(g->driver ? g->driver : "");
	*v++ = db_text(guest_phase_name(p ? p->phase : PHASE_STOPPED));
	*v++ = p ? db_int(p->host) : db_null();
	*v++ = p ? number_or_null(p->since) : db_null();
	*v++ = text_or_null(g->reason);
	*v++ = db_uuid(g->last_id);
	*v++ = db_int(g->last_time);
	*v++ = p ? db_uuid(p->last_id) : db_null();
	*v++ = other ? db_text(guest_phase_name(other->phase)) : db_null();
	*v++ = other ? db_int(other->host) : db_null();
	*v++ = other ? db_uuid(other->last_id) : db_null();
	*v++ = other ? db_int(other->since) : db_null();
	*v++ = number_or_null(m->from);
	*v++ = number_or_null(m->to);
	*v++ = number_or_null(m->begun);
	*v++ = number_or_null(m->ended);
	*v++ = m->begun ? db_text(operation_outcome_name(m->outcome)) : db_null();
	*v++ = db_bytes(row->state, row->state_size);
	return v;
}

/* Those that were found, or those that were not. */
static int write_guests(struct store *s, const struct guests *b, bool found)
{
	_cleanup_(free_memory) struct db_value *rows =
		calloc(b->n + 1, 20 * sizeof(struct db_value));
	struct db_value *v = rows;

	if (!rows)
		return -ENOMEM;
	for (size_t i = 0; i < b->n; i++)
		if (!b->list[i].unchanged && b->list[i].found == found)
			v = put_guest(v, &b->list[i]);
	return db_run(s->db, found ? &update_guests : &copy_guests, rows, (size_t)(v - rows) / 20,
		      NULL, NULL);
}

/* --- a batch */

static int compare_events(const void *a, const void *b)
{
	const struct fresh_event *x = *(const struct fresh_event *const *)a,
				 *y = *(const struct fresh_event *const *)b;
	int d = memcmp(x->guest, y->guest, 16);

	return d ? d : guest_event_compare(x->event.id, x->event.host, y->event.id, y->event.host);
}

static int list_guests(const struct fresh_event **events, size_t n, struct guests *ret_guests)
{
	struct guests b = {.list = calloc(n + 1, sizeof(struct row))};

	if (!b.list)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || memcmp(events[i]->guest, events[i - 1]->guest, 16) != 0) {
			memcpy(b.list[b.n].uuid, events[i]->guest, 16);
			b.list[b.n++].first = i;
		}
		b.list[b.n - 1].n++;
	}
	*ret_guests = b;
	return 0;
}

static int update_guest(struct store *s, struct row *row, const struct fresh_event **events)
{
	const struct fresh_event *first;

	for (; row->n > 0 && memcmp(events[row->first]->event.id, row->base_id, 16) < 0; row->n--)
		row->first++; /* it is older than what is kept */
	row->unchanged = row->n == 0;
	if (row->n == 0)
		return 0;
	first = events[row->first];
	if (guest_event_compare(first->event.id, first->event.host, row->guest.last_id,
				row->guest.last_host) < 0)
		return fold_again(s, row, first, events[row->first + row->n - 1]);
	for (size_t i = 0; i < row->n; i++)
		guest_fold(&row->guest, &events[row->first + i]->event, &row->operations);
	return row->operations.failed ? -ENOMEM : 0;
}

int store_update_guests(struct store *s, struct fresh_event *events, size_t n)
{
	_cleanup_(free_memory) const struct fresh_event **sorted =
		calloc(n + 1, sizeof(struct fresh_event *));
	struct guests b = {};
	size_t count = 0;
	int r;

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (counts(&events[i]))
			sorted[count++] = &events[i];
	qsort(sorted, count, sizeof(*sorted), compare_events);
	r = list_guests(sorted, count, &b);
	if (r >= 0)
		r = read_guests(s, &b);
	for (size_t i = 0; i < b.n && r >= 0; i++)
		r = update_guest(s, &b.list[i], sorted);
	for (enum presence which = 0; which < N_PRESENCES && r >= 0; which++)
		r = write_operations(s, &b, which);
	if (r >= 0)
		r = write_guests(s, &b, false);
	if (r >= 0)
		r = write_guests(s, &b, true);
	for (size_t i = 0; i < b.n; i++) {
		operations_release(&b.list[i].operations);
		free(b.list[i].name);
		free(b.list[i].driver);
	}
	free(b.list);
	return r;
}
