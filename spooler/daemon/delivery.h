/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * delivery - from an event that is ready to be published to its end: the window of unanswered
 * events, whether the next one may go, and what an answer means.
 *
 * The outcome of a publish is one of:
 *
 *   DELIVERED  the broker has taken responsibility: sent/
 *   REJECTED   the refusal lies in the event (malformed, too large): failed/, on with the next
 *   DENIED     the refusal lies in this event's rights (not authorized), or nobody has subscribed
 *              and mqtt.require_subscriber is set: it stays, later events of its domain wait for
 *              it, those of other domains go on; it is tried again with a back-off
 *   BUSY       the refusal lies in the broker (quota, busy): everything waits for a back-off
 *
 * An event over which the broker ends the connection is found by poison.h. Sizes: an event that is
 * larger than this broker takes can never be delivered; but a limit that the broker announces and
 * does not keep to, or under which nothing could be delivered at all, is a fault of the connection,
 * and the next broker is tried.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "spooler/config/config.h"
#include "spooler/daemon/attempts.h"
#include "spooler/daemon/link.h"
#include "spooler/daemon/queue.h"
#include "spooler/daemon/stats.h"
#include "spooler/daemon/unheard.h"
#include "spooler/event/event.h"

enum delivery_outcome {
	DELIVERY_DELIVERED,
	DELIVERY_REJECTED,
	DELIVERY_DENIED,
	DELIVERY_BUSY,
};

/* What the reason code of a PUBACK (PUBREC, PUBCOMP) means: MQTT 5 sections 3.4.2.1, 3.5.2.1,
   3.7.2.1. */
enum delivery_outcome delivery_outcome(unsigned reason_code, bool require_subscriber);

/* An event that is ready to be published. */
struct offer {
	struct spool_id entry;
	uint64_t key;	  /* its ordering key, see denied.h */
	size_t file_size; /* of its record */
	const struct event *event;
};

enum admission {
	ADMISSION_GO,
	ADMISSION_HOLD,	     /* not this one now; on with the next */
	ADMISSION_WAIT,	     /* nothing more now; an answer, a timer or a connection will follow */
	ADMISSION_TOO_LARGE, /* for this broker: can the event be made smaller? */
};

struct delivery_handlers {
	void (*feed)(void *userdata);	  /* something may be published again */
	void (*released)(void *userdata); /* everything that was held is handed out again */
	void (*archived)(uint64_t bytes, void *userdata); /* one more file in sent/ or skipped/ */
	/* Makes the event of an entry in sent/ once more, as it was delivered. Negative errno: it
	   cannot be made. */
	int (*rebuild)(const struct spool_id *e, bool without_xml, struct event *ret_event,
		       void *userdata);
};

struct delivery;

int delivery_new(sd_event *loop, struct queue *q, struct link *l, struct relay_stats *stats,
		 const struct delivery_handlers *h, void *userdata, struct delivery **ret_delivery);
void delivery_free(struct delivery *d); /* NULL is fine */
/* Borrowed. Not while something is in flight. -ENOMEM. */
int delivery_configure(struct delivery *d, const struct config *c);

/* Cheap: is there any use in reading the next record? */
bool delivery_is_ready(const struct delivery *d);
enum admission delivery_admit(struct delivery *d, const struct offer *o);
/* After ADMISSION_GO. Returns false if nothing more can be published now. */
bool delivery_publish(struct delivery *d, const struct offer *o);
/* Nothing waits except held events. Returns whether some of these may be tried. */
bool delivery_nothing_else(struct delivery *d);

/* Ends without a broker. */
void delivery_fail(struct delivery *d, const struct spool_id *e, enum relay_failure failure,
		   const char *reason);
void delivery_fail_too_large(struct delivery *d, const struct offer *o);
void delivery_skip(struct delivery *d, const struct spool_id *e, size_t file_size);
/* Not now: it is given again after `usec` at the latest. */
void delivery_hold(struct delivery *d, const struct spool_id *e, uint64_t usec);
/* Nothing is published for this long. */
void delivery_pause(struct delivery *d, uint64_t usec);
/* Everything that waits for a back-off is tried now. */
void delivery_flush(struct delivery *d);

/* What happens on the link. */
void delivery_connected(struct delivery *d);
void delivery_acknowledged(struct delivery *d, int mid, unsigned reason_code);
void delivery_probed(struct delivery *d, size_t packet_size, bool refused);
bool delivery_lost(struct delivery *d, const struct link_loss *loss);

unsigned delivery_in_flight(const struct delivery *d);
bool delivery_has_attempted(const struct delivery *d, const struct spool_id *e);
/* Forgets attempts at events that are gone, for example because an administrator dropped them, and
   counts the events that wait for the others. Looks at the disk. */
void delivery_prune_attempts(struct delivery *d);

struct delivery_description {
	unsigned in_flight;
	uint64_t held;
	uint64_t paused_until_usec; /* CLOCK_REALTIME; 0: not paused */
	const struct attempt *attempts;
	size_t n_attempts;
	struct unheard unheard;
	size_t size_taken, size_limit; /* of this broker's packets, see poison.h; 0: not known */
	bool searching;		       /* events are given singly, to find a poison message */
};
void delivery_describe(const struct delivery *d, struct delivery_description *ret_description);
