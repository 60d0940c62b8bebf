/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* loop - what every program's event loop needs beside sd-event. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/* Adds a timer of CLOCK_MONOTONIC, which is made off: set its time and enable it. accuracy_usec: how
   late it may be; 0: sd-event's default, 250 ms. */
int loop_add_timer(sd_event *loop, sd_event_source **ret_source, uint64_t accuracy_usec,
		   sd_event_time_handler_t handler, void *userdata);

/*
 * Adds one more turn of the loop, after all others that are due have had theirs. Enable it,
 * SD_EVENT_ONESHOT or SD_EVENT_ON, to be called; it is made off.
 *
 * It is a timer that is always due, not a deferred source. sd-event treats deferred sources as
 * pending since they were made, so one that enables itself again and again would run before all
 * signals, timers and sockets.
 */
int loop_add_turn(sd_event *loop, sd_event_source **ret_source, sd_event_time_handler_t handler,
		  void *userdata);

struct loop_signal {
	int number;
	sd_event_signal_handler_t handler; /* NULL: the signal is only blocked */
};

/* Blocks the signals in this thread, and in those that it makes from now on, and has the loop call
   their handlers. SIGPIPE is ignored. Negative errno. */
int loop_add_signals(sd_event *loop, const struct loop_signal *signals, size_t n, void *userdata);
