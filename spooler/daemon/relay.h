/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * relay - feeds what waits in the spool to a broker, oldest first.
 *
 * The parts: the queue (queue.h) gives what waits; the link (link.h) is the connection; the
 * delivery (delivery.h) says what may be published now, and brings each event to its end. The relay
 * reads the records, makes events of them, watches the sequence, and takes a new configuration
 * over.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "spooler/config/config.h"
#include "spooler/event/signature.h"
#include "spooler/daemon/attempts.h"
#include "spooler/daemon/completeness.h"
#include "spooler/daemon/losses.h"
#include "spooler/daemon/queue.h"
#include "spooler/daemon/stats.h"
#include "spooler/daemon/unheard.h"
#include "spooler/mqtt/transport.h"

struct record;
struct relay;

typedef void (*relay_stopped)(void *userdata);

struct relay_handlers {
	/* A record was read, for the first time or again; those that are replayed are not given. */
	void (*read)(const struct record *record, void *userdata);
	void (*changed)(void *userdata); /* something that relay_describe() says has changed */
	void (*archived)(uint64_t bytes, void *userdata); /* one more file in sent/ or skipped/ */
};

int relay_new(sd_event *loop, struct queue *q, const struct relay_handlers *h, void *userdata,
	      struct relay **ret_relay);
void relay_free(struct relay *r); /* NULL is fine */

/*
 * Takes over this configuration, these credentials and what signs the events (NULL: nothing). If
 * there is a connection, what is in flight is waited for, at most the configured stop time, before
 * a new one is made with them.
 */
void relay_configure(struct relay *r, struct config *c, struct credentials *credentials,
		     struct signer *signer);

/* From time to time: looks for renewed certificates (link_renew()), and reports events that were
   dropped meanwhile. */
void relay_renew(struct relay *r);

/* Something may have come into the spool. */
void relay_wake(struct relay *r);
/* Tries everything now that waits for a back-off: the connection, refused and held events. */
void relay_flush(struct relay *r);

/* Stops feeding, waits at most the configured stop time for what is in flight, reports offline and
   disconnects, then calls `stopped`. */
void relay_stop(struct relay *r, relay_stopped stopped);

/*
 * All that status, metrics and the verdict read, as of now. Pointers are borrowed and valid until
 * the loop's next turn; strings that a broker had a say in are UTF-8 without control characters.
 * Times are CLOCK_REALTIME microseconds; 0: never, or not known.
 */
struct relay_description {
	const struct config *config; /* the one that was taken over last; NULL before the first */
	const struct relay_stats *stats;
	const struct epoch *sequence; /* of the last boot that was seen; never NULL */

	/* the connection */
	bool connected;
	const char *broker;	       /* URL of the one that is connected, or tried */
	const char *peer;	       /* "HOST (ADDRESS:PORT)"; NULL unless connected */
	const char *protocol;	       /* NULL unless connected */
	struct validity peer_validity; /* of the broker's certificate; not known unless connected */
	/* When the next attempt is due; 0: there is one, or it succeeded. */
	uint64_t next_connect_usec;
	bool report_refused;	 /* this broker ends the connection over the online report */
	const char *topic_error; /* what it does not take on mqtt.status_topic; NULL: nothing */
	struct validity own, authority; /* of our certificate, and of tls.ca_file */
	struct validity signing;	/* of events.sign_certificate_file, if it is used */
	const char *renewal_error;	/* why renewed files cannot be used; NULL: they can */
	uint64_t renewal_refused_usec;

	/* what is under way, and what waits for more than its turn */
	unsigned in_flight;
	uint64_t held; /* events that wait for a refused, a suspected or an unreadable one */
	uint64_t paused_until_usec;	/* nothing is published before: the broker is busy */
	const struct attempt *attempts; /* events that were published without success, and wait */
	size_t n_attempts;
	bool searching; /* events go one by one, to find the one over which the connection ends */

	/* bytes of a whole packet; 0: not known */
	size_t size_taken; /* the largest that this broker has answered */
	size_t size_limit; /* it ends the connection over this size and above */

	struct losses_summary losses; /* within the last hour */
	uint64_t unreadable;	      /* records that wait because they cannot be read */
	const char *unreadable_error; /* the last one's; NULL: there is none */

	/* 0x10, no matching subscribers: how many answers in a row up to now, the first event's
	   time */
	struct unheard unheard;
};

/* Keeps what is known of the sequence for the next start; `clean`: nothing is taken up after
   this. */
void relay_save(struct relay *r, bool clean);

void relay_describe(const struct relay *r, struct relay_description *ret_description);
/* Brings the attempts up to date: forgets those at events that are gone, for example because an
   administrator dropped them, and counts the events that wait for the others. Looks at the disk. */
void relay_prune_attempts(struct relay *r);
