/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * recordfile - reads a file of a spool, which may be anything that somebody has put there: a link,
 * a FIFO, a device, a file without end. Only regular files of a record's size are read.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* Grows with the largest file; a zeroed struct is empty. */
struct record_buffer {
	char *data; /* one byte more than was read, which is 0 */
	size_t size;
};

void record_buffer_release(struct record_buffer *b);

/*
 * Reads dir_fd/name into the buffer. 0; -EBADMSG with *ret_reason (a constant sentence) if it
 * cannot be a record; -ENOENT if it is not there; any other errno is not the file's fault.
 */
int record_file_read(int dir_fd, const char *name, struct record_buffer *b, size_t *ret_size,
		     const char **ret_reason);

/* The name of the file beside it that says why it failed. False where a file cannot have that
   name. */
bool record_reason_name(const char *name, char ret_file[static NAME_MAX + 1]);
