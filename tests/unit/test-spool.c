/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The put side of the spool: a record is there whole or not at all, and nothing is left of what
   failed; the emergency spool makes itself, and has its bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hook/clock.h"
#include "hook/spool.h"
#include "hook/stamp.h"
#include "tests/unit/tree.h"

#define NAME "01a1fce9-c414-789b-b42c-b6dae2370565"

struct fixture {
	char top[64], run[80];
	int fd;
};

static int setup(void **state)
{
	static struct fixture f;

	strcpy(f.top, "/tmp/test-spool-XXXXXX");
	if (!mkdtemp(f.top))
		return -1;
	(void)snprintf(f.run, sizeof(f.run), "%s/run", f.top);
	(void)setenv("VIRTSPOOL_RUNDIR", f.run, 1);
	f.fd = open(f.top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = &f;
	return f.fd < 0 || mkdirat(f.fd, SPOOL_TMP, 0700) < 0 || mkdirat(f.fd, SPOOL_NEW, 0700) < 0
		       ? -1
		       : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	(void)close(f->fd);
	return tree_remove(f->top);
}

static int put(int fd)
{
	static char header[] = "header\n\n", document[] = "document";
	struct spool s;
	int r = spool_open(fd, &s);

	if (r < 0)
		return r;
	r = spool_put(&s, NAME, (struct iovec[]){{header, 8}, {document, 8}}, 2);
	spool_close(&s);
	return r;
}

static int put_emergency(void)
{
	static char content[] = "record";

	return spool_put_emergency(NAME, &(struct iovec){content, 6}, 1,
				   clock_monotonic_ms() + 10000);
}

static void make_file(const struct fixture *f, const char *path, const char *content)
{
	int fd = openat(f->fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	assert_int_equal(close(fd), 0);
}

static void expect_file(const struct fixture *f, const char *path, const char *content)
{
	char data[64] = "";
	int fd = openat(f->fd, path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(read(fd, data, sizeof(data) - 1) >= 0);
	assert_int_equal(close(fd), 0);
	assert_string_equal(data, content);
}

static void expect_count(const struct fixture *f, const char *path, int expected)
{
	char full[128];
	int n = 0;
	DIR *d;

	(void)snprintf(full, sizeof(full), "%s/%s", f->top, path);
	d = opendir(full);
	assert_non_null(d);
	for (const struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	(void)closedir(d);
	assert_int_equal(n, expected);
}

static void expect_mode(const struct fixture *f, const char *path, mode_t mode)
{
	struct stat st;

	assert_int_equal(fstatat(f->fd, path, &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, mode);
}

/* --- one record */

static void test_put(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(put(f->fd), 0);
	expect_file(f, SPOOL_NEW "/" NAME, "header\n\ndocument");
	expect_count(f, SPOOL_TMP, 0);
}

/* What is not ours is not written to, though it stands where ours belongs. */
static void test_what_stands_in_tmp_is_left_alone(void **state)
{
	struct fixture *f = *state;

	make_file(f, SPOOL_TMP "/" NAME, "another's");
	assert_int_equal(put(f->fd), -EEXIST);
	expect_file(f, SPOOL_TMP "/" NAME, "another's");
	assert_int_equal(unlinkat(f->fd, SPOOL_TMP "/" NAME, 0), 0);
	make_file(f, "target", "");
	assert_int_equal(symlinkat("../target", f->fd, SPOOL_TMP "/" NAME), 0);
	assert_int_equal(put(f->fd), -EEXIST);
	expect_file(f, "target", "");
}

static void test_what_cannot_be_moved_is_removed(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(unlinkat(f->fd, SPOOL_NEW, AT_REMOVEDIR), 0);
	assert_int_equal(put(f->fd), -ENOENT);
	expect_count(f, SPOOL_TMP, 0);
	make_file(f, SPOOL_NEW, "");
	assert_int_equal(put(f->fd), -ENOTDIR);
	expect_count(f, SPOOL_TMP, 0);
	assert_int_equal(unlinkat(f->fd, SPOOL_NEW, 0), 0);
	assert_int_equal(mkdirat(f->fd, SPOOL_NEW, 0700), 0);
	assert_int_equal(mkdirat(f->fd, SPOOL_NEW "/" NAME, 0700), 0);
	assert_int_equal(put(f->fd), -EISDIR);
	expect_count(f, SPOOL_TMP, 0);
}

/* A directory that is a link leads root nowhere. */
static void test_links_are_not_followed(void **state)
{
	static const char *const directories[] = {SPOOL_TMP, SPOOL_NEW};
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(renameat(f->fd, directories[i], f->fd, "elsewhere"), 0);
		assert_int_equal(symlinkat("elsewhere", f->fd, directories[i]), 0);
		assert_int_equal(put(f->fd), -ENOTDIR);
		expect_count(f, "elsewhere", 0);
		assert_int_equal(unlinkat(f->fd, directories[i], 0), 0);
		assert_int_equal(renameat(f->fd, "elsewhere", f->fd, directories[i]), 0);
		expect_count(f, directories[1 - i], 0);
	}
	assert_int_equal(put(f->fd), 0);
}

static void test_discard(void **state)
{
	struct fixture *f = *state;
	char content[] = "x";
	struct spool s;

	assert_int_equal(spool_open(f->fd, &s), 0);
	assert_int_equal(spool_write(&s, NAME, &(struct iovec){content, 1}, 1), 0);
	expect_count(f, SPOOL_NEW, 0);
	spool_discard(&s, NAME);
	spool_close(&s);
	expect_count(f, SPOOL_TMP, 0);
}

/* --- the emergency spool */

static void test_run_directory(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(put_emergency(), -ENOENT);
	assert_int_equal(spool_make_run_directory((gid_t)-1), 0);
	expect_mode(f, "run", 01775);
	expect_mode(f, "run/" SPOOL_EMERGENCY, 02770);
	expect_mode(f, "run/" SPOOL_EMERGENCY "/" SPOOL_TMP, 02770);
	expect_mode(f, "run/" SPOOL_EMERGENCY "/" SPOOL_NEW, 02770);
	assert_int_equal(put_emergency(), 0);
	expect_file(f, "run/" SPOOL_EMERGENCY "/" SPOOL_NEW "/" NAME, "record");
}

/* A hook may be killed between mkdir() and chmod(); what an administrator has made of a
   directory stays. */
static void test_half_made_directories_are_finished(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->fd, "run", 0700), 0);
	assert_int_equal(spool_make_run_directory((gid_t)-1), 0);
	expect_mode(f, "run", 01775);
	assert_int_equal(fchmodat(f->fd, "run/" SPOOL_EMERGENCY, 0750, 0), 0);
	assert_int_equal(spool_make_run_directory((gid_t)-1), 0);
	expect_mode(f, "run/" SPOOL_EMERGENCY, 0750);
}

static void test_links_in_the_emergency_spool(void **state)
{
	static const char *const paths[] = {
		"run/" SPOOL_EMERGENCY,
		"run/" SPOOL_EMERGENCY "/" SPOOL_TMP,
		"run/" SPOOL_EMERGENCY "/" SPOOL_NEW,
	};
	struct fixture *f = *state;
	char target[128];

	assert_int_equal(spool_make_run_directory((gid_t)-1), 0);
	for (int i = 0; i < 3; i++) {
		(void)snprintf(target, sizeof(target), "%s/elsewhere", f->top);
		assert_int_equal(renameat(f->fd, paths[i], f->fd, "elsewhere"), 0);
		assert_int_equal(fchmodat(f->fd, "elsewhere", 0700, 0), 0); /* as if half made */
		assert_int_equal(symlinkat(target, f->fd, paths[i]), 0);
		assert_int_equal(put_emergency(), -ENOTDIR);
		assert_int_equal(spool_make_run_directory((gid_t)-1), -ENOTDIR);
		expect_mode(f, "elsewhere", 0700);
		expect_count(f, "elsewhere", i == 0 ? 2 : 0);
		assert_int_equal(unlinkat(f->fd, paths[i], 0), 0);
		assert_int_equal(renameat(f->fd, "elsewhere", f->fd, paths[i]), 0);
	}
	assert_int_equal(put_emergency(), 0);
}

/* Whatever fills it, also what killed hooks left in tmp/. */
static void test_bounds(void **state)
{
	struct fixture *f = *state;
	static const char *const directories[] = {SPOOL_TMP, SPOOL_NEW};
	char path[128];
	int fd;

	assert_int_equal(spool_make_run_directory((gid_t)-1), 0);
	for (int i = 0; i < SPOOL_EMERGENCY_RECORDS_MAX; i++) {
		(void)snprintf(path, sizeof(path), "run/" SPOOL_EMERGENCY "/%s/%s%d",
			       directories[i % 2], i % 3 ? "" : ".", i);
		make_file(f, path, "");
	}
	assert_int_equal(put_emergency(), -ENOSPC);
	assert_int_equal(unlinkat(f->fd, path, 0), 0);
	assert_int_equal(put_emergency(), 0);

	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(unlinkat(f->fd, "run/" SPOOL_EMERGENCY "/" SPOOL_NEW "/" NAME, 0),
				 0);
		(void)snprintf(path, sizeof(path), "run/" SPOOL_EMERGENCY "/%s/large",
			       directories[i]);
		assert_int_equal(unlinkat(f->fd,
					  i == 0 ? "run/" SPOOL_EMERGENCY "/" SPOOL_TMP "/.0"
						 : "run/" SPOOL_EMERGENCY "/" SPOOL_TMP "/large",
					  0),
				 0);
		make_file(f, path, "");
		fd = openat(f->fd, path, O_WRONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, SPOOL_EMERGENCY_BYTES_MAX - 5), 0);
		assert_int_equal(put_emergency(), -ENOSPC);
		assert_int_equal(ftruncate(fd, SPOOL_EMERGENCY_BYTES_MAX - 6), 0);
		assert_int_equal(put_emergency(), 0);
		assert_int_equal(close(fd), 0);
	}
}

