/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client - one MQTT connection: libmosquitto on our event loop, over a transport.
 *
 * One struct client is one connection attempt: transport, then CONNECT and CONNACK, then publishes
 * and messages until it is lost. Then it is closed and a new one is made. Nothing is carried over
 * in memory: what the library holds is dropped with the connection, and published again from the
 * spool. Between libmosquitto and the transport is a unix socket that nobody else can reach, see
 * bridge.h.
 *
 * A publisher:
 *
 *	client_open(loop, &options, &handlers, userdata, &c);
 *	connected:	client_publish(c, ...) while client_room(c) > 0
 *	acknowledged:	the broker has answered for one of them
 *	writable:	room again: publish on
 *	lost:		client_close(c); publish what was not acknowledged again, on a new client
 *
 * A subscriber subscribes in `connected` and gets `message`, which is acknowledged when the handler
 * returns. One that must not lose a message sets options.hold and acknowledges after it has stored
 * the message:
 *
 *	options = { .hold = true, .resume = true, .keep_session = true, .session_expiry_s = ... }
 *	connected:	client_subscribe(c, filters, n);	at every connection
 *	message:	keep a copy, and m->number
 *	...commit...	client_commit(c, number of the last message that is stored)
 *
 * Handlers are called from the event loop only, never from inside client_publish() and the like. A
 * handler may call client_close(), after which none is called any more.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spooler/mqtt/transport.h"

/* Why a connection is gone. */
enum client_loss {
	CLIENT_LOSS_TRANSPORT,	/* network or TLS: see the text */
	CLIENT_LOSS_NOBODY,	/* nobody listens at any address that was tried */
	CLIENT_LOSS_REFUSED,	/* CONNACK, reason code >= 0x80 (MQTT 5 3.2.2.2; 3.1.1: 1..5);
				   or closed instead of a CONNACK, 0 */
	CLIENT_LOSS_DISCONNECT, /* the broker sent DISCONNECT (MQTT 5 3.14.2.1) */
	CLIENT_LOSS_TIMEOUT,	/* no CONNACK, PUBACK or PINGRESP in time */
	CLIENT_LOSS_PROTOCOL,	/* the peer violated the MQTT protocol */
};

struct client;

/* A message for one of our subscriptions. Everything is valid during the call only. */
struct client_message {
	const char *topic;
	const void *payload; /* never NULL; not terminated */
	size_t size;
	unsigned qos;	    /* 0 or 1 */
	uint16_t packet_id; /* 0 with QoS 0 */
	bool retain;	    /* it was retained before we subscribed; a live message has false */
	/* For client_commit(). Grows from message to message, and is never used twice in this
	   process: a number of an earlier connection commits nothing on a later one. 0 with QoS 0,
	   which has no acknowledgement, and without options.hold. */
	uint64_t number;
};

struct client_handlers {
	/* CONNACK with success: feed. */
	void (*connected)(struct client *c, void *userdata);
	/* Room in the window and in the buffers again: feed. */
	void (*writable)(struct client *c, void *userdata);
	/* The broker has answered the publish `mid`: reason code of the PUBACK (QoS 2: PUBCOMP,
	   or a refusing PUBREC); always 0 with 3.1.1. Called once per mid that is in flight;
	   unknown ids and repetitions are dropped. */
	void (*acknowledged)(struct client *c, int mid, unsigned reason_code, void *userdata);
	void (*message)(struct client *c, const struct client_message *m, void *userdata);
	/* SUBACK, once for each filter in their order: granted, or refused with a reason code
	   >= 0x80. */
	void (*subscribed)(struct client *c, const char *filter, unsigned reason_code,
			   void *userdata);
	/* Gone for good. Everything unacknowledged must be published again; messages that were
	   not committed come again. reason_code is that of a CONNACK or DISCONNECT, otherwise 0.
	   Called once. */
	void (*lost)(struct client *c, enum client_loss loss, unsigned reason_code,
		     const char *text, void *userdata);
}; /* any may be NULL */

struct client_options {
	const struct config *config;	 /* mqtt and tls; borrowed for the client's life */
	const struct broker *broker;	 /* borrowed */
	struct credentials *credentials; /* referenced */
	const char *client_id;		 /* NULL: the configuration's */

