/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bounded - the child is made by clone(CLONE_VM): a process of its own, so that the caller's exit
 * does not wait for it, and cheaper than fork() since the caller's page tables stay. The two share
 * errno; they are never both at work but when the caller has given up, and then a wrong errno can
 * only be another errno, not a success.
 *
 * The child wakes the caller with a futex, before its own exit: waking a sleeping processor takes
 * longer than exiting, so the child is usually a zombie when the caller looks, and is reaped
 * without another sleep. (Of the arrangements measured - sigtimedwait() for SIGCHLD, a pipe, a
 * timer with wait4(), both on one processor, a child made early - this was the cheapest on ext4 and
 * among the cheapest on tmpfs: some 60 us more than no child at all.)
 */
#include "hook/bounded.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FUTEX_WAIT 0 /* as <linux/futex.h> has them, which musl does not bring */
#define FUTEX_WAKE 1
#define STACK_SIZE (64 * 1024)

struct call {
	int (*function)(void *argument);
	void *argument;
	int result;
	atomic_bool done;
	atomic_int running; /* the futex: 1 until the call has returned, or the child is killed */
	_Alignas(64) char stack[STACK_SIZE];
};

static struct call calls[BOUNDED_CALLS_MAX];
static unsigned n_calls;

static void close_descriptors(void)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, 0U, ~0U, 0U) == 0)
		return;
#endif
	for (int fd = 0; fd < 64; fd++)
		(void)close(fd);
}

static int child(void *userdata)
{
	struct call *c = userdata;

	/* A killed child counts as returned. CLONE_CHILD_CLEARTID would do the same; musl 1.2.5
	   refuses it. */
	(void)syscall(SYS_set_tid_address, &c->running);
	close_descriptors();
	c->result = c->function(c->argument);
	atomic_store(&c->done, true);
	atomic_store(&c->running, 0);
	(void)syscall(SYS_futex, &c->running, FUTEX_WAKE, 1, NULL, NULL, 0);
	_exit(0);
}

static long long now_ns(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Reaps the child here: process 1 is not guaranteed to. Waits only briefly, as the child may still
   hang. Where SIGCHLD is ignored the kernel reaps it, and waitpid() fails. */
static void reap(pid_t pid)
{
	sigset_t child_ended;

	for (int i = 0; i < 100; i++) {
		if (waitpid(pid, NULL, WNOHANG) != 0)
			return;
		(void)sched_yield();
	}
	(void)sigemptyset(&child_ended);
	(void)sigaddset(&child_ended, SIGCHLD);
	(void)sigtimedwait(&child_ended, NULL, &(struct timespec){.tv_nsec = 100000000});
	(void)waitpid(pid, NULL, WNOHANG);
}

int bounded_call(int (*function)(void *argument), void *argument, unsigned wait_ms)
{
	long long deadline = now_ns() + wait_ms * 1000000LL;
	struct call *c;
	pid_t pid;

	if (n_calls == BOUNDED_CALLS_MAX)
		return -EAGAIN;
	c = &calls[n_calls++];
	c->function = function;
	c->argument = argument;
	c->running = 1;
	pid = clone(child, c->stack + STACK_SIZE, CLONE_VM | SIGCHLD, c);
	if (pid < 0)
		return -errno;
	while (atomic_load(&c->running)) {
		long long left = deadline - now_ns();
		long wait[2] = {(long)(left / 1000000000),
				(long)(left % 1000000000)}; /* the call takes no time64 */

		if (left <= 0)
			return -ETIMEDOUT;
		(void)syscall(SYS_futex, &c->running, FUTEX_WAIT, 1, wait, NULL, 0);
	}
	reap(pid);
	return atomic_load(&c->done) ? c->result : -ECHILD;
}
