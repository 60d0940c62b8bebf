/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * spool - the put side: how a record gets into a spool, whole or not at all. The directories are
 * those of place.h; the run directory also holds
 *
 *   stamp   epoch, sequence, time: see stamp.h
 *   hung    the disk did not answer lately
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "hook/place.h"

#define SPOOL_STAMP "stamp"
#define SPOOL_HUNG "hung"

#define SPOOL_PARTS_MAX 2 /* of one record: its header, its document */

#define SPOOL_EMERGENCY_RECORDS_MAX 4096 /* bounds of the emergency spool */
#define SPOOL_EMERGENCY_BYTES_MAX (64 * 1024 * 1024)

/* The directories: fixed by configure, overridden by VIRTSPOOL_SPOOLDIR and VIRTSPOOL_RUNDIR in
   the environment (for tests; libvirt gives its hooks a clean environment). */
const char *spool_directory(void);
const char *spool_run_directory(void);

/*
 * Writes the parts (at most SPOOL_PARTS_MAX, not all empty) as one file `name` into the spool open
 * at spool_fd, durably: when it returns 0 the record is in new/ and survives a power cut. On a
 * negative errno nothing of it is in new/, unless the disk refuses even that (it took the file,
 * then failed to sync the directory and to remove the file again).
 */
int spool_put(int spool_fd, const char *name, const struct iovec *parts, int n_parts);

/* The same in its two steps: the file lies in tmp/, synced; it is moved to new/, durably. What
   spool_publish() could not move it removes. */
int spool_write(int spool_fd, const char *name, const struct iovec *parts, int n_parts);
int spool_publish(int spool_fd, const char *name);
void spool_discard(int spool_fd, const char *name);

/*
 * Makes the run directory with its emergency spool where they are missing, or were half made by a
 * hook that was killed. They get the group `gid` ((gid_t) -1: the caller's own).
 */
int spool_make_run_directory(gid_t gid);

/* As spool_put(), into the emergency spool and within its bounds: -ENOSPC if they are reached. */
int spool_put_emergency(const char *name, const struct iovec *parts, int n_parts);

/* The highest ticks (stamp.h) of the ids in directory `path` (below dir_fd), read for at most
   wait_ms; 0 if none. */
uint64_t spool_highest_ticks(int dir_fd, const char *path, unsigned wait_ms);
