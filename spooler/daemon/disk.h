/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * disk - does the spool's disk answer, or would we hang with it?
 *
 * A hook that gave the disk up says so by a mark in the run directory (hook/spool.h). From then on
 * the daemon does not touch the disk: what the hooks put into the emergency spool meanwhile lies in
 * memory, and has to go out. A child tries the disk instead. It hangs for as long as the disk does;
 * its end, however it ends, shows that the disk answers.
 */
#pragma once

#include <systemd/sd-event.h>

enum disk_state {
	DISK_ANSWERS,
	DISK_HANGS,
};

struct disk;
typedef void (*disk_answers)(void *userdata);

/* `answers` is called, from the loop, when the disk answers again. SIGCHLD must be blocked. */
int disk_new(sd_event *loop, const char *spool_dir, const char *run_dir, disk_answers answers,
	     void *userdata, struct disk **ret_disk);
void disk_free(struct disk *d); /* NULL is fine */
/* Looks for a mark, once in a turn of the loop, and begins a trial if there is a new one.
   DISK_HANGS: nothing may touch the disk now. A disk that is NULL answers. */
enum disk_state disk_check(struct disk *d);
