/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * attempts - which events were published without success: how often, on which topic, why the last
 * time, when they are tried again, and how many wait after them. For `virtspool list` and `show`
 * and for the reason of a failure. Bounded: an event that finds no room is not remembered, and
 * nothing depends on it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "spooler/spool/spoolid.h"

#define ATTEMPTS_MAX 256

struct attempt {
	struct spool_id entry;
	uint64_t key; /* its ordering key (denied.h), if it was denied; or 0 */
	unsigned count;
	char why[128];	 /* the last time */
	char topic[256]; /* that was refused, cut to this size; "" if none was */
	/* When it is tried again, CLOCK_REALTIME; 0: as soon as there is a connection. */
	uint64_t next_usec;
	uint64_t waiting; /* later events of its domain that wait for this one */
};

/* A zeroed struct is an empty table. */
struct attempts {
	struct attempt table[ATTEMPTS_MAX];
	size_t n;
};

/* NULL if there was none, or it is not remembered. Valid until the next call that changes the
   table. */
const struct attempt *attempts_find(const struct attempts *a, const struct spool_id *e);
/* topic may be NULL: as before. */
void attempts_note(struct attempts *a, const struct spool_id *e, const char *topic,
		   const char *why);
/* It waits as an event of this ordering key, until then (CLOCK_REALTIME). */
void attempts_note_retry(struct attempts *a, const struct spool_id *e, uint64_t key,
			 uint64_t next_usec);
void attempts_forget(struct attempts *a, const struct spool_id *e);
