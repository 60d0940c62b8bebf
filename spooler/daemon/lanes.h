/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lanes - the domains that a broker denies: whose events wait, until when, and how many refusals it
 * has to bear from us.
 *
 * All events of one domain are one lane and keep their order among each other. When one of them is
 * denied (not authorized) its lane is closed: the later ones wait behind it, those of other domains
 * go on. After a back-off one event is sent as a probe; when that is taken the lane is gone. A
 * leaky bucket bounds all refused attempts together.
 *
 * Times are CLOCK_MONOTONIC microseconds, given by the caller; nothing here waits.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hook/record.h"

#define LANES_MAX 256		    /* domains that are denied at a time */
#define LANES_DENIALS_PER_MINUTE 20 /* refused attempts that a broker has to bear from us */
#define LANES_DENIAL_USEC (UINT64_C(60000000) / LANES_DENIALS_PER_MINUTE)

struct lane {
	uint64_t key;
	uint64_t retry_usec;   /* not before */
	uint64_t backoff_usec; /* 0: has not been denied yet */
	bool probing;	       /* one is in flight to see whether the right was granted */
	bool waiting;	       /* one is held: none goes before that */
};

/* A zeroed struct has no closed lane. */
struct lanes {
	struct lane closed[LANES_MAX];
	size_t n;
	unsigned denials; /* in the bucket */
	uint64_t denials_usec;
};

/* Which lane an event belongs to: a hash of its driver and its domain. */
uint64_t lane_key(const struct record *record);

/* A closed lane, or NULL if it is open. Lanes stay where they are until one is opened. */
struct lane *lanes_find(struct lanes *l, uint64_t key);
/* Closes one that is open; NULL if there are LANES_MAX. */
struct lane *lanes_close(struct lanes *l, uint64_t key);
/* An event of it was taken. Who grants one right may have granted others: those are due at once. */
void lanes_open(struct lanes *l, struct lane *lane);

/* May the broker have to refuse one more of ours now? */
bool lanes_may_be_denied(struct lanes *l, uint64_t now_usec);
/* An attempt is made, or was, that is refused or likely to be. */
void lanes_count_denial(struct lanes *l);

/* What is in flight was lost: it was no probe. */
void lanes_forget_probes(struct lanes *l);
/* What is held is given again, oldest first. */
void lanes_forget_waiting(struct lanes *l);
/* When what is held has to be given again, because a lane is due; UINT64_MAX: no lane will be. */
uint64_t lanes_next_retry(const struct lanes *l, uint64_t now_usec);
