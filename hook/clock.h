/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* clock - deadlines on the monotonic clock, in milliseconds. */
#pragma once

#include <time.h>

static inline long long clock_monotonic_ms(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* What is left until the deadline, at most limit_ms; 0 when it has passed. */
static inline unsigned clock_ms_until(long long deadline_ms, unsigned limit_ms)
{
	long long left = deadline_ms - clock_monotonic_ms();

	return left <= 0 ? 0 : left < limit_ms ? (unsigned)left : limit_ms;
}
