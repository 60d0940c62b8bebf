/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* loop - see loop.h. */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "spooler/base/loop.h"

int loop_add_timer(sd_event *loop, sd_event_source **ret_source, uint64_t accuracy_usec,
		   sd_event_time_handler_t handler, void *userdata)
{
	int r = sd_event_add_time(loop, ret_source, CLOCK_MONOTONIC, 0, accuracy_usec, handler,
				  userdata);

	return r < 0 ? r : sd_event_source_set_enabled(*ret_source, SD_EVENT_OFF);
}

int loop_add_turn(sd_event *loop, sd_event_source **ret_source, sd_event_time_handler_t handler,
		  void *userdata)
{
	return loop_add_timer(loop, ret_source, 1, handler, userdata);
}

int loop_add_signals(sd_event *loop, const struct loop_signal *signals, size_t n, void *userdata)
{
	sigset_t mask;
	int r = 0;

	(void)sigemptyset(&mask);
	for (size_t i = 0; i < n; i++)
		(void)sigaddset(&mask, signals[i].number);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return -errno;
	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < n && r >= 0; i++)
		if (signals[i].handler)
			r = sd_event_add_signal(loop, NULL, signals[i].number, signals[i].handler,
						userdata);
	return r;
}
