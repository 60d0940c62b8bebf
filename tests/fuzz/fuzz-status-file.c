/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-status-file - any bytes as the daemon's status.json. What was understood comes back from
 * JSON as the same.
 *
 *	clang -fsanitize=fuzzer,address,undefined -I. tests/fuzz/fuzz-status-file.c libspooler.a
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/daemon/metrics.h"
#include "spooler/spool/status-file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct verdict verdict;
	static struct status_file s, again;
	char *text;
	json_t *o, *o2;

	if (status_file_parse((const char *)data, size, &s) < 0)
		return 0;
	free(metrics_format(&s, &verdict));
	o = status_file_to_json(&s);
	text = json_dumps(o, 0);
	if (!text || status_file_parse(text, strlen(text), &again) < 0)
		abort();
	o2 = status_file_to_json(&again);
	if (!json_equal(o, o2))
		abort();
	json_decref(o);
	json_decref(o2);
	free(text);
	status_file_release(&s);
	status_file_release(&again);
	return 0;
}
