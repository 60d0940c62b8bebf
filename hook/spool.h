/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * spool - the directories' names and the put side: how a record gets into a spool, whole or not at all.
 *
 *   SPOOLDIR (disk)             RUNDIR (tmpfs)
 *     tmp/     being written      stamp            epoch, sequence, time
 *     new/     waiting            emergency/tmp/   as above, while the disk cannot take a record
 *     replay/  waiting, again     emergency/new/
 *     sent/    delivered
 *     failed/  cannot be delivered, each with NAME.reason
 *     skipped/ filtered out by the configuration
 *
 * A record's file is named by its id, in every directory.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#define SPOOL_TMP "tmp"
#define SPOOL_NEW "new"
#define SPOOL_REPLAY "replay"
#define SPOOL_SENT "sent"
#define SPOOL_FAILED "failed"
#define SPOOL_SKIPPED "skipped"
#define SPOOL_EMERGENCY "emergency"
#define SPOOL_STAMP "stamp"
#define SPOOL_REASON_SUFFIX ".reason"

#define SPOOL_EMERGENCY_RECORDS_MAX 4096             /* bounds of the emergency spool */
#define SPOOL_EMERGENCY_BYTES_MAX (64 * 1024 * 1024)

/* The directories: fixed by configure, overridden by VIRTSPOOL_SPOOLDIR and VIRTSPOOL_RUNDIR in the environment
   (for tests; libvirt gives its hooks a clean environment). */
const char *spool_directory(void);
const char *spool_run_directory(void);

/*
 * Writes the parts as one file `name` into the spool open at spool_fd, durably: when it returns 0 the record is in
 * new/ and survives a power cut. On a negative errno nothing of it is in new/.
 */
int spool_put(int spool_fd, const char *name, const struct iovec *parts, int n_parts);
