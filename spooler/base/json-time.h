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

/* The other way round; 0 for what is not such a time. */
static inline uint64_t json_time_usec(const json_t *value)
{
	const char *text = json_string_value(value), *rest;
	struct tm tm = {0};
	unsigned usec = 0;
	time_t seconds;

	rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	if (!rest || (sscanf(rest, ".%6uZ", &usec) != 1 && strcmp(rest, "Z") != 0))
		return 0;
	seconds = timegm(&tm);
	return seconds < 0 ? 0 : (uint64_t)seconds * USEC_PER_SEC + usec;
}
