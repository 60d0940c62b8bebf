/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The queue over real directories: order, sources, what ends an entry, what does not belong
   there, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>

#include "hook/record.h"
#include "hook/spool.h"
#include "spooler/daemon/disk.h"
#include "spooler/daemon/queue.h"
#include "spooler/base/util.h"
#include "tests/unit/tree.h"

struct fixture {
	char top[64], spool[80], run[80];
	struct queue *queue;
};

static const char *const directories[] = {
	"spool",	 "spool/tmp",	      "spool/new",	   "spool/replay",
	"spool/sent",	 "spool/failed",      "spool/skipped",	   "run",
	"run/emergency", "run/emergency/tmp", "run/emergency/new",
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[128];

	*state = f;
	strcpy(f->top, "/tmp/test-queue-XXXXXX");
	if (!mkdtemp(f->top))
		return -1;
	for (size_t i = 0; i < ELEMENTSOF(directories); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", f->top, directories[i]);
		if (mkdir(path, 0700) < 0)
			return -1;
	}
	(void)snprintf(f->spool, sizeof(f->spool), "%s/spool", f->top);
	(void)snprintf(f->run, sizeof(f->run), "%s/run", f->top);
	return queue_new(f->spool, f->run, &f->queue);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	queue_free(f->queue);
	r = tree_remove(f->top);
	free(f);
	return r;
}

/* The nth id of the tests: sorts by n. */
static const char *name_of(unsigned n)
{
	static char names[8][40];
	static unsigned next;
	char *name = names[next++ % 8];

	(void)snprintf(name, 40, "0193%04x-%04x-7000-8000-%012x", n >> 16, n & 0xffff, n);
	return name;
}

static void put(const struct fixture *f, const char *directory, const char *name,
		const char *content)
{
	char path[256];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s/%s", f->top, directory, name);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_true(fputs(content, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void take_away(const struct fixture *f, const char *directory, const char *name)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s/%s", f->top, directory, name);
	assert_int_equal(unlink(path), 0);
}

static bool there(const struct fixture *f, const char *directory, const char *name)
{
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s/%s", f->top, directory, name);
	return access(path, F_OK) == 0;
}

static void expect_next(struct fixture *f, unsigned n, struct spool_id *ret)
{
	char name[37];

	assert_int_equal(queue_next(f->queue, ret), 1);
	spool_id_name(ret, name);
	assert_string_equal(name, name_of(n));
}

static void expect_empty(struct fixture *f)
{
	struct spool_id e;

	assert_int_equal(queue_next(f->queue, &e), 0);
}

static void test_order(void **state)
{
	struct fixture *f = *state;
	struct spool_id e;

	put(f, "spool/replay", name_of(1), "1");
	put(f, "spool/new", name_of(70000), "5");
	put(f, "spool/new", name_of(3), "3");
	put(f, "run/emergency/new", name_of(4), "4");
	put(f, "spool/new", name_of(2), "2");
	expect_next(f, 2, &e);
	expect_next(f, 3, &e);
	expect_next(f, 4, &e);
	assert_int_equal(e.source, PLACE_EMERGENCY);
	expect_next(f, 70000, &e);
	expect_next(f, 1, &e); /* replays come last, however old */
	assert_int_equal(e.source, PLACE_REPLAY);
	expect_empty(f);
	assert_int_equal(queue_length(f->queue, NULL), 5);
	assert_int_equal(queue_emergency_length(f->queue), 1);
}

static void test_what_comes_goes_before_replays(void **state)
{
	struct fixture *f = *state;
	struct spool_id e;

	put(f, "spool/replay", name_of(1), "1");
	put(f, "spool/replay", name_of(2), "2");
	expect_next(f, 1, &e);
	put(f, "spool/new", name_of(3), "3");
	queue_changed(f->queue);
	expect_next(f, 3, &e);
	expect_next(f, 2, &e);
}

/* A hook that gave the disk up while the record was being moved: it is in both places, and one
   event. */
static void test_twins(void **state)
{
	struct fixture *f = *state;
	struct spool_id e;

	for (unsigned i = 1; i <= 2; i++) {
		put(f, "spool/new", name_of(i), "record");
		put(f, "run/emergency/new", name_of(i), "record");
	}
	for (unsigned i = 1; i <= 2; i++) {
		expect_next(f, i, &e);
		assert_int_equal(queue_done(f->queue, &e, true), 0);
		assert_true(there(f, "spool/sent", name_of(i)));
		assert_false(there(f, "spool/new", name_of(i)) ||
			     there(f, "run/emergency/new", name_of(i)));
	}
	expect_empty(f);
	assert_int_equal(queue_length(f->queue, NULL), 0);
}

