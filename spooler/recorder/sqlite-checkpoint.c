/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sqlite-checkpoint - see sqlite-checkpoint.h.
 *
 * SQLite restarts the WAL only when all of it has been copied. While the writer keeps writing, the
 * thread never catches up. So when the WAL has grown long, the writer copies the little that is left.
 */
#include "spooler/recorder/sqlite-checkpoint.h"

#include <pthread.h>
#include <stdatomic.h>

#include "spooler/base/util.h"

#define STEP_PAGES 2000	 /* the thread copies once this many pages are waiting */
#define MOST_PAGES 16000 /* a WAL of 64 MiB: the writer copies what is left */

struct sqlite_checkpoint {
	sqlite3 *writer, *own;
	pthread_t thread;
	pthread_mutex_t lock; /* for what follows */
	pthread_cond_t wake;
	bool wanted, stop;
	atomic_int copied; /* pages, from the start of the WAL */
};

/* SQLite syncs the file only when all of the WAL is in it. What is synced here, the writer's checkpoint
   need not wait for. */
static void sync_file(sqlite3 *handle)
{
	sqlite3_file *file = NULL;

	if (sqlite3_file_control(handle, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK &&
	    file && file->pMethods)
		(void)file->pMethods->xSync(file, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
}

/* If it fails, the WAL grows until a later one succeeds. The writer meets the same error and reports
   it. */
static void copy(struct sqlite_checkpoint *c)
{
	int in_wal = 0, copied = 0;

	if (sqlite3_wal_checkpoint_v2(c->own, "main", SQLITE_CHECKPOINT_PASSIVE, &in_wal,
				      &copied) != SQLITE_OK)
		return;
	atomic_store(&c->copied, copied);
	if (copied < in_wal)
		sync_file(c->own);
}

static void *run(void *userdata)
{
	struct sqlite_checkpoint *c = userdata;

	(void)pthread_setname_np(pthread_self(), "checkpoint");
	(void)pthread_mutex_lock(&c->lock);
	while (!c->stop) {
		if (!c->wanted) {
			(void)pthread_cond_wait(&c->wake, &c->lock);
			continue;
		}
		c->wanted = false;
		(void)pthread_mutex_unlock(&c->lock);
		copy(c);
		(void)pthread_mutex_lock(&c->lock);
	}
	(void)pthread_mutex_unlock(&c->lock);
	return NULL;
}

static void wake(struct sqlite_checkpoint *c, bool stop)
{
	(void)pthread_mutex_lock(&c->lock);
	c->wanted = true;
	c->stop = stop;
	(void)pthread_cond_signal(&c->wake);
	(void)pthread_mutex_unlock(&c->lock);
}

/* After each commit, in the writer's thread. SQLite would report an error as the commit's. */
static int on_commit(void *userdata, sqlite3 *writer, const char *name, int pages)
{
	struct sqlite_checkpoint *c = userdata;
	int copied = atomic_load(&c->copied);

	if (copied > pages) { /* the WAL was restarted */
		atomic_store(&c->copied, 0);
		copied = 0;
	}
	if (pages >= MOST_PAGES)
		(void)sqlite3_wal_checkpoint_v2(writer, name, SQLITE_CHECKPOINT_PASSIVE, NULL,
						NULL);
	else if (pages - copied >= STEP_PAGES)
		wake(c, false);
	return SQLITE_OK;
}

int sqlite_checkpoint_start(sqlite3 *writer, const char *path,
			    struct sqlite_checkpoint **ret_checkpoint)
{
	struct sqlite_checkpoint *c = calloc(1, sizeof(*c));
	int error = ENOMEM;

	if (!c)
		return -ENOMEM;
	c->writer = writer;
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_cond_init(&c->wake, NULL);
	/* Reading shows that the file has a WAL. */
	if (sqlite3_open_v2(path, &c->own, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) ==
		    SQLITE_OK &&
	    sqlite3_exec(c->own, "SELECT 1 FROM sqlite_schema LIMIT 1", NULL, NULL, NULL) ==
		    SQLITE_OK)
		error = pthread_create(&c->thread, NULL, run, c);
	if (error) {
		(void)sqlite3_close_v2(c->own);
		free(c);
		return -error;
	}
	(void)sqlite3_wal_hook(writer, on_commit, c);
	*ret_checkpoint = c;
	return 0;
}

void sqlite_checkpoint_stop(struct sqlite_checkpoint *c)
{
	if (!c)
		return;
	(void)sqlite3_wal_hook(c->writer, NULL, NULL);
	wake(c, true);
	sqlite3_interrupt(c->own);
	(void)pthread_join(c->thread, NULL);
	(void)sqlite3_close_v2(c->own);
	(void)pthread_cond_destroy(&c->wake);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
}
