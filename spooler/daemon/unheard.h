/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * unheard - events that the broker took though nobody had subscribed (0x10): how many in a row now,
 * and how many before, which a replay can still bring to consumers.
 *
 * Pure. Times are those of the events, CLOCK_REALTIME microseconds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define UNHEARD_MENTIONED 10 /* a shorter row is of topics that nobody wants, such as `prepare` */

struct unheard_row {
	uint64_t events;
	uint64_t since_usec, until_usec; /* times of the first and the last of them */
	uint64_t again;			 /* of them, replayed ones that are counted in `before` */
};

/* A zeroed struct has seen none. */
struct unheard {
	struct unheard_row now; /* up to the last answer */
	struct unheard_row
		before; /* rows that have ended, without what was replayed and heard since */
};

/* The broker has taken an event: had somebody subscribed? */
void unheard_note(struct unheard *u, bool heard, bool replayed, uint64_t usec);
