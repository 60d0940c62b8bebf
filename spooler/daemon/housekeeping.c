/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * housekeeping - see housekeeping.h.
 *
 * A sweep visits the directories of `swept` one after the other. For each it reads the names in
 * slices (a defer source, so that publishing goes on in between), removes what is too old, sums up
 * the sizes, and remembers the oldest names in a bounded list; if the sum is above the limit, it
 * removes from that list, in slices too.
 *
 * How much is swept depends on the occasion: everything once an hour, and as little as it takes
 * when something has come. However often that is, and however much lies there, sweeps for what
 * comes take but a small part of the time.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "spooler/daemon/housekeeping.h"
#include "spooler/daemon/disk.h"
#include "hook/spool.h"
#include "spooler/base/log.h"
#include "spooler/base/loop.h"
#include "spooler/spool/dropped.h"
#include "spooler/spool/spoolid.h"
#include "spooler/base/util.h"

#define SLICE 256			 /* names between two returns to the event loop */
#define OLDEST_MAX (32 * 1024)		 /* names that one pass can remove by size */
#define SWEEP_USEC (3600 * USEC_PER_SEC) /* ages are looked at this often */
#define SWEEP_ACCURACY_USEC (300 * USEC_PER_SEC)
#define LOOK_EVENTS 16 /* archived between two looks at the space that is left */
#define BLOCK 4096     /* about what a small file takes */
#define LOOK_BYTES (64 * 1024)
#define LOW_SPACE_PERCENT 5	/* below: the archive gives way */
#define ENOUGH_SPACE_PERCENT 10 /* until there is so much again */
#define KEEP_PERCENT 90		/* of a limit, once it is crossed, so that not each event sweeps */
#define REST 20			/* after a sweep for what came: so many times as long as it took */

/* In this order: first what is archived, then what waits, if that is bounded, then the rest. */
static const enum place swept[] = {
	PLACE_SENT, PLACE_SKIPPED, PLACE_NEW, PLACE_TMP, PLACE_EMERGENCY_TMP, PLACE_FAILED,
};

enum extent { /* how many of them a sweep visits */
	      SWEEP_ARCHIVED = 2,
	      SWEEP_WAITING = 3,
	      SWEEP_ALL = ELEMENTSOF(swept),
};

struct housekeeping {
	char *spool_dir, *run_dir;
	struct config_spool limits;
	struct disk *disk;
	sd_event_source *work, *timer, *rest;

	bool running;
	size_t pass;	    /* of this sweep: an index of `swept` */
	enum extent extent; /* of this sweep */
	enum extent again;  /* of the next, which begins when this one is over; 0: none */
	bool come;	    /* since the last look at what came */
	uint64_t began_usec, rested_usec;
	DIR *directory;
	struct id_list oldest;
	bool removing; /* second half of a pass */
	uint64_t names, bytes, limit;

	/* Archived since the last look at the space that is left. */
	uint64_t unlooked_events, unlooked_bytes;
	struct housekeeping_counts counts;
};

static void sweep(struct housekeeping *a, enum extent extent);

static uint64_t now_ms(void)
{
	return now_usec(CLOCK_REALTIME) / 1000;
}

static enum place place_of(const struct housekeeping *a)
{
	return swept[a->pass];
}

static bool is_archive(const struct housekeeping *a)
{
	return place_table[place_of(a)].kind == PLACE_KIND_ARCHIVED;
}

static bool is_scratch(const struct housekeeping *a)
{
	return place_table[place_of(a)].kind == PLACE_KIND_SCRATCH;
}

/* A million waiting events are not looked at for nothing. */
static bool is_needed(const struct housekeeping *a)
{
	return place_of(a) != PLACE_NEW || a->limits.queue_size > 0;
}

/* --- one pass */

static int pass_open(struct housekeeping *a)
{
	_cleanup_close_ int top = -1, fd = -1;

	top = place_open_top(place_table[place_of(a)].in_run_directory ? a->run_dir : a->spool_dir);
	fd = place_open(top, top, place_of(a));
	if (fd < 0)
		return fd;
	a->directory = fdopendir(fd);
	if (!a->directory)
		return -errno;
	TAKE_FD(fd);
	a->names = a->bytes = 0;
	a->removing = false;
	return 0;
}

/* How many bytes this directory may hold, given what the configuration says and what the disk
   has left. */
