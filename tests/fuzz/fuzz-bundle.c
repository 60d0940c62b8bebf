/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-bundle - any bytes as a bundle for `virtspool join`. What is taken is whole, and is taken
 * again when it is written anew; what is refused has a reason.
 *
 *	clang -fsanitize=fuzzer,address,undefined: scripts/fuzz
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/mqtt/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), *error = NULL, *again;
	struct bundle b, c;

	if (bundle_parse("F", text, &b, &error) < 0) {
		check(error != NULL);
		free(error);
		free(text);
		return 0;
	}
	check(b.host && b.n_brokers && b.certificate && b.key && b.authorities);
	again = bundle_format(&b);
	check(again && bundle_parse("F", again, &c, &error) == 0);
	check(strcmp(b.host, c.host) == 0 && strcmp(b.key, c.key) == 0 &&
	      b.n_brokers == c.n_brokers);
	bundle_release(&b);
	bundle_release(&c);
	free(again);
	free(text);
	return 0;
}
