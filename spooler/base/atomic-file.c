/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* atomic-file - see atomic-file.h. Files that are not synced are in /run, or are written again
   soon. A file that was moved and comes back after a power cut is moved again. */
#include <fcntl.h>
#include <sys/stat.h>

#include "spooler/base/atomic-file.h"
#include "spooler/base/util.h"

static int write_beside(const char *dir, const char *name, const char *text, size_t size,
			unsigned mode, bool sync)
{
	_cleanup_close_ int dir_fd = -1, fd = -1;
	char temporary[NAME_MAX + 1];
	int r = 0;

	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	if (snprintf(temporary, sizeof(temporary), ".%s.new", name) > NAME_MAX)
		return -ENAMETOOLONG;
	(void)unlinkat(dir_fd, temporary, 0); /* ours, of a daemon that was killed */
	fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	errno = ENOSPC; /* if not all is written */
	if (write(fd, text, size) != (ssize_t)size || (sync && fsync(fd) < 0))
		r = -errno;
	if (r == 0 && renameat(dir_fd, temporary, dir_fd, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir_fd, temporary, 0);
	return r;
}

int atomic_file_write(const char *dir, const char *name, const char *text, size_t size,
		      unsigned mode)
{
	return write_beside(dir, name, text, size, mode, false);
}

int atomic_file_write_synced(const char *dir, const char *name, const char *text, size_t size,
			     unsigned mode)
{
	return write_beside(dir, name, text, size, mode, true);
}

int atomic_file_move(int from_fd, const char *name, int to_fd)
{
	int r = renameat2(from_fd, name, to_fd, name, RENAME_NOREPLACE) < 0 ? -errno : 0;

	if (r != -EINVAL && r != -ENOSYS)
		return r;
	/* NFS, for example, has no rename that does not replace. Looking first is enough, because
	   nobody else puts files there. */
	if (faccessat(to_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(from_fd, name, to_fd, name) < 0 ? -errno : 0;
}
