/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * relay - see relay.h.
 *
 * Whatever happens ends in relay_feed(), which publishes as much as may be. Three timers: one reads
 * the spool again while it cannot be read, one ends the wait for a sequence number that is missing
 * and may still come (hooks run side by side, and the one with the earlier stamp may become visible
 * a moment later), and one bounds the wait for what is in flight at a stop or a reload.
 */
#include <inttypes.h>
#include <sys/stat.h>

#include "hook/place.h"
#include "spooler/base/log.h"
#include "spooler/base/loop.h"
#include "spooler/base/util.h"
#include "spooler/daemon/completeness-file.h"
#include "spooler/daemon/delivery.h"
#include "spooler/daemon/denied.h"
#include "spooler/daemon/link.h"
#include "spooler/daemon/relay.h"
#include "spooler/daemon/signing.h"
#include "spooler/event/event.h"
#include "spooler/spool/dropped.h"
#include "spooler/spool/record-parse.h"

#define SETTLE_USEC USEC_PER_SEC /* how long a missing number holds back what comes after it */
#define SETTLE_AGE_MS 2000	 /* if that is no older: an older hole is not filled any more */
#define UNREADABLE_USEC (30 * USEC_PER_SEC) /* everything waits for a record that cannot be read */
#define UNREADABLE_MAX 64
#define RESCAN_USEC (2 * USEC_PER_SEC) /* between two looks at a spool that cannot be read */

struct relay {
	sd_event *loop;
	struct queue *queue;
	struct relay_handlers handlers;
	relay_stopped stopped;
	void *userdata;

	struct config *config;
	struct credentials *credentials;
	struct config *next_config; /* to be used when what is in flight has been answered */
	struct credentials *next_credentials;
	struct signer *next_signer;
	bool stopping, leaving;

	struct signing *signing; /* events that were read ahead, to be signed; NULL: none are */

	struct link *link;
	struct delivery *delivery;

	bool error_reported; /* of a record that cannot be read, once in a connection */
	/* Held; [0] also while everything waits for it. */
	struct spool_id unreadable[UNREADABLE_MAX];
	size_t n_unreadable;
	uint64_t unreadable_usec; /* CLOCK_MONOTONIC: since when [0] cannot be read; 0: it can */
	char unreadable_error[128];
	unsigned blind; /* the spool cannot be read: 1 for the first time, 2 still */

	struct completeness completeness;
	uint64_t dropped_size;	     /* of the list of dropped events, when it was last reported */
	struct spool_identity spool; /* as last seen */
	uint64_t settling;	     /* the sequence number that waits for those before it */
	uint64_t settle_until_usec;

	sd_event_source *rescan, *settle, *judge, *drain;
	struct relay_stats stats;
};

static void relay_feed(struct relay *r);

/* --- helpers */

static void timer_start(sd_event_source *s, uint64_t usec)
{
	(void)sd_event_source_set_time_relative(s, usec);
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static uint64_t seconds(uint64_t s)
{
	return s * USEC_PER_SEC;
}

/* --- the sequence */

/* Replayed events and those without a place in the host's order say nothing about it. */
static bool counts(const struct spool_id *e, const struct record *record)
{
	return e->source != PLACE_REPLAY && !(record->flags & RECORD_UNORDERED);
}

/* Is a number missing before this one that may still come? */
static bool must_settle(struct relay *r, const struct spool_id *e, const struct record *record)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC);

	if (!counts(e, record) ||
	    spool_id_ms(e) + SETTLE_AGE_MS < now_usec(CLOCK_REALTIME) / 1000 ||
	    completeness_peek(&r->completeness, record->stamp.epoch, record->stamp.sequence) !=
		    SEEN_GAP)
		return false;
	if (r->settling != record->stamp.sequence) {
		r->settling = record->stamp.sequence;
		r->settle_until_usec = now + SETTLE_USEC;
		timer_start(r->settle, SETTLE_USEC);
	}
	return now < r->settle_until_usec;
}

