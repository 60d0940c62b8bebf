/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * query - the reading side of the record: hosts, guests, the log, operations, holes, rejects.
 *
 *	query_open(url, 0, &q, &error);
 *	query_guests(q, &filter, on_guest, userdata, &page);
 *	query_close(q);
 *
 * Each query is one statement with a limit, so that no reader holds up the writer. Rows go to a
 * callback as a struct whose strings are valid during the call. A page that is full says in
 * `page.cursor` where the next one begins: pass it as filter.cursor, with the filter unchanged.
 * A struct query belongs to one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spooler/base/hex.h"
#include "spooler/recorder/cloudevent.h"

#define QUERY_LIMIT 1000	/* the default, */
#define QUERY_LIMIT_MAX 1000000 /* and the most rows of one call */
#define QUERY_CURSOR_SIZE 640

struct query;

struct query_filter {
	const char *vm;	       /* name, UUID or glob of them; NULL: any */
	const char *host;      /* name or glob */
	const char *operation; /* glob; of operations: their kind */
	const char *driver;    /* glob */
	const char *state;     /* of guests: exactly */
	/* Of guests and hosts: part of the name, any case, or beginning of the UUID. */
	const char *search;
	int64_t since, until; /* us since 1970, since <= t < until; 0: any */
	bool oldest_first;    /* of log and operations */
	/* Of log and operations, with oldest_first and without a cursor: the newest `limit` rows. */
	bool newest;
	bool all;	    /* holes: also those that were filled */
	bool brief;	    /* of guests: without what is marked (*) below */
	bool any_order;	    /* of guests: faster; a cursor only says that there are more */
	uint64_t limit;	    /* 0: QUERY_LIMIT */
	const char *cursor; /* NULL or "": from the beginning */
	/* Of the log: the events that arrived after the one with this query_event.arrival, in
	   the order of arrival. 0: all, by time; -1: all, by arrival. A cursor goes with the
	   arrival of the last event of its page. */
	int64_t arrived_after;
};

struct query_page {
	uint64_t rows;
	char cursor[QUERY_CURSOR_SIZE]; /* "": that was the last page */
};

struct query_host {
	int64_t no;
	const char *name;
	int online;	     /* 1, 0, or -1: it has not reported */
	int64_t status_time; /* of its last report; 0: unknown */
	const char *status;  /* that report's payload; "" */
	const char *boot;    /* boot id, "" */
	int64_t seen;	     /* when the recorder last heard of it */
	int64_t last_time;   /* of its last event; 0: none */
	char epoch[33];	     /* "" */
	int64_t sequence;    /* highest in it */
	int64_t behind; /* numbers that it has assigned since, as it said; they may be on their way */
	int64_t missing; /* numbers in open holes, all epochs */
	int64_t guests;	 /* that are on it and not stopped */
};

struct query_guest {
	char uuid[UUID_TEXT]; /* (*) of those that have a name */
	const char *name;
	const char *driver; /* (*) */
	const char *host;   /* where it is, or was last; "" */
	const char *state;  /* stopped, starting, incoming, running, paused, crashed, unknown */
	int64_t since;	    /* 0: unknown */
	const char *reason;
	int64_t last_time;    /* (*) */
	const char *also_on;  /* a second host on which it runs at the same time; "" */
	const char *going_to; /* of a migration that is under way; "" */
	/* (*) The last migration of this run. */
	const char *migration_from, *migration_to, *migration_outcome; /* "" */
	int64_t migration_begin, migration_end;			       /* 0 */
};

struct query_event {
	char id[UUID_TEXT];
	const char *host;
	int64_t time, received;
	char epoch[33];
	int64_t sequence;
	unsigned flags;	       /* enum event_flags */
	char guest[UUID_TEXT]; /* "" */
	const char *driver, *operation, *reason, *name;
	int64_t arrival;     /* grows in the order of arrival */
	const char *payload; /* as it was sent */
	size_t payload_size;
};

struct query_operation {
	char id[UUID_TEXT]; /* of its first event */
	const char *host;   /* of that */
	char guest[UUID_TEXT];
	const char *name;     /* the guest's, as it is called now */
	const char *kind;     /* start, restore, stop, migration */
	int64_t begun, ended; /* 0: under way */
	const char *outcome;  /* running, success, failed, incomplete */
	const char *reason, *from, *to;
};

struct query_hole {
	const char *host;
	char epoch[33];
	int64_t first, last;
	int64_t found, filled; /* filled 0: open */
	bool lost;	       /* the host says that they never reached its spool */
};

struct query_reject {
	int64_t no, received, times, size;
	const char *topic, *host, *reason;
	const void *payload; /* its beginning */
	size_t payload_size;
};

/* What the metrics and a summary need. */
struct query_totals {
	int64_t hosts, hosts_online, guests, guests_on, events, missing, holes, rejects;
	uint64_t bytes; /* of the store; 0: unknown */
};

/* A negative return ends the query with it. */
typedef int (*query_host_fn)(const struct query_host *h, void *userdata);
typedef int (*query_guest_fn)(const struct query_guest *g, void *userdata);
typedef int (*query_event_fn)(const struct query_event *e, void *userdata);
typedef int (*query_operation_fn)(const struct query_operation *o, void *userdata);
typedef int (*query_hole_fn)(const struct query_hole *h, void *userdata);
typedef int (*query_reject_fn)(const struct query_reject *r, void *userdata);

/* With DB_LARGE_CACHE or 0. Returns 0 or a negative errno with a sentence in *ret_error (to be freed). */
int query_open(const char *url, unsigned flags, struct query **ret_query, char **ret_error);
void query_close(struct query *q); /* NULL is fine */

/* Each returns 0, what the callback returned, -EINVAL for a cursor that is not one, or what
   db_run() returns. ret_page may be NULL. */
int query_hosts(struct query *q, const struct query_filter *f, query_host_fn fn, void *userdata,
		struct query_page *ret_page); /* by name */
int query_guests(struct query *q, const struct query_filter *f, query_guest_fn fn, void *userdata,
		 struct query_page *ret_page); /* by name */
/* Newest first, unless filter.oldest_first. Of one guest, with filter.vm, this is its timeline. */
int query_log(struct query *q, const struct query_filter *f, query_event_fn fn, void *userdata,
	      struct query_page *ret_page);
int query_operations(struct query *q, const struct query_filter *f, query_operation_fn fn,
		     void *userdata, struct query_page *ret_page);
/* Open ones; by host and the time they were found. */
int query_holes(struct query *q, const struct query_filter *f, query_hole_fn fn, void *userdata,
		struct query_page *ret_page);
int query_rejects(struct query *q, const struct query_filter *f, query_reject_fn fn, void *userdata,
		  struct query_page *ret_page); /* newest first */
/* The certificates with which hosts sign their events (base64 of the DER form), by host and age. */
typedef int (*query_certificate_fn)(const char *host, const char *certificate, void *userdata);
int query_certificates(struct query *q, const struct query_filter *f, query_certificate_fn fn,
		       void *userdata, struct query_page *ret_page);
/* query_event.arrival of the last event that has arrived; -1: none has. */
int query_last_arrival(struct query *q, int64_t *ret_arrival);
/* `events` is an estimate for PostgreSQL. */
int query_totals(struct query *q, struct query_totals *ret_totals);

/* What the last failure was; never NULL. */
const char *query_error(const struct query *q);
/* The connection, for statements that only the web server needs. */
struct db *query_db(struct query *q);
