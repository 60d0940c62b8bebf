/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How connections end: what an hour's losses have in common. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/base/util.h"
#include "spooler/daemon/losses.h"

#define S(n) ((n)*USEC_PER_SEC)

/* One loss after the other, one each `every` seconds. */
static struct losses_summary of(const unsigned *silence_s, size_t n, unsigned every)
{
	struct losses l = {0};
	struct losses_summary s;

	for (size_t i = 0; i < n; i++)
		losses_note(&l, &(struct loss){.at_usec = S(10000 + i * every),
					       .silence_usec = S(silence_s[i % 16]),
					       .lasted_usec = S(silence_s[i % 16] + 1),
					       .idle = true});
	losses_summarize(&l, S(10000 + n * every), &s);
	return s;
}

static void idle_time_outs_are_steady(void **state)
{
	const unsigned proxy[16] = {60, 60, 61, 60, 12, 60, 60, 65, 60, 60, 60, 60, 61, 60, 3, 60};
	const unsigned two_clients[16] = {1, 2, 2, 4, 6, 9, 15, 21, 40, 31, 35, 52, 58, 33, 47, 39};
	struct losses_summary s = of(proxy, 16, 60);

	(void)state;
	assert_true(s.steady);
	assert_int_equal(s.silence_usec, S(60));
	assert_int_equal(s.lasted_usec, S(61));
	assert_int_equal(s.count, 16);
	assert_int_equal(s.idle, 16);
	assert_false(of(two_clients, 16, 60).steady);
	assert_false(of(two_clients + 8, 3, 60).steady);
	assert_false(of(NULL, 0, 1).steady);
}

/* A broker that is down for a moment is not one that throws us off. */
static void a_broker_that_cannot_be_reached(void **state)
{
	struct losses l = {0};
	struct losses_summary s;

	(void)state;
	losses_doubt(&l);
	for (unsigned i = 0; i < 3; i++) {
		losses_note(&l, &(struct loss){.at_usec = S(1 + i), .idle = true});
		if (i != 1)
			losses_doubt(&l);
	}
	losses_summarize(&l, S(5), &s);
	assert_int_equal(s.count, 3);
	assert_int_equal(s.idle, 1);
}

static void an_hour_at_most_and_what_is_remembered(void **state)
{
	const unsigned silence[16] = {0};
	struct losses l = {0};
	struct losses_summary s = of(silence, LOSSES_MAX - 1, 1);

	(void)state;
	assert_int_equal(s.span_usec, LOSSES_WINDOW_USEC);
	s = of(silence, 1000, 2); /* more than are remembered: the last ones, and since when */
	assert_int_equal(s.count, LOSSES_MAX);
	assert_int_equal(s.span_usec, S(2 * LOSSES_MAX));
	losses_note(&l, &(struct loss){.at_usec = S(1)});
	losses_summarize(&l, S(1) + LOSSES_WINDOW_USEC, &s);
	assert_int_equal(s.count, 1);
	losses_summarize(&l, S(2) + LOSSES_WINDOW_USEC, &s);
	assert_int_equal(s.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(idle_time_outs_are_steady),
		cmocka_unit_test(a_broker_that_cannot_be_reached),
		cmocka_unit_test(an_hour_at_most_and_what_is_remembered),
	};

	return cmocka_run_group_tests_name("losses", tests, NULL, NULL);
}