static void log_gap(const struct epoch *e, const struct gap *g, void *userdata)
{
	struct relay *r = userdata;
	char numbers[64];

	(void)snprintf(numbers, sizeof(numbers), "%" PRIu64 " to %" PRIu64, g->first, g->last);
	if (g->state == GAP_UNKNOWN) {
		log_warning("sequence %s of epoch %s was not seen; whether it was delivered before "
			    "is unknown",
			    numbers, e->epoch);
		return;
	}
	log_about(LOG_ERR, &(struct log_about){.message = LOG_MESSAGE_EVENTS_LOST},
		  "transitions were lost on this host: sequence %s of epoch %s never reached the "
		  "spool; see the hook's lines in the system log",
		  numbers, e->epoch);
	stats_note_error(&r->stats, "sequence %s of epoch %s never reached the spool", numbers,
			 e->epoch);
}

static void schedule_judgement(struct relay *r)
{
	uint64_t due = completeness_due(&r->completeness), now = now_usec(CLOCK_MONOTONIC);

	if (due != UINT64_MAX)
		timer_start(r->judge, due > now ? due - now : 0);
}

/* Gaps that are old enough are looked for on the disk before anything is said about them. */
static int on_judge(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct relay *r = userdata;
	uint64_t now = now_usec(CLOCK_MONOTONIC);

	if (queue_is_blind(r->queue)) { /* nothing can be proven now */
		timer_start(r->judge, GAP_USEC);
		return 0;
	}
	completeness_search(&r->completeness, queue_spool_dir(r->queue), queue_run_dir(r->queue),
			    now);
	completeness_judge(&r->completeness, now, log_gap, r);
	schedule_judgement(r);
	link_report(r->link); /* it says what is lost */
	r->handlers.changed(r->userdata);
	return 0;
}

/* Another file system may have been mounted there: what lies below is out of sight. */
static void check_identity(struct relay *r)
{
	struct spool_identity is;
	char epoch[33];
	uint64_t stamped;

	queue_identity(r->queue, &is.device, &is.inode);
	if (is.inode == 0 || (is.device == r->spool.device && is.inode == r->spool.inode))
		return;
	if (r->spool.inode != 0) {
		stamped = completeness_stamped(queue_run_dir(r->queue), epoch);
		for (size_t i = 0; i < r->completeness.n; i++) {
			struct epoch *e = &r->completeness.epochs[i];
			bool current = strcmp(e->epoch, epoch) == 0;

			completeness_doubt(&r->completeness, e->epoch,
					   current ? stamped : UINT64_MAX);
		}
	}
	r->spool = is;
	r->completeness.changed = true;
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
	uint64_t real_ms = now_usec(CLOCK_REALTIME) / 1000, ms = spool_id_ms(e);
	enum seen seen;

	if (!counts(e, record)) {
		if (delivery_has_attempted(r->delivery, e))
			return;
		if (e->source == PLACE_REPLAY) {
			r->stats.replayed++;
			return;
		}
		r->stats.accepted++;
		note_way(r, e);
		return;
	}
	seen = completeness_see(&r->completeness, record->stamp.epoch, record->stamp.sequence, e,
				now_usec(CLOCK_MONOTONIC),
				ms < real_ms ? (real_ms - ms) * 1000 : 0);
	if (seen == SEEN_GAP)
		schedule_judgement(r);
	if (seen == SEEN_AGAIN)
		return;
	r->stats.accepted++;
	note_way(r, e);
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

static enum feed wait_and_retry(struct relay *r, const struct spool_id *e)
{
	queue_put_back(r->queue, e);
	delivery_pause(r->delivery, seconds(r->config->mqtt.retry_min_s));
	return FEED_WAIT;
}

static void note_trouble(struct relay *r, const char *what, const char *name, int error)
{
	if (!r->error_reported)
		log_error("cannot %s event %s: %s; it stays in the spool and is tried again", what,
			  name, strerror(-error));
	r->error_reported = true;
	stats_note_error(&r->stats, "cannot %s event %s: %s", what, name, strerror(-error));
}

/* Memory or the like is short: the event stays, and is tried again. */
static enum feed shortage(struct relay *r, const struct spool_id *e, const char *what, int error)
{
	char name[37];

	spool_id_name(e, name);
	note_trouble(r, what, name, error);
	return wait_and_retry(r, e);
}

/*
 * A record that cannot be read may be of any domain, so nothing may go before it: everything waits
 * for UNREADABLE_USEC. Then the next ones are tried. If one of them can be read, the fault lies in
 * the records that cannot: they are set aside. If none can, it lies elsewhere.
 */
static enum feed unreadable(struct relay *r, const struct spool_id *e, int error)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	char name[37];

	spool_id_name(e, name);
	note_trouble(r, "read", name, error);
	(void)snprintf(r->unreadable_error, sizeof(r->unreadable_error), "%s: %s", name,
		       strerror(-error));
	if (r->n_unreadable == 0) {
		if (r->unreadable_usec == 0 || spool_id_compare(e, &r->unreadable[0]) != 0)
			r->unreadable_usec = now;
		r->unreadable[0] = *e;
	}
	if (is_shortage(error) || now - r->unreadable_usec < UNREADABLE_USEC ||
	    r->n_unreadable == UNREADABLE_MAX)
		return wait_and_retry(r, e);
	r->unreadable[r->n_unreadable++] = *e;
	delivery_hold(r->delivery, e, seconds(r->config->mqtt.retry_max_s));
	return FEED_NEXT;
}

