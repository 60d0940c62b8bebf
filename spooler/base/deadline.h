/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * deadline - a look, in bounded time, at something that may hang without end.
 *
 * A disk or a server that does not answer holds every process that touches it, and no signal helps.
 * So a child looks, and leaves what it saw in memory that both share.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Runs look(argument, result, progress) in a child, with result[0..size) zeroed before and shared.
 * A long look counts *progress up, and is waited for while it does. Returns what look returned;
 * -ETIMEDOUT if nothing moved for timeout_ms (the child is killed, and gone when the disk lets it
 * go); -EPROTO if it crashed; or another negative errno. Whatever the child wrote until then is
 * copied to ret_result.
 *
 * The child has none of our descriptors: whoever waits for the end of our output does not wait for
 * it.
 */
typedef int (*deadline_look)(void *argument, void *result, uint64_t *progress);
int deadline_call(deadline_look look, void *argument, void *ret_result, size_t size,
		  unsigned timeout_ms);
