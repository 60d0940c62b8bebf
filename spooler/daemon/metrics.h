/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * metrics - the daemon's counters as a Prometheus text file, for node_exporter's textfile
 * collector.
 *
 * The file is replaced atomically, so the collector never sees half of it, and removed at a clean
 * stop. Names and units follow Prometheus' conventions: base units, _total for counters, one label
 * for the reason code. Counters begin at 0 with the daemon.
 */
#pragma once

#include <stdint.h>

#include "spooler/daemon/status.h"

/* What waits, as counted on the disk: while there is no connection nobody else looks. */
struct backlog {
	uint64_t records, emergency, oldest_ms;
	uint64_t
		next_usec; /* CLOCK_MONOTONIC: not counted again before; a large spool is counted more seldom */
};
/* Returns 0, or after how many microseconds it should be called again, as it was too early to
   count. */
uint64_t backlog_update(struct backlog *b, const struct status_view *v);

/* The text, to be freed. NULL without memory. */
char *metrics_format(const struct status_view *v, const struct backlog *b, uint64_t now_ms);
/* Writes it to path. Negative errno. */
int metrics_write(const char *path, const struct status_view *v, const struct backlog *b);
