/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * losses - how connections ended within the last hour: how often, after how long, and after how
 * much silence. A connection that is lost again and again has a cause that one loss does not show:
 * a proxy that ends idle connections, or two clients with one client id.
 *
 * Pure; times are CLOCK_MONOTONIC microseconds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOSSES_MAX 64 /* that are remembered; more within an hour count as this many */
#define LOSSES_WINDOW_USEC (UINT64_C(3600) * 1000000)

/* A zeroed struct has seen none. */
struct losses {
	struct loss {
		uint64_t at_usec;
		uint64_t lasted_usec; /* from CONNACK to the end */
		/* since an event was published or acknowledged, or the CONNACK */
		uint64_t silence_usec;
		bool taken_over; /* the broker said: by another client with our client id */
		bool idle; /* the peer closed it while it owed us no answer, and did not say why */
	} ring[LOSSES_MAX];
	size_t n, next;
};

struct losses_summary {
	uint64_t count, taken_over, idle;
	uint64_t span_usec; /* in which they happened: an hour, or less if not all are remembered */
	uint64_t lasted_usec, silence_usec; /* the medians; 0 without a loss */
	bool steady; /* the silences were equally long: something ends connections after that */
};

void losses_note(struct losses *l, const struct loss *loss);
/* The attempt after the last loss failed as well: the peer could not be reached. */
void losses_doubt(struct losses *l);
void losses_summarize(const struct losses *l, uint64_t now_usec, struct losses_summary *ret);