static void test_endings(void **state)
{
	struct fixture *f = *state;
	struct spool_id e;

	for (unsigned i = 1; i <= 5; i++)
		put(f, "spool/new", name_of(i), "record");
	put(f, "run/emergency/new", name_of(6), "record");
	put(f, "spool/failed", name_of(3), "the same, once before");
	put(f, "spool/tmp", name_of(6), "what a hook that hangs still writes to");
	expect_next(f, 1, &e);
	assert_int_equal(queue_done(f->queue, &e, true), 0);
	assert_true(there(f, "spool/sent", name_of(1)) && !there(f, "spool/new", name_of(1)));
	expect_next(f, 2, &e);
	assert_int_equal(queue_done(f->queue, &e, false), 0);
	assert_true(!there(f, "spool/sent", name_of(2)) && !there(f, "spool/new", name_of(2)));
	expect_next(f, 3, &e);
	assert_int_equal(queue_fail(f->queue, &e, "because"), 0);
	assert_true(there(f, "spool/failed", name_of(3)) && !there(f, "spool/new", name_of(3)));
	assert_true(there(f, "spool/failed",
			  "01930000-0003-7000-8000-000000000003" SPOOL_REASON_SUFFIX));
	expect_next(f, 4, &e);
	assert_int_equal(queue_skip(f->queue, &e, true), 0);
	assert_true(there(f, "spool/skipped", name_of(4)));
	expect_next(f, 5, &e);
	assert_int_equal(queue_hold(f->queue, &e), 0);
	expect_next(f, 6, &e);
	assert_int_equal(queue_done(f->queue, &e, true), 0); /* across file systems: a copy */
	assert_true(there(f, "spool/sent", name_of(6)) &&
		    !there(f, "run/emergency/new", name_of(6)));
	assert_true(there(f, "spool/tmp", name_of(6)));
	queue_changed(f->queue);
	expect_empty(f);
	queue_release_held(f->queue);
	expect_next(f, 5, &e);
	assert_int_equal(queue_length(f->queue, NULL), 1);
}

/* --- the disk, which hangs when the test says so */

static bool hangs;

enum disk_state disk_check(struct disk *d)
{
	return d && hangs ? DISK_HANGS : DISK_ANSWERS;
}

/* Nothing on it is given, moved, or written to; what lies in memory goes on. */
static void test_hanging_disk(void **state)
{
	struct fixture *f = *state;
	struct spool_id on_disk, e;

	queue_use_disk(f->queue, (struct disk *)f);
	put(f, "spool/new", name_of(1), "record");
	put(f, "run/emergency/new", name_of(2), "record");
	put(f, "run/emergency/new", name_of(3), "no record");
	put(f, "spool/new", name_of(4), "record");
	expect_next(f, 1, &on_disk);
	expect_next(f, 2, &e);
	hangs = true;
	assert_int_equal(queue_done(f->queue, &on_disk, true), -ETIMEDOUT);
	assert_int_equal(queue_done(f->queue, &e, true), 0);
	assert_false(there(f, "run/emergency/new", name_of(2)) ||
		     there(f, "spool/sent", name_of(2)));
	expect_next(f, 3, &e);
	assert_int_equal(queue_fail(f->queue, &e, "because"), -ETIMEDOUT);
	assert_true(there(f, "run/emergency/new", name_of(3)));
	expect_empty(f);
	assert_non_null(strstr(queue_error(f->queue), "the disk does not answer"));
	assert_true(queue_is_missing(f->queue));
	assert_true(there(f, "spool/new", name_of(1)));
	assert_true(queue_is_stuck(f->queue));
	assert_int_equal(queue_remove_stuck(f->queue), -ETIMEDOUT);

	hangs = false;
	assert_int_equal(queue_remove_stuck(f->queue), 0);
	assert_false(queue_is_stuck(f->queue));
	expect_next(f, 4, &e);
	assert_false(there(f, "spool/new", name_of(1))); /* it was delivered */
	assert_null(queue_error(f->queue));
	queue_release_held(f->queue);
	expect_next(f, 3, &e);
}

