/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * put - see put.h.
 *
 * The disk is touched only by functions that p->call runs. An atomic state decides whether such a
 * function or its caller publishes the record, and a count of users who frees the job.
 */
#include "hook/put.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hook/clock.h"
#include "hook/spool.h"
#include "hook/stamp.h"

#define WAITS_MS 4000 /* all waits but those for the emergency spool */
#define LOCK_MS 1000  /* waiting for the stamp's lock */
#define FLOOR_MS 500  /* looking for the newest id on the disk, when an epoch begins */
#define DISK_MS 2500  /* writing to the disk before it is given up */
#define HUNG_S 30     /* how long the disk is left alone after it was given up */

#define TICKS_PER_S (1000 * STAMP_TICKS_PER_MS)
#define PLAUSIBLE_S 4102444800ULL /* 2100-01-01: later ids are not believed */
#define AHEAD_S 600		  /* nor, once something is known, ids so far ahead of it */
/* Kept above the high water while the clock is behind it; not all disks sync it. */
#define MARGIN_S 60

enum job_state {
	JOB_WRITING,
	JOB_PUBLISHING,
	JOB_GIVEN_UP,
};

/* Where an epoch begins. Static, because an abandoned search may still be writing to it. */
static struct {
	gid_t gid; /* of the spool; (gid_t)-1 if it is not there */
	uint64_t now, limit, high_water, waiting;
	long long deadline_ms;
	bool late; /* given up: the disk is not asked again in this put */
} found = {.gid = (gid_t)-1};

void put_begin(struct put *p, put_call call, const char *high_water)
{
	long long now = clock_monotonic_ms();

	found.late = false;
	*p = (struct put){
		.call = call,
		.high_water = high_water,
		.deadline_ms = now + WAITS_MS,
		.last_ms = now + PUT_MS,
		.hook_fd = -EBADF,
	};
}

void put_end(struct put *p)
{
	if (p->hook_fd >= 0)
		(void)close(p->hook_fd);
	p->hook_fd = -EBADF;
}

/* --- where an epoch begins */

/* Ids above this are not believed: virtspool can make files of any name in the spool. */
static uint64_t plausible_limit(uint64_t high_water, uint64_t now)
{
	if (high_water == 0)
		return PLAUSIBLE_S * TICKS_PER_S;
	return (high_water > now ? high_water : now) + AHEAD_S * TICKS_PER_S;
}

static int search_disk(void *unused)
{
	struct stat st;
	int fd = place_open_top(spool_directory());

	(void)unused;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) == 0)
		found.gid = st.st_gid;
	found.high_water = spool_high_water(fd);
	/* Read after it: otherwise a hook that has just raised it would look like a slow clock. */
	found.now = stamp_now();
	found.limit = plausible_limit(found.high_water, found.now);
	found.waiting = spool_highest_ticks(fd, SPOOL_NEW, found.limit, found.deadline_ms);
	(void)close(fd);
	return 0;
}

static void search(struct put *p)
{
	unsigned wait_ms = clock_ms_until(p->deadline_ms, FLOOR_MS);

	if (found.late)
		return;
	found.now = stamp_now();
	found.limit = plausible_limit(0, found.now);
	found.deadline_ms = clock_monotonic_ms() + wait_ms;
	found.late = p->call(search_disk, NULL, wait_ms) == -ETIMEDOUT;
}

/* While the clock is behind the high water its time means nothing, so a margin does no harm. */
static uint64_t above_high_water(void)
{
	uint64_t behind;

	if (found.high_water == 0 || found.now > found.high_water)
		return 0;
	behind = found.high_water - found.now + TICKS_PER_S;
	return found.high_water +
	       (behind < MARGIN_S * TICKS_PER_S ? behind : MARGIN_S * TICKS_PER_S);
}

/* A record that another hook is still writing is not seen. Its id is not above the clock, unless
   the clock is behind; so it matters only if the run directory is emptied at such a moment. */
static uint64_t find_floor(void *userdata)
{
	struct put *p = userdata;
	uint64_t floor, waiting = 0;
	int fd;

	search(p);
	floor = above_high_water();
	if (found.waiting > floor)
		floor = found.waiting;
	fd = place_open_top(spool_run_directory());
	if (fd >= 0) {
		waiting = spool_highest_ticks(fd, SPOOL_EMERGENCY "/" SPOOL_NEW, found.limit,
					      clock_monotonic_ms() +
						      clock_ms_until(p->deadline_ms, FLOOR_MS));
		(void)close(fd);
	}
	return waiting > floor ? waiting : floor;
}

static int make_run_directory(struct put *p)
{
	search(p); /* for the group */
	return spool_make_run_directory(found.gid);
}

/* --- a disk that hangs */

/*
 * While a disk hangs, each hook that tries it takes seconds and leaves a process behind. So the
 * hook that gave the disk up leaves a mark. Until the mark is HUNG_S old, the others use the
 * emergency spool at once; then one of them tries the disk again.
 */
static void look_for_hung_disk(struct put *p)
{
	struct timespec now = {0};
	struct stat st;

	if (p->hook_fd < 0 || fstatat(p->hook_fd, SPOOL_HUNG_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode) || st.st_nlink != 1 || (st.st_uid != 0 && st.st_uid != geteuid()))
		return;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	p->disk = PUT_DISK_HANGS;
	if (now.tv_sec < st.st_mtim.tv_sec - 1 || now.tv_sec >= st.st_mtim.tv_sec + HUNG_S) {
		p->disk = PUT_DISK_MAY_ANSWER;
		/* the others wait for the outcome */
		(void)utimensat(p->hook_fd, SPOOL_HUNG_FILE, NULL, AT_SYMLINK_NOFOLLOW);
	}
}

