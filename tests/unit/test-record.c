/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The record: every byte comes back, and what is torn, forged or foreign is refused with its
   reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hook/crc32c.h"
#include "hook/record.h"
#include "spooler/spool/record-parse.h"

#define BYTES(s) ((struct bytes){(s), sizeof(s) - 1})

static const struct stamp a_stamp = {
	.epoch = "0123456789abcdef0123456789abcdef",
	.sequence = 17,
	.ticks = 0x01a1fcd2c1c264dULL,
	.id = "01a1fcd2-c1c2-764d-8efb-0eff7cd3bec2",
};

static struct record a_record(void)
{
	return (struct record){
		.stamp = a_stamp,
		.recorded_ns = 1795242993026453604,
		.driver = BYTES("qemu"),
		.object = BYTES("web1"),
		.operation = BYTES("started"),
		.suboperation = BYTES("begin"),
		.extra = BYTES("-"),
		.argc = 4,
		.document = BYTES("<domain/>\n"),
	};
}

/* The whole record in memory that the caller frees, without a byte to spare. */
static char *formatted(const struct record *r, size_t *ret_size)
{
	char *header = malloc(RECORD_HEADER_MAX), *whole;
	size_t n = record_format_header(r, header, RECORD_HEADER_MAX);

	assert_true(n < RECORD_HEADER_MAX);
	*ret_size = n + r->document.size;
	whole = malloc(*ret_size);
	memcpy(whole, header, n);
	if (r->document.size)
		memcpy(whole + n, r->document.data, r->document.size);
	free(header);
	return whole;
}

static void assert_bytes_equal(struct bytes a, struct bytes b)
{
	assert_int_equal(a.size, b.size);
	assert_int_equal(a.data == NULL, b.data == NULL);
	if (a.size)
		assert_memory_equal(a.data, b.data, a.size);
}

static void assert_record_equal(const struct record *a, const struct record *b)
{
	assert_string_equal(a->stamp.id, b->stamp.id);
	assert_string_equal(a->stamp.epoch, b->stamp.epoch);
	assert_int_equal(a->stamp.sequence, b->stamp.sequence);
	assert_int_equal(a->stamp.ticks, b->stamp.ticks);
	assert_int_equal(a->recorded_ns, b->recorded_ns);
	assert_bytes_equal(a->driver, b->driver);
	assert_bytes_equal(a->object, b->object);
	assert_bytes_equal(a->operation, b->operation);
	assert_bytes_equal(a->suboperation, b->suboperation);
	assert_bytes_equal(a->extra, b->extra);
	assert_int_equal(a->n_arguments, b->n_arguments);
	for (unsigned i = 0; i < a->n_arguments; i++)
		assert_bytes_equal(a->arguments[i], b->arguments[i]);
	assert_bytes_equal(a->origin, b->origin);
	assert_bytes_equal(a->transition, b->transition);
	assert_int_equal(a->n_details, b->n_details);
	for (unsigned i = 0; i < a->n_details; i++)
		assert_bytes_equal(a->details[i], b->details[i]);
	assert_int_equal(a->argc, b->argc);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->redacted, b->redacted);
	assert_int_equal(a->document.size, b->document.size);
	if (a->document.size)
		assert_memory_equal(a->document.data, b->document.data, a->document.size);
}

static void assert_round_trip(const struct record *r)
{
	struct record back;
	const char *reason = NULL;
	size_t size;
	char *data = formatted(r, &size);

	if (record_parse(data, size, &back, &reason) != 0)
		fail_msg("refused: %s", reason);
	assert_record_equal(r, &back);
	free(data);
}

