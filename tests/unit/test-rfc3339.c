/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Moments as text and back: a table of both, in UTC and in a zone with summer time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/base/rfc3339.h"
#include "spooler/base/util.h"

static void writes_utc(void **state)
{
	static const struct {
		int64_t seconds;
		unsigned nsec, digits;
		const char *text;
	} table[] = {
		{0, 0, 0, "1970-01-01T00:00:00Z"},
		{1795248000, 250000000, 3, "2026-11-21T08:00:00.250Z"},
		{1795248000, 999999999, 6, "2026-11-21T08:00:00.999999Z"},
		{1795248000, 7, 9, "2026-11-21T08:00:00.000000007Z"},
		{-1, 0, 0, "1969-12-31T23:59:59Z"},
		{253402300799, 0, 0, "9999-12-31T23:59:59Z"},
		{253402300800, 0, 3, "@253402300800"},
		{INT64_MAX, 0, 3, "@9223372036854775807"},
	};
	char text[RFC3339_SIZE];

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		rfc3339_utc(table[i].seconds, table[i].nsec, table[i].digits, text);
		assert_string_equal(text, table[i].text);
	}
}

static void writes_local(void **state)
{
	char text[RFC3339_SIZE];

	(void)state;
	rfc3339_local(1795248000250, text);
	assert_string_equal(text, "2026-11-21 09:00:00.250+01:00");
	rfc3339_local(1782900000000, text);
	assert_string_equal(text, "2026-07-01 12:00:00.000+02:00");
	rfc3339_local(UINT64_MAX, text);
	assert_int_equal(text[0], '@');
}

static void reads(void **state)
{
	static const struct {
		const char *text;
		bool good;
		int64_t usec;
	} table[] = {
		{"1970-01-01T00:00:00Z", true, 0},
		{"2026-11-21T08:00:00.250Z", true, 1795248000250000},
		{"2026-11-21T08:00:00.1234567Z", true, 1795248000123456},
		{"2026-11-21T08:00:00", false, 0},
		{"2026-11-21T08:00:00+01:00", false, 0},
		{"2026-11-21 08:00:00Z", false, 0},
		{"2028-02-29T23:59:59Z", true, 1835481599000000},
		{"2026-13-01T00:00:00Z", false, 0},
		{"2026-11-21T24:00:00Z", false, 0},
		{"2026-11-21T08:00", false, 0},
		{"1969-12-31T23:59:59Z", false, 0},
		{"", false, 0},
		{"now", false, 0},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		int64_t usec = 0;

		assert_int_equal(rfc3339_parse_utc(table[i].text, &usec), table[i].good);
		assert_true(!table[i].good || usec == table[i].usec);
	}
}

static void reads_an_offset(void **state)
{
	static const struct {
		const char *text;
		int64_t usec; /* -1: refused */
	} table[] = {
		{"2026-11-21T08:00:00.250Z", 1795248000250000},
		{"2026-11-21T09:00:00.250+01:00", 1795248000250000},
		{"2026-11-21T04:30:00.250-03:30", 1795248000250000},
		{"2026-11-21T09:00:00+01", -1},
		{"2026-11-21T09:00:00+01:00Z", -1},
		{"2026-11-21T09:00:00", -1},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		int64_t usec = -1;

		assert_int_equal(rfc3339_parse(table[i].text, &usec), table[i].usec >= 0);
		assert_int_equal(usec, table[i].usec);
	}
}

static int use_zone(void **state)
{
	(void)state;
	(void)setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_utc),
		cmocka_unit_test(writes_local),
		cmocka_unit_test(reads),
		cmocka_unit_test(reads_an_offset),
	};

	return cmocka_run_group_tests_name("rfc3339", tests, use_zone, NULL);
}
