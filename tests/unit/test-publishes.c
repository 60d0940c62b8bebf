/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Publishes without an answer: their order, their room, and their answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/mqtt/publishes.h"

/* Answers in any order: the oldest changes when it is answered, and room comes with that. */
static void in_flight(void **state)
{
	struct publishes f = {0};

	(void)state;
	assert_int_equal(publishes_init(&f, 3), 0);
	assert_int_equal(publishes_room(&f, 2), 2);
	assert_true(publishes_add(&f, 7, 100));
	assert_false(publishes_add(&f, 8, 10));
	assert_false(publishes_add(&f, 9, 1));
	assert_int_equal(publishes_room(&f, 100), 0);
	assert_false(publishes_answer(&f, 8, 0x10));
	assert_false(publishes_answer(&f, 8, 0));
	assert_false(publishes_answer(&f, 1, 0));
	assert_int_equal(f.n, 2);
	assert_int_equal(f.bytes, 101);
	assert_int_equal(publishes_room(&f, 100), 0);
	assert_true(publishes_answer(&f, 7, 0x87));
	assert_int_equal(publishes_room(&f, 100), 2);
	assert_int_equal(publishes_room(&f, 1), 0);
	assert_true(publishes_answer(&f, 9, 0));
	assert_int_equal(f.bytes, 0);
	assert_int_equal(f.n_answers, 3);
	assert_int_equal(f.answers[0].mid, 8);
	assert_int_equal(f.answers[0].reason_code, 0x10);
	assert_int_equal(f.answers[1].mid, 7);
	assert_int_equal(f.answers[1].reason_code, 0x87);
	assert_true(publishes_add(&f, 10, 5));
	publishes_release(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
