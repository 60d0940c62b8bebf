/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * disk - does the spool's disk answer, or would we hang with it?
 *
 * A hook that gave the disk up says so by a mark in the run directory (hook/spool.h). From then on
 * nothing of ours may touch the disk: what the hooks put into the emergency spool meanwhile lies in
 * memory, and has to go out. A child tries the disk instead. It hangs for as long as the disk does,
 * and its end, however it ends, tells that the disk answers.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

struct disk;
typedef void (*disk_answers)(void *userdata);

/* `answers` is called, from the loop, when the disk answers again. SIGCHLD must be blocked. */
int disk_new(sd_event *loop, const char *spool_dir, const char *run_dir, disk_answers answers,
	     void *userdata, struct disk **ret_disk);
void disk_free(struct disk *d); /* NULL is fine */
/* Is it to be left alone now? False for a disk that is NULL. */
bool disk_hangs(struct disk *d);
