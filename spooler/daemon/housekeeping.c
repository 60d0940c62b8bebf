/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * housekeeping - see housekeeping.h.
 *
 * A sweep visits the directories of `swept` one after the other. For each it reads the names in
 * slices (a defer source, so that publishing goes on in between), removes what is too old, sums up
 * the sizes, and remembers the oldest names in a bounded list; if the sum is above the limit, it
 * removes from that list, in slices too.
 *
 * How much is swept depends on the occasion: everything once an hour, and no more than necessary
 * when files have arrived. However often files arrive, and however many there are, these sweeps
 * take only a small part of the time.
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
#define ENOUGH_SPACE_PERCENT 10 /* until this much is free again */
#define KEEP_PERCENT 90		/* of a limit, once it is crossed, so that not each event sweeps */
#define REST 20			/* after a sweep for new files: rest this many times its duration */

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

static void sweep(struct housekeeping *h, enum extent extent);

static uint64_t now_ms(void)
{
	return now_usec(CLOCK_REALTIME) / 1000;
}

static enum place place_of(const struct housekeeping *h)
{
	return swept[h->pass];
}

static bool is_archive(const struct housekeeping *h)
{
	return place_table[place_of(h)].kind == PLACE_KIND_ARCHIVED;
}

static bool is_scratch(const struct housekeeping *h)
{
	return place_table[place_of(h)].kind == PLACE_KIND_SCRATCH;
}

/* A million waiting events are not looked at for nothing. */
static bool is_needed(const struct housekeeping *h)
{
	return place_of(h) != PLACE_NEW || h->limits.queue_size > 0;
}

/* --- one pass */

static int pass_open(struct housekeeping *h)
{
	_cleanup_close_ int top = -1, fd = -1;

	top = place_open_top(place_table[place_of(h)].in_run_directory ? h->run_dir : h->spool_dir);
	fd = place_open(top, top, place_of(h));
	if (fd < 0)
		return fd;
	h->directory = fdopendir(fd);
	if (!h->directory)
		return -errno;
	TAKE_FD(fd);
	h->names = h->bytes = 0;
	h->removing = false;
	return 0;
}

/* How many bytes this directory may hold, given what the configuration says and what the disk
   has left. */
static uint64_t pass_limit(const struct housekeeping *h)
{
	uint64_t limit = is_archive(h)		    ? h->limits.sent_size
			 : place_of(h) == PLACE_NEW ? h->limits.queue_size
						    : UINT64_MAX;
	uint64_t wanted, available, excess;
	struct statvfs fs;

	if (!is_archive(h) || fstatvfs(dirfd(h->directory), &fs) < 0 || fs.f_blocks == 0)
		return limit;
	available = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (fs.f_bavail * 100 < fs.f_blocks * LOW_SPACE_PERCENT) {
		wanted = fs.f_blocks * ENOUGH_SPACE_PERCENT / 100 * fs.f_frsize;
		excess = wanted > available ? wanted - available : 0;
		limit = h->bytes <= excess	    ? 0
			: limit < h->bytes - excess ? limit
						    : h->bytes - excess;
	}
	if (fs.f_files > 0 && fs.f_favail * 100 < fs.f_files * LOW_SPACE_PERCENT &&
	    limit > h->bytes / 2)
		limit = h->bytes / 2;
	return limit;
}

static uint64_t ms_of(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000 + (uint64_t)t->tv_nsec / 1000000;
}

static bool too_old(const struct housekeeping *h, const struct stat *st)
{
	uint64_t now = now_ms();

	if (is_archive(h)) /* since it was moved here, which the change time says */
		return ms_of(&st->st_ctim) + h->limits.sent_age_s * 1000 < now;
	if (is_scratch(h))
		return ms_of(&st->st_mtim) + h->limits.tmp_age_s * 1000 < now;
	return false;
}

