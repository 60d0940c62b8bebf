/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* losses - see losses.h. */
#include <stdlib.h>

#include "spooler/daemon/losses.h"

void losses_note(struct losses *l, const struct loss *loss)
{
	l->ring[l->next] = *loss;
	l->next = (l->next + 1) % LOSSES_MAX;
	if (l->n < LOSSES_MAX)
		l->n++;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static uint64_t median(uint64_t *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare);
	return n > 0 ? values[n / 2] : 0;
}

void losses_summarize(const struct losses *l, uint64_t now_usec, struct losses_summary *ret)
{
	uint64_t lasted[LOSSES_MAX] = {0}, silence[LOSSES_MAX] = {0};
	struct losses_summary s = {0};

	for (size_t i = 0; i < l->n; i++) {
		const struct loss *loss = &l->ring[i];

		if (now_usec - loss->at_usec > LOSSES_WINDOW_USEC)
			continue;
		lasted[s.count] = loss->lasted_usec;
		silence[s.count++] = loss->silence_usec;
		s.taken_over += loss->taken_over;
	}
	s.lasted_usec = median(lasted, s.count);
	s.silence_usec = median(silence, s.count);
	*ret = s;
}
