/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * filter - which events are meant: --vm, --op, --driver, --since and --until, as every command
 * understands them.
 *
 * Pure: text in, answer out; the time zone is the only thing that it asks the system for. The time
 * of an event is in its id, hence in its file's name: filter_matches_time() needs no file to be
 * opened. What is left to ask of a record is filter_matches(), and only where filter_needs_record()
 * says so.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "hook/record.h"

struct filter {
	const char *vm; /* name, UUID or glob of them; NULL: any. Borrowed, as all strings here */
	const char *operation; /* glob */
	const char *driver;    /* glob */
	uint64_t since_ms;     /* not before; 0: any */
	uint64_t until_ms;     /* before; 0: any */
};

/*
 * A point in time, ms since 1970, as seen from `now_s`. Local time, unless it says otherwise:
 *
 *   2026-11-21  2026-11-21 14:03  2026-11-21T14:03:05.250  2026-11-21T14:03:05Z  ...+01:00
 *   14:03  14:03:05  (today)      now  today  yesterday  (00:00)  yesterday 14:03
 *   90s  30m  2h  7d  2w  1h30m   (so long ago; "ago" may be said)      @1795243385  (seconds since 1970)
 *
 * Returns 0 or -EINVAL.
 */
int filter_parse_time(const char *text, int64_t now_s, uint64_t *ret_ms);

/* A length of time in seconds: 90s, 30m, 2h, 7d, 2w, 1h30m. Returns 0 or -EINVAL. */
int filter_parse_duration(const char *text, uint64_t *ret_s);

bool filter_matches_time(const struct filter *f, uint64_t ms);
/* Does anything have to be read to know? */
bool filter_needs_record(const struct filter *f);
/* Could --vm be meant as a UUID? If not, filter_matches() is content without one. */
bool filter_needs_uuid(const struct filter *f);
/* All but the time. uuid is the domain's, "" if there is none or it is not needed. */
bool filter_matches(const struct filter *f, const struct record *r, const char *uuid);
/* Nothing was asked for: it matches everything. */
bool filter_is_empty(const struct filter *f);
