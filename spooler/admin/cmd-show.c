/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool show - everything that is known about an event: the record, the payload and its topic,
 * the attempts, the reason of a failure.
 */
#include <inttypes.h>
#include <jansson.h>

#include "spooler/admin/command.h"
#include "spooler/config/config.h"
#include "spooler/event/event.h"
#include "hook/spool.h"
#include "spooler/admin/listing.h"
#include "spooler/admin/pager.h"
#include "spooler/base/log.h"
#include "spooler/spool/lookup.h"
#include "spooler/base/rfc3339.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"

enum { OPTION_NO_PAGER = 0x2000 };
enum show_form { SHOW_PEOPLE, SHOW_JSON, SHOW_RAW, SHOW_XML };

struct arguments {
	enum show_form form;
	const char *config;
	bool no_pager;
	char **ids;
	int n_ids;
};

static const struct argp_option options[] = {
	{"raw", 'r', NULL, 0, "the record file as it is", 0},
	{"xml", 'x', NULL, 0, "the document from libvirt, secrets blanked", 0},
	{"json", 'j', NULL, 0, "one JSON object per line", 0},
	{"config", 'c', "FILE", 0,
	 "the configuration, which decides what would be published [" CONFIG_FILE "]", 0},
	{"no-pager", OPTION_NO_PAGER, NULL, 0, "do not pipe the output into a pager", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'r':
		a->form = SHOW_RAW;
		return 0;
	case 'x':
		a->form = SHOW_XML;
		return 0;
	case 'j':
		a->form = SHOW_JSON;
		return 0;
	case 'c':
		a->config = arg;
		return 0;
	case OPTION_NO_PAGER:
		a->no_pager = true;
		return 0;
	case ARGP_KEY_ARGS:
		a->ids = state->argv + state->next;
		a->n_ids = state->argc - state->next;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(
			state,
			"which event? `virtspool list` shows the ids; any unique prefix will do");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

struct shower {
	struct lookup lookup;
	struct config *config; /* NULL: none that is valid */
	struct waiting waiting;
	bool colour;
};

/* --- for people */

static void line(const char *key, const char *value)
{
	_cleanup_free_ char *text = terminal_text(stdout, value, strlen(value));

	printf("%-14s %s\n", key, text ? text : "");
}

static void line_format(const char *key, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void line_format(const char *key, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, format);
	text = command_text(stdout, format, ap);
	va_end(ap);
	printf("%-14s %s\n", key, text ? text : "");
}

static void line_bytes(const char *key, struct bytes value)
{
	_cleanup_free_ char *text =
		value.data ? terminal_text(stdout, value.data, value.size) : NULL;

	if (text)
		printf("%-14s %s\n", key, text);
}

/* --- attempts: only the daemon knows them */

static void print_waiting(const struct shower *s, const struct found *f)
{
	struct wait_reason reason;
	char when[RFC3339_SIZE];

	waiting_explain(&s->waiting, f, &reason);
	if (s->waiting.error < 0)
		line("attempts", "unknown: the daemon is not running");
	else if (reason.attempts == 0)
		line("attempts", "none that failed");
	else
		line_format("attempts", "%" PRIu64 " without success; the last: %s",
			    reason.attempts, reason.why ? reason.why : "?");
	if (reason.topic)
		line("refused topic", reason.topic);
	if (reason.why && (reason.attempts == 0 || reason.waits_for[0]))
		line_format("waits", "%s%s%s", reason.why, reason.waits_for[0] ? ": " : "",
			    reason.waits_for);
	if (reason.next_usec > 0) {
		rfc3339_local(reason.next_usec / 1000, when);
		line("next try", when);
	}
}

static void print_attempts(const struct shower *s, const struct found *f)
{
	if (PLACES_WAITING & PLACE_BIT(f->place))
		print_waiting(s, f);
	else if (f->place == PLACE_SENT)
		line("attempts", "delivered");
	else if (f->place == PLACE_SKIPPED)
		line("attempts", "none: filtered out by the configuration");
	/* in failed/ the reason says it */
}

static void print_where(enum place place)
{
	printf("%-14s %s (%s/%s)\n", "where", place_table[place].name,
	       place_table[place].in_run_directory ? spool_run_directory() : spool_directory(),
	       place_table[place].path);
}

static void print_record(const struct found *f)
{
	const struct record *r = &f->record;
	char when[RFC3339_SIZE], size[32], key[32];

	rfc3339_local((uint64_t)(r->recorded_ns > 0 ? r->recorded_ns : 0) / 1000000, when);
	line("recorded", when);
	printf("%-14s %" PRIu64 " of epoch %s%s\n", "sequence", r->stamp.sequence, r->stamp.epoch,
	       r->flags & RECORD_UNORDERED ? " (unordered: no stamp was available)" : "");
	line_bytes("driver", r->driver);
	line_bytes("object", r->object);
	if (f->uuid[0])
		line("uuid", f->uuid);
	line_bytes("operation", r->operation);
	line_bytes("sub-operation", r->suboperation);
	line_bytes("extra", r->extra);
	for (unsigned i = 0; i < r->n_arguments; i++) {
		(void)snprintf(key, sizeof(key), "argument %u", i + 5);
		line_bytes(key, r->arguments[i]);
	}
	format_size(r->document.size, size);
	printf("%-14s %s%s", "document", r->document.size ? size : "none",
	       r->flags & RECORD_DOCUMENT_TRUNCATED ? ", cut off" : "");
	if (r->redacted)
		printf(", %u secrets blanked", r->redacted);
	puts(r->flags & RECORD_ARGUMENTS_TRUNCATED ? "; arguments were cut off" : "");
}

static void print_publication(const struct shower *s, const struct found *f, const struct event *e,
			      const char *problem)
{
	json_t *payload;

	if (!s->config) {
		line("published", "unknown: there is no valid configuration");
		return;
	}
	if (problem) {
		line("published", problem);
		return;
	}
	if (!event_wanted(s->config, &f->record, e))
		line("published", "no: the configuration filters it out, unless it is replayed");
	line("topic", e->topic ? e->topic : "");
	payload = json_loadb(e->payload, e->payload_size, 0, NULL);
	if (payload) {
		_cleanup_free_ char *text = command_json_text(payload, JSON_INDENT(2));

		printf("payload\n%s\n", text ? text : "");
		json_decref(payload);
	}
}

static void print_people(const struct shower *s, const struct found *f, const struct event *e,
			 const char *problem)
{
	char when[RFC3339_SIZE];

	printf("%s%-14s %s%s\n", s->colour ? TERMINAL_BOLD : "", "event", f->name,
	       s->colour ? TERMINAL_RESET : "");
	print_where(f->place);
	rfc3339_local(spool_id_ms(&f->id), when);
	line("time", when);
	if (f->place == PLACE_FAILED)
		line("failure",
		     f->reason ? f->reason : "unknown: the file with the reason is gone");
	print_attempts(s, f);
	if (f->problem) {
		line("problem", f->problem);
		return;
	}
	print_record(f);
	print_publication(s, f, e, problem);
}

/* --- for programs */

static void print_json(const struct shower *s, const struct found *f, const struct event *e,
		       const char *problem)
{
	json_t *o = listing_event_json(f, &s->waiting);

	if (problem)
		(void)json_object_set_new(o, "problem", json_string(problem));
	if (e->payload) {
		(void)json_object_set_new(o, "wanted",
					  json_boolean(event_wanted(s->config, &f->record, e)));
		(void)json_object_set_new(o, "topic", json_string(e->topic));
		(void)json_object_set_new(o, "event",
					  json_loadb(e->payload, e->payload_size, 0, NULL));
	}
	command_print_json(o);
}

/* --- one event */

/* As it is, except that a terminal gets escapes for bytes that drive it: a guest's document may
   hold anything. */
static void write_bytes(const char *data, size_t size)
{
	bool unfinished = size > 0 && data[size - 1] != '\n';

	if (!terminal_is(stdout)) {
		(void)fwrite(data, 1, size, stdout);
		return;
	}
	for (size_t n = 0; size > 0; data += n, size -= n) {
		_cleanup_free_ char *text = NULL;

		for (n = 0; n < size && data[n] != '\n' && data[n] != '\t'; n++)
			;
		text = terminal_text(stdout, data, n);
		(void)fputs(text ? text : "", stdout);
		if (n < size)
			(void)putchar(data[n++]);
	}
	if (unfinished)
		(void)putchar('\n');
}

static int write_raw(struct lookup *l, const struct found *f)
{
	struct found again;
	int r;

	/* Parsing has unescaped the record in place, so the file is read once more, into the same
	   buffer. */
	r = lookup_read(l, &f->id, LOOKUP_RAW, &again);
	if (r < 0)
		return command_event_failure("cannot read", &f->id, r);
	if (again.problem)
		log_error("%s: %s", again.name, again.problem);
	else
		write_bytes(l->buffer.data, again.size);
	r = again.problem ? COMMAND_FAILED : COMMAND_OK;
	found_release(&again);
	return r;
}

static int write_document(const struct found *f)
{
	if (f->problem) {
		log_error("%s: %s; see --raw", f->name, f->problem);
		return COMMAND_FAILED;
	}
	if (f->record.document.size == 0) {
		log_error("%s: the event has no document", f->name);
		return COMMAND_FAILED;
	}
	write_bytes(f->record.document.data, f->record.document.size);
	if (!terminal_is(stdout) && f->record.document.data[f->record.document.size - 1] != '\n')
		(void)putchar('\n');
	return COMMAND_OK;
}

static void describe(const struct shower *s, enum show_form form, const struct found *f)
{
	const char *problem = NULL;
	struct event e = {0};

	if (!f->problem && s->config &&
	    event_build(s->config, &f->record, f->place == PLACE_REPLAY, &e, &problem) < 0 &&
	    !problem)
		problem = "no memory";
	if (form == SHOW_JSON)
		print_json(s, f, &e, problem);
	else
		print_people(s, f, &e, problem);
	event_release(&e);
}

/* --- files that are not events */

static void print_stray(const struct shower *s, const struct stray *f)
{
	_cleanup_free_ char *reason = lookup_reason(&s->lookup, f->place, f->name);
	char when[RFC3339_SIZE], size[32];

	printf("%s%-14s %s%s\n", s->colour ? TERMINAL_BOLD : "", "file", f->text,
	       s->colour ? TERMINAL_RESET : "");
	print_where(f->place);
	rfc3339_local(f->ms, when);
	line("written", when);
	format_size(f->size, size);
	line("size", size);
	if (reason)
		line("failure", reason);
	line("problem", stray_problem(f));
}

static int write_stray(struct shower *s, const struct stray *f)
{
	_cleanup_free_ char *what = NULL;
	const char *problem;
	size_t size;
	int r = record_file_read(s->lookup.directories[f->place], f->name, &s->lookup.buffer, &size,
				 &problem);

	if (r == 0) {
		write_bytes(s->lookup.buffer.data, size);
		return COMMAND_OK;
	}
	if (r == -EBADMSG) {
		log_error("'%s': %s", f->text, problem);
		return COMMAND_FAILED;
	}
	return asprintf(&what, "cannot read '%s'", f->text) < 0 ? COMMAND_FAILED
								: command_failure(what, r);
}

static int show_stray(struct shower *s, enum show_form form, const struct stray *f)
{
	switch (form) {
	case SHOW_RAW:
		return write_stray(s, f);
	case SHOW_XML:
		log_error("'%s': %s; see --raw", f->text, stray_problem(f));
		return COMMAND_FAILED;
	case SHOW_JSON:
		command_print_json(listing_stray_json(&s->lookup, f));
		return COMMAND_OK;
	default:
		print_stray(s, f);
		return COMMAND_OK;
	}
}

static int show(struct shower *s, const struct arguments *a, const char *prefix)
{
	struct spool_id id;
	struct found f;
	int r = lookup_find_stray(&s->lookup, PLACES_ALL, prefix);

	if (r < 0)
		return command_failure("cannot search the spool", r);
	if (r == 1)
		return show_stray(s, a->form, &s->lookup.strays.entries[s->lookup.strays.n - 1]);
	r = lookup_find(&s->lookup, PLACES_ALL, prefix, &id);
	if (r == -EEXIST)
		log_error("'%s' is ambiguous; give more digits of the id", prefix);
	else if (r <= 0)
		log_error("no event has an id that begins with '%s'; see `virtspool list`", prefix);
	if (r <= 0)
		return COMMAND_FAILED;
	r = lookup_read(&s->lookup, &id, LOOKUP_UUID | LOOKUP_REASON, &f);
	if (r < 0)
		return command_event_failure("cannot read", &id, r);
	if (a->form == SHOW_RAW)
		r = write_raw(&s->lookup, &f);
	else if (a->form == SHOW_XML)
		r = write_document(&f);
	else
		describe(s, a->form, &f);
	found_release(&f);
	return r;
}

/* Only the topic and payload need a configuration; everything else is shown without one. */
static void load(struct shower *s, const struct arguments *a)
{
	_cleanup_free_ char *errors = NULL;
	size_t size;
	FILE *f;

	if (a->form == SHOW_RAW || a->form == SHOW_XML)
		return;
	f = open_memstream(&errors, &size);
	if (!f)
		return;
	if (config_load(a->config, f, &s->config) < 0)
		fprintf(stderr, "cannot use '%s'; see `virtspool doctor`\n", a->config);
	else
		command_take_daemons_host(s->config, a->config);
	(void)fclose(f);
	waiting_load(&s->waiting, &s->lookup);
}

int cmd_show(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "ID|FILE...",
		.doc = "Shows events: the record, the payload and topic as they would be published, attempts, and the "
		       "reason of a failure. An id may be shortened to any unique prefix. A file that is not an event "
		       "needs its full name, as list prints it.",
	};
	struct arguments a = {.config = CONFIG_FILE};
	struct shower s = {.colour = terminal_colour(stdout)};
	int r;

	if (!command_parse(&argp, argc, argv, &a))
		return COMMAND_USAGE;
	r = command_open_spool(&s.lookup);
	if (r != COMMAND_OK)
		return r;
	load(&s, &a);
	if (a.form != SHOW_JSON && !a.no_pager)
		(void)pager_open();
	for (int i = 0; i < a.n_ids && !command_output_ended(); i++) {
		int one;

		if (i > 0 && a.form == SHOW_PEOPLE)
			(void)putchar('\n');
		one = show(&s, &a, a.ids[i]);
		r = one == COMMAND_OK ? r : one;
	}
	waiting_release(&s.waiting);
	config_free(s.config);
	lookup_release(&s.lookup);
	return command_finish(r);
}
