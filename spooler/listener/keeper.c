/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * keeper - see keeper.h.
 *
 * A file system that hangs must not hold the thread that hears libvirt's events: it would lose the
 * connection. So another thread writes to the disk, and what it did not finish in time goes to the
 * emergency spool. As in the hook, one atomic state decides which of the two it is; while the
 * writer still hangs, the disk is not waited for again.
 */
#include "spooler/listener/keeper.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "hook/crc32c.h"
#include "hook/spool.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"

#define LOCK_MS 1000  /* waiting for the stamp's lock */
#define FLOOR_MS 500  /* looking for the newest waiting record, when an epoch begins */
#define DISK_MS 2500  /* writing to the disk before it is given up */
#define LOSS_LOG_S 10 /* losses are logged at most so often */

enum job_state {
	JOB_WRITING,
	JOB_PUBLISHING,
	JOB_GIVEN_UP,
};

/* One record on its way to the disk. Freed by whoever lets go of it last. */
struct job {
	atomic_int state, users;
	int result;
	char name[37];
	struct iovec part;
	char data[];
};

static pthread_mutex_t order =
	PTHREAD_MUTEX_INITIALIZER; /* one record at a time, from stamp to disk */
static pthread_mutex_t slot_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t slot_changed;
static struct job *slot; /* what the writer shall do, or does */
static struct keeper_counts counts;

/* --- the writer */

static void job_release(struct job *j)
{
	if (atomic_fetch_sub(&j->users, 1) == 1)
		free(j);
}

