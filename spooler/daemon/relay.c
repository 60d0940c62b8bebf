/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * relay - see relay.h.
 *
 * State: a client (or a timer until the next attempt), the window of what is in flight, and three
 * reasons not to feed now: paused (the broker is busy, or too many refusals), settling (a number is
 * missing in the sequence and may still come: hooks run side by side, and the one that got the
 * earlier stamp may become visible a moment later), stopping. Each is ended by a timer; every timer
 * and every answer ends in relay_feed().
 */
#include <inttypes.h>
#include <stdarg.h>

#include "spooler/daemon/attempts.h"
#include "spooler/event/event.h"
#include "spooler/daemon/lanes.h"
#include "spooler/base/backoff.h"
#include "spooler/base/log.h"
#include "spooler/daemon/presence.h"
#include "spooler/mqtt/reason.h"
#include "spooler/daemon/relay.h"
#include "spooler/daemon/suspect.h"
#include "spooler/base/utf8.h"
#include "spooler/base/util.h"
#include "spooler/spool/record-parse.h"

#define SETTLE_USEC USEC_PER_SEC /* how long a missing number holds back what comes after it */
#define SETTLE_AGE_MS 2000	 /* if that is so young: an older hole is not filled any more */
#define RESCAN_USEC                                                                                \
	(2 * USEC_PER_SEC) /* a spool that is there and cannot be read is looked at this often */

struct in_flight {
	struct spool_id entry;
	int mid;
	uint64_t lane;
	size_t size; /* of the record */
	uint64_t published_usec;
};

struct relay {
	sd_event *loop;
	struct queue *queue;
	relay_changed changed, stopped;
	void *userdata;

	struct config *config;
	struct credentials *credentials;
	struct config *next_config; /* to be used when what is in flight has been answered */
	struct credentials *next_credentials;

	struct client *client;
	struct event will;    /* what the broker tells when the connection ends without a word */
	int presence_mid;     /* of the message that tells that we are online */
	size_t broker;	      /* index of the one in use or tried */
	size_t brokers_tried; /* in a row without success */
	uint64_t retry_backoff_usec; /* 0: the last connection was good */
	uint64_t acknowledged_in_connection;
	uint64_t connected_monotonic_usec;
	uint64_t last_traffic_usec; /* CLOCK_MONOTONIC: CONNACK, or an event's publish or answer */
	struct losses losses;
	uint64_t n_unreadable; /* held since the last release */
	char unreadable_error[128];
	bool stopping;
	bool error_reported;	    /* the queue's error, once until it is gone */
	unsigned blind;		    /* the spool cannot be read: 1 for the first time, 2 still */
	struct spool_id unreadable; /* the last event that could not be read */

	struct in_flight *window; /* in the order of publishing */
	size_t n_window, window_size;
	struct lanes lanes;
	struct suspect suspect;
	struct attempts attempts;
	uint64_t busy_backoff_usec;
	uint64_t paused_until_usec;
	uint64_t unheard,
		unheard_since_usec; /* answers 0x10 in a row; since when (CLOCK_REALTIME) */

	struct sequence sequence;
	uint64_t settling; /* the sequence number that waits for those before it */
	uint64_t settle_until_usec;

	sd_event_source *reconnect, *pause, *release, *rescan, *settle, *stop_timer, *defer_stopped;
	struct relay_stats stats;
};

const uint64_t relay_latency_bounds[RELAY_LATENCY_BUCKETS] = {
	1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 5000000, 30000000,
};

static void relay_feed(struct relay *r);
static void relay_connect(struct relay *r);

/* --- pure parts */

enum relay_outcome relay_outcome(unsigned reason_code)
{
	switch (reason_code) {
	case 0x90: /* Topic Name invalid */
	case 0x95: /* Packet too large */
	case 0x99: /* Payload format invalid */
		return RELAY_REJECTED;
	case 0x87: /* Not authorized */
		return RELAY_DENIED;
	default: /* 0x80 and above, known or not, is no reason to give an event up */
		return reason_code < 0x80 ? RELAY_DELIVERED : RELAY_BUSY;
	}
}

/* --- helpers */

static const char *broker_url(const struct relay *r)
{
	return r->config ? r->config->brokers[r->broker].url : NULL;
}

static uint64_t next_backoff(const struct relay *r, uint64_t previous_usec)
{
	return backoff_next(previous_usec, r->config->mqtt.retry_min_s * USEC_PER_SEC,
			    r->config->mqtt.retry_max_s * USEC_PER_SEC);
}

