/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bounded - the child is made by clone(CLONE_VM): a process of its own, so that the caller's exit does not wait for it,
 * and cheaper than fork() since the caller's page tables stay. The two share errno; they are never both at work but
 * when the caller has given up, and then a wrong errno can only be another errno, not a success.
 *
 * SIGCHLD, blocked like all signals, wakes the caller when the child is a zombie. An inherited SIG_IGN would suppress
 * it, so that goes first.
 */
#include "bounded.h"

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

#define STACK_SIZE (64 * 1024)

struct call {
	int (*function)(void *argument);
	void *argument;
	int result;
	atomic_bool done;
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

	close_descriptors();
	c->result = c->function(c->argument);
	atomic_store(&c->done, true);
	_exit(0);
}

static long long now_ns(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int bounded_call(int (*function)(void *argument), void *argument, unsigned wait_ms)
{
	long long deadline = now_ns() + wait_ms * 1000000LL;
	sigset_t child_ended;
	struct call *c;
	pid_t pid;

	if (n_calls == BOUNDED_CALLS_MAX)
		return -EAGAIN;
	c = &calls[n_calls++];
	c->function = function;
	c->argument = argument;
	(void)sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
	pid = clone(child, c->stack + STACK_SIZE, CLONE_VM | SIGCHLD, c);
	if (pid < 0)
		return -errno;

	(void)sigemptyset(&child_ended);
	(void)sigaddset(&child_ended, SIGCHLD);
	for (;;) {
		long long left = deadline - now_ns();
		struct timespec wait = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};

		if (left <= 0)
			break;
		if (sigtimedwait(&child_ended, NULL, &wait) < 0 && errno != EINTR)
			break;
		if (waitpid(pid, NULL, WNOHANG) == pid)
			break;
	}
	return atomic_load(&c->done) ? c->result : -ETIMEDOUT;
}
