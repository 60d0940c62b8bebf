/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bridge - a unix stream socket within this process, for a library that can only connect to a path.
 *
 *	bridge_listen(&b, path);	the library may connect to `path` now
 *	fd = bridge_accept(&b);		our end of that connection
 *	bridge_release(&b);		at once, so that nobody else connects
 *
 * It is closed to everybody else: the socket is bound in a private directory, its inode is kept
 * with O_PATH and the name is removed before `path`, which is /proc/self/fd/N, is used;
 * the one connection that is accepted must come from this very process; then the listener is
 * closed. Nothing can connect before (no name, mode 0700), between (pid) or after (no listener).
 */
#pragma once

#define BRIDGE_PATH_SIZE 32

struct bridge {
	int listener;
	int inode; /* by which the listener is reached */
};
#define BRIDGE_INIT                                                                                \
	{                                                                                          \
		.listener = -1, .inode = -1                                                        \
	}

/* Returns 0 or a negative errno. */
int bridge_listen(struct bridge *b, char ret_path[BRIDGE_PATH_SIZE]);
/* The connection that waits: a non-blocking descriptor, the caller's. -EAGAIN: none; -EPERM: it
   is somebody else's. */
int bridge_accept(struct bridge *b);
void bridge_release(struct bridge *b);
