/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* guest - see guest.h. */
#include "spooler/base/util.h"
#include "spooler/recorder/guest.h"

/* The clocks of two hosts may differ by so much: a stop on the source of a migration may seem to
   precede the migration's begin. */
#define MIGRATION_SKEW_USEC (60 * (int64_t)USEC_PER_SEC)

const char *guest_phase_name(enum guest_phase phase)
{
	static const char *const names[] = {"stopped", "starting", "incoming",
					    "running", "paused",   "crashed"};

	return names[phase];
}

const char *operation_kind_name(enum operation_kind kind)
{
	static const char *const names[] = {"none", "start", "restore", "stop", "migration"};

	return names[kind];
}

const char *operation_outcome_name(enum operation_outcome outcome)
{
	static const char *const names[] = {"running", "success", "failed", "incomplete"};

	return names[outcome];
}

int guest_event_compare(const unsigned char *id_a, int64_t host_a, const unsigned char *id_b,
			int64_t host_b)
{
	int d = memcmp(id_a, id_b, 16);

	return d ? d : host_a < host_b ? -1 : host_a > host_b;
}

static void set_reason(char to[static GUEST_REASON_MAX], const char *reason)
{
	size_t n = reason ? strlen(reason) : 0;

	if (n == 0)
		return;
	if (n >= GUEST_REASON_MAX) /* not half a character */
		for (n = GUEST_REASON_MAX - 1; n && ((unsigned char)reason[n] & 0xc0) == 0x80; n--)
			;
	memcpy(to, reason, n);
	memset(to + n, 0, GUEST_REASON_MAX - n);
}

/* --- operations */

static struct operation *find_operation(struct operations *ops, const unsigned char *id,
					int64_t host)
{
	for (size_t i = ops->n; i > 0; i--)
		if (ops->list[i - 1].host == host && memcmp(ops->list[i - 1].id, id, 16) == 0)
			return &ops->list[i - 1];
	if (ops->n == ops->allocated) {
		size_t n = ops->allocated ? 2 * ops->allocated : 8;
		struct operation *list = reallocarray(ops->list, n, sizeof(*list));

		if (!list) {
			ops->failed = true;
			return NULL;
		}
		ops->list = list;
		ops->allocated = n;
	}
	ops->list[ops->n].before_size = 0;
	memcpy(ops->list[ops->n].id, id, 16);
	ops->list[ops->n].host = host;
	return &ops->list[ops->n++];
}

void operations_release(struct operations *ops)
{
	free(ops->list);
	*ops = (struct operations){};
}

/* Reports the place's operation as it stands now. */
static void report(struct operations *ops, const struct guest_place *p)
{
	const struct guest_operation *o = &p->operation;
	struct operation *op = find_operation(ops, o->id, p->host);

	if (!op)
		return;
	op->kind = o->kind;
	op->outcome = o->outcome;
	op->begun = o->begun;
	op->ended = o->ended;
	op->from = o->from;
	op->to = o->kind == OPERATION_MIGRATION ? p->host : 0;
	memcpy(op->reason, o->reason, sizeof(op->reason));
}

void guest_report(const struct guest_place *p, struct operations *ops)
{
	if (p->operation.kind != OPERATION_NONE)
		report(ops, p);
}

static bool under_way(const struct guest_place *p)
{
	return p->operation.kind != OPERATION_NONE && p->operation.outcome == OUTCOME_RUNNING;
}

static void begin_operation(const struct guest *before, struct guest_place *p,
			    const struct guest_event *e, enum operation_kind kind,
			    struct operations *ops)
{
	struct operation *op;

	p->operation = (struct guest_operation){.kind = kind, .begun = e->time};
	memcpy(p->operation.id, e->id, 16);
	report(ops, p);
	if (ops->failed)
		return;
	op = find_operation(ops, e->id, p->host);
	op->before_size = guest_encode(before, op->before);
}

static void end_operation(struct guest *g, struct guest_place *p, int64_t time,
			  enum operation_outcome outcome, struct operations *ops)
{
	p->operation.outcome = outcome;
	p->operation.ended = time;
	if (p->operation.kind == OPERATION_MIGRATION && p->operation.begun == g->migration.begun &&
	    p->host == g->migration.to)
		g->migration = (struct guest_migration){.from = p->operation.from,
							.to = p->host,
							.begun = p->operation.begun,
							.ended = time,
							.outcome = outcome};
	report(ops, p);
}