static void timer_start(sd_event_source *s, uint64_t usec)
{
	(void)sd_event_source_set_time_relative(s, usec);
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void timer_stop(sd_event_source *s)
{
	(void)sd_event_source_set_enabled(s, SD_EVENT_OFF);
}

/* What is held is tried again by then. */
static void release_within(struct relay *r, uint64_t usec)
{
	uint64_t due, now = now_usec(CLOCK_MONOTONIC);
	int enabled = SD_EVENT_OFF;

	if (sd_event_source_get_enabled(r->release, &enabled) >= 0 && enabled != SD_EVENT_OFF &&
	    sd_event_source_get_time(r->release, &due) >= 0 && due <= now + usec)
		return;
	timer_start(r->release, usec);
}

static void note_error(struct relay *r, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Keeps the last error for status; the log line is the caller's. */
static void note_error(struct relay *r, const char *format, ...)
{
	char text[RELAY_ERROR_MAX];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	r->stats.last_error[utf8_replace_controls(text, strlen(text), r->stats.last_error)] = '\0';
	r->stats.last_error_usec = now_usec(CLOCK_REALTIME);
	r->changed(r->userdata);
}

/* --- what is in flight */

static size_t window_limit(const struct relay *r)
{
	return suspect_needs_alone(&r->suspect) ? 1 : r->config->mqtt.window;
}

static void window_add(struct relay *r, const struct spool_id *e, int mid, uint64_t lane,
		       size_t size)
{
	r->window[r->n_window++] = (struct in_flight){
		.entry = *e,
		.mid = mid,
		.lane = lane,
		.size = size,
		.published_usec = now_usec(CLOCK_MONOTONIC),
	};
}

static bool window_take(struct relay *r, int mid, struct in_flight *ret)
{
	for (size_t i = 0; i < r->n_window; i++) {
		if (r->window[i].mid != mid)
			continue;
		*ret = r->window[i];
		r->n_window--;
		memmove(&r->window[i], &r->window[i + 1], (r->n_window - i) * sizeof(*r->window));
		return true;
	}
	return false;
}

static void note_refusal(struct relay *r, const struct spool_id *e, unsigned reason_code)
{
	char why[96];

	(void)snprintf(why, sizeof(why), "%s (0x%02x)", reason_name(reason_code), reason_code);
	attempts_note(&r->attempts, e, why);
}

/* The connection is gone, and with it every claim on what was in flight. */
static void window_put_back(struct relay *r)
{
	r->stats.duplicated += r->n_window;
	for (size_t i = 0; i < r->n_window; i++) {
		attempts_note(&r->attempts, &r->window[i].entry,
			      "the connection was lost before the answer");
		queue_put_back(r->queue, &r->window[i].entry);
	}
	r->n_window = 0;
	lanes_forget_probes(&r->lanes);
}

/* --- outcomes */

static void fail_entry(struct relay *r, const struct spool_id *e, enum relay_failure failure,
		       const char *why)
{
	const struct attempt *a = attempts_find(&r->attempts, e);
	char name[37], reason[256];
	int k;

	if (a)
		(void)snprintf(reason, sizeof(reason), "%s (attempt %u)", why, a->count);
	else
		(void)snprintf(reason, sizeof(reason), "%s", why);
	attempts_forget(&r->attempts, e);
	k = queue_fail(r->queue, e, reason);
	spool_id_name(e, name);
	if (k < 0) {
		log_error(
			"event %s cannot be delivered (%s) and cannot be moved to failed/: %s; it stays",
			name, reason, strerror(-k));
		note_error(r, "event %s cannot be moved to failed/: %s", name, strerror(-k));
		release_within(r, r->config->mqtt.retry_max_s * USEC_PER_SEC);
		return;
	}
	r->stats.failed[failure]++;
	log_warning("event %s moved to failed/: %s", name, reason);
	note_error(r, "event %s moved to failed/: %s", name, reason);
}

/* Is what is done with kept in sent/ and skipped/? */
static bool keeps(const struct relay *r)
{
	return r->config->spool.sent_age_s > 0;
}

/* What is replayed was counted when it came into the archive the first time. */
static void note_archived(struct relay *r, const struct spool_id *e, uint64_t size)
{
	if (!keeps(r) || e->source == PLACE_REPLAY)
		return;
	r->stats.archived++;
	r->stats.archived_bytes +=
		(size + 4095) / 4096 * 4096; /* about what a file of this size takes */
}

static void release_held(struct relay *r)
{
	r->n_unreadable = 0;
	lanes_forget_waiting(&r->lanes);
	queue_release_held(r->queue);
}

static void delivered(struct relay *r, const struct in_flight *f)
{
	uint64_t took = now_usec(CLOCK_MONOTONIC) - f->published_usec;
	struct lane *lane = lanes_find(&r->lanes, f->lane);
	size_t bucket = 0;
	int k;

	while (bucket < RELAY_LATENCY_BUCKETS && took > relay_latency_bounds[bucket])
		bucket++;
	r->stats.latency_buckets[bucket]++;
	r->stats.latency_sum_usec += took;
	r->stats.acknowledged++;
	attempts_forget(&r->attempts, &f->entry);
	r->stats.last_delivered_usec = now_usec(CLOCK_REALTIME);
	r->acknowledged_in_connection++;
	r->busy_backoff_usec = 0;
	k = queue_done(r->queue, &f->entry, keeps(r));
	note_archived(r, &f->entry, f->size);
	if (k < 0) {
		note_error(r, "a delivered event cannot be moved to sent/: %s", strerror(-k));
		release_within(r, r->config->mqtt.retry_max_s *
					  USEC_PER_SEC); /* and with it a scan, which tries again */
	}
	if (lane)
		lanes_open(&r->lanes, lane);
	/* What waited behind it may go. */
	if (suspect_taken(&r->suspect, &f->entry) || lane)
		release_held(r);
}

/* A pause of everything. */
static void pause_feeding(struct relay *r, uint64_t usec)
{
	r->paused_until_usec = now_usec(CLOCK_MONOTONIC) + usec;
	timer_start(r->pause, usec);
}

static void schedule_release(struct relay *r)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC), first = lanes_next_retry(&r->lanes, now);

	if (first != UINT64_MAX)
		release_within(r, first - now);
}

