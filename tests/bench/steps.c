/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * steps - how many instructions a program and the processes that it makes execute in user mode,
 * counted one by one with ptrace(2). callgrind cannot follow a child that shares memory, and
 * virtual machines often have no counters for perf.
 *
 *   steps PROGRAM ARGUMENT...	prints the count on stderr, as the last line
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS                                                                                    \
	(PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |      \
	 PTRACE_O_TRACEEXEC)

/* A step, or what stands between two: the program's begin, a new process, a signal. */
static int signal_to_deliver(int status, unsigned long *steps)
{
	int signal = WSTOPSIG(status);

	if (status >> 16 || signal == SIGSTOP)
		return 0;
	if (signal == SIGTRAP) {
		(*steps)++;
		return 0;
	}
	return signal;
}

int main(int argc, char **argv)
{
	unsigned long steps = 0;
	int status;
	pid_t pid;

	if (argc < 2)
		return 2;
	pid = fork();
	if (pid == 0) {
		(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		(void)raise(SIGSTOP);
		execv(argv[1], argv + 1);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid ||
	    ptrace(PTRACE_SETOPTIONS, pid, NULL, OPTIONS) < 0) {
		perror("steps");
		return 1;
	}
	(void)ptrace(PTRACE_CONT, pid, NULL, NULL); /* up to the execve */
	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR)
		if (pid > 0 && WIFSTOPPED(status))
			(void)ptrace(PTRACE_SINGLESTEP, pid, NULL,
				     (void *)(long)signal_to_deliver(status, &steps));
	fprintf(stderr, "%lu\n", steps);
	return 0;
}