/* Another record can be read: those that cannot be are set aside, in their order. */
static void set_unreadable_aside(struct relay *r)
{
	char reason[256];

	(void)snprintf(reason, sizeof(reason),
		       "it cannot be read (%s); fix that, then `virtspool replay` it",
		       r->unreadable_error);
	for (size_t i = 0; i < r->n_unreadable; i++)
		delivery_fail(r->delivery, &r->unreadable[i], RELAY_FAILURE_RECORD, reason);
	r->n_unreadable = 0;
	r->unreadable_usec = 0;
}

/* Does what the admission says. TOO_LARGE is the caller's. */
static enum feed offer(struct relay *r, const struct offer *o, enum admission *ret_admission)
{
	*ret_admission = delivery_admit(r->delivery, o);
	switch (*ret_admission) {
	case ADMISSION_GO:
		return delivery_publish(r->delivery, o) ? FEED_NEXT : FEED_WAIT;
	case ADMISSION_HOLD:
	case ADMISSION_TOO_LARGE:
		return FEED_NEXT;
	case ADMISSION_WAIT:
		break;
	}
	return FEED_WAIT;
}

/* An event that is too large for the broker goes without its document, if that is the reason. */
static enum feed offer_smaller(struct relay *r, const struct offer *o, const struct record *record)
{
	_cleanup_(event_release) struct event event = {0};
	struct offer smaller = *o;
	enum admission admission;
	const char *reason;
	enum feed feed;
	int k;

	if (!o->event->xml) {
		delivery_fail_too_large(r->delivery, o);
		return FEED_NEXT;
	}
	k = event_build_without_xml(r->config, record, o->entry.source == PLACE_REPLAY, &event,
				    &reason);
	if (k >= 0 && r->signing)
		k = signing_sign(r->signing, &event);
	if (k < 0)
		return shortage(r, &o->entry, "build", k);
	smaller.event = &event;
	feed = offer(r, &smaller, &admission);
	if (admission == ADMISSION_TOO_LARGE)
		delivery_fail_too_large(r->delivery, &smaller);
	return feed;
}

/* --- signing: events are read ahead, signed by a thread, and then offered in their order */

struct ahead {
	struct signing_job job;
	struct spool_id entry;
	uint64_t key;
	size_t file_size;
};

static void ahead_free(struct ahead *a)
{
	event_release(&a->job.event);
	free(a);
}

/* Takes the event over. */
static enum feed read_ahead(struct relay *r, const struct offer *o, struct event *event)
{
	struct ahead *a = malloc(sizeof(*a));

	if (!a)
		return shortage(r, &o->entry, "sign", -ENOMEM);
	*a = (struct ahead){.entry = o->entry, .key = o->key, .file_size = o->file_size};
	a->job.event = *event;
	*event = (struct event){0};
	signing_put(r->signing, &a->job);
	return signing_is_full(r->signing) ? FEED_WAIT : FEED_NEXT;
}

/* Events that were read ahead are read again when it is their turn. */
static void drop_ahead(struct relay *r)
{
	struct ahead *a;

	while (r->signing && (a = (struct ahead *)signing_drop(r->signing))) {
		queue_put_back(r->queue, &a->entry);
		ahead_free(a);
	}
}

