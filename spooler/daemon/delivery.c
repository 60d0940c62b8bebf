/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* delivery - see delivery.h. Two timers: one ends a pause of everything, one gives again what is
   held. */
#include "spooler/base/backoff.h"
#include "spooler/base/log.h"
#include "spooler/base/loop.h"
#include "spooler/base/util.h"
#include "spooler/daemon/delivery.h"
#include "spooler/daemon/denied.h"
#include "spooler/daemon/poison.h"
#include "spooler/mqtt/reason.h"

#define CREDIBLE_SIZE 4096 /* an announced maximum packet size from which on any plain event fits */
#define TOO_LARGE_MAX 64
#define NO_SUBSCRIBERS 0x10 /* MQTT 5: No matching subscribers */
/* The longest wait until the next look for a subscriber. */
#define SUBSCRIBER_USEC (10 * USEC_PER_SEC)
/* How long events that reached nobody are reported, if they are not kept for longer. */
#define UNHEARD_KNOWN_S (24 * 60 * 60)
#define ALL_REFUSED DENIED_PER_MINUTE /* refusals in a row that may mean that nothing is taken */
#define NOT_AUTHORIZED 0x87

struct in_flight {
	struct spool_id entry;
	int mid;
	uint64_t key;
	char *topic, *vm; /* for the log; NULL without memory */
	char uuid[37];
	size_t file_size, packet_size;
	bool xml_omitted;
	uint64_t published_usec;
};

struct delivery {
	struct queue *queue;
	struct link *link;
	struct relay_stats *stats;
	struct delivery_handlers handlers;
	void *userdata;
	const struct config *config;

	struct in_flight *window; /* in the order of publishing */
	size_t n_window;
	struct denied denied;
	struct poison poison;
	struct poison_sizes *sizes; /* of each broker */
	struct attempts attempts;
	unsigned refusals; /* in a row, since an event was taken */
	uint64_t busy_backoff_usec;
	uint64_t paused_until_usec;
	bool paused_by_refusal;
	/* The event that was delivered last, in sent/. */
	struct spool_id taken_last;
	bool taken_without_xml;
	size_t taken_by; /* 1 + the index of the broker that took it; 0: there is no such event */
	struct unheard unheard;

	/* of this connection */
	uint64_t delivered;
	bool nothing_else;    /* what ends the connection may be tried */
	uint64_t refused_key; /* the last answer refused an event of this key; 0: it did not */
	uint64_t refused_usec;
	uint64_t too_large[TOO_LARGE_MAX]; /* ordering keys: an event of theirs exceeds a limit that
					      is not believed yet */
	size_t n_too_large;

	sd_event_source *pause, *release;
};

enum delivery_outcome delivery_outcome(unsigned reason_code, bool require_subscriber)
{
	switch (reason_code) {
	case 0x90: /* Topic Name invalid */
	case 0x95: /* Packet too large */
	case 0x99: /* Payload format invalid */
		return DELIVERY_REJECTED;
	case NOT_AUTHORIZED:
		return DELIVERY_DENIED;
	case NO_SUBSCRIBERS:
		return require_subscriber ? DELIVERY_DENIED : DELIVERY_DELIVERED;
	default: /* from 0x80 on, known or not: no reason to give an event up */
		return reason_code < 0x80 ? DELIVERY_DELIVERED : DELIVERY_BUSY;
	}
}

/* --- helpers */

static uint64_t next_backoff(const struct delivery *d, uint64_t previous_usec)
{
	return backoff_next(previous_usec, d->config->mqtt.retry_min_s * USEC_PER_SEC,
			    d->config->mqtt.retry_max_s * USEC_PER_SEC);
}

static void timer_start(sd_event_source *s, uint64_t usec)
{
	(void)sd_event_source_set_time_relative(s, usec);
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

/* All that is held is given again by then. */
static void release_within(struct delivery *d, uint64_t usec)
{
	uint64_t due, now = now_usec(CLOCK_MONOTONIC);
	int enabled = SD_EVENT_OFF;

	if (sd_event_source_get_enabled(d->release, &enabled) >= 0 && enabled != SD_EVENT_OFF &&
	    sd_event_source_get_time(d->release, &due) >= 0 && due <= now + usec)
		return;
	timer_start(d->release, usec);
}

static void release_held(struct delivery *d)
{
	denied_forget_waiting(&d->denied);
	queue_release_held(d->queue);
	d->handlers.released(d->userdata);
}

static void schedule_release(struct delivery *d)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC), first = denied_next_retry(&d->denied, now);

	if (first != UINT64_MAX)
		release_within(d, first - now);
}

