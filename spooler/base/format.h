/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* format - times, counts, sizes and ages for people. */
#pragma once

#include <stdint.h>

/* "2026-11-21 08:00:00.250+01:00": rfc3339_local(). */
void format_time(uint64_t ms, char ret[static 32]);
/* The same in UTC and RFC 3339, for JSON: "2026-11-21T07:00:00.250Z". */
void format_time_utc(uint64_t ms, char ret[static 32]);
/* "0 events", "1 event" */
void format_count(uint64_t n, const char *noun, char ret[static 48]);
/* "999 bytes", "1.2 MiB" */
void format_size(uint64_t bytes, char ret[static 32]);
/* "42 s", "3 min 5 s", "2 h 10 min", "3 d 4 h" */
void format_age(uint64_t seconds, char ret[static 32]);
