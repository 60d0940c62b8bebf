/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hook-file - the hooks that libvirt runs on this host, and whether ours is among them.
 *
 * libvirt runs HOOKSDIR/DRIVER and then, since 6.5, the executable files in HOOKSDIR/DRIVER.d. Any
 * package may put its own file over ours, and nothing fails then: the events only stop.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define HOOK_DRIVERS                                                                               \
	{                                                                                          \
		"qemu", "lxc", "libxl", "bhyve", "network", "daemon"                               \
	}
#define HOOK_N_DRIVERS 6
#define HOOK_N_GUEST_DRIVERS 4 /* the first: those that have guests */
#define HOOK_PROGRAM PKGLIBEXECDIR "/virtspool-hook"

enum hook_kind {
	HOOK_NONE, /* nothing is there */
	HOOK_OURS,
	HOOK_FOREIGN, /* another program's */
	HOOK_UNKNOWN, /* we may not read it */
};

/* libvirt's directory: fixed by configure, overridden by VIRTSPOOL_HOOKSDIR for tests. */
const char *hook_directory(void);

/* Ours has a mark inside, by which scripts/install-hook knows it as well. */
enum hook_kind hook_kind(const char *path);
/* Has it other content than HOOK_PROGRAM? false if one of the two cannot be read. */
bool hook_differs(const char *path);

/* Where ours is for this driver: HOOKSDIR/DRIVER or HOOKSDIR/DRIVER.d/virtspool, to be freed;
   NULL if it is nowhere. */
char *hook_installed(const char *hooksdir, const char *driver);

/* A reason why the events of a driver are not recorded, or will not be. */
enum hook_state {
	HOOK_RECORDS,	     /* nothing */
	HOOK_NOT_INSTALLED,  /* and not expected: another driver's is, or libvirt is not here */
	HOOK_NOT_LOOKED_AT,  /* we may not */
	HOOK_MISSING,	     /* there is no hook at all */
	HOOK_REPLACED,	     /* another program's hook is there, and ours is nowhere */
	HOOK_NOT_EXECUTABLE, /* libvirt passes over it */
	HOOK_OTHER_VERSION,  /* it records, but is not the program that is installed */
	HOOK_TWICE,	     /* it records each event twice */
};

struct hook_file {
	const char *driver;
	enum hook_state state;
	char path[256]; /* ours, or where it should be */
};

/* Looks at each driver's hook. */
void hook_files_look(const char *hooksdir, struct hook_file ret_files[static HOOK_N_DRIVERS]);
