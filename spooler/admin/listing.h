/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * listing - events of the spool on stdout: a table for people, or JSON objects.
 *
 * On a terminal the table fits its width: ids are shortened to what is unique in the spool, times
 * to the shortest that are unique, and a reason that has no room in its line follows on lines of
 * its own. Without a terminal each event is one line with everything in full.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "spooler/admin/waiting.h"
#include "spooler/spool/lookup.h"

enum listing_time {
	LISTING_TIME_FULL,  /* 2026-11-21 08:00:00.250 */
	LISTING_TIME_SHORT, /* 2026-11-21 08:00:00 */
	LISTING_TIME_YEAR,  /* 11-21 08:00:00 */
	LISTING_TIME_DAY,   /* 08:00:00.250 */
};

struct listing {
	bool json;
	const struct waiting *waiting; /* NULL: why events wait is not shown */
	bool follows;		       /* events of other days will come */
	uint64_t lines;		       /* so far, without the heading */

	/* the table: listing_start() */
	bool colour, driver;
	unsigned width; /* of the terminal; 0: as long as a line is */
	size_t id_width, place_width;
	enum listing_time time;
	char offset[8]; /* of local time, as in the heading */
};

/* Before the first event: lays out the table for these ids. */
void listing_start(struct listing *g, struct lookup *l, const struct id_list *ids);
/* The flags that lookup_read() needs. */
unsigned listing_wants(const struct listing *g);
void listing_event(struct listing *g, const struct found *f);
void listing_stray(struct listing *g, const struct lookup *l, const struct stray *f);

/* The objects, for the caller to release. waiting: NULL, or why the event waits is added. */
json_t *listing_event_json(const struct found *f, const struct waiting *waiting);
json_t *listing_stray_json(const struct lookup *l, const struct stray *f);
