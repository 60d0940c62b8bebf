/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a broker sends, as far as libmosquitto may see it, and the messages in it. Each row is given
 * in one piece, then byte by byte, and in both cases the same must come out.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "spooler/mqtt/inbound.h"
#include "spooler/base/util.h"

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
#define OK 0x20, 3, 0, 0, 0 /* CONNACK of MQTT 5 */

static const struct {
	const char *name;
	bool subscriber, v311;
	const uint8_t *in;
	size_t n_in;
	const uint8_t *out; /* NULL: refused */
	size_t n_out;
	const char *why; /* part of the sentence */
	unsigned packets;
	int disconnect_reason; /* -1: none */
} rows[] = {
	{"CONNACK", 0, 0, BYTES(OK), BYTES(OK), NULL, 1, -1},
	{"CONNACK and PUBACKs", 0, 0, BYTES(OK, 0x40, 2, 0, 1, 0x40, 3, 0, 2, 0x87),
	 BYTES(OK, 0x40, 2, 0, 1, 0x40, 3, 0, 2, 0x87), NULL, 3, -1},
	{"empty packet", 0, 0, BYTES(OK, 0xd0, 0), BYTES(OK, 0xd0, 0), NULL, 2, -1},
	{"properties, and one byte too many", 0, 0,
	 BYTES(OK, 0x40, 12, 0, 1, 0, 8, 0x1f, 0, 1, 'x', 0x21, 0, 1, 0), NULL, 0,
	 "unknown MQTT property (0x00)", 0, -1},
	{"reason string and user property", 0, 0,
	 BYTES(OK, 0x40, 15, 0, 1, 0x87, 11, 0x1f, 0, 1, 'x', 0x26, 0, 1, 'k', 0, 1, 'v'),
	 BYTES(OK, 0x40, 15, 0, 1, 0x87, 11, 0x1f, 0, 1, 'x', 0x26, 0, 1, 'k', 0, 1, 'v'), NULL, 2,
	 -1},
	{"empty strings", 0, 0, BYTES(OK, 0x40, 9, 0, 1, 0, 5, 0x26, 0, 0, 0, 0),
	 BYTES(OK, 0x40, 9, 0, 1, 0, 5, 0x26, 0, 0, 0, 0), NULL, 2, -1},
	{"unknown property", 0, 0, BYTES(OK, 0x40, 6, 0, 1, 0, 2, 0x04, 0), NULL, 0,
	 "unknown MQTT property (0x04)", 0, -1},
	{"unknown property, high", 0, 0, BYTES(OK, 0x40, 6, 0, 1, 0, 2, 0xff, 0), NULL, 0,
	 "unknown MQTT property (0xff)", 0, -1},
	{"unknown property in CONNACK", 0, 0, BYTES(0x20, 5, 0, 0, 2, 0x2b, 0), NULL, 0,
	 "unknown MQTT property (0x2b)", 0, -1},
	{"properties of CONNACK", 0, 0, BYTES(0x20, 11, 0, 0, 8, 0x21, 0, 1, 0x27, 0, 1, 0, 0),
	 BYTES(0x20, 11, 0, 0, 8, 0x21, 0, 1, 0x27, 0, 1, 0, 0), NULL, 1, -1},
	{"properties longer than the packet", 0, 0, BYTES(OK, 0x40, 4, 0, 1, 0, 9), NULL, 0,
	 "malformed properties", 0, -1},
	{"string longer than the properties", 0, 0, BYTES(OK, 0x40, 8, 0, 1, 0, 4, 0x1f, 0, 9, 'x'),
	 NULL, 0, "malformed properties", 0, -1},
	{"number longer than the properties", 0, 0, BYTES(OK, 0x40, 6, 0, 1, 0, 2, 0x27, 0), NULL,
	 0, "malformed properties", 0, -1},
	{"length of the properties of five bytes", 0, 0,
	 BYTES(OK, 0x40, 9, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 1), NULL, 0, "malformed properties", 0,
	 -1},
	{"unknown property in SUBACK", 1, 0, BYTES(OK, 0x90, 6, 0, 1, 2, 0x04, 0, 0), NULL, 0,
	 "unknown MQTT property (0x04)", 0, -1},
	{"unknown property in DISCONNECT", 0, 0, BYTES(OK, 0xe0, 3, 0x8e, 1, 0x04), NULL, 0,
	 "unknown MQTT property (0x04)", 0, -1},
	{"unknown property in PUBLISH", 1, 0, BYTES(OK, 0x32, 8, 0, 1, 'a', 0, 9, 2, 0x04, 0), NULL,
	 0, "unknown MQTT property (0x04)", 0, -1},
	{"topic longer than the packet", 1, 0, BYTES(OK, 0x30, 3, 0, 9, 'a'), NULL, 0,
	 "malformed properties", 0, -1},
	{"unknown property in PUBLISH of QoS 0 with an empty topic", 1, 0,
	 BYTES(OK, 0x30, 5, 0, 0, 2, 0x04, 0), NULL, 0, "without a topic", 0, -1},
	{"empty topic", 1, 0, BYTES(OK, 0x32, 6, 0, 0, 0, 9, 0, 'p'), NULL, 0, "without a topic", 0,
	 -1},
	{"reason code that no PUBACK has", 0, 0,
	 BYTES(OK, 0x40, 3, 0, 1, 0xc3, 0x40, 4, 0, 2, 0x42, 0, 0x40, 3, 0, 3, 0x95),
	 BYTES(OK, 0x40, 3, 0, 1, 0x80, 0x40, 4, 0, 2, 0x00, 0, 0x40, 3, 0, 3, 0x80), NULL, 4, -1},
	{"each reason code that a PUBACK has", 0, 0,
	 BYTES(OK, 0x40, 3, 0, 1, 0x10, 0x40, 3, 0, 1, 0x83, 0x40, 3, 0, 1, 0x87, 0x40, 3, 0, 1,
	       0x90, 0x40, 3, 0, 1, 0x91, 0x40, 3, 0, 1, 0x97, 0x40, 3, 0, 1, 0x99),
	 BYTES(OK, 0x40, 3, 0, 1, 0x10, 0x40, 3, 0, 1, 0x83, 0x40, 3, 0, 1, 0x87, 0x40, 3, 0, 1,
	       0x90, 0x40, 3, 0, 1, 0x91, 0x40, 3, 0, 1, 0x97, 0x40, 3, 0, 1, 0x99),
	 NULL, 8, -1},
	{"reason code of PUBREC and of PUBCOMP", 0, 0,
	 BYTES(OK, 0x50, 3, 0, 1, 0xff, 0x70, 3, 0, 1, 0x92, 0x70, 3, 0, 1, 0x10),
	 BYTES(OK, 0x50, 3, 0, 1, 0x80, 0x70, 3, 0, 1, 0x92, 0x70, 3, 0, 1, 0x00), NULL, 4, -1},
	{"3.1.1 has no reason code", 0, 1, BYTES(0x20, 2, 0, 0, 0x40, 2, 0xc3, 0xc3),
	 BYTES(0x20, 2, 0, 0, 0x40, 2, 0xc3, 0xc3), NULL, 2, -1},
	{"what is skipped is not looked at", 0, 0, BYTES(OK, 0x30, 5, 0, 1, 'a', 1, 4), BYTES(OK),
	 NULL, 2, -1},
	{"3.1.1 has no properties", 0, 1, BYTES(0x20, 2, 0, 0, 0x40, 2, 4, 4),
	 BYTES(0x20, 2, 0, 0, 0x40, 2, 4, 4), NULL, 2, -1},
	{"half a packet passes", 0, 0, BYTES(OK, 0x40, 2, 0), BYTES(OK, 0x40, 2, 0), NULL, 1, -1},
	{"publish unasked", 0, 0, BYTES(OK, 0x30, 4, 0, 1, 'a', 0, 0xd0, 0), BYTES(OK, 0xd0, 0),
	 NULL, 3, -1},
	{"retained publish unasked", 0, 0, BYTES(OK, 0x31, 4, 0, 1, 'a', 0), BYTES(OK), NULL, 2,
	 -1},
	{"publish, empty, unasked", 0, 0, BYTES(OK, 0x30, 0, 0xd0, 0), BYTES(OK, 0xd0, 0), NULL, 3,
	 -1},
	{"publish of 256 MiB unasked begins", 0, 0, BYTES(OK, 0x30, 0xff, 0xff, 0xff, 0x7f, 1, 2),
	 BYTES(OK), NULL, 1, -1},
	{"empty topic in 3.1.1", 1, 1, BYTES(0x20, 2, 0, 0, 0x30, 2, 0, 0), NULL, 0,
	 "without a topic", 0, -1},
	{"publish, empty", 1, 0, BYTES(OK, 0x30, 0), NULL, 0, "ends too early", 0, -1},
	{"publish that ends in its topic", 1, 0, BYTES(OK, 0x30, 3, 0, 2, 'a'), NULL, 0,
	 "malformed properties", 0, -1},
	{"publish that ends before its properties", 1, 0, BYTES(OK, 0x32, 5, 0, 1, 'a', 0, 9), NULL,
	 0, "ends too early", 0, -1},
	{"packet identifier 0", 1, 0, BYTES(OK, 0x32, 6, 0, 1, 'a', 0, 0, 0), NULL, 0,
	 "without a packet identifier", 0, -1},
	{"publish of QoS 2 was not asked for", 1, 0, BYTES(OK, 0x34, 6, 0, 1, 'a', 0, 9, 0),
	 BYTES(OK), NULL, 2, -1},
	{"publish of the largest size begins", 1, 0, BYTES(OK, 0x30, 0x80, 0x08, 1), BYTES(OK),
	 NULL, 1, -1},
	{"publish larger than that", 1, 0, BYTES(OK, 0x30, 0x81, 0x08, 1), NULL, 0,
	 "a packet of 1025 bytes; the limit is 1024", 0, -1},
	{"PUBACK of 256 MiB", 0, 0, BYTES(OK, 0x40, 0xff, 0xff, 0xff, 0x7f), NULL, 0,
	 "a packet of 268435455 bytes", 0, -1},
	{"length of five bytes", 0, 0, BYTES(OK, 0x40, 0xff, 0xff, 0xff, 0xff, 1), NULL, 0,
	 "malformed packet length", 0, -1},
	{"DISCONNECT with a code", 0, 0, BYTES(OK, 0xe0, 2, 0x8e, 0), BYTES(OK, 0xe0, 2, 0x8e, 0),
	 NULL, 2, 0x8e},
	{"DISCONNECT without", 0, 0, BYTES(OK, 0xe0, 0), BYTES(OK, 0xe0, 0), NULL, 2, 0},
	{"DISCONNECT in 3.1.1", 0, 1, BYTES(OK, 0xe0, 0), NULL, 0, "invalid MQTT packet", 0, -1},
	{"HTTP", 0, 0, BYTES('H', 'T', 'T', 'P'), NULL, 0,
	 "does not speak MQTT (its first byte is 0x48", 0, -1},
	{"PUBACK before CONNACK", 0, 0, BYTES(0x40, 2, 0, 1), NULL, 0, "does not speak MQTT", 0,
	 -1},
	{"CONNACK with flags", 0, 0, BYTES(0x21, 2, 0, 0), NULL, 0, "does not speak MQTT", 0, -1},
	{"second CONNACK", 0, 0, BYTES(OK, OK), NULL, 0, "invalid MQTT packet (first byte 0x20)", 0,
	 -1},
	{"what only a client sends", 0, 0, BYTES(OK, 0x10, 0), NULL, 0, "(first byte 0x10)", 0, -1},
	{"SUBSCRIBE", 0, 0, BYTES(OK, 0x82, 0), NULL, 0, "(first byte 0x82)", 0, -1},
	{"AUTH", 0, 0, BYTES(OK, 0xf0, 0), NULL, 0, "(first byte 0xf0)", 0, -1},
	{"type 0", 0, 0, BYTES(OK, 0, 0), NULL, 0, "(first byte 0x00)", 0, -1},
	{"PUBACK with flags", 0, 0, BYTES(OK, 0x42, 2, 0, 1), NULL, 0, "(first byte 0x42)", 0, -1},
	{"PUBREL without its flags", 0, 0, BYTES(OK, 0x60, 2, 0, 1), NULL, 0, "(first byte 0x60)",
	 0, -1},
	{"PUBREL", 0, 0, BYTES(OK, 0x62, 2, 0, 1), NULL, 0, "(first byte 0x62)", 0, -1},
	{"publish of QoS 3", 1, 0, BYTES(OK, 0x36, 2, 0, 0), NULL, 0, "(first byte 0x36)", 0, -1},
};