/* So much that it cannot be counted in time: not waited for. */
static void test_deadline(void **state)
{
	struct fixture *f = *state;
	static char content[] = "record";
	char path[128];

	assert_int_equal(spool_make_run_directory((gid_t)-1), 0);
	for (int i = 0; i < 10; i++) {
		(void)snprintf(path, sizeof(path), "run/" SPOOL_EMERGENCY "/" SPOOL_NEW "/%d", i);
		make_file(f, path, "");
	}
	assert_int_equal(
		spool_put_emergency(NAME, &(struct iovec){content, 6}, 1, clock_monotonic_ms() - 1),
		-ETIMEDOUT);
}

/* --- what a writer relies on: nobody but root, or the writer itself, can have touched it */

static void test_hook_directory(void **state)
{
	struct fixture *f = *state;
	int fd;

	assert_int_equal(spool_open_hook_directory(), -ENOENT);
	assert_int_equal(spool_make_run_directory((gid_t)-1), 0);
	expect_mode(f, "run/" SPOOL_HOOK, 0711);
	fd = spool_open_hook_directory();
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(fchmodat(f->fd, "run/" SPOOL_HOOK, 0771, 0), 0);
	assert_int_equal(spool_open_hook_directory(), -EPERM);
	assert_int_equal(renameat(f->fd, "run/" SPOOL_HOOK, f->fd, "run/elsewhere"), 0);
	assert_int_equal(symlinkat("elsewhere", f->fd, "run/" SPOOL_HOOK), 0);
	assert_int_equal(spool_open_hook_directory(), -ENOTDIR);
	if (geteuid() != 0)
		skip();
	assert_int_equal(unlinkat(f->fd, "run/" SPOOL_HOOK, 0), 0);
	assert_int_equal(mkdirat(f->fd, "run/" SPOOL_HOOK, 0711), 0);
	assert_int_equal(fchownat(f->fd, "run/" SPOOL_HOOK, 65534, (gid_t)-1, 0), 0);
	assert_int_equal(spool_open_hook_directory(), -EPERM);
}

