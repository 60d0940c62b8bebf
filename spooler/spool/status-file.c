/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* status-file - see status-file.h. */
#include <fcntl.h>

#include "hook/place.h"
#include "spooler/base/atomic-file.h"
#include "spooler/base/json-time.h"
#include "spooler/base/process.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/spool/status-file.h"

#define DAEMON_NAME "virtspoold"

const uint64_t status_latency_bounds[STATUS_LATENCY_BUCKETS] = {
	1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 5000000, 30000000,
};

/* --- the table */

#define AT(m) offsetof(struct status_file, m)
#define JSON_ONLY(section, key, type, m)                                                           \
	{                                                                                          \
		section, key, type, AT(m), NULL, NULL, 0, NULL, false                              \
	}
#define COUNTER(section, key, m, metric, help)                                                     \
	{                                                                                          \
		section, key, FIELD_COUNT, AT(m), metric, NULL, METRIC_COUNTER, help, false        \
	}
#define GAUGE(section, key, type, m, metric, help)                                                 \
	{                                                                                          \
		section, key, type, AT(m), metric, NULL, METRIC_GAUGE, help, false                 \
	}
#define FAILED(key, m)                                                                             \
	{                                                                                          \
		"failures", key, FIELD_COUNT, AT(m), "events_failed_total", "cause=\"" key "\"",   \
			METRIC_COUNTER,                                                            \
			"Events moved to failed/, because they can never be delivered, by cause.", \
			false                                                                      \
	}
#define CERTIFICATE_END(key, m)                                                                    \
	{                                                                                          \
		"certificates", key "_end", FIELD_TIME, AT(m),                                     \
			"certificate_expiry_timestamp_seconds", "certificate=\"" key "\"",         \
			METRIC_GAUGE,                                                              \
			"Time at which a certificate ends: our own, the authority's, "             \
			"that of the broker which is connected.",                                  \
			true                                                                       \
	}

