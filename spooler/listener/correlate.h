/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * correlate - finds the hook's record of the transition that an event of the API reports.
 *
 * libvirt runs its hooks before it sends the event, so the hook's record of a domain's start or end
 * is in the spool when the event comes: it is the last one of that domain. inotify reports records
 * as they come into the spool. May be called from any thread.
 */
#pragma once

#include <stdbool.h>

#include "hook/record.h"

/* Begins to watch the spool. Returns a descriptor that can be read from when correlate_drain() has
   something to do; it stays ours. Negative errno. */
int correlate_start(void);

/* Looks at what has come. */
void correlate_drain(void);

enum correlation {
	CORRELATE_FOUND,
	CORRELATE_NONE,	   /* no hook has recorded it */
	CORRELATE_UNKNOWN, /* records may have been missed: the spool cannot be watched, or it was
			      too much to follow */
};

/*
 * Looks for the last record of this domain with this operation ("started", "stopped") that has not
 * been taken yet, and takes it: ret_id is its id. Drains first.
 */
enum correlation correlate_take(const char *driver, struct bytes domain, const char *operation,
				char ret_id[static 37]);
