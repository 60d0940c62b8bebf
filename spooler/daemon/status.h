/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* status - what the daemon knows about itself, collected into one struct status_file, from which
   the status file, the metrics and the service manager's line are made. */
#pragma once

#include "spooler/daemon/housekeeping.h"
#include "spooler/daemon/queue.h"
#include "spooler/daemon/relay.h"
#include "spooler/spool/status-file.h"

struct status_view {
	struct relay *relay;
	struct queue *queue;
	const struct housekeeping *housekeeping;
	const char *config_path;
	uint64_t started_usec; /* CLOCK_REALTIME */
	bool disk_hangs;       /* then the spool must not be looked at */
	uint64_t reload_refused_usec;
	const char *reload_error, *emergency_error;
	char ids[ATTEMPTS_MAX][37]; /* of the events in the struct status_file */
};

/* All strings belong to the view and what it points to, until one of them changes. */
void status_collect(struct status_view *v, struct status_file *ret_status);
