/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* status - see status.h. */
#include "spooler/daemon/status.h"
#include "spooler/base/util.h"

_Static_assert(ATTEMPTS_MAX <= STATUS_ATTEMPTS_MAX, "each attempt has room in the status file");

static uint64_t seconds_to_usec(int64_t s)
{
	return s > 0 ? (uint64_t)s * USEC_PER_SEC : 0;
}

static void collect_events(const struct relay_stats *s, struct status_file *ret)
{
	ret->accepted = s->accepted;
	ret->replayed = s->replayed;
	ret->read = s->read;
	ret->published = s->published;
	ret->acknowledged = s->acknowledged;
	ret->duplicated = s->duplicated;
	ret->skipped = s->skipped;
	ret->denied = s->denied;
	ret->busy = s->busy;
	ret->failed_refused = s->failed[RELAY_FAILURE_REFUSED];
	ret->failed_too_large = s->failed[RELAY_FAILURE_TOO_LARGE];
	ret->failed_topic = s->failed[RELAY_FAILURE_TOPIC];
	ret->failed_record = s->failed[RELAY_FAILURE_RECORD];
	ret->failed_connection = s->failed[RELAY_FAILURE_CONNECTION];
	for (size_t i = 0; i < RELAY_N_FAILURES; i++)
		ret->failed += s->failed[i];
	memcpy(ret->answers, s->answers, sizeof(ret->answers));
	memcpy(ret->latency_buckets, s->latency_buckets, sizeof(ret->latency_buckets));
	ret->latency_sum_usec = s->latency_sum_usec;
	ret->last_delivered_usec = s->last_delivered_usec;
	ret->emergency_taken = s->emergency;
	ret->emergency_run = s->emergency_run;
	ret->emergency_last_usec = s->emergency_usec;
}

static void collect_connection(const struct relay_description *d, struct status_file *ret)
{
	const struct relay_stats *s = d->stats;

	ret->connected = d->connected;
	ret->broker = d->broker;
	ret->peer = d->peer;
	ret->protocol = d->protocol;
	ret->next_connect_usec = d->next_connect_usec;
	ret->paused_until_usec = d->paused_until_usec;
	ret->unheard = d->unheard.now.events;
	ret->unheard_since_usec = d->unheard.now.since_usec;
	ret->unheard_before = d->unheard.before.events;
	ret->unheard_before_since_usec = d->unheard.before.since_usec;
	ret->unheard_before_until_usec = d->unheard.before.until_usec;
	ret->connected_since_usec = s->connected_usec;
	ret->connects = s->connects;
	ret->losses = s->connection_losses;
	ret->last_error_usec = s->last_error_usec;
	ret->last_error = s->last_error[0] ? s->last_error : NULL;
	ret->losses_last_hour = d->losses.count;
	ret->losses_span_ms = d->losses.span_usec / 1000;
	ret->losses_idle = d->losses.idle;
	ret->losses_steady = d->losses.steady;
	ret->taken_over = d->losses.taken_over;
	ret->loss_lasted_ms = d->losses.lasted_usec / 1000;
	ret->loss_silence_ms = d->losses.silence_usec / 1000;
	ret->client_id = d->config ? d->config->mqtt.client_id : NULL;
	ret->keep_alive_s = d->config ? d->config->mqtt.keep_alive_s : 0;
	ret->unreadable = d->unreadable;
	ret->unreadable_error = d->unreadable_error;
	ret->broker_begin_usec = seconds_to_usec(d->peer_validity.begin_s);
	ret->broker_end_usec = seconds_to_usec(d->peer_validity.end_s);
}

static void collect_attempts(struct status_view *v, const struct relay_description *d,
			     struct status_file *ret)
{
	for (size_t i = 0; i < d->n_attempts; i++) {
		const struct attempt *a = &d->attempts[i];

		spool_id_name(&a->entry, v->ids[i]);
		ret->attempts[i] = (struct status_attempt){
			.id = v->ids[i],
			.attempts = a->count,
			.why = a->why,
			.topic = a->topic[0] ? a->topic : NULL,
			.next_usec = a->next_usec,
			.waiting = a->waiting,
			.refused = a->key != 0,
		};
		if (a->key != 0) {
			ret->denied_waiting += 1 + a->waiting;
			ret->denied_domains++;
		}
	}
	ret->n_attempts = d->n_attempts;
}

void status_collect(struct status_view *v, struct status_file *ret)
{
	const struct housekeeping_counts *a = housekeeping_counts(v->housekeeping);
	struct relay_description d;
	uint64_t oldest_ms;

	relay_prune_attempts(v->relay);
	relay_describe(v->relay, &d);
	*ret = (struct status_file){
		.pid = (uint64_t)getpid(),
		.version = PACKAGE_VERSION,
		.config = v->config_path,
		.host = d.config ? d.config->host : NULL,
		.started_usec = v->started_usec,
		.written_usec = now_usec(CLOCK_REALTIME),
		.reload_refused_usec =
			v->reload_refused_usec ? v->reload_refused_usec : d.renewal_refused_usec,
		.reload_error = v->reload_error ? v->reload_error : d.renewal_error,
		.status_topic_error = d.topic_error,
		.emergency_error = v->emergency_error,
		.own_begin_usec = seconds_to_usec(d.own.begin_s),
		.own_end_usec = seconds_to_usec(d.own.end_s),
		.signing_begin_usec = seconds_to_usec(d.signing.begin_s),
		.signing_end_usec = seconds_to_usec(d.signing.end_s),
		.authority_begin_usec = seconds_to_usec(d.authority.begin_s),
		.authority_end_usec = seconds_to_usec(d.authority.end_s),
		.held = d.held,
		.in_flight = d.in_flight,
		.spool_error = queue_error(v->queue),
		.dropped = a->dropped,
		.sent = a->sent,
		.sent_bytes = a->sent_bytes,
		.kept_failed = a->failed,
		.epoch = d.sequence->epoch,
		.highest = d.sequence->highest,
		.missing = d.sequence->missing,
	};
	ret->waiting = queue_length(v->queue, &oldest_ms);
	ret->waiting_emergency = queue_emergency_length(v->queue);
	ret->oldest_usec = oldest_ms * 1000;
	collect_events(d.stats, ret);
	collect_connection(&d, ret);
	collect_attempts(v, &d, ret);
}
