/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * relay - the delivery policy: from the queue, through a client, until the broker has answered for
 * each event.
 *
 * It decides which broker is tried and when (order of preference, capped back-off with jitter),
 * what is fed (in order, no more than a window unacknowledged), and what an answer means. The
 * outcome of a publish is one of:
 *
 *   DELIVERED  the broker has taken responsibility: sent/
 *   REJECTED   the refusal lies in the event (malformed, too large): failed/, on with the next
 *   DENIED     the refusal lies in this event's rights (not authorized): it stays, its domain's later events wait
 *              behind it, those of other domains go on; tried again with a back-off
 *   BUSY       the refusal lies in the broker (quota, busy): everything waits for a back-off
 *
 * It knows neither network nor files except through client.h and queue.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "spooler/daemon/attempts.h"
#include "spooler/daemon/losses.h"
#include "spooler/mqtt/client.h"
#include "spooler/config/config.h"
#include "spooler/daemon/queue.h"
#include "spooler/spool/sequence.h"

#define RELAY_LATENCY_BUCKETS 12
#define RELAY_ERROR_MAX 512

/* Why an event can never be delivered. */
enum relay_failure {
	RELAY_FAILURE_REFUSED,	  /* the broker answered so: REJECTED */
	RELAY_FAILURE_TOO_LARGE,  /* larger than the largest packet that the broker takes */
	RELAY_FAILURE_TOPIC,	  /* MQTT forbids its topic */
	RELAY_FAILURE_RECORD,	  /* damaged, or nothing that an event can be made of */
	RELAY_FAILURE_CONNECTION, /* the broker ends the connection each time it is given this one */
	RELAY_N_FAILURES,
};

/* What has happened since start. Times are CLOCK_REALTIME microseconds, 0: never. */
struct relay_stats {
	uint64_t accepted;     /* live events taken up for the first time */
	uint64_t replayed;     /* taken up from replay/ */
	uint64_t read;	       /* records taken up from the spool for the first time or again */
	uint64_t published;    /* handed to the broker, repetitions included */
	uint64_t acknowledged; /* delivered */
	uint64_t duplicated;   /* published again after a lost connection */
	uint64_t skipped;      /* filtered out */
	uint64_t denied, busy; /* refusals that left the event where it is */
	uint64_t answers[256]; /* to publishes, by reason code; from 0x80 on refusals */
	uint64_t failed[RELAY_N_FAILURES]; /* moved to failed/ */
	uint64_t emergency;		   /* of those accepted, from the emergency spool */
	uint64_t emergency_run;		   /* in a row, up to the last event accepted */
	uint64_t emergency_usec;	   /* when the last one was */
	uint64_t connects, connection_losses;
	uint64_t archived, archived_bytes; /* moved to sent/ and skipped/ for the first time */
	uint64_t latency_buckets[RELAY_LATENCY_BUCKETS +
				 1]; /* publish to acknowledgement; last: above all bounds */
	uint64_t latency_sum_usec;
	uint64_t connected_usec; /* since when; 0: not connected */
	uint64_t last_delivered_usec;
	uint64_t last_error_usec;
	char last_error[3 * RELAY_ERROR_MAX +
			1]; /* UTF-8 without control characters: brokers have a say in it */
};

/* Upper bounds of the latency buckets in microseconds. */
extern const uint64_t relay_latency_bounds[RELAY_LATENCY_BUCKETS];

enum relay_outcome {
	RELAY_DELIVERED,
	RELAY_REJECTED,
	RELAY_DENIED,
	RELAY_BUSY,
};

/* What a PUBACK's (PUBREC's, PUBCOMP's) reason code means: MQTT 5 sections 3.4.2.1, 3.5.2.1,
   3.7.2.1. */
enum relay_outcome relay_outcome(unsigned reason_code);

struct relay;
typedef void (*relay_changed)(void *userdata);

/* `changed` is called when something that status or the archive would like to know has changed. */
int relay_new(sd_event *loop, struct queue *q, relay_changed changed, void *userdata,
	      struct relay **ret_relay);
void relay_free(struct relay *r); /* NULL is fine */

/*
 * Takes over this configuration and these credentials. If there is a connection, what is in flight
 * is waited for, at most the configured stop time, before a new one is made with them.
 */
void relay_configure(struct relay *r, struct config *c, struct credentials *credentials);
const struct config *relay_config(const struct relay *r); /* the one that was taken over last */

/* Something may have come into the spool. */
void relay_wake(struct relay *r);

/* Stops feeding, waits at most the configured stop time for what is in flight, disconnects, then
   calls `stopped`. */
void relay_stop(struct relay *r, relay_changed stopped);

/*
 * All that status, metrics and the verdict read, as of now. Pointers are borrowed and valid until the
 * loop's next turn; strings that a broker had a say in are UTF-8 without control characters.
 * Times are CLOCK_REALTIME microseconds; 0: never, or not known.
 */
struct relay_description {
	const struct config *config; /* the one that was taken over last; NULL before the first */
	const struct relay_stats *stats;
	const struct sequence *sequence;

	/* the connection */
	bool connected;
	const char *broker;	       /* URL of the one that is connected, or tried */
	const char *peer;	       /* "HOST (ADDRESS:PORT)"; NULL unless connected */
	const char *protocol;	       /* NULL unless connected */
	struct validity peer_validity; /* of the broker's certificate; not known unless connected */
	uint64_t
		next_connect_usec; /* when the next attempt is due; 0: there is one, or it succeeded */

	/* what is under way, and what waits for more than its turn */
	unsigned in_flight;
	uint64_t held; /* events that wait for a refused, a suspected or an unreadable one */
	uint64_t paused_until_usec;	/* nothing is published before, as the broker is busy */
	const struct attempt *attempts; /* events that were published without success, and wait */
	size_t n_attempts;

	struct losses_summary losses; /* within the last hour */
	uint64_t unreadable;	      /* records that wait because they cannot be read */
	const char *unreadable_error; /* the last one's; NULL: there is none */

	/* 0x10, no matching subscribers: how many answers in a row up to now, since when */
	uint64_t unheard, unheard_since_usec;
};

void relay_describe(const struct relay *r, struct relay_description *ret_description);
/* Forgets attempts at events that are gone, as an administrator may have dropped them. Looks at
   the disk. */
void relay_prune_attempts(struct relay *r);
