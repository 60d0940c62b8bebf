/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stamp - the order of transitions on one host.
 *
 * The stamp file (run directory, tmpfs) holds the epoch, the last sequence number and the last time
 * that were taken. A writer takes the next stamp under a lock, for which it waits only briefly. The
 * file vanishes at boot, so each boot begins an epoch; so does a file that was damaged or removed.
 *
 * Time is counted in ticks of 1/4096 ms since 1970: what fits into the 48 + 12 time bits of a
 * UUIDv7 (RFC 9562 section 5.7, with rand_a as in section 6.2, method 3). Each stamp's time is at
 * least one tick after the one before, whatever the clock does, so ids, and with them file names,
 * sort in the order of the stamps.
 *
 * Whoever can write to the file can make numbers repeat, and whoever can lock it can hold hooks up.
 * So it lies in a directory that only root can write to, and the lock is on the directory, which
 * only root and the directory's group can open. That group is virtspool-listen's, which takes
 * stamps as well; virtspoold is not in it. Everybody may read the file.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define STAMP_TICKS_PER_MS 4096ULL

struct stamp {
	char epoch[33];	   /* 32 lower-case hexadecimal digits */
	uint64_t sequence; /* 1, 2, 3 ... within the epoch */
	/* Never runs backwards within the epoch, nor below the floor at its start. */
	uint64_t ticks;
	char id[37]; /* UUIDv7 from ticks, lower case */
};

/* Called, usually with the lock held, when a new epoch begins. Returns the highest ticks that an
   earlier id of this host can have; 0 if there is no earlier id. */
typedef uint64_t (*stamp_floor)(void *userdata);

/*
 * Takes the next stamp from the file `name` below the directory descriptor dir_fd, which is locked
 * meanwhile. Waits at most wait_ms for the lock. -ENOENT: there is no file, and only root or the
 * directory's owner makes one. On any error a stamp of a private, new epoch (sequence 1) is
 * returned together with the negative errno: an event always has a stamp; it only loses its place
 * in the host's sequence.
 */
int stamp_take(int dir_fd, const char *name, unsigned wait_ms, stamp_floor floor, void *userdata,
	       struct stamp *ret_stamp);

/* Reads the stamp file without the lock and without taking anything; for status. -ENOENT,
   -EBADMSG if damaged. */
int stamp_peek(int dir_fd, const char *name, struct stamp *ret_stamp);

/* The clock (CLOCK_REALTIME) in ticks. */
uint64_t stamp_now(void);

/* The time of an id (a UUIDv7 made by stamp_take) in ticks; 0 if `id` is not one. */
uint64_t stamp_id_ticks(const char *id);

/* Is this string a UUID in the canonical lower-case form, version 7? Such are the names of files
   in the spool. */
bool stamp_id_valid(const char *id);