/* --- places */

static bool active(const struct guest_place *p)
{
	return p->phase != PHASE_STOPPED;
}

static void remove_place(struct guest *g, unsigned i)
{
	memmove(&g->places[i], &g->places[i + 1], (g->n_places - i - 1) * sizeof(g->places[0]));
	g->n_places--;
}

/* Only the last host where it has stopped is remembered, until it is on another one. */
static void forget_stopped(struct guest *g)
{
	const struct guest_place *last = NULL;

	for (unsigned i = 0; i < g->n_places; i++)
		if (!active(&g->places[i]) &&
		    (!last || memcmp(g->places[i].last_id, last->last_id, 16) > 0))
			last = &g->places[i];
	for (unsigned i = g->n_places; i > 0; i--)
		if (!active(&g->places[i - 1]) && &g->places[i - 1] != last) {
			if (last > &g->places[i - 1])
				last--;
			remove_place(g, i - 1);
		}
}

static struct guest_place *find_place(struct guest *g, const struct guest_event *e)
{
	unsigned oldest = 0;

	for (unsigned i = 0; i < g->n_places; i++)
		if (g->places[i].host == e->host)
			return &g->places[i];
	if (g->n_places == GUEST_PLACES_MAX) {
		for (unsigned i = 1; i < g->n_places; i++)
			if (memcmp(g->places[i].last_id, g->places[oldest].last_id, 16) < 0)
				oldest = i;
		remove_place(g, oldest);
	}
	g->places[g->n_places] = (struct guest_place){.host = e->host, .released = true};
	return &g->places[g->n_places++];
}

/* The only other host that has it; NULL if there is none or more than one. */
static struct guest_place *only_other(struct guest *g, const struct guest_place *p)
{
	struct guest_place *found = NULL;

	for (unsigned i = 0; i < g->n_places; i++)
		if (&g->places[i] != p && active(&g->places[i])) {
			if (found)
				return NULL;
			found = &g->places[i];
		}
	return found;
}

static bool other_active(const struct guest *g, const struct guest_place *p)
{
	for (unsigned i = 0; i < g->n_places; i++)
		if (&g->places[i] != p && active(&g->places[i]))
			return true;
	return false;
}

static void enter(struct guest_place *p, enum guest_phase phase, int64_t time)
{
	if (p->phase != phase)
		p->since = time;
	p->phase = phase;
}

/* --- what each call means */

/* How far a start has come. A call that goes further belongs to the start that is under way; any
   other begins the next one. */
static unsigned rank_of(enum guest_call call)
{
	return call == CALL_PREPARE ? 2 : call == CALL_START ? 3 : call == CALL_STARTED ? 4 : 1;
}

/* The guest has left `from` and so has arrived at p. */
static void arrive(struct guest *g, struct guest_place *p, int64_t from, int64_t time,
		   struct operations *ops)
{
	if (p->operation.from == 0)
		p->operation.from = from;
	enter(p, PHASE_RUNNING, time);
	end_operation(g, p, time, OUTCOME_SUCCESS, ops);
}

/* A stop on the source that seems to precede the migration, since the clocks differ. */
static const struct guest_place *left_before(const struct guest *g, const struct guest_place *p)
{
	for (unsigned i = 0; i < g->n_places; i++) {
		const struct guest_place *s = &g->places[i];

		if (s != p && !active(s) && s->operation.kind == OPERATION_STOP &&
		    s->operation.begun >= p->operation.begun - MIGRATION_SKEW_USEC)
			return s;
	}
	return NULL;
}

