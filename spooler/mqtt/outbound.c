/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* outbound - see outbound.h. */
#include "spooler/mqtt/outbound.h"

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
		*o = (struct outbound){.state = OUTBOUND_LENGTH};
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

void outbound_pass(struct outbound *o, const uint8_t *bytes, size_t n)
{
	size_t piece;

	for (; n > 0; bytes += piece, n -= piece)
		piece = take(o, bytes, n);
}

bool outbound_is_between(const struct outbound *o)
{
	return o->state == OUTBOUND_TYPE;
}