void delivery_pause(struct delivery *d, uint64_t usec)
{
	d->paused_until_usec = now_usec(CLOCK_MONOTONIC) + usec;
	d->paused_by_refusal = false;
	timer_start(d->pause, usec);
}

static void end_pause(struct delivery *d)
{
	d->paused_until_usec = 0;
	(void)sd_event_source_set_enabled(d->pause, SD_EVENT_OFF);
}

/* The next one may be refused as well. */
static void pause_after_refusal(struct delivery *d)
{
	if (d->paused_until_usec > now_usec(CLOCK_MONOTONIC))
		return;
	delivery_pause(d, DENIED_USEC);
	d->paused_by_refusal = true;
}

/* Too much to remember: nothing goes past this one then. */
static void stand_still(struct delivery *d, const struct spool_id *e)
{
	queue_put_back(d->queue, e);
	delivery_pause(d, d->config->mqtt.retry_max_s * USEC_PER_SEC);
}

static void hold(struct delivery *d, const struct spool_id *e)
{
	if (queue_hold(d->queue, e) < 0)
		stand_still(d, e);
}

void delivery_hold(struct delivery *d, const struct spool_id *e, uint64_t usec)
{
	hold(d, e);
	release_within(d, usec);
}

/* Are delivered and filtered events kept in sent/ and skipped/? */
static bool keeps(const struct delivery *d)
{
	return d->config->spool.sent_age_s > 0;
}

/* A replayed event was counted when it came into the archive the first time. */
static void note_archived(struct delivery *d, const struct spool_id *e, uint64_t size)
{
	if (keeps(d) && e->source != PLACE_REPLAY)
		d->handlers.archived(size, d->userdata);
}

/* --- the window */

static void window_add(struct delivery *d, const struct offer *o, int mid, size_t packet_size)
{
	d->window[d->n_window++] = (struct in_flight){
		.entry = o->entry,
		.mid = mid,
		.key = o->key,
		.topic = strdup(o->event->topic),
		.vm = o->event->domain ? strdup(o->event->domain) : NULL,
		.file_size = o->file_size,
		.packet_size = packet_size,
		.xml_omitted = o->event->xml_omitted,
		.published_usec = now_usec(CLOCK_MONOTONIC),
	};
	memcpy(d->window[d->n_window - 1].uuid, o->event->uuid, sizeof(o->event->uuid));
}

static void in_flight_release(struct in_flight *f)
{
	free(f->topic);
	free(f->vm);
}

static bool window_take(struct delivery *d, int mid, struct in_flight *ret)
{
	for (size_t i = 0; i < d->n_window; i++) {
		if (d->window[i].mid != mid)
			continue;
		*ret = d->window[i];
		d->n_window--;
		memmove(&d->window[i], &d->window[i + 1], (d->n_window - i) * sizeof(*d->window));
		return true;
	}
	return false;
}

/* The connection is gone, and with it every claim on what was in flight. */
static void window_put_back(struct delivery *d)
{
	d->stats->duplicated += d->n_window;
	for (size_t i = 0; i < d->n_window; i++) {
		attempts_note(&d->attempts, &d->window[i].entry, d->window[i].topic,
			      "the connection was lost before the answer");
		queue_put_back(d->queue, &d->window[i].entry);
		in_flight_release(&d->window[i]);
	}
	d->n_window = 0;
	denied_forget_attempts(&d->denied);
}

unsigned delivery_in_flight(const struct delivery *d)
{
	return (unsigned)d->n_window;
}

/* --- may the next one go? */

bool delivery_is_ready(const struct delivery *d)
{
	return link_connected(d->link) && d->n_window < d->config->mqtt.window &&
	       link_room(d->link) > 0 && d->paused_until_usec <= now_usec(CLOCK_MONOTONIC) &&
	       !poison_is_waiting(&d->poison, d->n_window);
}

/* Its domain is refused: only one event at a time is tried, and not too often. */
static bool waits_for_rights(struct delivery *d, const struct offer *o)
{
	struct denied_key *k = denied_find(&d->denied, o->key);
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	bool due;

	if (!k)
		return false;
	due = k->waiting == 0 && !k->trying && k->retry_usec <= now &&
	      (!k->ends_connection || d->nothing_else);
	if (due && !denied_may_try(&d->denied, now)) {
		k->retry_usec = now + DENIED_USEC;
		schedule_release(d);
		due = false;
	}
	k->waiting += !due;
	return !due;
}

