/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inbound - checks what a broker sends before libmosquitto sees it.
 *
 * libmosquitto 2.0 allocates whatever length a packet claims (up to 256 MiB), keeps publishes
 * without a subscription, and aborts the process on an unknown property (seen with 2.0.11). Here
 * each packet's fixed header and, with MQTT 5, its properties are read as the bytes pass: what a
 * server may not send, or what is larger than we said we take, ends the connection; publishes that
 * we have not subscribed to are left out. Pure: bytes in, bytes out. Knows MQTT's fixed header and
 * properties (MQTT 5 sections 2.1 and 2.2.2), and how long what stands before the properties is.
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

struct inbound {
	/* to be set */
	bool want_publish;    /* we have subscriptions (at QoS 1 at most) */
	uint32_t publish_max; /* and take publishes up to this size */
	bool v5;
	uint8_t *codes; /* 65,536 by packet identifier, or NULL: reason codes that were replaced */

	/* to be read */
	uint64_t packets;  /* completed */
	uint64_t answers;  /* packets that libmosquitto answers: publishes of QoS 1, PUBREC */
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
	uint8_t qos;		  /* of a PUBLISH */
	uint16_t packet_id;	  /* of an acknowledgement */
};

/*
 * Takes n bytes from the broker and leaves those that libmosquitto shall see at the beginning of
 * buf. Returns how many, or -EPROTO with a sentence in why.
 */
ssize_t inbound_filter(struct inbound *i, uint8_t *buf, size_t n, char *why, size_t why_size);