static enum feed feed_record(struct relay *r, const struct spool_id *e, struct record *record,
			     size_t size)
{
	_cleanup_(event_release) struct event event = {0};
	struct offer o = {
		.entry = *e, .key = ordering_key(record), .file_size = size, .event = &event};
	const char *reason = NULL;
	enum admission admission;
	enum feed feed;
	int k;

	if (must_settle(r, e, record)) {
		queue_put_back(r->queue, e);
		return FEED_WAIT;
	}
	note_sequence(r, e, record);
	if (e->source != PLACE_REPLAY && r->handlers.read)
		r->handlers.read(record, r->userdata);
	k = event_build(r->config, record, e->source == PLACE_REPLAY, &event, &reason);
	if (k == -EBADMSG) {
		delivery_fail(r->delivery, e, RELAY_FAILURE_RECORD, reason);
		return FEED_NEXT;
	}
	if (k < 0)
		return shortage(r, e, "build", k);
	if (e->source != PLACE_REPLAY && !event_wanted(r->config, record, &event)) {
		delivery_skip(r->delivery, e, size);
		return FEED_NEXT;
	}
	if (r->signing)
		return read_ahead(r, &o, &event);
	feed = offer(r, &o, &admission);
	return admission == ADMISSION_TOO_LARGE ? offer_smaller(r, &o, record) : feed;
}

/* -ENOENT: dropped or replayed by the admin meanwhile; -EBADMSG with the reason. The record lies in
   the queue's buffer. */
static int read_record(struct relay *r, const struct spool_id *e, struct record *ret_record,
		       size_t *ret_size, const char **ret_reason)
{
	char *data, name[37];
	int k;

	k = queue_read(r->queue, e, &data, ret_size, ret_reason);
	if (k == 0)
		k = record_parse(data, *ret_size, ret_record, ret_reason);
	spool_id_name(e, name);
	if (k == 0 && strcmp(ret_record->stamp.id, name) != 0) {
		*ret_reason = "its file name is not its id";
		k = -EBADMSG;
	}
	return k;
}

/* Does with an entry that cannot be read what has to be done. */
static enum feed feed_unreadable(struct relay *r, const struct spool_id *e, int error,
				 const char *reason)
{
	if (error == -ENOENT) {
		queue_gone(r->queue, e);
		return FEED_NEXT;
	}
	if (error != -EBADMSG)
		return unreadable(r, e, error);
	delivery_fail(r->delivery, e, RELAY_FAILURE_RECORD, reason);
	return FEED_NEXT;
}

static enum feed feed_entry(struct relay *r, const struct spool_id *e)
{
	const char *reason = NULL;
	struct record record = {0};
	size_t size;
	int k = read_record(r, e, &record, &size, &reason);

	if (k == 0 || k == -EBADMSG) {
		r->stats.read++;
		set_unreadable_aside(r);
	}
	return k < 0 ? feed_unreadable(r, e, k, reason) : feed_record(r, e, &record, size);
}

/* Offers an event that was signed. */
static enum feed feed_ahead(struct relay *r, struct ahead *a)
{
	struct offer o = {.entry = a->entry,
			  .key = a->key,
			  .file_size = a->file_size,
			  .event = &a->job.event};
	const char *reason = NULL;
	struct record record = {0};
	enum admission admission;
	enum feed feed;
	size_t size;
	int k;

	if (a->job.error < 0) {
		feed = shortage(r, &a->entry, "sign", a->job.error);
	} else {
		feed = offer(r, &o, &admission);
		if (admission == ADMISSION_TOO_LARGE) {
			k = read_record(r, &a->entry, &record, &size, &reason);
			feed = k < 0 ? feed_unreadable(r, &a->entry, k, reason)
				     : offer_smaller(r, &o, &record);
		}
	}
	ahead_free((struct ahead *)signing_take(r->signing));
	return feed;
}

static void offer_ahead(struct relay *r)
{
	struct ahead *a;

	while (r->signing && delivery_is_ready(r->delivery) &&
	       (a = (struct ahead *)signing_peek(r->signing)))
		if (feed_ahead(r, a) == FEED_WAIT)
			drop_ahead(r); /* it was put back, and they come after it */
}