static void look_at(struct housekeeping *h, const char *name)
{
	struct spool_id e = {0};
	bool is_record = spool_id_parse(name, &e);
	struct stat st;

	if (!is_record && !is_scratch(h))
		return;
	if (fstatat(dirfd(h->directory), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (too_old(h, &st)) {
		(void)unlinkat(dirfd(h->directory), name, 0); /* next time, then */
		return;
	}
	h->names++;
	h->bytes += spool_bytes_on_disk(&st);
	if (is_archive(h) || place_of(h) == PLACE_NEW)
		(void)id_list_add(&h->oldest, &e,
				  OLDEST_MAX); /* without memory the next sweep removes more */
}

static void remove_oldest(struct housekeeping *h)
{
	char name[37];
	struct stat st;

	spool_id_name(&h->oldest.entries[h->oldest.position++], name);
	if (place_of(h) == PLACE_NEW) /* or it would be reported as lost */
		(void)dropped_note(h->run_dir, dirfd(h->directory), name);
	if (fstatat(dirfd(h->directory), name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    unlinkat(dirfd(h->directory), name, 0) < 0)
		return;
	h->names--;
	h->bytes -= spool_bytes_on_disk(&st) < h->bytes ? spool_bytes_on_disk(&st) : h->bytes;
	if (place_of(h) == PLACE_NEW) {
		h->counts.dropped++;
		log_about(LOG_ERR,
			  &(struct log_about){.message = LOG_MESSAGE_EVENT_DROPPED, .event = name},
			  "event %s dropped undelivered: new/ is larger than spool.queue_size",
			  name);
	}
}

/* The first half is over: the directory has been read. */
static void pass_summed_up(struct housekeeping *h)
{
	uint64_t limit = pass_limit(h);

	h->removing = true;
	h->limit = limit;
	id_list_sort(&h->oldest, OLDEST_MAX);
	if (h->bytes > limit)
		h->limit = limit / 100 * KEEP_PERCENT;
	else
		h->oldest.n = 0;
}

static void pass_abandon(struct housekeeping *h)
{
	if (h->directory)
		(void)closedir(h->directory);
	h->directory = NULL;
	id_list_clear(&h->oldest);
}

static void pass_close(struct housekeeping *h)
{
	if (h->bytes > h->limit && h->oldest.n > 0 && h->oldest.partial)
		sweep(h, h->extent);
	switch (place_of(h)) {
	case PLACE_SENT:
		h->counts.sent = h->names;
		h->counts.sent_bytes = h->bytes;
		break;
	case PLACE_SKIPPED:
		h->counts.skipped = h->names;
		break;
	case PLACE_FAILED:
		h->counts.failed = h->names;
		break;
	default:
		break;
	}
	pass_abandon(h);
}

/* A slice of the pass; true when the pass is over. */
static bool pass_slice(struct housekeeping *h)
{
	for (int i = 0; i < SLICE; i++) {
		if (h->removing) {
			if (h->oldest.position == h->oldest.n || h->bytes <= h->limit)
				return true;
			remove_oldest(h);
		} else {
			const struct dirent *de = readdir(h->directory);

			if (!de)
				pass_summed_up(h);
			else if (!spool_is_dots(de->d_name))
				look_at(h, de->d_name);
		}
	}
	return false;
}

/* --- the sweep */

static void sweep_finish(struct housekeeping *h)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	enum extent again = h->again;

	(void)sd_event_source_set_enabled(h->work, SD_EVENT_OFF);
	h->running = false;
	h->again = 0;
	h->rested_usec = now + REST * (now - h->began_usec);
	if (again > 0)
		sweep(h, again);
	else if (h->come)
		housekeeping_spool_changed(h);
}

static int on_work(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct housekeeping *h = userdata;

	if (disk_check(h->disk) == DISK_HANGS) {
		pass_abandon(h);
		h->pass = h->extent;
	}
	while (!h->directory) {
		if (h->pass == h->extent || h->pass == SWEEP_ALL) {
			sweep_finish(h);
			return 0;
		}
		if (!is_needed(h) || pass_open(h) < 0)
			h->pass++;
	}
	if (pass_slice(h)) {
		pass_close(h);
		h->pass++;
	}
	return 0;
}

static void sweep(struct housekeeping *h, enum extent extent)
{
	if (h->running) {
		h->again = extent > h->again ? extent : h->again;
		return;
	}
	h->running = true;
	h->began_usec = now_usec(CLOCK_MONOTONIC);
	h->pass = 0;
	h->extent = extent;
	(void)sd_event_source_set_enabled(h->work, SD_EVENT_ON);
}

static void sweep_all(struct housekeeping *h)
{
	sweep(h, SWEEP_ALL);
	(void)sd_event_source_set_time_relative(h->timer, SWEEP_USEC);
	(void)sd_event_source_set_enabled(h->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
	sweep_all(userdata);
	return 0;
}

void housekeeping_spool_changed(struct housekeeping *h)
{
	h->come = h->running || now_usec(CLOCK_MONOTONIC) < h->rested_usec;
	if (h->running)
		return;
	if (!h->come) {
		sweep(h, h->limits.queue_size > 0 ? SWEEP_WAITING : SWEEP_ARCHIVED);
		return;
	}
	(void)sd_event_source_set_time(h->rest, h->rested_usec);
	(void)sd_event_source_set_enabled(h->rest, SD_EVENT_ONESHOT);
}

static int on_rest(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct housekeeping *h = userdata;

	h->rested_usec = 0;
	housekeeping_spool_changed(h);
	return 0;
}

static bool space_is_low(const struct housekeeping *h)
{
	struct statvfs fs;

	return disk_check(h->disk) == DISK_ANSWERS && statvfs(h->spool_dir, &fs) == 0 &&
	       (fs.f_bavail * 100 < fs.f_blocks * LOW_SPACE_PERCENT ||
		fs.f_favail * 100 < fs.f_files * LOW_SPACE_PERCENT);
}

void housekeeping_archived(struct housekeeping *h, uint64_t file_size)
{
	uint64_t bytes = (file_size + BLOCK - 1) / BLOCK * BLOCK;

	h->counts.sent++;
	h->counts.sent_bytes += bytes;
	h->unlooked_events++;
	h->unlooked_bytes += bytes;
	if (h->counts.sent_bytes > h->limits.sent_size) {
		sweep(h, SWEEP_ARCHIVED);
	} else if (h->unlooked_events >= LOOK_EVENTS || h->unlooked_bytes >= LOOK_BYTES) {
		h->unlooked_events = h->unlooked_bytes = 0;
		if (space_is_low(h))
			sweep(h, SWEEP_ARCHIVED);
	}
}

void housekeeping_configure(struct housekeeping *h, const struct config_spool *limits)
{
	h->limits = *limits;
	sweep_all(h);
}

const struct housekeeping_counts *housekeeping_counts(const struct housekeeping *h)
{
	return &h->counts;
}

int housekeeping_new(sd_event *loop, const char *spool_dir, const char *run_dir, struct disk *disk,
		     struct housekeeping **ret_housekeeping)
{
	struct housekeeping *h = calloc(1, sizeof(*h));
	int r = -ENOMEM;

	if (!h)
		return -ENOMEM;
	h->disk = disk;
	h->spool_dir = strdup(spool_dir);
	h->run_dir = strdup(run_dir);
	if (!h->spool_dir || !h->run_dir)
		goto fail;
	r = loop_add_turn(loop, &h->work, on_work, h);
	if (r < 0)
		goto fail;
	r = sd_event_add_time_relative(loop, &h->timer, CLOCK_MONOTONIC, 0, SWEEP_ACCURACY_USEC,
				       on_timer, h);
	if (r < 0)
		goto fail;
	(void)sd_event_source_set_enabled(h->timer, SD_EVENT_OFF);
	r = sd_event_add_time(loop, &h->rest, CLOCK_MONOTONIC, 0, 0, on_rest, h);
	if (r < 0)
		goto fail;
	(void)sd_event_source_set_enabled(h->rest, SD_EVENT_OFF);
	*ret_housekeeping = h;
	return 0;
fail:
	housekeeping_free(h);
	return r;
}

void housekeeping_free(struct housekeeping *h)
{
	if (!h)
		return;
	sd_event_source_disable_unref(h->work);
	sd_event_source_disable_unref(h->timer);
	sd_event_source_disable_unref(h->rest);
	if (h->directory)
		(void)closedir(h->directory);
	id_list_clear(&h->oldest);
	free(h->spool_dir);
	free(h->run_dir);
	free(h);
}