/* Too much to remember: nothing goes past it then. */
static void stand_still(struct relay *r, const struct spool_id *e)
{
	queue_put_back(r->queue, e);
	pause_feeding(r, r->config->mqtt.retry_max_s * USEC_PER_SEC);
}

static void hold(struct relay *r, const struct spool_id *e)
{
	if (queue_hold(r->queue, e) < 0)
		stand_still(r, e);
}

static void denied(struct relay *r, const struct in_flight *f, unsigned reason_code)
{
	struct lane *lane = lanes_find(&r->lanes, f->lane);
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	char name[37];

	spool_id_name(&f->entry, name);
	r->stats.denied++;
	if (!lane) {
		log_warning(
			"broker %s refuses event %s: %s (0x%02x); it stays in the spool and is tried again; grant "
			"this host the right to publish it",
			broker_url(r), name, reason_name(reason_code), reason_code);
		lane = lanes_close(&r->lanes, f->lane);
		if (!lane) {
			stand_still(r, &f->entry);
			return;
		}
		if (!lanes_may_be_denied(
			    &r->lanes,
			    now)) /* one domain after the other is denied: perhaps all are */
			pause_feeding(r, LANES_DENIAL_USEC);
	}
	note_error(r, "broker %s refuses event %s: %s (0x%02x)", broker_url(r), name,
		   reason_name(reason_code), reason_code);
	if (lane->probing || lane->backoff_usec == 0)
		lane->backoff_usec = next_backoff(r, lane->backoff_usec);
	lane->retry_usec = now + backoff_scatter(lane->backoff_usec);
	if (!lane->probing)
		lanes_count_denial(&r->lanes);
	lane->probing = false;
	lane->waiting = true;
	hold(r, &f->entry);
	schedule_release(r);
}

static void busy(struct relay *r, const struct in_flight *f, unsigned reason_code)
{
	r->stats.busy++;
	if (r->busy_backoff_usec == 0)
		log_warning("broker %s is busy: %s (0x%02x); events wait in the spool",
			    broker_url(r), reason_name(reason_code), reason_code);
	note_error(r, "broker %s is busy: %s (0x%02x)", broker_url(r), reason_name(reason_code),
		   reason_code);
	queue_put_back(r->queue, &f->entry);
	if (r->paused_until_usec <=
	    now_usec(CLOCK_MONOTONIC)) { /* one back-off for all that was in flight */
		r->busy_backoff_usec = next_backoff(r, r->busy_backoff_usec);
		pause_feeding(r, backoff_scatter(r->busy_backoff_usec));
	}
}

static void on_acknowledged(struct client *c, int mid, unsigned reason_code, void *userdata)
{
	struct relay *r = userdata;
	struct in_flight f;
	char reason[128];

	if (!window_take(r, mid, &f)) {
		if (mid == r->presence_mid && reason_code >= 0x80)
			log_warning(
				"broker %s refuses the message on mqtt.status_topic: %s (0x%02x)",
				broker_url(r), reason_name(reason_code), reason_code);
		return;
	}
	r->last_traffic_usec = now_usec(CLOCK_MONOTONIC);
	r->stats.answers[reason_code & 0xff]++;
	if (reason_code != 0x10)
		r->unheard = r->unheard_since_usec = 0;
	else if (r->unheard++ == 0)
		r->unheard_since_usec = now_usec(CLOCK_REALTIME);
	if (relay_outcome(reason_code) != RELAY_DELIVERED)
		note_refusal(r, &f.entry, reason_code);
	switch (relay_outcome(reason_code)) {
	case RELAY_DELIVERED:
		delivered(r, &f);
		break;
	case RELAY_REJECTED:
		(void)snprintf(reason, sizeof(reason), "the broker refused it: %s (0x%02x)",
			       reason_name(reason_code), reason_code);
		fail_entry(r, &f.entry, RELAY_FAILURE_REFUSED, reason);
		break;
	case RELAY_DENIED:
		denied(r, &f, reason_code);
		break;
	case RELAY_BUSY:
		busy(r, &f, reason_code);
		break;
	}
	relay_feed(r);
}

