/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool status - does every event reach the broker?
 *
 * The disk shows what waits, and the daemon's status file what the daemon is connected to; without
 * a daemon the disk still answers. The verdict of both is the first line and the exit code: 0
 * healthy, 1 degraded, 2 down. Each finding is a line, and what to do about it another.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>

#include "spooler/admin/command.h"
#include "spooler/admin/facts.h"
#include "spooler/base/rfc3339.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"

struct arguments {
	const char *hooksdir;
	bool json, quiet;
};

enum { OPTION_HOOKSDIR = 0x2000 };

static const struct argp_option options[] = {
	{"json", 'j', NULL, 0, "one JSON object", 0},
	{"quiet", 'q', NULL, 0, "print nothing; the exit code is the answer", 0},
	{"hooksdir", OPTION_HOOKSDIR, "DIR", 0, "libvirt's hooks [" HOOKSDIR "]", 0},
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
	case OPTION_HOOKSDIR:
		a->hooksdir = arg;
		return 0;
	default:
		return command_no_arguments(key, arg, state);
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

static uint64_t age_s(const struct facts *f, uint64_t usec)
{
	uint64_t now = f->of_verdict.now_usec;

	return usec != 0 && usec < now ? (now - usec) / USEC_PER_SEC : 0;
}

/* Local time, and how long ago that is. */
static void format_since(const struct facts *f, uint64_t usec, char ret[static 96])
{
	char when[RFC3339_SIZE], age[32];

	rfc3339_local(usec / 1000, when);
	format_age(age_s(f, usec), age);
	(void)snprintf(ret, 96, "%.19s (%s ago)", when, age);
}

static void print_verdict(const struct verdict *v)
{
	static const char *const colours[] = {
		[VERDICT_HEALTHY] = TERMINAL_GREEN,
		[VERDICT_WARNING] = TERMINAL_GREEN,
		[VERDICT_DEGRADED] = TERMINAL_YELLOW,
		[VERDICT_DOWN] = TERMINAL_RED,
	};
	bool colour = terminal_colour(stdout);

	printf("%s%s%s\n", colour ? colours[v->level] : "", verdict_health_name(v),
	       colour ? TERMINAL_RESET : "");
	for (size_t i = 0; i < v->n; i++) {
		const struct finding *f = &v->findings[i];

		command_print_wrapped("  - ", f->level == VERDICT_WARNING ? "warning: " : "",
				      f->cause);
		if (f->remedy)
			command_print_wrapped("    ", "-> ", f->remedy);
	}
}

static void print_daemon(const struct facts *f)
{
	const struct status_file *s = &f->status;
	char since[96];

	if (f->of_verdict.status_error < 0)
		return;
	format_since(f, s->started_usec, since);
	line("daemon", "virtspoold %s, pid %" PRIu64 ", since %s", s->version ? s->version : "?",
	     s->pid, since);
	if (!s->connected) {
		line("broker", "%s, not connected", s->broker ? s->broker : "none");
		return;
	}
	format_since(f, s->connected_since_usec, since);
	line("broker", "%s, connected since %s", s->broker ? s->broker : "?", since);
	line("", "%s, %s", s->peer ? s->peer : "?", s->protocol ? s->protocol : "?");
}

static void print_kept(const struct facts *f, enum place p, const char *kept)
{
	const struct place_count *c = &f->places[p];
	char count[48], size[32];

	format_count(c->records, "event", count);
	format_size(c->bytes, size);
	line(place_table[p].name, "%s%s, %s%s", count, kept, c->estimated ? "about " : "", size);
}

static void print_spool(const struct facts *f)
{
	const struct verdict_facts *v = &f->of_verdict;
	char age[32], count[48];

	if (v->spool_error == -ETIMEDOUT) {
		line("waiting", "unknown: the spool does not answer");
		return;
	}
	format_count(v->live + v->emergency, "event", count);
	format_age(age_s(f, v->oldest_usec), age);
	line("waiting", v->oldest_usec ? "%s, the oldest for %s" : "%s", count, age);
	if (v->replay > 0) {
		format_count(v->replay, "event", count);
		line("replay", "%s, sent after live events", count);
	}
	format_count(v->emergency, "event", count);
	line("emergency", v->emergency > 0 ? "%s (of those waiting)" : "not in use", count);
	print_kept(f, PLACE_SENT, " kept");
	print_kept(f, PLACE_FAILED, "");
	if (f->places[PLACE_SKIPPED].records > 0)
		print_kept(f, PLACE_SKIPPED, " kept");
}

static void print_people(const struct facts *f, const struct verdict *v)
{
	char since[96];

	print_verdict(v);
	print_daemon(f);
	print_spool(f);
	if (f->stamp.sequence > 0)
		line("sequence", "%" PRIu64 " in epoch %s", f->stamp.sequence, f->stamp.epoch);
	else
		line("sequence", "no event since boot");
	if (f->status.last_error) {
		format_since(f, f->status.last_error_usec, since);
		line("last error", "%s: %s", since, f->status.last_error);
	}
}

/* --- for programs: etc/status.schema.json */

static json_t *place_json(const struct facts *f, enum place p)
{
	const struct place_count *c = &f->places[p];

	if (f->of_verdict.spool_error == -ETIMEDOUT)
		return json_null();
	return json_pack("{s:I, s:I, s:b, s:I}", "events", (json_int_t)c->records, "bytes",
			 (json_int_t)c->bytes, "estimated", c->estimated, "foreign",
			 (json_int_t)c->strays);
}

static json_t *waiting_json(const struct verdict_facts *v)
{
	if (v->spool_error == -ETIMEDOUT)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:I, s:f}", "events",
			 (json_int_t)(v->live + v->emergency + v->replay), "live",
			 (json_int_t)(v->live + v->emergency), "emergency",
			 (json_int_t)v->emergency, "replay", (json_int_t)v->replay,
			 "oldest_seconds",
			 v->oldest_usec && v->oldest_usec < v->now_usec
				 ? (double)((v->now_usec - v->oldest_usec) / 1000) / 1000
				 : 0.0);
}

