/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* report - see report.h. */
#include "spooler/listener/report.h"

#include <inttypes.h>
#include <jansson.h>
#include <libgen.h>

#include "spooler/base/atomic-file.h"
#include "spooler/base/json-time.h"
#include "spooler/base/util.h"

/* --- status */

/* The word of an event's id, or event-27. */
static const char *event_name(int id, char buf[static 32])
{
	const char *name = event_table_event_name(id);

	if (name)
		return name;
	(void)snprintf(buf, 32, "event-%d", id);
	return buf;
}

static json_t *events_json(const struct connection_stats *s)
{
	json_t *o = json_object();
	char buf[32];

	for (int id = 0; id < EVENT_TABLE_IDS_MAX; id++)
		if (s->events[id] > 0)
			(void)json_object_set_new(o, event_name(id, buf),
						  json_integer((json_int_t)s->events[id]));
	return o;
}

static bool is_listening(const struct connection_stats *s)
{
	return s->phase == CONNECTION_LISTENING || s->phase == CONNECTION_RECONCILING;
}

static json_t *connection_json(const struct connection_stats *s)
{
	/* clang-format off */
	return json_pack("{s:s, s:s, s:b, s:s, s:o, s:i, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:s?}",
			 "uri", s->uri, "driver", s->driver, "listening", is_listening(s),
			 "phase", connection_phase_name(s->phase), "since", json_time(s->since_usec),
			 "kinds_of_events", (int)s->events_registered, "domains", (json_int_t)s->domains,
			 "reconciled", (json_int_t)s->reconciled, "connects", (json_int_t)s->connects,
			 "connection_losses", (json_int_t)s->losses, "attempts_failed", (json_int_t)s->attempts_failed,
			 "events", events_json(s), "last_event", json_time(s->last_event_usec),
			 "last_error", s->last_error[0] ? s->last_error : NULL);
	/* clang-format on */
}

char *report_json(const struct report *r)
{
	json_t *list = json_array(), *j;
	char *text;

	for (size_t i = 0; i < r->n_connections; i++)
		(void)json_array_append_new(list, connection_json(&r->connections[i]));
	/* clang-format off */
	j = json_pack("{s:i, s:s, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:o}, s:o, s:o}", "pid", (int)getpid(), "version", PACKAGE_VERSION,
		      "started", json_time(r->started_usec),
		      "records", "kept", (json_int_t)r->records.kept, "emergency", (json_int_t)r->records.emergency,
		      "lost", (json_int_t)r->records.lost, "unordered", (json_int_t)r->records.unordered,
		      "without_hook", (json_int_t)r->records.without_hook,
		      "last_without_hook", json_time(r->records.without_hook_usec),
		      "connections", list, "written", json_time((uint64_t)time(NULL) * USEC_PER_SEC));
	/* clang-format on */
	text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
	json_decref(j);
	return text;
}

/* --- metrics */

static void head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP virtspool_listen_%s %s\n# TYPE virtspool_listen_%s %s\n", name, help,
		name, type);
}

/* A label's value: backslash, quote and newline are escaped. */
static void print_label(FILE *f, const char *value)
{
	for (; *value; value++)
		if (*value == '\n')
			fputs("\\n", f);
		else
			fprintf(f, *value == '\\' || *value == '"' ? "\\%c" : "%c", *value);
}

static void of_connection(FILE *f, const char *name, const struct connection_stats *s,
			  uint64_t value)
{
	fprintf(f, "virtspool_listen_%s{uri=\"", name);
	print_label(f, s->uri);
	fprintf(f, "\"} %" PRIu64 "\n", value);
}