static void test_layout(void **state)
{
	static const char expected[] = "virtspool-record 1\n"
				       "id: 01a1fcd2-c1c2-764d-8efb-0eff7cd3bec2\n"
				       "epoch: 0123456789abcdef0123456789abcdef\n"
				       "sequence: 17\n"
				       "recorded: 2026-11-21T06:36:33.026453604Z\n"
				       "driver: qemu\n"
				       "arguments: 4\n"
				       "object: a%25b%0Acrc32c: 00%C3%A4\n"
				       "operation: started\n"
				       "suboperation: begin\n"
				       "extra: \n"
				       "flags: document-truncated unordered\n"
				       "redacted: 2\n"
				       "length: 10\n"
				       "crc32c: ";
	struct record r = a_record();
	size_t size;
	char *data;

	(void)state;
	r.object = BYTES("a%b\ncrc32c: 00\xc3\xa4");
	r.extra = BYTES("");
	r.flags = RECORD_DOCUMENT_TRUNCATED | RECORD_UNORDERED;
	r.redacted = 2;
	data = formatted(&r, &size);
	assert_int_equal(size, sizeof(expected) - 1 + 8 + 2 + 10);
	assert_memory_equal(data, expected, sizeof(expected) - 1);
	assert_memory_equal(data + size - 12, "\n\n<domain/>\n", 12);
	free(data);
}

static void test_every_byte(void **state)
{
	char all[256 * 2];
	struct record r = a_record();

	(void)state;
	for (int i = 0; i < 512; i++)
		all[i] = (char)i;
	r.driver = r.object = r.operation = r.suboperation = r.extra = r.document =
		(struct bytes){all, sizeof(all)};
	assert_round_trip(&r);
	for (int i = 0; i < 256; i++) { /* alone, first and last */
		r.object = (struct bytes){all + i, 1};
		r.document = (struct bytes){all + i, 2};
		assert_round_trip(&r);
	}
}

static void test_arguments(void **state)
{
	struct record r = a_record();

	(void)state;
	r.object = r.operation = r.suboperation = r.extra = (struct bytes){0};
	r.argc = 0;
	r.document = (struct bytes){0};
	assert_round_trip(&r);
	r.object = BYTES("");
	r.argc = 1;
	assert_round_trip(&r);
	r = a_record();
	r.argc = 100;
	r.flags = RECORD_ARGUMENTS_TRUNCATED;
	for (r.n_arguments = 0; r.n_arguments < RECORD_ARGUMENTS_MAX; r.n_arguments++)
		r.arguments[r.n_arguments] = r.n_arguments % 2 ? BYTES(" x: \n\n") : BYTES("");
	assert_round_trip(&r);
}

/* What virtspool-listen writes besides. */
static void test_api(void **state)
{
	struct record r = a_record();

	(void)state;
	r.origin = BYTES("api");
	r.transition = BYTES("01a1fcd2-c1c2-764d-8efb-0eff7cd3bec2");
	r.flags = RECORD_TOLD_BY_HOOK;
	assert_round_trip(&r);
	r.details[0] = BYTES("device=net0");
	r.details[1] = BYTES("path=/a\nb=c %");
	r.details[2] = BYTES("");
	r.n_details = 3;
	assert_round_trip(&r);
}

/* The longest values, each byte escaped, fit into RECORD_HEADER_MAX. */
static void test_longest(void **state)
{
	char *value = malloc(RECORD_VALUE_MAX);
	struct record r = a_record();
	struct bytes longest = {value, RECORD_VALUE_MAX};

	(void)state;
	memset(value, 0xff, RECORD_VALUE_MAX);
	r.driver = r.object = r.operation = r.suboperation = r.extra = longest;
	for (r.n_arguments = 0; r.n_arguments < RECORD_ARGUMENTS_MAX; r.n_arguments++)
		r.arguments[r.n_arguments] = longest;
	r.origin = r.transition = longest;
	for (r.n_details = 0; r.n_details < RECORD_DETAILS_MAX; r.n_details++)
		r.details[r.n_details] = (struct bytes){value, RECORD_DETAIL_MAX};
	r.stamp.sequence = UINT64_MAX;
	r.argc = UINT32_MAX;
	r.redacted = UINT32_MAX;
	r.flags = RECORD_DOCUMENT_TRUNCATED | RECORD_ARGUMENTS_TRUNCATED | RECORD_UNORDERED |
		  RECORD_TOLD_BY_HOOK;
	assert_round_trip(&r);
	free(value);
}

