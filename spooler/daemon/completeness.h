/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * completeness - which sequence numbers of this host were seen, and whether a gap is a loss.
 *
 * A gap is a claim about the host, so it needs proof. When a number is passed over, nothing is said
 * for GAP_USEC, longer than a hook may take. Then the numbers are looked for in every directory of
 * the spool (completeness-file.h), and among those that an administrator dropped. A number that is
 * nowhere is lost if nobody can have taken it away before: each epoch knows from which number on
 * all of them were followed (certain_from). Below it a number is unknown, never lost: an earlier
 * daemon may have delivered it, or it lies in a spool whose file system was mounted over.
 *
 * The knowledge survives a restart (completeness-file.h). Pure: time and ids come from the caller.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spooler/spool/spoolid.h"

#define COMPLETENESS_EPOCHS 8 /* boots that are followed at a time */
#define COMPLETENESS_GAPS 64  /* of an epoch; the oldest is forgotten, and counted, beyond that */
#define GAP_USEC UINT64_C(10000000) /* CLOCK_MONOTONIC from when a gap was seen to its judgement */

enum gap_state {
	GAP_OPEN, /* may still be filled, or has not been looked for yet */
	GAP_LOST, /* never reached the spool */
	GAP_UNKNOWN,
};

struct gap {
	uint64_t first, last;
	struct spool_id before, after; /* ids of one host sort as its numbers do: it lies between */
	uint64_t due_usec;	       /* CLOCK_MONOTONIC */
	enum gap_state state;
};

struct epoch {
	char epoch[33];
	uint64_t highest; /* that was seen */
	struct spool_id highest_id;
	uint64_t certain_from; /* larger numbers were followed from their beginning */
	struct gap gaps[COMPLETENESS_GAPS];
	size_t n_gaps;
	uint64_t missing; /* lost */
	uint64_t unknown;
};

/* A zeroed struct knows nothing. */
struct completeness {
	struct epoch epochs[COMPLETENESS_EPOCHS]; /* in the order in which they were first seen */
	size_t n;
	bool changed; /* since it was last saved */

	/* From the daemon's start: the hooks' own stamp then, and whether it loaded the knowledge
	   of an earlier daemon that ended in good order. */
	char start_epoch[33];
	uint64_t start_sequence;
	uint64_t start_ms; /* since 1970 */
	bool loaded;
};

enum seen {
	SEEN_NEXT,  /* as expected, or the first of its epoch */
	SEEN_GAP,   /* numbers before it were passed over */
	SEEN_LATE,  /* it was in a gap */
	SEEN_AGAIN, /* seen before */
};

/* What would it mean? Changes nothing. */
enum seen completeness_peek(const struct completeness *c, const char *epoch, uint64_t sequence);
/* Notes it. The wait for a gap before this event is shorter by the event's age. */
enum seen completeness_see(struct completeness *c, const char *epoch, uint64_t sequence,
			   const struct spool_id *id, uint64_t now_usec, uint64_t age_usec);
/* The epoch that began last; never NULL. */
const struct epoch *completeness_latest(const struct completeness *c);
struct epoch *completeness_find(const struct completeness *c, const char *epoch);

/* When the next open gap has to be judged, CLOCK_MONOTONIC; UINT64_MAX: there is none. */
uint64_t completeness_due(const struct completeness *c);
/* After they have been looked for: what is still open and due is lost or unknown. The callback is
   called once for each, to log it. */
typedef void (*gap_judged)(const struct epoch *e, const struct gap *g, void *userdata);
void completeness_judge(struct completeness *c, uint64_t now_usec, gap_judged judged,
			void *userdata);
/* Numbers up to this one (of this epoch; NULL: of all) may have been taken away unseen. */
void completeness_doubt(struct completeness *c, const char *epoch, uint64_t up_to);