static const struct {
	const char *name;
	bool v311;
	const uint8_t *in;
	size_t n_in;
	const uint8_t *out;
	size_t n_out;
	const char *messages; /* see on_message() */
} message_rows[] = {
	{"QoS 1", 0, BYTES(OK, 0x32, 6, 0, 1, 'a', 0, 9, 0), BYTES(OK), "a qos 1 id 9: ;"},
	{"subscription identifier", 0, BYTES(OK, 0x30, 8, 0, 1, 'a', 3, 0x0b, 0x80, 1, 'p'),
	 BYTES(OK), "a qos 0 id 0: p;"},
	{"retained, and sent before", 0,
	 BYTES(OK, 0x3b, 10, 0, 2, 'a', 'b', 0x12, 0x34, 0, 'x', 0, 'z'), BYTES(OK),
	 "ab qos 1 id 4660 retained: x.z;"},
	{"between other packets", 0,
	 BYTES(OK, 0x32, 7, 0, 1, 'a', 0, 1, 0, 'p', 0xd0, 0, 0x30, 5, 0, 1, 'b', 0, 'q', 0xd0, 0),
	 BYTES(OK, 0xd0, 0, 0xd0, 0), "a qos 1 id 1: p;b qos 0 id 0: q;"},
	{"3.1.1", 1, BYTES(0x20, 2, 0, 0, 0x32, 7, 0, 2, 'a', 'b', 0, 9, 'p', 0x30, 3, 0, 1, 'c'),
	 BYTES(0x20, 2, 0, 0), "ab qos 1 id 9: p;c qos 0 id 0: ;"},
};

