/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* recordfile - see recordfile.h. */
#include "hook/place.h"
#include "hook/record.h"
#include "spooler/base/safe-read.h"
#include "spooler/spool/recordfile.h"
#include "spooler/base/util.h"

#define BUFFER_MIN (128 * 1024) /* for most documents, so that it hardly ever grows */

void record_buffer_release(struct record_buffer *b)
{
	free(b->data);
	*b = (struct record_buffer){0};
}

static int make_room(struct record_buffer *b, size_t size)
{
	size_t wanted = size < BUFFER_MIN ? BUFFER_MIN : size;
	char *grown;

	if (size <= b->size)
		return 0;
	grown = realloc(b->data, wanted);
	if (!grown)
		return -ENOMEM;
	*b = (struct record_buffer){.data = grown, .size = wanted};
	return 0;
}

static int read_all(int fd, char *buffer, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = read(fd, buffer + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* it shrank: not what the hook wrote */
		done += (size_t)n;
	}
	return 0;
}

/* Why it cannot be a record; NULL if the error is not the fault of the file. */
static const char *refusal(int error)
{
	switch (error) {
	case -ELOOP:
		return "not a record: a symbolic link";
	case -EMEDIUMTYPE:
		return "not a record: not a regular file";
	case -EFBIG:
		return "not a record: larger than a record can be";
	default:
		return NULL;
	}
}

int record_file_read(int dir_fd, const char *name, struct record_buffer *b, size_t *ret_size,
		     const char **ret_reason)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	fd = safe_open(dir_fd, name, RECORD_MAX, &st);
	*ret_reason = refusal(fd);
	if (fd < 0)
		return *ret_reason ? -EBADMSG : fd;
	r = make_room(b, (size_t)st.st_size + 1);
	if (r == 0)
		r = read_all(fd, b->data, (size_t)st.st_size);
	if (r < 0)
		return r;
	b->data[st.st_size] = 0;
	*ret_size = (size_t)st.st_size;
	*ret_reason = NULL;
	return 0;
}

bool record_reason_name(const char *name, char ret_file[static NAME_MAX + 1])
{
	return snprintf(ret_file, NAME_MAX + 1, "%s" SPOOL_REASON_SUFFIX, name) <= NAME_MAX;
}
