/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool-hook - what libvirt runs on each transition of a domain: puts one record into the
 * spool.
 *
 * It owns nothing but the record and must never harm a guest: it always exits 0, prints nothing,
 * and ends within five seconds, whatever its arguments, its stdin and the machine's state are.
 * libvirt aborts a start, or kills a running guest, for any other outcome, and waits without a
 * time-out. So all signals are blocked, stdin is read within bounds, the disk is touched only by a
 * child that can be left behind (bounded.h), and an event that no spool took is one line in the
 * system log.
 *
 * The order of steps: the stamp first, so that whatever goes wrong later shows as a hole in the
 * sequence.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "hook/bounded.h"
#include "hook/record.h"
#include "hook/redact.h"
#include "hook/spool.h"
#include "hook/stamp.h"
#include "hook/text.h"

#define STDIN_MS 2000 /* reading the document, in all */
#define LOCK_MS 1000  /* waiting for the stamp's lock */
#define FLOOR_MS 500  /* looking for the newest waiting event, when an epoch begins */
#define DISK_MS 2500  /* writing to the disk before it is given up */
#define HUNG_S 30     /* how long the disk is left alone after it was given up */
#define TOTAL_MS 4000 /* all waits together, before the emergency spool */

/* How far the child that writes to the disk is: it may publish only what was not given up, and
   the other way round. */
enum put_state {
	PUT_WRITING,
	PUT_PUBLISHING,
	PUT_GIVEN_UP,
};

struct put {
	atomic_int state;
	char name[37];
	struct iovec parts[2];
};

struct floor_search {
	gid_t gid; /* of the spool directory, (gid_t) -1 if that is not there */
	uint64_t ticks;
};

/* scripts/install-hook looks for it before it replaces or removes a file. */
__attribute__((used)) static const char mark[] =
	"virtspool-hook: the mark by which install-hook knows its own";

/* All of the hook's memory, fixed: nothing is allocated. Pages that are not touched cost
   nothing. */
static char document[RECORD_DOCUMENT_MAX + 1]; /* one more, to see that there is more */
static char header[RECORD_HEADER_MAX];
static struct put put;
static struct floor_search found;

/* What an earlier hook left behind about the disk. */
static enum {
	DISK_ANSWERS,
	DISK_MAY_ANSWER, /* it did not some time ago: this hook tries */
	DISK_HANGS,
} disk;

