/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* backlog - how much waits while there is no connection. The queue does not scan then, so backlog
   counts the directories; a large spool less often. */
#pragma once

#include "spooler/spool/status-file.h"

/* A zeroed struct has counted nothing. */
struct backlog {
	uint64_t records, emergency, oldest_usec;
	uint64_t next_usec; /* CLOCK_MONOTONIC: not counted again before */
};

/*
 * Corrects what waits in *s. With a connection, or while the disk hangs, what the queue knows
 * stays. Returns 0, or after how many microseconds it should be called again, because it was too
 * early to count.
 */
uint64_t backlog_update(struct backlog *b, bool disk_hangs, struct status_file *s);
