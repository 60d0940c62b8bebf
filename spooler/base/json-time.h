/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* json-time - a moment in the status files. */
#pragma once

#include <jansson.h>

#include "spooler/base/rfc3339.h"
#include "spooler/base/util.h"

/* RFC 3339 in UTC, of microseconds since 1970; null for 0, which is never. */
static inline json_t *json_time(uint64_t usec)
{
	char text[RFC3339_SIZE];

	if (usec == 0)
		return json_null();
	rfc3339_utc((int64_t)(usec / USEC_PER_SEC), (unsigned)(usec % USEC_PER_SEC) * 1000, 6,
		    text);
	return json_string(text);
}

/* The reverse; 0 for anything that is not such a time. */
static inline uint64_t json_time_usec(const json_t *value)
{
	const char *text = json_string_value(value);
	int64_t usec;

	return text && rfc3339_parse_utc(text, &usec) ? (uint64_t)usec : 0;
}