static long long monotonic_ms(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static unsigned ms_until(long long deadline)
{
	long long left = deadline - monotonic_ms();

	return left > 0 ? (unsigned)left : 0;
}

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

/* Reads stdin until it ends, or the room, the time or the descriptor does. */
static void read_document(struct record *r)
{
	long long deadline = monotonic_ms() + STDIN_MS;
	size_t size = 0;

	while (size < sizeof(document)) {
		struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
		ssize_t n = -1;

		if (poll(&in, 1, (int)ms_until(deadline)) < 0 && errno != EINTR) {
			r->flags |= RECORD_DOCUMENT_TRUNCATED;
			break;
		}
		if (in.revents) {
			n = read(STDIN_FILENO, document + size, sizeof(document) - size);
			if (n == 0)
				break;
			if (n < 0 && errno != EINTR && errno != EAGAIN) {
				/* no stdin at all is no document, not half of one */
				if (errno != EBADF && errno != EISDIR)
					r->flags |= RECORD_DOCUMENT_TRUNCATED;
				break;
			}
		}
		if (n > 0)
			size += (size_t)n;
		else if (ms_until(deadline) == 0) {
			r->flags |= RECORD_DOCUMENT_TRUNCATED;
			break;
		}
	}
	if (size > RECORD_DOCUMENT_MAX) {
		r->flags |= RECORD_DOCUMENT_TRUNCATED;
		size = RECORD_DOCUMENT_MAX;
	}
	r->document.data = document;
	r->document.size = redact(document, size, &r->redacted);
}

/* --- its place in the order */

static int search_floor(void *userdata)
{
	struct floor_search *f = userdata;
	struct stat st;
	uint64_t ticks;
	int fd;

	fd = openat(AT_FDCWD, spool_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0)
		f->gid = st.st_gid;
	ticks = spool_highest_ticks(fd, SPOOL_NEW, FLOOR_MS);
	if (ticks > f->ticks)
		f->ticks = ticks;
	return 0;
}

/* Called when an epoch begins: what waits in the spools keeps sorting before what comes, also if
   the clock leapt. */
static uint64_t begin_epoch(void *userdata)
{
	static bool searched;
	int fd;

	if (!searched)
		(void)bounded_call(search_floor, &found, FLOOR_MS);
	searched = true; /* also if it hangs: not twice */
	(void)spool_make_run_directory(found.gid);
	fd = openat(AT_FDCWD, spool_run_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return found.ticks;
	uint64_t waiting = spool_highest_ticks(fd, SPOOL_EMERGENCY "/" SPOOL_NEW, FLOOR_MS);

	(void)close(fd);
	return waiting > found.ticks ? waiting : found.ticks;
}

static int open_run_directory(void)
{
	int fd = openat(AT_FDCWD, spool_run_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		(void)begin_epoch(NULL);
		fd = openat(AT_FDCWD, spool_run_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return fd;
}

/*
 * While a disk hangs, each hook that tries it takes seconds and leaves a process behind. So the one
 * that gave it up leaves a mark, and until that is HUNG_S old the others go to the emergency spool
 * at once; then one tries again.
 */
static void look_for_hung_disk(int run_fd)
{
	struct timespec now = {0};
	struct stat st;

	if (fstatat(run_fd, SPOOL_HUNG, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_uid != geteuid())
		return;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	disk = DISK_HANGS;
	if (now.tv_sec < st.st_mtim.tv_sec - 1 || now.tv_sec >= st.st_mtim.tv_sec + HUNG_S) {
		disk = DISK_MAY_ANSWER;
		(void)utimensat(run_fd, SPOOL_HUNG, NULL,
				AT_SYMLINK_NOFOLLOW); /* the others wait for what comes of it */
	}
}

static void mark_disk(bool hangs)
{
	int fd, run_fd =
			openat(AT_FDCWD, spool_run_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (run_fd < 0)
		return;
	if (hangs) {
		fd = openat(run_fd, SPOOL_HUNG,
			    O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
		if (fd >= 0)
			(void)close(fd);
	} else {
		(void)unlinkat(run_fd, SPOOL_HUNG, 0);
	}
	(void)close(run_fd);
}

static void take_stamp(struct record *r)
{
	struct timespec now = {0};
	int fd = open_run_directory();

	if (stamp_take(fd, SPOOL_STAMP, LOCK_MS, begin_epoch, NULL, &r->stamp) < 0)
		r->flags |= RECORD_UNORDERED;
	look_for_hung_disk(fd);
	if (fd >= 0)
		(void)close(fd);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	r->recorded_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* --- onto the disk */

/* In the child. */
static int put_on_disk(void *userdata)
{
	struct put *p = userdata;
	int fd, r, writing = PUT_WRITING;

	fd = openat(AT_FDCWD, spool_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = spool_write(fd, p->name, p->parts, 2);
	if (r < 0)
		return r;
	if (!atomic_compare_exchange_strong(&p->state, &writing, PUT_PUBLISHING)) {
		spool_discard(fd, p->name); /* it is in the emergency spool by now */
		return -ECANCELED;
	}
	return spool_publish(fd, p->name);
}

static int put_within_time(long long deadline)
{
	unsigned left = ms_until(deadline);
	int r, writing = PUT_WRITING;

	if (disk == DISK_HANGS)
		return -ETIMEDOUT;
	r = bounded_call(put_on_disk, &put, left < DISK_MS ? left : DISK_MS);
	if (r == -ETIMEDOUT) {
		(void)atomic_compare_exchange_strong(&put.state, &writing, PUT_GIVEN_UP);
		if (left >= DISK_MS)
			mark_disk(true);
	} else if (disk == DISK_MAY_ANSWER) {
		mark_disk(false);
	}
	return r;
}

/* --- when all else failed */

static void add_argument(struct text *t, struct bytes value)
{
	text_add(t, " '");
	text_add_escaped(t, value.data, value.size < 256 ? value.size : 256);
	text_add(t, "'");
}

/* One datagram as syslog(3) sends it, without ever waiting; there is nobody left to tell if that
   fails. */
static void log_loss(const struct record *r, int disk_error, int emergency_error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	char line[4096];
	struct text t = {.data = line, .size = sizeof(line)};
	int fd;

	text_add(&t, "<27>virtspool-hook["); /* daemon.err */
	text_add_number(&t, (uint64_t)getpid(), 1);
	text_add(&t, "]: event lost:");
	add_argument(&t, r->driver);
	add_argument(&t, r->object);
	add_argument(&t, r->operation);
	add_argument(&t, r->suboperation);
	text_add(&t, ", epoch ");
	text_add(&t, r->stamp.epoch);
	text_add(&t, " sequence ");
	text_add_number(&t, r->stamp.sequence, 1);
	text_add(&t, ": cannot write to '");
	text_add(&t, spool_directory());
	text_add(&t, "': ");
	text_add(&t, strerror(-disk_error));
	text_add(&t, ", nor to the emergency spool in '");
	text_add(&t, spool_run_directory());
	text_add(&t, "': ");
	text_add(&t, strerror(-emergency_error));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)!sendto(fd, line, t.length, MSG_NOSIGNAL | MSG_DONTWAIT,
			      (struct sockaddr *)&address, sizeof(address));
}

/* An ordinary user's libvirtd runs this hook too, and may not write here: nothing is lost that
   anyone counts. */
static bool is_without_rights(int disk_error, int emergency_error)
{
	return geteuid() != 0 && (disk_error == -EACCES || disk_error == -EPERM ||
				  emergency_error == -EACCES || emergency_error == -EPERM);
}

static void keep_record(struct record *r, long long deadline)
{
	int disk_error, emergency_error;

	memcpy(put.name, r->stamp.id, sizeof(put.name));
	put.parts[0] = (struct iovec){header, record_format_header(r, header, sizeof(header))};
	put.parts[1] = (struct iovec){document, r->document.size};
	disk_error = put_within_time(deadline);
	if (disk_error == 0)
		return;
	emergency_error = spool_put_emergency(put.name, put.parts, 2);
	if (emergency_error == -ENOENT) {
		emergency_error = spool_make_run_directory(found.gid);
		if (emergency_error == 0)
			emergency_error = spool_put_emergency(put.name, put.parts, 2);
	}
	if (emergency_error < 0 && !is_without_rights(disk_error, emergency_error))
		log_loss(r, disk_error, emergency_error);
}

/* A guest may be called --version: only a call that no libvirt makes, by the program's own name,
   prints. */
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
	long long deadline = monotonic_ms() + TOTAL_MS;
	struct record r = {0};
	sigset_t all;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)umask(0);
	print_version(argc, argv);
	found.gid = (gid_t)-1;

	take_arguments(argc, argv, &r);
	take_stamp(&r);
	read_document(&r);
	keep_record(&r, deadline);
	_exit(0);
}
