/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store-internal - the parts of the store. Internal to store.
 *
 *	store.c		opens; a batch from messages to rows of `events` and `rejects`
 *	store-hosts.c	hosts, epochs, holes
 *	store-guests.c	guests, operations
 *	store-upkeep.c	retention, rebuilding
 */
#pragma once

#include <stdlib.h>

#include "spooler/recorder/db.h"
#include "spooler/recorder/store.h"

/* An event of the batch that was not there before, or one that is read again by a rebuild. */
struct fresh_event {
	struct guest_event event; /* its reason, name and driver are borrowed */
	int64_t sequence;
	unsigned flags; /* enum event_flags */
	bool has_guest;
	unsigned char guest[16];
};

/* A status report of the batch. */
struct fresh_report {
	int64_t host;
	const struct cloudevent *event;
	const char *payload;
	size_t size;
};

struct store {
	struct db *db;
	struct cloudevent_topics topics;
	void *hosts; /* tsearch() of name and number */
	size_t n_hosts;
	int month; /* PostgreSQL: the last month whose partition is there, since 1970 */
	unsigned char pruned_to[16]; /* by the last step of store_prune() */
	unsigned char based_to[16]; /* operations before this id have been looked at by set_bases */
	unsigned careful; /* batches in which rows are looked for before they are inserted */
	store_changed_fn changed;
	void *changed_userdata;
	char error[768];
};

/* Of all stores on one database, only the one that holds this lock adds events and reads or writes
   state. So events become visible in their order of arrival. It ends with the transaction. */
int store_lock(struct store *s);

/* Both are within a transaction that holds the lock, and expect events of one host and guest in any order. */
int store_update_hosts(struct store *s, const struct fresh_event *events, size_t n,
		       const struct fresh_report *reports, size_t n_reports, int64_t now);
int store_update_guests(struct store *s, struct fresh_event *events, size_t n);
/* Marks numbers as lost on the host, as a report would; first 0: the epoch is over, and what it has
   assigned without being seen is missing. */
int store_mark_missing(struct store *s, int64_t host, const unsigned char epoch[16], int64_t first,
		       int64_t last, int64_t now);
/* Rolls back, keeps a sentence for store_error() and returns the error. */
int store_fail(struct store *s, int error);
