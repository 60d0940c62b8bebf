/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* publishes - see publishes.h. */
#include <errno.h>
#include <stdlib.h>

#include "spooler/mqtt/publishes.h"

int publishes_init(struct publishes *f, unsigned size)
{
	f->ring = calloc(size, sizeof(*f->ring));
	f->answers = calloc(size, sizeof(*f->answers));
	f->size = size;
	return f->ring && f->answers ? 0 : -ENOMEM;
}

void publishes_release(struct publishes *f)
{
	free(f->ring);
	free(f->answers);
	*f = (struct publishes){0};
}

unsigned publishes_room(const struct publishes *f, unsigned window)
{
	unsigned room = f->n < window ? window - f->n : 0;

	return room < f->size - f->length ? room : f->size - f->length;
}

bool publishes_add(struct publishes *f, int mid, size_t size)
{
	bool oldest = f->n == 0;

	f->ring[(f->head + f->length) % f->size] =
		(struct publishes_entry){.mid = mid, .size = (uint32_t)size};
	f->length++;
	f->n++;
	f->bytes += size;
	return oldest;
}

static struct publishes_entry *find(struct publishes *f, int mid)
{
	struct publishes_entry *p;

	for (unsigned i = 0; i < f->length; i++) {
		p = &f->ring[(f->head + i) % f->size];
		if (p->mid == mid)
			return p->answered ? NULL : p;
	}
	return NULL;
}

bool publishes_answer(struct publishes *f, int mid, unsigned reason_code)
{
	struct publishes_entry *p = find(f, mid);
	bool moved = false;

	if (!p)
		return false;
	p->answered = true;
	f->n--;
	f->bytes -= p->size;
	f->answers[f->n_answers++] =
		(struct publishes_answer){.mid = mid, .reason_code = reason_code};
	for (; f->length > 0 && f->ring[f->head].answered; f->length--, moved = true)
		f->head = (f->head + 1) % f->size;
	return moved;
}