static uint64_t pass_limit(const struct housekeeping *a)
{
	uint64_t limit = is_archive(a)		    ? a->limits.sent_size
			 : place_of(a) == PLACE_NEW ? a->limits.queue_size
						    : UINT64_MAX;
	uint64_t wanted, available, excess;
	struct statvfs fs;

	if (!is_archive(a) || fstatvfs(dirfd(a->directory), &fs) < 0 || fs.f_blocks == 0)
		return limit;
	available = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (fs.f_bavail * 100 < fs.f_blocks * LOW_SPACE_PERCENT) {
		wanted = fs.f_blocks * ENOUGH_SPACE_PERCENT / 100 * fs.f_frsize;
		excess = wanted > available ? wanted - available : 0;
		limit = a->bytes <= excess	    ? 0
			: limit < a->bytes - excess ? limit
						    : a->bytes - excess;
	}
	if (fs.f_files > 0 && fs.f_favail * 100 < fs.f_files * LOW_SPACE_PERCENT &&
	    limit > a->bytes / 2)
		limit = a->bytes / 2;
	return limit;
}

static uint64_t ms_of(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000 + (uint64_t)t->tv_nsec / 1000000;
}

static bool too_old(const struct housekeeping *a, const struct stat *st)
{
	uint64_t now = now_ms();

	if (is_archive(a)) /* since it was moved here, which the change time says */
		return ms_of(&st->st_ctim) + a->limits.sent_age_s * 1000 < now;
	if (is_scratch(a))
		return ms_of(&st->st_mtim) + a->limits.tmp_age_s * 1000 < now;
	return false;
}