static void test_high_water(void **state)
{
	const uint64_t ticks = 0x1a1fcd2c1c264dULL, any = ticks + 3000 * STAMP_TICKS_PER_MS;
	struct fixture *f = *state;

	assert_true(spool_high_water(f->fd) == 0);
	for (unsigned i = 0; i < 5000; i++) { /* never below what was set, and hardly above */
		(void)unlinkat(f->fd, SPOOL_HIGH_WATER, 0);
		spool_raise_high_water(f->fd, SPOOL_HIGH_WATER, ticks + i);
		assert_in_range(spool_high_water(f->fd), ticks + i, ticks + i + 1);
	}
	spool_raise_high_water(f->fd, SPOOL_HIGH_WATER, any);
	spool_raise_high_water(f->fd, SPOOL_HIGH_WATER, ticks); /* never lower */
	spool_raise_high_water(f->fd, SPOOL_HIGH_WATER_LISTEN, ticks + 1);
	assert_in_range(spool_high_water(f->fd), any, any + 1);
	assert_int_equal(unlinkat(f->fd, SPOOL_HIGH_WATER, 0), 0);
	assert_in_range(spool_high_water(f->fd), ticks + 1, ticks + 2);
}

/* A file that is not the writer's, or has a second name, or is not empty: not believed, and its
   time is not set. */
