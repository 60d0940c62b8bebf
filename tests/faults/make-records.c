/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * make-records - a backlog, quickly: writes whole records of one epoch into a directory, as so many
 * hooks would have.
 *
 *	make-records DIRECTORY COUNT
 *
 * The events are those of 16 domains, in turn, one tick apart, an hour old. Each tells its number
 * as `extra`.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hook/record.h"

static const char epoch[] = "ba0c10900000000000000000000c0ffe";

static void set_id(struct stamp *s)
{
	uint64_t ms = s->ticks / STAMP_TICKS_PER_MS, fraction = s->ticks % STAMP_TICKS_PER_MS;

	char id[80];

	(void)snprintf(id, sizeof(id),
		       "%08" PRIx64 "-%04" PRIx64 "-7%03" PRIx64 "-8000-%012" PRIx64, ms >> 16,
		       ms & 0xffff, fraction, s->sequence);
	memcpy(s->id, id, sizeof(s->id) - 1);
}

static int write_record(int dir_fd, const struct record *r)
{
	static char buffer[RECORD_HEADER_MAX];
	size_t n = record_format_header(r, buffer, sizeof(buffer));
	int fd = openat(dir_fd, r->stamp.id, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);

	memcpy(buffer + n, r->document.data, r->document.size);
	n += r->document.size;
	if (fd < 0 || write(fd, buffer, n) != (ssize_t)n)
		return -1;
	return close(fd);
}

int main(int argc, char **argv)
{
	char object[32], document[256], extra[32];
	struct record r = {
		.driver = bytes_of("qemu"),
		.operation = bytes_of("started"),
		.suboperation = bytes_of("begin"),
		.argc = 4,
	};
	uint64_t start = ((uint64_t)time(NULL) - 3600) * 1000 * STAMP_TICKS_PER_MS;
	int dir_fd = argc == 3 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	unsigned long count = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;

	if (dir_fd < 0) {
		fprintf(stderr, "usage: make-records DIRECTORY COUNT\n");
		return 1;
	}
	memcpy(r.stamp.epoch, epoch, sizeof(epoch));
	for (unsigned long i = 1; i <= count; i++) {
		(void)snprintf(object, sizeof(object), "vm%lu", i % 16);
		(void)snprintf(extra, sizeof(extra), "call-%lu", i);
		(void)snprintf(document, sizeof(document),
			       "<domain type='qemu'><name>%s</name></domain>\n", object);
		r.object = bytes_of(object);
		r.extra = bytes_of(extra);
		r.document = bytes_of(document);
		r.stamp.sequence = i;
		r.stamp.ticks = start + i;
		r.recorded_ns = (int64_t)(r.stamp.ticks / STAMP_TICKS_PER_MS) * 1000000;
		set_id(&r.stamp);
		if (write_record(dir_fd, &r) < 0) {
			perror(r.stamp.id);
			return 1;
		}
	}
	return 0;
}
