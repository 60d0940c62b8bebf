/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * follow - `virtspool list --follow`: events as they come into the spool.
 *
 * inotify names what arrives in a directory, and nothing is polled. A record moves from directory
 * to directory while it is delivered, so each event is shown once, where it is when it is read, and
 * once more when it fails. After an overflow of inotify's queue the directories are read again.
 */
#pragma once

#include "spooler/admin/listing.h"

/* Shows the last `n` events in these places, oldest first, then the new ones, until stdout has
   no reader. Returns an exit code. */
int follow(struct lookup *l, unsigned among, const struct filter *f, struct listing *g, uint64_t n);