/* Delivered events that cannot be removed are not given again; too many of them, and no more are
   taken from the disk, while the emergency spool goes on. */
static void test_stuck(void **state)
{
	struct fixture *f = *state;
	char path[4][256];
	struct spool_id e;

	queue_set_stuck_max(f->queue, 2);
	for (unsigned i = 0; i < 2; i++) { /* a directory cannot be unlinked */
		(void)snprintf(path[i], sizeof(path[i]), "%s/spool/new/%s", f->top, name_of(i + 1));
		assert_int_equal(mkdir(path[i], 0700), 0);
	}
	put(f, "spool/new", name_of(3), "record");
	put(f, "run/emergency/new", name_of(4), "record");
	for (unsigned i = 1; i <= 2; i++) {
		expect_next(f, i, &e);
		assert_true(queue_done(f->queue, &e, false) < 0);
	}
	assert_true(queue_is_stuck(f->queue));
	assert_non_null(strstr(queue_error(f->queue), "cannot remove 2 delivered events"));
	assert_false(queue_is_blind(f->queue));
	queue_rescan(f->queue);
	expect_next(f, 4, &e);
	assert_int_equal(queue_done(f->queue, &e, false), 0);
	expect_empty(f);
	assert_true(queue_remove_stuck(f->queue) < 0);
	expect_empty(f);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(rmdir(path[i]), 0);
	assert_int_equal(queue_remove_stuck(f->queue), 0);
	assert_null(queue_error(f->queue));
	expect_next(f, 3, &e);
}

/* A stray whose twin lies in failed/ already moves there under another name. */
static void test_stray_twin(void **state)
{
	struct fixture *f = *state;

	put(f, "spool/failed", "stray", "the first");
	put(f, "spool/new", "stray", "the second");
	expect_empty(f);
	assert_false(there(f, "spool/new", "stray"));
	assert_true(there(f, "spool/failed", "stray") && there(f, "spool/failed", "stray.1") &&
		    there(f, "spool/failed", "stray.1.reason"));
}

/* What is to be remembered has a bound. */
static void test_held_is_bounded(void **state)
{
	struct fixture *f = *state;
	struct spool_id e = {0};

	for (unsigned i = 0; i < QUEUE_HELD_MAX; i++) {
		memcpy(e.id, &i, sizeof(i));
		assert_int_equal(queue_hold(f->queue, &e), 0);
	}
	e.id[15] = 1;
	assert_int_equal(queue_hold(f->queue, &e), -ENOSPC);
	assert_int_equal(queue_held(f->queue), QUEUE_HELD_MAX);
	queue_release_held(f->queue);
	assert_int_equal(queue_hold(f->queue, &e), 0);
}

static void test_put_back(void **state)
{
	struct fixture *f = *state;
	struct spool_id first, second, e;

	for (unsigned i = 1; i <= 3; i++)
		put(f, "spool/new", name_of(i), "record");
	expect_next(f, 1, &first);
	expect_next(f, 2, &second);
	queue_put_back(f->queue, &second);
	queue_put_back(f->queue, &first);
	expect_next(f, 1, &first);
	expect_next(f, 2, &e);
	expect_next(f, 3, &e);
	expect_empty(f);

	/* A scan meanwhile has not seen it. */
	take_away(f, "spool/new", name_of(1));
	queue_changed(f->queue);
	expect_empty(f);
	put(f, "spool/new", name_of(1), "record");
	queue_put_back(f->queue, &first);
	expect_next(f, 1, &e);

	/* Gone when it was to be read, and there again. */
	queue_gone(f->queue, &e);
	expect_next(f, 1, &e);
	take_away(f, "spool/new", name_of(1));
	queue_gone(f->queue, &e);
	expect_empty(f);
}

/* What is in flight is not given twice, whatever comes meanwhile. */
static void test_rescan(void **state)
{
	struct fixture *f = *state;
	struct spool_id e;

	put(f, "spool/new", name_of(2), "record");
	expect_next(f, 2, &e);
	put(f, "spool/new", name_of(3), "record");
	expect_empty(f); /* nobody has said that something came */
	put(f, "spool/new", name_of(1), "record");
	queue_changed(f->queue);
	expect_next(f, 1, &e);
	expect_next(f, 3, &e);
	expect_empty(f);
}