static bool may_feed(const struct relay *r)
{
	return r->config && !r->stopping && !r->next_config && delivery_is_ready(r->delivery) &&
	       (!r->signing || !signing_is_full(r->signing));
}

/*
 * A directory that could not be read may hold events, and nothing reports when it can be read again
 * (except for a missing one, which is watched for). To keep the order, events from the other
 * directories wait for one more scan, and no longer.
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

/* Delivered events that cannot be removed now can perhaps be later. */
static void look_again(struct relay *r)
{
	int enabled = SD_EVENT_OFF;

	(void)sd_event_source_get_enabled(r->rescan, &enabled);
	if (enabled == SD_EVENT_OFF)
		timer_start(r->rescan, RESCAN_USEC);
}

/* Once everything is answered, a stop or a reload goes on. */
static void check_answered(struct relay *r)
{
	if ((r->stopping || r->next_config) && delivery_in_flight(r->delivery) == 0)
		timer_start(r->drain, 0);
}

static void relay_feed(struct relay *r)
{
	struct spool_id e;

	if (!r->stopping && !r->next_config)
		offer_ahead(r);
	while (may_feed(r)) {
		int k = queue_next(r->queue, &e);

		check_identity(r);
		if (k < 0 || queue_is_blind(r->queue))
			rescan_later(r, k);
		else
			r->blind = 0;
		if (k > 0 && r->blind == 1) {
			queue_put_back(r->queue, &e);
			break;
		}
		if (k == 0 && (!r->signing || signing_is_empty(r->signing)) &&
		    delivery_nothing_else(r->delivery))
			continue;
		if (k <= 0 || feed_entry(r, &e) == FEED_WAIT)
			break;
	}
	if (queue_is_stuck(r->queue))
		look_again(r);
	check_answered(r);
	r->handlers.changed(r->userdata);
}

/* --- what the parts report */

static void on_connected(void *userdata)
{
	struct relay *r = userdata;

	r->error_reported = false;
	delivery_connected(r->delivery);
	relay_feed(r);
}

static void on_writable(void *userdata)
{
	relay_feed(userdata);
}

static void on_acknowledged(int mid, unsigned reason_code, void *userdata)
{
	struct relay *r = userdata;

	delivery_acknowledged(r->delivery, mid, reason_code);
	relay_feed(r);
}

static void on_probed(size_t packet_size, bool refused, void *userdata)
{
	struct relay *r = userdata;

	delivery_probed(r->delivery, packet_size, refused);
	relay_feed(r);
}

static bool on_lost(const struct link_loss *loss, void *userdata)
{
	struct relay *r = userdata;
	bool progress = delivery_lost(r->delivery, loss);

	drop_ahead(r);
	check_answered(r);
	r->handlers.changed(r->userdata);
	return progress;
}

static void on_feed(void *userdata)
{
	relay_feed(userdata);
}

/* Records that could not be read are tried again, too. */
static void on_released(void *userdata)
{
	((struct relay *)userdata)->n_unreadable = 0;
}

static int on_rebuild(const struct spool_id *e, bool without_xml, struct event *ret_event,
		      void *userdata)
{
	struct relay *r = userdata;
	struct record record = {0};
	const char *reason;
	size_t size;
	int k = read_record(r, e, &record, &size, &reason);

	if (k < 0)
		return k;
	k = (without_xml ? event_build_without_xml : event_build)(r->config, &record, false,
								  ret_event, &reason);
	return k == 0 && r->signing ? signing_sign(r->signing, ret_event) : k;
}

static void on_archived(uint64_t bytes, void *userdata)
{
	struct relay *r = userdata;

	r->handlers.archived(bytes, r->userdata);
}

/* --- timers */

static int on_rescan(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct relay *r = userdata;

	if (queue_remove_stuck(r->queue) > 0)
		timer_start(r->rescan, 0);
	if (r->blind > 0) {
		r->blind = 2;
		queue_rescan(r->queue);
	}
	relay_feed(r);
	return 0;
}

