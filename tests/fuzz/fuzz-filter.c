/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-filter - any text as a time, and as a glob over a record whose name is the
 * text's second half.
 *
 *	clang -fsanitize=fuzzer,address,undefined -I. tests/fuzz/fuzz-filter.c spooler/spool/filter.c
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/spool/filter.h"

#define NOW 1795248000
#define GLOB_MAX 64
#define STARS_MAX 4 /* fnmatch() takes its time over many */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void match(const uint8_t *data, size_t size)
{
	size_t half = size / 2 < GLOB_MAX ? size / 2 : GLOB_MAX;
	char glob[GLOB_MAX + 1] = "";
	unsigned stars = 0;
	const struct record r = {.object = {(const char *)data + half, size - half}};
	const struct filter f = {.vm = glob};

	memcpy(glob, data, half);
	for (const char *g = glob; *g; g++)
		stars += *g == '*';
	if (stars > STARS_MAX)
		return;
	(void)filter_needs_uuid(&f);
	(void)filter_matches(&f, &r, "6a1f0c2e-1111-4222-8333-944445555666");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	uint64_t ms;

	if (!text)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = 0;
	if (filter_parse_time(text, NOW, &ms) == 0 && ms > INT64_MAX / 1000)
		abort();
	match(data, size);
	free(text);
	return 0;
}