/* --- feeding */

enum feed {
	FEED_NEXT, /* the entry has been dealt with, on with the next */
	FEED_WAIT, /* nothing more now */
};

/* Of the process or the machine: the next event would fare no better. */
static bool is_shortage(int error)
{
	return error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -EINTR ||
	       error == -EAGAIN;
}

static enum feed surroundings(struct relay *r, const struct spool_id *e, const char *what,
			      int error)
{
	char name[37];

	spool_id_name(e, name);
	if (!r->error_reported)
		log_error("cannot %s event %s: %s; it stays in the spool and is tried again", what,
			  name, strerror(-error));
	r->error_reported = true;
	note_error(r, "cannot %s event %s: %s", what, name, strerror(-error));
	if (is_shortage(error) || spool_id_compare(e, &r->unreadable) != 0) {
		r->unreadable =
			*e; /* the first time it is given again, so that it keeps its place */
		queue_put_back(r->queue, e);
		pause_feeding(r, r->config->mqtt.retry_min_s * USEC_PER_SEC);
		return FEED_WAIT;
	}
	hold(r, e);
	r->n_unreadable++;
	(void)snprintf(r->unreadable_error, sizeof(r->unreadable_error), "%s: %s", name,
		       strerror(-error));
	release_within(r, r->config->mqtt.retry_max_s * USEC_PER_SEC);
	return FEED_NEXT;
}

/* Is a number missing before this one that may still come? */
static bool must_settle(struct relay *r, const struct spool_id *e, const struct record *record)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC);

	if (e->source == PLACE_REPLAY || (record->flags & RECORD_UNORDERED) ||
	    spool_id_ms(e) + SETTLE_AGE_MS < now_usec(CLOCK_REALTIME) / 1000 ||
	    sequence_peek(&r->sequence, record->stamp.epoch, record->stamp.sequence) !=
		    SEQUENCE_HOLE)
		return false;
	if (r->settling != record->stamp.sequence) {
		r->settling = record->stamp.sequence;
		r->settle_until_usec = now + SETTLE_USEC;
		timer_start(r->settle, SETTLE_USEC);
	}
	return now < r->settle_until_usec;
}

/* Did it come through the disk, or through memory because the disk could not take it? */
static void note_way(struct relay *r, const struct spool_id *e)
{
	if (e->source != PLACE_EMERGENCY) {
		r->stats.emergency_run = 0;
		return;
	}
	r->stats.emergency++;
	r->stats.emergency_run++;
	r->stats.emergency_usec = now_usec(CLOCK_REALTIME);
}

static void note_sequence(struct relay *r, const struct spool_id *e, const struct record *record)
{
	uint64_t before = r->sequence.highest;
	enum sequence_meaning meaning;

	if (e->source == PLACE_REPLAY || (record->flags & RECORD_UNORDERED)) {
		if (!attempts_find(&r->attempts, e))
			*(e->source == PLACE_REPLAY ? &r->stats.replayed : &r->stats.accepted) += 1;
		if (e->source != PLACE_REPLAY && !attempts_find(&r->attempts, e))
			note_way(r, e);
		return;
	}
	meaning = sequence_see(&r->sequence, record->stamp.epoch, record->stamp.sequence);
	r->stats.accepted += meaning != SEQUENCE_REPEAT;
	if (meaning != SEQUENCE_REPEAT)
		note_way(r, e);
	if (meaning == SEQUENCE_HOLE) {
		log_error("transitions were lost on this host: sequence %" PRIu64 " to %" PRIu64
			  " of epoch %s never "
			  "reached the spool; see the log of the hook",
			  before + 1, record->stamp.sequence - 1, record->stamp.epoch);
		note_error(r,
			   "sequence %" PRIu64 " to %" PRIu64
			   " of epoch %s never reached the spool",
			   before + 1, record->stamp.sequence - 1, record->stamp.epoch);
	}
}

