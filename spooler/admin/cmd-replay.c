/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool replay - puts events that were delivered, or failed, back into the queue.
 *
 * An event is moved by one rename, so it is in exactly one place at each moment, whatever happens
 * to this program. The daemon publishes the events in replay/ after all live ones, with the same
 * id, the original time and `replayed: true`. With --rate this program moves them one by one at
 * that rate; if interrupted, the remaining events stay where they were.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "spooler/base/atomic-file.h"
#include "spooler/admin/command.h"
#include "hook/spool.h"
#include "spooler/base/log.h"
#include "spooler/base/number.h"
#include "spooler/admin/select.h"
#include "spooler/spool/status-file.h"
#include "spooler/base/util.h"

#define ASK_BEYOND 100

struct arguments {
	struct selection selection;
	uint64_t interval_usec; /* between two events; 0: at once */
};

enum { OPTION_FROM = 0x3000, OPTION_RATE };

static const struct argp_option options[] = {
	{"from", OPTION_FROM, "PLACE", 0, "sent, failed or skipped [sent and failed]", 1},
	{"rate", OPTION_RATE, "N[/s]", 0, "N events a second; also N/min, N/h [all at once]", 1},
	{0},
};

/* Microseconds between two events. */
static uint64_t parse_rate(const struct argp_state *state, const char *arg)
{
	static const struct {
		const char *suffix;
		uint64_t usec;
	} units[] = {{"", 1}, {"/s", 1}, {"/sec", 1}, {"/min", 60}, {"/m", 60}, {"/h", 3600}};
	const char *suffix = arg;
	uint64_t n = 0;

	if (number_take(&suffix, &n) && n > 0 && n <= USEC_PER_SEC)
		for (size_t i = 0; i < ELEMENTSOF(units); i++)
			if (strcmp(suffix, units[i].suffix) == 0)
				return units[i].usec * USEC_PER_SEC / n;
	argp_error(state, "--rate: '%s' is not a rate up to 1000000/s; try 50/s, 50/min or 50/h",
		   arg);
	return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &a->selection;
		return 0;
	case OPTION_FROM:
		selection_parse_from(&a->selection, state, arg);
		return 0;
	case OPTION_RATE:
		a->interval_usec = parse_rate(state, arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* --- one event */

/*
 * The reason of the failure moves away before the event does: afterwards the daemon may already
 * have written another one. Should this program be killed in between, housekeeping removes it from
 * tmp/.
 */
static int replay_failed(const struct lookup *l, int tmp_fd, const char *name)
{
	char reason[NAME_MAX + 1];
	int failed_fd = l->directories[PLACE_FAILED], r;
	bool moved = tmp_fd >= 0 && record_reason_name(name, reason) &&
		     renameat(failed_fd, reason, tmp_fd, reason) == 0;

	r = atomic_file_move(failed_fd, name, l->directories[PLACE_REPLAY]);
	if (moved && r < 0)
		(void)renameat(tmp_fd, reason, failed_fd, reason);
	else if (moved)
		(void)unlinkat(tmp_fd, reason, 0);
	return r;
}

/* Only files are records: a directory with the name of an id would go to replay/ and back. */
static int replay_one(const struct lookup *l, int tmp_fd, const struct spool_id *id)
{
	char name[37];
	struct stat st;

	spool_id_name(id, name);
	if (fstatat(l->directories[id->source], name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (id->source == PLACE_FAILED)
		return replay_failed(l, tmp_fd, name);
	return atomic_file_move(l->directories[id->source], name, l->directories[PLACE_REPLAY]);
}

/* --- all of them */

static void wait_until_usec(uint64_t usec)
{
	struct timespec t = {.tv_sec = (time_t)(usec / USEC_PER_SEC),
			     .tv_nsec = (long)(usec % USEC_PER_SEC) * 1000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

/* One that cannot be moved does not keep the others, nor does it take its turn of the rate. */
static int replay_all(const struct lookup *l, const struct id_list *list, uint64_t interval_usec)
{
	_cleanup_close_ int tmp_fd =
		place_open_directory(l->directories[PLACE_REPLAY], "../" SPOOL_TMP);
	uint64_t replayed = 0, gone = 0, start = now_usec(CLOCK_MONOTONIC);
	struct failures failures = {.what = "cannot replay"};
	struct progress progress;
	char count[48];

	progress_start(&progress, "replaying", list->n);
	for (size_t i = 0; i < list->n; i++) {
		int r;

		if (interval_usec > 0)
			wait_until_usec(start + replayed * interval_usec);
		r = replay_one(l, tmp_fd, &list->entries[i]);
		if (r == 0)
			replayed++;
		else if (r == -ENOENT || r == -EEXIST) /* another replay, or housekeeping */
			gone++;
		else
			failures_add(&failures, &list->entries[i], r);
		progress_step(&progress);
	}
	progress_end(&progress);
	(void)fsync(l->directories[PLACE_REPLAY]);
	format_count(replayed, "event", count);
	fprintf(stderr, "%s put back into the queue", count);
	if (gone > 0)
		fprintf(stderr, "; %" PRIu64 " were no longer there", gone);
	fputc('\n', stderr);
	return failures_report(&failures);
}

static void warn_if_down(void)
{
	struct status_file status;
	int r = status_file_read(spool_run_directory(), &status);

	if (r == -ENOENT)
		fputs("the daemon is not running; they wait until it is\n", stderr);
	else if (r == 0 && !status.connected)
		fputs("the daemon is not connected to a broker; they wait until it is\n", stderr);
	status_file_release(&status);
}

static int replay(struct lookup *l, void *arguments)
{
	const struct arguments *a = arguments;
	struct id_list list = {0};
	int r = selection_find(l, &a->selection, &list);

	if (r != COMMAND_OK) {
		/* reported already */
	} else if (a->selection.dry_run) {
		r = selection_dry_run(l, &a->selection, &list, "replayed");
	} else if (l->directories[PLACE_REPLAY] < 0) {
		r = command_failure("cannot open replay/ in the spool", l->errors[PLACE_REPLAY]);
	} else if (
		list.n > ASK_BEYOND && !a->selection.yes &&
		!command_confirm(
			"Replay %zu events to the broker? Consumers see them again, marked replayed.",
			list.n)) {
		r = COMMAND_FAILED;
	} else {
		r = replay_all(l, &list, a->interval_usec);
		if (r == COMMAND_OK && list.n > 0)
			warn_if_down();
	}
	id_list_clear(&list);
	return r;
}

int cmd_replay(int argc, char **argv)
{
	static const struct argp_child children[] = {{&selection_argp, 0, NULL, 0}, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[ID...]",
		.doc = "Puts events that were delivered or failed back into the queue, by id (any unique prefix) or "
		       "by filters. They are published after all live events, with the same id, the original time and "
		       "replayed: true. It asks before it replays more than 100.",
		.children = children,
	};
	const unsigned archived = PLACE_BIT(PLACE_SENT) | PLACE_BIT(PLACE_FAILED);
	struct arguments a = {
		.selection = {.places = archived, .allowed = archived | PLACE_BIT(PLACE_SKIPPED)},
	};

	return command_on_spool(&argp, argc, argv, &a, replay);
}
