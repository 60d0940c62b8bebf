/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The stamp: sequence, epochs, time that never runs backwards, ids, damaged files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hook/stamp.h"

struct fixture {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	static struct fixture f;

	strcpy(f.path, "/tmp/test-stamp-XXXXXX");
	if (!mkdtemp(f.path))
		return -1;
	f.fd = open(f.path, O_RDONLY | O_DIRECTORY);
	*state = &f;
	return f.fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	(void)unlinkat(f->fd, "stamp", 0);
	(void)close(f->fd);
	return rmdir(f->path);
}

static uint64_t give_floor(void *userdata)
{
	return *(uint64_t *)userdata;
}

static void put_file(int dir_fd, const char *content, size_t size)
{
	int fd = openat(dir_fd, "stamp", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, size), (ssize_t)size);
	assert_int_equal(close(fd), 0);
}

static void test_order(void **state)
{
	struct fixture *f = *state;
	struct stamp first, last, s;

	assert_int_equal(stamp_take(f->fd, "stamp", 100, NULL, NULL, &first), 0);
	assert_int_equal(first.sequence, 1);
	last = first;
	for (int i = 2; i < 2000; i++) {
		assert_int_equal(stamp_take(f->fd, "stamp", 100, NULL, NULL, &s), 0);
		assert_int_equal(s.sequence, i);
		assert_string_equal(s.epoch, first.epoch);
		assert_true(s.ticks > last.ticks);
		assert_true(strcmp(s.id, last.id) > 0);
		last = s;
	}
	assert_int_equal(stamp_peek(f->fd, "stamp", &s), 0);
	assert_int_equal(s.sequence, last.sequence);
	assert_int_equal(s.ticks, last.ticks);
	assert_string_equal(s.epoch, last.epoch);
}

/* The file says that the last stamp was an hour from now: the clock was set back since. */
static void test_clock_set_back(void **state)
{
	struct fixture *f = *state;
	struct stamp now, s;
	uint64_t future;

	assert_int_equal(stamp_take(f->fd, "stamp", 100, NULL, NULL, &now), 0);
	assert_int_equal(unlinkat(f->fd, "stamp", 0), 0);
	future = now.ticks + 3600 * 1000 * STAMP_TICKS_PER_MS;
	for (uint64_t i = 1; i < 10; i++) {
		assert_int_equal(stamp_take(f->fd, "stamp", 100, give_floor, &future, &s), 0);
		assert_int_equal(s.ticks, future + i);
		assert_int_equal(s.sequence, i);
		assert_int_equal(stamp_id_ticks(s.id), s.ticks);
	}
	assert_string_not_equal(s.epoch, now.epoch);
}

/* Everybody may read it, and only the directory's group may write to it. */
static void test_mode(void **state)
{
	struct fixture *f = *state;
	struct stamp s;
	struct stat st;

	assert_int_equal(stamp_take(f->fd, "stamp", 100, NULL, NULL, &s), 0);
	assert_int_equal(fstatat(f->fd, "stamp", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0664);
}

static void test_damage_begins_an_epoch(void **state)
{
	static const struct {
		const char *name, *content;
		size_t size;
	} table[] = {
#define CONTENT(literal) literal, sizeof(literal) - 1
		{"empty", CONTENT("")},
		{"garbage", CONTENT("\0\1\2garbage")},
		{"newline", CONTENT("\n")},
		{"no sum",
		 CONTENT("virtspool-stamp 1 0123456789abcdef0123456789abcdef 00000000000000000007 "
			 "00000000000000000009 00000000\n")},
		{"long",
		 CONTENT("virtspool-stamp 1 0123456789abcdef0123456789abcdef 00000000000000000007 "
			 "00000000000000000009 00000000\nvirtspool-stamp 1 0123456789abcdef")},
#undef CONTENT
	};
	struct fixture *f = *state;
	struct stamp before, s;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		put_file(f->fd, table[i].content, table[i].size);
		assert_int_equal(stamp_peek(f->fd, "stamp", &before), -EBADMSG);
		assert_int_equal(stamp_take(f->fd, "stamp", 100, NULL, NULL, &before), 0);
		assert_int_equal(before.sequence, 1);
		assert_int_equal(stamp_take(f->fd, "stamp", 100, NULL, NULL, &s), 0);
		assert_int_equal(s.sequence, 2);
		assert_string_equal(s.epoch, before.epoch);
	}
}