static enum feed publish(struct relay *r, const struct spool_id *e, const struct event *event,
			 uint64_t lane, size_t size)
{
	struct lane *l = lanes_find(&r->lanes, lane);
	int k, mid;

	if (suspect_bars(&r->suspect, e, lane)) {
		hold(r, e);
		return FEED_NEXT;
	}
	if (l && !l->waiting && !l->probing && l->retry_usec <= now_usec(CLOCK_MONOTONIC) &&
	    !lanes_may_be_denied(
		    &r->lanes,
		    now_usec(CLOCK_MONOTONIC))) { /* only what is denied waits for that */
		l->retry_usec = now_usec(CLOCK_MONOTONIC) + LANES_DENIAL_USEC;
		schedule_release(r);
	}
	if (l && (l->waiting || l->probing || l->retry_usec > now_usec(CLOCK_MONOTONIC))) {
		l->waiting = true;
		hold(r, e);
		return FEED_NEXT;
	}
	k = client_publish(r->client, event->topic, event->payload, event->payload_size,
			   EVENT_CONTENT_TYPE, false, &mid);
	switch (k) {
	case 0:
		break;
	case -EMSGSIZE:
		fail_entry(r, e, RELAY_FAILURE_TOO_LARGE,
			   "larger than the largest packet that the broker takes");
		return FEED_NEXT;
	case -EINVAL:
		fail_entry(r, e, RELAY_FAILURE_TOPIC, "its topic is one that MQTT forbids");
		return FEED_NEXT;
	default:
		if (k != -EAGAIN &&
		    k != -ENOTCONN) /* for these there is a `writable` or a `lost` to come */
			pause_feeding(r, r->config->mqtt.retry_min_s * USEC_PER_SEC);
		queue_put_back(r->queue, e);
		return FEED_WAIT;
	}
	r->stats.published++;
	r->last_traffic_usec = now_usec(CLOCK_MONOTONIC);
	if (l) {
		l->probing = true;
		lanes_count_denial(&r->lanes);
	}
	window_add(r, e, mid, lane, size);
	return FEED_NEXT;
}

static enum feed feed_record(struct relay *r, const struct spool_id *e, struct record *record,
			     size_t size)
{
	struct event event = {0};
	const char *reason = NULL;
	enum feed result;
	int k;

	if (must_settle(r, e, record)) {
		queue_put_back(r->queue, e);
		return FEED_WAIT;
	}
	note_sequence(r, e, record);
	k = event_build(r->config, record, e->source == PLACE_REPLAY, &event, &reason);
	if (k == -EBADMSG) {
		fail_entry(r, e, RELAY_FAILURE_RECORD, reason);
		return FEED_NEXT;
	}
	if (k < 0)
		return surroundings(r, e, "build", k);
	if (e->source != PLACE_REPLAY && !event_wanted(r->config, record, &event)) {
		r->stats.skipped++;
		note_archived(r, e, size);
		(void)queue_skip(r->queue, e, keeps(r));
		result = FEED_NEXT;
	} else {
		result = publish(r, e, &event, lane_key(record), size);
	}
	event_release(&event);
	return result;
}

static enum feed feed_entry(struct relay *r, const struct spool_id *e)
{
	const char *reason = NULL;
	struct record record = {0};
	char *data, name[37];
	size_t size;
	int k;

	k = queue_read(r->queue, e, &data, &size, &reason);
	if (k == -ENOENT) { /* dropped or replayed by the admin meanwhile */
		queue_gone(r->queue, e);
		return FEED_NEXT;
	}
	if (k < 0 && k != -EBADMSG)
		return surroundings(r, e, "read", k);
	r->stats.read++;
	if (k == 0)
		k = record_parse(data, size, &record, &reason);
	spool_id_name(e, name);
	if (k == 0 && strcmp(record.stamp.id, name) != 0) {
		reason = "its file has another name than its id";
		k = -EBADMSG;
	}
	if (k < 0) {
		fail_entry(r, e, RELAY_FAILURE_RECORD, reason);
		return FEED_NEXT;
	}
	return feed_record(r, e, &record, size);
}

static bool may_feed(const struct relay *r)
{
	return r->client && client_connected(r->client) && !r->stopping && !r->next_config &&
	       r->n_window < window_limit(r) && client_room(r->client) > 0 &&
	       r->paused_until_usec <= now_usec(CLOCK_MONOTONIC);
}

static void check_answered(struct relay *r);

/* A suspect waits for another event to be tried in its place, and there is none: its turn again. */
static bool release_suspect(struct relay *r)
{
	if (!suspect_needs_control(&r->suspect) || r->n_window > 0)
		return false;
	suspect_without_control(&r->suspect);
	release_held(r);
	return true;
}

/*
 * What could not be read may hold events, and nothing will tell when it can be read again (unless
 * it is not there: its coming is seen). What is seen beside it waits for one more look, for the
 * order's sake, and no longer.
 */
static void rescan_later(struct relay *r, int error)
{
	int enabled = SD_EVENT_OFF;

	if (r->blind == 0)
		r->blind = 1;
	(void)sd_event_source_get_enabled(r->rescan, &enabled);
	if (enabled != SD_EVENT_OFF || (r->blind == 2 && error == 0 && queue_is_missing(r->queue)))
		return;
	if (error < 0)
		log_error("cannot read the queue: %s", strerror(-error));
	timer_start(r->rescan, RESCAN_USEC);
}

