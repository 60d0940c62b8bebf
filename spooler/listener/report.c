/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* report - see report.h. */
#include "spooler/listener/report.h"

#include <inttypes.h>
#include <jansson.h>
#include <libgen.h>

#include "spooler/base/atomic-file.h"
#include "spooler/base/fields.h"
#include "spooler/base/json-time.h"
#include "spooler/base/util.h"

#define PREFIX "virtspool_listen"

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

#define AT(m) offsetof(struct connection_stats, m)

/* clang-format off */
static const struct field connection_fields[] = {
	{NULL, "uri", FIELD_TEXT, AT(uri), NULL, NULL, 0, NULL, false},
	{NULL, "driver", FIELD_TEXT, AT(driver), NULL, NULL, 0, NULL, false},
	{NULL, "listening", FIELD_BOOL, AT(listening), "connected", NULL, METRIC_GAUGE,
	 "1 while it listens to this libvirt.", false},
	{NULL, "since", FIELD_TIME, AT(since_usec), NULL, NULL, 0, NULL, false},
	{NULL, "kinds_of_events", FIELD_COUNT, AT(events_registered), NULL, NULL, 0, NULL, false},
	{NULL, "connects", FIELD_COUNT, AT(connects), "connections_total", NULL, METRIC_COUNTER,
	 "Connections that were made.", false},
	{NULL, "connection_losses", FIELD_COUNT, AT(losses), "connection_losses_total", NULL, METRIC_COUNTER,
	 "Connections that were lost.", false},
	{NULL, "attempts_failed", FIELD_COUNT, AT(attempts_failed), "attempts_failed_total", NULL, METRIC_COUNTER,
	 "Attempts to connect that failed.", false},
	{NULL, "reconciled", FIELD_COUNT, AT(reconciled), "reconciled_total", NULL, METRIC_COUNTER,
	 "Domains whose state had changed while nothing listened.", false},
	{NULL, "domains", FIELD_COUNT, AT(domains), "domains", NULL, METRIC_GAUGE, "Domains whose state is known.", false},
	{NULL, "last_event", FIELD_TIME, AT(last_event_usec), NULL, NULL, 0, NULL, false},
};
/* clang-format on */

static json_t *connection_json(const struct connection_stats *s)
{
	json_t *o = json_object();

	(void)fields_to_json(connection_fields, ELEMENTSOF(connection_fields), s, o);
	(void)json_object_set_new(o, "phase", json_string(connection_phase_name(s->phase)));
	(void)json_object_set_new(o, "events", events_json(s));
	(void)json_object_set_new(o, "last_error",
				  s->last_error[0] ? json_string(s->last_error) : json_null());
	return o;
}

char *report_json(const struct report *r)
{
	json_t *list = json_array(), *o = json_object();
	char *text;

	for (size_t i = 0; i < r->n_connections; i++)
		(void)json_array_append_new(list, connection_json(&r->connections[i]));
	(void)fields_to_json(listener_file_fields, listener_file_n_fields, &r->file, o);
	(void)json_object_set_new(o, "connections", list);
	(void)json_object_set_new(o, "written", json_time(now_usec(CLOCK_REALTIME)));
	text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
	json_decref(o);
	return text;
}

/* --- metrics */

static void events(FILE *f, const struct report *r)
{
	char buf[32];

	metric_head(f, PREFIX, "events_total", METRIC_COUNTER, "Events of libvirt's API, by kind.");
	for (size_t i = 0; i < r->n_connections; i++)
		for (int id = 0; id < EVENT_TABLE_IDS_MAX; id++) {
			if (r->connections[i].events[id] == 0)
				continue;
			fputs(PREFIX "_events_total{", f);
			metric_label(f, "uri", r->connections[i].uri);
			fprintf(f, ",event=\"%s\"} %" PRIu64 "\n", event_name(id, buf),
				r->connections[i].events[id]);
		}
}

char *report_metrics(const struct report *r)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	metric_head(f, PREFIX, "build_info", METRIC_GAUGE,
		    "The version of virtspool-listen; always 1.");
	fputs(PREFIX "_build_info{version=\"" PACKAGE_VERSION "\"} 1\n", f);
	fields_to_metrics(listener_file_fields, listener_file_n_fields, &r->file, PREFIX, f);
	events(f, r);
	fields_of_each_to_metrics(connection_fields, ELEMENTSOF(connection_fields), r->connections,
				  r->n_connections, sizeof(*r->connections), &connection_fields[0],
				  PREFIX, f);
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
	status = atomic_file_write(run_dir, LISTENER_FILE, text, strlen(text), 0644);
	if (metrics_file)
		metrics = write_metrics(r, metrics_file);
	return status < 0 ? status : metrics;
}

void report_remove(const char *run_dir)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/" LISTENER_FILE, run_dir) < 0) {
		path = NULL;
		return;
	}
	(void)unlink(path);
}
