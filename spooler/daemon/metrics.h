/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * metrics - the daemon's counters as a Prometheus text file, for node_exporter's textfile
 * collector.
 *
 * The file is replaced atomically, so the collector never sees half of it, and removed at a clean
 * stop. Names and units follow Prometheus' conventions: base units, _total for counters, one label
 * for the reason code. Counters begin at 0 with the daemon. All but the reason codes and the
 * histogram comes from status_file_fields.
 */
#pragma once

#include "spooler/spool/verdict.h"

/* The text, to be freed. NULL without memory. */
char *metrics_format(const struct status_file *s, const struct verdict *v);
/* Writes it to path. Negative errno. */
int metrics_write(const char *path, const struct status_file *s, const struct verdict *v);
