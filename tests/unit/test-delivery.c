/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pure parts of the delivery policy: attempts, the lanes of denied domains, the suspect. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/daemon/attempts.h"
#include "spooler/daemon/lanes.h"
#include "spooler/daemon/suspect.h"
#include "spooler/base/util.h"

static struct spool_id id(unsigned n)
{
	struct spool_id e = {0};

	memcpy(e.id, &n, sizeof(n));
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
	attempts_note(&a, &one, "busy");
	attempts_note(&a, &two, "lost");
	attempts_note(&a, &one, "denied");
	assert_int_equal(attempts_find(&a, &one)->count, 2);
	assert_string_equal(attempts_find(&a, &one)->why, "denied");
	attempts_forget(&a, &one);
	assert_null(attempts_find(&a, &one));
	assert_string_equal(attempts_find(&a, &two)->why, "lost");
	for (unsigned n = 3; n < 2 * ATTEMPTS_MAX; n++) {
		struct spool_id e = id(n);

		attempts_note(&a, &e, "more than there is room for");
	}
	assert_int_equal(a.n, ATTEMPTS_MAX);
	attempts_note(&a, &two, "who is there is still counted");
	assert_int_equal(attempts_find(&a, &two)->count, 2);
}

/* --- lanes */

static struct record record(const char *driver, const char *object)
{
	return (struct record){.driver = {driver, strlen(driver)},
			       .object = {object, strlen(object)}};
}

static void test_lane_keys(void **state)
{
	struct record web = record("qemu", "web"), again = record("qemu", "web"),
		      other = record("qemu", "web2"), driver = record("lxc", "web"),
		      shifted = record("qemu/w", "eb");

	(void)state;
	assert_true(lane_key(&web) == lane_key(&again));
	assert_true(lane_key(&web) != lane_key(&other));
	assert_true(lane_key(&web) != lane_key(&driver));
	assert_true(lane_key(&web) != lane_key(&shifted));
}

static void test_lanes(void **state)
{
	static struct lanes l; /* zeroed */
	struct lane *one, *two;

	(void)state;
	assert_null(lanes_find(&l, 1));
	assert_true(lanes_next_retry(&l, 0) == UINT64_MAX);
	one = lanes_close(&l, 1);
	two = lanes_close(&l, 2);
	assert_ptr_equal(lanes_find(&l, 1), one);
	one->retry_usec = 100;
	two->retry_usec = 50;
	two->probing = true;
	assert_int_equal(lanes_next_retry(&l, 0), 50);
	assert_int_equal(lanes_next_retry(&l, 50), 100); /* what is due is not waited for */
	lanes_forget_probes(&l);
	assert_false(two->probing);
	two->waiting = true;
	assert_int_equal(lanes_next_retry(&l, 60), 60); /* it is due, and one is held */
	two->probing = true;
	assert_int_equal(lanes_next_retry(&l, 60), 100);
	lanes_forget_probes(&l);
	lanes_forget_waiting(&l);
	assert_false(two->waiting);
	lanes_count_denial(&l);
	lanes_open(
		&l,
		one); /* the broker has granted a right: the other is due at once, and nothing is counted */
	assert_null(lanes_find(&l, 1));
	assert_int_equal(lanes_find(&l, 2)->retry_usec, 0);
	assert_int_equal(l.denials, 0);
	for (uint64_t key = 10; l.n < LANES_MAX; key++)
		assert_non_null(lanes_close(&l, key));
	assert_null(lanes_close(&l, 9999));
}

/* However they come, no more than a bucketful at once, and then one each LANES_DENIAL_USEC. */
static void test_denials(void **state)
{
	static struct lanes l; /* zeroed */
	uint64_t now = 1000 * USEC_PER_SEC;
	unsigned made = 0;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		if (lanes_may_be_denied(&l, now)) {
			lanes_count_denial(&l);
			made++;
		}
	}
	assert_int_equal(made, LANES_DENIALS_PER_MINUTE);
	assert_false(lanes_may_be_denied(&l, now + LANES_DENIAL_USEC - 1));
	for (uint64_t end = now + 60 * USEC_PER_SEC; now < end; now += USEC_PER_SEC / 10) {
		if (lanes_may_be_denied(&l, now)) {
			lanes_count_denial(&l);
			made++;
		}
	}
	assert_in_range(made, 2 * LANES_DENIALS_PER_MINUTE - 1, 2 * LANES_DENIALS_PER_MINUTE);
	now += 3600 * USEC_PER_SEC; /* an hour of peace saves up no more than a bucketful */
	made = 0;
	while (lanes_may_be_denied(&l, now)) {
		lanes_count_denial(&l);
		made++;
	}
	assert_int_equal(made, LANES_DENIALS_PER_MINUTE);
}

/* --- the suspect: what happens to connections, a letter each, and what is thought of event 1
   then */

static const struct {
	const char *name;
	const char *
		story; /* 1, 2: the connection was lost over it; a, b: 1, 2 was taken; n: there is no other event */
	bool alone, control, convicted;
} stories[] = {
	{"nothing happened", "", false, false, false},
	{"once may be chance", "1", false, false, false},
	{"three times: alone", "111", true, false, false},
	{"five times: another in its place", "11111", true, true, false},
	{"the other was taken, and it is guilty", "11111b", true, false, true},
	{"taken after all", "11111ba", false, false, false},
	{"taken alone", "111a", false, false, false},
	{"the other was not taken: it is the broker", "111112", true, false, false},
	{"and so on", "11111211", true, true, false},
	{"there is no other", "11111n", true, false, false},
	{"over different ones", "1212", false, false, false},
	{"who is taken in between proves nothing", "111b1", true, false, false},
};

static void test_suspect(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(stories); i++) {
		struct spool_id one = id(1), two = id(2);
		struct suspect s = {0};

		for (const char *p = stories[i].story; *p; p++) {
			if (*p == '1' || *p == '2')
				suspect_lost(&s, *p == '1' ? &one : &two, *p == '1' ? 100 : 200);
			else if (*p == 'n')
				suspect_without_control(&s);
			else
				(void)suspect_taken(&s, *p == 'a' ? &one : &two);
		}
		if (suspect_needs_alone(&s) != stories[i].alone ||
		    suspect_needs_control(&s) != stories[i].control ||
		    suspect_is_convicted(&s, &one) != stories[i].convicted ||
		    suspect_is_convicted(&s, &two))
			fail_msg("%s: %u strikes", stories[i].name, s.strikes);
	}
}

/* The control is of another domain, if there is any. */
static void test_suspect_bars(void **state)
{
	struct spool_id one = id(1), two = id(2);
	struct suspect s = {0};

	(void)state;
	for (int i = 0; i < 5; i++) {
		assert_false(suspect_bars(&s, &one, 100));
		suspect_lost(&s, &one, 100);
	}
	assert_true(suspect_bars(&s, &one, 100));
	assert_true(suspect_bars(&s, &two, 100));
	assert_false(suspect_bars(&s, &two, 200));
	suspect_without_control(&s);
	assert_false(suspect_bars(&s, &one, 100));
	suspect_lost(&s, &one, 100);
	suspect_lost(&s, &one, 100);
	assert_true(suspect_bars(&s, &one, 100));
	assert_false(suspect_bars(&s, &two, 100));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attempts), cmocka_unit_test(test_lane_keys),
		cmocka_unit_test(test_lanes),	 cmocka_unit_test(test_denials),
		cmocka_unit_test(test_suspect),	 cmocka_unit_test(test_suspect_bars),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