static void test_high_water_of_others(void **state)
{
	const uint64_t ticks = 0x1a1fcd2c1c264dULL;
	struct fixture *f = *state;
	struct stat before, after;

	make_file(f, "secret", "");
	assert_int_equal(fstatat(f->fd, "secret", &before, 0), 0);
	assert_int_equal(linkat(f->fd, "secret", f->fd, SPOOL_HIGH_WATER, 0), 0);
	spool_raise_high_water(f->fd, SPOOL_HIGH_WATER, 1ULL << 59);
	assert_true(spool_high_water(f->fd) == 0);
	assert_int_equal(unlinkat(f->fd, SPOOL_HIGH_WATER, 0), 0);
	assert_int_equal(symlinkat("secret", f->fd, SPOOL_HIGH_WATER), 0);
	spool_raise_high_water(f->fd, SPOOL_HIGH_WATER, 1ULL << 59);
	assert_true(spool_high_water(f->fd) == 0);
	assert_int_equal(unlinkat(f->fd, SPOOL_HIGH_WATER, 0), 0);
	assert_int_equal(fstatat(f->fd, "secret", &after, 0), 0);
	assert_true(before.st_mtim.tv_sec == after.st_mtim.tv_sec &&
		    before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
	make_file(f, SPOOL_HIGH_WATER, "not empty");
	spool_raise_high_water(f->fd, SPOOL_HIGH_WATER, 1ULL << 59);
	assert_true(spool_high_water(f->fd) == 0);
	if (geteuid() != 0)
		skip();
	assert_int_equal(unlinkat(f->fd, SPOOL_HIGH_WATER, 0), 0);
	for (int i = 0; i < 2; i++) {
		const char *file = i == 0 ? SPOOL_HIGH_WATER : SPOOL_HIGH_WATER_LISTEN;

		spool_raise_high_water(f->fd, file, ticks);
		assert_int_equal(fchownat(f->fd, file, 65534, (gid_t)-1, 0), 0);
		assert_true(spool_high_water(f->fd) == 0);
	}
	/* virtspool-listen's counts where nobody else can have put it there */
	assert_int_equal(fchmod(f->fd, 01770), 0);
	assert_in_range(spool_high_water(f->fd), ticks, ticks + 1);
}

static void test_highest_ticks(void **state)
{
	const long long soon = clock_monotonic_ms() + 10000;
	struct fixture *f = *state;

	assert_true(spool_highest_ticks(f->fd, SPOOL_NEW, UINT64_MAX, soon) == 0);
	make_file(f, SPOOL_NEW "/00000000-0001-7002-8000-000000000000", "");
	make_file(f, SPOOL_NEW "/00000000-0001-7003-8000-000000000000", "");
	make_file(f, SPOOL_NEW "/ffffffff-ffff-4fff-8000-000000000000", "not an id of ours");
	make_file(f, SPOOL_NEW "/ffffffff-ffff-7fff-8000-000000000000", "beyond the limit");
	assert_true(spool_highest_ticks(f->fd, SPOOL_NEW, 0x1003, soon) == 0x1003);
	assert_true(spool_highest_ticks(f->fd, SPOOL_NEW, 0x1002, soon) == 0x1002);
	assert_true(spool_highest_ticks(f->fd, "nowhere", UINT64_MAX, soon) == 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_put),
		TEST(test_what_stands_in_tmp_is_left_alone),
		TEST(test_what_cannot_be_moved_is_removed),
		TEST(test_links_are_not_followed),
		TEST(test_discard),
		TEST(test_run_directory),
		TEST(test_half_made_directories_are_finished),
		TEST(test_links_in_the_emergency_spool),
		TEST(test_bounds),
		TEST(test_deadline),
		TEST(test_hook_directory),
		TEST(test_high_water),
		TEST(test_high_water_of_others),
		TEST(test_highest_ticks),
	};

	(void)umask(0);
	return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
