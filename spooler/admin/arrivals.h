/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * arrivals - what a consumer has seen so far: repetitions of an event, and holes in each host's
 * sequence.
 *
 * The newest 65,536 ids are remembered; a repetition of an older one counts as new.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "spooler/spool/sequence.h"

struct arrivals;

/* NULL without memory. */
struct arrivals *arrivals_new(void);
void arrivals_free(struct arrivals *a); /* NULL is fine */

/* Whether this event is seen for the first time; an id is unique within its source. */
bool arrivals_note_id(struct arrivals *a, const char *source, const char *id);
/* Notes a number of the source's epoch; see sequence_see(). If it returns SEQUENCE_HOLE, the
   numbers from *ret_first up to this one, exclusive, have not arrived. */
enum sequence_meaning arrivals_note_number(struct arrivals *a, const char *source,
					   const char *epoch, uint64_t number, uint64_t *ret_first);
