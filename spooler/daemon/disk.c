/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* disk - see disk.h. A mark stays until a hook finds that the disk answers, so the last one
   that was seen is remembered by its time. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "spooler/daemon/disk.h"
#include "hook/spool.h"
#include "spooler/base/util.h"

/* Left behind by a kill, it is removed with everything else in tmp/. */
#define TRIAL SPOOL_TMP "/.trial"

struct disk {
	sd_event *loop;
	char *spool_dir, *mark;
	struct timespec seen; /* the mark of the last trial */
	uint64_t looked_at;   /* the loop's turn in which the mark was looked for last */
	pid_t pid;
	sd_event_source *trial; /* while the child has not ended */
	disk_answers answers;
	void *userdata;
};

/* In the child. It must hold nothing of ours, or no peer would see us close a connection. */
static _Noreturn void try(const char *spool_dir)
{
	int spool_fd, fd;

	(void)close_range(0, ~0U, 0);
	spool_fd = place_open_top(spool_dir);
	fd = openat(spool_fd, TRIAL, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
		    0600);
	if (fd >= 0)
		(void)fsync(fd);
	(void)unlinkat(spool_fd, TRIAL, 0);
	_exit(0);
}

static int on_ended(sd_event_source *s, const siginfo_t *si, void *userdata)
{
	struct disk *d = userdata;

	d->trial = sd_event_source_disable_unref(d->trial);
	d->answers(d->userdata);
	return 0;
}

static bool begin_trial(struct disk *d)
{
	d->pid = fork();
	if (d->pid == 0)
		try(d->spool_dir);
	return d->pid > 0 &&
	       sd_event_add_child(d->loop, &d->trial, d->pid, WEXITED, on_ended, d) >= 0;
}

enum disk_state disk_check(struct disk *d)
{
	struct stat st;
	uint64_t turn;

	if (!d)
		return DISK_ANSWERS;
	if (d->trial)
		return DISK_HANGS;
	if (sd_event_get_iteration(d->loop, &turn) >= 0) {
		if (turn == d->looked_at)
			return DISK_ANSWERS;
		d->looked_at = turn;
	}
	if (stat(d->mark, &st) < 0 ||
	    (st.st_mtim.tv_sec == d->seen.tv_sec && st.st_mtim.tv_nsec == d->seen.tv_nsec))
		return DISK_ANSWERS;
	d->seen = st.st_mtim;
	return begin_trial(d) ? DISK_HANGS : DISK_ANSWERS;
}

int disk_new(sd_event *loop, const char *spool_dir, const char *run_dir, disk_answers answers,
	     void *userdata, struct disk **ret_disk)
{
	struct disk *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->loop = sd_event_ref(loop);
	d->looked_at = UINT64_MAX;
	d->answers = answers;
	d->userdata = userdata;
	d->spool_dir = strdup(spool_dir);
	if (!d->spool_dir || asprintf(&d->mark, "%s/" SPOOL_HUNG, run_dir) < 0) {
		d->mark = NULL;
		disk_free(d);
		return -ENOMEM;
	}
	*ret_disk = d;
	return 0;
}

void disk_free(struct disk *d)
{
	if (!d)
		return;
	if (d->trial)
		(void)kill(d->pid, SIGKILL); /* it ends when the disk answers */
	sd_event_source_disable_unref(d->trial);
	sd_event_unref(d->loop);
	free(d->spool_dir);
	free(d->mark);
	free(d);
}
