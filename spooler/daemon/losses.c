/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* losses - see losses.h. */
#include <stdlib.h>

#include "spooler/daemon/losses.h"

#define STEADY_USEC UINT64_C(1000000) /* the middle half of the silences lies within this ... */
#define STEADY_PART 10		      /* ... and this part of a typical one */

void losses_note(struct losses *l, const struct loss *loss)
{
	l->ring[l->next] = *loss;
	l->next = (l->next + 1) % LOSSES_MAX;
	if (l->n < LOSSES_MAX)
		l->n++;
}

void losses_doubt(struct losses *l)
{
	if (l->n > 0)
		l->ring[(l->next + LOSSES_MAX - 1) % LOSSES_MAX].idle = false;
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

/* Of sorted values. */
static bool is_steady(const uint64_t *values, size_t n)
{
	return n > 0 &&
	       values[(3 * n) / 4] - values[n / 4] <= STEADY_USEC + values[n / 2] / STEADY_PART;
}

void losses_summarize(const struct losses *l, uint64_t now_usec, struct losses_summary *ret)
{
	uint64_t lasted[LOSSES_MAX] = {0}, silence[LOSSES_MAX] = {0}, oldest = now_usec;
	struct losses_summary s = {0};

	for (size_t i = 0; i < l->n; i++) {
		const struct loss *loss = &l->ring[i];

		if (now_usec - loss->at_usec > LOSSES_WINDOW_USEC)
			continue;
		lasted[s.count] = loss->lasted_usec;
		silence[s.count++] = loss->silence_usec;
		s.taken_over += loss->taken_over;
		s.idle += loss->idle;
		oldest = loss->at_usec < oldest ? loss->at_usec : oldest;
	}
	s.lasted_usec = median(lasted, s.count);
	s.silence_usec = median(silence, s.count);
	s.steady = is_steady(silence, s.count);
	s.span_usec = s.count < LOSSES_MAX ? LOSSES_WINDOW_USEC : now_usec - oldest;
	*ret = s;
}
