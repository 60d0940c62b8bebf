/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* unheard - see unheard.h. */
#include "spooler/daemon/unheard.h"

static void extend(struct unheard_row *row, uint64_t since_usec, uint64_t until_usec)
{
	if (row->events == 0 || since_usec < row->since_usec)
		row->since_usec = since_usec;
	if (row->events == 0 || until_usec > row->until_usec)
		row->until_usec = until_usec;
}

static bool contains(const struct unheard_row *row, uint64_t usec)
{
	return row->events > 0 && usec >= row->since_usec && usec <= row->until_usec;
}

static void end_row(struct unheard *u)
{
	if (u->now.events - u->now.again >= UNHEARD_MENTIONED) {
		extend(&u->before, u->now.since_usec, u->now.until_usec);
		u->before.events += u->now.events - u->now.again;
	}
	u->now = (struct unheard_row){0};
}

void unheard_note(struct unheard *u, bool heard, bool replayed, uint64_t usec)
{
	if (!heard) {
		extend(&u->now, usec, usec);
		u->now.again += replayed && contains(&u->before, usec);
		u->now.events++;
		return;
	}
	end_row(u);
	if (replayed && contains(&u->before, usec) && --u->before.events == 0)
		u->before = (struct unheard_row){0};
}
