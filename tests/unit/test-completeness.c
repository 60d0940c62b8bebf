/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which numbers were seen, and whether a gap is a loss: each row is a story. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "spooler/base/util.h"
#include "spooler/daemon/completeness-file.h"
#include "spooler/daemon/completeness.h"
#include "spooler/spool/dropped.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct spool_id id(unsigned n)
{
	char name[37];
	struct spool_id e;

	(void)snprintf(name, sizeof(name), "%08x-0000-7000-8000-000000000000", 0x10000000 + n);
	assert_true(spool_id_parse(name, &e));
	return e;
}

static void see(struct completeness *c, const char *epoch, unsigned sequence)
{
	struct spool_id e = id(sequence);

	(void)completeness_see(c, epoch, sequence, &e, 0, 0);
}

static unsigned n_judged;

static void judged(const struct epoch *e, const struct gap *g, void *userdata)
{
	(void)e;
	(void)g;
	(void)userdata;
	n_judged++;
}

/* Numbers as they come, all of epoch A unless the digit is followed by 'b' or so; '|' a restart in
   good order, '!' a restart after a kill, '?' a restart without what was known. */
static const struct {
	const char *name, *story;
	uint64_t missing, unknown;
} stories[] = {
	{"in order", "1 2 3", 0, 0},
	{"a loss", "1 2 4", 1, 0},
	{"many", "1 9", 7, 0},
	{"late", "1 3 2", 0, 0},
	{"out of order, twice", "1 4 2 4 3 1", 0, 0},
	{"filled in the middle", "1 5 3", 2, 0},
	{"known over a restart", "1 2 3 4 | 2 5", 0, 0},
	{"a loss after a restart", "1 2 | 4", 1, 0},
	{"a loss is remembered", "1 3 | 4", 1, 0},
	{"killed: what was stamped before is in doubt", "1 2 ! 4 9 11", 0, 6},
	{"known nothing: what was stamped before is in doubt", "? 3 9 11", 0, 6},
	{"known nothing, and the first is there", "? 1 3", 1, 0},
	{"two epochs by turns", "1 101 2 102 3 103 4 104", 0, 0},
};

static char run_dir[] = "/tmp/test-completeness-XXXXXX";

static void play(struct completeness *c, const char *story)
{
	static const struct spool_identity spool = {.device = 1, .inode = 2};

	for (const char *p = story; *p; p++) {
		if (*p == '|' || *p == '!') {
			assert_int_equal(completeness_save(c, run_dir, &spool, *p == '|'), 0);
			completeness_load(c, run_dir, &spool);
		}
		if (*p == '?')
			*c = (struct completeness){.start_ms = UINT64_MAX};
		if (*p == '?' || *p == '!') { /* as if the hooks were at 10 when we began */
			strcpy(c->start_epoch, A);
			c->start_sequence = 10;
			completeness_doubt(c, A, *p == '!' ? 10 : 0);
		}
		if (*p >= '0' && *p <= '9') {
			unsigned long n = strtoul(p, (char **)&p, 10);

			see(c, n > 100 ? B : A, (unsigned)(n % 100));
			p--;
		}
	}
}

static void test_stories(void **state)
{
	static struct completeness c;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(stories); i++) {
		const struct epoch *e;

		c = (struct completeness){.start_ms = 0};
		play(&c, stories[i].story);
		completeness_judge(&c, GAP_USEC, judged, NULL);
		e = completeness_find(&c, A);
		if (e->missing != stories[i].missing || e->unknown != stories[i].unknown)
			fail_msg("%s: %lu lost, %lu unknown", stories[i].name,
				 (unsigned long)e->missing, (unsigned long)e->unknown);
	}
}

/* Nothing is said too early, nor twice. */
static void test_said_once(void **state)
{
	static struct completeness c;

	(void)state;
	n_judged = 0;
	see(&c, A, 1);
	see(&c, B, 1);
	see(&c, A, 3);
	see(&c, B, 3);
	assert_int_equal(completeness_due(&c), GAP_USEC);
	completeness_judge(&c, GAP_USEC - 1, judged, NULL);
	assert_int_equal(n_judged, 0);
	completeness_judge(&c, GAP_USEC, judged, NULL);
	assert_int_equal(n_judged, 2);
	for (int i = 0; i < 100; i++) {
		see(&c, i % 2 ? A : B, 3);
		see(&c, i % 2 ? A : B, 1);
		completeness_judge(&c, 10 * GAP_USEC, judged, NULL);
	}
	assert_int_equal(n_judged, 2);
	assert_true(completeness_due(&c) == UINT64_MAX);
	see(&c, A, 2); /* after all */
	assert_int_equal(completeness_find(&c, A)->missing, 0);
}

