/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * keeper - records of the listener go where the hook's go: the same stamp, the same put side, the
 * same emergency spool.
 *
 * May be called from any thread. The order of the calls is the order of the stamps.
 */
#pragma once

#include "hook/record.h"

struct keeper_counts {
	uint64_t kept;	    /* in the spool */
	uint64_t emergency; /* in the emergency spool */
	uint64_t lost;	    /* in neither: a hole in the sequence, and a line in the log */
	uint64_t unordered; /* kept, but the stamp could not be taken */
};

/* Starts the thread that writes to the disk. Negative errno. */
int keeper_start(void);

/*
 * Takes the next stamp for r, whose other fields are set, and writes it. Returns when it is
 * durable; never waits longer than some four seconds, whatever the disk does. Negative errno if it
 * is lost, which has been logged.
 */
int keeper_keep(struct record *r);

void keeper_count(struct keeper_counts *ret_counts);
