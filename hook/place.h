/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * place - the directories of the spool, all of them in one table.
 *
 *   SPOOLDIR (disk)             RUNDIR (tmpfs)
 *     tmp/     being written      emergency/tmp/   as in the spool, while the disk cannot take
 *     new/     waiting            emergency/new/   a record
 *     replay/  waiting, again
 *     sent/    delivered
 *     skipped/ filtered out by the configuration
 *     failed/  cannot be delivered, each with NAME.reason
 *
 * A record's file is named by its id, in every directory.
 */
#pragma once

#include <stdbool.h>

#define SPOOL_TMP "tmp"
#define SPOOL_NEW "new"
#define SPOOL_REPLAY "replay"
#define SPOOL_SENT "sent"
#define SPOOL_FAILED "failed"
#define SPOOL_SKIPPED "skipped"
#define SPOOL_EMERGENCY "emergency"
#define SPOOL_REASON_SUFFIX ".reason"

/* In the order in which an id is looked for. */
enum place {
	PLACE_NEW,
	PLACE_EMERGENCY,
	PLACE_REPLAY,
	PLACE_FAILED,
	PLACE_SENT,
	PLACE_SKIPPED,
	PLACE_TMP,
	PLACE_EMERGENCY_TMP,
	N_PLACES,
};

enum place_kind {
	PLACE_KIND_WAITING,
	PLACE_KIND_FAILED,
	PLACE_KIND_ARCHIVED, /* delivered, or filtered out: kept by age and size */
	PLACE_KIND_SCRATCH,  /* being written: holds no record yet */
};

struct place_info {
	const char *name; /* for users: "new", "emergency", ... */
	const char *path; /* below the spool or run directory */
	enum place_kind kind;
	bool in_run_directory;
};

extern const struct place_info place_table[N_PLACES];

/* Opens the spool's or the run directory itself. It may be a link: root chose its place. Returns a
   descriptor or a negative errno. */
int place_open_top(const char *path);
/* Opens a directory below `at`. A link is not followed: what lies in the spool belongs to
   virtspool, and root may be asking. Returns a descriptor or a negative errno. */
int place_open_directory(int at, const char *path);
/* Opens a place, given descriptors of the spool and of the run directory. A
   negative descriptor is returned as it is, so either may be a negative errno. Returns a
   descriptor or a negative errno. */
int place_open(int spool_fd, int run_fd, enum place place);
