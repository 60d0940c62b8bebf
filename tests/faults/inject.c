/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inject - runs a program, counts the system calls of it and of its children, and makes one of them
 * go wrong.
 *
 *	inject [-o REPORT] [-i POINT:ACTION] [-c SECONDS] [-C SECONDS] -- PROGRAM ARGUMENT...
 *
 *	POINT    PROCESS.N: the Nth call (from 0, after the execve) of the PROCESSth process (from 0, as they are made);
 *	         or *NUMBER: every call of this number
 *	ACTION   errno=E      the call is not made and fails
 *	         again=E      so do all later calls of the same number, in every process
 *	         lie          the call is not made and "succeeds" with 0
 *	         half         the call is made with half of its byte count (read, write and the like)
 *	         kill         SIGKILL for the process before the call
 *	         kill-after   SIGKILL for the process after the call
 *	         kill-all     SIGKILL for all the processes before the call
 *	         hold=FILE    makes FILE, and goes on when it has been removed; the processes stop with it
 *	-c, -C   CLOCK_REALTIME is shifted by SECONDS, or begins at SECONDS
 *
 * The report has one line "PROCESS.N NUMBER" for each call and "end STATUS" when the first process
 * has ended. stdin, stdout and stderr are the program's. inject ends when all the processes have,
 * with the status of the first one (or 128 + its signal). strace can inject too, but counts per
 * process without telling the processes apart, cannot shorten a call and takes ten times as long.
 */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __x86_64__
int main(void)
{
	fputs("inject: knows the registers of x86_64 only\n", stderr);
	return 77;
}
#else

#define PROCESSES_MAX 16
#define OPTIONS                                                                                    \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |    \
	 PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC)

enum action {
	NOTHING,
	FAIL,
	FAIL_AGAIN,
	LIE,
	HALF,
	KILL,
	KILL_AFTER,
	KILL_ALL,
	HOLD,
};

struct process {
	pid_t pid;
	long n;	      /* calls so far */
	bool running; /* the program, not this one between fork and execve */
	bool in_call;
	bool skipped; /* the call that it is in is not made */
	long result;  /* instead */
	bool kill_after;
};

static struct process processes[PROCESSES_MAX];
static int n_processes;

static int arg_process = -1;
static long arg_n, arg_number = -1, arg_errno;
static const char *arg_file;
static enum action arg_action;
static bool arg_shift_clock, arg_set_clock;
static long long arg_clock;
static FILE *report;

static void die(const char *what)
{
	fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
	exit(125);
}

static struct process *find(pid_t pid)
{
	for (int i = 0; i < n_processes; i++) {
		if (processes[i].pid == pid)
			return &processes[i];
	}
	if (n_processes == PROCESSES_MAX)
		die("too many processes");
	processes[n_processes] = (struct process){.pid = pid, .running = n_processes > 0};
	return &processes[n_processes++];
}

static void parse_injection(char *s)
{
	char *action = strrchr(s, ':'), *value;

	if (!action)
		die("no action");
	*action++ = '\0';
	if (*s == '*') {
		arg_number = atol(s + 1);
	} else {
		arg_process = atoi(s);
		arg_n = atol(strchr(s, '.') + 1);
	}
	value = strchr(action, '=');
	if (value) {
		arg_file = value + 1;
		arg_errno = atol(value + 1);
	}
	arg_action = strncmp(action, "errno=", 6) == 0	 ? FAIL
		     : strncmp(action, "again=", 6) == 0 ? FAIL_AGAIN
		     : strcmp(action, "lie") == 0	 ? LIE
		     : strcmp(action, "half") == 0	 ? HALF
		     : strcmp(action, "kill") == 0	 ? KILL
		     : strcmp(action, "kill-after") == 0 ? KILL_AFTER
		     : strcmp(action, "kill-all") == 0	 ? KILL_ALL
		     : strncmp(action, "hold=", 5) == 0	 ? HOLD
							 : NOTHING;
	if (arg_action == NOTHING)
		die("unknown action");
}

static bool is_point(const struct process *p, long number)
{
	if (arg_number >= 0)
		return number == arg_number;
	return p - processes == arg_process && p->n == arg_n;
}

/* The call's number becomes one that does not exist; what it then returns is replaced. */
static void skip(struct process *p, struct user_regs_struct *regs, long result)
{
	regs->orig_rax = (unsigned long long)-1;
	if (ptrace(PTRACE_SETREGS, p->pid, NULL, regs) < 0 && errno != ESRCH)
		die("PTRACE_SETREGS");
	p->skipped = true;
	p->result = result;
}