/* An earlier event of its domain waits until the broker has taken some event. */
static bool waits_for_size(const struct delivery *d, uint64_t key)
{
	for (size_t i = 0; i < d->n_too_large; i++)
		if (d->too_large[i] == key)
			return true;
	return false;
}

/* Larger than the broker has announced to take. */
static enum admission exceeds_announced(struct delivery *d, const struct offer *o, size_t announced)
{
	bool possible = announced >= d->poison.sizes->taken;

	if (possible && (announced >= CREDIBLE_SIZE || d->delivered > 0 || o->event->xml))
		return ADMISSION_TOO_LARGE;
	if (possible && d->n_too_large == TOO_LARGE_MAX)
		return ADMISSION_WAIT;
	if (possible) {
		d->too_large[d->n_too_large++] = o->key;
		return ADMISSION_HOLD;
	}
	log_warning("broker %s announces a maximum packet size of %zu bytes, though it has taken "
		    "%zu; trying the next broker",
		    link_broker_url(d->link), announced, d->poison.sizes->taken);
	stats_note_error(d->stats,
			 "broker %s announces a maximum packet size of %zu bytes, though it "
			 "has taken %zu",
			 link_broker_url(d->link), announced, d->poison.sizes->taken);
	link_abandon(d->link);
	return ADMISSION_WAIT;
}

/* Is there an event that this broker has taken, and that none was delivered after? */
static bool can_repeat(const struct delivery *d)
{
	return d->taken_by == link_broker(d->link) + 1;
}

static int repeat(struct delivery *d)
{
	_cleanup_(event_release) struct event event = {0};
	int k = d->handlers.rebuild(&d->taken_last, d->taken_without_xml, &event, d->userdata);

	if (k == 0)
		k = link_repeat(d->link, event.topic, event.payload, event.payload_size);
	if (k < 0 && k != -EAGAIN && k != -ENOTCONN)
		d->taken_by = 0;
	return k;
}

/* The control that the search for a poison message needs. */
static enum admission probe(struct delivery *d, size_t packet_size)
{
	int k = link_can_probe(d->link) ? link_probe(d->link, packet_size) : repeat(d);

	if (k == 0)
		poison_probing(&d->poison, packet_size);
	else if (k != -EAGAIN && k != -ENOTCONN)
		poison_cannot_probe(&d->poison);
	if (k == 0 || k == -EAGAIN || k == -ENOTCONN)
		return ADMISSION_WAIT;
	delivery_pause(d, 0); /* on with the next turn, without */
	return ADMISSION_WAIT;
}

static enum admission judge(struct delivery *d, const struct offer *o)
{
	struct poison_event e = {.id = o->entry, .key = o->key};
	size_t announced = link_packet_max(d->link), probe_size = 0;

	e.size = link_packet_size(d->link, o->event->topic, o->event->payload_size);
	if (waits_for_rights(d, o) || waits_for_size(d, o->key))
		return ADMISSION_HOLD;
	if (d->refusals >= ALL_REFUSED && d->n_window > 0)
		return ADMISSION_WAIT; /* one at a time, until one is taken */
	if (e.size > announced)
		return exceeds_announced(d, o, announced);
	switch (poison_admit(&d->poison, &e, d->n_window, &probe_size)) {
	case POISON_GO:
		return ADMISSION_GO;
	case POISON_HOLD:
		return ADMISSION_HOLD;
	case POISON_PROBE:
		return probe(d, probe_size);
	case POISON_TOO_LARGE:
		return ADMISSION_TOO_LARGE;
	case POISON_WAIT:
		break;
	}
	return ADMISSION_WAIT;
}

enum admission delivery_admit(struct delivery *d, const struct offer *o)
{
	enum admission a = judge(d, o);

	if (a == ADMISSION_HOLD)
		hold(d, &o->entry);
	else if (a == ADMISSION_WAIT)
		queue_put_back(d->queue, &o->entry);
	return a;
}

bool delivery_publish(struct delivery *d, const struct offer *o)
{
	const struct event *event = o->event;
	struct denied_key *denied = denied_find(&d->denied, o->key);
	int mid, k = link_publish(d->link, event->topic, event->payload, event->payload_size, &mid);

	switch (k) {
	case 0:
		break;
	case -EMSGSIZE:
		delivery_fail_too_large(d, o);
		return true;
	case -EINVAL:
		delivery_fail(d, &o->entry, RELAY_FAILURE_TOPIC, "MQTT does not allow its topic");
		return true;
	default:
		if (k != -EAGAIN && k != -ENOTCONN) /* after these `writable` or `lost` follows */
			delivery_pause(d, d->config->mqtt.retry_min_s * USEC_PER_SEC);
		queue_put_back(d->queue, &o->entry);
		return false;
	}
	d->stats->published++;
	if (denied) {
		denied->trying = true;
		d->nothing_else = false;
		denied_count_attempt(&d->denied);
	}
	window_add(d, o, mid, link_packet_size(d->link, event->topic, event->payload_size));
	return true;
}

