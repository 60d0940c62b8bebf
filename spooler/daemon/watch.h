/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * watch - the hint that something came into the spool.
 *
 * inotify on new/, emergency/new/ and replay/. It is only a hint: the queue's scan has the truth.
 * Directories that are missing, vanish, or are mounted over are found again, by a watch on their
 * parent directories and by changes of the mount table. Nothing is polled, except a directory that
 * exists and cannot be watched.
 */
#pragma once

#include <systemd/sd-event.h>

struct watch;
struct disk;
typedef void (*watch_changed)(void *userdata);

/* `changed` is called once at first, from the loop, and whenever something may have come. */
int watch_new(sd_event *loop, const char *spool_dir, const char *run_dir, struct disk *disk,
	      watch_changed changed, void *userdata, struct watch **ret_watch);
void watch_free(struct watch *w); /* NULL is fine */
