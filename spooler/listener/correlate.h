/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * correlate - which record of a hook tells the same transition as an event of the API.
 *
 * libvirt runs its hooks before it sends the event, so the hook's record of a domain's start or end
 * is in the spool when the event comes: the last one of that domain is it. Records are seen as they
 * come into the spool (inotify); what was not seen is not paired. May be called from any thread.
 */
#pragma once

#include <stdbool.h>

#include "hook/record.h"

/* Begins to watch the spool. Returns a descriptor that can be read from when correlate_drain() has
   something to do; it stays ours. Negative errno. */
int correlate_start(void);

/* Looks at what has come. */
void correlate_drain(void);

/*
 * The id of the last record of this domain with this operation ("started", "stopped"), if it has
 * not been taken yet. Drains first.
 */
bool correlate_take(const char *driver, struct bytes domain, const char *operation,
		    char ret_id[static 37]);