const struct field status_file_fields[] = {
	JSON_ONLY(NULL, "pid", FIELD_COUNT, pid),
	JSON_ONLY(NULL, "version", FIELD_TEXT, version),
	JSON_ONLY(NULL, "health", FIELD_TEXT, health),
	JSON_ONLY(NULL, "config", FIELD_TEXT, config),
	JSON_ONLY(NULL, "host", FIELD_TEXT, host),
	GAUGE(NULL, "started", FIELD_TIME, started_usec, "start_time_seconds",
	      "Time at which the daemon started."),
	JSON_ONLY(NULL, "reload_refused", FIELD_TIME, reload_refused_usec),
	JSON_ONLY(NULL, "reload_error", FIELD_TEXT, reload_error),

	GAUGE(NULL, "connected", FIELD_BOOL, connected, "connected",
	      "1 if there is a connection to a broker."),
	JSON_ONLY(NULL, "broker", FIELD_TEXT, broker),
	JSON_ONLY(NULL, "peer", FIELD_TEXT, peer),
	JSON_ONLY(NULL, "protocol", FIELD_TEXT, protocol),
	JSON_ONLY(NULL, "connected_since", FIELD_TIME, connected_since_usec),
	JSON_ONLY(NULL, "next_connect", FIELD_TIME, next_connect_usec),
	JSON_ONLY(NULL, "paused_until", FIELD_TIME, paused_until_usec),
	COUNTER("events", "connects", connects, "connections_total",
		"Connections that a broker has accepted."),
	COUNTER("events", "connection_losses", losses, "connection_losses_total",
		"Connections that were lost."),
	JSON_ONLY("losses", "last_hour", FIELD_COUNT, losses_last_hour),
	JSON_ONLY("losses", "lasted_seconds", FIELD_AGE, loss_lasted_ms),
	JSON_ONLY("losses", "silence_seconds", FIELD_AGE, loss_silence_ms),
	JSON_ONLY("losses", "silence_steady", FIELD_BOOL, losses_steady),
	JSON_ONLY("losses", "taken_over", FIELD_COUNT, taken_over),
	JSON_ONLY("losses", "idle", FIELD_COUNT, losses_idle),
	JSON_ONLY("losses", "span_seconds", FIELD_AGE, losses_span_ms),
	JSON_ONLY(NULL, "client_id", FIELD_TEXT, client_id),
	JSON_ONLY(NULL, "keep_alive_seconds", FIELD_COUNT, keep_alive_s),
	JSON_ONLY(NULL, "last_error_time", FIELD_TIME, last_error_usec),
	JSON_ONLY(NULL, "last_error", FIELD_TEXT, last_error),
	JSON_ONLY(NULL, "status_topic_error", FIELD_TEXT, status_topic_error),

	CERTIFICATE_END("own", own_end_usec),
	CERTIFICATE_END("signing", signing_end_usec),
	CERTIFICATE_END("authority", authority_end_usec),
	CERTIFICATE_END("broker", broker_end_usec),
	JSON_ONLY("certificates", "own_begin", FIELD_TIME, own_begin_usec),
	JSON_ONLY("certificates", "signing_begin", FIELD_TIME, signing_begin_usec),
	JSON_ONLY("certificates", "authority_begin", FIELD_TIME, authority_begin_usec),
	JSON_ONLY("certificates", "broker_begin", FIELD_TIME, broker_begin_usec),

	COUNTER("events", "accepted", accepted, "events_accepted_total",
		"Events taken up from the spool for the first time."),
	COUNTER("events", "replayed", replayed, "events_replayed_total",
		"Events taken up again because an administrator replayed them."),
	JSON_ONLY("events", "read", FIELD_COUNT, read),
	COUNTER("events", "published", published, "events_published_total",
		"Events handed to a broker, repetitions included."),
	JSON_ONLY("events", "acknowledged", FIELD_COUNT, acknowledged),
	COUNTER("events", "duplicated", duplicated, "events_duplicated_total",
		"Publishes repeated because a connection was lost before the answer."),
	JSON_ONLY("events", "failed", FIELD_COUNT, failed),
	FAILED("refused", failed_refused),
	FAILED("too_large", failed_too_large),
	FAILED("topic", failed_topic),
	FAILED("record", failed_record),
	FAILED("connection", failed_connection),
	COUNTER("events", "skipped", skipped, "events_skipped_total",
		"Events that the configuration filters out."),
	JSON_ONLY("events", "denied", FIELD_COUNT, denied),
	JSON_ONLY("events", "busy", FIELD_COUNT, busy),
	COUNTER("events", "dropped", dropped, "events_dropped_total",
		"Waiting events removed because of spool.queue_size."),
	COUNTER("events", "emergency", emergency_taken, "events_emergency_total",
		"Events taken from the emergency spool, because the disk could not take them."),
	JSON_ONLY("events", "unheard", FIELD_COUNT, unheard),
	JSON_ONLY("events", "unheard_since", FIELD_TIME, unheard_since_usec),
	JSON_ONLY("events", "unheard_before", FIELD_COUNT, unheard_before),
	JSON_ONLY("events", "unheard_before_since", FIELD_TIME, unheard_before_since_usec),
	JSON_ONLY("events", "unheard_before_until", FIELD_TIME, unheard_before_until_usec),
	GAUGE(NULL, "last_delivered", FIELD_TIME, last_delivered_usec,
	      "last_delivered_timestamp_seconds", "Time of the last acknowledgement; 0: none yet."),

	GAUGE("queue", "waiting", FIELD_COUNT, waiting, "queue_events",
	      "Events that wait in the spool, those in the emergency spool and in replay/ "
	      "included."),
	GAUGE("queue", "emergency", FIELD_COUNT, waiting_emergency, "queue_emergency_events",
	      "Events that wait in the emergency spool, because the disk could not take them."),
	GAUGE(NULL, NULL, FIELD_AGE, oldest_age_ms, "queue_oldest_age_seconds",
	      "Age of the oldest live event that waits, when this file was written; 0: none."),
	GAUGE("queue", "oldest", FIELD_TIME, oldest_usec, "queue_oldest_timestamp_seconds",
	      "Time of the oldest live event that waits; 0: none."),
	GAUGE("queue", "held", FIELD_COUNT, held, "queue_held_events",
	      "Waiting events that are held back after a refusal."),
	GAUGE("queue", "denied", FIELD_COUNT, denied_waiting, "queue_denied_events",
	      "Waiting events of domains whose events the broker refuses, or has no "
	      "subscriber for."),
	JSON_ONLY("queue", "denied_domains", FIELD_COUNT, denied_domains),
	GAUGE("queue", "unreadable", FIELD_COUNT, unreadable, "queue_unreadable_events",
	      "Waiting records that cannot be read."),
	JSON_ONLY("queue", "unreadable_error", FIELD_TEXT, unreadable_error),
	GAUGE(NULL, "in_flight", FIELD_COUNT, in_flight, "in_flight_events",
	      "Events published and not yet answered."),
	JSON_ONLY(NULL, "spool_error", FIELD_TEXT, spool_error),
	JSON_ONLY(NULL, "emergency_error", FIELD_TEXT, emergency_error),
	JSON_ONLY("queue", "emergency_run", FIELD_COUNT, emergency_run),
	JSON_ONLY("queue", "emergency_last", FIELD_TIME, emergency_last_usec),

	JSON_ONLY("sequence", "epoch", FIELD_TEXT, epoch),
	GAUGE("sequence", "missing", FIELD_COUNT, missing, "sequence_missing_events",
	      "Transitions of this boot that never reached the spool: holes in the hook's "
	      "sequence."),
	GAUGE("sequence", "highest", FIELD_COUNT, highest, "sequence_highest",
	      "Highest sequence number of the hook that was seen."),
	GAUGE(NULL, "sent", FIELD_COUNT, sent, "sent_events",
	      "Delivered events that are kept for replay."),
	GAUGE(NULL, "sent_bytes", FIELD_COUNT, sent_bytes, "sent_bytes",
	      "Size of the delivered events that are kept."),
	GAUGE(NULL, "failed", FIELD_COUNT, kept_failed, "failed_events",
	      "Events in failed/, as of the last sweep."),
	JSON_ONLY(NULL, "written", FIELD_TIME, written_usec),
};
const size_t status_file_n_fields = ELEMENTSOF(status_file_fields);

