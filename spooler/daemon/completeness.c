/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* completeness - see completeness.h. Gaps are a short sorted list of ranges: losses are rare, and
   late comers soon come. */
#include "spooler/base/util.h"
#include "spooler/daemon/completeness.h"

struct epoch *completeness_find(const struct completeness *c, const char *epoch)
{
	for (size_t i = c->n; i > 0; i--)
		if (strcmp(c->epochs[i - 1].epoch, epoch) == 0)
			return (struct epoch *)&c->epochs[i - 1];
	return NULL;
}

const struct epoch *completeness_latest(const struct completeness *c)
{
	static const struct epoch none;

	return c->n > 0 ? &c->epochs[c->n - 1] : &none;
}

/* Up to which number may events of an epoch that is seen for the first time have been taken
   away? */
static uint64_t doubt_of(const struct completeness *c, const char *epoch, uint64_t sequence,
			 const struct spool_id *id)
{
	if (sequence == 1 || c->loaded)
		return 0; /* nobody has taken anything: the first one is still there */
	if (strcmp(epoch, c->start_epoch) == 0)
		return c->start_sequence;
	return spool_id_ms(id) >= c->start_ms ? 0 : UINT64_MAX;
}

static struct epoch *epoch_add(struct completeness *c, const char *epoch, uint64_t sequence,
			       const struct spool_id *id)
{
	struct epoch *e;

	if (c->n == COMPLETENESS_EPOCHS) {
		memmove(&c->epochs[0], &c->epochs[1], (c->n - 1) * sizeof(c->epochs[0]));
		c->n--;
	}
	e = &c->epochs[c->n++];
	*e = (struct epoch){.highest = sequence, .highest_id = *id};
	(void)snprintf(e->epoch, sizeof(e->epoch), "%s", epoch);
	e->certain_from = doubt_of(c, epoch, sequence, id);
	return e;
}

static size_t gap_find(const struct epoch *e, uint64_t sequence)
{
	size_t i = 0;

	while (i < e->n_gaps && (sequence < e->gaps[i].first || sequence > e->gaps[i].last))
		i++;
	return i;
}

static void gap_remove(struct epoch *e, size_t i)
{
	memmove(&e->gaps[i], &e->gaps[i + 1], (e->n_gaps - i - 1) * sizeof(e->gaps[0]));
	e->n_gaps--;
}

static void gap_insert(struct epoch *e, size_t i, const struct gap *g)
{
	if (e->n_gaps == COMPLETENESS_GAPS) {
		if (e->gaps[0].state == GAP_OPEN) /* nobody will have looked for it */
			e->unknown += e->gaps[0].last - e->gaps[0].first + 1;
		gap_remove(e, 0);
		i -= i > 0;
	}
	memmove(&e->gaps[i + 1], &e->gaps[i], (e->n_gaps - i) * sizeof(e->gaps[0]));
	e->gaps[i] = *g;
	e->n_gaps++;
}

static void gap_fill(struct epoch *e, size_t i, uint64_t sequence)
{
	struct gap g = e->gaps[i], rest = g;

	e->missing -= g.state == GAP_LOST;
	e->unknown -= g.state == GAP_UNKNOWN;
	if (g.first == g.last) {
		gap_remove(e, i);
	} else if (sequence == g.first) {
		e->gaps[i].first++;
	} else {
		e->gaps[i].last = sequence - 1;
		rest.first = sequence + 1;
		if (sequence < g.last)
			gap_insert(e, i + 1, &rest);
	}
}

enum seen completeness_peek(const struct completeness *c, const char *epoch, uint64_t sequence)
{
	const struct epoch *e = completeness_find(c, epoch);

	if (!e || sequence == e->highest + 1)
		return SEEN_NEXT;
	if (sequence > e->highest)
		return SEEN_GAP;
	return gap_find(e, sequence) < e->n_gaps ? SEEN_LATE : SEEN_AGAIN;
}

enum seen completeness_see(struct completeness *c, const char *epoch, uint64_t sequence,
			   const struct spool_id *id, uint64_t now_usec, uint64_t age_usec)
{
	enum seen seen = completeness_peek(c, epoch, sequence);
	struct epoch *e = completeness_find(c, epoch);
	struct gap g;

	if (!e)
		e = epoch_add(c, epoch, sequence, id);
	if (seen == SEEN_GAP) {
		g = (struct gap){
			.first = e->highest + 1,
			.last = sequence - 1,
			.before = e->highest_id,
			.after = *id,
			.due_usec = now_usec + (age_usec < GAP_USEC ? GAP_USEC - age_usec : 0),
		};
		gap_insert(e, e->n_gaps, &g);
	}
	if (seen == SEEN_LATE)
		gap_fill(e, gap_find(e, sequence), sequence);
	if (sequence > e->highest) {
		e->highest = sequence;
		e->highest_id = *id;
	}
	c->changed |= seen != SEEN_AGAIN;
	return seen;
}

uint64_t completeness_due(const struct completeness *c)
{
	uint64_t due = UINT64_MAX;

	for (size_t i = 0; i < c->n; i++)
		for (size_t k = 0; k < c->epochs[i].n_gaps; k++) {
			const struct gap *g = &c->epochs[i].gaps[k];

			if (g->state == GAP_OPEN && g->due_usec < due)
				due = g->due_usec;
		}
	return due;
}

/* One that is in doubt in part is in two parts afterwards. */
static void gap_split(struct epoch *e, size_t i)
{
	struct gap *g = &e->gaps[i], rest = *g;

	if (g->first > e->certain_from || g->last <= e->certain_from)
		return;
	g->last = e->certain_from;
	rest.first = e->certain_from + 1;
	gap_insert(e, i + 1, &rest);
}

static void judge(struct epoch *e, size_t i)
{
	struct gap *g = &e->gaps[i];
	uint64_t n = g->last - g->first + 1;

	g->state = g->first > e->certain_from ? GAP_LOST : GAP_UNKNOWN;
	if (g->state == GAP_LOST)
		e->missing += n;
	else
		e->unknown += n;
}

void completeness_judge(struct completeness *c, uint64_t now_usec, gap_judged judged,
			void *userdata)
{
	for (size_t i = 0; i < c->n; i++) {
		struct epoch *e = &c->epochs[i];

		for (size_t k = 0; k < e->n_gaps; k++) {
			if (e->gaps[k].state != GAP_OPEN || e->gaps[k].due_usec > now_usec)
				continue;
			if (e->n_gaps < COMPLETENESS_GAPS)
				gap_split(e, k);
			judge(e, k);
			c->changed = true;
			judged(e, &e->gaps[k], userdata);
		}
	}
}

void completeness_doubt(struct completeness *c, const char *epoch, uint64_t up_to)
{
	for (size_t i = 0; i < c->n; i++) {
		struct epoch *e = &c->epochs[i];

		if (epoch && strcmp(e->epoch, epoch) != 0)
			continue;
		if (e->certain_from < up_to)
			e->certain_from = up_to;
		c->changed = true;
	}
}
