/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What holds PUBACKs back: the splitter of libmosquitto's output, and the queue of messages that
 * wait for a commit. Each stream is given whole, byte by byte and in random pieces.
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
	bool hold;
	const uint8_t *in;
	size_t n_in;
	const uint8_t *out;
	size_t n_out;
	unsigned removed;
	bool between;
} rows[] = {
	{"nothing held", false, BYTES(0x40, 2, 0, 1, 0xc0, 0), BYTES(0x40, 2, 0, 1, 0xc0, 0), 0,
	 true},
	{"a PUBACK is removed", true, BYTES(0x40, 2, 0, 1), BYTES(0), 1, true},
	{"of MQTT 5 with reason and properties too", true,
	 BYTES(0xc0, 0, 0x40, 4, 0, 1, 0x87, 0, 0xe0, 0), BYTES(0xc0, 0, 0xe0, 0), 1, true},
	{"everything else passes", true,
	 BYTES(0x10, 1, 0x40, 0x82, 3, 0x40, 2, 0x40, 0x62, 2, 0, 1, 0xc0, 0, 0xe0, 0),
	 BYTES(0x10, 1, 0x40, 0x82, 3, 0x40, 2, 0x40, 0x62, 2, 0, 1, 0xc0, 0, 0xe0, 0), 0, true},
	{"between others", true,
	 BYTES(0x40, 2, 0, 1, 0x32, 5, 0, 1, 'a', 0, 9, 0x40, 2, 0, 2, 0x40, 2, 0, 3, 0xc0, 0),
	 BYTES(0x32, 5, 0, 1, 'a', 0, 9, 0xc0, 0), 3, true},
	{"half a PUBLISH", true, BYTES(0x32, 5, 0, 1, 'a'), BYTES(0x32, 5, 0, 1, 'a'), 0, false},
	{"half a length", true, BYTES(0x32, 0x80), BYTES(0x32, 0x80), 0, false},
};

static void check_row(size_t i, unsigned piece_max)
{
	struct outbound o = {.hold = rows[i].hold};
	uint8_t got[64], piece[64];
	size_t n = 0, begin = 0, k;
	size_t n_out = rows[i].removed && rows[i].out[0] == 0 ? 0 : rows[i].n_out;

	while (begin < rows[i].n_in) {
		k = 1 + (piece_max > 1 ? (size_t)rand() % piece_max : 0);
		k = k < rows[i].n_in - begin ? k : rows[i].n_in - begin;
		memcpy(piece, rows[i].in + begin, k);
		begin += k;
		k = outbound_filter(&o, piece, k);
		memcpy(got + n, piece, k);
		n += k;
	}
	if (n != n_out || memcmp(got, rows[i].out, n) != 0 || o.removed != rows[i].removed ||
	    outbound_is_between(&o) != rows[i].between)
		fail_msg("%s, pieces up to %u", rows[i].name, piece_max);
}

static void test_outbound(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(rows); i++)
		for (unsigned piece = 1; piece < 64; piece++)
			check_row(i, piece);
}

/* A long packet's length has up to four bytes. */
static void test_outbound_length(void **state)
{
	struct outbound o = {.hold = true};
	uint8_t *stream = calloc(1, 3000000 + 10);
	size_t n = 0;

	(void)state;
	assert_non_null(stream);
	memcpy(stream, (uint8_t[]){0x30, 0xc0, 0x8d, 0xb7, 0x01}, 5); /* 3,000,000 bytes */
	memset(stream + 5, 0x40, 3000000);
	memcpy(stream + 3000005, (uint8_t[]){0x40, 2, 0, 7}, 4);
	n = outbound_filter(&o, stream, 3000009);
	assert_int_equal(n, 3000005);
	assert_int_equal(o.removed, 1);
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
