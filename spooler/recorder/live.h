/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live - server-sent events: what changed, for whoever listens. Internal to http.
 *
 * A message names the hosts and guests that changed, not how: the reader asks the API for what it
 * shows. Messages are made once for all streams, at most four per second, less often with many
 * streams. A stream holds no more than one message; a reader that is too slow for all of them gets
 * one that says "all". So neither the rate of events nor slow readers cost memory.
 */
#pragma once

#include <microhttpd.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "spooler/recorder/store.h"

#define LIVE_HOSTS_MAX 64
#define LIVE_GUESTS_MAX 256
#define LIVE_HOST_SIZE 256 /* with its 0 */

struct live_change {
	char hosts[LIVE_HOSTS_MAX][LIVE_HOST_SIZE];
	unsigned char guests[LIVE_GUESTS_MAX][16];
	size_t n_hosts, n_guests;
	bool all; /* more than is listed */
	bool any;
};

/* Adds without repetition, as far as there is room. */
void live_change_add(struct live_change *c, const struct store_change *change);

struct live;

/*
 * resumed() is called when suspended connections have been resumed: libmicrohttpd must run.
 * stalled() is called with true when a stream was given a message, and with false when its reader
 * took it. At most 5/6 of `connections` can be streams, so that questions are always answered.
 */
int live_new(sd_event *loop, unsigned connections, void (*resumed)(void *userdata),
	     void (*stalled)(struct MHD_Connection *connection, bool stalled), void *userdata,
	     struct live **ret_live);
/* Ends all streams; their connections are resumed, as MHD_stop_daemon() demands. NULL is fine. */
void live_end(struct live *l);
void live_free(struct live *l); /* after MHD_stop_daemon() */

/* The response for a new stream; NULL: too many. */
struct MHD_Response *live_open(struct live *l, struct MHD_Connection *connection);
void live_changed(struct live *l, const struct live_change *change);
unsigned live_streams(const struct live *l);
