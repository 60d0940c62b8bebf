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

#include "hook/stamp.h"

#define RECORD_MODE 0640
#define EMERGENCY_MODE 02770
#define RUN_MODE 01775
#define HALF_MADE_MODE 0700 /* a directory of ours between mkdir() and its owner and mode */

#define SCAN_BUFFER (32 * 1024)

/* All signals are blocked, so EINTR should not come; from a file system that gives it all the
   same, so often. */
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

/* Never through a link: the spool belongs to virtspool, and root's hook must not be led
   elsewhere. */
static int open_directory(int dir_fd, const char *path)
{
	return open_at(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

int spool_write(int spool_fd, const char *name, const struct iovec *parts, int n_parts)
{
	int fd, r, tmp_fd = open_directory(spool_fd, SPOOL_TMP);

	if (tmp_fd < 0)
		return -errno;
	fd = open_at(tmp_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
	r = fd < 0 ? -errno : write_all(fd, parts, n_parts);
	if (r == 0)
		r = sync_fd(fd);
	if (r < 0 && fd >= 0)
		(void)unlinkat(tmp_fd, name, 0);
	if (fd >= 0)
		(void)close(fd); /* what it could report, fsync() has */
	(void)close(tmp_fd);
	return r;
}

void spool_discard(int spool_fd, const char *name)
{
	int tmp_fd = open_directory(spool_fd, SPOOL_TMP);

	if (tmp_fd < 0)
		return;
	(void)unlinkat(tmp_fd, name, 0);
	(void)close(tmp_fd);
}

int spool_publish(int spool_fd, const char *name)
{
	int r, new_fd, tmp_fd = open_directory(spool_fd, SPOOL_TMP);

	if (tmp_fd < 0)
		return -errno;
	new_fd = open_directory(spool_fd, SPOOL_NEW);
	if (new_fd < 0 || renameat(tmp_fd, name, new_fd, name) < 0) {
		r = -errno;
		(void)unlinkat(tmp_fd, name, 0);
	} else {
		r = sync_fd(new_fd);
		if (r < 0)
			(void)unlinkat(new_fd, name, 0);
	}
	if (new_fd >= 0)
		(void)close(new_fd);
	(void)close(tmp_fd);
	return r;
}

int spool_put(int spool_fd, const char *name, const struct iovec *parts, int n_parts)
{
	int r;

	r = spool_write(spool_fd, name, parts, n_parts);
	if (r < 0)
		return r;
	return spool_publish(spool_fd, name);
}

/* --- reading a directory, without the C library's allocation */

struct entry { /* as getdents64(2) has it */
	uint64_t d_ino;
	int64_t d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};

/* Calls `see` for each entry until it returns false or the time is up. */
static int scan_directory(int dir_fd, const char *path, unsigned wait_ms,
			  bool (*see)(int fd, const char *name, void *userdata), void *userdata)
{
	_Alignas(8) char buffer
		[SCAN_BUFFER]; /* on the stack: a child that was given up may still be filling another */
	struct timespec now, start;
	long n;
	int fd;

	(void)clock_gettime(CLOCK_MONOTONIC, &start);
	fd = open_directory(dir_fd, path);
	if (fd < 0)
		return -errno;
	while ((n = syscall(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0) {
		for (long i = 0; i < n; i += ((struct entry *)(buffer + i))->d_reclen) {
			if (!see(fd, ((struct entry *)(buffer + i))->d_name, userdata))
				goto finish;
		}
		(void)clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >
		    wait_ms)
			break;
	}
finish:
	(void)close(fd);
	return 0;
}

static bool see_ticks(int fd, const char *name, void *userdata)
{
	uint64_t *highest = userdata, ticks = stamp_id_ticks(name);

	if (ticks > *highest)
		*highest = ticks;
	return true;
}

uint64_t spool_highest_ticks(int dir_fd, const char *path, unsigned wait_ms)
{
	uint64_t highest = 0;

	(void)scan_directory(dir_fd, path, wait_ms, see_ticks, &highest);
	return highest;
}

/* --- the emergency spool */

/* Makes a directory, or finishes one that a killed hook began. One that stands is left as its
   administrator has it. Returns a descriptor of it. */
static int make_directory(int dir_fd, const char *path, mode_t mode, gid_t gid)
{
	struct stat st;
	int fd, r;

	if (mkdirat(dir_fd, path, HALF_MADE_MODE) < 0 && errno != EEXIST)
		return -errno;
	fd = open_directory(dir_fd, path);
	if (fd < 0)
		return -errno;
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

int spool_make_run_directory(gid_t gid)
{
	int r, run_fd = make_directory(AT_FDCWD, spool_run_directory(), RUN_MODE, gid);

	if (run_fd < 0)
		return run_fd;
	r = make_emergency(run_fd, gid);
	(void)close(run_fd);
	return r;
}

struct room {
	size_t records;
	size_t bytes;
};

static bool see_size(int fd, const char *name, void *userdata)
{
	struct room *used = userdata;
	struct stat st;

	if (name[0] == '.')
		return true;
	used->records++;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		used->bytes += (size_t)st.st_size;
	return used->records < SPOOL_EMERGENCY_RECORDS_MAX &&
	       used->bytes < SPOOL_EMERGENCY_BYTES_MAX;
}

/* What hooks were killed over in tmp/ takes room too. */
static bool has_room(int emergency_fd, size_t size)
{
	struct room used = {0};

	(void)scan_directory(emergency_fd, SPOOL_TMP, 1000, see_size, &used);
	(void)scan_directory(emergency_fd, SPOOL_NEW, 1000, see_size, &used);
	return used.records < SPOOL_EMERGENCY_RECORDS_MAX &&
	       used.bytes + size <= SPOOL_EMERGENCY_BYTES_MAX;
}

static int open_emergency(void)
{
	int fd, run_fd = open_at(AT_FDCWD, spool_run_directory(), O_RDONLY | O_DIRECTORY);

	if (run_fd < 0)
		return -errno;
	fd = open_directory(run_fd, SPOOL_EMERGENCY);
	if (fd < 0)
		fd = -errno;
	(void)close(run_fd);
	return fd;
}

int spool_put_emergency(const char *name, const struct iovec *parts, int n_parts)
{
	size_t size = 0;
	int r, fd = open_emergency();

	if (fd < 0)
		return fd;
	for (int i = 0; i < n_parts; i++)
		size += parts[i].iov_len;

	/* One at a time, so that hooks which come together do not all see the same last room;
	   but never for long. */
	for (int i = 0; i < 200 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK; i++)
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	r = has_room(fd, size) ? spool_put(fd, name, parts, n_parts) : -ENOSPC;
	(void)close(fd);
	return r;
}
