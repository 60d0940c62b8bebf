/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* coverage - see coverage.h. */
#include "spooler/base/util.h"
#include "spooler/recorder/coverage.h"

/* --- the sorted list of holes */

/* The first hole that ends at or after this number. */
static size_t find(const struct coverage *c, int64_t sequence)
{
	size_t low = 0, high = c->n_holes;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (c->holes[middle].last < sequence)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void drop(struct coverage *c, size_t at)
{
	memmove(&c->holes[at], &c->holes[at + 1], (c->n_holes - at - 1) * sizeof(c->holes[0]));
	c->n_holes--;
}

static bool adjoin(const struct hole *a, const struct hole *b)
{
	return a->last + 1 == b->first && a->lost == b->lost;
}

/* Adjoining holes become one, so that the order in which they were found does not show. */
static void insert(struct coverage *c, size_t at, struct hole h)
{
	if (h.first > h.last)
		return;
	if (at > 0 && adjoin(&c->holes[at - 1], &h)) {
		h.first = c->holes[--at].first;
		h.found = c->holes[at].found < h.found ? c->holes[at].found : h.found;
		drop(c, at);
	}
	if (at < c->n_holes && adjoin(&h, &c->holes[at])) {
		h.last = c->holes[at].last;
		h.found = c->holes[at].found < h.found ? c->holes[at].found : h.found;
		drop(c, at);
	}
	if (c->n_holes == c->allocated) {
		size_t n = c->allocated ? 2 * c->allocated : 4;
		struct hole *list = reallocarray(c->holes, n, sizeof(*list));

		if (!list) {
			c->failed = true;
			return;
		}
		c->holes = list;
		c->allocated = n;
	}
	memmove(&c->holes[at + 1], &c->holes[at], (c->n_holes - at) * sizeof(h));
	c->holes[at] = h;
	c->n_holes++;
}

/* Takes first..last out of a hole; what is left stays. */
static void cut(struct coverage *c, size_t at, int64_t first, int64_t last)
{
	struct hole h = c->holes[at], before = h, after = h;

	before.last = first - 1 < h.last ? first - 1 : h.last;
	after.first = last + 1 > h.first ? last + 1 : h.first;
	drop(c, at);
	insert(c, at, after);
	insert(c, at, before);
}

void coverage_load(struct coverage *c, const struct hole *h)
{
	insert(c, find(c, h->first), *h);
}

void coverage_release(struct coverage *c)
{
	free(c->holes);
	c->holes = NULL;
	c->n_holes = c->allocated = 0;
}

int64_t coverage_missing(const struct coverage *c)
{
	int64_t n = 0;

	for (size_t i = 0; i < c->n_holes; i++)
		n += c->holes[i].last - c->holes[i].first + 1;
	return n;
}

/* --- what comes */

/* Opens the numbers first..last, as far as they are of interest. */
static void open_range(struct coverage *c, int64_t first, int64_t last, int64_t now)
{
	if (first < c->begin_at)
		first = c->begin_at;
	if (first <= last)
		insert(c, find(c, first),
		       (struct hole){.first = first, .last = last, .found = now});
}

static bool fill(struct coverage *c, int64_t sequence, struct hole *ret_hole)
{
	size_t at = find(c, sequence);

	if (at == c->n_holes || c->holes[at].first > sequence)
		return false;
	*ret_hole = c->holes[at];
	cut(c, at, sequence, sequence);
	return true;
}

bool coverage_see(struct coverage *c, int64_t sequence, int64_t now, struct hole *ret_hole)
{
	bool filled = false;

	if (c->lowest == 0) {
		c->lowest = sequence;
		if (!c->first_epoch && sequence > c->highest)
			open_range(c, c->highest + 1, sequence - 1, now);
		else if (sequence <= c->highest)
			filled = fill(c, sequence, ret_hole);
	} else if (sequence > c->highest) {
		open_range(c, c->highest + 1, sequence - 1, now);
	} else if (sequence < c->lowest && c->first_epoch) {
		open_range(c, sequence + 1, c->lowest - 1, now);
	} else {
		filled = fill(c, sequence, ret_hole);
	}
	if (sequence > c->highest)
		c->highest = sequence;
	if (sequence < c->lowest)
		c->lowest = sequence;
	return filled;
}

void coverage_end(struct coverage *c, int64_t sequence, int64_t now)
{
	if (sequence <= c->highest || (c->lowest == 0 && c->first_epoch))
		return;
	open_range(c, c->highest + 1, sequence, now);
	c->highest = sequence;
}

void coverage_lose(struct coverage *c, int64_t first, int64_t last, int64_t now)
{
	coverage_end(c, last, now);
	for (size_t i = find(c, first); i < c->n_holes && c->holes[i].first <= last; i++) {
		struct hole h = c->holes[i];

		if (h.lost)
			continue;
		if (h.first < first)
			h.first = first;
		if (h.last > last)
			h.last = last;
		h.lost = true;
		cut(c, i, h.first, h.last);
		i = find(c, h.first);
		insert(c, i, h);
	}
}

void coverage_set_first(struct coverage *c, bool first_epoch, int64_t now)
{
	if (c->first_epoch == first_epoch)
		return;
	c->first_epoch = first_epoch;
	if (c->lowest == 0)
		return;
	if (!first_epoch) {
		open_range(c, 1, c->lowest - 1, now);
		return;
	}
	while (c->n_holes && c->holes[0].first < c->lowest)
		cut(c, 0, c->holes[0].first, c->lowest - 1);
}
