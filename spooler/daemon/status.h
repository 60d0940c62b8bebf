/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * status - what the daemon is doing, for those who look: RUNDIR/status.json, written atomically.
 *
 * The admin's tool reads it; it is a hint like all that is in RUNDIR, and old when its pid is gone.
 * What can be seen on the disk itself (how much waits) is not in it.
 */
#pragma once

#include <jansson.h>

#include "spooler/daemon/archive.h"
#include "spooler/base/atomic-file.h"
#include "spooler/daemon/queue.h"
#include "spooler/daemon/relay.h"

#define STATUS_FILE "status.json"

struct status_view {
	struct relay *relay;
	const struct queue *queue;
	const struct archive *archive;
	const char *config_path;
	uint64_t started_usec; /* CLOCK_REALTIME */
	int64_t own_expiry_s,
		authority_expiry_s; /* credentials_own_expiry(), credentials_trust_expiry() */
	bool disk_hangs;	    /* then the spool must not be looked at */
};

/* Writes RUNDIR/status.json. Negative errno. */
int status_write(const char *run_dir, const struct status_view *v);
/* Removes it: the daemon is down on purpose. */
void status_remove(const char *run_dir);

/*
 * Reads it, for the admin's tool. NULL with *ret_error (if not NULL) set: -ENOENT if the daemon is
 * not running, also if it was killed and left the file; -EACCES and the like if it cannot be told.
 */
json_t *status_read(const char *run_dir, int *ret_error);
