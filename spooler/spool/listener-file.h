/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * listener-file - what virtspool-listen says about itself, as others read it: RUNDIR/listen.json,
 * written by spooler/listener/report.c. Only what the verdict needs is read. Nothing in it is
 * trusted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LISTENER_FILE "listen.json"
#define LISTENER_FILE_MAX (1024 * 1024)

struct listener_file {
	uint64_t pid;
	/* starts and stops that libvirt reported and no hook had recorded: since the listener's
	   start, and when the last one was (microseconds since 1970) */
	uint64_t without_hook, without_hook_usec;
	bool listening; /* to every libvirt that it was given */
};

/*
 * Reads it. -ENOENT if the listener is not running, also if it was killed and left the file;
 * otherwise an error of safe_read(). All zeros on an error.
 */
int listener_file_read(const char *run_dir, struct listener_file *ret_listener);