/* One flipped bit anywhere in the line, and it is another epoch: never a number given out twice. */
static void test_flipped_bits(void **state)
{
	struct fixture *f = *state;
	char line[256];
	struct stamp first, s;
	ssize_t n;
	int fd;

	assert_int_equal(stamp_take(f->fd, "stamp", 100, NULL, NULL, &first), 0);
	fd = openat(f->fd, "stamp", O_RDONLY);
	n = read(fd, line, sizeof(line));
	assert_int_equal(close(fd), 0);
	assert_true(n > 0);
	for (ssize_t i = 0; i < n; i++) {
		for (int bit = 0; bit < 8; bit++) {
			line[i] ^= (char)(1 << bit);
			put_file(f->fd, line, (size_t)n);
			assert_int_equal(stamp_peek(f->fd, "stamp", &s), -EBADMSG);
			line[i] ^= (char)(1 << bit);
		}
	}
	put_file(f->fd, line, (size_t)n);
	assert_int_equal(stamp_peek(f->fd, "stamp", &s), 0);
}

static void test_lock_is_waited_for_briefly(void **state)
{
	struct fixture *f = *state;
	struct stamp first, s, next;
	uint64_t future = 1ULL << 59;
	int fd;

	assert_int_equal(stamp_take(f->fd, "stamp", 100, give_floor, &future, &first), 0);
	fd = openat(f->fd, ".", O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(stamp_take(f->fd, "stamp", 20, NULL, NULL, &s), -ETIMEDOUT);
	assert_string_not_equal(s.epoch, first.epoch);
	assert_int_equal(s.sequence, 1);
	assert_true(s.ticks > first.ticks); /* whatever the clock says */
	assert_true(stamp_id_valid(s.id));
	assert_int_equal(close(fd), 0);
	assert_int_equal(stamp_take(f->fd, "stamp", 20, NULL, NULL, &next), 0);
	assert_int_equal(next.sequence, 2);
	assert_string_equal(next.epoch, first.epoch);
}

/* Without a directory at all there is still a stamp, above the floor. */
static void test_private_epoch(void **state)
{
	struct stamp a, b;
	uint64_t floor = 1ULL << 59;

	(void)state;
	assert_int_equal(stamp_take(-1, "stamp", 20, NULL, NULL, &a), -EBADF);
	assert_int_equal(stamp_take(-1, "stamp", 20, give_floor, &floor, &b), -EBADF);
	assert_string_not_equal(a.epoch, b.epoch);
	assert_int_equal(b.ticks, floor + 1);
	assert_true(stamp_id_valid(a.id) && stamp_id_valid(b.id));
}

/* Whatever stands in the stamp's place, it is not waited for and not written through. */
static void test_strange_files(void **state)
{
	struct fixture *f = *state;
	struct stamp s;

	assert_int_equal(mkfifoat(f->fd, "stamp", 0600), 0);
	assert_true(stamp_take(f->fd, "stamp", 20, NULL, NULL, &s) < 0);
	assert_true(stamp_id_valid(s.id));
	assert_int_equal(unlinkat(f->fd, "stamp", 0), 0);

	assert_int_equal(symlinkat("elsewhere", f->fd, "stamp"), 0);
	assert_int_equal(stamp_take(f->fd, "stamp", 20, NULL, NULL, &s), -ELOOP);
	assert_int_equal(faccessat(f->fd, "elsewhere", F_OK, 0), -1);
	assert_int_equal(unlinkat(f->fd, "stamp", 0), 0);

	assert_int_equal(mkdirat(f->fd, "stamp", 0700), 0);
	assert_int_equal(stamp_take(f->fd, "stamp", 20, NULL, NULL, &s), -EISDIR);
	assert_int_equal(unlinkat(f->fd, "stamp", AT_REMOVEDIR), 0);
}

/* Who opens a file under another's lease is kept waiting for up to 45 s. */
static void test_lease_is_not_waited_for(void **state)
{
	struct fixture *f = *state;
	struct stamp s;
	int fd, r;

	assert_int_equal(stamp_take(f->fd, "stamp", 100, NULL, NULL, &s), 0);
	fd = openat(f->fd, "stamp", O_RDONLY | O_CLOEXEC);
	assert_true(signal(SIGIO, SIG_IGN) != SIG_ERR);
	r = fcntl(fd, F_SETLEASE, F_WRLCK);
	if (r == 0)
		assert_int_equal(stamp_take(f->fd, "stamp", 100, NULL, NULL, &s), -EWOULDBLOCK);
	assert_int_equal(close(fd), 0);
	if (r < 0)
		skip(); /* not every file system has leases */
}

/* Only root, or the owner of the directory, makes the file: another's would be another's to
   write. */
static void test_who_makes_the_file(void **state)
{
	struct fixture *f = *state;
	struct stamp s;

	if (geteuid() != 0)
		skip();
	assert_int_equal(fchmod(f->fd, 0777), 0);
	assert_int_equal(seteuid(65534), 0);
	assert_int_equal(stamp_take(f->fd, "stamp", 100, NULL, NULL, &s), -ENOENT);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(faccessat(f->fd, "stamp", F_OK, 0), -1);
	assert_int_equal(fchown(f->fd, 65534, (gid_t)-1), 0);
	assert_int_equal(seteuid(65534), 0);
	assert_int_equal(stamp_take(f->fd, "stamp", 100, NULL, NULL, &s), 0);
	assert_int_equal(seteuid(0), 0);
}

/* Eight processes, 200 stamps each: every number once, and ids in its order. */
static void test_concurrency(void **state)
{
	enum { PROCESSES = 8, EACH = 200 };
	static char ids[PROCESSES * EACH + 1][37];
	struct fixture *f = *state;
	struct stamp s;
	int pipefd[2];

	assert_int_equal(pipe(pipefd), 0);
	for (int p = 0; p < PROCESSES; p++) {
		pid_t pid = fork();

		if (pid == 0) {
			int fd = open(f->path, O_RDONLY | O_DIRECTORY); /* a lock of its own */

			for (int i = 0; i < EACH; i++) {
				if (stamp_take(fd, "stamp", 10000, NULL, NULL, &s) < 0)
					_exit(1);
				if (write(pipefd[1], &s, sizeof(s)) != sizeof(s))
					_exit(1);
			}
			_exit(0);
		}
		assert_true(pid > 0);
	}
	close(pipefd[1]);
	while (read(pipefd[0], &s, sizeof(s)) == sizeof(s)) {
		assert_in_range(s.sequence, 1, PROCESSES * EACH);
		assert_string_equal(ids[s.sequence], "");
		strcpy(ids[s.sequence], s.id);
	}
	close(pipefd[0]);
	for (int p = 0, status; p < PROCESSES; p++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	for (int i = 2; i <= PROCESSES * EACH; i++)
		assert_true(strcmp(ids[i - 1], ids[i]) < 0);
}

static void test_ids(void **state)
{
	static const struct {
		const char *id;
		bool valid;
		uint64_t ticks;
	} table[] = {
		{"00000000-0000-7000-8000-000000000000", true, 0},
		{"00000000-0001-7002-8000-000000000000", true, STAMP_TICKS_PER_MS + 2},
		{"01a1fcd2-c1c2-764d-8efb-0eff7cd3bec2", true, 0x01a1fcd2c1c264dULL},
		{"ffffffff-ffff-7fff-bfff-ffffffffffff", true, (1ULL << 60) - 1},
		{"01a1fcd2-c1c2-464d-8efb-0eff7cd3bec2", false, 0}, /* version 4 */
		{"01a1fcd2-c1c2-764d-cefb-0eff7cd3bec2", false, 0}, /* another variant */
		{"01A1FCD2-c1c2-764d-8efb-0eff7cd3bec2", false, 0},
		{"01a1fcd2-c1c2-764d-8efb-0eff7cd3bec2.reason", false, 0},
		{"01a1fcd2-c1c2-764d-8efb-0eff7cd3bec", false, 0},
		{"01a1fcd2c1c2764d8efb0eff7cd3bec2", false, 0},
		{".", false, 0},
		{"", false, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(stamp_id_valid(table[i].id), table[i].valid);
		assert_int_equal(stamp_id_ticks(table[i].id), table[i].ticks);
	}
}

#define WITH_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DIRECTORY(test_order),
		WITH_DIRECTORY(test_clock_set_back),
		WITH_DIRECTORY(test_mode),
		WITH_DIRECTORY(test_damage_begins_an_epoch),
		WITH_DIRECTORY(test_flipped_bits),
		WITH_DIRECTORY(test_lock_is_waited_for_briefly),
		cmocka_unit_test(test_private_epoch),
		WITH_DIRECTORY(test_strange_files),
		WITH_DIRECTORY(test_lease_is_not_waited_for),
		WITH_DIRECTORY(test_who_makes_the_file),
		WITH_DIRECTORY(test_concurrency),
		cmocka_unit_test(test_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
