/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whole numbers: a table of texts, and what they are or that they are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/base/number.h"
#include "spooler/base/util.h"

static const uint64_t factors[] = {1 << 10, 1 << 20};

static const struct {
	const char *text;
	bool good;
	uint64_t value;
} table[] = {
	{"0", true, 0},
	{"007", true, 7},
	{"18446744073709551615", true, UINT64_MAX},
	{"3K", true, 3 << 10},
	{"2M", true, 2 << 20},
	{"18014398509481983K", true, UINT64_MAX - 1023},

	{"", false, 0},
	{"-1", false, 0},
	{"+1", false, 0},
	{" 1", false, 0},
	{"1 ", false, 0},
	{"0x10", false, 0},
	{"1e3", false, 0},
	{"1KK", false, 0},
	{"1G", false, 0},
	{"K", false, 0},
	{"18446744073709551616", false, 0},
	{"99999999999999999999", false, 0},
	{"18446744073709551615K", false, 0},
	{"18014398509481984K", false, 0},
};

static void parses(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		uint64_t value = 0;

		assert_int_equal(number_parse(table[i].text, "KM", factors, &value), table[i].good);
		if (table[i].good)
			assert_true(value == table[i].value);
	}
}

static void takes_digits_only(void **state)
{
	const char *text = "12ab", *s = text;
	uint64_t value = 5;

	(void)state;
	assert_true(number_take(&s, &value));
	assert_true(value == 12 && s == text + 2);
	assert_false(number_take(&s, &value));
	assert_true(value == 12 && s == text + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses),
		cmocka_unit_test(takes_digits_only),
	};

	return cmocka_run_group_tests_name("number", tests, NULL, NULL);
}
