/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* in-flight - see in-flight.h. */
#include <errno.h>
#include <stdlib.h>

#include "spooler/mqtt/in-flight.h"

int in_flight_init(struct in_flight *f, unsigned size)
{
	f->ring = calloc(size, sizeof(*f->ring));
	f->answers = calloc(size, sizeof(*f->answers));
	f->size = size;
	return f->ring && f->answers ? 0 : -ENOMEM;
}

void in_flight_release(struct in_flight *f)
{
	free(f->ring);
	free(f->answers);
	*f = (struct in_flight){0};
}

unsigned in_flight_room(const struct in_flight *f, unsigned window)
{
	unsigned room = f->n < window ? window - f->n : 0;

	return room < f->size - f->length ? room : f->size - f->length;
}

bool in_flight_add(struct in_flight *f, int mid, size_t size)
{
	bool oldest = f->n == 0;

	f->ring[(f->head + f->length) % f->size] =
		(struct in_flight_publish){.mid = mid, .size = (uint32_t)size};
	f->length++;
	f->n++;
	f->bytes += size;
	return oldest;
}

static struct in_flight_publish *find(struct in_flight *f, int mid)
{
	struct in_flight_publish *p;

	for (unsigned i = 0; i < f->length; i++) {
		p = &f->ring[(f->head + i) % f->size];
		if (p->mid == mid)
			return p->answered ? NULL : p;
	}
	return NULL;
}

bool in_flight_answer(struct in_flight *f, int mid, unsigned reason_code)
{
	struct in_flight_publish *p = find(f, mid);
	bool moved = false;

	if (!p)
		return false;
	p->answered = true;
	f->n--;
	f->bytes -= p->size;
	f->answers[f->n_answers++] =
		(struct in_flight_answer){.mid = mid, .reason_code = reason_code};
	for (; f->length > 0 && f->ring[f->head].answered; f->length--, moved = true)
		f->head = (f->head + 1) % f->size;
	return moved;
}