bool delivery_nothing_else(struct delivery *d)
{
	if (d->n_window > 0)
		return false;
	if (d->n_too_large > 0) {
		log_warning(
			"broker %s announces a maximum packet size of %zu bytes, which no event "
			"here fits in; nothing is moved to failed/; trying the next broker",
			link_broker_url(d->link), link_packet_max(d->link));
		stats_note_error(d->stats,
				 "broker %s announces a maximum packet size of %zu bytes, which no "
				 "event here fits in",
				 link_broker_url(d->link), link_packet_max(d->link));
		link_abandon(d->link);
		return false;
	}
	if (!d->nothing_else && denied_last_is_due(&d->denied, now_usec(CLOCK_MONOTONIC)))
		d->nothing_else = true;
	else if (!poison_release(&d->poison))
		return false;
	release_held(d);
	return true;
}

/* --- outcomes */

static void fail(struct delivery *d, const struct spool_id *e, enum relay_failure failure,
		 const char *reason, const struct log_about *about)
{
	const struct attempt *a = attempts_find(&d->attempts, e);
	char name[37], full[384];
	int k;

	(void)snprintf(full, sizeof(full), "%s", reason);
	if (a && a->count > 0)
		(void)snprintf(full, sizeof(full), "%s (attempt %u)", reason, a->count);
	attempts_forget(&d->attempts, e);
	k = queue_fail(d->queue, e, full);
	spool_id_name(e, name);
	if (k < 0) {
		log_error(
			"cannot move event %s, which cannot be delivered (%s), to failed/: %s; it "
			"stays",
			name, full, strerror(-k));
		stats_note_error(d->stats, "cannot move event %s to failed/: %s", name,
				 strerror(-k));
		release_within(d, d->config->mqtt.retry_max_s * USEC_PER_SEC);
		return;
	}
	d->stats->failed[failure]++;
	log_about(LOG_WARNING, about, "event %s moved to failed/: %s", name, full);
	stats_note_error(d->stats, "event %s moved to failed/: %s", name, full);
}

void delivery_fail(struct delivery *d, const struct spool_id *e, enum relay_failure failure,
		   const char *reason)
{
	char name[37];

	spool_id_name(e, name);
	fail(d, e, failure, reason,
	     &(struct log_about){.message = LOG_MESSAGE_EVENT_FAILED, .event = name});
}

void delivery_fail_too_large(struct delivery *d, const struct offer *o)
{
	size_t size = link_packet_size(d->link, o->event->topic, o->event->payload_size);
	size_t announced = link_packet_max(d->link);
	char reason[256];

	if (size > announced)
		(void)snprintf(reason, sizeof(reason),
			       "its packet of %zu bytes is larger than the broker's maximum packet "
			       "size, %zu bytes",
			       size, announced);
	else
		(void)snprintf(reason, sizeof(reason),
			       "its packet of %zu bytes is larger than the broker takes: it ends "
			       "the connection over %zu bytes; the largest it has taken is %zu "
			       "bytes",
			       size, d->poison.sizes->limit, d->poison.sizes->taken);
	delivery_fail(d, &o->entry, RELAY_FAILURE_TOO_LARGE, reason);
}

void delivery_skip(struct delivery *d, const struct spool_id *e, size_t file_size)
{
	d->stats->skipped++;
	note_archived(d, e, file_size);
	(void)queue_skip(d->queue, e, keeps(d));
}

/* The broker takes an event. After so many refusals something may have changed: the others are tried
   soon, and when one of them is taken, all at once. */
static bool end_refusals(struct delivery *d)
{
	bool changed = d->refusals >= ALL_REFUSED;

	d->refusals = 0;
	if (changed)
		denied_retry_soon(&d->denied);
	if (changed && d->paused_by_refusal)
		end_pause(d);
	return changed;
}

static void note_taken(struct delivery *d, const struct in_flight *f)
{
	d->taken_last = f->entry;
	d->taken_last.source = PLACE_SENT;
	d->taken_by = keeps(d) && f->entry.source != PLACE_REPLAY ? link_broker(d->link) + 1 : 0;
	d->taken_without_xml = f->xml_omitted;
}

