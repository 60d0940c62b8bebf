/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dropped - the numbers of waiting events that were removed on purpose, by `virtspool drop` or for
 * spool.queue_size: RUNDIR/dropped, a line "EPOCH SEQUENCE" each. The daemon would otherwise take
 * them for lost. Bounded: beyond that a line "..." says that there were more.
 */
#pragma once

#include <stdint.h>

#define DROPPED_FILE "dropped"
#define DROPPED_SIZE_MAX (256 * 1024)

/* Reads the record `name` below dir_fd and notes its number. Best called before it is removed.
   Negative errno. */
int dropped_note(const char *run_dir, int dir_fd, const char *name);

/* Calls `found` for each; epoch NULL: there were more, or the file cannot be read. */
typedef void (*dropped_found)(const char *epoch, uint64_t sequence, void *userdata);
void dropped_read(const char *run_dir, dropped_found found, void *userdata);

/* Bytes of the list; it only grows. 0: there is none. */
uint64_t dropped_size(const char *run_dir);
