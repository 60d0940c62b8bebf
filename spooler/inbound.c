/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* inbound - see inbound.h. A state machine over bytes; bodies are passed on, or skipped, in one piece. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "inbound.h"

enum {
	CONNACK = 2,
	PUBLISH = 3,
	PUBACK = 4,
	PUBREC = 5,
	PUBREL = 6,
	PUBCOMP = 7,
	SUBACK = 9,
	UNSUBACK = 11,
	PINGRESP = 13,
	DISCONNECT = 14
};

/* The four flag bits that each packet must have; -1: a server does not send it (to us). */
static const int flags_of[16] = {
	-1,
	-1,
	[CONNACK] = 0,
	[PUBLISH] = 0,
	[PUBACK] = 0,
	[PUBREC] = 0,
	[PUBREL] = 2,
	[PUBCOMP] = 0,
	-1,
	[SUBACK] = 0,
	-1,
	[UNSUBACK] = 0,
	-1,
	[PINGRESP] = 0,
	[DISCONNECT] = 0,
	-1,
};

static int begin_packet(struct inbound *i, uint8_t byte, char *why, size_t why_size)
{
	uint8_t type = byte >> 4, flags = byte & 15, qos = (flags >> 1) & 3;

	if (!i->connack && byte != CONNACK << 4) {
		(void)snprintf(why, why_size, "the peer does not speak MQTT (it begins with byte 0x%02x, no CONNACK)",
			       byte);
		return -EPROTO;
	}
	if ((i->connack && type == CONNACK) || flags_of[type] < 0 || (type != PUBLISH && flags != flags_of[type]) ||
	    (type == PUBLISH && qos == 3) || (type == DISCONNECT && !i->v5)) {
		(void)snprintf(why, why_size, "the broker sent what is no valid MQTT packet (first byte 0x%02x)", byte);
		return -EPROTO;
	}
	i->connack = true;
	i->type = type;
	i->skip = type == PUBLISH && (!i->want_publish || qos == 2);
	i->state = INBOUND_LENGTH;
	i->length = 0;
	i->shift = 0;
	return 0;
}

static void end_packet(struct inbound *i)
{
	if (i->type == DISCONNECT)
		i->disconnected = true;
	i->dropped += i->skip;
	i->packets++;
	i->state = INBOUND_TYPE;
}

static int take_length(struct inbound *i, uint8_t byte, char *why, size_t why_size)
{
	uint32_t max = i->type == PUBLISH && !i->skip ? i->publish_max : INBOUND_CONTROL_MAX;

	if (i->shift == 21 && byte & 0x80) {
		(void)snprintf(why, why_size, "the broker sent a malformed packet length");
		return -EPROTO;
	}
	i->length |= (uint32_t)(byte & 0x7f) << i->shift;
	i->shift += 7;
	if (byte & 0x80)
		return 0;
	/* What is skipped takes no memory, whatever its length. */
	if (!i->skip && i->length > max) {
		(void)snprintf(why, why_size, "the broker sent a packet of %u bytes, more than the %u that are taken",
			       i->length, max);
		return -EPROTO;
	}
	i->left = i->length;
	i->state = INBOUND_BODY;
	if (i->left == 0)
		end_packet(i);
	return 0;
}

ssize_t inbound_filter(struct inbound *i, uint8_t *buf, size_t n, char *why, size_t why_size)
{
	size_t in = 0, out = 0, piece;
	int r = 0;

	while (in < n) {
		if (i->state == INBOUND_BODY) {
			piece = n - in < i->left ? n - in : i->left;
			if (i->type == DISCONNECT && i->left == i->length)
				i->disconnect_reason = buf[in];
			if (!i->skip && out != in)
				memmove(buf + out, buf + in, piece);
			out += i->skip ? 0 : piece;
			in += piece;
			i->left -= (uint32_t)piece;
			if (i->left == 0)
				end_packet(i);
			continue;
		}
		r = i->state == INBOUND_TYPE ? begin_packet(i, buf[in], why, why_size)
					     : take_length(i, buf[in], why, why_size);
		if (r < 0)
			return r;
		if (!i->skip)
			buf[out++] = buf[in];
		in++;
	}
	return (ssize_t)out;
}
