/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* backlog - see backlog.h. */
#include "spooler/base/util.h"
#include "spooler/daemon/backlog.h"
#include "spooler/spool/lookup.h"

#define COUNT_EVERY_USEC (2 * USEC_PER_SEC)
#define COUNT_SHARE 20 /* counting takes at most a twentieth of the time */

static void backlog_count(struct backlog *b)
{
	uint64_t start = now_usec(CLOCK_MONOTONIC), took;
	struct place_count live, emergency, replay;
	uint64_t oldest_ms;
	struct lookup l;

	(void)lookup_open(&l); /* a directory that cannot be opened counts as empty */
	(void)lookup_count(&l, PLACE_NEW, false, &live);
	(void)lookup_count(&l, PLACE_EMERGENCY, false, &emergency);
	(void)lookup_count(&l, PLACE_REPLAY, false, &replay);
	lookup_release(&l);
	b->emergency = emergency.records;
	b->records = live.records + emergency.records + replay.records;
	oldest_ms = live.oldest_ms == 0 || (emergency.oldest_ms != 0 &&
					    emergency.oldest_ms < live.oldest_ms)
			    ? emergency.oldest_ms
			    : live.oldest_ms;
	b->oldest_usec = oldest_ms * 1000;
	took = COUNT_SHARE * (now_usec(CLOCK_MONOTONIC) - start);
	b->next_usec = start + (took > COUNT_EVERY_USEC ? took : COUNT_EVERY_USEC);
}

uint64_t backlog_update(struct backlog *b, bool disk_hangs, struct status_file *s)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC), again = 0;

	if (s->connected || disk_hangs) {
		b->next_usec = 0;
		return 0;
	}
	if (now >= b->next_usec)
		backlog_count(b);
	else
		again = b->next_usec - now;
	s->waiting = b->records;
	s->waiting_emergency = b->emergency;
	s->oldest_usec = b->oldest_usec;
	return again;
}
