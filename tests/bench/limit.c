/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * limit - the durable limit: the least sequence of system calls that puts a document onto the disk
 * whole or not at all and keeps it there. No stamp, no record format, no checks, no bounds: what a
 * hook cannot be faster than.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char document[1 << 20];

int main(void)
{
	char tmp[4096], final[4096];
	const char *spool = getenv("VIRTSPOOL_SPOOLDIR");
	size_t size = 0;
	ssize_t n;
	int fd, dir;

	while ((n = read(0, document + size, sizeof(document) - size)) > 0)
		size += (size_t)n;
	snprintf(tmp, sizeof(tmp), "%s/tmp/%d", spool, getpid());
	snprintf(final, sizeof(final), "%s/new/%d", spool, getpid());
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL, 0640);
	if (fd < 0 || write(fd, document, size) != (ssize_t)size || fsync(fd) < 0 ||
	    rename(tmp, final) < 0)
		return 1;
	snprintf(tmp, sizeof(tmp), "%s/new", spool);
	dir = open(tmp, O_RDONLY | O_DIRECTORY);
	return dir < 0 || fsync(dir) < 0;
}
