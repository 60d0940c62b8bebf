/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* held - see held.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/mqtt/held.h"

#define RING_MIN 64

static int grow(struct held *h)
{
	size_t size = h->ring_size ? 2 * h->ring_size : RING_MIN, first;
	struct held_message *ring = calloc(size, sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	first = h->ring_size - h->head; /* up to the old ring's end */
	if (h->n > 0) {
		memcpy(ring, h->ring + h->head, first * sizeof(*ring));
		memcpy(ring + first, h->ring, h->head * sizeof(*ring));
	}
	free(h->ring);
	h->ring = ring;
	h->ring_size = size;
	h->head = 0;
	return 0;
}

int held_add(struct held *h, uint16_t packet_id, uint64_t number, uint32_t size)
{
	if (h->n == h->ring_size && grow(h) < 0)
		return -ENOMEM;
	h->ring[(h->head + h->n) % h->ring_size] = (struct held_message){
		.number = number,
		.size = size,
		.packet_id = packet_id,
	};
	h->n++;
	h->bytes += size;
	return 0;
}

bool held_take(struct held *h, uint64_t number, uint16_t *ret_packet_id)
{
	const struct held_message *m;

	if (h->n == 0 || h->ring[h->head].number > number)
		return false;
	m = &h->ring[h->head];
	*ret_packet_id = m->packet_id;
	h->bytes -= m->size;
	h->n--;
	h->head = (h->head + 1) % h->ring_size;
	return true;
}

void held_release(struct held *h)
{
	free(h->ring);
	*h = (struct held){0};
}
