/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * recordfile - reads a file of a spool, which may be anything that somebody has put there: a link,
 * a FIFO, a device, a file without end. What is no regular file of a record's size is not read.
 */
#pragma once

#include <stddef.h>

/* Grows with the largest file; a zeroed struct is empty. */
struct record_buffer {
	char *data; /* one byte more than was read, which is 0 */
	size_t size;
};

void record_buffer_release(struct record_buffer *b);

/*
 * Reads dir_fd/name into the buffer. 0; -EBADMSG with *ret_reason (a constant sentence) if it
 * cannot be a record; -ENOENT if it is not there; any other errno lies in the surroundings.
 */
int record_file_read(int dir_fd, const char *name, struct record_buffer *b, size_t *ret_size,
		     const char **ret_reason);
