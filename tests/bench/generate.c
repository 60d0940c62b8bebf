/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * generate - a backlog: COUNT records with this document in DIRECTORY, in the hook's own format,
 * not fsynced.
 *
 *   generate DIRECTORY COUNT DOCUMENT
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hook/record.h"

static char document[1 << 20], header[RECORD_HEADER_MAX];

static struct bytes text(const char *s)
{
	return (struct bytes){s, strlen(s)};
}

int main(int argc, char **argv)
{
	unsigned long count = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
	unsigned long long ms = (unsigned long long)time(NULL) * 1000 - 3600000;
	FILE *f = argc == 4 ? fopen(argv[3], "re") : NULL;
	size_t size;

	if (!f || chdir(argv[1]) < 0) {
		fputs("usage: generate DIRECTORY COUNT DOCUMENT\n", stderr);
		return 2;
	}
	size = fread(document, 1, sizeof(document), f);
	fclose(f);
	for (unsigned long i = 1; i <= count; i++) {
		struct record r = {
			.stamp = {.sequence = i, .ticks = (ms + i) * STAMP_TICKS_PER_MS},
			.recorded_ns = (long long)(ms + i) * 1000000,
			.driver = text("qemu"),
			.object = text("vm1"),
			.operation = text("started"),
			.suboperation = text("begin"),
			.extra = text("-"),
			.argc = 4,
			.document = {document, size},
		};
		size_t n;
		int fd;

		snprintf(r.stamp.epoch, sizeof(r.stamp.epoch), "%032llx", ms);
		snprintf(r.stamp.id, sizeof(r.stamp.id), "%08x-%04x-7000-8000-%012x",
			 (unsigned)((ms + i) >> 16), (unsigned)((ms + i) & 0xffff), (unsigned)i);
		n = record_format_header(&r, header, sizeof(header));
		fd = open(r.stamp.id, O_WRONLY | O_CREAT | O_EXCL, 0640);
		if (fd < 0 || write(fd, header, n) != (ssize_t)n ||
		    write(fd, document, size) != (ssize_t)size || close(fd) < 0) {
			perror(r.stamp.id);
			return 1;
		}
	}
	return 0;
}
