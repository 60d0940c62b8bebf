/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * spool - the put side. A record is written to tmp/, synced, moved to new/ by rename(), and new/ is
 * synced: so it is in new/ whole or not at all, and once spool_put() has returned 0 a power cut
 * does not take it back.
 *
 * The main spool's directories are never made here: a spool that is not mounted must look missing,
 * not empty. Those of the emergency spool are, as /run begins empty.
 */
#include "hook/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "hook/clock.h"
#include "hook/stamp.h"
#include "hook/text.h"

#define RECORD_MODE 0640
#define EMERGENCY_MODE 02770
#define RUN_MODE 01775
#define HOOK_MODE 0711 /* only root can open it, and so lock it; the daemon reads the files in it */
#define HALF_MADE_MODE 0700 /* a directory of ours between mkdir() and its owner and mode */

#define SCAN_BUFFER (32 * 1024)
#define LOCK_MS 200 /* waiting for the emergency spool's lock */

/* All signals are blocked, so EINTR should not come. Some file systems return it all the same;
   it is tried again this often. */
#define TRIES 100

const char *spool_directory(void)
{
	const char *directory = getenv("VIRTSPOOL_SPOOLDIR");

	return directory && *directory ? directory : SPOOLDIR;
}

const char *spool_run_directory(void)
{
	const char *directory = getenv("VIRTSPOOL_RUNDIR");

	return directory && *directory ? directory : RUNDIR;
}

/* --- one record */

/* All parts in one call, unless the file system takes less. */
static int write_all(int fd, const struct iovec *parts, int n_parts)
{
	struct iovec left[SPOOL_PARTS_MAX];
	struct iovec *p = left, *end = left + n_parts;
	int interrupted = 0;

	memcpy(left, parts, (size_t)n_parts * sizeof(*parts));
	while (p < end) {
		ssize_t n = writev(fd, p, (int)(end - p));

		if (n < 0 && errno == EINTR && ++interrupted < TRIES)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		for (; p < end && (size_t)n >= p->iov_len; p++)
			n -= (ssize_t)p->iov_len;
		if (p < end) {
			p->iov_base = (char *)p->iov_base + n;
			p->iov_len -= (size_t)n;
		}
	}
	return 0;
}

static int sync_fd(int fd)
{
	for (int i = 0; i < TRIES; i++) {
		if (fsync(fd) == 0)
			return 0;
		if (errno != EINTR)
			break;
	}
	return -errno;
}

static int open_at(int dir_fd, const char *path, int flags)
{
	int fd = -1;

	for (int i = 0; i < TRIES && fd < 0; i++) {
		fd = openat(dir_fd, path, flags | O_CLOEXEC, RECORD_MODE);
		if (fd < 0 && errno != EINTR)
			break;
	}
	return fd;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		(void)close(fd);
}

int spool_open(int spool_fd, struct spool *ret_spool)
{
	struct spool s = {-1, -1};
	int r;

	r = s.tmp_fd = place_open_directory(spool_fd, SPOOL_TMP);
	if (r >= 0)
		r = s.new_fd = place_open_directory(spool_fd, SPOOL_NEW);
	if (r < 0) {
		spool_close(&s);
		return r;
	}
	*ret_spool = s;
	return 0;
}

void spool_close(struct spool *s)
{
	close_fd(s->tmp_fd);
	close_fd(s->new_fd);
}

