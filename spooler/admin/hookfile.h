/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hookfile - what lies in libvirt's hooks directory, for `virtspool test` and `virtspool
   doctor`. */
#pragma once

#include <stdbool.h>

enum hook_kind {
	HOOK_NONE, /* nothing is there */
	HOOK_OURS,
	HOOK_FOREIGN, /* somebody else's */
};

/* Ours has a mark inside, by which scripts/install-hook knows it as well. */
enum hook_kind hook_kind(const char *path);
/* Have the two files the same content? */
bool files_equal(const char *a, const char *b);

#define HOOK_DRIVERS                                                                               \
	{                                                                                          \
		"qemu", "lxc", "libxl", "bhyve", "network", "daemon"                               \
	}

/* Where ours is for this driver: HOOKSDIR/DRIVER or HOOKSDIR/DRIVER.d/virtspool, to be freed;
   NULL if it is nowhere. */
char *hook_installed(const char *hooksdir, const char *driver);