/* Appends the message as text, with a dot for a zero byte. */
static void on_message(const struct inbound_message *m, void *userdata)
{
	char *text = userdata;

	assert_int_equal(strlen(m->topic), m->topic_size);
	sprintf(text + strlen(text), "%s qos %u id %u%s: ", m->topic, m->qos, m->packet_id,
		m->retain ? " retained" : "");
	for (size_t i = 0; i < m->size; i++)
		sprintf(text + strlen(text), "%c", m->payload[i] ? m->payload[i] : '.');
	strcat(text, ";");
}

static ssize_t filter(struct inbound *state, const uint8_t *in, size_t n, size_t step, uint8_t *out,
		      char *why, size_t size)
{
	size_t done = 0, kept = 0;
	ssize_t k;

	for (; done < n; done += step) {
		step = step < n - done ? step : n - done;
		memcpy(out + kept, in + done, step);
		k = inbound_filter(state, out + kept, step, why, size);
		if (k < 0)
			return k;
		kept += (size_t)k;
	}
	return (ssize_t)kept;
}

/* What comes of these bytes, given in pieces of `step`. */
struct result {
	struct inbound inbound;
	uint8_t out[64];
	ssize_t n;
	char messages[200], why[200];
};

static void run(struct result *r, bool subscriber, bool v311, const uint8_t *in, size_t n,
		size_t step)
{
	*r = (struct result){.inbound = {.message = subscriber ? on_message : NULL,
					 .userdata = r->messages,
					 .publish_max = 1024,
					 .v5 = !v311}};
	r->n = filter(&r->inbound, in, n, step, r->out, r->why, sizeof(r->why));
	inbound_release(&r->inbound);
}

