/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * write-test - why do the hooks' records not reach the disk?
 *
 * When an event came through the emergency spool, a child process writes, syncs and removes a file
 * in tmp/ as a hook does. The child may hang with the disk; the daemon does not.
 */
#pragma once

#include <systemd/sd-event.h>

struct write_test;
typedef void (*write_test_done)(void *userdata);

/* `done` is called, from the loop, when a test has ended. SIGCHLD must be blocked. */
int write_test_new(sd_event *loop, const char *spool_dir, write_test_done done, void *userdata,
		   struct write_test **ret_test);
void write_test_free(struct write_test *t); /* NULL is fine */
/* Begins one, unless one is under way or the last one is younger than min_age_usec. */
void write_test_start(struct write_test *t, uint64_t min_age_usec);
/* How the last one ended: 0 or a negative errno; 0 before the first. */
int write_test_error(const struct write_test *t);
