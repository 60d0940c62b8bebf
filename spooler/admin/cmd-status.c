/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool status - is it well?
 *
 * Two witnesses: the disk, which tells what waits, and the daemon, which tells in
 * RUNDIR/status.json what it is connected to. Without a daemon the disk still answers. The exit
 * code is a health check: 0 healthy, 1 degraded, 2 down; each reason is one line.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>

#include "spooler/admin/command.h"
#include "hook/spool.h"
#include "hook/stamp.h"
#include "spooler/base/log.h"
#include "spooler/base/safe-read.h"
#include "spooler/spool/lookup.h"
#include "spooler/spool/status-file.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"

#define LATE_S 60 /* what waits for longer, although there is a connection, is late */
#define REASONS_MAX 12
#define PLACES_JUDGED                                                                              \
	(PLACES_WAITING | PLACE_BIT(PLACE_FAILED)) /* the archive is well however large it is */

enum health { HEALTHY, DEGRADED, DOWN }; /* the exit codes */

static const char *const health_names[] = {
	[HEALTHY] = "healthy", [DEGRADED] = "degraded", [DOWN] = "down"};

struct report {
	struct status_file daemon; /* zeros unless daemon_error is 0 */
	int daemon_error;	   /* of status_file_read() */
	int spool_error;	   /* it cannot be opened */
	struct place_count places[N_PLACES];
	struct stamp stamp; /* sequence 0: none yet */
	uint64_t now_ms;
	size_t n_retried; /* events that wait after an attempt without success */
	const char *retried_why;

	bool json;
	enum health health;
	char *reasons[REASONS_MAX];
	size_t n_reasons;
};

struct arguments {
	bool json, quiet;
};

static const struct argp_option options[] = {
	{"json", 'j', NULL, 0, "one JSON object", 0},
	{"quiet", 'q', NULL, 0, "say nothing: the exit code tells", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'j':
		a->json = true;
		return 0;
	case 'q':
		a->quiet = true;
		return 0;
	default:
		return command_no_arguments(key, arg, state);
	}
}

/* --- what is there */

/* What was dropped since the daemon wrote its status does not trouble it any more. */
static void count_retried(struct report *rp, struct lookup *l)
{
	for (size_t i = 0; i < rp->daemon.n_attempts; i++) {
		const struct status_attempt *a = &rp->daemon.attempts[i];
		struct spool_id id;

		if (lookup_find(l, PLACES_WAITING, a->id, &id) == 1 && rp->n_retried++ == 0)
			rp->retried_why = a->why;
	}
}

