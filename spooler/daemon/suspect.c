/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* suspect - see suspect.h. */
#include "spooler/daemon/suspect.h"
#include "spooler/base/util.h"

#define STRIKES_ALONE 3	  /* connections lost in a row over one event before it is given alone */
#define STRIKES_CONTROL 5 /* and before another is tried in its place */

bool suspect_is(const struct suspect *s, const struct spool_id *e)
{
	return s->strikes > 0 && memcmp(s->entry.id, e->id, sizeof(e->id)) == 0;
}

bool suspect_needs_alone(const struct suspect *s)
{
	return s->strikes >= STRIKES_ALONE;
}

bool suspect_needs_control(const struct suspect *s)
{
	return s->strikes >= STRIKES_CONTROL && !s->control_taken;
}

bool suspect_bars(const struct suspect *s, const struct spool_id *e, uint64_t lane)
{
	return suspect_needs_control(s) && (suspect_is(s, e) || (lane == s->lane && !s->lonely));
}

void suspect_without_control(struct suspect *s)
{
	s->strikes = STRIKES_ALONE;
	s->lonely = true;
}

void suspect_lost(struct suspect *s, const struct spool_id *oldest, uint64_t lane)
{
	if (suspect_is(s, oldest))
		s->strikes++;
	else if (s->strikes >= STRIKES_CONTROL)
		s->strikes = STRIKES_ALONE; /* the control was not taken either: it is the broker */
	else
		*s = (struct suspect){.entry = *oldest, .lane = lane, .strikes = 1};
}

bool suspect_is_convicted(const struct suspect *s, const struct spool_id *e)
{
	return s->control_taken && suspect_is(s, e);
}

bool suspect_taken(struct suspect *s, const struct spool_id *e)
{
	bool control = suspect_needs_control(s) && !suspect_is(s, e);

	if (suspect_is(s, e))
		*s = (struct suspect){0};
	else if (control)
		s->control_taken = true;
	return control;
}
