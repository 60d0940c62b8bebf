/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pure parts of the delivery: attempts, denied ordering keys, the search for poison
   messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/base/util.h"
#include "spooler/daemon/attempts.h"
#include "spooler/daemon/denied.h"
#include "spooler/daemon/poison.h"

static struct spool_id id(unsigned n)
{
	struct spool_id e = {0};

	for (size_t i = 0; i < 4; i++)
		e.id[i] = (unsigned char)(n >> (24 - 8 * i));
	return e;
}

/* --- attempts */

static void test_attempts(void **state)
{
	static struct attempts a; /* zeroed */
	struct spool_id one = id(1), two = id(2);

	(void)state;
	assert_null(attempts_find(&a, &one));
	attempts_forget(&a, &one);
	attempts_note(&a, &one, "topic/1", "busy");
	attempts_note(&a, &two, "topic/2", "lost");
	attempts_note_retry(&a, &one, 5, 1000);
	assert_int_equal(attempts_find(&a, &one)->next_usec, 1000);
	attempts_note(&a, &one, NULL, "denied");
	assert_int_equal(attempts_find(&a, &one)->count, 2);
	assert_int_equal(attempts_find(&a, &one)->next_usec, 0);
	assert_string_equal(attempts_find(&a, &one)->why, "denied");
	assert_string_equal(attempts_find(&a, &one)->topic, "topic/1");
	attempts_forget(&a, &one);
	assert_null(attempts_find(&a, &one));
	assert_string_equal(attempts_find(&a, &two)->why, "lost");
	attempts_note_retry(&a, &two, 5, 1000);
	for (unsigned n = 3; n < 2 * ATTEMPTS_MAX; n++) {
		struct spool_id e = id(n);

		attempts_note(&a, &e, NULL, "no room for it");
	}
	assert_int_equal(a.n, ATTEMPTS_MAX); /* those that others wait for are kept */
	attempts_note(&a, &two, NULL, "still counted");
	assert_int_equal(attempts_find(&a, &two)->count, 2);
}

/* --- denied ordering keys */

/* A row of refusals that nobody could prevent does not put off the next attempt for minutes. */
static void test_a_long_row_of_refusals(void **state)
{
	static struct denied d; /* zeroed */
	uint64_t now = 1;

	(void)state;
	assert_true(denied_may_try(&d, now));
	for (unsigned i = 0; i < 1000; i++)
		denied_count_attempt(&d);
	assert_false(denied_may_try(&d, now));
	assert_true(denied_may_try(&d, now + DENIED_USEC));
}

static struct record record(const char *driver, const char *object)
{
	return (struct record){.driver = {driver, strlen(driver)},
			       .object = {object, strlen(object)}};
}

static void test_ordering_keys(void **state)
{
	struct record web = record("qemu", "web"), again = record("qemu", "web"),
		      other = record("qemu", "web2"), driver = record("lxc", "web"),
		      shifted = record("qemu/w", "eb");

	(void)state;
	assert_true(ordering_key(&web) == ordering_key(&again));
	assert_true(ordering_key(&web) != ordering_key(&other));
	assert_true(ordering_key(&web) != ordering_key(&driver));
	assert_true(ordering_key(&web) != ordering_key(&shifted));
}

static void test_denied(void **state)
{
	static struct denied d; /* zeroed */
	struct denied_key *one, *two;

	(void)state;
	assert_null(denied_find(&d, 1));
	assert_true(denied_next_retry(&d, 0) == UINT64_MAX);
	one = denied_add(&d, 1);
	two = denied_add(&d, 2);
	assert_ptr_equal(denied_find(&d, 1), one);
	one->retry_usec = 100;
	two->retry_usec = 50;
	two->trying = true;
	assert_int_equal(denied_next_retry(&d, 0), 50);
	assert_int_equal(denied_next_retry(&d, 50), 100); /* a key that is due is not waited for */
	denied_forget_attempts(&d);
	assert_false(two->trying);
	two->waiting = 3;
	assert_int_equal(denied_next_retry(&d, 60), 60); /* it is due, and some are held */
	two->trying = true;
	assert_int_equal(denied_next_retry(&d, 60), 100);
	denied_forget_attempts(&d);
	denied_forget_waiting(&d);
	assert_int_equal(two->waiting, 0);
	denied_count_attempt(&d);
	denied_remove(&d, one); /* a right was granted: the other is due at once */
	assert_null(denied_find(&d, 1));
	assert_int_equal(denied_find(&d, 2)->retry_usec, 0);
	assert_int_equal(d.attempts, 0);
	for (uint64_t key = 10; d.n < DENIED_MAX; key++)
		assert_non_null(denied_add(&d, key));
	assert_null(denied_add(&d, 9999));
}