#undef AT
#define AT(m) offsetof(struct status_attempt, m)

static const struct field attempt_fields[] = {
	JSON_ONLY(NULL, "id", FIELD_TEXT, id),
	JSON_ONLY(NULL, "refused", FIELD_BOOL, refused),
	JSON_ONLY(NULL, "attempts", FIELD_COUNT, attempts),
	JSON_ONLY(NULL, "why", FIELD_TEXT, why),
	JSON_ONLY(NULL, "topic", FIELD_TEXT, topic),
	JSON_ONLY(NULL, "next_try", FIELD_TIME, next_usec),
	JSON_ONLY(NULL, "waiting", FIELD_COUNT, waiting),
};

/* --- to JSON */

static json_t *answers_to_json(const struct status_file *s, unsigned first, unsigned last)
{
	json_t *o = json_object();
	char key[8];

	for (unsigned code = first; code <= last; code++) {
		if (s->answers[code] == 0)
			continue;
		(void)snprintf(key, sizeof(key), "0x%02x", code);
		(void)json_object_set_new(o, key, json_integer((json_int_t)s->answers[code]));
	}
	return o;
}

static json_t *latency_to_json(const struct status_file *s)
{
	json_t *o = json_object(), *buckets = json_array();

	for (size_t i = 0; i <= STATUS_LATENCY_BUCKETS; i++)
		(void)json_array_append_new(buckets,
					    json_integer((json_int_t)s->latency_buckets[i]));
	(void)json_object_set_new(o, "buckets", buckets);
	(void)json_object_set_new(o, "sum_microseconds",
				  json_integer((json_int_t)s->latency_sum_usec));
	return o;
}

json_t *status_attempt_to_json(const struct status_attempt *a)
{
	json_t *o = json_object();

	(void)fields_to_json(attempt_fields, ELEMENTSOF(attempt_fields), a, o);
	return o;
}

static json_t *attempts_to_json(const struct status_file *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->n_attempts; i++)
		(void)json_array_append_new(list, status_attempt_to_json(&s->attempts[i]));
	return list;
}