static void print_json(const struct facts *f, const struct verdict *v)
{
	json_t *reasons = json_array(), *findings = json_array(), *o;

	for (size_t i = 0; i < v->n; i++) {
		const struct finding *x = &v->findings[i];

		(void)json_array_append_new(reasons, json_string(x->cause ? x->cause : ""));
		(void)json_array_append_new(
			findings,
			json_pack("{s:s, s:s, s:s?, s:s?, s:s?}", "kind",
				  verdict_kind_name(x->kind), "level", verdict_level_name(x->level),
				  "object", x->object, "cause", x->cause, "remedy", x->remedy));
	}
	o = json_pack("{s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:s, s:I}, s:o?}", "health",
		      verdict_health_name(v), "code", verdict_exit_code(v), "reasons", reasons,
		      "findings", findings, "waiting", waiting_json(&f->of_verdict), "sent",
		      place_json(f, PLACE_SENT), "failed", place_json(f, PLACE_FAILED), "skipped",
		      place_json(f, PLACE_SKIPPED), "stamp", "epoch",
		      f->stamp.sequence ? f->stamp.epoch : "", "sequence",
		      (json_int_t)f->stamp.sequence, "daemon",
		      f->of_verdict.status_error < 0 ? NULL : status_file_to_json(&f->status));
	command_print_json(o);
}

int cmd_status(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Shows whether every event reaches the broker: the hook, the daemon, its connection, and "
		       "what waits in the spool.\v"
		       "Exit code: 0 healthy, 1 degraded, 2 down (no daemon, or no spool).",
	};
	struct arguments a = {.hooksdir = hook_directory()};
	struct facts *f;
	struct verdict v;
	int r;

	if (!command_parse(&argp, argc, argv, &a))
		return COMMAND_USAGE;
	f = calloc(1, sizeof(*f));
	if (!f)
		return command_failure("cannot look at the spool", -ENOMEM);
	facts_collect(f, a.hooksdir, !a.quiet);
	r = f->of_verdict.spool_error;
	if (r == -EACCES) { /* nothing can be said */
		r = command_spool_failure(r);
	} else {
		verdict_judge(&f->of_verdict, &v);
		if (a.json)
			print_json(f, &v);
		else if (!a.quiet)
			print_people(f, &v);
		r = verdict_exit_code(&v);
		verdict_release(&v);
	}
	facts_release(f);
	free(f);
	return command_finish(r);
}
