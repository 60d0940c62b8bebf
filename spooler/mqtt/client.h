/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client - one MQTT connection: libmosquitto on our event loop, over a transport.
 *
 * The only file that knows libmosquitto. One struct client is one connection attempt: transport,
 * then CONNECT and CONNACK, then publishes and their acknowledgements until it is lost; then it is
 * closed and a new one is made (DESIGN: what the library holds in memory is dropped with the
 * connection). Between libmosquitto and the transport runs a unix socket without a name in the file
 * system, closed to everybody else, see bridge.h.
 *
 * Handlers are called from the event loop only, never from inside client_publish() and the like; a
 * handler may call client_close(), after which none is called any more.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spooler/mqtt/transport.h"

/* Why a client's connection is gone. */
enum client_loss {
	CLIENT_LOSS_TRANSPORT,	/* network or TLS: see the text */
	CLIENT_LOSS_REFUSED,	/* CONNACK, reason code >= 0x80 (MQTT 5 3.2.2.2; 3.1.1: 1..5) */
	CLIENT_LOSS_DISCONNECT, /* the broker sent DISCONNECT (MQTT 5 3.14.2.1) */
	CLIENT_LOSS_TIMEOUT,	/* no CONNACK, PUBACK or PINGRESP in time */
	CLIENT_LOSS_PROTOCOL,	/* the peer violated the MQTT protocol */
};

struct client;

struct client_handlers {
	/* CONNACK with success: feed. */
	void (*connected)(struct client *c, void *userdata);
	/* Room in the window and in the buffers again: feed. */
	void (*writable)(struct client *c, void *userdata);
	/* The broker has answered the publish `mid`: reason code of the PUBACK (QoS 2: PUBCOMP,
	   or a refusing PUBREC); always 0 with 3.1.1. Called once per mid that is in flight;
	   unknown ids and repetitions are dropped. */
	void (*acknowledged)(struct client *c, int mid, unsigned reason_code, void *userdata);
	/* A message for our subscription. Strings are valid during the call only. */
	void (*message)(struct client *c, const char *topic, const void *payload, size_t size,
			void *userdata);
	/* SUBACK: granted, or refused with the reason code. */
	void (*subscribed)(struct client *c, unsigned reason_code, void *userdata);
	/* Gone for good. Everything unacknowledged must be published again. Called once. */
	void (*lost)(struct client *c, enum client_loss loss, unsigned reason_code,
		     const char *text, void *userdata);
}; /* any may be NULL */

struct client_options {
	const struct config *config;	       /* mqtt and tls; borrowed for the client's life */
	const struct broker *broker;	       /* borrowed */
	struct credentials *credentials;       /* referenced */
	const char *client_id;		       /* NULL: the configuration's */
	const char *will_topic, *will_payload; /* NULL: no will; QoS 1, not retained */
	const char *will_content_type;	       /* NULL: none; 3.1.1 has none */
	/* MQTT 5: the broker keeps our subscriptions, and what arrives for them, so long after
	   the connection is lost; 0: not at all. client_close() of a living connection ends the
	   session. */
	uint32_t session_expiry_s;
	bool resume; /* take up the session that a client of this id left, if any. mosquitto 2.0.11 forgets at its
			own restart the sessions of those who did not say so. Messages may come before `connected`. */
};

/* Begins to connect. Returns 0 or a negative errno (nothing is called then). */
int client_open(sd_event *loop, const struct client_options *o, const struct client_handlers *h,
		void *userdata, struct client **ret_client);
/* Sends DISCONNECT if connected (normal: the will is discarded), frees. NULL is fine. */
void client_close(struct client *c);

bool client_connected(const struct client *c);
const char *client_peer(const struct client *c);     /* see transport_peer() */
const char *client_protocol(const struct client *c); /* see transport_protocol() */
int64_t client_peer_expiry(const struct client *c);  /* see transport_peer_expiry() */

/* How many more publishes may be handed over now (own window, the broker's receive maximum,
   buffers). */
unsigned client_room(const struct client *c);

/*
 * Publishes with the configured QoS, never retained. content_type may be NULL (3.1.1 has none).
 * Returns 0 and the message id; -EMSGSIZE if the packet exceeds the broker's maximum packet size;
 * -EAGAIN without room; -EINVAL for a topic that MQTT forbids; -ENOTCONN. The bytes are copied.
 */
int client_publish(struct client *c, const char *topic, const void *payload, size_t size,
		   const char *content_type, int *ret_mid);
int client_subscribe(struct client *c, const char *filter);
