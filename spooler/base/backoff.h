/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * backoff - how long to wait before the next attempt: capped exponential back-off with jitter.
 * Microseconds.
 */
#pragma once

#include <stdint.h>

/* The delay after one of `previous` (0: the first): doubled, within the two bounds. */
uint64_t backoff_next(uint64_t previous_usec, uint64_t min_usec, uint64_t max_usec);
/* Takes off up to half of a delay, in proportion to `random` (any number). */
uint64_t backoff_jitter(uint64_t usec, uint32_t random);
/* The same with a random number, so that a thousand hosts do not come back at once. */
uint64_t backoff_scatter(uint64_t usec);