static void relay_feed(struct relay *r)
{
	struct spool_id e;

	while (may_feed(r)) {
		int k = queue_next(r->queue, &e);

		if (k < 0 || queue_error(r->queue))
			rescan_later(r, k);
		else
			r->blind = 0;
		if (k > 0 && r->blind == 1) {
			queue_put_back(r->queue, &e);
			break;
		}
		if (k == 0 && release_suspect(r))
			continue;
		if (k <= 0 || feed_entry(r, &e) == FEED_WAIT)
			break;
	}
	check_answered(r);
	r->changed(r->userdata);
}

/* --- the connection */

/* Online, or, before the connection is closed in good order, offline. Nothing depends on its
   arrival. */
static void tell_presence(struct relay *r, enum presence p)
{
	_cleanup_(event_release) struct event e = {0};

	r->presence_mid = 0;
	if (r->client && client_connected(r->client) &&
	    presence_build(r->config, r->credentials, p, &e) > 0)
		(void)client_publish(r->client, e.topic, e.payload, e.payload_size,
				     EVENT_CONTENT_TYPE, true, &r->presence_mid);
}

static void on_connected(struct client *c, void *userdata)
{
	struct relay *r = userdata;

	r->stats.connects++;
	r->stats.connected_usec = now_usec(CLOCK_REALTIME);
	r->connected_monotonic_usec = r->last_traffic_usec = now_usec(CLOCK_MONOTONIC);
	r->acknowledged_in_connection = 0;
	r->error_reported = false;
	release_held(r);
	log_notice("connected to broker %s, %s, %s", broker_url(r), client_peer(c),
		   client_protocol(c));
	tell_presence(r, PRESENCE_ONLINE);
	relay_feed(r);
}

static void on_writable(struct client *c, void *userdata)
{
	relay_feed(userdata);
}

/* One broker has failed: the next at once, and a back-off when the whole list has. */
static void schedule_reconnect(struct relay *r)
{
	uint64_t delay = 0;

	r->brokers_tried++;
	r->broker = (r->broker + 1) % r->config->n_brokers;
	if (r->brokers_tried >= r->config->n_brokers) {
		r->brokers_tried = 0;
		r->retry_backoff_usec = next_backoff(r, r->retry_backoff_usec);
		delay = backoff_scatter(r->retry_backoff_usec);
	}
	timer_start(r->reconnect, delay);
}

static void relay_disconnect(struct relay *r)
{
	client_close(TAKE_PTR(r->client));
	r->stats.connected_usec = 0;
	window_put_back(r);
	queue_rescan(r->queue); /* and the spool is not held open while nobody listens */
	r->connected_monotonic_usec = 0;
}

/* The broker has gone with events in flight: is the oldest the reason? */
static void judge_oldest(struct relay *r)
{
	struct spool_id oldest;

	if (r->n_window == 0)
		return;
	oldest = r->window[0].entry;
	if (r->n_window == 1 && suspect_is_convicted(&r->suspect, &oldest)) {
		r->n_window = 0;
		r->suspect = (struct suspect){0};
		attempts_note(&r->attempts, &oldest, "the connection was lost before the answer");
		fail_entry(
			r, &oldest, RELAY_FAILURE_CONNECTION,
			"the broker closed the connection each time it was given this event, and took others");
	} else if (r->acknowledged_in_connection == 0) {
		suspect_lost(&r->suspect, &oldest, r->window[0].lane);
	}
}

static void note_loss(struct relay *r, unsigned reason_code)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	const struct loss loss = {
		.at_usec = now,
		.lasted_usec = now - r->connected_monotonic_usec,
		.silence_usec = now - r->last_traffic_usec,
		.taken_over = reason_code == 0x8e, /* Session taken over */
	};

	r->stats.connection_losses++;
	losses_note(&r->losses, &loss);
}

static void on_lost(struct client *c, enum client_loss loss, unsigned reason_code, const char *text,
		    void *userdata)
{
	struct relay *r = userdata;
	bool was_connected = r->stats.connected_usec > 0;
	uint64_t lasted =
		was_connected ? now_usec(CLOCK_MONOTONIC) - r->connected_monotonic_usec : 0;

	if (was_connected)
		note_loss(r, reason_code);
	if (r->retry_backoff_usec == 0 ||
	    was_connected) /* the first of a row; the rest is in status */
		log_warning("broker %s: %s", broker_url(r), text);
	else
		log_debug("broker %s: %s", broker_url(r), text);
	note_error(r, "broker %s: %s", broker_url(r), text);
	judge_oldest(r);
	if (r->acknowledged_in_connection > 0 ||
	    (lasted > 0 && lasted >= r->config->mqtt.retry_max_s * USEC_PER_SEC)) {
		/* a good connection is gone: begin at the list's top again */
		r->broker = r->config->n_brokers - 1;
		r->brokers_tried = 0;
		r->retry_backoff_usec = 0;
	}
	r->acknowledged_in_connection = 0;
	relay_disconnect(r);
	check_answered(r);
	if (!r->stopping)
		schedule_reconnect(r);
}

