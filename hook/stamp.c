/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stamp - hands out the host's order: epoch, sequence and a time that never runs backwards.
 *
 * The file is one line of fixed width, so that it is replaced by one write within one page, which a
 * kill cannot tear:
 *
 *	virtspool-stamp 1 EPOCH(32 hex) SEQUENCE(20 digits) TICKS(20 digits) CRC32C(8 hex)\n
 *
 * The sum covers what precedes it. Anything else in the file is damage, and damage begins a new
 * epoch. The new line is written before the stamp is used: a hook that is killed after that leaves
 * a hole in the sequence, never a doubled number. Nothing is synced: after a power cut the file is
 * gone, as /run is, and the next epoch begins.
 */
#include "hook/stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hook/crc32c.h"
#include "hook/text.h"

#define FORMAT "virtspool-stamp 1 "
#define EPOCH_AT (sizeof(FORMAT) - 1)
#define SEQUENCE_AT (EPOCH_AT + 32 + 1)
#define TICKS_AT (SEQUENCE_AT + 20 + 1)
#define CRC_AT (TICKS_AT + 20 + 1)
#define LINE_SIZE (CRC_AT + 8 + 1)

#define STAMP_MODE 0664
/* 48 bits of milliseconds and 12 of their parts: the year 10889. */
#define TICKS_MAX ((1ULL << 60) - 1)

/* --- random bytes: never waited for, never failing */

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93ULL;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93ULL;
	return x ^ x >> 32;
}

/* 16 bytes that the kernel draws for each program that it starts: enough for one id, and without
   a system call. */
static void random_of_process(uint64_t ret[2])
{
	const void *p = (const void *)getauxval(AT_RANDOM); // NOLINT: that is how the value comes

	memset(ret, 0, 16);
	if (p)
		memcpy(ret, p, 16);
}

static void random_epoch(char epoch[33])
{
	uint64_t random[2];
	struct text t = {.data = epoch, .size = 32};

	if (getrandom(random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random)) {
		struct timespec now = {0};

		/* Before the kernel's pool is ready, at boot: unique is enough, unguessable is
		   not needed. */
		random_of_process(random);
		(void)clock_gettime(CLOCK_REALTIME, &now);
		random[0] =
			mix(random[0] ^ (uint64_t)now.tv_sec * 1000000000U ^ (uint64_t)now.tv_nsec);
		random[1] = mix(random[1] ^ (uint64_t)getpid());
	}
	text_add_hex(&t, random[0], 16);
	text_add_hex(&t, random[1], 16);
	epoch[32] = '\0';
}

/* --- ids */

static void make_id(uint64_t ticks, char id[37])
{
	uint64_t random[2], ms = ticks / STAMP_TICKS_PER_MS;
	struct text t = {.data = id, .size = 36};

	random_of_process(random);
	uint64_t low = mix(random[0] ^ random[1] ^ ticks);

	text_add_hex(&t, ms >> 16, 8);
	text_add(&t, "-");
	text_add_hex(&t, ms, 4);
	text_add(&t, "-7");
	text_add_hex(&t, ticks % STAMP_TICKS_PER_MS, 3);
	text_add(&t, "-");
	text_add_hex(&t, 8 | (low >> 60 & 3), 1);
	text_add_hex(&t, low >> 48, 3);
	text_add(&t, "-");
	text_add_hex(&t, low, 12);
	id[36] = '\0';
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool stamp_id_valid(const char *id)
{
	for (int i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? id[i] != '-' : hex_digit(id[i]) < 0)
			return false;
	}
	return id[36] == '\0' && id[14] == '7' && hex_digit(id[19]) >= 8 && hex_digit(id[19]) <= 11;
}

uint64_t stamp_id_ticks(const char *id)
{
	uint64_t ticks = 0;

	if (!stamp_id_valid(id))
		return 0;
	for (int i = 0; i < 18; i++) {
		if (i != 8 && i != 13 && i != 14)
			ticks = ticks << 4 | (uint64_t)hex_digit(id[i]);
	}
	return ticks;
}

/* --- the file */

static bool parse_digits(const char *s, uint64_t *ret_n)
{
	uint64_t n = 0;

	for (int i = 0; i < 20; i++) {
		if (s[i] < '0' || s[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(s[i] - '0'), &n))
			return false;
	}
	*ret_n = n;
	return true;
}

static void format_line(const struct stamp *s, char line[LINE_SIZE])
{
	struct text t = {.data = line, .size = LINE_SIZE};

	text_add(&t, FORMAT);
	text_add(&t, s->epoch);
	text_add(&t, " ");
	text_add_number(&t, s->sequence, 20);
	text_add(&t, " ");
	text_add_number(&t, s->ticks, 20);
	text_add(&t, " ");
	text_add_hex(&t, crc32c(0, line, t.length), 8);
	text_add(&t, "\n");
}

/* Whatever is not, byte by byte, what format_line() would have written is damage. */
static int parse_line(const char *line, size_t size, struct stamp *ret_stamp)
{
	struct stamp s = {0};
	char again[LINE_SIZE];

	if (size != LINE_SIZE)
		return -EBADMSG;
	memcpy(s.epoch, line + EPOCH_AT, 32);
	for (int i = 0; i < 32; i++) {
		if (hex_digit(s.epoch[i]) < 0)
			return -EBADMSG;
	}
	if (!parse_digits(line + SEQUENCE_AT, &s.sequence) ||
	    !parse_digits(line + TICKS_AT, &s.ticks) || s.sequence == 0 ||
	    s.sequence == UINT64_MAX || s.ticks > TICKS_MAX)
		return -EBADMSG;
	format_line(&s, again);
	if (memcmp(line, again, LINE_SIZE) != 0)
		return -EBADMSG;
	*ret_stamp = s;
	return 0;
}

