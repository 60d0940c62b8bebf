/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-running-table - any bytes as the file of the guests that run. What was understood comes back
 * from the table's text as the same.
 *
 *	clang -fsanitize=fuzzer,address,undefined -I. tests/fuzz/fuzz-running-table.c libspooler.a
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/daemon/running-table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct running_table t = {0}, again = {0};
	char *text, *text2;

	if (!running_table_parse(&t, (const char *)data, size))
		return 0;
	text = running_table_text(&t);
	if (!text || !running_table_parse(&again, text, strlen(text)))
		abort();
	text2 = running_table_text(&again);
	if (!text2 || strcmp(text, text2) != 0)
		abort();
	free(text);
	free(text2);
	running_table_clear(&t);
	running_table_clear(&again);
	return 0;
}