static void relay_connect(struct relay *r)
{
	static const struct client_handlers handlers = {
		.connected = on_connected,
		.writable = on_writable,
		.acknowledged = on_acknowledged,
		.lost = on_lost,
	};
	const struct broker *broker = &r->config->brokers[r->broker];
	struct client_options options = {
		.config = r->config,
		.broker = broker,
		.credentials = r->credentials,
	};
	int k;

	log_debug("connecting to broker %s", broker->url);
	event_release(&r->will);
	if (presence_build(r->config, r->credentials, PRESENCE_WILL, &r->will) > 0) {
		options.will_retain = true;
		options.will_delay_s = (uint32_t)r->config->mqtt.will_delay_s;
		options.session_expiry_s = options.will_delay_s;
		/* With QoS 2 a session that is taken up may still hold packet identifiers, and the
		   broker would drop new events under them as repetitions. */
		options.resume = options.will_delay_s > 0 && r->config->mqtt.version == 5 &&
				 r->config->mqtt.qos == 1;
		options.will_topic = r->will.topic;
		options.will_payload = r->will.payload;
		options.will_content_type = EVENT_CONTENT_TYPE;
	}
	k = client_open(r->loop, &options, &handlers, r, &r->client);
	if (k < 0) {
		log_error("cannot begin to connect to broker %s: %s", broker->url, strerror(-k));
		note_error(r, "cannot begin to connect to broker %s: %s", broker->url,
			   strerror(-k));
		schedule_reconnect(r);
	}
	r->changed(r->userdata);
}

/* --- timers */

static int on_reconnect(sd_event_source *s, uint64_t usec, void *userdata)
{
	relay_connect(userdata);
	return 0;
}

static int on_feed_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
	relay_feed(userdata);
	return 0;
}

/* The pause is over when its timer says so: that may be a little before the clock does. */
static int on_pause(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct relay *r = userdata;

	r->paused_until_usec = 0;
	return on_feed_timer(s, usec, r);
}

static int on_rescan(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct relay *r = userdata;

	r->blind = 2;
	queue_rescan(r->queue);
	return on_feed_timer(s, usec, r);
}

/* The number that was waited for has not come, or has: the scan tells. */
static int on_settled(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct relay *r = userdata;

	r->settle_until_usec = 0;
	queue_rescan(r->queue);
	return on_feed_timer(s, usec, r);
}

static int on_release(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct relay *r = userdata;

	release_held(r);
	schedule_release(r);
	return on_feed_timer(s, usec, r);
}

/* --- reconfiguration and stop: both wait for what is in flight */

static int on_stopped(sd_event_source *s, void *userdata)
{
	struct relay *r = userdata;

	r->stopped(r->userdata);
	return 0;
}

static void use_next_config(struct relay *r)
{
	config_free(r->config);
	credentials_unref(r->credentials);
	r->config = r->next_config;
	r->credentials = r->next_credentials;
	r->next_config = NULL;
	r->next_credentials = NULL;
	free(r->window);
	r->window_size = r->config->mqtt.window;
	r->window = calloc(r->window_size, sizeof(*r->window));
	if (!r->window) { /* start is the only time where that could be; nothing can be done without */
		log_error("no memory for a window of %zu events", r->window_size);
		abort();
	}
	r->broker = 0;
	r->brokers_tried = 0;
	r->retry_backoff_usec = 0;
	timer_start(r->reconnect, 0);
}

/* What is in flight has been answered, or is not waited for any more. */
static void finish(struct relay *r)
{
	timer_stop(r->stop_timer);
	timer_stop(r->reconnect);
	tell_presence(r, PRESENCE_OFFLINE);
	relay_disconnect(r);
	if (r->stopping)
		(void)sd_event_source_set_enabled(r->defer_stopped, SD_EVENT_ONESHOT);
	else
		use_next_config(r);
}

static void check_answered(struct relay *r)
{
	if ((r->stopping || r->next_config) && r->n_window == 0)
		timer_start(r->stop_timer, 0);
}

static int on_stop_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
	finish(userdata);
	return 0;
}

static void wait_answered(struct relay *r)
{
	timer_start(r->stop_timer,
		    r->n_window > 0 ? r->config->spool.stop_timeout_s * USEC_PER_SEC : 0);
}

void relay_configure(struct relay *r, struct config *c, struct credentials *credentials)
{
	config_free(r->next_config);
	credentials_unref(r->next_credentials);
	r->next_config = c;
	r->next_credentials = credentials;
	if (r->config)
		wait_answered(r);
	else
		use_next_config(r);
}