int spool_write(const struct spool *s, const char *name, const struct iovec *parts, int n_parts)
{
	int r, fd = open_at(s->tmp_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	r = write_all(fd, parts, n_parts);
	if (r == 0)
		r = sync_fd(fd);
	if (r < 0)
		(void)unlinkat(s->tmp_fd, name, 0);
	(void)close(fd); /* fsync() has reported what close() could */
	return r;
}

void spool_discard(const struct spool *s, const char *name)
{
	(void)unlinkat(s->tmp_fd, name, 0);
}

int spool_publish(const struct spool *s, const char *name)
{
	int r;

	if (renameat(s->tmp_fd, name, s->new_fd, name) < 0) {
		r = -errno;
		(void)unlinkat(s->tmp_fd, name, 0);
		return r;
	}
	r = sync_fd(s->new_fd);
	if (r < 0)
		(void)unlinkat(s->new_fd, name, 0);
	return r;
}

int spool_put(const struct spool *s, const char *name, const struct iovec *parts, int n_parts)
{
	int r;

	r = spool_write(s, name, parts, n_parts);
	if (r < 0)
		return r;
	return spool_publish(s, name);
}

/* --- reading a directory, without the C library's allocation */

struct entry { /* as getdents64(2) has it */
	uint64_t d_ino;
	int64_t d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* Calls `see` for each entry until it returns false. -ETIMEDOUT at the deadline. */
static int scan_directory(int dir_fd, const char *path, long long deadline_ms,
			  bool (*see)(int fd, const char *name, void *userdata), void *userdata)
{
	/* On the stack: a call that was given up may still be filling another. */
	_Alignas(8) char buffer[SCAN_BUFFER];
	int fd, r = 0;
	long n;

	fd = place_open_directory(dir_fd, path);
	if (fd < 0)
		return fd;
	while (r == 0 && (n = syscall(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0) {
		for (long i = 0; i < n; i += ((struct entry *)(buffer + i))->d_reclen) {
			const char *name = ((struct entry *)(buffer + i))->d_name;

			if (!is_dots(name) && !see(fd, name, userdata))
				goto finish;
		}
		if (clock_ms_until(deadline_ms, 1) == 0)
			r = -ETIMEDOUT;
	}
finish:
	(void)close(fd);
	return r;
}

struct highest {
	uint64_t limit, ticks;
};

static bool see_ticks(int fd, const char *name, void *userdata)
{
	struct highest *h = userdata;
	uint64_t ticks = stamp_id_ticks(name);

	if (ticks > h->ticks && ticks <= h->limit)
		h->ticks = ticks;
	return true;
}

uint64_t spool_highest_ticks(int dir_fd, const char *path, uint64_t limit, long long deadline_ms)
{
	struct highest h = {.limit = limit};

	(void)scan_directory(dir_fd, path, deadline_ms, see_ticks, &h);
	return h.ticks;
}

/* --- the high water of ids */

/* ns is rounded up, in both directions, so that nothing is lost on the way. */
static struct timespec time_of_ticks(uint64_t ticks)
{
	const uint64_t per_s = 1000 * STAMP_TICKS_PER_MS;

	return (struct timespec){
		.tv_sec = (time_t)(ticks / per_s),
		.tv_nsec = (long)((ticks % per_s * 1000000000 + per_s - 1) / per_s % 1000000000),
	};
}

static uint64_t ticks_of_time(struct timespec t)
{
	const uint64_t per_s = 1000 * STAMP_TICKS_PER_MS;

	if (t.tv_sec < 0)
		return 0;
	return (uint64_t)t.tv_sec * per_s +
	       ((uint64_t)t.tv_nsec * per_s + 1000000000 - 1) / 1000000000;
}

static bool is_mark(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_nlink == 1 && st->st_size == 0;
}

void spool_raise_high_water(int spool_fd, const char *file, uint64_t ticks)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, time_of_ticks(ticks)};
	struct stat st;
	int fd = open_at(spool_fd, file, flags);
	bool is_new = fd < 0 && errno == ENOENT;

	if (is_new)
		fd = open_at(spool_fd, file, flags | O_CREAT | O_EXCL);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && is_mark(&st) && st.st_uid == geteuid() &&
	    (is_new || ticks_of_time(st.st_mtim) < ticks))
		(void)futimens(fd, times);
	(void)close(fd);
}

/* In a spool that is root's and sticky, nobody can replace a file of another. */
static bool is_sticky(int spool_fd)
{
	struct stat st;

	return fstat(spool_fd, &st) == 0 && st.st_uid == 0 && st.st_mode & S_ISVTX;
}

uint64_t spool_high_water(int spool_fd)
{
	static const char *const files[] = {SPOOL_HIGH_WATER, SPOOL_HIGH_WATER_LISTEN};
	uint64_t highest = 0;
	struct stat st;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (fstatat(spool_fd, files[i], &st, AT_SYMLINK_NOFOLLOW) < 0 || !is_mark(&st))
			continue;
		if (st.st_uid != 0 && st.st_uid != geteuid() && !(i == 1 && is_sticky(spool_fd)))
			continue;
		if (ticks_of_time(st.st_mtim) > highest)
			highest = ticks_of_time(st.st_mtim);
	}
	return highest;
}

/* --- the run directory */

/* Makes a directory, or finishes one that a killed hook began. One that stands is left as its
   administrator has it. Returns a descriptor of it. */
static int make_directory(int dir_fd, const char *path, mode_t mode, gid_t gid)
{
	struct stat st;
	int fd, r;

	if (mkdirat(dir_fd, path, HALF_MADE_MODE) < 0 && errno != EEXIST)
		return -errno;
	fd = place_open_directory(dir_fd, path);
	if (fd < 0)
		return fd;
	r = fstat(fd, &st);
	/* Below a directory that is setgid it is so from the first. */
	if (r == 0 && st.st_uid == geteuid() && (st.st_mode & 05777) == HALF_MADE_MODE) {
		r = fchown(fd, (uid_t)-1, gid);
		if (r == 0)
			r = fchmod(fd, mode);
	}
	if (r == 0)
		return fd;
	r = -errno;
	(void)close(fd);
	return r;
}