static void delivered(struct delivery *d, const struct in_flight *f)
{
	struct denied_key *denied = denied_find(&d->denied, f->key);
	bool changed = end_refusals(d);
	int k;

	stats_note_latency(d->stats, now_usec(CLOCK_MONOTONIC) - f->published_usec);
	d->stats->acknowledged++;
	d->stats->xml_omitted += f->xml_omitted;
	d->stats->last_delivered_usec = now_usec(CLOCK_REALTIME);
	d->delivered++;
	attempts_forget(&d->attempts, &f->entry);
	d->busy_backoff_usec = 0;
	link_confirm(d->link);
	poison_delivered(&d->poison);
	note_taken(d, f);
	k = queue_done(d->queue, &f->entry, keeps(d));
	if (k < 0)
		stats_note_error(d->stats, "cannot move a delivered event to sent/: %s",
				 strerror(-k));
	else
		note_archived(d, &f->entry, f->file_size);
	if (denied)
		denied_remove(&d->denied, denied);
	if (denied || changed || d->n_too_large > 0)
		release_held(d);
	d->n_too_large = 0;
}

/* The answer to a publish, for the log: its strings live as long as the caller's f and buffers. */
struct answer_texts {
	char name[37], code[8];
};

static struct log_about about_answer(const struct delivery *d, const struct in_flight *f,
				     enum log_message message, unsigned reason_code,
				     struct answer_texts *texts)
{
	spool_id_name(&f->entry, texts->name);
	(void)snprintf(texts->code, sizeof(texts->code), "0x%02x", reason_code & 0xff);
	return (struct log_about){
		.message = message,
		.event = texts->name,
		.vm = f->vm,
		.uuid = f->uuid,
		.topic = f->topic,
		.broker = link_broker_url(d->link),
		.reason = texts->code,
	};
}

static void log_denied(const struct delivery *d, const struct in_flight *f, const char *why,
		       unsigned reason_code)
{
	const char *topic = f->topic ? f->topic : "?";
	struct answer_texts texts;
	const struct log_about about =
		about_answer(d, f, LOG_MESSAGE_EVENT_REFUSED, reason_code, &texts);

	if (reason_code == NO_SUBSCRIBERS)
		log_about(LOG_WARNING, &about,
			  "broker %s has no subscriber for topic %s: %s; event %s and later ones "
			  "of its domain wait in the spool, as mqtt.require_subscriber is set",
			  link_broker_url(d->link), topic, why, texts.name);
	else if (reason_code == NOT_AUTHORIZED)
		log_about(LOG_WARNING, &about,
			  "broker %s refuses event %s on topic %s: %s; it stays in the spool and "
			  "is tried again; grant this host the right to publish there",
			  link_broker_url(d->link), texts.name, topic, why);
	else
		log_about(LOG_WARNING, &about,
			  "broker %s ends the connection over event %s on topic %s: %s; it stays "
			  "in the spool and is tried again; see the broker's log",
			  link_broker_url(d->link), texts.name, topic, why);
}

static void log_delivered(const struct delivery *d, const struct in_flight *f, unsigned reason_code)
{
	struct answer_texts texts;
	struct log_about about;

	if (!log_is_on(LOG_DEBUG))
		return;
	about = about_answer(d, f, LOG_MESSAGE_EVENT_DELIVERED, reason_code, &texts);
	log_about(LOG_DEBUG, &about, "event %s delivered on topic %s: %s (%s)", texts.name,
		  f->topic ? f->topic : "?", reason_name(reason_code), texts.code);
}

/* The key of a domain that was not refused before; NULL: there are too many to remember. */
static struct denied_key *add_denied(struct delivery *d, uint64_t key)
{
	struct denied_key *k = denied_add(&d->denied, key);

	if (!k)
		denied_count_attempt(&d->denied);
	if (!denied_may_try(&d->denied, now_usec(CLOCK_MONOTONIC)))
		pause_after_refusal(d); /* one domain after the other: perhaps all */
	return k;
}

static uint64_t denied_backoff(const struct delivery *d, uint64_t previous_usec,
			       unsigned reason_code)
{
	uint64_t next = next_backoff(d, previous_usec);

	return reason_code == NO_SUBSCRIBERS && next > SUBSCRIBER_USEC ? SUBSCRIBER_USEC : next;
}

