/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * status-file - what the daemon says about itself, for programs that look: RUNDIR/status.json.
 *
 * The daemon fills a struct status_file and replaces the file atomically, at most once a second;
 * everybody else reads it back into the same struct. It is a hint, like everything in RUNDIR: it is
 * old once its process is gone, and whoever took over the daemon may have written it. So it is read
 * with safe-read.h, and no value in it is trusted. Facts that can be seen on the disk itself (how
 * much waits) are not taken from it.
 *
 * status_file_fields is the one table of the daemon's counters: the file, the metrics and the list
 * in virtspoold(8) have their names from there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spooler/base/fields.h"

#define STATUS_FILE "status.json"
#define STATUS_FILE_MAX (256 * 1024)
#define STATUS_ATTEMPTS_MAX 256
#define STATUS_LATENCY_BUCKETS 12

/* An event that was published without success and waits. */
struct status_attempt {
	const char *id, *why, *topic; /* topic: NULL if it is not known */
	bool refused; /* by the broker, and it is tried again; otherwise the connection was lost */
	uint64_t attempts;
	uint64_t next_usec; /* when it is tried again; 0: with the next connection, or not known */
	uint64_t waiting;   /* later events of its domain that wait for it */
};

/* Times are microseconds since 1970, 0: never. Strings that are not known are NULL. */
struct status_file {
	/* the process */
	uint64_t pid, started_usec, written_usec;
	const char *version, *config, *host;
	const char *health; /* the daemon's own verdict: healthy, degraded */

	/* a reload that was refused, until one is not */
	uint64_t reload_refused_usec;
	const char *reload_error;

	/* the connection; peer and protocol while there is one */
	bool connected;
	const char *broker, *peer, *protocol;
	uint64_t connected_since_usec, connects, losses;
	uint64_t next_connect_usec; /* when the next attempt is due; 0: it is under way */
	uint64_t paused_until_usec; /* nothing is published before: the broker is busy */
	uint64_t last_error_usec;
	const char *last_error;
	/* Why a broker did not take the will or the retained message. */
	const char *status_topic_error;

	/* how connections ended within the last hour; or within less, if there were too many to
	   remember them all */
	uint64_t losses_last_hour, losses_span_ms;
	uint64_t loss_lasted_ms;  /* a typical one of them: from CONNACK to its end */
	uint64_t loss_silence_ms; /* and how long nothing had been sent by then */
	bool losses_steady;	  /* these silences are about the same each time */
	uint64_t taken_over;	  /* of them: another client had the same client id (0x8e) */
	uint64_t losses_idle;	  /* of them: closed without a word while no answer was due */
	const char *client_id;
	uint64_t keep_alive_s;

	/* certificates: when they begin and end */
	uint64_t signing_begin_usec, signing_end_usec; /* 0: not one of its own */
	uint64_t own_begin_usec, own_end_usec, authority_begin_usec, authority_end_usec,
		broker_begin_usec, broker_end_usec;

	/* events since the start */
	uint64_t accepted, replayed, read, published, acknowledged, duplicated, skipped, denied,
		busy, dropped, emergency_taken;
	uint64_t failed, failed_refused, failed_too_large, failed_topic, failed_record,
		failed_connection;
	uint64_t answers[256]; /* to publishes, by reason code; refusals are those from 0x80 on */
	uint64_t last_delivered_usec;
	uint64_t latency_buckets[STATUS_LATENCY_BUCKETS + 1]; /* last: above all bounds */
	uint64_t latency_sum_usec;

	/* acknowledgements in a row that said "no matching subscribers" (0x10), the last
	   included, and the time of the first of these events: where a replay has to begin */
	uint64_t unheard, unheard_since_usec;
	/* and rows of them that have ended, without what was replayed since */
	uint64_t unheard_before, unheard_before_since_usec, unheard_before_until_usec;

	/* what waits, as the daemon sees it */
	uint64_t waiting, waiting_emergency, oldest_usec, oldest_age_ms, held, in_flight;
	/* of it, what waits because the broker refuses the right to publish it (0x87) */
	uint64_t denied_waiting, denied_domains;
	/* of it, records that cannot be read, and why the last one cannot */
	uint64_t unreadable;
	const char *unreadable_error;
	const char *spool_error; /* the spool on disk cannot be read */
	/* why no record can be written to it; and events in a row that came through the emergency
	   spool, the last one at that time, until one comes through the disk again */
	const char *emergency_error;
	uint64_t emergency_run, emergency_last_usec;
	struct status_attempt attempts[STATUS_ATTEMPTS_MAX];
	size_t n_attempts;

	/* what is kept */
	uint64_t sent, sent_bytes, kept_failed;

	/* the hook's sequence */
	const char *epoch;
	uint64_t highest, missing;

	json_t *storage; /* of the strings, if it was read from a file */
};

extern const struct field status_file_fields[];
extern const size_t status_file_n_fields;

/* Upper bounds of the latency buckets in microseconds. */
extern const uint64_t status_latency_bounds[STATUS_LATENCY_BUCKETS];

/* What is known of this event's attempts; NULL: nothing. */
const struct status_attempt *status_file_attempt(const struct status_file *s, const char *id);
json_t *status_attempt_to_json(const struct status_attempt *a);

/* As JSON: a new reference; NULL without memory. */
json_t *status_file_to_json(const struct status_file *s);
/* From JSON text. -EBADMSG if it is not an object, -ENOMEM. To be released. */
int status_file_parse(const char *text, size_t size, struct status_file *ret_status);
void status_file_release(struct status_file *s); /* a zeroed struct is fine */

/* Writes RUNDIR/status.json. Negative errno. */
int status_file_write(const char *run_dir, const struct status_file *s);
/* Removes it: the daemon is down on purpose. */
void status_file_remove(const char *run_dir);
/*
 * Reads RUNDIR/status.json. -ENOENT if the daemon is not running, also if it was killed and left
 * the file; otherwise an error of safe_read(), for safe_read_error(). To be released; on an error
 * it is all zeros.
 */
int status_file_read(const char *run_dir, struct status_file *ret_status);
