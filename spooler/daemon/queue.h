/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * queue - what waits in the spool, oldest first, in bounded memory.
 *
 * The disk is the truth. queue_next() gives the entries of new/ and emergency/new/ in the order of
 * their ids and, once nothing live is left, those of replay/. Underneath it reads the directories'
 * names and keeps the oldest QUEUE_SNAPSHOT_MAX as 16-byte ids; when these are used up it reads
 * again. An entry's source is its place. Each entry that was given is ended by exactly one of
 * queue_done(), queue_fail(), queue_skip(), queue_hold() or queue_put_back().
 *
 * Directories are opened at each scan, so a spool that was unmounted, or mounted over, is found
 * again. No directory is open while nothing is taken, so the file system can be unmounted. A spool
 * that is missing counts as empty, and queue_error() says why; a later scan may find its events.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hook/place.h"
#include "spooler/daemon/disk.h"
#include "spooler/spool/spoolid.h"

#define QUEUE_SNAPSHOT_MAX (256 * 1024)
#define QUEUE_HELD_MAX (64 * 1024)
#define QUEUE_STUCK_MAX (256 * 1024)

struct queue;

int queue_new(const char *spool_dir, const char *run_dir, struct queue **ret_queue);
void queue_free(struct queue *q); /* NULL is fine */

/* A disk that hangs is not touched, and events that wait on it are not handed out. The disk must
   live as long as the queue. */
void queue_use_disk(struct queue *q, struct disk *disk);
enum disk_state queue_check_disk(struct queue *q);
/* Instead of QUEUE_STUCK_MAX. */
void queue_set_stuck_max(struct queue *q, size_t n);

/* Something may have come: the next queue_next() that finds its snapshot used up scans again. */
void queue_changed(struct queue *q);
/* Something older than the snapshot may have come: the next queue_next() scans in any case. */
void queue_rescan(struct queue *q);

/*
 * The next entry. Returns 1, or 0 if nothing waits, or -ENOMEM. Names that are not ours are
 * moved to failed/ on the way.
 */
int queue_next(struct queue *q, struct spool_id *ret_entry);

/*
 * Reads the entry's file into the queue's buffer, which is valid until the next call. 0; -ENOENT if
 * it is gone; -EBADMSG with *ret_reason if it cannot be a record (a link, a device, too large); any
 * other errno is not the fault of the file.
 */
int queue_read(struct queue *q, const struct spool_id *e, char **ret_data, size_t *ret_size,
	       const char **ret_reason);

/* Is it still where it was found? An administrator may have dropped it. */
bool queue_has(const struct queue *q, const struct spool_id *e);

/* Delivered: to sent/, or removed where nothing is kept. An entry that cannot be moved is not
   given again. */
int queue_done(struct queue *q, const struct spool_id *e, bool keep);
/* Can never be delivered: to failed/, with the reason beside it. */
int queue_fail(struct queue *q, const struct spool_id *e, const char *reason);
/* The file is not there any more: somebody else has taken it. Nothing is removed. */
void queue_gone(struct queue *q, const struct spool_id *e);
/* Filtered out: to skipped/. */
int queue_skip(struct queue *q, const struct spool_id *e, bool keep);
/* Not now: stays where it is and is not given again before queue_release_held(). -ENOSPC beyond
   QUEUE_HELD_MAX. */
int queue_hold(struct queue *q, const struct spool_id *e);
void queue_release_held(struct queue *q);
size_t queue_held(const struct queue *q);
/* Was handed out too early: will be handed out again, in its order. */
void queue_put_back(struct queue *q, const struct spool_id *e);

/* How much waits, by the last scan and what came since; *ret_oldest_ms is the oldest's
   time, 0 if none. */
uint64_t queue_length(const struct queue *q, uint64_t *ret_oldest_ms);
/* Where it reads, and which directory new/ was at the last scan (zeroes: it was never there). */
const char *queue_spool_dir(const struct queue *q);
const char *queue_run_dir(const struct queue *q);
void queue_identity(const struct queue *q, uint64_t *ret_device, uint64_t *ret_inode);
/* Entries in the emergency spool at the last scan. */
uint64_t queue_emergency_length(const struct queue *q);
/* Why the spool on disk cannot be read, or why delivered events cannot be removed from it; or NULL.
   Valid until the next call. */
const char *queue_error(struct queue *q);
/* Can there be events that were not seen because a directory cannot be read? */
bool queue_is_blind(const struct queue *q);
/* Are there delivered events that could not be removed, for example because the disk is read-only?
   They are not handed out again. When there are QUEUE_STUCK_MAX, no more events are taken from the
   disk; those in the emergency spool are. */
bool queue_is_stuck(const struct queue *q);
/* Tries to remove them, for a short time. 1: some are left, call again; 0: none is; negative errno:
   the disk still refuses. */
int queue_remove_stuck(struct queue *q);
/* Is the spool on disk missing, or does its disk not answer? watch.h and disk.h then report when
   that changes. */
bool queue_is_missing(const struct queue *q);
