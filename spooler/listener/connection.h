/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * connection - one libvirt, named by a URI: connect, listen, reconcile, and again when it went
 * away.
 *
 * Each has a thread of its own, because libvirt's calls can hang as long as its daemon does. The
 * events themselves come on the thread that runs libvirt's event loop, and are recorded there. All
 * functions may be called from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "spooler/listener/event-table.h"

struct connection_options {
	bool balloon;			   /* register for balloon-change as well */
	unsigned keep_alive_s;		   /* interval of keep-alive messages; 0: none */
	unsigned keep_alive_count;	   /* this many unanswered end the connection */
	unsigned retry_min_s, retry_max_s; /* back-off between attempts */
};

enum connection_phase {
	CONNECTION_CONNECTING,
	CONNECTION_RECONCILING, /* listening already */
	CONNECTION_LISTENING,
	CONNECTION_WAITING, /* before the next attempt */
	CONNECTION_STOPPED,
};

#define CONNECTION_ERROR_MAX 256

struct connection_stats {
	const char *uri, *driver;
	enum connection_phase phase;
	bool listening;
	uint64_t since_usec;		      /* when the phase began, CLOCK_REALTIME */
	uint64_t events_registered;	      /* kinds */
	uint64_t events[EVENT_TABLE_IDS_MAX]; /* heard, by id */
	uint64_t reconciled;		      /* differences that were spooled */
	uint64_t connects, losses, attempts_failed;
	uint64_t domains;	  /* that are known */
	uint64_t last_event_usec; /* 0: none yet */
	char last_error[CONNECTION_ERROR_MAX];
};

struct connection;

/* Makes it and starts its thread. uri and options must outlive it. `changed` is called, from any
   thread, when the stats have. Negative errno. */
int connection_new(const char *uri, const struct connection_options *options,
		   void (*changed)(void *), void *userdata, struct connection **ret_connection);

/* Ends and frees it, within wait_ms. False if it hangs in a call of libvirt's: it stays, for the
   end of the process. */
bool connection_stop(struct connection *c, unsigned wait_ms);

void connection_get_stats(struct connection *c, struct connection_stats *ret_stats);

const char *connection_phase_name(enum connection_phase phase);