static void denied(struct delivery *d, const struct in_flight *f, unsigned reason_code,
		   bool ends_connection)
{
	struct denied_key *k = denied_find(&d->denied, f->key);
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	char why[96];

	(void)snprintf(why, sizeof(why), "%s (0x%02x)", reason_name(reason_code), reason_code);
	d->stats->denied++;
	d->refusals++;
	stats_note_error(d->stats,
			 reason_code == NO_SUBSCRIBERS
				 ? "broker %s has no subscriber for topic %s: %s"
				 : "broker %s refuses an event on topic %s: %s",
			 link_broker_url(d->link), f->topic ? f->topic : "?", why);
	if (!k) {
		log_denied(d, f, why, reason_code);
		k = add_denied(d, f->key);
	}
	if (!k) { /* nothing goes past this one */
		queue_put_back(d->queue, &f->entry);
		pause_after_refusal(d);
		return;
	}
	k->ends_connection |= ends_connection;
	if (k->trying || k->backoff_usec == 0)
		k->backoff_usec = denied_backoff(d, k->backoff_usec, reason_code);
	k->retry_usec = now + backoff_scatter(k->backoff_usec);
	if (!k->trying)
		denied_count_attempt(&d->denied);
	k->trying = false;
	k->waiting++;
	d->refused_key = f->key;
	d->refused_usec = now;
	attempts_note_retry(&d->attempts, &f->entry, f->key,
			    now_usec(CLOCK_REALTIME) + k->retry_usec - now);
	hold(d, &f->entry);
	schedule_release(d);
}

static void busy(struct delivery *d, const struct in_flight *f, unsigned reason_code)
{
	d->stats->busy++;
	if (d->busy_backoff_usec == 0) {
		struct answer_texts texts;
		const struct log_about about =
			about_answer(d, f, LOG_MESSAGE_BROKER_BUSY, reason_code, &texts);

		log_about(LOG_WARNING, &about,
			  "broker %s is busy: %s (%s); events wait in the spool",
			  link_broker_url(d->link), reason_name(reason_code), texts.code);
	}
	stats_note_error(d->stats, "broker %s is busy: %s (0x%02x)", link_broker_url(d->link),
			 reason_name(reason_code), reason_code);
	queue_put_back(d->queue, &f->entry);
	if (d->paused_until_usec > now_usec(CLOCK_MONOTONIC))
		return; /* one back-off for all that was in flight */
	d->busy_backoff_usec = next_backoff(d, d->busy_backoff_usec);
	delivery_pause(d, backoff_scatter(d->busy_backoff_usec));
}

static void rejected(struct delivery *d, const struct in_flight *f, unsigned reason_code)
{
	struct answer_texts texts;
	const struct log_about about =
		about_answer(d, f, LOG_MESSAGE_EVENT_FAILED, reason_code, &texts);
	char reason[128];

	(void)snprintf(reason, sizeof(reason), "the broker refused it: %s (%s)",
		       reason_name(reason_code), texts.code);
	fail(d, &f->entry, RELAY_FAILURE_REFUSED, reason, &about);
}

static void note_answer(struct delivery *d, const struct in_flight *f, unsigned reason_code)
{
	struct poison_event e = {.id = f->entry, .key = f->key, .size = f->packet_size};

	d->refused_key = 0;
	d->stats->answers[reason_code & 0xff]++;
	if (delivery_outcome(reason_code, d->config->mqtt.require_subscriber) == DELIVERY_DELIVERED)
		unheard_note(&d->unheard, reason_code != NO_SUBSCRIBERS,
			     f->entry.source == PLACE_REPLAY, spool_id_ms(&f->entry) * 1000);
	if (poison_answered(&d->poison, &e, f->packet_size))
		release_held(d);
}

void delivery_acknowledged(struct delivery *d, int mid, unsigned reason_code)
{
	enum delivery_outcome outcome =
		delivery_outcome(reason_code, d->config->mqtt.require_subscriber);
	_cleanup_(in_flight_release) struct in_flight f = {0};
	char why[96];

	if (!window_take(d, mid, &f))
		return;
	note_answer(d, &f, reason_code);
	if (outcome != DELIVERY_DELIVERED) {
		(void)snprintf(why, sizeof(why), "%s (0x%02x)", reason_name(reason_code),
			       reason_code);
		attempts_note(&d->attempts, &f.entry, f.topic, why);
	}
	switch (outcome) {
	case DELIVERY_DELIVERED:
		log_delivered(d, &f, reason_code);
		delivered(d, &f);
		break;
	case DELIVERY_REJECTED:
		rejected(d, &f, reason_code);
		break;
	case DELIVERY_DENIED:
		denied(d, &f, reason_code, false);
		break;
	case DELIVERY_BUSY:
		busy(d, &f, reason_code);
		break;
	}
}

