/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rfc3339 - a moment as text, and back. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RFC3339_SIZE 48

/* "2026-11-21T07:00:00.250Z": UTC with `digits` (0 to 9) digits of the second's fraction. A year
   that RFC 3339 cannot write, above 9999 or below 0, is "@SECONDS". */
void rfc3339_utc(int64_t seconds, unsigned nsec, unsigned digits, char ret[static RFC3339_SIZE]);

/* "2026-11-21 08:00:00.250+01:00": local time and its offset from UTC, with milliseconds. For
   people. */
void rfc3339_local(uint64_t ms, char ret[static RFC3339_SIZE]);

/* "+01:00": the offset of local time at this moment. */
void rfc3339_offset(uint64_t ms, char ret[static 8]);

/* Microseconds since 1970 of a text in UTC, with any number of digits of the second's fraction. False
   for any other text, and before 1970. */
bool rfc3339_parse_utc(const char *text, int64_t *ret_usec);
/* The same; an offset ("+01:00") may stand instead of the Z. */
bool rfc3339_parse(const char *text, int64_t *ret_usec);