/* The number that was waited for has not come, or has: a scan shows it. */
static int on_settled(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct relay *r = userdata;

	r->settle_until_usec = 0;
	queue_rescan(r->queue);
	relay_feed(r);
	return 0;
}

/* --- reconfiguration and stop: both wait for what is in flight */

static void start_signing(struct relay *r)
{
	int k = r->next_signer
			? signing_new(r->loop, TAKE_PTR(r->next_signer), on_feed, r, &r->signing)
			: 0;

	if (k < 0) { /* an event that must be signed must not leave unsigned */
		log_error("cannot start the thread that signs: %s", strerror(-k));
		abort(); /* the service manager starts us again */
	}
}

static void use_next_config(struct relay *r)
{
	drop_ahead(r);
	signing_free(TAKE_PTR(r->signing));
	config_free(r->config);
	credentials_unref(r->credentials);
	r->config = TAKE_PTR(r->next_config);
	r->credentials = TAKE_PTR(r->next_credentials);
	start_signing(r);
	if (delivery_configure(r->delivery, r->config) < 0) {
		log_error("no memory for a window of %u events", r->config->mqtt.window);
		abort(); /* nothing can be done without; the service manager starts us again */
	}
	link_start(r->link, r->config, r->credentials, r->signing);
}

static void on_left(void *userdata)
{
	struct relay *r = userdata;

	r->leaving = false;
	(void)sd_event_source_set_enabled(r->drain, SD_EVENT_OFF);
	if (r->stopping)
		r->stopped(r->userdata);
	else
		use_next_config(r);
}

/* Everything in flight has been answered, or is not waited for any more. */
static int on_drained(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct relay *r = userdata;

	if (!r->leaving)
		link_leave(r->link, on_left);
	r->leaving = true;
	return 0;
}

static void drain(struct relay *r)
{
	timer_start(r->drain, delivery_in_flight(r->delivery) > 0
				      ? seconds(r->config->spool.stop_timeout_s)
				      : 0);
}

void relay_configure(struct relay *r, struct config *c, struct credentials *credentials,
		     struct signer *signer)
{
	config_free(r->next_config);
	credentials_unref(r->next_credentials);
	signer_free(r->next_signer);
	r->next_config = c;
	r->next_credentials = credentials;
	r->next_signer = signer;
	if (r->config)
		drain(r);
	else
		use_next_config(r);
}

void relay_stop(struct relay *r, relay_stopped stopped)
{
	r->stopped = stopped;
	r->stopping = true;
	drain(r);
}

void relay_flush(struct relay *r)
{
	delivery_flush(r->delivery);
	link_retry_now(r->link);
	relay_feed(r);
}

void relay_wake(struct relay *r)
{
	/* A new event may have the number that is waited for, which is older than the snapshot. */
	if (r->settle_until_usec > 0)
		queue_rescan(r->queue);
	queue_changed(r->queue);
	relay_feed(r);
}

/* Events that an administrator dropped are reported as lost. */
static void report_dropped(struct relay *r)
{
	uint64_t size = dropped_size(queue_run_dir(r->queue));

	if (size != r->dropped_size)
		link_report(r->link);
	r->dropped_size = size;
}

void relay_renew(struct relay *r)
{
	if (!r->config)
		return;
	link_renew(r->link);
	report_dropped(r);
}

/* --- description */

void relay_prune_attempts(struct relay *r)
{
	delivery_prune_attempts(r->delivery);
}

/* The certificate that is only for signatures; that of tls is reported as our own. */
static struct validity signing_validity(const struct relay *r)
{
	const struct signer *s = r->signing ? signing_signer(r->signing) : NULL;

	if (!s || !r->config->events.sign_certificate_file)
		return (struct validity){0};
	return (struct validity){.begin_s = signer_begin(s), .end_s = signer_end(s)};
}

