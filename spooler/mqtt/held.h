/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * held - the QoS 1 messages of one connection that wait for their PUBACK, in order of arrival.
 *
 * It is a queue, not a table by packet identifier, because a broker that violates the receive
 * maximum reuses identifiers that are still held (seen with mosquitto 2.0.11), and because MQTT
 * wants the PUBACKs in the order of the PUBLISHes (MQTT 5 section 4.6). It grows as needed; the
 * caller bounds it.
 *
 *	held_add(&h, packet_id, number, size);		a message arrived; numbers must grow
 *	while (held_take(&h, committed, &packet_id))	the messages up to `committed`, oldest first
 *	held_release(&h);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct held_message {
	uint64_t number;
	uint32_t size;
	uint16_t packet_id;
};

struct held {
	struct held_message *ring;
	size_t ring_size, head;
	/* to be read */
	size_t n;
	uint64_t bytes;
};

/* Returns 0 or -ENOMEM (then it is as before). */
int held_add(struct held *h, uint16_t packet_id, uint64_t number, uint32_t size);
/* Takes the oldest message if its number is at most `number`. */
bool held_take(struct held *h, uint64_t number, uint16_t *ret_packet_id);
void held_release(struct held *h);
