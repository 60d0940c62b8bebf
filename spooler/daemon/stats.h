/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stats - what the delivery has done since start, and its last error: for status and metrics. Times
 * are CLOCK_REALTIME microseconds, 0: never.
 */
#pragma once

#include <stdint.h>

#include "spooler/spool/status-file.h"

#define RELAY_ERROR_MAX 512

/* Why an event can never be delivered. */
enum relay_failure {
	RELAY_FAILURE_REFUSED,	  /* the broker refused it with a reason that lies in the event */
	RELAY_FAILURE_TOO_LARGE,  /* larger than the largest packet that the broker takes */
	RELAY_FAILURE_TOPIC,	  /* MQTT forbids its topic */
	RELAY_FAILURE_RECORD,	  /* damaged, unreadable, or no event can be made of it */
	RELAY_FAILURE_CONNECTION, /* a poison message: the broker ends the connection over it */
	RELAY_N_FAILURES,
};

struct relay_stats {
	uint64_t accepted;     /* live events taken up for the first time */
	uint64_t replayed;     /* taken up from replay/ */
	uint64_t read;	       /* records read from the spool, again or for the first time */
	uint64_t published;    /* handed to the broker, repetitions included */
	uint64_t acknowledged; /* delivered */
	uint64_t duplicated;   /* published again after a lost connection */
	uint64_t skipped;      /* filtered out */
	uint64_t xml_omitted; /* delivered without their document, which the broker does not take */
	uint64_t denied, busy;		   /* refusals that left the event where it is */
	uint64_t answers[256];		   /* to publishes, by reason code; refusals from 0x80 on */
	uint64_t failed[RELAY_N_FAILURES]; /* moved to failed/ */
	uint64_t emergency;		   /* of those accepted, from the emergency spool */
	uint64_t emergency_run;		   /* in a row, up to the last event accepted */
	uint64_t emergency_usec;	   /* when the last one was */
	uint64_t connects, connection_losses;
	uint64_t probes; /* published to find out over what a broker ends the connection */
	/* From publish to acknowledgement; the last is above all bounds. */
	uint64_t latency_buckets[STATUS_LATENCY_BUCKETS + 1];
	uint64_t latency_sum_usec;
	uint64_t connected_usec; /* since when; 0: not connected */
	uint64_t last_delivered_usec;
	uint64_t last_error_usec;
	/* UTF-8 without control characters, as brokers have a say in it. */
	char last_error[3 * RELAY_ERROR_MAX + 1];
};

/* Keeps the last error; the log line is the caller's. */
void stats_note_error(struct relay_stats *s, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void stats_note_latency(struct relay_stats *s, uint64_t usec);