/* However they come, no more than a bucketful at once, and then one each DENIED_USEC. */
static void test_denied_attempts_are_bounded(void **state)
{
	static struct denied d; /* zeroed */
	uint64_t now = 1000 * USEC_PER_SEC;
	unsigned made = 0;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		if (denied_may_try(&d, now)) {
			denied_count_attempt(&d);
			made++;
		}
	}
	assert_int_equal(made, DENIED_PER_MINUTE);
	assert_false(denied_may_try(&d, now + DENIED_USEC - 1));
	for (uint64_t end = now + 60 * USEC_PER_SEC; now < end; now += USEC_PER_SEC / 10) {
		if (denied_may_try(&d, now)) {
			denied_count_attempt(&d);
			made++;
		}
	}
	assert_in_range(made, 2 * DENIED_PER_MINUTE - 1, 2 * DENIED_PER_MINUTE);
	now += 3600 * USEC_PER_SEC; /* an hour of peace saves up no more than a bucketful */
	made = 0;
	while (denied_may_try(&d, now)) {
		denied_count_attempt(&d);
		made++;
	}
	assert_int_equal(made, DENIED_PER_MINUTE);
}

/* --- poison messages: a broker and a spool, simulated */

#define EVENTS_MAX 400
#define PROBE_SIZE 300 /* of the online report */

struct event {
	struct poison_event e;
	bool bad;	      /* the broker ends the connection over it */
	bool published, gone; /* gone: delivered */
	bool failed;
};

/* How the broker treats what it had read before a bad message of the same batch, and after it. */
enum temper {
	ANSWERS_BEFORE,	 /* in order, up to the bad one */
	ANSWERS_NOTHING, /* the answers of the batch are lost with the connection */
	ANSWERS_OTHERS,	 /* those after the bad one as well */
	ANSWERS_SOME,	 /* any of them */
	N_TEMPERS,
};

struct world {
	struct poison p;
	struct poison_sizes sizes;
	struct event events[EVENTS_MAX];
	size_t n;
	size_t limit; /* of the broker; larger packets end the connection; 0: none */
	enum temper temper;
	bool reports;	/* the online report is configured */
	bool no_probes; /* the broker ends the connection over any report or probe */
	bool taken;	/* an event was delivered, which can be given once more */
	bool repeats;	/* ... and is, where there are no probes */
	bool broken;	/* ... and over any event */
	size_t window;
	unsigned connections, flaps;
	bool released; /* events that were held may go */
};

static unsigned rnd_state;

static unsigned rnd(unsigned n)
{
	rnd_state = rnd_state * 1103515245 + 12345;
	return (rnd_state >> 8) % n;
}

static bool ends_connection(const struct world *w, const struct event *e)
{
	return w->broken || e->bad || (w->limit && e->e.size > w->limit);
}

static void deliver(struct world *w, size_t i)
{
	struct event *e = &w->events[i];

	assert_false(e->gone || e->failed);
	e->gone = w->taken = true;
	w->released |= poison_answered(&w->p, &e->e, e->e.size);
	poison_delivered(&w->p);
}

/* No event goes before an earlier one of its domain. */
static void publish(struct world *w, size_t i)
{
	for (size_t j = 0; j < i && !w->events[i].published; j++)
		if (w->events[j].e.key == w->events[i].e.key)
			assert_true(w->events[j].published || w->events[j].failed);
	w->events[i].published = true;
}

static void lose(struct world *w, size_t *window, size_t n)
{
	static struct poison_event unanswered[EVENTS_MAX];
	enum poison_verdict verdict;

	for (size_t i = 0; i < n; i++)
		unanswered[i] = w->events[window[i]].e;
	verdict = poison_lost(&w->p, unanswered, n, POISON_EVIDENCE_EVENT);
	if (verdict == POISON_CONVICTED) {
		assert_int_equal(n, 1);
		w->events[window[0]].failed = true;
	}
}

/* The broker reads the batch. Returns false if it ends the connection; what it has not answered
   stays in the window. */