static int make_emergency(int run_fd, gid_t gid)
{
	static const char *const directories[] = {SPOOL_TMP, SPOOL_NEW};
	int r = 0, fd, emergency_fd = make_directory(run_fd, SPOOL_EMERGENCY, EMERGENCY_MODE, gid);

	if (emergency_fd < 0)
		return emergency_fd;
	for (size_t i = 0; r == 0 && i < sizeof(directories) / sizeof(directories[0]); i++) {
		fd = make_directory(emergency_fd, directories[i], EMERGENCY_MODE, gid);
		r = fd < 0 ? fd : close(fd);
	}
	(void)close(emergency_fd);
	return r;
}

/* Root, or the owner of the run directory, makes it and nobody else: a directory of
   virtspool-listen would not be trusted by root's hook. */
static int make_hook_directory(int run_fd)
{
	struct stat st;
	int fd;

	if (geteuid() != 0 && (fstat(run_fd, &st) < 0 || st.st_uid != geteuid()))
		return 0;
	fd = make_directory(run_fd, SPOOL_HOOK, HOOK_MODE, (gid_t)-1);
	return fd < 0 ? fd : close(fd);
}

int spool_make_run_directory(gid_t gid)
{
	int r, run_fd = make_directory(AT_FDCWD, spool_run_directory(), RUN_MODE, gid);

	if (run_fd < 0)
		return run_fd;
	r = make_hook_directory(run_fd);
	if (r == 0)
		r = make_emergency(run_fd, gid);
	(void)close(run_fd);
	return r;
}

int spool_open_hook_directory(void)
{
	char path[PATH_MAX] __attribute__((uninitialized)); /* clearing it takes a microsecond */
	struct text t = {.data = path, .size = sizeof(path) - 1};
	struct stat st;
	int fd;

	text_add(&t, spool_run_directory());
	text_add(&t, "/" SPOOL_HOOK);
	path[t.length] = '\0';
	if (t.full)
		return -ENAMETOOLONG;
	fd = place_open_directory(AT_FDCWD, path);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) == 0 && (st.st_uid == 0 || st.st_uid == geteuid()) &&
	    !(st.st_mode & (S_IWGRP | S_IWOTH)))
		return fd;
	(void)close(fd);
	return -EPERM;
}

/* --- the emergency spool */

struct room {
	size_t records;
	size_t bytes;
};

static bool see_size(int fd, const char *name, void *userdata)
{
	struct room *used = userdata;
	struct stat st;

	used->records++;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		used->bytes += (size_t)st.st_size;
	return used->records < SPOOL_EMERGENCY_RECORDS_MAX &&
	       used->bytes < SPOOL_EMERGENCY_BYTES_MAX;
}

/* Counts files in tmp/ as well: hooks were killed over them. */
static int check_room(int emergency_fd, size_t size, long long deadline_ms)
{
	struct room used = {0};
	int r;

	r = scan_directory(emergency_fd, SPOOL_TMP, deadline_ms, see_size, &used);
	if (r == 0)
		r = scan_directory(emergency_fd, SPOOL_NEW, deadline_ms, see_size, &used);
	if (r < 0)
		return r;
	return used.records < SPOOL_EMERGENCY_RECORDS_MAX &&
			       used.bytes + size <= SPOOL_EMERGENCY_BYTES_MAX
		       ? 0
		       : -ENOSPC;
}

static int open_emergency(void)
{
	int fd, run_fd = place_open_top(spool_run_directory());

	if (run_fd < 0)
		return run_fd;
	fd = place_open_directory(run_fd, SPOOL_EMERGENCY);
	(void)close(run_fd);
	return fd;
}

/* One writer at a time, so that hooks that run at once do not all see the same last room; but
   nobody who holds the lock is waited for long. */
static void lock_emergency(int fd, long long deadline_ms)
{
	long long until = clock_monotonic_ms() + LOCK_MS;

	if (until > deadline_ms)
		until = deadline_ms;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK &&
	       clock_ms_until(until, 1) > 0)
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

int spool_put_emergency(const char *name, const struct iovec *parts, int n_parts,
			long long deadline_ms)
{
	struct spool s = {-1, -1};
	size_t size = 0;
	int r, fd = open_emergency();

	if (fd < 0)
		return fd;
	for (int i = 0; i < n_parts; i++)
		size += parts[i].iov_len;
	lock_emergency(fd, deadline_ms);
	r = check_room(fd, size, deadline_ms);
	if (r == 0)
		r = spool_open(fd, &s);
	if (r == 0) {
		r = spool_put(&s, name, parts, n_parts);
		spool_close(&s);
	}
	(void)close(fd);
	return r;
}
