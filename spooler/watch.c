/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* watch - see watch.h. */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#include "hook/spool.h"
#include "util.h"
#include "watch.h"

#define RETRY_USEC (2 * USEC_PER_SEC) /* while a directory is missing */
#define N_DIRECTORIES 3

struct watch {
	sd_event *loop;
	char *directories[N_DIRECTORIES];
	sd_event_source *inotify[N_DIRECTORIES];
	sd_event_source *mounts, *retry, *first;
	int mounts_fd;
	watch_changed changed;
	void *userdata;
};

static int on_inotify(sd_event_source *s, const struct inotify_event *e, void *userdata);

/* Sets up what is not watched. What is missing is tried again by the timer. */
static void watch_arm(struct watch *w)
{
	bool missing = false;

	for (size_t i = 0; i < N_DIRECTORIES; i++) {
		if (w->inotify[i])
			continue;
		if (sd_event_add_inotify(w->loop, &w->inotify[i], w->directories[i],
					 IN_MOVED_TO | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR,
					 on_inotify, w) < 0)
			missing = true;
	}
	if (missing) {
		(void)sd_event_source_set_time_relative(w->retry, RETRY_USEC);
		(void)sd_event_source_set_enabled(w->retry, SD_EVENT_ONESHOT);
	}
}

static int on_inotify(sd_event_source *s, const struct inotify_event *e, void *userdata)
{
	struct watch *w = userdata;

	if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED))
		for (size_t i = 0; i < N_DIRECTORIES; i++)
			if (w->inotify[i] == s) {
				w->inotify[i] = sd_event_source_disable_unref(s);
				watch_arm(w);
				break;
			}
	w->changed(w->userdata);
	return 0;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct watch *w = userdata;

	(void)s;
	(void)usec;
	watch_arm(w);
	w->changed(w->userdata);
	return 0;
}

/* The mount table has changed: what a path means may have changed too. */
static int on_mounts(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct watch *w = userdata;

	(void)s;
	(void)fd;
	(void)revents;
	for (size_t i = 0; i < N_DIRECTORIES; i++)
		w->inotify[i] = sd_event_source_disable_unref(w->inotify[i]);
	watch_arm(w);
	w->changed(w->userdata);
	return 0;
}

static int on_first(sd_event_source *s, void *userdata)
{
	struct watch *w = userdata;

	(void)s;
	w->changed(w->userdata);
	return 0;
}

int watch_new(sd_event *loop, const char *spool_dir, const char *run_dir, watch_changed changed, void *userdata,
	      struct watch **ret_watch)
{
	struct watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->loop = sd_event_ref(loop);
	w->changed = changed;
	w->userdata = userdata;
	w->mounts_fd = -1;
	r = -ENOMEM;
	if (asprintf(&w->directories[0], "%s/" SPOOL_NEW, spool_dir) < 0 ||
	    asprintf(&w->directories[1], "%s/" SPOOL_REPLAY, spool_dir) < 0 ||
	    asprintf(&w->directories[2], "%s/" SPOOL_EMERGENCY "/" SPOOL_NEW, run_dir) < 0)
		goto fail;
	r = sd_event_add_time_relative(loop, &w->retry, CLOCK_MONOTONIC, 0, 0, on_retry, w);
	if (r < 0)
		goto fail;
	(void)sd_event_source_set_enabled(w->retry, SD_EVENT_OFF);
	r = sd_event_add_defer(loop, &w->first, on_first, w);
	if (r < 0)
		goto fail;
	/* Where /proc is not to be had, a spool that is mounted over is found at the daemon's next start. */
	w->mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (w->mounts_fd >= 0)
		(void)sd_event_add_io(loop, &w->mounts, w->mounts_fd, EPOLLPRI, on_mounts, w);
	watch_arm(w);
	*ret_watch = w;
	return 0;
fail:
	watch_free(w);
	return r;
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < N_DIRECTORIES; i++) {
		sd_event_source_disable_unref(w->inotify[i]);
		free(w->directories[i]);
	}
	sd_event_source_disable_unref(w->mounts);
	sd_event_source_disable_unref(w->retry);
	sd_event_source_disable_unref(w->first);
	close_fdp(&w->mounts_fd);
	sd_event_unref(w->loop);
	free(w);
}
