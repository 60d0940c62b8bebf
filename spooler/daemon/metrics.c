/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* metrics - see metrics.h. */
#include <inttypes.h>
#include <libgen.h>

#include "spooler/spool/lookup.h"
#include "spooler/daemon/metrics.h"
#include "spooler/mqtt/reason.h"
#include "spooler/base/util.h"

#define COUNT_EVERY_USEC (2 * USEC_PER_SEC)
#define COUNT_SHARE 20 /* counting takes at most one part in so many of the time */

static void backlog_count(struct backlog *b)
{
	uint64_t start = now_usec(CLOCK_MONOTONIC), took;
	struct place_count live, emergency, replay;
	struct lookup l;

	(void)lookup_open(&l); /* what cannot be opened holds nothing */
	(void)lookup_count(&l, PLACE_NEW, false, &live);
	(void)lookup_count(&l, PLACE_EMERGENCY, false, &emergency);
	(void)lookup_count(&l, PLACE_REPLAY, false, &replay);
	lookup_release(&l);
	b->emergency = emergency.records;
	b->records = live.records + emergency.records + replay.records;
	b->oldest_ms = live.oldest_ms == 0 || (emergency.oldest_ms != 0 &&
					       emergency.oldest_ms < live.oldest_ms)
			       ? emergency.oldest_ms
			       : live.oldest_ms;
	took = COUNT_SHARE * (now_usec(CLOCK_MONOTONIC) - start);
	b->next_usec = start + (took > COUNT_EVERY_USEC ? took : COUNT_EVERY_USEC);
}

uint64_t backlog_update(struct backlog *b, const struct status_view *v)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	struct relay_description d;

	relay_describe(v->relay, &d);
	if (d.connected ||
	    v->disk_hangs) { /* the queue is being read anyway, or knows all there is */
		b->records = queue_length(v->queue, &b->oldest_ms);
		b->emergency = queue_emergency_length(v->queue);
		b->next_usec = 0;
		return 0;
	}
	if (now < b->next_usec)
		return b->next_usec - now;
	backlog_count(b);
	return 0;
}

/* --- the text */

static void head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP virtspool_%s %s\n# TYPE virtspool_%s %s\n", name, help, name, type);
}

static void counter(FILE *f, const char *name, uint64_t value, const char *help)
{
	head(f, name, "counter", help);
	fprintf(f, "virtspool_%s %" PRIu64 "\n", name, value);
}

static void gauge(FILE *f, const char *name, uint64_t value, const char *help)
{
	head(f, name, "gauge", help);
	fprintf(f, "virtspool_%s %" PRIu64 "\n", name, value);
}

static void gauge_milli(FILE *f, const char *name, uint64_t value, const char *help)
{
	head(f, name, "gauge", help);
	fprintf(f, "virtspool_%s %" PRIu64 ".%03u\n", name, value / 1000, (unsigned)(value % 1000));
}

/* What MQTT 5 has as answers to a publish (3.4.2.1) is there from the beginning, as Prometheus
   wants it; others, which only a broker of its own mind sends, as soon as they have been seen. */
static bool is_usual(unsigned code)
{
	static const unsigned char codes[] = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99};

	return memchr(codes, (int)code, sizeof(codes));
}

/* The answers whose reason codes are from `first` to `last`. */
static void answers(FILE *f, const char *name, const struct relay_stats *s, unsigned first,
		    unsigned last)
{
	for (unsigned code = first; code <= last; code++)
		if (s->answers[code] > 0 || is_usual(code))
			fprintf(f,
				"virtspool_%s{reason_code=\"0x%02x\",reason=\"%s\"} %" PRIu64 "\n",
				name, code, reason_name(code), s->answers[code]);
}

static void failures(FILE *f, const struct relay_stats *s)
{
	static const char *const causes[RELAY_N_FAILURES] = {
		[RELAY_FAILURE_REFUSED] = "refused",	   [RELAY_FAILURE_TOO_LARGE] = "too_large",
		[RELAY_FAILURE_TOPIC] = "topic",	   [RELAY_FAILURE_RECORD] = "record",
		[RELAY_FAILURE_CONNECTION] = "connection",
	};

	head(f, "events_failed_total", "counter",
	     "Events moved to failed/, because they can never be delivered, by cause.");
	for (size_t i = 0; i < RELAY_N_FAILURES; i++)
		fprintf(f, "virtspool_events_failed_total{cause=\"%s\"} %" PRIu64 "\n", causes[i],
			s->failed[i]);
}

static void events(FILE *f, const struct relay_stats *s, const struct archive_counts *a)
{
	counter(f, "events_accepted_total", s->accepted,
		"Events taken up from the spool for the first time.");
	counter(f, "events_replayed_total", s->replayed,
		"Events taken up again because an administrator replayed them.");
	counter(f, "events_published_total", s->published,
		"Events handed to a broker, repetitions included.");
	head(f, "events_acknowledged_total", "counter",
	     "Events that a broker has taken responsibility for, by MQTT reason code.");
	answers(f, "events_acknowledged_total", s, 0x00, 0x7f);
	head(f, "events_refused_total", "counter",
	     "Publishes that a broker refused, by MQTT reason code.");
	answers(f, "events_refused_total", s, 0x80, 0xff);
	counter(f, "events_duplicated_total", s->duplicated,
		"Publishes repeated because a connection was lost before the answer.");
	failures(f, s);
	counter(f, "events_skipped_total", s->skipped,
		"Events that the configuration filters out.");
	counter(f, "events_dropped_total", a->dropped,
		"Waiting events removed because of spool.queue_size.");
}

