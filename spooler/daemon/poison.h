/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * poison - finds the events over which a broker ends the connection: is it the event, its size, or
 * the broker?
 *
 * A pure state machine: connections, answers and losses in; what to do with the next event out.
 *
 * A connection that is lost with unanswered events proves nothing. If the next one is lost as well
 * before these events are answered, they are sent singly, oldest first, each on a connection on
 * which the broker has just answered a control: the online report, or a probe (the same message
 * once more). Before an event that is larger than anything this broker has answered, the probe is
 * padded to its size. For a broker that ends the connection over the report, the control is the
 * event that it took last, sent once more. So each loss has one cause:
 *
 *   over the small control    the broker, or the connection: nobody is suspected
 *   over the padded probe     the size: after two losses the broker's limit is known, and events of
 *                             this size or above are too large, without a connection lost over each
 *   over the event            the event: after three losses it is convicted, as a poison message
 *
 * A poison message therefore costs at most five connections, and three if it was in flight together
 * with another one, whatever their order and their domains; each new limit costs two. The events
 * around it are delivered meanwhile, one at a time, in their order.
 *
 * If the report ends the connection and the broker has not taken any event yet, an event of another
 * domain is the control. If there is no such event, the suspect is tried, but cannot be convicted.
 *
 * A broker that ends the connection with a reason that lies in itself (busy, a quota) convicts
 * nobody. If it does so over one event alone three times, that event is held back, and tried again
 * later.
 *
 * A broker that answers controls and ends the connection over every event would have all of them
 * set aside. It is slowed down: poison_progress() holds for the first convictions without a
 * delivery in between, and then the back-off between connections grows.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spooler/spool/spoolid.h"

#define POISON_STRIKES 3       /* connections lost over one event alone, after a control */
#define POISON_PROBE_STRIKES 2 /* connections lost over padded probes of one size */
#define POISON_SUSPECTS_MAX 32 /* that wait for another event as a control */
#define POISON_UNPUNISHED 8    /* convictions without a delivery before the back-off grows */

/* What is known of one broker's sizes: of whole PUBLISH packets, in bytes. */
struct poison_sizes {
	size_t taken; /* the largest one that it answered */
	size_t limit; /* it ends the connection over this size and above; 0: not known */
};

/* A zeroed struct suspects nothing; poison_connected() comes before all else. */
struct poison {
	struct poison_sizes *sizes; /* of the broker in use */
	size_t doubtful;	    /* answers to wait for before events go in parallel again */
	bool singly;
	struct spool_id suspect;
	/* Of all that a connection was lost over alone. */
	uint64_t suspect_keys[POISON_SUSPECTS_MAX];
	size_t n_suspect_keys;
	unsigned strikes; /* connections lost over the suspect, after a control */
	size_t probe_size;
	unsigned probe_strikes; /* connections lost over probes of probe_size */
	unsigned convicted;	/* in a row, without a delivery */
	bool progress;		/* the last loss was evidence */

	/* of this connection */
	bool can_probe, can_pad, probing, lonely;
	size_t probing_size;
	unsigned answers;
};

enum poison_advice {
	POISON_GO,
	POISON_WAIT,	  /* for an answer */
	POISON_PROBE,	  /* publish a probe of *ret_probe_size (0: any control), and wait */
	POISON_HOLD,	  /* let events of other domains go first */
	POISON_TOO_LARGE, /* for this broker */
};

/* Why a connection was lost, as far as an event can be the reason. */
enum poison_evidence {
	POISON_EVIDENCE_NONE,	/* the broker said that it has another reason */
	POISON_EVIDENCE_EVENT,	/* an event may be the reason */
	POISON_EVIDENCE_RIGHTS, /* the broker said that one of the messages is not authorized */
	POISON_EVIDENCE_BROKER, /* the broker said that the reason lies in itself */
};

enum poison_verdict {
	POISON_INNOCENT,
	POISON_CONVICTED, /* the only unanswered event is a poison message */
	POISON_DENIED, /* the only unanswered event is treated as not authorized: refused for now */
};

/* An event, as far as this is concerned. */
struct poison_event {
	struct spool_id id;
	uint64_t key; /* its ordering key */
	size_t size;  /* of its packet */
};

/* From the codes of MQTT 5 (3.14.2.1); disconnect_reason is only looked at if the broker sent a
   DISCONNECT. */
enum poison_evidence poison_evidence(bool disconnected, unsigned disconnect_reason);

/* A connection begins. `can_probe`: there is something to publish as a control; `can_pad`: which may
   have any size. */
void poison_connected(struct poison *p, struct poison_sizes *sizes, bool can_probe, bool can_pad);
/* May this one be published now, with so many unanswered? */
enum poison_advice poison_admit(const struct poison *p, const struct poison_event *e,
				size_t in_flight, size_t *ret_probe_size);
/* Would poison_admit() return POISON_WAIT for every event now? */
bool poison_is_waiting(const struct poison *p, size_t in_flight);
/* A probe of this size (0: any) has been published, or cannot be. */
void poison_probing(struct poison *p, size_t size);
void poison_cannot_probe(struct poison *p);
/* Nothing waits except held events: they may be tried without a control. */
bool poison_release(struct poison *p);

/* The broker has answered a control (event NULL) or an event, of this size. Returns whether events
   that were held may go now. */
bool poison_answered(struct poison *p, const struct poison_event *e, size_t size);
/* An event was delivered: the broker is not one that takes nothing. */
void poison_delivered(struct poison *p);
/* The connection is lost with these unanswered, oldest first. */
enum poison_verdict poison_lost(struct poison *p, const struct poison_event *unanswered, size_t n,
				enum poison_evidence evidence);
/* Has the last loss brought the search further? Then the next connection need not wait longer
   than the one before. */
bool poison_progress(const struct poison *p);
/* Starts over: an administrator has changed something. */
void poison_forget(struct poison *p);
