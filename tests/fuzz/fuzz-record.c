/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-record - any bytes as a record, as a document to redact, and as a record with a right
 * checksum (which a fuzzer would not guess). What parses must come out of the writer and the parser
 * as it was.
 *
 *	clang -fsanitize=fuzzer,address,undefined -I. tests/fuzz/fuzz-record.c hook/{record,stamp,redact,crc32c}.c
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hook/crc32c.h"
#include "hook/record.h"
#include "hook/redact.h"
#include "spooler/spool/record-parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(struct bytes a, struct bytes b)
{
	if (a.size != b.size || (a.size && memcmp(a.data, b.data, a.size) != 0))
		abort();
}

static void parse_and_write_again(const char *data, size_t size)
{
	static char again[RECORD_HEADER_MAX + 1024 * 1024];
	char *copy = malloc(size ? size : 1);
	struct record a, b;
	const char *reason = NULL;

	memcpy(copy, data, size);
	if (record_parse(copy, size, &a, &reason) == 0) {
		size_t n = record_format_header(&a, again, RECORD_HEADER_MAX);

		memcpy(again + n, a.document.data, a.document.size);
		if (record_parse(again, n + a.document.size, &b, &reason) != 0)
			abort();
		same(a.object, b.object);
		same(a.extra, b.extra);
		same(a.document, b.document);
		if (a.recorded_ns != b.recorded_ns || a.flags != b.flags ||
		    a.n_arguments != b.n_arguments || strcmp(a.stamp.id, b.stamp.id) != 0)
			abort();
	} else if (!reason) {
		abort();
	}
	free(copy);
}

/* The input as fields of a header, with the sum that belongs to it. */
static void with_checksum(const uint8_t *data, size_t size)
{
	static const char first[] = "virtspool-record 1\n";
	const uint8_t *end = memmem(data, size, "\n\n", 2);
	size_t header = end ? (size_t)(end - data) + 1 : size,
	       document = end ? size - header - 1 : 0;
	char *built = malloc(sizeof(first) + size + 32), sum[32];
	size_t n = sizeof(first) - 1;

	memcpy(built, first, n);
	memcpy(built + n, data, header);
	n += header;
	uint32_t crc = crc32c(0, built, n);

	crc = crc32c(crc, document ? end + 2 : NULL, document);
	memcpy(built + n, sum, (size_t)sprintf(sum, "crc32c: %08x\n\n", crc));
	n += 18;
	if (document)
		memcpy(built + n, end + 2, document);
	parse_and_write_again(built, n + document);
	free(built);
}

static void redact_twice(const uint8_t *data, size_t size)
{
	char *copy = malloc(size ? size : 1);
	unsigned count;
	size_t n;

	memcpy(copy, data, size);
	n = redact(copy, size, &count);
	if (n > size || redact(copy, n, &count) > n)
		abort();
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1024 * 1024)
		return 0;
	parse_and_write_again((const char *)data, size);
	with_checksum(data, size);
	redact_twice(data, size);
	return 0;
}