static void fold_begin(struct guest *g, const struct guest *before, struct guest_place *p,
		       const struct guest_event *e, struct operations *ops)
{
	bool same_run =
		active(p) && rank_of(e->call) > p->rank && memcmp(p->epoch, e->epoch, 16) == 0;
	const struct guest_place *source;

	if (!same_run) {
		if (under_way(p))
			end_operation(g, p, e->time, OUTCOME_INCOMPLETE, ops);
		begin_operation(before, p, e,
				e->call == CALL_MIGRATE	  ? OPERATION_MIGRATION
				: e->call == CALL_RESTORE ? OPERATION_RESTORE
							  : OPERATION_START,
				ops);
		p->phase = PHASE_STOPPED; /* so that `since` is that of this run */
		enter(p, e->call == CALL_MIGRATE ? PHASE_INCOMING : PHASE_STARTING, e->time);
		memcpy(p->arrival_id, e->id, 16);
		if (e->call != CALL_MIGRATE && !other_active(g, p))
			g->migration = (struct guest_migration){};
		if (e->call == CALL_MIGRATE) {
			source = only_other(g, p);
			p->operation.from = source ? source->host : 0;
			g->migration = (struct guest_migration){
				.from = p->operation.from, .to = p->host, .begun = e->time};
			report(ops, p);
		}
	}
	p->rank = rank_of(e->call);
	p->released = false;
	if (e->call != CALL_STARTED || !under_way(p))
		return;
	if (p->operation.kind != OPERATION_MIGRATION) {
		enter(p, PHASE_RUNNING, e->time);
		end_operation(g, p, e->time, OUTCOME_SUCCESS, ops);
	} else if (!only_other(g, p) && (source = left_before(g, p))) {
		arrive(g, p, source->host, e->time, ops);
	}
}

/* libvirtd was started and found it alive. */
static void fold_reconnect(struct guest *g, struct guest_place *p, const struct guest_event *e,
			   struct operations *ops)
{
	if (p->phase == PHASE_INCOMING)
		return;
	if (under_way(p) && active(p))
		end_operation(g, p, e->time, OUTCOME_INCOMPLETE, ops);
	if (!active(p))
		memcpy(p->arrival_id, e->id, 16);
	if (!active(p) || p->phase == PHASE_STARTING)
		enter(p, PHASE_RUNNING, e->time);
	p->rank = rank_of(CALL_STARTED);
	p->released = false;
}

/* It stopped here while it was migrating to another host: now it is there. */
static void leave(struct guest *g, const struct guest_place *p, const struct guest_event *e,
		  struct operations *ops)
{
	for (unsigned i = 0; i < g->n_places; i++) {
		struct guest_place *d = &g->places[i];

		if (d != p && d->phase == PHASE_INCOMING && under_way(d) &&
		    d->operation.kind == OPERATION_MIGRATION &&
		    (d->operation.from == 0 || d->operation.from == p->host))
			arrive(g, d, p->host, e->time, ops);
	}
}

static void fold_stopped(struct guest *g, const struct guest *before, struct guest_place *p,
			 const struct guest_event *e, struct operations *ops)
{
	if (!active(p) && !p->released) /* a repetition */
		return;
	if (active(p) && under_way(p)) { /* a start or a migration to this host failed */
		set_reason(p->operation.reason, e->reason);
		end_operation(g, p, e->time, OUTCOME_FAILED, ops);
	} else {
		leave(g, p, e, ops);
		begin_operation(before, p, e, OPERATION_STOP, ops);
		set_reason(p->operation.reason, e->reason);
		memcpy(p->arrival_id, e->id, 16);
		report(ops, p);
	}
	enter(p, PHASE_STOPPED, e->time);
	p->since = e->time;
	p->rank = 0;
	p->released = false;
	if (!other_active(g, p)) /* it is that of a run that is over */
		g->migration = (struct guest_migration){};
}

static void fold_release(struct guest *g, const struct guest *before, struct guest_place *p,
			 const struct guest_event *e, struct operations *ops)
{
	if (!active(p) && p->released) {
		if (p->operation.kind == OPERATION_NONE) /* the first that is known of it here */
			p->since = e->time;
		return;
	}
	if (active(p)) /* `stopped` did not come */
		fold_stopped(g, before, p, e, ops);
	if (e->reason && *e->reason) {
		memset(p->operation.reason, 0, sizeof(p->operation.reason));
		set_reason(p->operation.reason, e->reason);
	}
	if (p->operation.kind == OPERATION_STOP)
		end_operation(g, p, e->time, OUTCOME_SUCCESS, ops);
	else
		report(ops, p);
	p->released = true;
}

/* The event API's reason, where the hook gave none (libvirt before 10.5). */
static void fold_stop_reason(struct guest_place *p, const struct guest_event *e,
			     struct operations *ops)
{
	if (active(p) || p->operation.kind == OPERATION_NONE || p->operation.reason[0])
		return;
	set_reason(p->operation.reason, e->reason);
	report(ops, p);
}