void delivery_probed(struct delivery *d, size_t packet_size, bool refused)
{
	(void)poison_answered(&d->poison, NULL, packet_size);
	/* A connection that ends over this does so now, and over no event. */
	if (refused && d->paused_until_usec < now_usec(CLOCK_MONOTONIC) + LINK_PARTING_USEC)
		delivery_pause(d, LINK_PARTING_USEC);
}

/* --- connections */

void delivery_connected(struct delivery *d)
{
	d->delivered = d->n_too_large = 0;
	d->refusals = 0;
	d->nothing_else = false;
	d->refused_key = 0;
	poison_connected(&d->poison, &d->sizes[link_broker(d->link)],
			 link_can_probe(d->link) || can_repeat(d), link_can_probe(d->link));
	release_held(d);
}

/* The broker ends the connection over it again and again, and answers others. MQTT 3.1.1 has no other
   way to refuse a topic. */
static void convict(struct delivery *d, const struct in_flight *f)
{
	const char *rights = d->config->mqtt.version == 3 ? "; it may refuse the topic, see its "
							    "log and this host's rights there"
							  : "";
	char reason[384];

	attempts_note(&d->attempts, &f->entry, f->topic,
		      "the connection was lost before the answer");
	(void)snprintf(
		reason, sizeof(reason),
		"the broker ended the connection each time it was given this event (a packet "
		"of %zu bytes), and answered others; the largest it has taken is %zu bytes%s",
		f->packet_size, d->poison.sizes->taken, rights);
	delivery_fail(d, &f->entry, RELAY_FAILURE_CONNECTION, reason);
}

static enum poison_verdict judge_unanswered(struct delivery *d, const struct link_loss *loss)
{
	enum poison_evidence evidence =
		poison_evidence(loss->loss == CLIENT_LOSS_DISCONNECT, loss->reason_code);
	struct poison_event one = {0};

	if (d->n_window > 0)
		one = (struct poison_event){.id = d->window[0].entry,
					    .key = d->window[0].key,
					    .size = d->window[0].packet_size};
	return poison_lost(&d->poison, &one, d->n_window, evidence);
}

/* mosquitto with max_queued_messages 0, for one, refuses an event and then ends the connection. */
static bool ends_over_refusal(struct delivery *d)
{
	struct denied_key *k = d->refused_key ? denied_find(&d->denied, d->refused_key) : NULL;

	if (!k || now_usec(CLOCK_MONOTONIC) - d->refused_usec > LINK_PARTING_USEC)
		return false;
	k->ends_connection = true;
	return true;
}

bool delivery_lost(struct delivery *d, const struct link_loss *loss)
{
	enum poison_verdict verdict = POISON_INNOCENT;
	_cleanup_(in_flight_release) struct in_flight f = {0};
	bool refused = loss->was_connected && ends_over_refusal(d);

	if (loss->was_connected && !refused)
		verdict = judge_unanswered(d, loss);
	if (verdict != POISON_INNOCENT)
		f = d->window[--d->n_window]; /* the only one */
	if (verdict == POISON_CONVICTED)
		convict(d, &f);
	if (verdict == POISON_DENIED) {
		char why[128];

		(void)snprintf(why, sizeof(why), "%s (0x%02x), and the connection was ended",
			       reason_name(loss->reason_code), loss->reason_code);
		attempts_note(&d->attempts, &f.entry, f.topic, why);
		denied(d, &f, loss->reason_code, true);
	}
	window_put_back(d);
	queue_rescan(d->queue); /* and the spool is not held open while nobody listens */
	/* The back-off of a denied event is its own. */
	return refused || verdict == POISON_DENIED ||
	       (loss->was_connected && poison_progress(&d->poison));
}

void delivery_flush(struct delivery *d)
{
	denied_retry_all(&d->denied);
	poison_forget(&d->poison);
	if (d->sizes)
		memset(d->sizes, 0, d->config->n_brokers * sizeof(*d->sizes));
	d->busy_backoff_usec = 0;
	end_pause(d);
	release_held(d);
}

int delivery_configure(struct delivery *d, const struct config *c)
{
	struct in_flight *window = calloc(c->mqtt.window, sizeof(*window));
	struct poison_sizes *sizes = calloc(c->n_brokers, sizeof(*sizes));

	if (!window || !sizes) {
		free(window);
		free(sizes);
		return -ENOMEM;
	}
	free(d->window);
	free(d->sizes);
	d->window = window;
	d->sizes = sizes;
	d->config = c;
	d->poison = (struct poison){.sizes = sizes};
	d->taken_by = 0;
	return 0;
}