/* Random arrivals against a bitmap. */
static void test_random(void **state)
{
	static struct completeness c;
	unsigned seed = 1;

	(void)state;
	for (int round = 0; round < 200; round++) {
		bool seen[41] = {0};
		uint64_t missing = 0, highest = 1;

		c = (struct completeness){0};
		seen[1] = true;
		see(&c, A, 1);
		for (int i = 0; i < 60; i++) {
			unsigned n;

			seed = seed * 1103515245 + 12345;
			n = 1 + (seed >> 8) % 40;
			if ((seed >> 20) % 3 == 0) {
				completeness_judge(&c, GAP_USEC, judged, NULL);
				continue;
			}
			seen[n] = true;
			highest = n > highest ? n : highest;
			see(&c, A, n);
		}
		completeness_judge(&c, GAP_USEC, judged, NULL);
		for (unsigned n = 1; n <= highest; n++)
			missing += !seen[n];
		assert_int_equal(completeness_find(&c, A)->missing, missing);
		assert_int_equal(completeness_find(&c, A)->highest, highest);
	}
}

/* A file that was damaged is as good as none, and bounded are all. */
static void test_bounds(void **state)
{
	static struct completeness c;
	char path[64];
	FILE *f;

	(void)state;
	c = (struct completeness){0};
	for (unsigned n = 1; n < 1000; n += 2)
		see(&c, A, n);
	for (char e = '0'; e <= '9'; e++) {
		char epoch[33];

		memset(epoch, e, 32);
		epoch[32] = '\0';
		see(&c, epoch, 1);
	}
	assert_int_equal(c.n, COMPLETENESS_EPOCHS);
	assert_int_equal(completeness_save(&c, run_dir, &(struct spool_identity){0}, true), 0);
	(void)snprintf(path, sizeof(path), "%s/sequence", run_dir);
	for (int i = 0; i < 2; i++) {
		completeness_load(&c, run_dir, &(struct spool_identity){0});
		assert_int_equal(c.n, i == 0 ? COMPLETENESS_EPOCHS : 0);
		f = fopen(path, "ae");
		assert_non_null(f);
		fputs("gap 7 3 x y 9\n", f);
		assert_int_equal(fclose(f), 0);
	}
}

static int truncate_new(const char *path, off_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = fd < 0 ? -1 : ftruncate(fd, size);

	return fd < 0 ? -1 : r + close(fd);
}

static void count_doubt(const char *epoch, uint64_t sequence, void *userdata)
{
	unsigned *doubts = userdata;

	(void)sequence;
	*doubts += !epoch;
}

/* Another of the group can put something in place of our files: it is not followed, nor waited
   for, and what cannot be read is in doubt. */
static void test_files_of_others(void **state)
{
	static const char *const names[] = {"sequence", DROPPED_FILE};
	struct completeness c;
	char path[256];

	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		unsigned doubts = 0;

		for (size_t i = 0; i < ELEMENTSOF(names); i++) {
			(void)snprintf(path, sizeof(path), "%s/%s", run_dir, names[i]);
			(void)unlink(path);
			if (kind == 0)
				assert_int_equal(mkfifo(path, 0600), 0);
			else if (kind == 1)
				assert_int_equal(symlink("/dev/zero", path), 0);
			else
				assert_int_equal(truncate_new(path, 1LL << 40), 0);
		}
		completeness_load(&c, run_dir, &(struct spool_identity){0});
		assert_int_equal(c.n, 0);
		assert_false(c.loaded);
		dropped_read(run_dir, count_doubt, &doubts);
		assert_int_equal(doubts, 1);
	}
}

static int make_run_dir(void **state)
{
	(void)state;
	return mkdtemp(run_dir) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int remove_run_dir(void **state)
{
	(void)state;
	return nftw(run_dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stories),		cmocka_unit_test(test_said_once),
		cmocka_unit_test(test_random),		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_files_of_others),
	};

	return cmocka_run_group_tests(tests, make_run_dir, remove_run_dir);
}
