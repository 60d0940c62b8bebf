/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * watch - see watch.h.
 *
 * A directory that is not there is waited for at the nearest one above it that is: there its name,
 * or that of the next one on the way to it, has to appear.
 */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "spooler/daemon/disk.h"
#include "hook/spool.h"
#include "spooler/base/util.h"
#include "spooler/daemon/watch.h"

#define RETRY_USEC (2 * USEC_PER_SEC) /* while a directory is there and cannot be watched */

struct directory {
	char *path;		  /* NULL: nothing waits in this place, so it is not watched */
	sd_event_source *inotify; /* on it, or on the nearest above it */
	/* What has to appear there; empty if it is the directory itself. */
	char awaited[NAME_MAX + 1];
};

struct watch {
	sd_event *loop;
	struct disk *disk;
	struct directory directories[N_PLACES];
	sd_event_source *mounts, *retry, *first;
	int mounts_fd;
	watch_changed changed;
	void *userdata;
};

static int on_inotify(sd_event_source *s, const struct inotify_event *e, void *userdata);

static int add_inotify(struct watch *w, struct directory *d, const char *path)
{
	return sd_event_add_inotify(w->loop, &d->inotify, path,
				    IN_MOVED_TO | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF |
					    IN_ONLYDIR,
				    on_inotify, w);
}

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Watches the nearest above d->path that is there. -EAGAIN: what was missing below it has come
   meanwhile. */
static int directory_await(struct watch *w, struct directory *d)
{
	_cleanup_free_ char *path = strdup(d->path);
	char *slash;
	int r = -ENOENT;

	while (path && (r == -ENOENT || r == -ENOTDIR) && (slash = strrchr(path, '/'))) {
		(void)snprintf(d->awaited, sizeof(d->awaited), "%s", slash + 1);
		*slash = 0;
		r = add_inotify(w, d, slash > path ? path : "/");
		*slash = '/';
		if (r >= 0 && is_directory(path)) {
			d->inotify = sd_event_source_disable_unref(d->inotify);
			return -EAGAIN;
		}
		*slash = 0;
	}
	return r;
}

static int directory_watch(struct watch *w, struct directory *d)
{
	int r = -EAGAIN;

	for (int i = 0; i < 10 && r == -EAGAIN; i++) {
		d->awaited[0] = 0;
		r = add_inotify(w, d, d->path);
		if (r == -ENOENT || r == -ENOTDIR)
			r = directory_await(w, d);
	}
	return r;
}

/* Watches the directories that are not watched yet. A directory that cannot be watched, as on a
   disk that hangs, is tried again by the timer; so is a missing one where changes of the mount
   table are not reported. */
static void watch_arm(struct watch *w)
{
	bool again = false;

	for (enum place p = 0; p < N_PLACES; p++) {
		struct directory *d = &w->directories[p];

		if (!d->path)
			continue;
		if (!d->inotify &&
		    ((!place_table[p].in_run_directory && disk_check(w->disk) == DISK_HANGS) ||
		     directory_watch(w, d) < 0))
			again = true;
		if (d->awaited[0] && w->mounts_fd < 0)
			again = true;
	}
	if (again) {
		(void)sd_event_source_set_time_relative(w->retry, RETRY_USEC);
		(void)sd_event_source_set_enabled(w->retry, SD_EVENT_ONESHOT);
	}
}

static void watch_rearm(struct watch *w)
{
	for (enum place p = 0; p < N_PLACES; p++)
		w->directories[p].inotify =
			sd_event_source_disable_unref(w->directories[p].inotify);
	watch_arm(w);
}

static int on_inotify(sd_event_source *s, const struct inotify_event *e, void *userdata)
{
	struct watch *w = userdata;
	bool gone =
		e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED | IN_Q_OVERFLOW);

	for (enum place p = 0; p < N_PLACES; p++) {
		struct directory *d = &w->directories[p];

		if (d->inotify != s)
			continue;
		if (!gone && d->awaited[0] && (e->len == 0 || strcmp(e->name, d->awaited) != 0))
			return 0; /* somebody else's, in a directory above */
		if (gone || d->awaited[0]) {
			d->inotify = sd_event_source_disable_unref(d->inotify);
			watch_arm(w);
		}
		break;
	}
	w->changed(w->userdata);
	return 0;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct watch *w = userdata;

	watch_rearm(w);
	w->changed(w->userdata);
	return 0;
}

/* The mount table has changed: what a path means may have changed too. */
static int on_mounts(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct watch *w = userdata;

	watch_rearm(w);
	w->changed(w->userdata);
	return 0;
}

static int on_first(sd_event_source *s, void *userdata)
{
	struct watch *w = userdata;

	w->changed(w->userdata);
	return 0;
}

int watch_new(sd_event *loop, const char *spool_dir, const char *run_dir, struct disk *disk,
	      watch_changed changed, void *userdata, struct watch **ret_watch)
{
	struct watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->loop = sd_event_ref(loop);
	w->disk = disk;
	w->changed = changed;
	w->userdata = userdata;
	w->mounts_fd = -1;
	r = -ENOMEM;
	for (enum place p = 0; p < N_PLACES; p++) {
		if (place_table[p].kind == PLACE_KIND_WAITING &&
		    asprintf(&w->directories[p].path, "%s/%s",
			     place_table[p].in_run_directory ? run_dir : spool_dir,
			     place_table[p].path) < 0)
			goto fail;
	}
	r = sd_event_add_time_relative(loop, &w->retry, CLOCK_MONOTONIC, 0, 0, on_retry, w);
	if (r < 0)
		goto fail;
	(void)sd_event_source_set_enabled(w->retry, SD_EVENT_OFF);
	r = sd_event_add_defer(loop, &w->first, on_first, w);
	if (r < 0)
		goto fail;
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
	for (enum place p = 0; p < N_PLACES; p++) {
		sd_event_source_disable_unref(w->directories[p].inotify);
		free(w->directories[p].path);
	}
	sd_event_source_disable_unref(w->mounts);
	sd_event_source_disable_unref(w->retry);
	sd_event_source_disable_unref(w->first);
	close_fdp(&w->mounts_fd);
	sd_event_unref(w->loop);
	free(w);
}
