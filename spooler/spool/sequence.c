/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sequence - see sequence.h. Holes are a short sorted list of ranges: losses are rare, and late
   comers soon come. */
#include "spooler/spool/sequence.h"
#include "spooler/base/util.h"

static size_t find_hole(const struct sequence *s, uint64_t sequence)
{
	for (size_t i = 0; i < s->n_holes; i++)
		if (sequence >= s->holes[i].first && sequence <= s->holes[i].last)
			return i;
	return SIZE_MAX;
}

static void remove_hole(struct sequence *s, size_t i)
{
	memmove(&s->holes[i], &s->holes[i + 1], (s->n_holes - i - 1) * sizeof(s->holes[0]));
	s->n_holes--;
}

static void insert_hole(struct sequence *s, size_t at, uint64_t first, uint64_t last)
{
	if (s->n_holes == SEQUENCE_HOLES_MAX) {
		remove_hole(s, 0);
		at = at > 0 ? at - 1 : 0;
	}
	memmove(&s->holes[at + 1], &s->holes[at], (s->n_holes - at) * sizeof(s->holes[0]));
	s->holes[at] = (struct sequence_hole){.first = first, .last = last};
	s->n_holes++;
}

static void fill_hole(struct sequence *s, size_t i, uint64_t sequence)
{
	struct sequence_hole h = s->holes[i];

	s->missing--;
	if (h.first == h.last) {
		remove_hole(s, i);
	} else if (sequence == h.first) {
		s->holes[i].first++;
	} else {
		s->holes[i].last = sequence - 1;
		if (sequence < h.last)
			insert_hole(s, i + 1, sequence + 1, h.last);
	}
}

enum sequence_meaning sequence_peek(const struct sequence *s, const char *epoch, uint64_t sequence)
{
	if (!s->epoch[0])
		return SEQUENCE_NEXT;
	if (strcmp(s->epoch, epoch) != 0)
		return SEQUENCE_EPOCH;
	if (sequence == s->highest + 1)
		return SEQUENCE_NEXT;
	if (sequence > s->highest)
		return SEQUENCE_HOLE;
	return find_hole(s, sequence) != SIZE_MAX ? SEQUENCE_LATE : SEQUENCE_REPEAT;
}

enum sequence_meaning sequence_see(struct sequence *s, const char *epoch, uint64_t sequence)
{
	enum sequence_meaning meaning = sequence_peek(s, epoch, sequence);

	switch (meaning) {
	case SEQUENCE_EPOCH:
		*s = (struct sequence){0};
		/* fall through */
	case SEQUENCE_NEXT:
		(void)snprintf(s->epoch, sizeof(s->epoch), "%s", epoch);
		s->highest = sequence;
		break;
	case SEQUENCE_HOLE:
		s->missing += sequence - s->highest - 1;
		insert_hole(s, s->n_holes, s->highest + 1, sequence - 1);
		s->highest = sequence;
		break;
	case SEQUENCE_LATE:
		fill_hole(s, find_hole(s, sequence), sequence);
		break;
	case SEQUENCE_REPEAT:
		break;
	}
	return meaning;
}