static void test_times(void **state)
{
	static const struct {
		int64_t seconds;
		const char *text;
	} table[] = {
		{0, "1970-01-01T00:00:00"},	     {951782399, "2000-02-28T23:59:59"},
		{951782400, "2000-02-29T00:00:00"},  {951868800, "2000-03-01T00:00:00"},
		{1704067199, "2023-12-31T23:59:59"}, {1704067200, "2024-01-01T00:00:00"},
		{4107542400, "2100-03-01T00:00:00"}, {-1, "1969-12-31T23:59:59"},
		{9214646399, "2261-12-31T23:59:59"}, {-9214560000, "1678-01-01T00:00:00"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct record r = a_record();
		char line[64];
		size_t size;
		char *data;

		r.recorded_ns = table[i].seconds * 1000000000 + 7;
		assert_round_trip(&r);
		snprintf(line, sizeof(line), "recorded: %s.000000007Z\n", table[i].text);
		data = formatted(&r, &size);
		assert_non_null(memmem(data, size, line, strlen(line)));
		free(data);
	}
	srandom(1);
	for (int i = 0; i < 10000; i++) {
		struct record r = a_record();

		r.recorded_ns = (int64_t)((uint64_t)random() << 32 ^ (uint64_t)random()) %
				9214646400000000000;
		assert_round_trip(&r);
	}
}

/* A record cut at any byte, or with any bit turned, is refused. */
static void test_damage(void **state)
{
	struct record r = a_record(), back;
	const char *reason;
	size_t size;
	char *data = formatted(&r, &size);

	(void)state;
	for (size_t cut = 0; cut < size; cut++) {
		char *copy = malloc(cut ? cut : 1);

		memcpy(copy, data, cut);
		reason = NULL;
		assert_int_equal(record_parse(copy, cut, &back, &reason), -EBADMSG);
		assert_non_null(reason);
		free(copy);
	}
	for (size_t i = 0; i < size; i++) {
		for (int bit = 0; bit < 8; bit++) {
			char *copy = malloc(size);

			memcpy(copy, data, size);
			copy[i] ^= (char)(1 << bit);
			/* the sum's own digits may be written in capitals: the same sum */
			if (record_parse(copy, size, &back, &reason) == 0)
				assert_record_equal(&r, &back);
			free(copy);
		}
	}
	free(data);
}

/* What a writer with a right sum may have written, and what comes of it. */
static void test_headers(void **state)
{
#define HEAD                                                                                       \
	"virtspool-record 1\nid: 01a1fcd2-c1c2-764d-8efb-0eff7cd3bec2\nepoch: 0123456789abcdef0123456789abcdef\n"
#define REST "recorded: 2026-11-21T06:36:33.026453604Z\ndriver: qemu\narguments: 0\n"
	static const struct {
		const char *header, *document, *reason;
	} table[] = {
		{HEAD "sequence: 1\n" REST "length: 0\n", "", NULL},
		{HEAD "sequence: 1\n" REST "colour: blue\nlength: 1\n", "x", NULL},
		{HEAD "sequence: 1\n" REST "flags: unordered purple\nlength: 1\n", "x", NULL},
		{HEAD "sequence: 1\n" REST "object: %41%4a%4A\nlength: 1\n", "x", NULL},
		{HEAD "sequence: 1\n" REST "object: %4\nlength: 1\n", "x",
		 "the object is badly escaped"},
		{HEAD "sequence: 1\n" REST "object: %zz\nlength: 1\n", "x",
		 "the object is badly escaped"},
		{HEAD "sequence: 1\n" REST "object: \t\nlength: 1\n", "x", "not printable"},
		{HEAD "sequence: 1\n" REST "object: \xc3\xa4\nlength: 1\n", "x", "not printable"},
		{HEAD "sequence: 0\n" REST "length: 0\n", "", "the sequence"},
		{HEAD "sequence: 01\n" REST "length: 0\n", "", "the sequence"},
		{HEAD "sequence: 18446744073709551616\n" REST "length: 0\n", "", "the sequence"},
		{HEAD "sequence: 18446744073709551615\n" REST "length: 0\n", "", NULL},
		{HEAD REST "length: 0\n", "", "missing"},
		{HEAD "sequence: 1\n" REST, "", "missing"},
		{HEAD "sequence: 1\nsequence: 2\n" REST "length: 0\n", "", "twice"},
		{HEAD "sequence: 1\n" REST "length: 2\n", "x", "cut off"},
		{HEAD "sequence: 1\n" REST "length: 1\n", "xy", "longer"},
		{HEAD "sequence: 1\n" REST "length: -1\n", "xy", "the length"},
		{HEAD "sequence: 1\n" REST "length:1\n", "x", "key: value"},
		{HEAD "sequence: 1\n" REST "length\n", "x", "key: value"},
		{"virtspool-record 1\n", "", "cut off"},
		{"virtspool-record 2\n" REST, "", "version"},
		{"virtspool-record 11\n" REST, "", "version"},
		{"hello\n", "", "not a record"},
		{"virtspool-record 1\nid: 01a1fcd2-c1c2-464d-8efb-0eff7cd3bec2\n", "", "UUIDv7"},
		{"virtspool-record 1\nid: x\n", "", "UUIDv7"},
		{"virtspool-record 1\nepoch: 0123456789ABCDEF0123456789abcdef\n", "", "epoch"},
		{"virtspool-record 1\nrecorded: 2026-13-21T06:36:33.026453604Z\n", "", "time"},
		{"virtspool-record 1\nrecorded: 2026-02-29T06:36:33.026453604Z\n", "", "time"},
		{"virtspool-record 1\nrecorded: 2026-02-28T24:36:33.026453604Z\n", "", "time"},
		{"virtspool-record 1\nrecorded: 9999-02-28T23:36:33.026453604Z\n", "", "time"},
		{"virtspool-record 1\nrecorded: yesterday\n", "", "time"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t h = strlen(table[i].header), d = strlen(table[i].document);
		uint32_t crc = crc32c(crc32c(0, table[i].header, h), table[i].document, d);
		const char *reason = NULL;
		struct record back;
		char *data;
		int n, r;

		n = asprintf(&data, "%scrc32c: %08x\n\n%s", table[i].header, crc,
			     table[i].document);
		assert_true(n > 0);
		r = record_parse(data, (size_t)n, &back, &reason);
		if (!table[i].reason && r != 0)
			fail_msg("%s\n is refused: %s", table[i].header, reason);
		if (table[i].reason && (r != -EBADMSG || !strstr(reason, table[i].reason)))
			fail_msg("%s\n gives %d %s, not %s", table[i].header, r, reason ?: "",
				 table[i].reason);
		free(data);
	}
}

static void test_crc32c(void **state)
{
	char zeros[32] = {0}, ones[32], up[32];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	for (int i = 0; i < 32; i++)
		up[i] = (char)i;
	/* RFC 3720, B.4 */
	assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa);
	assert_int_equal(crc32c(0, ones, 32), 0x62a8ab43);
	assert_int_equal(crc32c(0, up, 32), 0x46dd794e);
	assert_int_equal(crc32c(crc32c(0, up, 13), up + 13, 19), 0x46dd794e);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),	  cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_arguments), cmocka_unit_test(test_api),
		cmocka_unit_test(test_longest),	  cmocka_unit_test(test_times),
		cmocka_unit_test(test_damage),	  cmocka_unit_test(test_headers),
		cmocka_unit_test(test_crc32c),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