static void queue(FILE *f, const struct relay_description *d, const struct backlog *b,
		  uint64_t now_ms)
{
	uint64_t age = b->oldest_ms && b->oldest_ms < now_ms ? now_ms - b->oldest_ms : 0;

	gauge(f, "queue_events", b->records,
	      "Events that wait in the spool, those in the emergency spool and in replay/ included.");
	gauge(f, "queue_emergency_events", b->emergency,
	      "Events that wait in the emergency spool, because the disk could not take them.");
	gauge_milli(
		f, "queue_oldest_age_seconds", age,
		"Age of the oldest live event that waits, when this file was written; 0: none.");
	gauge_milli(f, "queue_oldest_timestamp_seconds", b->oldest_ms,
		    "Time of the oldest live event that waits; 0: none.");
	gauge(f, "queue_held_events", d->held,
	      "Waiting events that are held back after a refusal.");
	gauge(f, "in_flight_events", d->in_flight, "Events published and not yet answered.");
}

static void connection(FILE *f, const struct relay_description *d)
{
	const struct relay_stats *s = d->stats;

	gauge(f, "connected", d->connected, "1 if there is a connection to a broker.");
	counter(f, "connections_total", s->connects, "Connections that a broker has accepted.");
	counter(f, "connection_losses_total", s->connection_losses, "Connections that were lost.");
	gauge_milli(f, "last_delivered_timestamp_seconds", s->last_delivered_usec / 1000,
		    "Time of the last acknowledgement; 0: none yet.");
}

static void certificates(FILE *f, const struct status_view *v, const struct relay_description *d)
{
	const struct {
		const char *name;
		int64_t end_s; /* 0: not known */
	} all[] = {
		{"own", v->own_expiry_s},
		{"authority", v->authority_expiry_s},
		{"broker", d->peer_expiry_s},
	};

	head(f, "certificate_expiry_timestamp_seconds", "gauge",
	     "Time at which a certificate ends: our own, the authority's, "
	     "that of the broker which is connected.");
	for (size_t i = 0; i < ELEMENTSOF(all); i++)
		if (all[i].end_s)
			fprintf(f,
				"virtspool_certificate_expiry_timestamp_seconds{certificate=\"%s\"} %" PRId64
				"\n",
				all[i].name, all[i].end_s);
}

static void latency(FILE *f, const struct relay_stats *s)
{
	uint64_t sum = 0;

	head(f, "publish_latency_seconds", "histogram",
	     "Time from a publish to its acknowledgement.");
	for (size_t i = 0; i < RELAY_LATENCY_BUCKETS; i++) {
		sum += s->latency_buckets[i];
		fprintf(f, "virtspool_publish_latency_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
			(double)relay_latency_bounds[i] / 1e6, sum);
	}
	sum += s->latency_buckets[RELAY_LATENCY_BUCKETS];
	fprintf(f, "virtspool_publish_latency_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n", sum);
	fprintf(f, "virtspool_publish_latency_seconds_sum %" PRIu64 ".%06u\n",
		s->latency_sum_usec / USEC_PER_SEC, (unsigned)(s->latency_sum_usec % USEC_PER_SEC));
	fprintf(f, "virtspool_publish_latency_seconds_count %" PRIu64 "\n", sum);
}

char *metrics_format(const struct status_view *v, const struct backlog *b, uint64_t now_ms)
{
	const struct archive_counts *a = archive_counts(v->archive);
	struct relay_description d;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	head(f, "build_info", "gauge", "The version of virtspoold; always 1.");
	fputs("virtspool_build_info{version=\"" PACKAGE_VERSION "\"} 1\n", f);
	gauge_milli(f, "start_time_seconds", v->started_usec / 1000,
		    "Time at which the daemon started.");
	relay_describe(v->relay, &d);
	events(f, d.stats, a);
	queue(f, &d, b, now_ms);
	connection(f, &d);
	certificates(f, v, &d);
	gauge(f, "sequence_missing_events", d.sequence->missing,
	      "Transitions of this boot that never reached the spool: holes in the hook's sequence.");
	gauge(f, "sequence_highest", d.sequence->highest,
	      "Highest sequence number of the hook that was seen.");
	gauge(f, "sent_events", a->sent, "Delivered events that are kept for replay.");
	gauge(f, "sent_bytes", a->sent_bytes, "Size of the delivered events that are kept.");
	gauge(f, "failed_events", a->failed, "Events in failed/, as of the last sweep.");
	latency(f, d.stats);
	if (fclose(f) == EOF) {
		free(text);
		return NULL;
	}
	return text;
}

int metrics_write(const char *path, const struct status_view *v, const struct backlog *b)
{
	_cleanup_free_ char *text = metrics_format(v, b, now_usec(CLOCK_REALTIME) / 1000),
			    *copy = strdup(path), *again = strdup(path);

	if (!text || !copy || !again)
		return -ENOMEM;
	return atomic_file_write(dirname(copy), basename(again), text, strlen(text), 0644);
}
