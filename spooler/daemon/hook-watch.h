/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hook-watch - watches libvirt's hooks: examines them again when their directory has changed,
   because another package may have replaced ours with its own. */
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
