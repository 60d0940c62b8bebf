/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * report - what the listener is doing, for those who look: RUNDIR/listen.json, and metrics for
 * Prometheus in RUNDIR/listen.prom or where it was said.
 */
#pragma once

#include "spooler/listener/connection.h"
#include "spooler/spool/listener-file.h"

#define REPORT_METRICS_FILE "listen.prom"

struct report {
	struct listener_file file;
	const struct connection_stats *connections;
	size_t n_connections;
};

/* Texts to be freed; NULL without memory. */
char *report_json(const struct report *r);
char *report_metrics(const struct report *r);

/* Writes both; metrics_file may be NULL. Negative errno of the first that could not be written. */
int report_write(const struct report *r, const char *run_dir, const char *metrics_file);
/* Removes the status: the listener is down on purpose. The metrics stay, with their time. */
void report_remove(const char *run_dir);
