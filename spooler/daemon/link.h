/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * link - the connection to a broker: which broker and which of its addresses, when, and the host's
 * presence on it.
 *
 * One connection at a time. When it fails before an event was acknowledged on it, for whatever
 * reason (TCP, TLS, CONNACK, silence), the next address of the same name is tried at once, then the
 * next broker, and after the last one the first again with a back-off. When a connection that was
 * good is lost, the list begins at its top.
 *
 * When a connection has lasted for a moment, the online report is published on mqtt.status_topic,
 * and before an orderly end the offline report, whose acknowledgement is waited for. If a broker
 * refuses the will, retained reports or all reports, the link does without them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "spooler/config/config.h"
#include "spooler/daemon/completeness.h"
#include "spooler/daemon/losses.h"
#include "spooler/daemon/signing.h"
#include "spooler/daemon/stats.h"
#include "spooler/mqtt/client.h"

/* A connection that ends this soon after the broker has refused a message ends over that. */
#define LINK_PARTING_USEC UINT64_C(1000000)

struct link;

struct link_loss {
	enum client_loss loss;
	unsigned reason_code; /* of a CONNACK or DISCONNECT */
	bool was_connected;
};

struct link_handlers {
	/* Events may be published. */
	void (*connected)(void *userdata);
	/* Room for more. */
	void (*writable)(void *userdata);
	/* The broker has answered an event. */
	void (*acknowledged)(int mid, unsigned reason_code, void *userdata);
	/* The broker has answered a probe; the size of its packet. Some brokers end the connection
	   after an answer that refuses. */
	void (*probed)(size_t packet_size, bool refused, void *userdata);
	/* Unanswered events have to be published again. Returns whether this loss brought the
	   search for a poison message further: then the back-off does not grow. */
	bool (*lost)(const struct link_loss *loss, void *userdata);
};

struct link_description {
	bool connected;
	const char *broker; /* URL of the one that is connected, or tried; NULL: none yet */
	const char *peer, *protocol;   /* NULL unless connected */
	struct validity peer_validity; /* of the broker's certificate; not known unless connected */
	uint64_t next_usec; /* CLOCK_REALTIME of the next attempt; 0: none is waited for */
	struct losses_summary losses; /* within the last hour */
	bool report_refused;	      /* the broker ended the connection over the online report */
	const char *topic_error; /* what it does not take on mqtt.status_topic; NULL: nothing */
	struct validity own, authority; /* of our certificate, and of tls.ca_file */
	const char *renewal_error;	/* why renewed files cannot be used; NULL: they can */
	uint64_t renewal_refused_usec;
};

/* The reports list the numbers that are lost according to `completeness` (borrowed). */
int link_new(sd_event *loop, struct relay_stats *stats, const struct completeness *completeness,
	     const struct link_handlers *h, void *userdata, struct link **ret_link);
void link_free(struct link *l); /* NULL is fine */

/* Begins to connect, at the list's top. Not while there is a connection. The configuration is
   borrowed, and so is `signing`, which signs the reports (presence.h); the credentials are
   referenced. */
void link_start(struct link *l, const struct config *c, struct credentials *credentials,
		struct signing *signing);
/* The back-off is over. */
void link_retry_now(struct link *l);
/*
 * Publishes the offline report and waits a bounded time until the broker has answered it, then
 * closes and calls `left`, from the loop. `lost` is called for what was in flight.
 */
typedef void (*link_left)(void *userdata);
void link_leave(struct link *l, link_left left);
/* Gives this connection up, because of what the broker said on it, and goes on to the next address
   or broker as if it had been lost. */
void link_abandon(struct link *l);
/* An event was delivered on this connection: it is a good one. */
void link_confirm(struct link *l);

/* The report that this host is online, once more: what it says has changed. */
void link_report(struct link *l);

/* Looks whether the files that hold certificates were renewed. They are used with the next
   connection; if they cannot be, the old ones stay in use. */
void link_renew(struct link *l);

bool link_connected(const struct link *l);
/* The index of the broker in the configuration. */
size_t link_broker(const struct link *l);
const char *link_broker_url(const struct link *l);
/* How many more events may be published now. */
unsigned link_room(const struct link *l);
/* May the online report serve as a probe, or does this broker end the connection over it? */
bool link_can_probe(const struct link *l);
/* The size of a whole PUBLISH packet, and the broker's maximum for one. */
size_t link_packet_size(const struct link *l, const char *topic, size_t payload_size);
size_t link_packet_max(const struct link *l);

/* See client_publish(); never retained. */
int link_publish(struct link *l, const char *topic, const char *payload, size_t size, int *ret_mid);
/*
 * Publishes the online report once more, not retained, followed by as many blanks as make its
 * packet this large (0: none). Harmless for consumers: JSON allows them. Negative errno as of
 * client_publish().
 */
int link_probe(struct link *l, size_t packet_size);

/* Publishes, as a probe, an event that this broker has already taken. */
int link_repeat(struct link *l, const char *topic, const char *payload, size_t size);

void link_describe(const struct link *l, struct link_description *ret_description);
