/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * subscription - the recorder's session at the broker: connected as long as any broker can be
 * reached, subscribed to all hosts' events and status reports, acknowledged by hand.
 *
 * The session is persistent: only `virtspool-recorder forget` ends it, not the end of the program.
 * Brokers and their addresses are tried in turn, with a back-off. If a connection is lost, messages
 * that were not acknowledged come again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "spooler/config/config.h"
#include "spooler/mqtt/client.h"

struct subscription;

struct subscription_handlers {
	void (*message)(const struct client_message *m, void *userdata);
	/* Connected and subscribed, or not any more. */
	void (*changed)(void *userdata);
};

/* config and credentials are borrowed and referenced, respectively, until the next configure. */
int subscription_new(sd_event *loop, const struct config *config, struct credentials *credentials,
		     const struct subscription_handlers *h, void *userdata,
		     struct subscription **ret_subscription);
/* Reconnects, with another configuration. */
void subscription_configure(struct subscription *s, const struct config *config,
			    struct credentials *credentials);
/* Ends the connection and makes a new one: what was not acknowledged comes again. Also from a
   handler. */
void subscription_restart(struct subscription *s);
/* Acknowledges what was committed, and leaves the session at the broker. NULL is fine. */
void subscription_free(struct subscription *s);

/* All messages up to this number are stored. */
void subscription_commit(struct subscription *s, uint64_t number);

bool subscription_is_up(const struct subscription *s);
/* The broker while connected; otherwise why not. */
const char *subscription_text(const struct subscription *s);
uint64_t subscription_connects(const struct subscription *s); /* since the start */
uint64_t subscription_held(const struct subscription *s);     /* messages not acknowledged yet */

/* The filters for a configuration: of events (shared if mqtt.share is set) and of status reports
   (NULL if there are none). Strings to be freed. -ENOMEM. */
int subscription_filters(const struct config *c, char **ret_events, char **ret_status);