static void check(const struct result *r, const char *name, const uint8_t *out, size_t n,
		  const char *messages)
{
	if (r->n != (ssize_t)n || memcmp(r->out, out, n) != 0)
		fail_msg("%s: %zd bytes come out, not %zu (%s)", name, r->n, n, r->why);
	if (strcmp(r->messages, messages) != 0)
		fail_msg("%s: messages '%s'", name, r->messages);
}

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(rows) * 2; i++) {
		__typeof__(rows[0]) *row = &rows[i / 2];
		struct result r;

		run(&r, row->subscriber, row->v311, row->in, row->n_in, i % 2 ? 1 : row->n_in);
		if (!row->out) {
			if (r.n != -EPROTO || !strstr(r.why, row->why))
				fail_msg("%s: refused with '%s', not '%s'", row->name, r.why,
					 row->why);
			continue;
		}
		check(&r, row->name, row->out, row->n_out, "");
		if (r.inbound.packets != row->packets)
			fail_msg("%s: %u packets", row->name, (unsigned)r.inbound.packets);
		if (r.inbound.disconnected != (row->disconnect_reason >= 0))
			fail_msg("%s: DISCONNECT", row->name);
		if (r.inbound.disconnected)
			assert_int_equal(r.inbound.disconnect_reason, row->disconnect_reason);
	}
}

