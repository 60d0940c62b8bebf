/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * listener-file - the status that virtspool-listen writes: RUNDIR/listen.json.
 *
 * listener_file_fields is the one table of its counters: the file and the metrics are made from it,
 * and the file is read back with it. Nothing in the file is trusted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "spooler/base/fields.h"

#define LISTENER_FILE "listen.json"
#define LISTENER_FILE_MAX (1024 * 1024)

/* The listener's records since its start. Times are microseconds since 1970, 0: never. */
struct listener_counts {
	uint64_t kept;	    /* in the spool */
	uint64_t emergency; /* in the emergency spool */
	uint64_t lost;	    /* in neither: a hole in the sequence, and a line in the log */
	uint64_t unordered; /* written, but the stamp could not be taken */
	/* starts and ends that a hook should have recorded and did not, and the last one's time */
	uint64_t without_hook, without_hook_usec;
};

struct listener_file {
	uint64_t pid, started_usec;
	const char *version; /* to be written; NULL after reading */
	struct listener_counts records;
	bool listening; /* to be read: to every libvirt that it was given */
};

extern const struct field listener_file_fields[];
extern const size_t listener_file_n_fields;

/*
 * Reads it. -ENOENT if the listener is not running, also if it was killed and left the file;
 * otherwise an error of safe_read(). All zeros on an error.
 */
int listener_file_read(const char *run_dir, struct listener_file *ret_listener);
