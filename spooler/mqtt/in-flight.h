/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * in-flight - the publishes of one connection that the broker has not answered, oldest first, and
 * the answers that the user has not seen.
 *
 * Answers may come in any order; an answered publish keeps its place until all before it are
 * answered too. Both lists have the size that was given at the beginning.
 *
 *	in_flight_init(&f, 100);
 *	in_flight_room(&f, window)		how many may follow
 *	in_flight_add(&f, mid, size);		handed to the broker; needs room
 *	in_flight_answer(&f, mid, code, ...);	PUBACK; collected in f.answers until f.n_answers = 0
 *	in_flight_release(&f);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct in_flight_publish {
	int mid;
	bool answered;
	uint32_t size;
};

struct in_flight_answer {
	int mid;
	unsigned reason_code;
};

struct in_flight {
	struct in_flight_publish *ring;
	unsigned size, head, length; /* of the ring, answered ones included */
	/* to be read */
	unsigned n; /* without an answer */
	size_t bytes;
	struct in_flight_answer *answers;
	unsigned n_answers; /* set to 0 when the user has seen them */
};

/* Returns 0 or -ENOMEM. */
int in_flight_init(struct in_flight *f, unsigned size);
void in_flight_release(struct in_flight *f);

/* How many more fit, with at most `window` of them unanswered. */
unsigned in_flight_room(const struct in_flight *f, unsigned window);
/* Adds the newest. Returns whether it is the oldest as well: nothing was waited for until now. */
bool in_flight_add(struct in_flight *f, int mid, size_t size);
/* Notes the answer; unknown ids and repetitions are dropped. Returns whether another publish is
   the oldest now, or none. */
bool in_flight_answer(struct in_flight *f, int mid, unsigned reason_code);
