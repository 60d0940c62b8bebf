/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sqlite-checkpoint - copies what was committed from SQLite's WAL into the database file, in a
 * thread and on a connection of its own, so that transactions need not wait for it.
 */
#pragma once

#include <sqlite3.h>

struct sqlite_checkpoint;

/*
 * Starts the thread for the file `path`, which `writer` has open; takes writer's sqlite3_wal_hook(),
 * and so turns its automatic checkpoints off. Returns 0 or a negative errno: `writer` is then as it
 * was.
 */
int sqlite_checkpoint_start(sqlite3 *writer, const char *path,
			    struct sqlite_checkpoint **ret_checkpoint);

/* Ends the thread, also within a checkpoint. Before `writer` is closed; NULL is fine. */
void sqlite_checkpoint_stop(struct sqlite_checkpoint *c);