static void mark_disk(struct put *p, bool hangs)
{
	int fd;

	if (p->hook_fd < 0)
		return;
	if (!hangs) {
		(void)unlinkat(p->hook_fd, SPOOL_HUNG_FILE, 0);
		return;
	}
	fd = openat(p->hook_fd, SPOOL_HUNG_FILE,
		    O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
	if (fd >= 0)
		(void)close(fd);
}

/* --- the steps */

int put_stamp(struct put *p, struct record *r)
{
	struct timespec now = {0};
	int k;

	p->hook_fd = spool_open_hook_directory();
	if (p->hook_fd == -ENOENT) {
		/* It may be there although owner and mode could not be set, or made by another. */
		(void)make_run_directory(p);
		p->hook_fd = spool_open_hook_directory();
	}
	k = stamp_take(p->hook_fd, SPOOL_STAMP_FILE, clock_ms_until(p->deadline_ms, LOCK_MS),
		       find_floor, p, &r->stamp);
	if (k < 0)
		r->flags |= RECORD_UNORDERED;
	look_for_hung_disk(p);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	r->recorded_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
	return k;
}

void put_job_init(struct put_job *j, const struct record *r, char *header, size_t header_size)
{
	atomic_init(&j->state, JOB_WRITING);
	atomic_init(&j->users, 1);
	j->ticks = r->stamp.ticks;
	memcpy(j->name, r->stamp.id, sizeof(j->name));
	j->parts[0] = (struct iovec){header, header_size};
	j->parts[1] = (struct iovec){(char *)r->document.data, r->document.size};
}

static void job_release(struct put_job *j)
{
	if (atomic_fetch_sub(&j->users, 1) == 1 && j->release)
		j->release(j);
}

static int write_to_disk(struct put_job *j, int spool_fd)
{
	int r, writing = JOB_WRITING;
	struct spool s;

	r = spool_open(spool_fd, &s);
	if (r < 0)
		return r;
	r = spool_write(&s, j->name, j->parts, 2);
	/* After the record, which may need the last inode; the sync of new/ is for both. */
	if (r == 0)
		spool_raise_high_water(spool_fd, j->high_water, j->ticks);
	if (r == 0 && atomic_compare_exchange_strong(&j->state, &writing, JOB_PUBLISHING)) {
		r = spool_publish(&s, j->name);
	} else if (r == 0) {
		spool_discard(&s, j->name); /* it is in the emergency spool by now */
		r = -ECANCELED;
	}
	spool_close(&s);
	return r;
}

static int run_job(void *userdata)
{
	struct put_job *j = userdata;
	int r, fd = place_open_top(spool_directory());

	r = fd < 0 ? fd : write_to_disk(j, fd);
	if (fd >= 0)
		(void)close(fd);
	job_release(j);
	return r;
}

static int put_on_disk(struct put *p, struct put_job *j)
{
	unsigned wait_ms = clock_ms_until(p->deadline_ms, DISK_MS);
	int r, writing = JOB_WRITING;

	if (p->disk == PUT_DISK_HANGS)
		return -ETIMEDOUT;
	atomic_store(&j->users, 2);
	r = p->call(run_job, j, wait_ms);
	if (r == -ETIMEDOUT) {
		(void)atomic_compare_exchange_strong(&j->state, &writing, JOB_GIVEN_UP);
		if (wait_ms == DISK_MS)
			mark_disk(p, true);
	} else {
		atomic_store(&j->users, 1); /* it has ended, or did not begin */
		if (p->disk == PUT_DISK_MAY_ANSWER)
			mark_disk(p, false);
	}
	return r;
}

enum put_result put_record(struct put *p, struct put_job *j)
{
	enum put_result result = PUT_SPOOLED;

	j->high_water = p->high_water;
	p->disk_error = put_on_disk(p, j);
	if (p->disk_error < 0) {
		p->emergency_error = spool_put_emergency(j->name, j->parts, 2, p->last_ms);
		if (p->emergency_error == -ENOENT && make_run_directory(p) == 0)
			p->emergency_error = spool_put_emergency(j->name, j->parts, 2, p->last_ms);
		result = p->emergency_error == 0 ? PUT_IN_EMERGENCY : PUT_LOST;
	}
	job_release(j);
	return result;
}

/* --- when all else failed */

static void add_argument(struct text *t, struct bytes value)
{
	text_add(t, " '");
	text_add_escaped(t, value.data, value.size < 256 ? value.size : 256);
	text_add(t, "'");
}

void put_describe_loss(const struct put *p, const struct record *r, struct text *t)
{
	text_add(t, "event lost:");
	add_argument(t, r->driver);
	add_argument(t, r->object);
	add_argument(t, r->operation);
	add_argument(t, r->suboperation);
	text_add(t, ", epoch ");
	text_add(t, r->stamp.epoch);
	text_add(t, " sequence ");
	text_add_number(t, r->stamp.sequence, 1);
	text_add(t, ": cannot write to '");
	text_add(t, spool_directory());
	text_add(t, "': ");
	text_add(t, strerror(-p->disk_error));
	text_add(t, ", nor to the emergency spool in '");
	text_add(t, spool_run_directory());
	text_add(t, "': ");
	text_add(t, strerror(-p->emergency_error));
}