static int read_stamp(int fd, struct stamp *ret_stamp)
{
	char line[LINE_SIZE + 1]; /* one more, to see that there is no more */
	ssize_t n = pread(fd, line, sizeof(line), 0);

	if (n < 0)
		return -errno;
	return parse_line(line, (size_t)n, ret_stamp);
}

static int write_stamp(int fd, const struct stamp *s)
{
	char line[LINE_SIZE];
	ssize_t n;

	format_line(s, line);
	n = pwrite(fd, line, sizeof(line), 0);
	if (n < 0)
		return -errno;
	return n == (ssize_t)sizeof(line) ? 0 : -EIO;
}

/* A new file belongs to the directory's group, which may take stamps. Others may read it. */
static void adopt_group(int dir_fd, int fd)
{
	struct stat st;

	if (fstat(dir_fd, &st) == 0 && fchown(fd, (uid_t)-1, st.st_gid) == 0)
		(void)fchmod(fd, STAMP_MODE);
}

static bool is_ours_to_make(int dir_fd)
{
	struct stat st;

	return geteuid() == 0 || (fstat(dir_fd, &st) == 0 && st.st_uid == geteuid());
}

static int open_stamp(int dir_fd, const char *name)
{
	/* O_NONBLOCK: should somebody have a lease on it, or have put a FIFO there */
	const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	int fd = openat(dir_fd, name, flags);

	/* The umask may be anybody's: adopt_group() gives the mode. */
	if (fd < 0 && errno == ENOENT && is_ours_to_make(dir_fd))
		fd = openat(dir_fd, name, flags | O_CREAT, 0640);
	return fd < 0 ? -errno : fd;
}

static long long monotonic_us(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Waits for the lock in small steps: flock() alone would wait without end for a stopped process. */
static int lock(int fd, unsigned wait_ms)
{
	long long deadline = monotonic_us() + wait_ms * 1000LL;
	long step_us = 50;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (monotonic_us() >= deadline)
			return -ETIMEDOUT;
		(void)nanosleep(&(struct timespec){.tv_nsec = step_us * 1000}, NULL);
		if (step_us < 1000)
			step_us *= 2;
	}
	return 0;
}

uint64_t stamp_now(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec < 0)
		return 0;
	return ((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000) *
		       STAMP_TICKS_PER_MS +
	       (uint64_t)now.tv_nsec % 1000000 * STAMP_TICKS_PER_MS / 1000000;
}

/* The clock's time, unless that is not after `last`. */
static uint64_t ticks_after(uint64_t last)
{
	uint64_t now = stamp_now();

	if (now > last)
		return now;
	return last < TICKS_MAX ? last + 1 : TICKS_MAX;
}

static void begin_epoch(struct stamp *s, uint64_t floor)
{
	random_epoch(s->epoch);
	s->sequence = 1;
	s->ticks = ticks_after(floor);
}

/* With the lock held. */
static int take_next(int dir_fd, const char *name, stamp_floor floor, void *userdata,
		     struct stamp *ret_stamp)
{
	struct stamp s = {0};
	int fd, r = 0;

	fd = open_stamp(dir_fd, name);
	if (fd < 0)
		return fd;
	if (read_stamp(fd, &s) == 0) {
		s.sequence++;
		s.ticks = ticks_after(s.ticks);
	} else {
		adopt_group(dir_fd, fd);
		begin_epoch(&s, floor ? floor(userdata) : 0);
		if (ftruncate(fd, 0) < 0)
			r = -errno;
	}
	if (r == 0)
		r = write_stamp(fd, &s);
	if (r == 0)
		*ret_stamp = s;
	(void)close(fd);
	return r;
}

/* A stamp of its own: above the file's, if that can be read, and above the floor. */
static void take_private(int dir_fd, const char *name, stamp_floor floor, void *userdata,
			 struct stamp *ret_stamp)
{
	uint64_t lowest = floor ? floor(userdata) : 0;
	struct stamp s = {0};

	if (stamp_peek(dir_fd, name, &s) == 0 && s.ticks > lowest)
		lowest = s.ticks;
	begin_epoch(ret_stamp, lowest);
}

int stamp_take(int dir_fd, const char *name, unsigned wait_ms, stamp_floor floor, void *userdata,
	       struct stamp *ret_stamp)
{
	int r = lock(dir_fd, wait_ms);

	if (r == 0) {
		r = take_next(dir_fd, name, floor, userdata, ret_stamp);
		(void)flock(dir_fd, LOCK_UN);
	}
	if (r < 0)
		take_private(dir_fd, name, floor, userdata, ret_stamp);
	make_id(ret_stamp->ticks, ret_stamp->id);
	return r;
}

int stamp_peek(int dir_fd, const char *name, struct stamp *ret_stamp)
{
	struct stamp s;
	int fd, r = -EBADMSG;

	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	/* Read without the lock: what looks damaged may be a hook that is just writing. */
	for (int i = 0; i < 3 && r == -EBADMSG; i++)
		r = read_stamp(fd, &s);
	(void)close(fd);
	if (r < 0)
		return r;
	s.id[0] = '\0'; /* the file does not hold it */
	*ret_stamp = s;
	return 0;
}
