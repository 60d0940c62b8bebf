/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * completeness-file - what completeness.h knows, on disk: RUNDIR/sequence, written atomically and
 * bounded; and where the numbers of a gap may lie.
 *
 * The file is text, a line each: "clean" or "running"; "spool DEVICE INODE" of new/; then
 * "epoch EPOCH HIGHEST HIGHEST-ID CERTAIN-FROM" and its "gap FIRST LAST BEFORE-ID AFTER-ID STATE".
 * It is read by the daemon only. One that cannot be read is as good as none.
 */
#pragma once

#include "spooler/daemon/completeness.h"

/* new/, as a file system knows it. Zero: not known. */
struct spool_identity {
	uint64_t device, inode;
};

/*
 * Loads it at start. Numbers that the hooks have taken meanwhile are in doubt unless the last
 * daemon ended in good order. All numbers are in doubt if new/ is another directory than then.
 */
void completeness_load(struct completeness *c, const char *run_dir,
		       const struct spool_identity *spool);
/* Negative errno. `clean`: the daemon ends in good order, nothing will be taken up after this. */
int completeness_save(struct completeness *c, const char *run_dir,
		      const struct spool_identity *spool, bool clean);
/* The last number that the hooks have given out, in the epoch of now; 0: not known. */
uint64_t completeness_stamped(const char *run_dir, char ret_epoch[static 33]);

/*
 * Looks in all directories of the spool, and among dropped events (dropped.h), for the numbers of
 * the gaps that are due, and notes those that it finds. A directory that cannot be read puts the
 * numbers in doubt.
 */
void completeness_search(struct completeness *c, const char *spool_dir, const char *run_dir,
			 uint64_t now_usec);
