/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* log - see log.h. A line is put together in a buffer and written with one write, so that lines
   never mix. */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spooler/base/log.h"
#include "spooler/base/terminal.h"

#define LINE_MAX_BYTES 2048

static int log_level = LOG_INFO;
static const char *log_program = "virtspoold";

void log_set_level(int level)
{
	log_level = level;
}

void log_set_program(const char *name)
{
	log_program = name;
}

/* Is stderr the journal, and not only a child of something whose stderr was? sd-daemon(3): the
   variable has the device and inode of the stream. */
static bool is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_line(int priority, const char *format, ...)
{
	int saved = errno;
	char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
	size_t n;
	va_list ap;

	if (priority > log_level)
		return;
	if (is_journal())
		n = (size_t)snprintf(line, sizeof(line), "<%d>", priority);
	else
		n = (size_t)snprintf(line, sizeof(line), "%s: ", log_program);
	va_start(ap, format);
	errno = saved; /* for %m */
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	n += terminal_escape(stderr, text, strlen(text), line + n, sizeof(line) - n - 1);
	line[n++] = '\n';
	(void)!write(STDERR_FILENO, line, n); /* nowhere to tell it */
	errno = saved;
}
