/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events that nobody heard: rows of them, and what a replay brings to consumers after all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/daemon/unheard.h"

static void note(struct unheard *u, bool heard, bool replayed, uint64_t first, uint64_t last)
{
	for (uint64_t t = first; t <= last; t++)
		unheard_note(u, heard, replayed, t);
}

static void a_replay_that_is_heard(void **state)
{
	struct unheard u = {0};

	(void)state;
	note(&u, true, false, 1, 5);
	note(&u, false, false, 100, 406);
	assert_int_equal(u.now.events, 307);
	assert_int_equal(u.now.since_usec, 100);
	note(&u, true, false, 407, 410);
	assert_int_equal(u.now.events, 0);
	assert_int_equal(u.before.events, 307);
	assert_int_equal(u.before.since_usec, 100);
	assert_int_equal(u.before.until_usec, 406);
	note(&u, false, true, 100, 200); /* too early: nobody is there again */
	assert_int_equal(u.now.events, 101);
	note(&u, true, true, 50, 99); /* others */
	assert_int_equal(u.before.events, 307);
	note(&u, true, true, 100, 405);
	assert_int_equal(u.before.events, 1);
	note(&u, true, true, 406, 410);
	assert_int_equal(u.before.events, 0);
	assert_int_equal(u.before.until_usec, 0);
}

static void rows_add_up_and_short_ones_are_not_mentioned(void **state)
{
	struct unheard u = {0};

	(void)state;
	note(&u, false, false, 1, UNHEARD_MENTIONED - 1);
	note(&u, true, false, 50, 50);
	assert_int_equal(u.before.events, 0);
	note(&u, false, false, 100, 119);
	note(&u, true, false, 120, 120);
	note(&u, false, false, 300, 329);
	note(&u, true, false, 330, 330);
	assert_int_equal(u.before.events, 50);
	assert_int_equal(u.before.since_usec, 100);
	assert_int_equal(u.before.until_usec, 329);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_replay_that_is_heard),
		cmocka_unit_test(rows_add_up_and_short_ones_are_not_mentioned),
	};

	return cmocka_run_group_tests_name("unheard", tests, NULL, NULL);
}
