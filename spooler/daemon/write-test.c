/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* write-test - see write-test.h. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "hook/spool.h"
#include "spooler/base/util.h"
#include "spooler/daemon/write-test.h"

/* A test that is killed leaves it behind; it goes with everything else in tmp/. */
#define FILE_NAME SPOOL_TMP "/.write-test"
#define FILE_SIZE 4096 /* as much as a small record takes: a full disk refuses it */

struct write_test {
	sd_event *loop;
	char *spool_dir;
	pid_t pid;
	sd_event_source *child; /* while it runs */
	uint64_t ended_usec;	/* CLOCK_MONOTONIC; 0: never */
	int error;
	write_test_done done;
	void *userdata;
};

/* 0 or a positive errno, as an exit status. */
static int try_to_write(const char *spool_dir)
{
	static const char zeros[FILE_SIZE];
	int spool_fd = place_open_top(spool_dir), fd, r = 0;

	if (spool_fd < 0)
		return -spool_fd;
	(void)unlinkat(spool_fd, FILE_NAME, 0);
	fd = openat(spool_fd, FILE_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return errno;
	if (write(fd, zeros, sizeof(zeros)) != (ssize_t)sizeof(zeros))
		r = errno ? errno : ENOSPC;
	if (r == 0 && fsync(fd) < 0)
		r = errno;
	(void)unlinkat(spool_fd, FILE_NAME, 0);
	return r;
}

static int on_ended(sd_event_source *s, const siginfo_t *si, void *userdata)
{
	struct write_test *t = userdata;

	t->child = sd_event_source_disable_unref(t->child);
	t->ended_usec = now_usec(CLOCK_MONOTONIC);
	t->error = si->si_code == CLD_EXITED ? -si->si_status : -EIO;
	t->done(t->userdata);
	return 0;
}

void write_test_start(struct write_test *t, uint64_t min_age_usec)
{
	if (t->child ||
	    (t->ended_usec > 0 && now_usec(CLOCK_MONOTONIC) - t->ended_usec < min_age_usec))
		return;
	t->pid = fork();
	if (t->pid == 0) {
		(void)close_range(0, ~0U, 0); /* it must not keep our connections open */
		_exit(try_to_write(t->spool_dir));
	}
	if (t->pid > 0)
		(void)sd_event_add_child(t->loop, &t->child, t->pid, WEXITED, on_ended, t);
}

int write_test_error(const struct write_test *t)
{
	return t->error;
}

int write_test_new(sd_event *loop, const char *spool_dir, write_test_done done, void *userdata,
		   struct write_test **ret_test)
{
	struct write_test *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->spool_dir = strdup(spool_dir);
	if (!t->spool_dir) {
		free(t);
		return -ENOMEM;
	}
	t->loop = sd_event_ref(loop);
	t->done = done;
	t->userdata = userdata;
	*ret_test = t;
	return 0;
}

void write_test_free(struct write_test *t)
{
	if (!t)
		return;
	if (t->child)
		(void)kill(t->pid, SIGKILL); /* it ends when the disk answers */
	sd_event_source_disable_unref(t->child);
	sd_event_unref(t->loop);
	free(t->spool_dir);
	free(t);
}
