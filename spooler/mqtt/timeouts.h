/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * timeouts - which answer the broker owes us, and until when: CONNACK, PUBACK, PINGRESP; and when a
 * PINGREQ is due. libmosquitto's own keep-alive and time-outs are not used.
 *
 * Pure: the caller reports what happened and when, and asks. Times are CLOCK_MONOTONIC,
 * microseconds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum timeout {
	TIMEOUT_NONE,
	TIMEOUT_CONNACK,
	TIMEOUT_PUBACK,
	TIMEOUT_PINGRESP,
};

struct timeouts {
	/* to be set; keep_alive_us 0: the broker wants no pings */
	uint64_t keep_alive_us, connack_us, puback_us, pingresp_us;

	/* its own */
	uint64_t connack_since; /* 0: the CONNACK has come */
	uint64_t oldest_since;	/* the oldest publish without an answer is waited for since */
	uint64_t ping_since;	/* 0: no ping is out */
	uint64_t last_in, last_out;
	uint64_t patience_since; /* oldest_since or ping_since, and what was sent since then */
	size_t patience_bytes;
	bool paused;
	/* to be read; cleared by the caller, who sends the PINGREQ */
	bool ping_wanted;
};

/* The CONNECT is on its way; the CONNACK has come. */
void timeouts_hello(struct timeouts *t, uint64_t now);
void timeouts_connected(struct timeouts *t);
/* The broker gave a sign of life. */
void timeouts_received(struct timeouts *t, uint64_t now);
void timeouts_sent(struct timeouts *t, uint64_t now);
/* `bytes` were sent, and more are waiting for the line. A large event on a slow line: no answer can
   be expected yet, neither to it nor to a ping after it, while it moves by 512 bytes a second. (A
   broker that takes a byte now and then must not hold everything up.) */
void timeouts_sent_part(struct timeouts *t, size_t bytes);
/* From now on another publish is the oldest without an answer. */
void timeouts_oldest(struct timeouts *t, uint64_t since);
/* While paused, nothing is read and no answer can be expected: pings only show that we are alive.
   */
void timeouts_pause(struct timeouts *t, bool paused, uint64_t now);

/* When to call timeouts_check() at the latest; UINT64_MAX: never. in_flight: a publish waits for
   its answer. */
uint64_t timeouts_next(const struct timeouts *t, bool in_flight);
/* Which answer is overdue. If none is, and a ping is due, ping_wanted is set. */
enum timeout timeouts_check(struct timeouts *t, bool in_flight, uint64_t now);
