/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hook-watch - see hook-watch.h. */
#include <sys/inotify.h>

#include "spooler/base/util.h"
#include "spooler/daemon/hook-watch.h"

#define CHANGES                                                                                    \
	(IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_CLOSE_WRITE |        \
	 IN_DELETE_SELF | IN_MOVE_SELF)

/* The directory itself, and DRIVER.d of each kind of guests. */
#define N_DIRECTORIES (1 + HOOK_N_GUEST_DRIVERS)

struct hook_watch {
	sd_event *loop;
	char *hooksdir;
	sd_event_source *watches[N_DIRECTORIES]; /* NULL: it is not there, or cannot be watched */
	bool is_current;
	struct hook_file files[HOOK_N_DRIVERS];
	hook_watch_changed changed;
	void *userdata;
};

static int on_changed(sd_event_source *s, const struct inotify_event *event, void *userdata)
{
	struct hook_watch *w = userdata;

	/* A watch ends with its directory; another one may take its place. */
	for (size_t i = 0; i < N_DIRECTORIES; i++)
		if (w->watches[i] == s &&
		    event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED))
			w->watches[i] = sd_event_source_disable_unref(s);
	w->is_current = false;
	w->changed(w->userdata);
	return 0;
}

static void watch_directory(struct hook_watch *w, size_t i)
{
	static const char *const drivers[] = HOOK_DRIVERS;
	_cleanup_free_ char *path = NULL;
	int r = i == 0 ? asprintf(&path, "%s", w->hooksdir)
		       : asprintf(&path, "%s/%s.d", w->hooksdir, drivers[i - 1]);

	if (r >= 0 && !w->watches[i])
		(void)sd_event_add_inotify(w->loop, &w->watches[i], path, CHANGES | IN_ONLYDIR,
					   on_changed, w);
}

const struct hook_file *hook_watch_files(struct hook_watch *w)
{
	if (w->is_current && w->watches[0])
		return w->files;
	for (size_t i = 0; i < N_DIRECTORIES; i++)
		watch_directory(w, i);
	hook_files_look(w->hooksdir, w->files);
	w->is_current = true;
	return w->files;
}

int hook_watch_new(sd_event *loop, const char *hooksdir, hook_watch_changed changed, void *userdata,
		   struct hook_watch **ret_watch)
{
	struct hook_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->hooksdir = strdup(hooksdir);
	if (!w->hooksdir) {
		free(w);
		return -ENOMEM;
	}
	w->loop = sd_event_ref(loop);
	w->changed = changed;
	w->userdata = userdata;
	*ret_watch = w;
	return 0;
}

void hook_watch_free(struct hook_watch *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < N_DIRECTORIES; i++)
		sd_event_source_disable_unref(w->watches[i]);
	sd_event_unref(w->loop);
	free(w->hooksdir);
	free(w);
}