	/* NULL: no will. QoS 1. */
	const char *will_topic, *will_payload;
	const char *will_content_type; /* NULL: none; 3.1.1 has none */
	bool will_retain;
	uint32_t will_delay_s; /* MQTT 5 (3.1.3.2.2): a connection that is back within this time,
				  or a session that ends before, has no will; needs a
				  session_expiry_s that is not shorter */

	/* MQTT 5: the broker keeps our subscriptions, and what arrives for them, for this time
	   after the connection is lost; 0: not at all. MQTT 3.1.1 has no such limit: see resume. */
	uint32_t session_expiry_s;
	/* Take up the session that a client of this id left, if any (clean start 0). mosquitto
	   2.0.11 forgets at its own restart the sessions of clients that did not ask for it. With
	   3.1.1 the broker then keeps the session for ever. */
	bool resume;
	/* client_close() leaves the session as it is. Otherwise it ends the session (MQTT 5). */
	bool keep_session;

	/* The PUBACK of a QoS 1 message is sent after client_commit() and not before. */
	bool hold;
	/* Stop reading from the broker while more messages, or more bytes of payload, than this
	   are held; 0: 4,000 messages, 16 MiB. This bounds memory whatever the broker does; the
	   receive maximum alone does not, some brokers violate it. Keep-alive goes on meanwhile. */
	size_t hold_messages;
	uint64_t hold_bytes;
	/* Unacknowledged messages that the broker may send (MQTT 5 3.1.2.11.3); 0: 1,000. */
	uint16_t receive_max;
	/* This broker has accepted a connection with this configuration before. If it closes this
	   one without a CONNACK, its MQTT version is not the reason. */
	bool connected_before;
	/* Which of the addresses of the broker's name to begin with, see client_next_address(). */
	unsigned first_address;
};

/* Begins to connect. Returns 0 or a negative errno (nothing is called then). */
int client_open(sd_event *loop, const struct client_options *o, const struct client_handlers *h,
		void *userdata, struct client **ret_client);
/*
 * Sends DISCONNECT if connected (the will is discarded), and frees. Messages that were committed
 * are still acknowledged as far as the socket takes it; held ones are not, and come again if the
 * session is kept. NULL is fine.
 */
void client_close(struct client *c);

bool client_connected(const struct client *c);
const char *client_peer(const struct client *c);	      /* see transport_peer() */
const char *client_protocol(const struct client *c);	      /* see transport_protocol() */
struct validity client_peer_validity(const struct client *c); /* see transport_peer_validity() */

/* The index, for options.first_address, of the address after the one in use; 0: there is none, or
   it is not known yet. Also valid in `lost`. */
unsigned client_next_address(const struct client *c);

/* Whether the broker takes retained messages: CONNACK did not deny it (MQTT 5 3.2.2.3.5). */
bool client_can_retain(const struct client *c);

/* The size of a whole PUBLISH packet (MQTT 5 3.3), and how large the broker said in CONNACK that
   one may be (3.2.2.3.6); MQTT's own limit if it said nothing. */
size_t client_packet_size(const struct client *c, const char *topic, size_t payload_size,
			  const char *content_type);
size_t client_packet_max(const struct client *c);

/* How many more publishes may be handed over now (own window, the broker's receive maximum,
   buffers). */
unsigned client_room(const struct client *c);

/*
 * Publishes with the configured QoS. content_type may be NULL (3.1.1 has none). `retain` is ignored
 * if the broker cannot retain. Returns 0 and the message id; -EMSGSIZE if the packet exceeds the
 * broker's maximum packet size; -EAGAIN without room; -EINVAL for a topic that MQTT forbids;
 * -ENOTCONN. The bytes are copied.
 */
int client_publish(struct client *c, const char *topic, const void *payload, size_t size,
		   const char *content_type, bool retain, int *ret_mid);

/* Subscribes to n filters at QoS 1, in one packet. A shared subscription is the filter
   "$share/GROUP/FILTER". Returns 0; -EINVAL for a filter that MQTT forbids; -EALREADY while an
   earlier SUBACK is outstanding; -ENOMEM; -ENOTCONN. The strings are copied. */
int client_subscribe(struct client *c, const char *const *filters, size_t n);

/* With options.hold: every message up to and including `number` is stored, and is acknowledged in
   order of arrival within this turn of the loop or the next. Callable from a handler. */
void client_commit(struct client *c, uint64_t number);
/* Messages that are held now. */
size_t client_held(const struct client *c);
