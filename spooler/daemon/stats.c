/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stats - see stats.h. */
#include <stdarg.h>

#include "spooler/base/utf8.h"
#include "spooler/base/util.h"
#include "spooler/daemon/stats.h"

void stats_note_error(struct relay_stats *s, const char *format, ...)
{
	char text[RELAY_ERROR_MAX];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	s->last_error[utf8_replace_controls(text, strlen(text), s->last_error)] = '\0';
	s->last_error_usec = now_usec(CLOCK_REALTIME);
}

void stats_note_latency(struct relay_stats *s, uint64_t usec)
{
	size_t bucket = 0;

	while (bucket < STATUS_LATENCY_BUCKETS && usec > status_latency_bounds[bucket])
		bucket++;
	s->latency_buckets[bucket]++;
	s->latency_sum_usec += usec;
}
