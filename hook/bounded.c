/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bounded - the child is made by clone(CLONE_VM): a process of its own, so that the caller's exit
 * does not wait for it, and cheaper than fork(), because the page tables are not copied. The two
 * share errno. They run at the same time only after the caller has given up; then errno may be
 * another error's, but never a success.
 *
 * Both stay on the caller's processor, so that they take turns and neither wakes another processor:
 * on a virtual machine that costs up to 30 us, twice a call. The child ends with a signal other
 * than SIGCHLD, which arrives even if SIGCHLD is ignored. tests/bench/README.md lists what was
 * tried.
 */
#include "hook/bounded.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STACK_SIZE (64 * 1024)
#define PAGE 4096
/* Sent at the child's end. Blocked like all signals; otherwise ignored by default. */
#define ENDED SIGURG
#define LOOK_NS 50000000 /* a look without a signal, should that be ignored */

struct call {
	int (*function)(void *argument);
	void *argument;
	int result;
	atomic_bool done;
};

static struct call calls[BOUNDED_CALLS_MAX];
static unsigned n_calls;
/* "common" places it after all other data, so that small data share a page. */
extern char bounded_stacks[BOUNDED_CALLS_MAX][STACK_SIZE];
__attribute__((common, aligned(16))) char bounded_stacks[BOUNDED_CALLS_MAX][STACK_SIZE];

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

static void stay_on_this_processor(void)
{
	cpu_set_t this_one;
	int cpu = sched_getcpu();

	CPU_ZERO(&this_one);
	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return;
	CPU_SET(cpu, &this_one);
	(void)sched_setaffinity(0, sizeof(this_one), &this_one);
}

/* Reaps the child: process 1 is not guaranteed to. False at the deadline. */
static bool wait_for_end(const struct call *c, pid_t pid, long long deadline)
{
	sigset_t ended;
	pid_t reaped;

	(void)sigemptyset(&ended);
	(void)sigaddset(&ended, ENDED);
	for (;;) {
		long long left = deadline - now_ns();
		/* As the kernel takes it, which knows no 64-bit time here. */
		long wait[2] = {0, (long)(left < LOOK_NS ? left : LOOK_NS)};

		if (left <= 0)
			return false;
		/* Not sigtimedwait(), which goes on after EINTR, without end and deadline. */
		(void)syscall(SYS_rt_sigtimedwait, &ended, NULL, wait, _NSIG / 8);
		/* The signal only says that it is worth looking: others may send it, too. */
		reaped = waitpid(pid, NULL, WNOHANG | __WALL);
		if (reaped == pid || (reaped < 0 && atomic_load(&c->done)))
			return true;
	}
}

int bounded_call(int (*function)(void *argument), void *argument, unsigned wait_ms)
{
	long long deadline = now_ns() + wait_ms * 1000000LL;
	struct call *c;
	uintptr_t stack_end;
	pid_t pid;

	if (n_calls == BOUNDED_CALLS_MAX)
		return -EAGAIN;
	c = &calls[n_calls];
	stack_end = (uintptr_t)bounded_stacks[n_calls++] + STACK_SIZE;
	stack_end -= stack_end % PAGE; /* so that a call touches one page */
	*c = (struct call){.function = function, .argument = argument};
	stay_on_this_processor();
	pid = clone(child, (void *)stack_end, CLONE_VM | CLONE_FS | CLONE_SIGHAND | ENDED, c);
	if (pid < 0)
		return -errno;
	if (!wait_for_end(c, pid, deadline))
		return -ETIMEDOUT;
	return atomic_load(&c->done) ? c->result : -ECHILD;
}
