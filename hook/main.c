/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool-hook - the program that libvirt runs on each transition of a domain: it puts one record
 * into the spool.
 *
 * It must never harm a guest: it always exits 0, prints nothing, and ends within five seconds,
 * whatever its arguments, its stdin and the machine's state are. On any other outcome libvirt
 * aborts a start or kills a running guest, and it waits without a time-out. So all signals are
 * blocked, stdin is read within bounds, and only a child that can be abandoned touches the disk
 * (bounded.h). An event that no spool took is one line in the system log.
 *
 * The stamp comes first, so that any later failure shows as a hole in the sequence.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hook/bounded.h"
#include "hook/clock.h"
#include "hook/put.h"
#include "hook/record.h"
#include "hook/redact.h"
#include "hook/spool.h"
#include "hook/text.h"

#define STDIN_MS 2000  /* reading the document, in all */
#define REDACT_MS 1000 /* blanking secrets in it: 8 MiB of nothing but markup take that long */

/* scripts/install-hook looks for it before it replaces or removes a file. */
__attribute__((used)) static const char mark[] =
	"virtspool-hook: the mark by which install-hook knows its own";

/* All of the hook's memory, of fixed size: nothing is allocated. Pages that are not touched cost
   nothing; "common" places it after all other data, so that small data share a page. */
extern struct memory {
	struct put_job job;
	char header[RECORD_HEADER_MAX];
	char document[RECORD_DOCUMENT_MAX + 1]; /* one more, to see that there is more */
} memory;
__attribute__((common)) struct memory memory;

/* --- what happened */

/* /etc/libvirt/hooks/qemu and /etc/libvirt/hooks/qemu.d/virtspool are both "qemu". */
static struct bytes driver_of(const char *program)
{
	const char *base = strrchr(program, '/');

	if (!base)
		return (struct bytes){program, strlen(program)};
	const char *directory = base;

	while (directory > program && directory[-1] != '/')
		directory--;
	size_t n = (size_t)(base - directory);

	if (n > 2 && memcmp(base - 2, ".d", 2) == 0)
		return (struct bytes){directory, n - 2};
	return (struct bytes){base + 1, strlen(base + 1)};
}

static struct bytes kept(const char *argument, struct record *r)
{
	size_t n = strlen(argument);

	if (n > RECORD_VALUE_MAX) {
		r->flags |= RECORD_ARGUMENTS_TRUNCATED;
		n = RECORD_VALUE_MAX;
	}
	return (struct bytes){argument, n};
}

static void take_arguments(int argc, char **argv, struct record *r)
{
	struct bytes *const named[] = {&r->object, &r->operation, &r->suboperation, &r->extra};
	const int n_named = sizeof(named) / sizeof(named[0]);
	const char *program =
		argc > 0 && argv[0][0] ? argv[0] : (const char *)getauxval(AT_EXECFN); // NOLINT

	r->driver = driver_of(program ? program : "unknown");
	r->driver.size = r->driver.size < RECORD_VALUE_MAX ? r->driver.size : RECORD_VALUE_MAX;
	r->argc = argc > 0 ? (unsigned)argc - 1 : 0;
	for (int i = 0; i < argc - 1; i++) {
		if (i < n_named)
			*named[i] = kept(argv[i + 1], r);
		else if (r->n_arguments < RECORD_ARGUMENTS_MAX)
			r->arguments[r->n_arguments++] = kept(argv[i + 1], r);
		else
			r->flags |= RECORD_ARGUMENTS_TRUNCATED;
	}
}

/* Appends what there is on stdin. False when it has ended, or failed. */
static bool read_more(size_t *size, struct record *r)
{
	ssize_t n = read(STDIN_FILENO, memory.document + *size, sizeof(memory.document) - *size);

	if (n > 0)
		*size += (size_t)n;
	if (n >= 0)
		return n > 0;
	if (errno == EINTR || errno == EAGAIN)
		return true;
	/* Without stdin the document is empty, not cut short. */
	if (errno != EBADF && errno != EISDIR)
		r->flags |= RECORD_DOCUMENT_TRUNCATED;
	return false;
}

/* Reads stdin until it ends, the buffer is full, or the time is up. */
static void read_document(struct record *r, long long put_deadline_ms)
{
	long long deadline_ms = clock_monotonic_ms() + clock_ms_until(put_deadline_ms, STDIN_MS);
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	size_t size = 0;

	while (size < sizeof(memory.document)) {
		unsigned left = clock_ms_until(deadline_ms, STDIN_MS);

		/* When the writer has closed it, a read no longer waits. */
		if (!(in.revents & POLLHUP) && poll(&in, 1, (int)left) < 0)
			in.revents = 0;
		if (in.revents == POLLHUP || (in.revents && !read_more(&size, r)))
			break;
		if (left == 0) {
			r->flags |= RECORD_DOCUMENT_TRUNCATED;
			break;
		}
	}
	if (size > RECORD_DOCUMENT_MAX) {
		r->flags |= RECORD_DOCUMENT_TRUNCATED;
		size = RECORD_DOCUMENT_MAX;
	}
	r->document.data = memory.document;
	deadline_ms = clock_monotonic_ms() + clock_ms_until(put_deadline_ms, REDACT_MS);
	r->document.size = redact_until(memory.document, size, deadline_ms, &r->redacted);
}

/* --- when all else failed */

/* An ordinary user's libvirtd runs this hook too, and cannot write here: not a loss. */
static bool is_without_rights(const struct put *p)
{
	return geteuid() != 0 && (p->disk_error == -EACCES || p->disk_error == -EPERM ||
				  p->emergency_error == -EACCES || p->emergency_error == -EPERM);
}

/* One datagram as syslog(3) sends it, without waiting; a failure can be reported nowhere. */
static void log_loss(const struct put *p, const struct record *r)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	char line[4096];
	struct text t = {.data = line, .size = sizeof(line)};
	int fd;

	text_add(&t, "<27>virtspool-hook["); /* daemon.err */
	text_add_number(&t, (uint64_t)getpid(), 1);
	text_add(&t, "]: ");
	put_describe_loss(p, r, &t);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)!sendto(fd, line, t.length, MSG_NOSIGNAL | MSG_DONTWAIT,
			      (struct sockaddr *)&address, sizeof(address));
}

/* A guest may be called --version. So only a call that libvirt never makes prints: by the program's
   own name and with one argument. */
static void print_version(int argc, char **argv)
{
	static const char line[] = "virtspool-hook " PACKAGE_VERSION "\n";
	const char *base;

	if (argc != 2 || strcmp(argv[1], "--version") != 0)
		return;
	base = strrchr(argv[0], '/');
	if (strcmp(base ? base + 1 : argv[0], "virtspool-hook") != 0)
		return;
	(void)!write(STDOUT_FILENO, line, sizeof(line) - 1);
	_exit(0);
}

int main(int argc, char **argv)
{
	struct record r = {0};
	struct put p;
	sigset_t all;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)umask(0);
	print_version(argc, argv);

	put_begin(&p, bounded_call, SPOOL_HIGH_WATER);
	take_arguments(argc, argv, &r);
	(void)put_stamp(&p, &r);
	read_document(&r, p.deadline_ms);
	put_job_init(&memory.job, &r, memory.header,
		     record_format_header(&r, memory.header, sizeof(memory.header)));
	if (put_record(&p, &memory.job) == PUT_LOST && !is_without_rights(&p))
		log_loss(&p, &r);
	_exit(0);
}