static void look(struct report *rp, bool quiet)
{
	_cleanup_close_ int run_fd =
		open(spool_run_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct lookup l;

	rp->now_ms = command_now_ms();
	rp->daemon_error = status_file_read(spool_run_directory(), &rp->daemon);
	rp->spool_error = lookup_open(&l); /* what can be opened is looked at nevertheless */
	for (enum place p = 0; p < N_PLACES; p++)
		if (PLACE_BIT(p) & (quiet ? PLACES_JUDGED : PLACES_ALL))
			(void)lookup_count(&l, p, !(PLACES_WAITING & PLACE_BIT(p)), &rp->places[p]);
	count_retried(rp, &l);
	if (run_fd >= 0 && stamp_peek(run_fd, SPOOL_STAMP, &rp->stamp) < 0)
		rp->stamp.sequence = 0;
	lookup_release(&l);
}

static uint64_t waiting(const struct report *rp)
{
	return rp->places[PLACE_NEW].records + rp->places[PLACE_EMERGENCY].records +
	       rp->places[PLACE_REPLAY].records;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

/* Of what is live: a replay is old by its nature. */
static uint64_t oldest(const struct report *rp)
{
	return earlier(rp->places[PLACE_NEW].oldest_ms, rp->places[PLACE_EMERGENCY].oldest_ms);
}

static uint64_t age_s(const struct report *rp, uint64_t ms)
{
	return ms != 0 && rp->now_ms > ms ? (rp->now_ms - ms) / 1000 : 0;
}

/* --- what to think of it */

static void reason(struct report *rp, enum health health, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void reason(struct report *rp, enum health health, const char *format, ...)
{
	va_list ap;
	char *text;

	va_start(ap, format);
	text = command_text(rp->json ? NULL : stdout, format, ap);
	va_end(ap);
	if (health > rp->health)
		rp->health = health;
	if (text && rp->n_reasons < REASONS_MAX)
		rp->reasons[rp->n_reasons++] = text;
	else
		free(text);
}

static void judge_daemon(struct report *rp)
{
	const char *error = rp->daemon.last_error;

	if (rp->daemon_error < 0) {
		if (rp->daemon_error == -ENOENT)
			reason(rp, DOWN,
			       "virtspoold is not running; events wait in the spool; `virtspool doctor` tells more");
		else
			reason(rp, DEGRADED, "cannot read '%s/" STATUS_FILE "': %s",
			       spool_run_directory(), safe_read_error(rp->daemon_error));
		return;
	}
	if (!rp->daemon.connected)
		reason(rp, DEGRADED, "not connected to a broker%s%s; events wait in the spool",
		       error ? ": " : "", error ? error : "");
	if (rp->daemon.spool_error)
		reason(rp, DEGRADED, "the daemon %s", rp->daemon.spool_error);
	if (rp->n_retried > 0)
		reason(rp, DEGRADED, "tried without success, and waiting: %zu; the first: %s",
		       rp->n_retried, rp->retried_why);
}

static void judge_spool(struct report *rp)
{
	char age[32], count[48];

	if (rp->spool_error < 0)
		reason(rp, DOWN, "cannot open the spool '%s': %s; is its file system mounted?",
		       spool_directory(), strerror(-rp->spool_error));
	if (rp->places[PLACE_EMERGENCY].records > 0) {
		format_count(rp->places[PLACE_EMERGENCY].records, "event", count);
		reason(rp, DEGRADED,
		       "the emergency spool in '%s' is in use (%s): the disk could not take them",
		       spool_run_directory(), count);
	}
	if (age_s(rp, oldest(rp)) >= LATE_S) {
		format_age(age_s(rp, oldest(rp)), age);
		reason(rp, DEGRADED, "the oldest event has been waiting for %s", age);
	}
	if (rp->places[PLACE_FAILED].records > 0) {
		format_count(rp->places[PLACE_FAILED].records, "event", count);
		reason(rp, DEGRADED, "%s could not be delivered; see `virtspool list failed`",
		       count);
	}
	if (rp->places[PLACE_FAILED].strays > 0)
		reason(rp, DEGRADED,
		       "in failed/ lies what is no event (%" PRIu64
		       "); see `virtspool list failed`",
		       rp->places[PLACE_FAILED].strays);
}

static void judge(struct report *rp)
{
	uint64_t missing = rp->daemon.missing;
	char count[48];

	judge_daemon(rp);
	judge_spool(rp);
	if (missing > 0) {
		format_count(missing, "transition", count);
		reason(rp, DEGRADED, "%s of this epoch never reached the spool", count);
	}
}

/* --- for people */

static void line(const char *key, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void line(const char *key, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, format);
	text = command_text(stdout, format, ap);
	va_end(ap);
	printf("%-12s %s\n", key, text ? text : "");
}

/* Local time, and how long ago that is. */
static void format_since(const struct report *rp, uint64_t usec, char ret[static 96])
{
	char when[32], age[32];

	format_time(usec / 1000, when);
	format_age(age_s(rp, usec / 1000), age);
	(void)snprintf(ret, 96, "%.19s (%s ago)", when, age);
}

static void print_daemon(const struct report *rp)
{
	char since[96];

	if (rp->daemon_error < 0)
		return;
	format_since(rp, rp->daemon.started_usec, since);
	line("daemon", "virtspoold %s, pid %" PRIu64 ", since %s", rp->daemon.version ?: "?",
	     rp->daemon.pid, since);
	if (rp->daemon.connected) {
		format_since(rp, rp->daemon.connected_since_usec, since);
		line("broker", "%s, connected since %s", rp->daemon.broker ?: "?", since);
		line("", "%s, %s", rp->daemon.peer ?: "?", rp->daemon.protocol ?: "?");
	} else {
		line("broker", "%s, not connected", rp->daemon.broker ?: "none");
	}
}

static void print_archive(const struct report *rp, enum place p, const char *kept)
{
	const struct place_count *c = &rp->places[p];
	char count[48], size[32];

	format_count(c->records, "event", count);
	format_size(c->bytes, size);
	line(place_table[p].name, "%s%s, %s%s", count, kept, c->estimated ? "about " : "", size);
}

static void print_spool(const struct report *rp)
{
	uint64_t replay = rp->places[PLACE_REPLAY].records,
		 emergency = rp->places[PLACE_EMERGENCY].records;
	char age[32], count[48];

	format_count(waiting(rp) - replay, "event", count);
	format_age(age_s(rp, oldest(rp)), age);
	line("waiting", oldest(rp) ? "%s, the oldest for %s" : "%s", count, age);
	if (replay > 0) {
		format_count(replay, "event", count);
		line("replay", "%s, after what is live", count);
	}
	format_count(emergency, "event", count);
	line("emergency", emergency > 0 ? "%s (of those waiting)" : "not in use", count);
	print_archive(rp, PLACE_SENT, " kept");
	print_archive(rp, PLACE_FAILED, "");
	if (rp->places[PLACE_SKIPPED].records > 0)
		print_archive(rp, PLACE_SKIPPED, " kept");
}

static void print_people(const struct report *rp)
{
	static const char *const colours[] = {TERMINAL_GREEN, TERMINAL_YELLOW, TERMINAL_RED};
	bool colour = terminal_colour(stdout);
	char since[96];

	printf("%s%s%s\n", colour ? colours[rp->health] : "", health_names[rp->health],
	       colour ? TERMINAL_RESET : "");
	for (size_t i = 0; i < rp->n_reasons; i++)
		printf("  - %s\n", rp->reasons[i]);
	print_daemon(rp);
	print_spool(rp);
	if (rp->stamp.sequence > 0)
		line("sequence", "%" PRIu64 " in epoch %s", rp->stamp.sequence, rp->stamp.epoch);
	else
		line("sequence", "no event since boot");
	if (rp->daemon.last_error) {
		format_since(rp, rp->daemon.last_error_usec, since);
		line("last error", "%s: %s", since, rp->daemon.last_error);
	}
}

/* --- for programs */

static json_t *place_json(const struct report *rp, enum place p)
{
	const struct place_count *c = &rp->places[p];

	return json_pack("{s:I, s:I, s:b, s:I}", "events", (json_int_t)c->records, "bytes",
			 (json_int_t)c->bytes, "estimated", c->estimated, "foreign",
			 (json_int_t)c->strays);
}

static void print_json(const struct report *rp)
{
	uint64_t replay = rp->places[PLACE_REPLAY].records;
	json_t *reasons = json_array(), *o;

	for (size_t i = 0; i < rp->n_reasons; i++)
		(void)json_array_append_new(reasons, json_string(rp->reasons[i]));
	o = json_pack(
		"{s:s, s:i, s:o, s:{s:I, s:I, s:I, s:I, s:f}, s:o, s:o, s:o, s:{s:s, s:I}, s:o?}",
		"health", health_names[rp->health], "code", (int)rp->health, "reasons", reasons,
		"waiting", "events", (json_int_t)waiting(rp), "live",
		(json_int_t)(waiting(rp) - replay), "emergency",
		(json_int_t)rp->places[PLACE_EMERGENCY].records, "replay", (json_int_t)replay,
		"oldest_seconds", oldest(rp) ? (double)(rp->now_ms - oldest(rp)) / 1000 : 0.0,
		"sent", place_json(rp, PLACE_SENT), "failed", place_json(rp, PLACE_FAILED),
		"skipped", place_json(rp, PLACE_SKIPPED), "stamp", "epoch",
		rp->stamp.sequence ? rp->stamp.epoch : "", "sequence",
		(json_int_t)rp->stamp.sequence, "daemon",
		rp->daemon_error < 0 ? NULL : status_file_to_json(&rp->daemon));
	command_print_json(o);
}

int cmd_status(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Tells whether events reach the broker: the daemon, its connection, what waits in the spool.\v"
		       "Exit code: 0 healthy, 1 degraded, 2 down (no daemon, or no spool).",
	};
	struct report rp = {0};
	struct arguments a = {0};
	int r;

	if (!command_parse(&argp, argc, argv, &a))
		return COMMAND_USAGE;
	look(&rp, a.quiet);
	if (rp.spool_error == -EACCES) /* nothing can be said */
		return command_spool_failure(rp.spool_error);
	rp.json = a.json;
	judge(&rp);
	if (a.json)
		print_json(&rp);
	else if (!a.quiet)
		print_people(&rp);
	r = rp.health;
	for (size_t i = 0; i < rp.n_reasons; i++)
		free(rp.reasons[i]);
	status_file_release(&rp.daemon);
	return command_finish(r);
}