json_t *status_file_to_json(const struct status_file *s)
{
	json_t *o = json_object(), *events;

	if (!o || fields_to_json(status_file_fields, status_file_n_fields, s, o) < 0 ||
	    !(events = json_object_get(o, "events")) ||
	    json_object_set_new(events, "taken", answers_to_json(s, 0x00, 0x7f)) < 0 ||
	    json_object_set_new(events, "refused", answers_to_json(s, 0x80, 0xff)) < 0 ||
	    json_object_set_new(o, "latency", latency_to_json(s)) < 0 ||
	    json_object_set_new(o, "retried", attempts_to_json(s)) < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* --- from JSON */

static void answers_from_json(const json_t *events, struct status_file *s)
{
	char key[8];

	for (unsigned code = 0; code < ELEMENTSOF(s->answers); code++) {
		const json_t *o = json_object_get(events, code < 0x80 ? "taken" : "refused");
		json_int_t n;

		(void)snprintf(key, sizeof(key), "0x%02x", code);
		n = json_integer_value(json_object_get(o, key));
		s->answers[code] = n > 0 ? (uint64_t)n : 0;
	}
}

static void latency_from_json(const json_t *o, struct status_file *s)
{
	const json_t *buckets = json_object_get(o, "buckets");
	json_int_t sum = json_integer_value(json_object_get(o, "sum_microseconds"));

	s->latency_sum_usec = sum > 0 ? (uint64_t)sum : 0;
	for (size_t i = 0; i <= STATUS_LATENCY_BUCKETS; i++) {
		json_int_t n = json_integer_value(json_array_get(buckets, i));

		s->latency_buckets[i] = n > 0 ? (uint64_t)n : 0;
	}
}

/* Those that name an event. */
static void attempts_from_json(const json_t *list, struct status_file *s)
{
	const json_t *entry;
	size_t i;

	json_array_foreach (list, i, entry) {
		struct status_attempt a = {0};

		if (s->n_attempts == STATUS_ATTEMPTS_MAX)
			return;
		fields_from_json(attempt_fields, ELEMENTSOF(attempt_fields), entry, &a);
		if (a.id && a.why)
			s->attempts[s->n_attempts++] = a;
	}
}

int status_file_parse(const char *text, size_t size, struct status_file *ret_status)
{
	json_t *o = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);

	*ret_status = (struct status_file){0};
	if (!json_is_object(o)) {
		json_decref(o);
		return -EBADMSG;
	}
	fields_from_json(status_file_fields, status_file_n_fields, o, ret_status);
	answers_from_json(json_object_get(o, "events"), ret_status);
	latency_from_json(json_object_get(o, "latency"), ret_status);
	attempts_from_json(json_object_get(o, "retried"), ret_status);
	ret_status->storage = o;
	return 0;
}

void status_file_release(struct status_file *s)
{
	json_decref(s->storage);
	*s = (struct status_file){0};
}

const struct status_attempt *status_file_attempt(const struct status_file *s, const char *id)
{
	for (size_t i = 0; i < s->n_attempts; i++)
		if (strcmp(s->attempts[i].id, id) == 0)
			return &s->attempts[i];
	return NULL;
}

/* --- the file */

int status_file_write(const char *run_dir, const struct status_file *s)
{
	_cleanup_free_ char *text = NULL;
	json_t *o = status_file_to_json(s);

	if (!o)
		return -ENOMEM;
	text = json_dumps(o, JSON_INDENT(2));
	json_decref(o);
	if (!text)
		return -ENOMEM;
	return atomic_file_write(run_dir, STATUS_FILE, text, strlen(text), 0640);
}

void status_file_remove(const char *run_dir)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/" STATUS_FILE, run_dir) >= 0)
		(void)unlink(path);
}

int status_file_read(const char *run_dir, struct status_file *ret_status)
{
	_cleanup_close_ int dir_fd = place_open_top(run_dir);
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r;

	*ret_status = (struct status_file){0};
	if (dir_fd < 0)
		return dir_fd;
	r = safe_read(dir_fd, STATUS_FILE, STATUS_FILE_MAX, &text, &size);
	if (r == 0)
		r = status_file_parse(text, size, ret_status);
	if (r == 0 && !process_is(ret_status->pid, DAEMON_NAME)) {
		status_file_release(ret_status);
		r = -ENOENT;
	}
	return r;
}