static void fold_moved(struct guest *g, struct guest_place *p, const struct guest_event *e,
		       struct operations *ops)
{
	const struct guest_place *source = only_other(g, p);

	if (p->phase == PHASE_INCOMING && under_way(p))
		arrive(g, p, source ? source->host : 0, e->time, ops);
}

static void fold_cpus(struct guest_place *p, const struct guest_event *e)
{
	static const unsigned char none[16];

	if (memcmp(p->arrival_id, none, 16) == 0) { /* the first that is heard of it: it is here */
		memcpy(p->arrival_id, e->id, 16);
		p->phase = PHASE_RUNNING;
		p->since = e->time;
		p->rank = rank_of(CALL_STARTED);
	}
	if (p->phase != PHASE_RUNNING && p->phase != PHASE_PAUSED && p->phase != PHASE_CRASHED)
		return;
	enter(p,
	      e->call == CALL_PAUSED	? PHASE_PAUSED
	      : e->call == CALL_CRASHED ? PHASE_CRASHED
					: PHASE_RUNNING,
	      e->time);
}

/* The last reason that was given for the state that it is in. */
static void note_reason(struct guest *g, const struct guest_place *p, const struct guest_event *e)
{
	bool stops = e->call == CALL_STOPPED || e->call == CALL_RELEASE;
	bool holds = (e->call == CALL_PAUSED && p->phase == PHASE_PAUSED) ||
		     (e->call == CALL_CRASHED && p->phase == PHASE_CRASHED);
	bool explains = e->call == CALL_STOP_REASON && !active(p) && e->reason &&
			strncmp(p->operation.reason, e->reason, GUEST_REASON_MAX - 1) == 0;

	if (stops || holds || explains)
		set_reason(g->reason, e->reason);
	else if (e->call == CALL_STARTED || e->call == CALL_RESUMED)
		memset(g->reason, 0, sizeof(g->reason));
}

void guest_fold(struct guest *g, const struct guest_event *e, struct operations *ops)
{
	struct guest before = *g;
	struct guest_place *p;

	if (e->name && *e->name)
		g->name = e->name;
	if (e->driver && *e->driver)
		g->driver = e->driver;
	memcpy(g->last_id, e->id, 16);
	g->last_host = e->host;
	g->last_time = e->time;
	if (e->call == CALL_NAMED || e->call == CALL_NONE)
		return;
	p = find_place(g, e);
	switch (e->call) {
	case CALL_RESTORE:
	case CALL_MIGRATE:
	case CALL_PREPARE:
	case CALL_START:
	case CALL_STARTED:
		fold_begin(g, &before, p, e, ops);
		break;
	case CALL_RECONNECT:
		fold_reconnect(g, p, e, ops);
		break;
	case CALL_STOPPED:
		fold_stopped(g, &before, p, e, ops);
		break;
	case CALL_RELEASE:
		fold_release(g, &before, p, e, ops);
		break;
	case CALL_STOP_REASON:
		fold_stop_reason(p, e, ops);
		break;
	case CALL_MOVED:
		fold_moved(g, p, e, ops);
		break;
	case CALL_PAUSED:
	case CALL_RESUMED:
	case CALL_CRASHED:
		fold_cpus(p, e);
		break;
	case CALL_NONE:
	case CALL_NAMED:
		break;
	}
	memcpy(p->last_id, e->id, 16);
	memcpy(p->epoch, e->epoch, 16);
	note_reason(g, p, e);
	forget_stopped(g);
}

/* --- what is shown */

/* A guest that is just coming is where it comes from, as long as that is known. */
static int better(const struct guest_place *a, const struct guest_place *b)
{
	if (active(a) != active(b))
		return active(a) ? 1 : -1;
	if ((a->phase == PHASE_INCOMING) != (b->phase == PHASE_INCOMING))
		return a->phase == PHASE_INCOMING ? -1 : 1;
	return guest_event_compare(a->arrival_id, a->host, b->arrival_id, b->host);
}

const struct guest_place *guest_place(const struct guest *g)
{
	const struct guest_place *best = NULL;

	for (unsigned i = 0; i < g->n_places; i++)
		if (!best || better(&g->places[i], best) > 0)
			best = &g->places[i];
	return best;
}

