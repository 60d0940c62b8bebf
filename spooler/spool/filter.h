/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * filter - selects events: --vm, --op, --driver, --since and --until, the same for every command.
 *
 * Pure: text in, answer out; only the time zone comes from the system. An event's time is in its
 * id, hence in its file's name, so filter_matches_time() opens no file. filter_matches() looks at
 * the record; it is needed only where filter_needs_record() says so.
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
 * A point in time, ms since 1970, relative to `now_s`. Local time, unless a zone is given:
 *
 *   2026-11-21  2026-11-21 14:03  2026-11-21T14:03:05.250  2026-11-21T14:03:05Z  ...+01:00
 *   14:03  14:03:05  (today)      now  today  yesterday  (00:00)  yesterday 14:03
 *   90s  30m  2h  7d  2w  1h30m   (before now; "ago" may follow)      @1795243385  (seconds since
 *   1970)
 *
 * Returns 0 or -EINVAL.
 */
int filter_parse_time(const char *text, int64_t now_s, uint64_t *ret_ms);

bool filter_matches_time(const struct filter *f, uint64_t ms);
/* Does the answer depend on the record, and not only on the id? */
bool filter_needs_record(const struct filter *f);
/* Could --vm be a UUID? If not, filter_matches() does not need the domain's. */
bool filter_needs_uuid(const struct filter *f);
/* All but the time. uuid is the domain's, "" if there is none or it is not needed. */
bool filter_matches(const struct filter *f, const struct record *r, const char *uuid);
/* Does it match everything? */
bool filter_is_empty(const struct filter *f);