void relay_describe(const struct relay *r, struct relay_description *ret_description)
{
	struct delivery_description d;
	struct link_description l;

	delivery_describe(r->delivery, &d);
	link_describe(r->link, &l);
	*ret_description = (struct relay_description){
		.config = r->next_config ? r->next_config : r->config,
		.stats = &r->stats,
		.sequence = completeness_latest(&r->completeness),
		.connected = l.connected,
		.broker = l.broker,
		.peer = l.peer,
		.protocol = l.protocol,
		.peer_validity = l.peer_validity,
		.next_connect_usec = l.next_usec,
		.report_refused = l.report_refused,
		.topic_error = l.topic_error,
		.own = l.own,
		.authority = l.authority,
		.signing = signing_validity(r),
		.renewal_error = l.renewal_error,
		.renewal_refused_usec = l.renewal_refused_usec,
		.in_flight = d.in_flight,
		.held = d.held,
		.paused_until_usec = d.paused_until_usec,
		.attempts = d.attempts,
		.n_attempts = d.n_attempts,
		.searching = d.searching,
		.size_taken = d.size_taken,
		.size_limit = d.size_limit,
		.unheard = d.unheard,
		.losses = l.losses,
		.unreadable = r->n_unreadable + (r->n_unreadable == 0 && r->unreadable_usec > 0),
		.unreadable_error = r->unreadable_usec > 0 ? r->unreadable_error : NULL,
	};
}

/* --- birth and death */

static int create_parts(struct relay *r)
{
	static const struct link_handlers link_handlers = {
		.connected = on_connected,
		.writable = on_writable,
		.acknowledged = on_acknowledged,
		.probed = on_probed,
		.lost = on_lost,
	};
	static const struct delivery_handlers delivery_handlers = {
		.feed = on_feed,
		.archived = on_archived,
		.released = on_released,
		.rebuild = on_rebuild,
	};
	int k = link_new(r->loop, &r->stats, &r->completeness, &link_handlers, r, &r->link);

	if (k >= 0)
		k = delivery_new(r->loop, r->queue, r->link, &r->stats, &delivery_handlers, r,
				 &r->delivery);
	if (k >= 0)
		k = loop_add_turn(r->loop, &r->rescan, on_rescan, r);
	if (k >= 0)
		k = loop_add_turn(r->loop, &r->settle, on_settled, r);
	if (k >= 0)
		k = loop_add_turn(r->loop, &r->judge, on_judge, r);
	if (k >= 0)
		k = loop_add_turn(r->loop, &r->drain, on_drained, r);
	return k;
}

/* The spool's identity is not known while its disk hangs; check_identity() learns it later. */
static void load_sequence(struct relay *r)
{
	_cleanup_free_ char *path = NULL;
	struct stat st;

	if (asprintf(&path, "%s/" SPOOL_NEW, queue_spool_dir(r->queue)) < 0)
		path = NULL;
	if (path && queue_check_disk(r->queue) == DISK_ANSWERS && stat(path, &st) == 0)
		r->spool = (struct spool_identity){.device = st.st_dev, .inode = st.st_ino};
	completeness_load(&r->completeness, queue_run_dir(r->queue), &r->spool);
	schedule_judgement(r);
}

void relay_save(struct relay *r, bool clean)
{
	int k = 0;

	if (clean || r->completeness.changed)
		k = completeness_save(&r->completeness, queue_run_dir(r->queue), &r->spool, clean);
	if (k < 0)
		log_debug("cannot write '%s/sequence': %s", queue_run_dir(r->queue), strerror(-k));
}

int relay_new(sd_event *loop, struct queue *q, const struct relay_handlers *h, void *userdata,
	      struct relay **ret_relay)
{
	struct relay *r = calloc(1, sizeof(*r));
	int k;

	if (!r)
		return -ENOMEM;
	r->loop = sd_event_ref(loop);
	r->queue = q;
	r->handlers = *h;
	r->userdata = userdata;
	k = create_parts(r);
	if (k < 0) {
		relay_free(r);
		return k;
	}
	load_sequence(r);
	*ret_relay = r;
	return 0;
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	link_free(r->link);
	delivery_free(r->delivery);
	drop_ahead(r);
	signing_free(r->signing);
	signer_free(r->next_signer);
	sd_event_source_disable_unref(r->rescan);
	sd_event_source_disable_unref(r->settle);
	sd_event_source_disable_unref(r->judge);
	sd_event_source_disable_unref(r->drain);
	sd_event_unref(r->loop);
	config_free(r->config);
	config_free(r->next_config);
	credentials_unref(r->credentials);
	credentials_unref(r->next_credentials);
	free(r);
}
