/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hook-watch - the daemon's eye on libvirt's hooks: they are looked at again when their
   directory has changed, as another package may put its own over ours. */
#pragma once

#include <systemd/sd-event.h>

#include "spooler/spool/hook-file.h"

struct hook_watch;
typedef void (*hook_watch_changed)(void *userdata);

int hook_watch_new(sd_event *loop, const char *hooksdir, hook_watch_changed changed, void *userdata,
		   struct hook_watch **ret_watch);
void hook_watch_free(struct hook_watch *w); /* NULL is fine */
/* HOOK_N_DRIVERS of them, as they are now. */
const struct hook_file *hook_watch_files(struct hook_watch *w);