static void test_stray(void **state)
{
	struct fixture *f = *state;
	char target[256], path[256];
	const char *reason = NULL;
	struct spool_id e;
	size_t size;
	char *data;

	put(f, "spool/new", "core", "x");
	put(f, "spool/new", ".hidden", "x");
	put(f, "spool/new", "a\nname", "x");
	put(f, "spool/new", "01930000-0001-4000-8000-000000000001", "another version's UUID");
	put(f, "spool/new", name_of(2), "record");
	(void)snprintf(target, sizeof(target), "%s/spool/new/%s", f->top, name_of(2));
	(void)snprintf(path, sizeof(path), "%s/spool/new/%s", f->top, name_of(3));
	assert_int_equal(symlink(target, path), 0);
	(void)snprintf(path, sizeof(path), "%s/spool/new/%s", f->top, name_of(4));
	assert_int_equal(mkfifo(path, 0600), 0);
	(void)snprintf(path, sizeof(path), "%s/spool/new/%s", f->top, name_of(5));
	assert_int_equal(mkdir(path, 0700), 0);
	put(f, "spool/new", name_of(6), "");
	(void)snprintf(path, sizeof(path), "%s/spool/new/%s", f->top, name_of(6));
	assert_int_equal(truncate(path, RECORD_MAX + 1), 0); /* it is not even read */

	expect_next(f, 2, &e);
	assert_int_equal(queue_read(f->queue, &e, &data, &size, &reason), 0);
	assert_string_equal(data, "record");
	for (unsigned i = 3; i <= 6; i++) {
		expect_next(f, i, &e);
		assert_int_equal(queue_read(f->queue, &e, &data, &size, &reason), -EBADMSG);
		assert_non_null(reason);
		assert_int_equal(queue_fail(f->queue, &e, reason), 0);
		assert_true(there(f, "spool/failed", name_of(i)) ||
			    i == 3); /* a dangling link is not "there" */
	}
	expect_empty(f);
	assert_true(there(f, "spool/failed", "core") &&
		    there(f, "spool/failed", "core" SPOOL_REASON_SUFFIX));
	assert_true(there(f, "spool/failed", ".hidden") && there(f, "spool/failed", "a\nname"));
	assert_true(there(f, "spool/failed", "01930000-0001-4000-8000-000000000001"));
}

/* A spool that is not there is empty, says so, and is found again. */
static void test_vanishing(void **state)
{
	struct fixture *f = *state;
	char away[256];
	struct spool_id e;

	(void)snprintf(away, sizeof(away), "%s/away", f->top);
	put(f, "spool/new", name_of(1), "record");
	put(f, "run/emergency/new", name_of(2), "record");
	assert_int_equal(rename(f->spool, away), 0);
	expect_next(f, 2, &e);
	expect_empty(f);
	assert_non_null(strstr(queue_error(f->queue), "cannot open the spool"));
	assert_int_equal(rename(away, f->spool), 0);
	queue_changed(f->queue);
	expect_next(f, 1, &e);
	assert_null(queue_error(f->queue));
}

/* The bounded list keeps the first of any number, sorted, whatever the order they come in. */
static void test_id_list(void **state)
{
	enum { N = 5000, KEEP = 64 };
	struct id_list l = {0};
	struct spool_id e;
	char name[37];

	(void)state;
	for (int newest = 0; newest <= 1; newest++)
		for (unsigned step = 1; step < 50;
		     step += 6) { /* 5000 and these steps have no common divisor but 1 */
			l.newest = newest;
			if (step % 5 == 0)
				continue;
			for (unsigned i = 0; i < N; i++) {
				assert_true(spool_id_parse(name_of(i * step % N), &e));
				assert_int_equal(id_list_add(&l, &e, KEEP), 0);
			}
			id_list_sort(&l, KEEP);
			assert_int_equal(l.n, KEEP);
			assert_true(l.partial);
			for (unsigned i = 0; i < KEEP; i++) {
				spool_id_name(&l.entries[i], name);
				assert_string_equal(name, name_of(newest ? N - 1 - i : i));
			}
			id_list_clear(&l);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_comes_goes_before_replays, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_twins, setup, teardown),
		cmocka_unit_test_setup_teardown(test_endings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hanging_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stuck, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stray_twin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_held_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_put_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rescan, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stray, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vanishing, setup, teardown),
		cmocka_unit_test(test_id_list),
	};

	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
