/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inbound - checks what a broker sends before libmosquitto sees it, and takes the messages out.
 *
 * libmosquitto 2.0 allocates whatever length a packet claims (up to 256 MiB), keeps publishes
 * without a subscription, and aborts the process on an unknown property (seen with 2.0.11). Here
 * each packet's fixed header and, with MQTT 5, its properties are read as the bytes pass: what a
 * server may not send, or what is larger than we said we take, ends the connection. Pure: bytes in,
 * bytes and messages out. Knows MQTT's fixed header and properties (MQTT 5 sections 2.1 and 2.2.2),
 * and how long what stands before the properties is.
 *
 * libmosquitto sees no PUBLISH. It would acknowledge one before its callback runs, so that a
 * consumer that must commit first could lose it. Those that we have subscribed to become messages
 * here, and the caller acknowledges them; others are left out.
 *
 * libmosquitto from 2.0.16 on ends the connection over an acknowledgement whose reason code the
 * standard does not list for it. Such a code is replaced by 0x80 (from 0x80 on) or 0x00 and noted
 * in `codes`, so that the caller can still judge it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Of packets other than PUBLISH: reason string and user properties. */
#define INBOUND_CONTROL_MAX (192 * 1024)

/* A PUBLISH (MQTT 5 section 3.3). Valid during the call only. */
struct inbound_message {
	const char *topic; /* terminated; may hold any bytes, also zeros */
	size_t topic_size;
	const uint8_t *payload; /* never NULL; not terminated */
	size_t size;
	uint8_t qos;	    /* 0 or 1 */
	uint16_t packet_id; /* 0 with QoS 0 */
	bool retain;
};

struct inbound {
	/* to be set */
	void (*message)(const struct inbound_message *m,
			void *userdata); /* NULL: no subscriptions */
	void *userdata;
	uint32_t publish_max; /* larger ones end the connection */
	bool v5;
	uint8_t *codes; /* 65,536 by packet identifier, or NULL: reason codes that were replaced */

	/* to be read */
	uint64_t packets;  /* completed */
	uint64_t answers;  /* packets that libmosquitto answers: PUBREC */
	bool disconnected; /* the broker has sent DISCONNECT */
	unsigned disconnect_reason;
	bool connack; /* the first packet has begun */

	/* its own */
	enum { INBOUND_TYPE, INBOUND_LENGTH, INBOUND_BODY } state;
	uint8_t type;
	unsigned shift;
	uint32_t length, left;
	bool skip;
	/* Where in the body: what stands before the properties, the properties, what follows
	   them. */
	enum inbound_part {
		INBOUND_FIXED,
		INBOUND_TOPIC_LENGTH,
		INBOUND_PROPERTIES_LENGTH,
		INBOUND_IDENTIFIER,
		INBOUND_STRING_LENGTH,
		INBOUND_VARINT,
		INBOUND_VALUE,
		INBOUND_REST,
	} part;
	uint32_t part_left; /* bytes of INBOUND_FIXED and INBOUND_VALUE, or of a length field */
	uint32_t value;	    /* of the length field, as far as it has been read */
	uint32_t properties_left; /* bytes */
	unsigned strings;	  /* of the property, still to come */
	uint16_t packet_id;	  /* of an acknowledgement */
	/* Of a PUBLISH: */
	uint8_t qos;
	bool retain;
	uint32_t topic_size, payload_size;
	uint8_t *body; /* from its first byte on */
	uint8_t *copy; /* that body, if it comes in pieces */
};

/*
 * Takes n bytes from the broker, calls `message` for each message that is complete with them, and
 * leaves those that libmosquitto shall see at the beginning of buf. Returns how many, or -EPROTO or
 * -ENOMEM with a sentence in why.
 */
ssize_t inbound_filter(struct inbound *i, uint8_t *buf, size_t n, char *why, size_t why_size);
void inbound_release(struct inbound *i);
