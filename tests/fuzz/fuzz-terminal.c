/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-terminal - any bytes as a line for a terminal, and as a JSON string: nothing unsafe comes
 * out, whatever the buffer's size, and the JSON still means the same.
 *
 *	clang -fsanitize=fuzzer,address,undefined -I. tests/fuzz/fuzz-terminal.c spooler/base/terminal.c
 *		spooler/base/utf8.c -ljansson
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hook/record.h"
#include "spooler/base/terminal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* controls: newlines and the like, which JSON has between two tokens, are unsafe as well. */
static void check_safe(const char *text, bool controls)
{
	struct bytes b = {text, strlen(text)};

	while (b.size > 0) {
		uint32_t c;
		size_t n = utf8_decode(b.data, b.size, &c);

		if (n == 0 || (terminal_unsafe(c) && (controls || c >= 0x20)))
			abort();
		b.data += n;
		b.size -= n;
	}
}

static void check_json(struct bytes valid)
{
	json_t *s = json_stringn(valid.data, valid.size), *again;
	char *dumped = s ? json_dumps(s, JSON_ENCODE_ANY) : NULL, *text;

	if (!dumped)
		abort();
	text = terminal_json(dumped);
	check_safe(text, false);
	again = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (!json_equal(s, again))
		abort();
	json_decref(again);
	json_decref(s);
	free(dumped);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = {(const char *)data, size};
	char *text = terminal_text(NULL, b.data, b.size), *valid = malloc(3 * size + 1), small[17];

	if (!text || !valid)
		abort();
	check_safe(text, true);
	for (size_t n = 1; n <= sizeof(small); n++) {
		size_t length = terminal_escape(NULL, b.data, b.size, small, n);

		if (length >= n || strncmp(text, small, length) != 0)
			abort();
		check_safe(small, true);
	}
	check_json((struct bytes){valid, utf8_replace(b.data, b.size, valid)});
	free(valid);
	free(text);
	return 0;
}
