/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What PUBACKs of our own need: where libmosquitto's packets end, and the queue of messages that wait
 * for a commit. Each stream is given whole, byte by byte and in random pieces.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "spooler/base/util.h"
#include "spooler/mqtt/held.h"
#include "spooler/mqtt/outbound.h"

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static const struct {
	const char *name;
	const uint8_t *in;
	size_t n;
	bool between;
} rows[] = {
	{"nothing", BYTES(0), false},
	{"PUBLISH, PINGREQ", BYTES(0x32, 5, 0, 1, 'a', 0, 9, 0xc0, 0), true},
	{"an empty packet", BYTES(0xe0, 0), true},
	{"its body looks like packets", BYTES(0x82, 4, 0xc0, 0, 0xc0, 0), true},
	{"half a PUBLISH", BYTES(0x32, 5, 0, 1, 'a'), false},
	{"half a length", BYTES(0x32, 0x80), false},
	{"a type", BYTES(0xc0, 0, 0x32), false},
};

static void test_outbound(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(rows); i++)
		for (unsigned most = 1; most < 16; most++) {
			struct outbound o = {0};
			size_t k;

			assert_true(outbound_is_between(&o));
			for (size_t done = 0; done < rows[i].n; done += k) {
				k = 1 + (size_t)rand() % most;
				k = k < rows[i].n - done ? k : rows[i].n - done;
				outbound_pass(&o, rows[i].in + done, k);
			}
			if (outbound_is_between(&o) != rows[i].between)
				fail_msg("%s, pieces up to %u", rows[i].name, most);
		}
}

/* A long packet's length has up to four bytes. */
static void test_outbound_length(void **state)
{
	struct outbound o = {0};
	uint8_t *stream = calloc(1, 3000005);

	(void)state;
	assert_non_null(stream);
	memcpy(stream, (uint8_t[]){0x30, 0xc0, 0x8d, 0xb7, 0x01}, 5); /* 3,000,000 bytes */
	outbound_pass(&o, stream, 3000004);
	assert_false(outbound_is_between(&o));
	outbound_pass(&o, stream, 1);
	assert_true(outbound_is_between(&o));
	free(stream);
}

/* Against a plain array: any mix of arrivals and commits, identifiers used again while held. */
static void test_held_is_a_queue(void **state)
{
	enum { N = 20000 };
	struct held h = {0};
	static uint16_t ids[N + 1];
	uint64_t added = 0, taken = 0, committed = 0, bytes = 0;
	uint16_t id;

	(void)state;
	while (taken < N) {
		if (added < N && rand() % 3) {
			added++;
			ids[added] = (uint16_t)(rand() % 50 + 1);
			assert_int_equal(held_add(&h, ids[added], added, (uint32_t)added), 0);
			bytes += added;
		} else {
			committed += (uint64_t)rand() % 40;
			committed = committed > added ? added : committed;
			while (held_take(&h, committed, &id)) {
				taken++;
				bytes -= taken;
				assert_int_equal(id, ids[taken]);
			}
			assert_int_equal(taken, committed);
		}
		assert_int_equal(h.n, added - taken);
		assert_int_equal(h.bytes, bytes);
	}
	held_release(&h);
}

static void test_held_of_another_connection(void **state)
{
	struct held h = {0};
	uint16_t id;

	(void)state;
	assert_false(held_take(&h, 100, &id));
	assert_int_equal(held_add(&h, 7, 101, 1), 0);
	assert_false(held_take(&h, 100, &id)); /* what was committed before it came */
	assert_true(held_take(&h, 101, &id));
	assert_int_equal(id, 7);
	held_release(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_outbound),
		cmocka_unit_test(test_outbound_length),
		cmocka_unit_test(test_held_is_a_queue),
		cmocka_unit_test(test_held_of_another_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
