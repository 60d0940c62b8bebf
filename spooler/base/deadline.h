/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * deadline - looks, in bounded time, at something that may hang for ever.
 *
 * A disk or a server that does not answer blocks every process that touches it, and no signal
 * helps. So a child looks, and leaves its result in memory that both share.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Runs look(argument, result, progress) in a child, with result[0..size) zeroed before and shared.
 * A long look counts *progress up; the caller waits while it grows. Returns the result of look;
 * -ETIMEDOUT if *progress did not grow for timeout_ms (the child is killed, and ends as soon as the
 * disk answers); -EPROTO if the child crashed; or another negative errno. Whatever the child wrote
 * until then is copied to ret_result.
 *
 * The child has none of our descriptors, so that a reader of our output does not wait for the
 * child.
 */
typedef int (*deadline_look)(void *argument, void *result, uint64_t *progress);
int deadline_call(deadline_look look, void *argument, void *ret_result, size_t size,
		  unsigned timeout_ms);
