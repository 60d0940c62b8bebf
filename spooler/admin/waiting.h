/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * waiting - why an event waits, how often it was tried, and when it is tried next.
 *
 * Attempts and connection are in the daemon's status file. An event that follows a refused one of
 * the same domain was not tried itself: it waits for the earlier one, because a domain's events
 * keep their order.
 */
#pragma once

#include <jansson.h>

#include "spooler/spool/lookup.h"
#include "spooler/spool/status-file.h"

struct held_domain {
	struct spool_id id; /* of the refused event */
	char *driver, *object;
	size_t driver_size, object_size;
};

struct waiting {
	struct status_file status; /* pid 0: the daemon is not running */
	int error;		   /* why not: of status_file_read() */
	struct held_domain held[STATUS_ATTEMPTS_MAX];
	size_t n_held;
};

/* Reads the status file, and the records of the events that were tried without success. To be
   released. */
void waiting_load(struct waiting *w, struct lookup *l);
void waiting_release(struct waiting *w);

struct wait_reason {
	const char *why;    /* NULL: nothing is known that keeps it; it is about to go */
	const char *topic;  /* that was refused, or NULL */
	uint64_t attempts;  /* without success */
	uint64_t next_usec; /* of the next one, since 1970; 0: not known, or at once */
	char waits_for[37]; /* an earlier event of its domain, or "" */
	bool of_this_event; /* not of all: the daemon is not running, or not connected */
};

/* f is an event that waits. Strings are the status file's. */
void waiting_explain(const struct waiting *w, const struct found *f, struct wait_reason *ret);
/* Why no event goes at all, in a line for people; to be freed. NULL: they go. */
char *waiting_summary(const struct waiting *w);
/* Adds attempts, why, topic, next_try, waits_for. */
void waiting_add_json(const struct waiting *w, const struct found *f, json_t *o);