static bool broker_reads(struct world *w, size_t *window, size_t *n)
{
	size_t bad = 0, kept = 0;

	while (bad < *n && !ends_connection(w, &w->events[window[bad]]))
		bad++;
	for (size_t i = 0; i < *n; i++) {
		bool answer = i < bad;

		if (bad < *n)
			answer = i != bad && !ends_connection(w, &w->events[window[i]]) &&
				 ((w->temper == ANSWERS_BEFORE && i < bad) ||
				  w->temper == ANSWERS_OTHERS ||
				  (w->temper == ANSWERS_SOME && i < bad && rnd(2)));
		if (answer)
			deliver(w, window[i]);
		else
			window[kept++] = window[i];
	}
	*n = kept;
	return kept == 0;
}

/* One connection, until it is lost or nothing is left to do on it. */
static void connection(struct world *w)
{
	size_t window[EVENTS_MAX], n = 0, next = 0, probe_size;
	uint64_t held[EVENTS_MAX];
	size_t n_held = 0;
	bool more = true;

	w->connections++;
	poison_connected(&w->p, &w->sizes, !w->no_probes || (w->repeats && w->taken),
			 !w->no_probes);
	if (w->reports && !w->no_probes)
		(void)poison_answered(&w->p, NULL, PROBE_SIZE);
	while (more) {
		enum poison_advice advice = POISON_WAIT;
		struct event *e;
		bool waits = false;

		if (w->released) {
			w->released = false;
			n_held = next = 0;
		}
		while (next < w->n && (w->events[next].gone || w->events[next].failed))
			next++;
		for (size_t i = 0; i < n; i++)
			if (next < w->n && window[i] == next)
				next++;
		if (next < w->n && n < w->window) {
			e = &w->events[next];
			for (size_t i = 0; i < n_held; i++)
				waits |= held[i] == e->e.key;
			advice = waits ? POISON_HOLD : poison_admit(&w->p, &e->e, n, &probe_size);
			if (advice == POISON_HOLD) {
				held[n_held++] = e->e.key;
				next++;
				continue;
			}
			if (advice == POISON_TOO_LARGE) {
				e->failed = true;
				continue;
			}
			if (advice == POISON_GO) {
				publish(w, next);
				window[n++] = next++;
				if (w->p.singly || rnd(4)) /* mostly more than one in a batch */
					if (!w->p.singly)
						continue;
			}
			if (advice == POISON_PROBE) {
				poison_probing(&w->p, probe_size);
				if ((w->limit && probe_size > w->limit) || w->broken) {
					lose(w, window, n);
					return;
				}
				(void)poison_answered(&w->p, NULL,
						      probe_size ? probe_size : PROBE_SIZE);
				continue;
			}
		}
		if (n == 0) {
			if (next == w->n && poison_release(&w->p)) {
				n_held = 0;
				next = 0;
				continue;
			}
			return;
		}
		if (w->flaps > 0 && rnd(20) == 0) { /* the network */
			w->flaps--;
			lose(w, window, n);
			return;
		}
		more = broker_reads(w, window, &n);
	}
	lose(w, window, n);
}

static bool over(const struct world *w)
{
	for (size_t i = 0; i < w->n; i++)
		if (!w->events[i].gone && !w->events[i].failed)
			return false;
	return true;
}

static void make_world(struct world *w, unsigned seed)
{
	unsigned keys, share;

	*w = (struct world){0};
	rnd_state = seed;
	w->n = 1 + rnd(rnd(3) ? 40 : EVENTS_MAX - 1);
	w->window = 1 + rnd(rnd(2) ? 100 : 5);
	w->temper = rnd(N_TEMPERS);
	w->reports = rnd(2);
	w->flaps = rnd(3) ? 0 : rnd(3);
	keys = 1 + rnd(16);
	share = rnd(5); /* none, few, many, most, all */
	for (size_t i = 0; i < w->n; i++) {
		struct event *e = &w->events[i];

		e->e.id = id(1000 + (unsigned)i);
		e->e.key = rnd(keys);
		e->e.size = 500 + rnd(200);
		e->bad = share == 1   ? rnd(20) == 0
			 : share == 2 ? rnd(4) == 0
			 : share == 3 ? rnd(4)
				      : share == 4;
	}
}

/* Every bad event is set aside and every good one delivered, in the order of its domain, within a
   bounded number of connections. */