static void records(FILE *f, const struct writer_counts *c)
{
	head(f, "records_total", "counter",
	     "Records written, by where they went; lost: nowhere, which leaves a hole in the sequence.");
	fprintf(f, "virtspool_listen_records_total{to=\"spool\"} %" PRIu64 "\n", c->kept);
	fprintf(f, "virtspool_listen_records_total{to=\"emergency\"} %" PRIu64 "\n", c->emergency);
	fprintf(f, "virtspool_listen_records_total{to=\"lost\"} %" PRIu64 "\n", c->lost);
	head(f, "records_unordered_total", "counter", "Records for which no stamp could be taken.");
	fprintf(f, "virtspool_listen_records_unordered_total %" PRIu64 "\n", c->unordered);
	head(f, "transitions_without_hook_total", "counter",
	     "Starts and ends of domains that a hook should have recorded, and did not.");
	fprintf(f, "virtspool_listen_transitions_without_hook_total %" PRIu64 "\n",
		c->without_hook);
}

static void events(FILE *f, const struct report *r)
{
	char buf[32];

	head(f, "events_total", "counter", "Events of libvirt's API, by kind.");
	for (size_t i = 0; i < r->n_connections; i++)
		for (int id = 0; id < EVENT_TABLE_IDS_MAX; id++) {
			if (r->connections[i].events[id] == 0)
				continue;
			fputs("virtspool_listen_events_total{uri=\"", f);
			print_label(f, r->connections[i].uri);
			fprintf(f, "\",event=\"%s\"} %" PRIu64 "\n", event_name(id, buf),
				r->connections[i].events[id]);
		}
}

#define EACH_CONNECTION(f, r, name, type, help, value)                                             \
	do {                                                                                       \
		head(f, name, type, help);                                                         \
		for (size_t i_ = 0; i_ < (r)->n_connections; i_++) {                               \
			const struct connection_stats *s = &(r)->connections[i_];                  \
			of_connection(f, name, s, value);                                          \
		}                                                                                  \
	} while (0)

char *report_metrics(const struct report *r)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	head(f, "build_info", "gauge", "The version of virtspool-listen; always 1.");
	fputs("virtspool_listen_build_info{version=\"" PACKAGE_VERSION "\"} 1\n", f);
	head(f, "start_time_seconds", "gauge", "Time at which it started.");
	fprintf(f, "virtspool_listen_start_time_seconds %" PRIu64 "\n",
		r->started_usec / USEC_PER_SEC);
	records(f, &r->records);
	events(f, r);
	EACH_CONNECTION(f, r, "connected", "gauge", "1 while it listens to this libvirt.",
			is_listening(s));
	EACH_CONNECTION(f, r, "connections_total", "counter", "Connections that were made.",
			s->connects);
	EACH_CONNECTION(f, r, "connection_losses_total", "counter", "Connections that were lost.",
			s->losses);
	EACH_CONNECTION(f, r, "attempts_failed_total", "counter",
			"Attempts to connect that failed.", s->attempts_failed);
	EACH_CONNECTION(f, r, "reconciled_total", "counter",
			"Domains whose state had changed unheard.", s->reconciled);
	EACH_CONNECTION(f, r, "domains", "gauge", "Domains whose state is known.", s->domains);
	if (fclose(f) == EOF) {
		free(text);
		return NULL;
	}
	return text;
}

/* --- files */

static int write_metrics(const struct report *r, const char *path)
{
	_cleanup_free_ char *text = report_metrics(r), *copy = strdup(path), *again = strdup(path);

	if (!text || !copy || !again)
		return -ENOMEM;
	return atomic_file_write(dirname(copy), basename(again), text, strlen(text), 0644);
}

int report_write(const struct report *r, const char *run_dir, const char *metrics_file)
{
	_cleanup_free_ char *text = report_json(r);
	int status, metrics = 0;

	if (!text)
		return -ENOMEM;
	status = atomic_file_write(run_dir, REPORT_FILE, text, strlen(text), 0644);
	if (metrics_file)
		metrics = write_metrics(r, metrics_file);
	return status < 0 ? status : metrics;
}

void report_remove(const char *run_dir)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/" REPORT_FILE, run_dir) < 0) {
		path = NULL;
		return;
	}
	(void)unlink(path);
}
