/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* facts - see facts.h. */
#include <fcntl.h>
#include <sys/statvfs.h>

#include "hook/spool.h"
#include "spooler/admin/command.h"
#include "spooler/admin/facts.h"
#include "spooler/base/deadline.h"
#include "spooler/base/util.h"

#define ANSWER_MS 800

/* --- in the child */

struct look_argument {
	const struct status_file *status;
	bool with_sizes;
};

struct look_result {
	int spool_error, write_error;
	struct place_count places[N_PLACES];
	bool waits[STATUS_ATTEMPTS_MAX]; /* the event of this attempt is still there */
};

/* Asks the file system's server, which a cache would not. */
static int ask(void)
{
	struct statvfs fs;

	return statvfs(spool_directory(), &fs) < 0 ? -errno : 0;
}

static int answers(void *argument, void *result, uint64_t *progress)
{
	return ask() == -ETIMEDOUT ? -ETIMEDOUT : 0;
}

/* What can be seen without writing. The hook is root, and may use the last blocks. */
static int look_at_room(void)
{
	_cleanup_free_ char *tmp = NULL;
	struct statvfs fs;

	if (statvfs(spool_directory(), &fs) < 0)
		return -errno;
	if (fs.f_flag & ST_RDONLY)
		return -EROFS;
	if ((fs.f_blocks > 0 && fs.f_bfree == 0) || (fs.f_files > 0 && fs.f_ffree == 0))
		return -ENOSPC;
	if (asprintf(&tmp, "%s/" SPOOL_TMP, spool_directory()) < 0)
		return 0;
	/* Without root's rights this says nothing of the hook. */
	return geteuid() == 0 && access(tmp, W_OK) < 0 ? -errno : 0;
}

static int look(void *argument, void *result, uint64_t *progress)
{
	const struct look_argument *a = argument;
	struct look_result *r = result;
	struct lookup l;

	(void)ask();
	r->spool_error = lookup_open(&l); /* what can be opened is looked at nevertheless */
	l.progress = progress;
	if (r->spool_error == 0)
		r->write_error = look_at_room();
	for (enum place p = 0; p < N_PLACES; p++)
		if ((a->with_sizes && PLACES_ALL & PLACE_BIT(p)) ||
		    (PLACES_WAITING | PLACE_BIT(PLACE_FAILED)) & PLACE_BIT(p))
			(void)lookup_count(&l, p, !(PLACES_WAITING & PLACE_BIT(p)), &r->places[p]);
	for (size_t i = 0; i < a->status->n_attempts; i++) {
		struct spool_id id;

		r->waits[i] = lookup_find(&l, PLACES_WAITING, a->status->attempts[i].id, &id) == 1;
	}
	lookup_release(&l);
	return 0;
}

/* --- in the parent */

/* Events dropped since the daemon wrote its status are no longer its problem. */
static void forget_gone(struct status_file *s, const bool waits[static STATUS_ATTEMPTS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_attempts; i++)
		if (waits[i])
			s->attempts[n++] = s->attempts[i];
	s->n_attempts = n;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

static void look_at_spool(struct facts *f, bool with_sizes)
{
	struct verdict_facts *v = &f->of_verdict;
	struct look_argument argument = {.status = &f->status, .with_sizes = with_sizes};
	struct look_result *r = calloc(1, sizeof(*r));
	int k = r ? deadline_call(look, &argument, r, sizeof(*r), ANSWER_MS) : -ENOMEM;

	v->spool_error = k < 0 ? k : r->spool_error;
	if (k == 0) {
		memcpy(f->places, r->places, sizeof(f->places));
		v->write_error = r->write_error;
		v->live = f->places[PLACE_NEW].records;
		v->emergency = f->places[PLACE_EMERGENCY].records;
		v->replay = f->places[PLACE_REPLAY].records;
		v->oldest_usec = 1000 * earlier(f->places[PLACE_NEW].oldest_ms,
						f->places[PLACE_EMERGENCY].oldest_ms);
		v->failed = f->places[PLACE_FAILED].records;
		v->strays = f->places[PLACE_FAILED].strays;
		forget_gone(&f->status, r->waits);
	}
	free(r);
}

static void look_at_run_directory(struct facts *f)
{
	const char *run_dir = spool_run_directory();
	_cleanup_close_ int run_fd = place_open_top(run_dir);

	f->of_verdict.status_error = status_file_read(run_dir, &f->status);
	if (listener_file_read(run_dir, &f->listener) == 0)
		f->of_verdict.listener = &f->listener;
	if (run_fd < 0 || stamp_peek(run_fd, SPOOL_STAMP, &f->stamp) < 0)
		f->stamp.sequence = 0;
}

void facts_collect(struct facts *f, const char *hooksdir, bool with_sizes)
{
	*f = (struct facts){
		.of_verdict = {.now_usec = now_usec(CLOCK_REALTIME),
			       .spool_dir = spool_directory(),
			       .run_dir = spool_run_directory(),
			       .status = &f->status,
			       .hooks = f->hooks},
	};
	look_at_run_directory(f);
	hook_files_look(hooksdir, f->hooks);
	look_at_spool(f, with_sizes);
}

void facts_release(struct facts *f)
{
	status_file_release(&f->status);
}

int facts_spool_answers(void)
{
	char none[1];

	return deadline_call(answers, NULL, none, sizeof(none), ANSWER_MS);
}