/* --- timers */

/* The pause is over when its timer says so: that may be a little before the clock does. */
static int on_pause(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct delivery *d = userdata;

	d->paused_until_usec = 0;
	d->handlers.feed(d->userdata);
	return 0;
}

static int on_release(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct delivery *d = userdata;

	release_held(d);
	schedule_release(d);
	d->handlers.feed(d->userdata);
	return 0;
}

/* --- the rest */

bool delivery_has_attempted(const struct delivery *d, const struct spool_id *e)
{
	return attempts_find(&d->attempts, e);
}

/* The oldest of a domain's refused events counts those that wait; the others wait for it, like all
   later ones. */
static bool is_first_of_key(const struct attempts *all, const struct attempt *a)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->table[i].key == a->key &&
		    spool_id_compare(&all->table[i].entry, &a->entry) < 0)
			return false;
	return true;
}

void delivery_prune_attempts(struct delivery *d)
{
	uint64_t real = now_usec(CLOCK_REALTIME), now = now_usec(CLOCK_MONOTONIC);

	for (size_t i = d->attempts.n; i > 0; i--) {
		struct attempt *a = &d->attempts.table[i - 1];
		const struct denied_key *k = a->key ? denied_find(&d->denied, a->key) : NULL;

		if (!queue_has(d->queue, &a->entry)) {
			attempts_forget(&d->attempts, &a->entry);
		} else if (k && !is_first_of_key(&d->attempts, a)) {
			a->key = a->next_usec = a->waiting = 0;
		} else if (k) {
			a->waiting = denied_waiting(k) > 0 ? denied_waiting(k) - 1 : 0;
			a->next_usec = k->retry_usec > now ? real + k->retry_usec - now : 0;
		}
	}
}

static uint64_t due(sd_event_source *s)
{
	int enabled = SD_EVENT_OFF;
	uint64_t usec;

	if (sd_event_source_get_enabled(s, &enabled) < 0 || enabled == SD_EVENT_OFF ||
	    sd_event_source_get_time(s, &usec) < 0)
		return 0;
	return now_usec(CLOCK_REALTIME) + usec - now_usec(CLOCK_MONOTONIC);
}

/* Events that reached nobody are reported while they can be replayed, and for a day at least. */
static struct unheard describe_unheard(const struct delivery *d)
{
	uint64_t kept_s = d->config && d->config->spool.sent_age_s > UNHEARD_KNOWN_S
				  ? d->config->spool.sent_age_s
				  : UNHEARD_KNOWN_S;
	struct unheard u = d->unheard;

	if (u.before.until_usec + kept_s * USEC_PER_SEC < now_usec(CLOCK_REALTIME))
		u.before = (struct unheard_row){0};
	return u;
}

void delivery_describe(const struct delivery *d, struct delivery_description *ret_description)
{
	*ret_description = (struct delivery_description){
		.in_flight = (unsigned)d->n_window,
		.held = queue_held(d->queue),
		.paused_until_usec = due(d->pause),
		.attempts = d->attempts.table,
		.n_attempts = d->attempts.n,
		.unheard = describe_unheard(d),
		.size_taken = d->poison.sizes ? d->poison.sizes->taken : 0,
		.size_limit = d->poison.sizes ? d->poison.sizes->limit : 0,
		.searching = d->poison.singly,
	};
}

int delivery_new(sd_event *loop, struct queue *q, struct link *l, struct relay_stats *stats,
		 const struct delivery_handlers *h, void *userdata, struct delivery **ret_delivery)
{
	struct delivery *d = calloc(1, sizeof(*d));
	int k;

	if (!d)
		return -ENOMEM;
	d->queue = q;
	d->link = l;
	d->stats = stats;
	d->handlers = *h;
	d->userdata = userdata;
	k = loop_add_turn(loop, &d->pause, on_pause, d);
	if (k >= 0)
		k = loop_add_turn(loop, &d->release, on_release, d);
	if (k < 0) {
		delivery_free(d);
		return k;
	}
	*ret_delivery = d;
	return 0;
}

void delivery_free(struct delivery *d)
{
	if (!d)
		return;
	sd_event_source_disable_unref(d->pause);
	sd_event_source_disable_unref(d->release);
	for (size_t i = 0; i < d->n_window; i++)
		in_flight_release(&d->window[i]);
	free(d->window);
	free(d->sizes);
	free(d);
}
