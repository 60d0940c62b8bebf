/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * suspect - the event over which connections are lost: is it the event, or the broker?
 *
 * A connection that ends with events in flight and none acknowledged makes its oldest one
 * suspected. Over the same one again, it is given alone; and again, another is given in its place,
 * the control. If the broker takes the control and then falls over the suspect once more, the
 * suspect is convicted. If the control ends the connection as well, it is the broker, and the
 * suspect has its turn again.
 *
 * The control is of another domain, as a domain's events keep their order; only where none is to be
 * had it may be one of the suspect's own, so that a host with a single domain gets past the poison
 * as well.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "spooler/spool/spoolid.h"

struct suspect {
	struct spool_id entry;
	uint64_t lane;
	unsigned strikes; /* 0: nobody is suspected */
	bool lonely;	  /* no event of another domain was to be had */
	bool control_taken;
};

bool suspect_is(const struct suspect *s, const struct spool_id *e);
/* Is one event at a time enough for now? */
bool suspect_needs_alone(const struct suspect *s);
/* Is another to be given in place of the suspect? */
bool suspect_needs_control(const struct suspect *s);
/* Is this one no control, and has to wait for it? */
bool suspect_bars(const struct suspect *s, const struct spool_id *e, uint64_t lane);
/* There is no other: the suspect's turn again. */
void suspect_without_control(struct suspect *s);

/* The connection was lost over this one, the oldest in flight. */
void suspect_lost(struct suspect *s, const struct spool_id *oldest, uint64_t lane);
/* Is it guilty, if the connection is lost with this one alone in flight? */
bool suspect_is_convicted(const struct suspect *s, const struct spool_id *e);
/* The broker took this one. Returns whether it was the control. */
bool suspect_taken(struct suspect *s, const struct spool_id *e);
