/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which answer is overdue: after silence, on a slow line, and with a broker that hardly reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/base/util.h"
#include "spooler/mqtt/timeouts.h"

#define S(n) ((n)*USEC_PER_SEC)
#define START S(1000)

static struct timeouts make(void)
{
	struct timeouts t = {
		.keep_alive_us = S(30),
		.connack_us = S(10),
		.puback_us = S(30),
		.pingresp_us = S(10),
	};

	timeouts_hello(&t, START);
	return t;
}

static void connack_and_pings(void **state)
{
	struct timeouts t = make();

	(void)state;
	assert_int_equal(timeouts_next(&t, false), START + S(10));
	assert_int_equal(timeouts_check(&t, false, START + S(10) - 1), TIMEOUT_NONE);
	assert_int_equal(timeouts_check(&t, false, START + S(10)), TIMEOUT_CONNACK);
	timeouts_connected(&t);
	assert_int_equal(timeouts_next(&t, false), START + S(30));
	assert_int_equal(timeouts_check(&t, false, START + S(30)), TIMEOUT_NONE);
	assert_true(t.ping_wanted);
	assert_int_equal(timeouts_check(&t, false, START + S(40) - 1), TIMEOUT_NONE);
	assert_int_equal(timeouts_check(&t, false, START + S(40)), TIMEOUT_PINGRESP);
	timeouts_received(&t, START + S(39));
	assert_int_equal(timeouts_check(&t, false, START + S(40)), TIMEOUT_NONE);
}

/* A publish is out, of which the broker takes `bytes` each `every`, from a connection that began
   at START. Returns when the connection is ended; 0: it lasts for an hour. */
static uint64_t slow_reader(size_t bytes, uint64_t every)
{
	struct timeouts t = make();

	timeouts_connected(&t);
	timeouts_oldest(&t, START);
	for (uint64_t now = START, taken = START + every; now < START + S(3600);) {
		uint64_t next = timeouts_next(&t, true);

		now = next < taken ? next : taken;
		if (timeouts_check(&t, true, now) != TIMEOUT_NONE)
			return now;
		if (t.ping_wanted) { /* it stays behind the publish: no answer */
			t.ping_wanted = false;
			timeouts_sent(&t, now);
		}
		if (now == taken) {
			timeouts_sent(&t, now);
			timeouts_sent_part(&t, bytes);
			taken += every;
		}
	}
	return 0;
}

static void a_slow_line_is_waited_for(void **state)
{
	(void)state;
	assert_int_equal(slow_reader(1024, S(1)), 0);
	assert_int_equal(slow_reader(8192, S(8)), 0);
}

static void a_broker_that_hardly_reads_is_not(void **state)
{
	(void)state;
	assert_int_equal(slow_reader(0, S(1)), START + S(30));
	assert_int_equal(slow_reader(1, S(29)), START + S(30)); /* a byte before each time-out */
	assert_int_equal(slow_reader(1, S(1)), START + S(30));
	assert_int_equal(slow_reader(400, S(1)), START + S(30));
	assert_int_equal(slow_reader(1, 1000), 0); /* 1,000 bytes a second, however they come */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connack_and_pings),
		cmocka_unit_test(a_slow_line_is_waited_for),
		cmocka_unit_test(a_broker_that_hardly_reads_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
