/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * outbound - splits what libmosquitto writes into packets, on its way to the broker.
 *
 * libmosquitto acknowledges a QoS 1 message before its callback runs. A consumer that must commit
 * first has its PUBACKs removed here and sends its own later; all other packets pass at once. Own
 * packets may be put into the stream only between two packets, see outbound_is_between().
 *
 * Pure: bytes in, bytes out. Knows only MQTT's fixed header (MQTT 5 section 2.1).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct outbound {
	/* to be set */
	bool hold; /* remove PUBACKs */

	/* to be read */
	uint64_t removed; /* PUBACKs */

	/* its own */
	enum { OUTBOUND_TYPE, OUTBOUND_LENGTH, OUTBOUND_BODY } state;
	bool remove; /* this packet */
	unsigned shift;
	uint32_t left;
};

/* Moves those of the n bytes that the broker shall get to the beginning of buf. Returns how
   many. */
size_t outbound_filter(struct outbound *o, uint8_t *buf, size_t n);
/* Whether the last byte was the last of a packet, so that another packet may follow. */
bool outbound_is_between(const struct outbound *o);