static void test_poison_is_found(void **state)
{
	static struct world w;

	(void)state;
	for (unsigned seed = 1; seed <= 3000; seed++) {
		unsigned bad = 0, bound;

		make_world(&w, seed);
		for (size_t i = 0; i < w.n; i++)
			bad += w.events[i].bad;
		bound = 5 * bad + 3 + 3 * w.flaps;
		while (!over(&w) && w.connections <= bound)
			connection(&w);
		if (!over(&w))
			fail_msg(
				"seed %u: %u bad of %zu, window %zu, temper %d: not over after %u connections",
				seed, bad, w.n, w.window, w.temper, w.connections);
		for (size_t i = 0; i < w.n; i++)
			if (w.events[i].failed != w.events[i].bad)
				fail_msg("seed %u: event %zu is %s and was %s", seed, i,
					 w.events[i].bad ? "bad" : "good",
					 w.events[i].failed ? "convicted" : "delivered");
	}
}

/* A broker that ends the connection over what is too large for it: two connections more for each
   limit that is found, however many are too large. */
static void test_sizes_are_found(void **state)
{
	static struct world w;

	(void)state;
	for (unsigned seed = 1; seed <= 1000; seed++) {
		unsigned sizes = 1 + seed % 4, bound = 3 + 4 * sizes;

		make_world(&w, seed);
		w.limit = 1000;
		w.flaps = 0;
		for (size_t i = 0; i < w.n; i++) {
			w.events[i].bad = false;
			if (rnd(2))
				w.events[i].e.size = 1001 + 100 * rnd(sizes);
		}
		while (!over(&w) && w.connections <= bound)
			connection(&w);
		if (!over(&w))
			fail_msg("seed %u: not over after %u connections", seed, w.connections);
		for (size_t i = 0; i < w.n; i++)
			assert_int_equal(w.events[i].failed, w.events[i].e.size > 1000);
	}
}

/* A broker that takes nothing, or ends every connection, convicts nobody. */
static void test_broken_broker_convicts_nobody(void **state)
{
	static struct world w;

	(void)state;
	for (unsigned seed = 1; seed <= 300; seed++) {
		make_world(&w, seed);
		w.broken = true;
		w.reports = false;
		w.no_probes = seed % 2;
		for (int i = 0; i < 60; i++)
			connection(&w);
		for (size_t i = 0; i < w.n; i++)
			assert_false(w.events[i].failed);
	}
}

/* A broker that takes no probes, and that has taken an event: what it took last is the control. No
   bad one stays, also if all are of one domain. */
static void test_poison_with_repeats(void **state)
{
	static struct world w;

	(void)state;
	for (unsigned seed = 1; seed <= 2000; seed++) {
		unsigned bad = 0;

		make_world(&w, seed);
		w.no_probes = w.repeats = w.taken = true;
		for (size_t i = 0; i < w.n; i++)
			bad += w.events[i].bad;
		while (!over(&w) && w.connections <= 5 * bad + 3 + 3 * w.flaps)
			connection(&w);
		for (size_t i = 0; i < w.n; i++)
			assert_true(w.events[i].failed ? w.events[i].bad : w.events[i].gone);
	}
}

/* Over one event again and again, with a reason that lies in the broker: it is held back. */
static void test_reason_of_the_broker(void **state)
{
	struct poison_sizes sizes = {0};
	struct poison_event e[2] = {{.id = id(1), .key = 1, .size = 500},
				    {.id = id(2), .key = 2, .size = 500}};
	struct poison p = {0};

	(void)state;
	poison_connected(&p, &sizes, true, true);
	assert_int_equal(poison_lost(&p, e, 2, POISON_EVIDENCE_BROKER), POISON_INNOCENT);
	for (int i = 0; i < POISON_STRIKES; i++) {
		poison_connected(&p, &sizes, true, true);
		poison_probing(&p, 0);
		(void)poison_answered(&p, NULL, 600);
		assert_int_equal(poison_lost(&p, e, 1, POISON_EVIDENCE_BROKER),
				 i < POISON_STRIKES - 1 ? POISON_INNOCENT : POISON_DENIED);
		assert_false(poison_progress(&p)); /* it is given time */
	}
}

/* Without either the others are the control; the last bad ones stay, and nothing is wrongly
   convicted. */
static void test_poison_without_probes(void **state)
{
	static struct world w;

	(void)state;
	for (unsigned seed = 1; seed <= 1000; seed++) {
		make_world(&w, seed);
		w.no_probes = true;
		w.flaps = 0;
		for (size_t i = 0; i < w.n; i++)
			w.events[i].e.key = w.events[i].bad ? rnd(8) : 8 + rnd(8);
		for (unsigned i = 0; !over(&w) && i < 8 * w.n + 20; i++)
			connection(&w);
		for (size_t i = 0; i < w.n; i++) {
			assert_true(w.events[i].gone || w.events[i].bad);
			assert_true(!w.events[i].failed || w.events[i].bad);
		}
	}
}

