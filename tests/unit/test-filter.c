/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --since, --until and the globs: tables of what is written and what is meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/spool/filter.h"
#include "spooler/base/util.h"

/* 2026-11-21 08:00:00 in UTC, 09:00:00 in the tests' zone (an hour ahead, two in summer). */
#define NOW 1795248000
#define ZONE "CET-1CEST,M3.5.0,M10.5.0/3"
#define TODAY (NOW - 9 * 3600)

static const struct {
	const char *text;
	int64_t expected_ms; /* -1: refused */
} times[] = {
	{"now", NOW * 1000LL},
	{"today", TODAY * 1000LL},
	{"Today", TODAY * 1000LL},
	{"yesterday", (TODAY - 86400) * 1000LL},
	{"yesterday 14:03", (TODAY - 86400 + 14 * 3600 + 180) * 1000LL},
	{"08:30", (TODAY + 8 * 3600 + 1800) * 1000LL},
	{"08:30:05", (TODAY + 8 * 3600 + 1805) * 1000LL},
	{"2026-11-21", TODAY * 1000LL},
	{"2026-11-21 09:00", NOW * 1000LL},
	{"2026-11-21T09:00:00", NOW * 1000LL},
	{"2026-11-21T08:00:00Z", NOW * 1000LL},
	{"2026-11-21 08:00:00 ", (NOW - 3600) * 1000LL},
	{"2026-11-21T08:00:00.250Z", NOW * 1000LL + 250},
	{"2026-11-21T08:00:00.123456789Z", NOW * 1000LL + 123},
	{"2026-11-21T10:00:00+02:00", NOW * 1000LL},
	{"2026-11-21T03:00:00-0500", NOW * 1000LL},
	{"2026-07-01 12:00", 1782900000000LL}, /* summer time */
	{"2024-02-29", 1709161200000LL},
	{"@1795248000", NOW * 1000LL},
	{"90s", (NOW - 90) * 1000LL},
	{"30m", (NOW - 1800) * 1000LL},
	{"2h", (NOW - 7200) * 1000LL},
	{"2 hours ago", (NOW - 7200) * 1000LL},
	{"1h30m", (NOW - 5400) * 1000LL},
	{"1h 30min ago", (NOW - 5400) * 1000LL},
	{"7d", (NOW - 7 * 86400) * 1000LL},
	{"2w", (NOW - 14 * 86400) * 1000LL},
	{"0s", NOW * 1000LL},
	{"100000d", 1}, /* before time began: everything */

	{"", -1},
	{" ", -1},
	{"2", -1},
	{"h", -1},
	{"2x", -1},
	{"2hx", -1},
	{"-2h", -1},
	{"2h tomorrow", -1},
	{"99999999999999999999h", -1},
	{"2026-13-01", -1},
	{"2026-02-29", -1},
	{"2026-11-31", -1},
	{"2026-11-00", -1},
	{"2026-11-21 24:00", -1},
	{"2026-11-21 12:60", -1},
	{"2026-11-21 12", -1},
	{"2026-11-21T", 1795215600000LL},
	{"2026-11-21T08:00:00Zulu", -1},
	{"2026-11-21T08:00:00+2", -1},
	{"1969-12-31", -1},
	{"@", -1},
	{"@12x", -1},
	{"@1234567890123", -1},
	{"todays", -1},
	{"now now", -1},
	{"25:00", -1},
};

static void test_times(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(times); i++) {
		uint64_t ms = 0;
		int r = filter_parse_time(times[i].text, NOW, &ms);
		int64_t result = r < 0 ? -1 : (int64_t)ms;

		if (result != times[i].expected_ms)
			fail_msg("'%s': %lld, expected %lld", times[i].text, (long long)result,
				 (long long)times[i].expected_ms);
	}
}

#define UUID "6a1f0c2e-1111-4222-8333-944445555666"

static const struct {
	const char *name;
	struct filter filter;
	const char *vm, *operation, *driver;
	bool needs_uuid, matches;
} matching[] = {
	{"nothing asked", {}, "web1", "start", "qemu", false, true},
	{"name", {.vm = "web1"}, "web1", "start", "qemu", false, true},
	{"another name", {.vm = "web1"}, "web12", "start", "qemu", false, false},
	{"glob", {.vm = "web*"}, "web12", "start", "qemu", false, true},
	{"glob with a question mark", {.vm = "web?"}, "web12", "start", "qemu", false, false},
	{"brackets in a name", {.vm = "a[1]"}, "a[1]", "start", "qemu", true, true},
	{"brackets as a glob", {.vm = "a[1]"}, "a1", "start", "qemu", true, true},
	{"UUID", {.vm = UUID}, "web1", "start", "qemu", true, true},
	{"UUID in upper case",
	 {.vm = "6A1F0C2E-1111-4222-8333-944445555666"},
	 "w",
	 "start",
	 "qemu",
	 true,
	 true},
	{"glob of a UUID", {.vm = "6a1f*"}, "web1", "start", "qemu", true, true},
	{"another UUID", {.vm = "7a1f*"}, "web1", "start", "qemu", true, false},
	{"a name of hexadecimal digits", {.vm = "beef"}, "beef", "start", "qemu", false, true},
	{"everything", {.vm = "*"}, "x/y", "start", "qemu", true, true},
	{"a leading dot is nothing special", {.vm = "*x"}, ".x", "start", "qemu", false, true},
	{"operation", {.operation = "re*"}, "web1", "release", "qemu", false, true},
	{"another operation", {.operation = "start"}, "web1", "started", "qemu", false, false},
	{"driver", {.driver = "lxc"}, "web1", "start", "qemu", false, false},
	{"all of them",
	 {.vm = "w*", .operation = "start", .driver = "qemu"},
	 "web1",
	 "start",
	 "qemu",
	 false,
	 true},
	{"all but one",
	 {.vm = "w*", .operation = "stop", .driver = "qemu"},
	 "web1",
	 "start",
	 "qemu",
	 false,
	 false},
};

static struct bytes bytes(const char *s)
{
	return (struct bytes){s, strlen(s)};
}

static void test_matching(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(matching); i++) {
		const struct record r = {
			.object = bytes(matching[i].vm),
			.operation = bytes(matching[i].operation),
			.driver = bytes(matching[i].driver),
		};

		if (filter_needs_uuid(&matching[i].filter) != matching[i].needs_uuid ||
		    filter_matches(&matching[i].filter, &r, UUID) != matching[i].matches)
			fail_msg("%s", matching[i].name);
	}
}

static void test_bounds(void **state)
{
	const struct filter f = {.since_ms = 1000, .until_ms = 2000}, open = {0};

	(void)state;
	assert_false(filter_matches_time(&f, 999));
	assert_true(filter_matches_time(&f, 1000));
	assert_true(filter_matches_time(&f, 1999));
	assert_false(filter_matches_time(&f, 2000));
	assert_true(filter_matches_time(&open, UINT64_MAX));
	assert_true(filter_is_empty(&open));
	assert_false(filter_is_empty(&f));
	assert_false(filter_needs_record(&f));
}

static int use_zone(void **state)
{
	(void)state;
	(void)setenv("TZ", ZONE, 1);
	tzset();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_matching),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests_name("filter", tests, use_zone, NULL);
}
