/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* follow - see follow.h. */
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>

#include "spooler/admin/command.h"
#include "spooler/admin/follow.h"
#include "hook/spool.h"
#include "spooler/base/util.h"

/* A record is moved into its directory; what somebody copies there is complete when it is
   closed. */
#define ARRIVED (IN_MOVED_TO | IN_CLOSE_WRITE)
#define GONE (IN_DELETE_SELF | IN_MOVE_SELF)
#define APPEARED (IN_MOVED_TO | IN_CREATE)

struct follower {
	struct lookup *l;
	unsigned among;
	const struct filter *filter;
	struct listing *listing;
	struct id_list shown; /* sorted, each with the place where it was */
	int inotify;
	int watches[N_PLACES]; /* -1: the directory is not there */
	int parents[2];	       /* in which the emergency spool may appear */
	bool rescan;
};

/* --- what was shown */

/* NULL: it was not yet. */
static struct spool_id *find_shown(const struct follower *w, const struct spool_id *id)
{
	size_t i = id_list_find(&w->shown, id);

	return i < w->shown.n && spool_id_compare(&w->shown.entries[i], id) == 0
		       ? &w->shown.entries[i]
		       : NULL;
}

/* New ids are nearly always the largest, so hardly anything is moved. */
static int note_shown(struct follower *w, const struct spool_id *id, enum place place)
{
	struct spool_id *known = find_shown(w, id);
	size_t i = id_list_find(&w->shown, id);
	int r = known ? 0 : id_list_add(&w->shown, id, SIZE_MAX / 8);

	if (r < 0)
		return r;
	if (!known) {
		memmove(&w->shown.entries[i + 1], &w->shown.entries[i],
			(w->shown.n - 1 - i) * sizeof(*w->shown.entries));
		w->shown.entries[i] = *id;
	}
	w->shown.entries[i].source = (unsigned char)place;
	return 0;
}

static bool is_due(const struct follower *w, const struct spool_id *id)
{
	const struct spool_id *known = find_shown(w, id);

	if (!filter_matches_time(w->filter, spool_id_ms(id)))
		return false;
	return !known || (id->source == PLACE_FAILED && known->source != PLACE_FAILED);
}

/* --- events */

/* Longer ids where it takes more characters until this one is unique. */
static void widen(struct follower *w, const struct spool_id *id)
{
	size_t i = id_list_find(&w->shown, id), common = 0;

	if (w->listing->width == 0)
		return;
	if (i > 0)
		common = spool_id_common(&w->shown.entries[i - 1], id);
	if (i < w->shown.n && spool_id_common(&w->shown.entries[i], id) > common)
		common = spool_id_common(&w->shown.entries[i], id);
	if (common + 1 > w->listing->id_width && common < 36)
		w->listing->id_width = common + 1;
}

/* It may have moved on since it was announced: then it is read where it is now. */
static int read_moving(struct follower *w, const struct spool_id *id, struct found *ret)
{
	unsigned want = listing_wants(w->listing);
	int r = lookup_read(w->l, id, want, ret);
	struct spool_id moved;
	char name[37];

	spool_id_name(id, name);
	for (int i = 0; i < N_PLACES && r == -ENOENT; i++) {
		if (lookup_find(w->l, w->among, name, &moved) != 1)
			break;
		r = lookup_read(w->l, &moved, want, ret);
	}
	return r;
}

static int show(struct follower *w, const struct spool_id *id)
{
	struct found f;
	int r = read_moving(w, id, &f);

	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		(void)command_event_failure("cannot read", id, r);
		return 0;
	}
	widen(w, id);
	if (found_matches(&f, w->filter))
		listing_event(w->listing, &f);
	r = note_shown(w, id, f.place);
	found_release(&f);
	return r;
}

/* Shows those of the list that are due, oldest first, and empties it. */
static int show_all(struct follower *w, struct id_list *list)
{
	struct waiting waiting;
	int r = 0;

	id_list_sort(list, SIZE_MAX / 8);
	waiting_load(&waiting, w->l);
	w->listing->waiting = &waiting;
	for (size_t i = 0; i < list->n && r == 0 && !command_output_ended(); i++)
		if (is_due(w, &list->entries[i]))
			r = show(w, &list->entries[i]);
	w->listing->waiting = NULL;
	waiting_release(&waiting);
	(void)fflush(stdout);
	id_list_clear(list);
	return r;
}

/* --- the directories */

static int watch_directory(const struct follower *w, int fd, uint32_t mask)
{
	char path[64];

	if (fd < 0)
		return -1;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return inotify_add_watch(w->inotify, path, mask);
}

/* The emergency spool is made when it is needed first. */
static void watch_parents(struct follower *w)
{
	_cleanup_close_ int run = place_open_top(spool_run_directory());
	_cleanup_close_ int emergency = run < 0 ? -1 : place_open_directory(run, SPOOL_EMERGENCY);

	w->parents[0] = watch_directory(w, run, APPEARED);
	w->parents[1] = watch_directory(w, emergency, APPEARED | GONE);
}

