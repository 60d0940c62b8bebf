/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bounded - calls a function that may hang in the kernel, and waits for it a bounded time.
 *
 * A file system that is frozen, or whose server or device is gone, holds a process where no signal
 * reaches it. libvirt waits for its hook without a time-out, so the hook must not be that process:
 * a child does the call. It shares the caller's memory (no page is copied, and the result needs no
 * pipe) but not its descriptors, all of which it closes first: a child that held the hook's stdout
 * would look to libvirt like a hook that still runs.
 */
#pragma once

/* Each call has a stack of its own: one that timed out is never free again. */
#define BOUNDED_CALLS_MAX 5

/*
 * Returns the result of function(argument). -ETIMEDOUT: the function still runs, and must keep
 * everything that it uses; -ECHILD: the child was killed; other negative errnos: it did not begin.
 * No signal may be caught meanwhile (block them all).
 */
int bounded_call(int (*function)(void *argument), void *argument, unsigned wait_ms);
