/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * writer - puts the listener's records into the spool as the hook puts its own: with a stamp of the
 * same sequence, and with the same way to the disk and the emergency spool (hook/put.h).
 *
 * May be called from any thread. The order of the calls is the order of the stamps.
 */
#pragma once

#include "hook/record.h"

struct writer_counts {
	uint64_t kept;	       /* in the spool */
	uint64_t emergency;    /* in the emergency spool */
	uint64_t lost;	       /* in neither: a hole in the sequence, and a line in the log */
	uint64_t unordered;    /* written, but the stamp could not be taken */
	uint64_t without_hook; /* starts and ends that a hook should have recorded, and did not */
	uint64_t without_hook_usec; /* when the last of them was, CLOCK_REALTIME; 0: none yet */
};

/* Starts the thread that writes to the disk. Negative errno. */
int writer_start(void);

/*
 * Takes the next stamp for r, whose other fields are set, and writes it. Returns when it is
 * durable, within five seconds whatever the disk does. Negative errno if it is lost, which has been
 * logged.
 */
int writer_put(struct record *r);

void writer_count(struct writer_counts *ret_counts);
