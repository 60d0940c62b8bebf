/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * housekeeping - the bounds of what is kept: sent/ and skipped/ by age and size, tmp/ by age, new/
 * if the admin says so.
 *
 * A sweep passes over a directory in small slices between other work, and is not made too often.
 * The disk is never filled by what was already delivered: when space or inodes run low, the oldest
 * of sent/ and skipped/ go first, whatever the limits say. new/ is only touched where
 * spool.queue_size is set: then the oldest waiting events beyond it are dropped, with a line in the
 * log that says which; the sequence shows the hole.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "spooler/config/config.h"

struct housekeeping_counts {
	uint64_t sent, sent_bytes; /* as of the last sweep, plus what was archived since */
	uint64_t skipped, failed;
	uint64_t dropped; /* waiting events that spool.queue_size cost, since start */
};

struct housekeeping;
struct disk;

/* Nothing is swept while the disk hangs. */
int housekeeping_new(sd_event *loop, const char *spool_dir, const char *run_dir, struct disk *disk,
		     struct housekeeping **ret_housekeeping);
void housekeeping_free(struct housekeeping *h); /* NULL is fine */
/* Uses these limits (copied), and sweeps. */
void housekeeping_configure(struct housekeeping *h, const struct config_spool *limits);
/* A file of this size has arrived in sent/ or skipped/: sweeps if that may have crossed a limit. */
void housekeeping_archived(struct housekeeping *h, uint64_t file_size);
/* new/ has grown, or the emergency spool is in use, perhaps because the disk is full: sweeps, but
   not every time. */
void housekeeping_spool_changed(struct housekeeping *h);
const struct housekeeping_counts *housekeeping_counts(const struct housekeeping *h);