void relay_stop(struct relay *r, relay_changed stopped)
{
	r->stopped = stopped;
	r->stopping = true;
	wait_answered(r);
}

/* --- the rest */

void relay_wake(struct relay *r)
{
	if (r->settle_until_usec >
	    0) /* what came may be what is waited for, and that is older than the snapshot */
		queue_rescan(r->queue);
	queue_changed(r->queue);
	relay_feed(r);
}

/* Timers begin stopped. */
static int add_timer(struct relay *r, sd_event_source **ret_source, sd_event_time_handler_t handler)
{
	int k = sd_event_add_time_relative(r->loop, ret_source, CLOCK_MONOTONIC, 0, 1000, handler,
					   r);

	if (k >= 0)
		timer_stop(*ret_source);
	return k;
}

int relay_new(sd_event *loop, struct queue *q, relay_changed changed, void *userdata,
	      struct relay **ret_relay)
{
	struct relay *r = calloc(1, sizeof(*r));
	int k;

	if (!r)
		return -ENOMEM;
	r->loop = sd_event_ref(loop);
	r->queue = q;
	r->changed = changed;
	r->userdata = userdata;
	k = add_timer(r, &r->reconnect, on_reconnect);
	if (k >= 0)
		k = add_timer(r, &r->pause, on_pause);
	if (k >= 0)
		k = add_timer(r, &r->release, on_release);
	if (k >= 0)
		k = add_timer(r, &r->rescan, on_rescan);
	if (k >= 0)
		k = add_timer(r, &r->settle, on_settled);
	if (k >= 0)
		k = add_timer(r, &r->stop_timer, on_stop_timer);
	if (k >= 0)
		k = sd_event_add_defer(loop, &r->defer_stopped, on_stopped, r);
	if (k < 0) {
		relay_free(r);
		return k;
	}
	(void)sd_event_source_set_enabled(r->defer_stopped, SD_EVENT_OFF);
	*ret_relay = r;
	return 0;
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	client_close(r->client);
	sd_event_source_disable_unref(r->reconnect);
	sd_event_source_disable_unref(r->pause);
	sd_event_source_disable_unref(r->release);
	sd_event_source_disable_unref(r->rescan);
	sd_event_source_disable_unref(r->settle);
	sd_event_source_disable_unref(r->stop_timer);
	sd_event_source_disable_unref(r->defer_stopped);
	sd_event_unref(r->loop);
	config_free(r->config);
	config_free(r->next_config);
	credentials_unref(r->credentials);
	credentials_unref(r->next_credentials);
	event_release(&r->will);
	free(r->window);
	free(r);
}

const struct config *relay_config(const struct relay *r)
{
	return r->next_config ? r->next_config : r->config;
}

void relay_prune_attempts(struct relay *r)
{
	for (size_t i = r->attempts.n; i > 0; i--)
		if (!queue_has(r->queue, &r->attempts.table[i - 1].entry))
			attempts_forget(&r->attempts, &r->attempts.table[i - 1].entry);
}

/* The CLOCK_REALTIME of a timer that is to go off; 0 if it is stopped. */
static uint64_t timer_due(sd_event_source *s)
{
	int enabled = SD_EVENT_OFF;
	uint64_t due;

	if (sd_event_source_get_enabled(s, &enabled) < 0 || enabled == SD_EVENT_OFF ||
	    sd_event_source_get_time(s, &due) < 0)
		return 0;
	return now_usec(CLOCK_REALTIME) + due - now_usec(CLOCK_MONOTONIC);
}

void relay_describe(const struct relay *r, struct relay_description *ret_description)
{
	bool connected = r->client && client_connected(r->client);

	*ret_description = (struct relay_description){
		.config = r->next_config ? r->next_config : r->config,
		.stats = &r->stats,
		.sequence = &r->sequence,
		.connected = connected,
		.broker = broker_url(r),
		.peer = connected ? client_peer(r->client) : NULL,
		.protocol = connected ? client_protocol(r->client) : NULL,
		.peer_validity = connected ? client_peer_validity(r->client) : (struct validity){0},
		.next_connect_usec = timer_due(r->reconnect),
		.in_flight = (unsigned)r->n_window,
		.held = queue_held(r->queue),
		.paused_until_usec = timer_due(r->pause),
		.attempts = r->attempts.table,
		.n_attempts = r->attempts.n,
		.unheard = r->unheard,
		.unheard_since_usec = r->unheard_since_usec,
		.unreadable = r->n_unreadable,
		.unreadable_error = r->n_unreadable > 0 ? r->unreadable_error : NULL,
	};
	losses_summarize(&r->losses, now_usec(CLOCK_MONOTONIC), &ret_description->losses);
}
