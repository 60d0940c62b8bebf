/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which numbers of an epoch are missing: rows of what is seen, and any order of random numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/base/util.h"
#include "spooler/recorder/coverage.h"

/* n: seen; -n: the epoch ends with n; n + LOST: lost on the host. */
#define LOST 1000

static const struct {
	const char *name;
	bool first;
	int64_t steps[8];
	const char *holes;
} table[] = {
	{"in order", false, {1, 2, 3}, ""},
	{"begins late", false, {3}, "1-2"},
	{"the first epoch begins anywhere", true, {3, 5}, "4-4"},
	{"the first epoch, backwards", true, {5, 3}, "4-4"},
	{"a hole is filled", false, {1, 3, 2}, ""},
	{"filled in the middle", false, {1, 5, 3}, "2-2 4-4"},
	{"a repetition", false, {1, 3, 3, 1}, "2-2"},
	{"the end is missed", false, {1, -3}, "2-3"},
	{"the end was seen", false, {1, 2, 3, -3}, ""},
	{"the end, then late", false, {1, -3, 2, 3}, ""},
	{"the end before all", false, {-3, 2}, "1-1 3-3"},
	{"what adjoins is one hole", false, {1, -3, 6}, "2-5"},
	{"lost", false, {1, 5, LOST + 3}, "2-2 3-3! 4-4"},
	{"lost before it is missed", false, {1, LOST + 3, 5}, "2-2 3-3! 4-4"},
	{"lost twice", false, {1, 5, LOST + 3, LOST + 3, LOST + 4}, "2-2 3-4!"},
	{"lost, and seen all the same", false, {1, 5, LOST + 3, 3}, "2-2 4-4"},
	{"lost, but seen before", false, {1, 2, 3, LOST + 2}, ""},
};

static void apply(struct coverage *c, int64_t step)
{
	struct hole h;

	if (step < 0)
		coverage_end(c, -step, 7);
	else if (step > LOST)
		coverage_lose(c, step - LOST, step - LOST, 7);
	else
		(void)coverage_see(c, step, 7, &h);
}

static void print(const struct coverage *c, char *text, size_t size)
{
	size_t n = 0;

	text[0] = 0;
	for (size_t i = 0; i < c->n_holes; i++)
		n += (size_t)snprintf(text + n, size - n, "%s%d-%d%s", i ? " " : "",
				      (int)c->holes[i].first, (int)c->holes[i].last,
				      c->holes[i].lost ? "!" : "");
}

static void test_table(void **state)
{
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct coverage c = {.begin_at = 1, .first_epoch = table[i].first};
		char text[256];

		for (size_t k = 0; k < ELEMENTSOF(table[i].steps) && table[i].steps[k]; k++)
			apply(&c, table[i].steps[k]);
		print(&c, text, sizeof(text));
		if (strcmp(text, table[i].holes) != 0)
			fail_msg("%s: '%s' instead of '%s'", table[i].name, text, table[i].holes);
		coverage_release(&c);
	}
}

/* Numbers, ends and losses in a random order: the holes are those of any other order. */
static void test_any_order(void **state)
{
	srand(2026);
	for (int round = 0; round < 2000; round++) {
		int64_t steps[24];
		size_t n = 1 + (size_t)rand() % ELEMENTSOF(steps);
		char first[512], text[512];
		bool first_epoch = rand() % 3 == 0;

		for (size_t i = 0; i < n; i++) {
			int64_t x = 1 + rand() % 30;

			steps[i] = first_epoch	      ? x
				   : rand() % 8 == 0  ? LOST + x
				   : rand() % 12 == 0 ? -x
						      : x;
		}
		for (int order = 0; order < 6; order++) {
			struct coverage c = {.begin_at = 1, .first_epoch = first_epoch};

			for (size_t i = 0; i < n; i++) {
				apply(&c, steps[i]);
				if (rand() % 4 == 0)
					apply(&c, steps[(size_t)rand() % (i + 1)]);
			}
			print(&c, text, sizeof(text));
			if (order == 0)
				strcpy(first, text);
			else if (strcmp(first, text) != 0)
				fail_msg("round %d: '%s' and '%s'", round, first, text);
			coverage_release(&c);
			for (size_t i = n; i > 1; i--) {
				size_t k = (size_t)rand() % i;
				int64_t x = steps[k];

				steps[k] = steps[i - 1];
				steps[i - 1] = x;
			}
		}
	}
}

/* Which epoch is the first is known later. */
static void test_first_epoch_changes(void **state)
{
	struct coverage c = {.begin_at = 1, .first_epoch = true};
	char text[64];

	apply(&c, 5);
	apply(&c, 8);
	coverage_set_first(&c, false, 7);
	print(&c, text, sizeof(text));
	assert_string_equal(text, "1-4 6-7");
	assert_int_equal(coverage_missing(&c), 6);
	coverage_set_first(&c, true, 7);
	print(&c, text, sizeof(text));
	assert_string_equal(text, "6-7");
	coverage_release(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_any_order),
		cmocka_unit_test(test_first_epoch_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