static void test_poison_evidence(void **state)
{
	static const struct {
		unsigned code;
		enum poison_evidence evidence;
	} table[] = {
		{0x80, POISON_EVIDENCE_EVENT},	{0x81, POISON_EVIDENCE_EVENT},
		{0x87, POISON_EVIDENCE_RIGHTS}, {0x89, POISON_EVIDENCE_BROKER},
		{0x8b, POISON_EVIDENCE_BROKER}, {0x8e, POISON_EVIDENCE_NONE},
		{0x93, POISON_EVIDENCE_BROKER}, {0x95, POISON_EVIDENCE_EVENT},
		{0x97, POISON_EVIDENCE_BROKER}, {0x98, POISON_EVIDENCE_BROKER},
		{0x00, POISON_EVIDENCE_EVENT},	{0xc3, POISON_EVIDENCE_EVENT},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++)
		assert_int_equal(poison_evidence(true, table[i].code), table[i].evidence);
	assert_int_equal(poison_evidence(false, 0x8e), POISON_EVIDENCE_EVENT);
}

/* An event that the broker does not want, as it says, is denied, and never convicted. */
static void test_rights(void **state)
{
	struct poison_sizes sizes = {0};
	struct poison_event e[2] = {{.id = id(1), .key = 1, .size = 500},
				    {.id = id(2), .key = 2, .size = 500}};
	struct poison p = {0};
	size_t probe_size = 99;

	(void)state;
	poison_connected(&p, &sizes, true, true);
	assert_int_equal(poison_admit(&p, &e[0], 0, &probe_size), POISON_GO);
	assert_int_equal(poison_lost(&p, e, 2, POISON_EVIDENCE_RIGHTS), POISON_INNOCENT);
	poison_connected(&p, &sizes, true, true);
	assert_int_equal(poison_admit(&p, &e[0], 0, &probe_size), POISON_PROBE);
	assert_int_equal(probe_size, 0);
	poison_probing(&p, 0);
	assert_int_equal(poison_admit(&p, &e[0], 0, &probe_size), POISON_WAIT);
	(void)poison_answered(&p, NULL, PROBE_SIZE);
	assert_int_equal(poison_admit(&p, &e[0], 0, &probe_size), POISON_PROBE);
	assert_int_equal(probe_size, 500);
	poison_probing(&p, 500);
	(void)poison_answered(&p, NULL, 500);
	assert_int_equal(poison_admit(&p, &e[0], 0, &probe_size), POISON_GO);
	assert_int_equal(poison_lost(&p, e, 1, POISON_EVIDENCE_RIGHTS), POISON_DENIED);
	poison_connected(&p, &sizes, true, true);
	for (int i = 0; i < 10; i++)
		assert_int_equal(poison_lost(&p, e, 1, POISON_EVIDENCE_NONE), POISON_INNOCENT);
}

/* A broker that answers controls and ends the connection over every event is slowed down. */
static void test_conviction_of_all_is_slowed_down(void **state)
{
	static struct world w;
	unsigned quick = 0;

	(void)state;
	make_world(&w, 1);
	w.n = 40;
	w.window = 10;
	w.temper = ANSWERS_NOTHING;
	w.flaps = 0;
	for (size_t i = 0; i < w.n; i++)
		w.events[i].bad = true;
	while (!over(&w)) {
		connection(&w);
		quick += poison_progress(&w.p);
	}
	assert_in_range(quick, 1, 3 * POISON_UNPUNISHED + 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attempts),
		cmocka_unit_test(test_ordering_keys),
		cmocka_unit_test(test_denied),
		cmocka_unit_test(test_denied_attempts_are_bounded),
		cmocka_unit_test(test_a_long_row_of_refusals),
		cmocka_unit_test(test_poison_is_found),
		cmocka_unit_test(test_sizes_are_found),
		cmocka_unit_test(test_broken_broker_convicts_nobody),
		cmocka_unit_test(test_poison_with_repeats),
		cmocka_unit_test(test_reason_of_the_broker),
		cmocka_unit_test(test_poison_without_probes),
		cmocka_unit_test(test_poison_evidence),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_conviction_of_all_is_slowed_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
