/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * coverage - which numbers of one epoch of a host are accounted for.
 *
 * Pure. A struct coverage is the row of an epoch and those of its open holes that matter; it is
 * shown numbers in any order and keeps, always, holes = begin..highest minus the numbers seen. So
 * neither order nor repetition changes the outcome.
 *
 * Numbers before `begin` are of no interest: those of the host's first epoch before the record
 * began, and what was pruned.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hole {
	int64_t first, last;
	int64_t found; /* us since 1970 */
	bool lost;     /* the host says that these never reached its spool */
};

struct coverage {
	int64_t lowest, highest; /* numbers seen, or known to be assigned; 0: none */
	int64_t begin_at;	 /* from 1 */
	bool first_epoch;	 /* the host's first: it begins with the lowest number seen */
	struct hole *holes;	 /* open, sorted, disjoint */
	size_t n_holes, allocated;
	bool failed; /* no memory */
};

/* A number was seen. Returns true if it filled a hole, which is then in *ret_hole as it was. */
bool coverage_see(struct coverage *c, int64_t sequence, int64_t now, struct hole *ret_hole);
/* The host has assigned all numbers up to this one, and begins no other in this epoch. */
void coverage_end(struct coverage *c, int64_t sequence, int64_t now);
/* The host has lost these numbers. */
void coverage_lose(struct coverage *c, int64_t first, int64_t last, int64_t now);
/* It is, or is no longer, the host's first epoch. */
void coverage_set_first(struct coverage *c, bool first_epoch, int64_t now);
/* How many numbers are missing. */
int64_t coverage_missing(const struct coverage *c);
/* Adds a hole as it was stored. */
void coverage_load(struct coverage *c, const struct hole *h);
void coverage_release(struct coverage *c);
