/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * publishes - the publishes of one connection that the broker has not answered, oldest first, and
 * the answers that the user has not seen.
 *
 * Answers may come in any order; an answered publish keeps its place until all before it are
 * answered too. Both lists have the size that was given at the beginning.
 *
 *	publishes_init(&f, 100);
 *	publishes_room(&f, window)		how many may follow
 *	publishes_add(&f, mid, size);		handed to the broker; needs room
 *	publishes_answer(&f, mid, code);		PUBACK; collected in f.answers until f.n_answers = 0
 *	publishes_release(&f);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct publishes_entry {
	int mid;
	bool answered;
	uint32_t size;
};

struct publishes_answer {
	int mid;
	unsigned reason_code;
};

struct publishes {
	struct publishes_entry *ring;
	unsigned size, head, length; /* of the ring, answered ones included */
	/* to be read */
	unsigned n; /* without an answer */
	size_t bytes;
	struct publishes_answer *answers;
	unsigned n_answers; /* set to 0 when the user has seen them */
};

/* Returns 0 or -ENOMEM. */
int publishes_init(struct publishes *f, unsigned size);
void publishes_release(struct publishes *f);

/* How many more fit, with at most `window` of them unanswered. */
unsigned publishes_room(const struct publishes *f, unsigned window);
/* Adds the newest. Returns whether it is the oldest as well: nothing was waited for until now. */
bool publishes_add(struct publishes *f, int mid, size_t size);
/* Notes the answer; unknown ids and repetitions are dropped. Returns whether another publish is
   the oldest now, or none. */
bool publishes_answer(struct publishes *f, int mid, unsigned reason_code);
