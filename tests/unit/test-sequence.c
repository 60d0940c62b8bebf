/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Holes in (epoch, sequence): each row is a stream of numbers and what the last of them means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/spool/sequence.h"
#include "spooler/base/util.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct seen {
	const char *epoch;
	uint64_t sequence;
};

static const struct {
	const char *name;
	struct seen stream[8];
	enum sequence_meaning last;
	uint64_t highest, missing;
	size_t holes;
} table[] = {
	{"the first begins anywhere", {{A, 17}}, SEQUENCE_NEXT, 17, 0, 0},
	{"in order", {{A, 1}, {A, 2}, {A, 3}}, SEQUENCE_NEXT, 3, 0, 0},
	{"a hole of one", {{A, 1}, {A, 3}}, SEQUENCE_HOLE, 3, 1, 1},
	{"a hole of many", {{A, 1}, {A, 100}}, SEQUENCE_HOLE, 100, 98, 1},
	{"a repetition", {{A, 1}, {A, 2}, {A, 1}}, SEQUENCE_REPEAT, 2, 0, 0},
	{"a hole is filled", {{A, 1}, {A, 3}, {A, 2}}, SEQUENCE_LATE, 3, 0, 0},
	{"filled twice", {{A, 1}, {A, 3}, {A, 2}, {A, 2}}, SEQUENCE_REPEAT, 3, 0, 0},
	{"filled at its beginning", {{A, 1}, {A, 5}, {A, 2}}, SEQUENCE_LATE, 5, 2, 1},
	{"filled at its end", {{A, 1}, {A, 5}, {A, 4}}, SEQUENCE_LATE, 5, 2, 1},
	{"filled in the middle", {{A, 1}, {A, 5}, {A, 3}}, SEQUENCE_LATE, 5, 2, 2},
	{"two holes, the first filled", {{A, 1}, {A, 3}, {A, 5}, {A, 2}}, SEQUENCE_LATE, 5, 1, 1},
	{"another epoch", {{A, 1}, {A, 5}, {B, 1}}, SEQUENCE_EPOCH, 1, 0, 0},
	{"within another epoch", {{A, 9}, {B, 1}, {B, 3}}, SEQUENCE_HOLE, 3, 1, 1},
};

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct sequence s = {0};
		enum sequence_meaning last = SEQUENCE_NEXT;

		for (size_t k = 0; k < ELEMENTSOF(table[i].stream) && table[i].stream[k].epoch;
		     k++) {
			const struct seen *seen = &table[i].stream[k];
			enum sequence_meaning peeked =
				sequence_peek(&s, seen->epoch, seen->sequence);

			last = sequence_see(&s, seen->epoch, seen->sequence);
			assert_int_equal(peeked, last);
		}
		if (last != table[i].last || s.highest != table[i].highest ||
		    s.missing != table[i].missing || s.n_holes != table[i].holes)
			fail_msg("%s: meaning %d, highest %lu, missing %lu, holes %zu",
				 table[i].name, last, (unsigned long)s.highest,
				 (unsigned long)s.missing, s.n_holes);
	}
}

/* More holes than are remembered: the sum stays right, and the list within its bounds. */
static void test_many_holes(void **state)
{
	struct sequence s = {0};

	(void)state;
	for (uint64_t i = 0; i <= 3 * SEQUENCE_HOLES_MAX; i++)
		(void)sequence_see(&s, A, 1 + 2 * i);
	assert_int_equal(s.missing, 3 * SEQUENCE_HOLES_MAX);
	assert_int_equal(s.n_holes, SEQUENCE_HOLES_MAX);
	assert_int_equal(sequence_see(&s, A, s.highest - 1), SEQUENCE_LATE);
	assert_int_equal(sequence_see(&s, A, 2), SEQUENCE_REPEAT);
	assert_int_equal(s.missing, 3 * SEQUENCE_HOLES_MAX - 1);
}

/* A full list whose middle hole is split keeps its order. */
static void test_split_when_full(void **state)
{
	struct sequence s = {0};

	(void)state;
	for (uint64_t i = 0; i <= SEQUENCE_HOLES_MAX; i++)
		(void)sequence_see(&s, A, 1 + 4 * i);
	assert_int_equal(s.n_holes, SEQUENCE_HOLES_MAX);
	assert_int_equal(sequence_see(&s, A, 4 * 10 + 3), SEQUENCE_LATE);
	assert_int_equal(s.n_holes, SEQUENCE_HOLES_MAX);
	for (size_t i = 1; i < s.n_holes; i++)
		assert_true(s.holes[i - 1].last < s.holes[i].first);
	assert_int_equal(sequence_see(&s, A, 4 * 10 + 2), SEQUENCE_LATE);
	assert_int_equal(sequence_see(&s, A, 4 * 10 + 4), SEQUENCE_LATE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_many_holes),
		cmocka_unit_test(test_split_when_full),
	};

	return cmocka_run_group_tests_name("sequence", tests, NULL, NULL);
}