static void hold(void)
{
	FILE *f = fopen(arg_file, "wxe");

	if (!f)
		die(arg_file);
	fclose(f);
	while (access(arg_file, F_OK) == 0)
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* A write of half of the first part. */
static void shorten_writev(pid_t pid, struct user_regs_struct *regs)
{
	unsigned long long part = regs->rsi;

	regs->orig_rax = SYS_write;
	regs->rsi = (unsigned long long)ptrace(PTRACE_PEEKDATA, pid, (void *)part, NULL);
	regs->rdx = (unsigned long long)ptrace(PTRACE_PEEKDATA, pid, (void *)(part + 8), NULL) / 2;
	(void)ptrace(PTRACE_SETREGS, pid, NULL, regs);
}

static void inject(struct process *p, struct user_regs_struct *regs)
{
	long number = (long)regs->orig_rax;

	switch (arg_action) {
	case FAIL_AGAIN:
		arg_number = number; /* from now on */
		skip(p, regs, -arg_errno);
		break;
	case FAIL:
		skip(p, regs, -arg_errno);
		break;
	case LIE:
		skip(p, regs, 0);
		break;
	case HALF:
		if (number == SYS_read || number == SYS_write || number == SYS_pread64 ||
		    number == SYS_pwrite64) {
			regs->rdx = (regs->rdx + 1) / 2;
			(void)ptrace(PTRACE_SETREGS, p->pid, NULL, regs);
		} else if (number == SYS_writev) {
			shorten_writev(p->pid, regs);
		}
		break;
	case KILL:
		(void)kill(p->pid, SIGKILL);
		break;
	case KILL_AFTER:
		p->kill_after = true;
		break;
	case KILL_ALL:
		for (int i = 0; i < n_processes; i++) {
			if (processes[i].pid > 0)
				(void)kill(processes[i].pid, SIGKILL);
		}
		break;
	case HOLD:
		hold();
		break;
	case NOTHING:
		break;
	}
}

static void entered(struct process *p)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, p->pid, NULL, &regs) < 0)
		return; /* killed meanwhile */
	/* The loader's and AddressSanitizer's, which take no failure for an answer; the hook has
	   neither. */
	if (regs.orig_rax == SYS_sigaltstack || regs.orig_rax == SYS_mmap ||
	    regs.orig_rax == SYS_munmap)
		return;
	if (report)
		fprintf(report, "%d.%ld %ld\n", (int)(p - processes), p->n, (long)regs.orig_rax);
	if (is_point(p, (long)regs.orig_rax))
		inject(p, &regs);
	p->n++;
}

static void change_clock(struct process *p, const struct user_regs_struct *regs)
{
	static bool started;
	long seconds;

	if ((long)regs->orig_rax != SYS_clock_gettime || regs->rdi != CLOCK_REALTIME ||
	    (long)regs->rax != 0)
		return;
	seconds = ptrace(PTRACE_PEEKDATA, p->pid, (void *)regs->rsi, NULL);
	if (arg_set_clock && !started)
		arg_clock -= seconds;
	started = true;
	(void)ptrace(PTRACE_POKEDATA, p->pid, (void *)regs->rsi, (void *)(seconds + arg_clock));
}

static void left(struct process *p)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, p->pid, NULL, &regs) < 0)
		return;
	if (p->skipped) {
		regs.rax = (unsigned long long)p->result;
		(void)ptrace(PTRACE_SETREGS, p->pid, NULL, &regs);
		p->skipped = false;
	}
	if (arg_shift_clock)
		change_clock(p, &regs);
	if (p->kill_after) {
		(void)kill(p->pid, SIGKILL);
		p->kill_after = false;
	}
}

/* Without the kernel's page of fast calls the program asks for the time by a system call, where
   it can be changed. */
static void hide_vdso(pid_t pid)
{
	struct user_regs_struct regs;
	unsigned long p;
	long word;

	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
		die("PTRACE_GETREGS");
	p = regs.rsp;
	p += 8 * (unsigned long)(2 + ptrace(PTRACE_PEEKDATA, pid, (void *)p,
					    NULL));	      /* argc, argv, NULL */
	while (ptrace(PTRACE_PEEKDATA, pid, (void *)p, NULL)) /* the environment */
		p += 8;
	for (p += 8; (word = ptrace(PTRACE_PEEKDATA, pid, (void *)p, NULL)) != AT_NULL; p += 16) {
		if (word == AT_SYSINFO_EHDR)
			(void)ptrace(PTRACE_POKEDATA, pid, (void *)p, (void *)AT_IGNORE);
	}
}

/* Returns the signal to deliver. */
static int stopped(struct process *p, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;

	if (signal == (SIGTRAP | 0x80)) {
		p->in_call = !p->in_call;
		if (!p->running)
			return 0;
		if (p->in_call)
			entered(p);
		else
			left(p);
		return 0;
	}
	if (event == PTRACE_EVENT_EXEC) {
		/* The stop is within the execve: what follows is its exit. */
		p->in_call = true;
		p->running = true;
		p->n = -1;
		if (arg_shift_clock)
			hide_vdso(p->pid);
		p->n = 0;
		return 0;
	}
	if (event || signal == SIGSTOP)
		return 0;
	return signal;
}

static void start(char **argv)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		(void)raise(SIGSTOP);
		execv(argv[0], argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		die("waitpid");
	if (ptrace(PTRACE_SETOPTIONS, pid, NULL, OPTIONS) < 0)
		die("PTRACE_SETOPTIONS");
	find(pid);
	(void)ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
}

static int follow(void)
{
	int status, first = 0;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		struct process *p = find(pid);

		if (WIFSTOPPED(status)) {
			int signal = stopped(p, status);

			(void)ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(long)signal);
			continue;
		}
		p->pid = -1;
		if (p == processes) {
			first = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			if (report) {
				fprintf(report, "end %d\n", first);
				fflush(report);
			}
		}
	}
	return first;
}

int main(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "+o:i:c:C:")) != -1) {
		switch (option) {
		case 'o':
			report = fopen(optarg, "we");
			if (!report)
				die(optarg);
			break;
		case 'i':
			parse_injection(optarg);
			break;
		case 'c':
		case 'C':
			arg_shift_clock = true;
			arg_set_clock = option == 'C';
			arg_clock = atoll(optarg);
			break;
		default:
			return 125;
		}
	}
	if (optind >= argc)
		return 125;
	start(argv + optind);
	return follow();
}
#endif