static void test_messages(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(message_rows) * 2; i++) {
		__typeof__(message_rows[0]) *row = &message_rows[i / 2];
		struct result r;

		run(&r, true, row->v311, row->in, row->n_in, i % 2 ? 1 : row->n_in);
		check(&r, row->name, row->out, row->n_out, row->messages);
	}
}

/* However large it is, what is dropped takes no room and ends where it should. */
static void test_large_publish_is_dropped(void **state)
{
	struct inbound inbound = {.v5 = true};
	uint8_t head[] = {OK, 0x30, 0xff, 0xff, 0x7f}, tail[] = {0xd0, 0}, block[4096];
	size_t left = 0x1fffff;
	char why[200];

	(void)state;
	assert_int_equal(inbound_filter(&inbound, head, sizeof(head), why, sizeof(why)), 5);
	while (left > 0) {
		size_t n = left < sizeof(block) ? left : sizeof(block);

		memset(block, 0x10, sizeof(block));
		assert_int_equal(inbound_filter(&inbound, block, n, why, sizeof(why)), 0);
		left -= n;
	}
	assert_int_equal(inbound.packets, 2);
	assert_int_equal(inbound_filter(&inbound, tail, sizeof(tail), why, sizeof(why)), 2);
}

static void test_replaced_codes_are_noted(void **state)
{
	static uint8_t codes[UINT16_MAX + 1];
	struct inbound inbound = {.v5 = true, .codes = codes};
	uint8_t in[] = {OK, 0x40, 3, 0x12, 0x34, 0xc3, 0x40, 3, 0x12, 0x35, 0x87};
	char why[200];

	(void)state;
	for (size_t i = 0; i < sizeof(in); i++)
		assert_int_equal(inbound_filter(&inbound, in + i, 1, why, sizeof(why)), 1);
	assert_int_equal(codes[0x1234], 0xc3);
	assert_int_equal(codes[0x1235], 0);
	assert_int_equal(in[9], 0x80);
}

/* What libmosquitto answers, and nothing else. */
static void test_answers(void **state)
{
	uint8_t in[] = {OK,   0x32, 6, 0, 1,   'a', 0,	  9, 0, 0x50, 2,    0, 1,
			0x30, 4,    0, 1, 'a', 0,   0x40, 2, 0, 1,    0xd0, 0};
	char messages[200] = "", why[200];
	struct inbound i = {
		.v5 = true, .message = on_message, .userdata = messages, .publish_max = 1024};

	(void)state;
	assert_true(inbound_filter(&i, in, sizeof(in), why, sizeof(why)) > 0);
	assert_int_equal(i.answers, 1);
}

static size_t large_size;

static void on_large(const struct inbound_message *m, void *userdata)
{
	for (size_t i = 0; i < m->size; i++)
		assert_int_equal(m->payload[i], (uint8_t)(i * 7));
	large_size = m->size;
}

/* A message that comes in many pieces is one. */
static void test_large_message(void **state)
{
	enum { SIZE = 0x1fffff };
	struct inbound inbound = {.v5 = true, .message = on_large, .publish_max = SIZE};
	uint8_t head[] = {OK, 0x30, 0xff, 0xff, 0x7f, 0, 1, 'a', 0}, block[4096];
	size_t done = 0;
	char why[200];

	(void)state;
	assert_int_equal(inbound_filter(&inbound, head, sizeof(head), why, sizeof(why)), 5);
	while (done < SIZE - 4) {
		size_t n = SIZE - 4 - done < sizeof(block) ? SIZE - 4 - done : sizeof(block);

		for (size_t i = 0; i < n; i++)
			block[i] = (uint8_t)((done + i) * 7);
		assert_int_equal(inbound_filter(&inbound, block, n, why, sizeof(why)), 0);
		done += n;
	}
	assert_int_equal(large_size, SIZE - 4);
	assert_null(inbound.copy);
	inbound_release(&inbound);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_replaced_codes_are_noted),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_large_publish_is_dropped),
		cmocka_unit_test(test_large_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