/* Opens and watches the directories that exist. A scan afterwards misses nothing. */
static int open_places(struct follower *w)
{
	struct lookup again;
	int r;

	if (w->among & PLACE_BIT(PLACE_EMERGENCY))
		watch_parents(w);
	r = lookup_open(&again);
	if (r < 0) {
		lookup_release(&again);
		return r;
	}
	lookup_release(w->l);
	*w->l = again;
	for (enum place p = 0; p < N_PLACES; p++)
		w->watches[p] = w->among & PLACE_BIT(p)
					? watch_directory(w, w->l->directories[p], ARRIVED | GONE)
					: -1;
	return 0;
}

static int scan(struct follower *w)
{
	struct id_list list = {0};
	int r = open_places(w);

	if (r < 0)
		return command_spool_failure(r);
	w->rescan = false;
	r = lookup_scan(w->l, w->among, w->filter, SIZE_MAX / 8, &list);
	if (r == 0)
		r = show_all(w, &list);
	id_list_clear(&list);
	return r < 0 ? command_failure("cannot follow", r) : COMMAND_OK;
}

/* The last n of those that are there and match, newest first. */
static int find_last(struct follower *w, uint64_t n, struct id_list *ret)
{
	int r = 0;

	for (size_t i = w->shown.n; i > 0 && ret->n < n && r == 0; i--) {
		const struct spool_id *id = &w->shown.entries[i - 1];
		struct found f;

		if (!(w->among & PLACE_BIT(id->source)) ||
		    !filter_matches_time(w->filter, spool_id_ms(id)) ||
		    lookup_read(w->l, id, 0, &f) < 0)
			continue;
		if (found_matches(&f, w->filter))
			r = id_list_add(ret, id, SIZE_MAX / 8);
		found_release(&f);
	}
	return r;
}

/* Everything that is in the spool now counts as shown, and the last n of it are. */
static int begin(struct follower *w, uint64_t n)
{
	const struct filter everything = {0};
	struct id_list last = {.newest = true}, none = {0};
	int r = open_places(w);

	if (r < 0)
		return command_spool_failure(r);
	r = lookup_scan(w->l, PLACES_ALL, &everything, SIZE_MAX / 8, &w->shown);
	if (r == 0)
		r = find_last(w, n, &last);
	if (r == 0) {
		listing_start(w->listing, w->l, &last);
		none = w->shown; /* show_all() shows what is not among the shown */
		w->shown = (struct id_list){0};
		last.newest = false;
		r = show_all(w, &last);
		id_list_clear(&w->shown);
		w->shown = none;
	}
	id_list_clear(&last);
	return r < 0 ? command_failure("cannot read the spool", r) : COMMAND_OK;
}

/* --- what inotify says */

static enum place place_of(const struct follower *w, int watch)
{
	for (enum place p = 0; p < N_PLACES; p++)
		if (w->watches[p] >= 0 && w->watches[p] == watch)
			return p;
	return N_PLACES;
}

static bool is_emergency_spool(const struct follower *w, const struct inotify_event *e)
{
	const char *name = e->wd == w->parents[0]   ? SPOOL_EMERGENCY
			   : e->wd == w->parents[1] ? SPOOL_NEW
						    : NULL;

	return name && e->mask & APPEARED && e->len > 0 && strcmp(e->name, name) == 0;
}

static int take(struct follower *w, const struct inotify_event *e, struct id_list *list)
{
	enum place place = place_of(w, e->wd);
	struct spool_id id;

	if (e->mask & (IN_Q_OVERFLOW | GONE | IN_UNMOUNT) || is_emergency_spool(w, e))
		w->rescan = true;
	if (place == N_PLACES || !(e->mask & ARRIVED) || e->len == 0 ||
	    !spool_id_parse(e->name, &id))
		return 0;
	id.source = (unsigned char)place;
	return id_list_add(list, &id, SIZE_MAX / 8);
}

static int read_events(struct follower *w)
{
	char buffer[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct id_list list = {0};
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = read(w->inotify, buffer, sizeof(buffer))) > 0)
		for (char *at = buffer; at < buffer + n && r == 0;) {
			const struct inotify_event *e = (const struct inotify_event *)at;

			r = take(w, e, &list);
			at += sizeof(*e) + e->len;
		}
	if (r == 0)
		r = show_all(w, &list);
	id_list_clear(&list);
	if (r < 0)
		return command_failure("cannot follow", r);
	return w->rescan ? scan(w) : COMMAND_OK;
}

static int run(struct follower *w)
{
	struct pollfd fds[] = {{.fd = w->inotify, .events = POLLIN}, {.fd = STDOUT_FILENO}};
	int r = COMMAND_OK;

	while (r == COMMAND_OK && !command_output_ended()) {
		if (poll(fds, ELEMENTSOF(fds), -1) < 0 && errno != EINTR)
			return command_failure("cannot follow", -errno);
		if (fds[1].revents & (POLLERR | POLLHUP))
			break; /* nobody reads it any more */
		r = read_events(w);
	}
	return r;
}

int follow(struct lookup *l, unsigned among, const struct filter *f, struct listing *g, uint64_t n)
{
	struct follower w = {
		.l = l, .among = among, .filter = f, .listing = g, .parents = {-1, -1}};
	int r;

	w.inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w.inotify < 0)
		return command_failure("cannot use inotify", -errno);
	g->follows = true;
	r = begin(&w, n);
	if (r == COMMAND_OK)
		r = run(&w);
	(void)close(w.inotify);
	id_list_clear(&w.shown);
	return r;
}
