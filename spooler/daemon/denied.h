/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * denied - the ordering keys whose events the broker refuses: which wait, until when, and how many
 * refusals the broker has to bear from us.
 *
 * All events of one domain have one ordering key and are delivered in their order. When one of them
 * is denied (not authorized; or nobody has subscribed, where mqtt.require_subscriber is set), later
 * ones wait for it, and those of other domains go on. After a back-off one event is sent to see
 * whether the reason is gone; when the broker takes it, the key is forgotten. A leaky bucket bounds
 * the number of all refused attempts.
 *
 * Times are CLOCK_MONOTONIC microseconds, given by the caller; nothing here waits.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hook/record.h"

#define DENIED_MAX 256	     /* keys at a time */
#define DENIED_PER_MINUTE 20 /* refused attempts that a broker has to bear from us */
#define DENIED_USEC (UINT64_C(60000000) / DENIED_PER_MINUTE)

struct denied_key {
	uint64_t key;
	uint64_t retry_usec;   /* not before */
	uint64_t backoff_usec; /* 0: has not been denied yet */
	bool ends_connection;  /* its refusal does: it is tried when nothing else is left */
	bool trying;	       /* one is in flight to see whether it is taken */
	uint64_t waiting;      /* events that are held; none goes before the first of them */
	uint64_t known;	       /* how many were held when they were last handed out again */
};

/* A zeroed struct has no key. */
struct denied {
	struct denied_key keys[DENIED_MAX];
	size_t n;
	unsigned attempts; /* in the bucket */
	uint64_t attempts_usec;
};

/* Which events keep their order among each other: a hash of driver and domain. */
uint64_t ordering_key(const struct record *record);

/* NULL if its events are not refused. Keys stay where they are until one is removed. */
struct denied_key *denied_find(const struct denied *d, uint64_t key);
/* Adds one that is not there; NULL if there are DENIED_MAX. */
struct denied_key *denied_add(struct denied *d, uint64_t key);
/* The broker took an event of this key. If one right was granted, others may have been, too: all
   keys are due at once. */
void denied_remove(struct denied *d, struct denied_key *k);
/* All keys are due, as soon as the bucket has room. */
void denied_retry_soon(struct denied *d);
/* All keys are due at once: an administrator has changed something. */
void denied_retry_all(struct denied *d);

/* Is a key due whose refusal ends the connection? */
bool denied_last_is_due(const struct denied *d, uint64_t now_usec);

/* May we risk another refusal now? */
bool denied_may_try(struct denied *d, uint64_t now_usec);
/* Counts an attempt that was refused, or is likely to be. */
void denied_count_attempt(struct denied *d);

/* The attempts that were in flight have got no answer. */
void denied_forget_attempts(struct denied *d);
/* How many of its events wait: those that are held, or were before they were given again. */
uint64_t denied_waiting(const struct denied_key *k);
/* All that is held is given again, oldest first. */
void denied_forget_waiting(struct denied *d);
/* When events that are held have to be given again, because their key is due; UINT64_MAX: none
   is. */
uint64_t denied_next_retry(const struct denied *d, uint64_t now_usec);
