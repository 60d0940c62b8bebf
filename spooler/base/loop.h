/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop - one more turn of the loop, after all others that are due have had theirs. Enable it,
 * SD_EVENT_ONESHOT or SD_EVENT_ON, to be called; it is made off.
 *
 * It is a timer that is always due, and no deferred source: sd-event counts those as pending since
 * they were made, so that one that enables itself again and again would come before signals, timers
 * and sockets for as long as it does.
 */
#pragma once

#include <systemd/sd-event.h>
#include <time.h>

static inline int loop_add_turn(sd_event *loop, sd_event_source **ret_source,
				sd_event_time_handler_t handler, void *userdata)
{
	int r;

	r = sd_event_add_time(loop, ret_source, CLOCK_MONOTONIC, 0, 1, handler, userdata);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(*ret_source, SD_EVENT_OFF);
}
