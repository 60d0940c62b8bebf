/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* timeouts - see timeouts.h. */
#include "spooler/base/util.h"
#include "spooler/mqtt/timeouts.h"

#define SLOWEST 512 /* bytes a second that a broker must take */

void timeouts_hello(struct timeouts *t, uint64_t now)
{
	t->connack_since = t->last_in = t->last_out = now;
}

void timeouts_connected(struct timeouts *t)
{
	t->connack_since = 0;
}

void timeouts_received(struct timeouts *t, uint64_t now)
{
	t->last_in = now;
	t->ping_since = 0;
}

void timeouts_sent(struct timeouts *t, uint64_t now)
{
	t->last_out = now;
}

void timeouts_sent_part(struct timeouts *t, size_t bytes)
{
	uint64_t since = t->ping_since ? t->ping_since : t->oldest_since, limit_us = t->puback_us;

	if (t->ping_since && t->pingresp_us < limit_us)
		limit_us = t->pingresp_us;
	if (t->patience_since != since) {
		t->patience_since = since;
		t->patience_bytes = 0;
	}
	t->patience_bytes += bytes;
	if (t->patience_bytes < SLOWEST * (limit_us / USEC_PER_SEC))
		return;
	t->oldest_since = t->last_out;
	if (t->ping_since)
		t->ping_since = t->last_out;
}

void timeouts_oldest(struct timeouts *t, uint64_t since)
{
	t->oldest_since = since;
}

void timeouts_pause(struct timeouts *t, bool paused, uint64_t now)
{
	t->paused = paused;
	t->ping_since = 0;
	if (!paused)
		t->last_in = now;
}

static uint64_t ping_due(const struct timeouts *t)
{
	uint64_t last = t->last_in < t->last_out && !t->paused ? t->last_in : t->last_out;

	return t->keep_alive_us == 0 ? UINT64_MAX : last + t->keep_alive_us;
}

uint64_t timeouts_next(const struct timeouts *t, bool in_flight)
{
	uint64_t next;

	if (t->connack_since)
		return t->connack_since + t->connack_us;
	if (t->ping_since)
		next = t->ping_since + t->pingresp_us;
	else
		next = t->ping_wanted ? UINT64_MAX : ping_due(t);
	if (in_flight && t->oldest_since + t->puback_us < next)
		next = t->oldest_since + t->puback_us;
	return next;
}

enum timeout timeouts_check(struct timeouts *t, bool in_flight, uint64_t now)
{
	if (t->connack_since)
		return now >= t->connack_since + t->connack_us ? TIMEOUT_CONNACK : TIMEOUT_NONE;
	if (in_flight && now >= t->oldest_since + t->puback_us)
		return TIMEOUT_PUBACK;
	if (t->ping_since && now >= t->ping_since + t->pingresp_us)
		return TIMEOUT_PINGRESP;
	if (!t->ping_since && now >= ping_due(t)) {
		t->ping_wanted = true;
		t->ping_since = t->paused ? 0 : now;
	}
	return TIMEOUT_NONE;
}
