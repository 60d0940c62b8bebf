/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * outbound - knows where a packet of libmosquitto's ends, as its bytes pass on their way to the broker.
 * Packets of our own may stand only between two of them.
 *
 * Pure. Knows only MQTT's fixed header (MQTT 5 section 2.1).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct outbound { /* its own */
	enum { OUTBOUND_TYPE, OUTBOUND_LENGTH, OUTBOUND_BODY } state;
	unsigned shift;
	uint32_t left;
};

/* These n bytes pass. */
void outbound_pass(struct outbound *o, const uint8_t *bytes, size_t n);
/* Whether the last byte was the last of a packet, so that another packet may follow. */
bool outbound_is_between(const struct outbound *o);
