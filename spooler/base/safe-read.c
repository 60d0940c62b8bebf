/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* safe-read - see safe-read.h. */
#include <fcntl.h>

#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"

static int open_regular(int dir_fd, const char *name, int flags, size_t max_size,
			struct stat *ret_st)
{
	_cleanup_close_ int fd =
		openat(dir_fd, name, flags | O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENXIO || errno == ENODEV ? -EMEDIUMTYPE : -errno;
	if (fstat(fd, ret_st) < 0)
		return -errno;
	if (!S_ISREG(ret_st->st_mode))
		return -EMEDIUMTYPE;
	if (ret_st->st_size < 0 || (uint64_t)ret_st->st_size > max_size)
		return -EFBIG;
	return TAKE_FD(fd);
}

int safe_open(int dir_fd, const char *name, size_t max_size, struct stat *ret_st)
{
	return open_regular(dir_fd, name, O_NOFOLLOW, max_size, ret_st);
}

/* Root, we, the directory's owner and its group may put files there; a hard link could make any
   file of theirs appear, so one name only. */
static bool belongs(int dir_fd, const struct stat *st)
{
	struct stat dir;

	if (st->st_nlink > 1 || fstat(dir_fd, &dir) < 0)
		return false;
	return st->st_uid == 0 || st->st_uid == geteuid() || st->st_uid == dir.st_uid ||
	       st->st_gid == dir.st_gid;
}

/* Up to `size` bytes; fewer if the file has shrunk since. */
static ssize_t read_all(int fd, char *buffer, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = read(fd, buffer + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int read_file(int fd, size_t size, char **ret_data, size_t *ret_size)
{
	_cleanup_free_ char *data = malloc(size + 1);
	ssize_t n;

	if (!data)
		return -ENOMEM;
	n = read_all(fd, data, size);
	if (n < 0)
		return (int)n;
	data[n] = 0;
	if (ret_size)
		*ret_size = (size_t)n;
	*ret_data = TAKE_PTR(data);
	return 0;
}

int safe_read(int dir_fd, const char *name, size_t max_size, char **ret_data, size_t *ret_size)
{
	struct stat st = {0};
	_cleanup_close_ int fd = safe_open(dir_fd, name, max_size, &st);

	if (fd < 0)
		return fd;
	if (!belongs(dir_fd, &st))
		return -EPERM;
	return read_file(fd, (size_t)st.st_size, ret_data, ret_size);
}

int safe_read_named(const char *path, size_t max_size, char **ret_data, size_t *ret_size)
{
	struct stat st = {0};
	_cleanup_close_ int fd = open_regular(AT_FDCWD, path, 0, max_size, &st);

	return fd < 0 ? fd : read_file(fd, (size_t)st.st_size, ret_data, ret_size);
}

const char *safe_read_error(int error)
{
	switch (error) {
	case -ELOOP:
		return "it is a symbolic link";
	case -EMEDIUMTYPE:
		return "it is not a regular file";
	case -EFBIG:
		return "it is larger than such a file can be";
	case -EPERM:
		return "it belongs to another user, or is a hard link";
	case -EBADMSG:
		return "its content is damaged";
	default:
		return strerror(-error);
	}
}
