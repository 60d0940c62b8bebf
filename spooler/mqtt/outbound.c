/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* outbound - see outbound.h. */
#include <string.h>

#include "spooler/mqtt/outbound.h"

#define PUBACK 4

static void begin_packet(struct outbound *o, uint8_t byte)
{
	o->remove = o->hold && byte >> 4 == PUBACK;
	o->removed += o->remove;
	o->state = OUTBOUND_LENGTH;
	o->left = 0;
	o->shift = 0;
}

static void take_length(struct outbound *o, uint8_t byte)
{
	o->left |= (uint32_t)(byte & 0x7f) << o->shift;
	o->shift += 7;
	if (!(byte & 0x80))
		o->state = o->left > 0 ? OUTBOUND_BODY : OUTBOUND_TYPE;
}

/* Takes one step's bytes, all of which belong to one packet. Returns how many. */
static size_t take(struct outbound *o, const uint8_t *bytes, size_t n)
{
	size_t piece = 1;

	if (o->state == OUTBOUND_TYPE) {
		begin_packet(o, bytes[0]);
	} else if (o->state == OUTBOUND_LENGTH) {
		take_length(o, bytes[0]);
	} else {
		piece = o->left < n ? o->left : n;
		o->left -= (uint32_t)piece;
		if (o->left == 0)
			o->state = OUTBOUND_TYPE;
	}
	return piece;
}

size_t outbound_filter(struct outbound *o, uint8_t *buf, size_t n)
{
	size_t in = 0, out = 0, piece;

	while (in < n) {
		piece = take(o, buf + in, n - in);
		/* o->remove is this packet's until the next one begins. */
		if (!o->remove) {
			if (out != in)
				memmove(buf + out, buf + in, piece);
			out += piece;
		}
		in += piece;
	}
	return out;
}

bool outbound_is_between(const struct outbound *o)
{
	return o->state == OUTBOUND_TYPE;
}
