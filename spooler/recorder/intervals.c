/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* intervals - see intervals.h. */
#include "spooler/base/util.h"
#include "spooler/recorder/intervals.h"

void id_at(int64_t usec, unsigned char ret_id[16])
{
	uint64_t ms = usec > 0 ? (uint64_t)usec / 1000 : 0;

	memset(ret_id, 0, 16);
	for (int i = 0; i < 6; i++)
		ret_id[i] = (unsigned char)(ms >> (40 - 8 * i));
}

int64_t id_time(const unsigned char id[16])
{
	int64_t ms = 0;

	for (int i = 0; i < 6; i++)
		ms = ms << 8 | id[i];
	return ms * 1000;
}

/* --- hosts' names */

const char *intervals_host_name(const struct intervals *t, int64_t no)
{
	for (size_t i = 0; i < t->n_hosts; i++)
		if (t->hosts[i].no == no)
			return t->hosts[i].name;
	return NULL;
}

static int take_host(const struct db_value *v, void *userdata)
{
	struct intervals *t = userdata;

	if (t->n_hosts < INTERVALS_HOSTS_MAX)
		t->hosts[t->n_hosts++] = (struct host_name){v[0].number, strdup(db_string(&v[1]))};
	return 0;
}

void intervals_release(struct intervals *t)
{
	for (size_t i = 0; i < t->n_hosts; i++)
		free(t->hosts[i].name);
	t->n_hosts = 0;
}

/* --- intervals */

static void write_interval(struct intervals *t, const struct open_interval *x, int64_t to)
{
	if (x->from > t->to || (to && to <= t->from) || (to && to <= x->from) ||
	    (t->only && x->host != t->only))
		return;
	t->fn(&(struct interval){.host = intervals_host_name(t, x->host),
				 .state = x->state,
				 .reason = x->reason,
				 .from = x->from,
				 .to = to},
	      t->userdata);
}

static void close_interval(struct intervals *t, struct open_interval *x, int64_t at)
{
	if (x->open)
		write_interval(t, x, at);
	x->open = false;
}

static struct open_interval *find_interval(struct intervals *t, int64_t host)
{
	for (size_t i = 0; i < GUEST_PLACES_MAX; i++)
		if (t->open[i].open && t->open[i].host == host)
			return &t->open[i];
	return NULL;
}

static void open_interval(struct intervals *t, const struct guest_place *p, int64_t at,
			  const char *state, const char *reason)
{
	for (size_t i = 0; i < GUEST_PLACES_MAX; i++) {
		struct open_interval *x = &t->open[i];

		if (x->open)
			continue;
		*x = (struct open_interval){
			.open = true, .host = p->host, .from = at, .state = state};
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
static void compare(struct intervals *t, int64_t at)
{
	for (size_t i = 0; i < GUEST_PLACES_MAX; i++) {
		struct open_interval *x = &t->open[i];
		bool there = false;

		for (unsigned k = 0; k < t->guest.n_places; k++)
			there |= t->guest.places[k].host == x->host &&
				 is_shown(&t->guest, &t->guest.places[k]);
		if (x->open && !there)
			close_interval(t, x, at);
	}
	for (unsigned k = 0; k < t->guest.n_places; k++) {
		const struct guest_place *p = &t->guest.places[k];
		struct open_interval *x = find_interval(t, p->host);
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
static void pass_boots(struct intervals *t, int64_t until)
{
	for (; t->next_boot < t->n_boots && t->boots[t->next_boot].time <= until; t->next_boot++) {
		const struct boot *b = &t->boots[t->next_boot];
		struct open_interval *x = find_interval(t, b->host);

		if (!x || memcmp(x->epoch, b->epoch, 16) == 0 || strcmp(x->state, "stopped") == 0 ||
		    strcmp(x->state, "crashed") == 0 || x->from >= b->time)
			continue;
		close_interval(t, x, b->time);
		*x = (struct open_interval){
			.open = true, .host = b->host, .from = b->time, .state = "unknown"};
		memcpy(x->epoch, b->epoch, 16);
	}
}

/* --- what the store has */

static int take_start(const struct db_value *v, void *userdata)
{
	struct intervals *t = userdata;

	if (v[1].size && guest_decode(v[1].data, v[1].size, &t->guest) < 0)
		return 0;
	memcpy(t->start, v[0].data, 16);
	return 0;
}

/* The memory that the window begins with. */
static int read_start(struct intervals *t, const unsigned char uuid[16])
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
	return db_run(t->db, &s, v, 1, take_start, t);
}

static int take_event(const struct db_value *v, void *userdata)
{
	struct intervals *t = userdata;
	struct guest_event e = {
		.host = v[1].number, .time = v[2].number, .call = (enum guest_call)v[4].number};

	if (++t->n_events > INTERVALS_EVENTS_MAX) {
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
		if (t->open[i].open && t->open[i].host == e.host)
			memcpy(t->open[i].epoch, e.epoch, 16);
	compare(t, e.time);
	return 0;
}

static int read_events(struct intervals *t, const unsigned char uuid[16])
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
	v[3] = db_int(INTERVALS_EVENTS_MAX + 1);
	return db_run(t->db, &s, v, 1, take_event, t);
}

static int take_boot(const struct db_value *v, void *userdata)
{
	struct intervals *t = userdata;
	struct boot *b = &t->boots[t->n_boots];

	if (t->n_boots == INTERVALS_BOOTS_MAX)
		return 0;
	b->host = v[0].number;
	memcpy(b->epoch, v[1].data, 16);
	b->time = id_time(v[2].data);
	t->n_boots++;
	return 0;
}

int intervals_read(struct intervals *t, const unsigned char uuid[16])
{
	int n;

	memset(&t->guest, 0, sizeof(t->guest));
	memset(t->open, 0, sizeof(t->open));
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
		close_interval(t, &t->open[i], 0);
	return 0;
}

int intervals_add_host(struct intervals *t, int64_t no, const char *name)
{
	static const struct db_statement boots = {
		"SELECT e.host, e.epoch, e.first_id FROM epochs e WHERE e.host = $1 AND e.first_id IS NOT NULL AND EXISTS "
		"(SELECT 1 FROM epochs p WHERE p.host = e.host AND p.first_id < e.first_id) ORDER BY e.first_id",
		"i"};
	struct db_value v = db_int(no);

	t->hosts[t->n_hosts++] = (struct host_name){no, strdup(name)};
	return db_run(t->db, &boots, &v, 1, take_boot, t);
}

int intervals_find_hosts(struct intervals *t, const unsigned char uuid[16])
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
	int n = db_run(t->db, &names, &v, 1, take_host, t);

	return n < 0 ? n : db_run(t->db, &boots, &v, 1, take_boot, t);
}
