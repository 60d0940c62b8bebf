/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* backoff - see backoff.h. */
#include <sys/random.h>

#include "spooler/base/backoff.h"
#include "spooler/base/util.h"

uint64_t backoff_next(uint64_t previous_usec, uint64_t min_usec, uint64_t max_usec)
{
	uint64_t next = previous_usec ? 2 * previous_usec : min_usec;

	return next < min_usec ? min_usec : next > max_usec ? max_usec : next;
}

uint64_t backoff_jitter(uint64_t usec, uint32_t random)
{
	return usec - (uint64_t)((usec / 2) * (double)random / UINT32_MAX);
}

uint64_t backoff_scatter(uint64_t usec)
{
	uint32_t random;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random = (uint32_t)now_usec(CLOCK_MONOTONIC); /* good enough to scatter hosts */
	return backoff_jitter(usec, random);
}
