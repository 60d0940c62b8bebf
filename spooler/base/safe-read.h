/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * safe-read - reads a file that somebody else may have written, or replaced by something else.
 *
 * The spool and the run directory can be written by the daemon's user and its group, and root's
 * commands read there. So a name may lead to a symbolic link, a FIFO that nobody writes to, a
 * device, a file of another user, or a file without end. None of these is followed, waited for or
 * read.
 */
#pragma once

#include <stddef.h>
#include <sys/stat.h>

/*
 * Opens dir_fd/name for reading if it is a regular file of at most max_size bytes. Returns the
 * descriptor, or a negative errno: -ELOOP for a symbolic link, -EMEDIUMTYPE for anything else that
 * is not a regular file, -EFBIG if it is too large, otherwise as open() has it.
 */
int safe_open(int dir_fd, const char *name, size_t max_size, struct stat *ret_st);

/*
 * Reads all of it, with a null byte after its end (not counted in *ret_size, which may be NULL).
 * Beside the errors of safe_open(): -EPERM if its owner is neither root, nor the caller, nor
 * allowed to write to the directory, or if it has a second name (a hard link). dir_fd must not be
 * AT_FDCWD.
 */
int safe_read(int dir_fd, const char *name, size_t max_size, char **ret_data, size_t *ret_size);

/*
 * Reads a file that the administrator has named, so it may be a link; whoever writes its content,
 * such as a client that renews a certificate, may be somebody else. Errors as safe_open() has them.
 */
int safe_read_named(const char *path, size_t max_size, char **ret_data, size_t *ret_size);

/* An error of these functions in words. */
const char *safe_read_error(int error);
