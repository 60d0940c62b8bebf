/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sequence - what (epoch, sequence) says about completeness.
 *
 * One struct sequence follows one epoch of one host. It is shown each event's sequence number and
 * says what that means; numbers that were passed over are remembered as holes, until they come late
 * or for good.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Ranges that are remembered; beyond, the oldest is taken for lost for good. */
#define SEQUENCE_HOLES_MAX 64

struct sequence {
	char epoch[33];
	uint64_t highest;
	struct sequence_hole {
		uint64_t first, last;
	} holes[SEQUENCE_HOLES_MAX];
	size_t n_holes;
	uint64_t missing; /* sum of the holes, also of those no longer remembered */
};

enum sequence_meaning {
	SEQUENCE_NEXT,	 /* as expected, or the first that is seen of the epoch */
	SEQUENCE_HOLE,	 /* numbers before it have not been seen: highest + 1 ... sequence - 1 */
	SEQUENCE_LATE,	 /* fills a hole */
	SEQUENCE_REPEAT, /* seen before */
	SEQUENCE_EPOCH, /* another epoch begins with it; the holes of the one before are forgotten */
};

/* What would it mean? Changes nothing. */
enum sequence_meaning sequence_peek(const struct sequence *s, const char *epoch, uint64_t sequence);
/* Notes it, and says what it means. A zeroed struct begins with whatever comes. */
enum sequence_meaning sequence_see(struct sequence *s, const char *epoch, uint64_t sequence);