static int write_job(struct job *j)
{
	_cleanup_close_ int fd = -1;
	int r, writing = JOB_WRITING;

	fd = open(spool_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = spool_write(fd, j->name, &j->part, 1);
	if (r < 0)
		return r;
	if (!atomic_compare_exchange_strong(&j->state, &writing, JOB_PUBLISHING)) {
		spool_discard(fd, j->name); /* it is in the emergency spool by now */
		return -ECANCELED;
	}
	return spool_publish(fd, j->name);
}

static void *writer(void *userdata)
{
	(void)pthread_mutex_lock(&slot_lock);
	for (;;) {
		struct job *j = slot;

		if (!j) {
			(void)pthread_cond_wait(&slot_changed, &slot_lock);
			continue;
		}
		(void)pthread_mutex_unlock(&slot_lock);
		int r = write_job(j);

		(void)pthread_mutex_lock(&slot_lock);
		j->result = r;
		slot = NULL;
		(void)pthread_cond_broadcast(&slot_changed);
		job_release(j);
	}
	return NULL;
}

int keeper_start(void)
{
	pthread_condattr_t monotonic;
	pthread_t thread;
	int r;

	(void)crc32c(0, "", 0); /* fills its tables, before there are threads */
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&slot_changed, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	r = pthread_create(&thread, NULL, writer, NULL);
	if (r != 0)
		return -r;
	(void)pthread_detach(thread);
	return 0;
}

/* Hands j to the writer and waits for it. -EBUSY: the writer hangs over an earlier one. */
static int put_on_disk(struct job *j)
{
	struct timespec until;
	int r = 0, writing = JOB_WRITING;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += DISK_MS / 1000;
	until.tv_nsec += DISK_MS % 1000 * 1000000L;
	if (until.tv_nsec >= NSEC_PER_SEC) {
		until.tv_sec++;
		until.tv_nsec -= NSEC_PER_SEC;
	}
	(void)pthread_mutex_lock(&slot_lock);
	if (slot) {
		r = -EBUSY;
	} else {
		slot = j;
		atomic_fetch_add(&j->users, 1);
		(void)pthread_cond_broadcast(&slot_changed);
		while (slot == j && r == 0)
			r = -pthread_cond_timedwait(&slot_changed, &slot_lock, &until);
		if (slot != j)
			r = j->result;
		else
			(void)atomic_compare_exchange_strong(&j->state, &writing, JOB_GIVEN_UP);
	}
	(void)pthread_mutex_unlock(&slot_lock);
	return r;
}

/* --- the stamp */

/* When an epoch begins: what waits in the spools keeps sorting before what comes, also if the
   clock leapt. */
static uint64_t highest_waiting(void *userdata)
{
	uint64_t disk = 0, emergency = 0;
	int fd;

	fd = open(spool_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		disk = spool_highest_ticks(fd, SPOOL_NEW, FLOOR_MS);
	close_fdp(&fd);
	fd = open(spool_run_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		emergency = spool_highest_ticks(fd, SPOOL_EMERGENCY "/" SPOOL_NEW, FLOOR_MS);
	close_fdp(&fd);
	return disk > emergency ? disk : emergency;
}

static void take_stamp(struct record *r)
{
	_cleanup_close_ int fd = open(spool_run_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	static bool told;
	struct timespec now;
	int k;

	k = stamp_take(fd, SPOOL_STAMP, LOCK_MS, highest_waiting, NULL, &r->stamp);
	if (k < 0) {
		r->flags |= RECORD_UNORDERED;
		counts.unordered++;
		if (!told)
			log_warning("cannot take a stamp from '%s/" SPOOL_STAMP
				    "': %s; events are spooled without their order",
				    spool_run_directory(), strerror(-k));
	}
	told = k < 0;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	r->recorded_ns = now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
}

/* --- putting it together */

static struct job *job_new(const struct record *r)
{
	static char header[RECORD_HEADER_MAX];
	size_t n = record_format_header(r, header, sizeof(header));
	struct job *j = malloc(sizeof(*j) + n + r->document.size);

	if (!j)
		return NULL;
	atomic_init(&j->state, JOB_WRITING);
	atomic_init(&j->users, 1);
	memcpy(j->name, r->stamp.id, sizeof(j->name));
	memcpy(j->data, header, n);
	if (r->document.size)
		memcpy(j->data + n, r->document.data, r->document.size);
	j->part = (struct iovec){j->data, n + r->document.size};
	return j;
}

static void log_loss(const struct record *r, int disk_error, int emergency_error)
{
	static time_t last;
	static uint64_t unlogged;
	time_t now = time(NULL);

	counts.lost++;
	if (now - last < LOSS_LOG_S && now >= last) {
		unlogged++;
		return;
	}
	log_error(
		"event lost: '%.*s' '%.*s' '%.*s', epoch %s sequence %llu: cannot write to '%s': %s, nor to the "
		"emergency "
		"spool in '%s': %s; %llu more since the last such line",
		(int)r->driver.size, r->driver.data, (int)r->object.size,
		r->object.data ? r->object.data : "", (int)r->operation.size, r->operation.data,
		r->stamp.epoch, (unsigned long long)r->stamp.sequence, spool_directory(),
		strerror(-disk_error), spool_run_directory(), strerror(-emergency_error),
		(unsigned long long)unlogged);
	last = now;
	unlogged = 0;
}

static int keep(struct record *r)
{
	struct job *j;
	int disk_error = -ENOMEM, emergency_error = -ENOMEM;

	take_stamp(r);
	j = job_new(r);
	if (j) {
		disk_error = put_on_disk(j);
		if (disk_error < 0)
			emergency_error = spool_put_emergency(j->name, &j->part, 1);
		job_release(j);
	}
	if (disk_error == 0)
		counts.kept++;
	else if (emergency_error == 0)
		counts.emergency++;
	else
		log_loss(r, disk_error, emergency_error);
	return disk_error == 0 ? 0 : emergency_error;
}

int keeper_keep(struct record *r)
{
	int k;

	(void)pthread_mutex_lock(&order);
	k = keep(r);
	(void)pthread_mutex_unlock(&order);
	return k;
}

void keeper_count(struct keeper_counts *ret_counts)
{
	(void)pthread_mutex_lock(&order);
	*ret_counts = counts;
	(void)pthread_mutex_unlock(&order);
}
