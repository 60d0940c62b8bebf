/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * spool - the put side: how a record gets into a spool, whole or not at all.
 *
 * The directories are those of place.h. The run directory also has hook/, where only root writes
 * and which only root and virtspool-listen can lock:
 *
 *   hook/stamp   epoch, sequence, time: see stamp.h
 *   hook/hung    the disk did not answer lately
 *
 * and the spool has one file of each writer (the hook, virtspool-listen) whose modification time is
 * the highest time of an id that it has spooled. After a boot ids are above it, even if the clock
 * starts in the past and everything was delivered. Setting the time is cheap, and the sync of the
 * record that follows makes it durable: ext4 and xfs commit in order.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "hook/place.h"

#define SPOOL_HOOK "hook" /* below the run directory, as the next two */
#define SPOOL_STAMP SPOOL_HOOK "/" SPOOL_STAMP_FILE
#define SPOOL_HUNG SPOOL_HOOK "/" SPOOL_HUNG_FILE
#define SPOOL_STAMP_FILE "stamp"
#define SPOOL_HUNG_FILE "hung"
#define SPOOL_HIGH_WATER "high-water" /* below the spool, as the next */
#define SPOOL_HIGH_WATER_LISTEN "high-water.listen"

#define SPOOL_PARTS_MAX 2 /* of one record: its header, its document */

#define SPOOL_EMERGENCY_RECORDS_MAX 4096 /* bounds of the emergency spool */
#define SPOOL_EMERGENCY_BYTES_MAX (64 * 1024 * 1024)

/* The directories: fixed by configure, overridden by VIRTSPOOL_SPOOLDIR and VIRTSPOOL_RUNDIR in
   the environment (for tests; libvirt gives its hooks a clean environment). */
const char *spool_directory(void);
const char *spool_run_directory(void);

/* A spool that is open for records: that on the disk, or the emergency spool. */
struct spool {
	int tmp_fd, new_fd;
};

/* Opens the spool whose directory is open at spool_fd, without following links: its directories may
   be virtspool's, and root's hook must not be led elsewhere. Negative errno. */
int spool_open(int spool_fd, struct spool *ret_spool);
void spool_close(struct spool *s);

/*
 * Writes the parts (at most SPOOL_PARTS_MAX, not all empty) as one file `name`, durably: when it
 * returns 0 the record is in new/ and survives a power cut. On a negative errno nothing of it is in
 * new/, unless the disk refuses even that (it took the file, then failed to sync the directory and
 * to remove the file again).
 */
int spool_put(const struct spool *s, const char *name, const struct iovec *parts, int n_parts);

/* The same in its two steps: the file is in tmp/, synced; it is moved to new/, durably.
   spool_publish() removes a file that it could not move. */
int spool_write(const struct spool *s, const char *name, const struct iovec *parts, int n_parts);
int spool_publish(const struct spool *s, const char *name);
void spool_discard(const struct spool *s, const char *name);

/*
 * Makes the run directory with hook/ and the emergency spool where they are missing, or were half
 * made by a hook that was killed. All but hook/ get the group `gid` ((gid_t) -1: the caller's own).
 */
int spool_make_run_directory(gid_t gid);

/* Opens hook/ in the run directory. -EPERM if somebody else than root or the caller owns it or can
   write to it. */
int spool_open_hook_directory(void);

/*
 * As spool_put(), into the emergency spool and within its bounds: -ENOSPC if they are reached.
 * -ETIMEDOUT if so much lies there that it cannot be counted before the deadline (clock.h).
 */
int spool_put_emergency(const char *name, const struct iovec *parts, int n_parts,
			long long deadline_ms);

/* The highest ticks (stamp.h), not above `limit`, of the ids in directory `path` (below dir_fd),
   read until the deadline; 0 if none. */
uint64_t spool_highest_ticks(int dir_fd, const char *path, uint64_t limit, long long deadline_ms);

/* Raises the time of the writer's file, and makes it if there is none. A file that is not the
   writer's own, or has a second name, is left alone. */
void spool_raise_high_water(int spool_fd, const char *file, uint64_t ticks);
/* The larger value of the two files, in ticks; 0: neither can be trusted. */
uint64_t spool_high_water(int spool_fd);
