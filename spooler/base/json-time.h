/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* json-time - a moment in the status files. */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "spooler/base/util.h"

/* RFC 3339 in UTC, of microseconds since 1970; null for 0, which is never. */
static inline json_t *json_time(uint64_t usec)
{
	time_t seconds = (time_t)(usec / USEC_PER_SEC);
	char date[32], text[48];
	struct tm tm;

	if (usec == 0 || !gmtime_r(&seconds, &tm) ||
	    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		return json_null();
	(void)snprintf(text, sizeof(text), "%s.%06uZ", date, (unsigned)(usec % USEC_PER_SEC));
	return json_string(text);
}