static void look_at(struct housekeeping *a, const char *name)
{
	struct spool_id e = {0};
	bool is_record = spool_id_parse(name, &e);
	struct stat st;

	if (!is_record && !is_scratch(a))
		return;
	if (fstatat(dirfd(a->directory), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (too_old(a, &st)) {
		(void)unlinkat(dirfd(a->directory), name, 0); /* next time, then */
		return;
	}
	a->names++;
	a->bytes += spool_bytes_on_disk(&st);
	if (is_archive(a) || place_of(a) == PLACE_NEW)
		(void)id_list_add(&a->oldest, &e,
				  OLDEST_MAX); /* without memory the next sweep removes more */
}

static void remove_oldest(struct housekeeping *a)
{
	char name[37];
	struct stat st;

	spool_id_name(&a->oldest.entries[a->oldest.position++], name);
	if (place_of(a) == PLACE_NEW) /* or it would be reported as lost */
		(void)dropped_note(a->run_dir, dirfd(a->directory), name);
	if (fstatat(dirfd(a->directory), name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    unlinkat(dirfd(a->directory), name, 0) < 0)
		return;
	a->names--;
	a->bytes -= spool_bytes_on_disk(&st) < a->bytes ? spool_bytes_on_disk(&st) : a->bytes;
	if (place_of(a) == PLACE_NEW) {
		a->counts.dropped++;
		log_about(LOG_ERR,
			  &(struct log_about){.message = LOG_MESSAGE_EVENT_DROPPED, .event = name},
			  "event %s dropped undelivered: new/ is larger than spool.queue_size",
			  name);
	}
}

/* The first half is over: the directory has been read. */
static void pass_summed_up(struct housekeeping *a)
{
	uint64_t limit = pass_limit(a);

	a->removing = true;
	a->limit = limit;
	id_list_sort(&a->oldest, OLDEST_MAX);
	if (a->bytes > limit)
		a->limit = limit / 100 * KEEP_PERCENT;
	else
		a->oldest.n = 0;
}

static void pass_abandon(struct housekeeping *a)
{
	if (a->directory)
		(void)closedir(a->directory);
	a->directory = NULL;
	id_list_clear(&a->oldest);
}

static void pass_close(struct housekeeping *a)
{
	if (a->bytes > a->limit && a->oldest.n > 0 && a->oldest.partial)
		sweep(a, a->extent);
	switch (place_of(a)) {
	case PLACE_SENT:
		a->counts.sent = a->names;
		a->counts.sent_bytes = a->bytes;
		break;
	case PLACE_SKIPPED:
		a->counts.skipped = a->names;
		break;
	case PLACE_FAILED:
		a->counts.failed = a->names;
		break;
	default:
		break;
	}
	pass_abandon(a);
}

/* A slice of the pass; true when the pass is over. */
static bool pass_slice(struct housekeeping *a)
{
	for (int i = 0; i < SLICE; i++) {
		if (a->removing) {
			if (a->oldest.position == a->oldest.n || a->bytes <= a->limit)
				return true;
			remove_oldest(a);
		} else {
			const struct dirent *de = readdir(a->directory);

			if (!de)
				pass_summed_up(a);
			else if (!spool_is_dots(de->d_name))
				look_at(a, de->d_name);
		}
	}
	return false;
}

/* --- the sweep */

static void sweep_finish(struct housekeeping *a)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	enum extent again = a->again;

	(void)sd_event_source_set_enabled(a->work, SD_EVENT_OFF);
	a->running = false;
	a->again = 0;
	a->rested_usec = now + REST * (now - a->began_usec);
	if (again > 0)
		sweep(a, again);
	else if (a->come)
		housekeeping_spool_changed(a);
}

static int on_work(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct housekeeping *a = userdata;

	if (disk_check(a->disk) == DISK_HANGS) {
		pass_abandon(a);
		a->pass = a->extent;
	}
	while (!a->directory) {
		if (a->pass == a->extent || a->pass == SWEEP_ALL) {
			sweep_finish(a);
			return 0;
		}
		if (!is_needed(a) || pass_open(a) < 0)
			a->pass++;
	}
	if (pass_slice(a)) {
		pass_close(a);
		a->pass++;
	}
	return 0;
}

static void sweep(struct housekeeping *a, enum extent extent)
{
	if (a->running) {
		a->again = extent > a->again ? extent : a->again;
		return;
	}
	a->running = true;
	a->began_usec = now_usec(CLOCK_MONOTONIC);
	a->pass = 0;
	a->extent = extent;
	(void)sd_event_source_set_enabled(a->work, SD_EVENT_ON);
}

static void sweep_all(struct housekeeping *a)
{
	sweep(a, SWEEP_ALL);
	(void)sd_event_source_set_time_relative(a->timer, SWEEP_USEC);
	(void)sd_event_source_set_enabled(a->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
	sweep_all(userdata);
	return 0;
}

void housekeeping_spool_changed(struct housekeeping *a)
{
	a->come = a->running || now_usec(CLOCK_MONOTONIC) < a->rested_usec;
	if (a->running)
		return;
	if (!a->come) {
		sweep(a, a->limits.queue_size > 0 ? SWEEP_WAITING : SWEEP_ARCHIVED);
		return;
	}
	(void)sd_event_source_set_time(a->rest, a->rested_usec);
	(void)sd_event_source_set_enabled(a->rest, SD_EVENT_ONESHOT);
}

static int on_rest(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct housekeeping *a = userdata;

	a->rested_usec = 0;
	housekeeping_spool_changed(a);
	return 0;
}

static bool space_is_low(const struct housekeeping *a)
{
	struct statvfs fs;

	return disk_check(a->disk) == DISK_ANSWERS && statvfs(a->spool_dir, &fs) == 0 &&
	       (fs.f_bavail * 100 < fs.f_blocks * LOW_SPACE_PERCENT ||
		fs.f_favail * 100 < fs.f_files * LOW_SPACE_PERCENT);
}

void housekeeping_archived(struct housekeeping *a, uint64_t file_size)
{
	uint64_t bytes = (file_size + BLOCK - 1) / BLOCK * BLOCK;

	a->counts.sent++;
	a->counts.sent_bytes += bytes;
	a->unlooked_events++;
	a->unlooked_bytes += bytes;
	if (a->counts.sent_bytes > a->limits.sent_size) {
		sweep(a, SWEEP_ARCHIVED);
	} else if (a->unlooked_events >= LOOK_EVENTS || a->unlooked_bytes >= LOOK_BYTES) {
		a->unlooked_events = a->unlooked_bytes = 0;
		if (space_is_low(a))
			sweep(a, SWEEP_ARCHIVED);
	}
}

void housekeeping_configure(struct housekeeping *a, const struct config_spool *limits)
{
	a->limits = *limits;
	sweep_all(a);
}

const struct housekeeping_counts *housekeeping_counts(const struct housekeeping *a)
{
	return &a->counts;
}

int housekeeping_new(sd_event *loop, const char *spool_dir, const char *run_dir, struct disk *disk,
		     struct housekeeping **ret_archive)
{
	struct housekeeping *a = calloc(1, sizeof(*a));
	int r = -ENOMEM;

	if (!a)
		return -ENOMEM;
	a->disk = disk;
	a->spool_dir = strdup(spool_dir);
	a->run_dir = strdup(run_dir);
	if (!a->spool_dir || !a->run_dir)
		goto fail;
	r = loop_add_turn(loop, &a->work, on_work, a);
	if (r < 0)
		goto fail;
	r = sd_event_add_time_relative(loop, &a->timer, CLOCK_MONOTONIC, 0, SWEEP_ACCURACY_USEC,
				       on_timer, a);
	if (r < 0)
		goto fail;
	(void)sd_event_source_set_enabled(a->timer, SD_EVENT_OFF);
	r = sd_event_add_time(loop, &a->rest, CLOCK_MONOTONIC, 0, 0, on_rest, a);
	if (r < 0)
		goto fail;
	(void)sd_event_source_set_enabled(a->rest, SD_EVENT_OFF);
	*ret_archive = a;
	return 0;
fail:
	housekeeping_free(a);
	return r;
}

void housekeeping_free(struct housekeeping *a)
{
	if (!a)
		return;
	sd_event_source_disable_unref(a->work);
	sd_event_source_disable_unref(a->timer);
	sd_event_source_disable_unref(a->rest);
	if (a->directory)
		(void)closedir(a->directory);
	id_list_clear(&a->oldest);
	free(a->spool_dir);
	free(a->run_dir);
	free(a);
}
