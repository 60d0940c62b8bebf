/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * intervals - a guest's states as intervals of time, host by host.
 *
 *	struct intervals t = {.db = db, .from = from, .to = to, .fn = on_interval, .userdata = u};
 *	intervals_find_hosts(&t, uuid);		the hosts that the guest has been on
 *	intervals_read(&t, uuid);		calls on_interval for each interval
 *	intervals_release(&t);
 *
 * Nothing is stored for this. guest.h's memory before an operation is kept with the operation, so a
 * window begins with the memory before the last operation that began before it, and the events from
 * there to the window's end are folded in. The state between two changes is an interval. All rules
 * are in guest.c.
 *
 * Bounded: INTERVALS_EVENTS_MAX events of a guest; `truncated` says so.
 */
#pragma once

#include "spooler/recorder/db.h"
#include "spooler/recorder/guest.h"

#define INTERVALS_EVENTS_MAX 5000
#define INTERVALS_BOOTS_MAX 200
#define INTERVALS_HOSTS_MAX 64

struct interval {
	const char *host; /* NULL: its name is not known */
	/* running, paused, crashed, starting, incoming, stopped, or unknown: after a boot of its
	   host */
	const char *state;
	const char *reason; /* of a stop; "" */
	int64_t from;	    /* may be before the window */
	int64_t to;	    /* 0: it goes on */
};
typedef void (*interval_fn)(const struct interval *x, void *userdata); /* borrowed */

struct intervals {
	struct db *db;
	int64_t from, to; /* the window, us */
	int64_t only;	  /* this host's intervals; 0: all */
	interval_fn fn;
	void *userdata;

	/* intervals.c's; zero at first */
	struct host_name {
		int64_t no;
		char *name;
	} hosts[INTERVALS_HOSTS_MAX];
	size_t n_hosts;
	/* A boot of a host: guests that ran before did not survive it. */
	struct boot {
		int64_t host, time;
		unsigned char epoch[16];
	} boots[INTERVALS_BOOTS_MAX]; /* by time */
	size_t n_boots, next_boot;
	struct open_interval {
		bool open;
		int64_t host, from;
		const char *state;
		char reason[GUEST_REASON_MAX];
		unsigned char epoch[16]; /* of the host when it began */
	} open[GUEST_PLACES_MAX];
	struct guest guest;
	struct operations ops;
	unsigned char start[16]; /* the first event to fold */
	size_t n_events;
	bool truncated;
};

/* Both return 0 or a negative errno, as db_run(). */
int intervals_find_hosts(struct intervals *t, const unsigned char uuid[16]);
/* The same for one host of which the guests are asked for. */
int intervals_add_host(struct intervals *t, int64_t no, const char *name);
/* In the order in which they end; those that go on come last. */
int intervals_read(struct intervals *t, const unsigned char uuid[16]);
void intervals_release(struct intervals *t);

const char *intervals_host_name(const struct intervals *t, int64_t no);

/* The least id that an event of this moment can have (UUIDv7 begins with milliseconds). */
void id_at(int64_t usec, unsigned char ret_id[16]);
/* The moment of an id, us since 1970. */
int64_t id_time(const unsigned char id[16]);
