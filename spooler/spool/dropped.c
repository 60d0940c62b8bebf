/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* dropped - see dropped.h. */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "hook/place.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/spool/dropped.h"
#include "spooler/spool/record-parse.h"
#include "spooler/spool/recordfile.h"

#define LINE_MAX_SIZE 128 /* more than one of ours takes */

static void record_buffer_releasep(struct record_buffer *b)
{
	record_buffer_release(b);
}

static int append(const char *run_dir, const char *line)
{
	_cleanup_close_ int dir_fd = -1, fd = -1;
	struct stat st;
	size_t n;

	dir_fd = place_open_top(run_dir);
	if (dir_fd < 0)
		return dir_fd;
	fd = openat(dir_fd, DROPPED_FILE,
		    O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return -EPERM;
	if (st.st_size > DROPPED_SIZE_MAX + 64)
		return 0; /* "..." has been written */
	n = strlen(st.st_size > DROPPED_SIZE_MAX ? "...\n" : line);
	if (write(fd, st.st_size > DROPPED_SIZE_MAX ? "...\n" : line, n) != (ssize_t)n)
		return errno ? -errno : -EIO;
	return 0;
}

int dropped_note(const char *run_dir, int dir_fd, const char *name)
{
	_cleanup_(record_buffer_releasep) struct record_buffer buffer = {0};
	struct record record = {0};
	const char *reason;
	char line[80];
	size_t size;
	int r = record_file_read(dir_fd, name, &buffer, &size, &reason);

	if (r == 0)
		r = record_parse(buffer.data, size, &record, &reason);
	if (r < 0)
		return r;
	(void)snprintf(line, sizeof(line), "%s %" PRIu64 "\n", record.stamp.epoch,
		       record.stamp.sequence);
	return append(run_dir, line);
}

void dropped_read(const char *run_dir, dropped_found found, void *userdata)
{
	_cleanup_close_ int dir_fd = place_open_top(run_dir);
	_cleanup_free_ char *text = NULL;
	char *rest, epoch[33];
	uint64_t sequence;
	int r = dir_fd;

	if (r >= 0)
		r = safe_read(dir_fd, DROPPED_FILE, DROPPED_SIZE_MAX + LINE_MAX_SIZE, &text, NULL);
	if (r < 0 && r != -ENOENT)
		found(NULL, 0, userdata);
	if (r < 0)
		return;
	rest = text;
	for (const char *line; (line = strsep(&rest, "\n")) && (rest || *line);)
		if (sscanf(line, "%32[0-9a-f] %" SCNu64, epoch, &sequence) == 2)
			found(epoch, sequence, userdata);
		else
			found(NULL, 0, userdata);
}

uint64_t dropped_size(const char *run_dir)
{
	_cleanup_free_ char *path = NULL;
	struct stat st;

	if (asprintf(&path, "%s/" DROPPED_FILE, run_dir) < 0) {
		path = NULL;
		return 0;
	}
	return lstat(path, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
}