const struct guest_place *guest_other_place(const struct guest *g)
{
	const struct guest_place *first = guest_place(g), *best = NULL;

	for (unsigned i = 0; i < g->n_places; i++)
		if (&g->places[i] != first && active(&g->places[i]) &&
		    (!best || better(&g->places[i], best) > 0))
			best = &g->places[i];
	return best;
}

/* --- the memory as bytes */

struct packer {
	unsigned char *out;
	const unsigned char *in, *end;
	bool bad;
};

static void pack_bytes(struct packer *p, void *data, size_t n)
{
	if (p->out) {
		memcpy(p->out, data, n);
		p->out += n;
	} else if ((size_t)(p->end - p->in) < n) {
		p->bad = true;
	} else {
		memcpy(data, p->in, n);
		p->in += n;
	}
}

/* Seven bits a byte, the lowest first; a negative number takes ten. */
static void pack_number(struct packer *p, int64_t *number)
{
	uint64_t n = (uint64_t)*number, value = 0;
	unsigned shift = 0;
	unsigned char byte;

	if (p->out) {
		for (; n > 0x7f; n >>= 7)
			*p->out++ = (unsigned char)(n | 0x80);
		*p->out++ = (unsigned char)n;
		return;
	}
	do {
		byte = 0;
		pack_bytes(p, &byte, 1);
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while ((byte & 0x80) && !p->bad && shift < 70);
	*number = (int64_t)value;
}

#define PACK_SMALL(p, field, limit)                                                                \
	do {                                                                                       \
		int64_t _n = (int64_t)(field);                                                     \
		pack_number(p, &_n);                                                               \
		if (_n < 0 || _n > (int64_t)(limit))                                               \
			(p)->bad = true;                                                           \
		else                                                                               \
			(field) = (__typeof__(field))_n;                                           \
	} while (0)

static void pack_reason(struct packer *p, char reason[static GUEST_REASON_MAX])
{
	size_t n = strlen(reason);

	PACK_SMALL(p, n, GUEST_REASON_MAX - 1);
	if (!p->bad)
		pack_bytes(p, reason, n);
}

static void pack_place(struct packer *p, struct guest_place *l)
{
	struct guest_operation *o = &l->operation;

	pack_number(p, &l->host);
	PACK_SMALL(p, l->phase, PHASE_CRASHED);
	pack_bytes(p, l->last_id, 16);
	pack_bytes(p, l->arrival_id, 16);
	pack_bytes(p, l->epoch, 16);
	pack_number(p, &l->since);
	PACK_SMALL(p, l->rank, 4);
	PACK_SMALL(p, l->released, 1);
	PACK_SMALL(p, o->kind, OPERATION_MIGRATION);
	if (o->kind == OPERATION_NONE || p->bad)
		return;
	PACK_SMALL(p, o->outcome, OUTCOME_INCOMPLETE);
	pack_bytes(p, o->id, 16);
	pack_number(p, &o->begun);
	pack_number(p, &o->ended);
	pack_number(p, &o->from);
	pack_reason(p, o->reason);
}

static void pack_guest(struct packer *p, struct guest *g)
{
	unsigned char version = 1;

	pack_bytes(p, &version, 1);
	p->bad |= version != 1;
	PACK_SMALL(p, g->n_places, GUEST_PLACES_MAX);
	pack_bytes(p, g->last_id, 16);
	pack_number(p, &g->last_host);
	pack_number(p, &g->last_time);
	pack_number(p, &g->migration.from);
	pack_number(p, &g->migration.to);
	pack_number(p, &g->migration.begun);
	pack_number(p, &g->migration.ended);
	PACK_SMALL(p, g->migration.outcome, OUTCOME_INCOMPLETE);
	pack_reason(p, g->reason);
	for (unsigned i = 0; i < g->n_places && !p->bad; i++)
		pack_place(p, &g->places[i]);
}

size_t guest_encode(const struct guest *g, unsigned char buf[static GUEST_ENCODED_MAX])
{
	struct guest copy = *g;
	struct packer p = {.out = buf};

	pack_guest(&p, &copy);
	return (size_t)(p.out - buf);
}

int guest_decode(const void *data, size_t size, struct guest *ret_guest)
{
	struct guest g = {};
	struct packer p = {.in = data, .end = (const unsigned char *)data + size};

	if (size > 0)
		pack_guest(&p, &g);
	if (p.bad)
		return -EBADMSG;
	*ret_guest = g;
	return 0;
}
