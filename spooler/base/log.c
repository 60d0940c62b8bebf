/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* log - see log.h. A line is put together in a buffer and written with one write, so that lines
   never mix. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION /* where in the source helps nobody */
#include <systemd/sd-journal.h>

#include "spooler/base/log.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"

#define LINE_MAX_BYTES 2048
#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static int log_level = LOG_INFO;
static const char *log_program = "virtspoold";

static const char *const message_ids[LOG_N_MESSAGES] = {
	[LOG_MESSAGE_STARTED] = "8bc242c9b25d45b3a6628bb556bb3bac",
	[LOG_MESSAGE_STOPPED] = "b971842c8a1a4218a680d63d2245f9da",
	[LOG_MESSAGE_CONFIGURED] = "714380a7487845529a5794152fdffec7",
	[LOG_MESSAGE_CONFIGURATION_REFUSED] = "6aaff78a717347788fee24a4103a1e94",
	[LOG_MESSAGE_CONNECTED] = "a4fdc665b3f247d3b21ac2888c2556d1",
	[LOG_MESSAGE_CONNECTION_FAILED] = "1ca29762c5bb44d6b60c3e45477b6bf8",
	[LOG_MESSAGE_BROKER_BUSY] = "48bf8e3d52064dbc9cf16ce66269281c",
	[LOG_MESSAGE_EVENT_DELIVERED] = "f6433b2a828745dcb24445d434dbd466",
	[LOG_MESSAGE_EVENT_REFUSED] = "52964f6c48a7497a8b4cfb57dce3ef61",
	[LOG_MESSAGE_EVENT_FAILED] = "fb986646f8404cee88b109e9827c6a5a",
	[LOG_MESSAGE_EVENT_DROPPED] = "406021c4b0634c269241afbe7c213335",
	[LOG_MESSAGE_EVENTS_LOST] = "a70bdbda8fa346be87030910d96a78a9",
	[LOG_MESSAGE_HEALTH] = "e4058248293043a19d311e91455f591f",
};

void log_set_level(int level)
{
	log_level = level;
}

bool log_is_on(int priority)
{
	return priority <= log_level;
}

void log_set_program(const char *name)
{
	log_program = name;
}

const char *log_message_id(enum log_message message)
{
	return message_ids[message];
}

/* --- the journal */

/* The variable is inherited by programs whose stderr is something else. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;

	return stream && sscanf(stream, "%ju:%ju", &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

#define FIELDS_MAX 16

struct fields {
	struct iovec list[FIELDS_MAX];
	char *texts[FIELDS_MAX];
	int n;
};

static void fields_add(struct fields *f, const char *name, const char *value)
{
	char *text;
	int length;

	if (!value || !*value || f->n == FIELDS_MAX)
		return;
	length = asprintf(&text, "%s=%s", name, value);
	if (length < 0)
		return;
	f->texts[f->n] = text;
	f->list[f->n++] = (struct iovec){text, (size_t)length};
}

/* False: it has to be written to stderr. sd_journal_sendv() itself says nothing of a missing
   socket. */
static bool send_to_journal(int priority, const struct log_about *about, const char *text)
{
	struct fields f = {.n = 0};
	char level[16];
	int r;

	if (access(JOURNAL_SOCKET, W_OK) < 0)
		return false;
	(void)snprintf(level, sizeof(level), "%d", priority);
	fields_add(&f, "MESSAGE", text);
	fields_add(&f, "PRIORITY", level);
	fields_add(&f, "MESSAGE_ID", message_ids[about->message]);
	fields_add(&f, "VIRTSPOOL_EVENT", about->event);
	fields_add(&f, "VIRTSPOOL_VM", about->vm);
	fields_add(&f, "VIRTSPOOL_UUID", about->uuid);
	fields_add(&f, "VIRTSPOOL_TOPIC", about->topic);
	fields_add(&f, "VIRTSPOOL_BROKER", about->broker);
	fields_add(&f, "VIRTSPOOL_REASON_CODE", about->reason);
	r = sd_journal_sendv(f.list, f.n);
	for (int i = 0; i < f.n; i++)
		free(f.texts[i]);
	return r == 0;
}

/* --- a line */

static void write_line(int priority, bool journal, const char *text)
{
	char line[LINE_MAX_BYTES + 64];
	int n;

	if (journal)
		n = snprintf(line, sizeof(line), "<%d>%s\n", priority, text);
	else
		n = snprintf(line, sizeof(line), "%s: %s\n", log_program, text);
	(void)!write(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static void log_message(int priority, const struct log_about *about, const char *format, va_list ap)
	__attribute__((format(printf, 3, 0)));

static void log_message(int priority, const struct log_about *about, const char *format, va_list ap)
{
	char raw[LINE_MAX_BYTES], text[LINE_MAX_BYTES];
	bool journal = stderr_is_journal();

	(void)vsnprintf(raw, sizeof(raw), format, ap);
	(void)terminal_escape(stderr, raw, strlen(raw), text, sizeof(text));
	if (!journal || !send_to_journal(priority, about, text))
		write_line(priority, journal, text);
}

void log_line(int priority, const char *format, ...)
{
	const struct log_about nothing = {0};
	int saved = errno;
	va_list ap;

	if (!log_is_on(priority))
		return;
	va_start(ap, format);
	errno = saved; /* for %m */
	log_message(priority, &nothing, format, ap);
	va_end(ap);
	errno = saved;
}

void log_about(int priority, const struct log_about *about, const char *format, ...)
{
	int saved = errno;
	va_list ap;

	if (!log_is_on(priority))
		return;
	va_start(ap, format);
	errno = saved;
	log_message(priority, about, format, ap);
	va_end(ap);
	errno = saved;
}
