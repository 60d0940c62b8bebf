/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* deadline - see deadline.h. */
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "spooler/base/deadline.h"
#include "spooler/base/util.h"

struct shared {
	int r;
	uint64_t progress;
	_Alignas(16) char result[];
};

static _Noreturn void run(deadline_look look, void *argument, struct shared *shared)
{
	(void)close_range(0, ~0U, 0);
	shared->r = look(argument, shared->result, &shared->progress);
	_exit(0);
}

/* Would it run if the machine had the time? Then it is not the disk that holds it. */
static bool is_runnable(pid_t pid)
{
	char path[64], line[256] = "";
	_cleanup_fclose_ FILE *f = NULL;
	const char *s;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	return f && fgets(line, sizeof(line), f) && (s = strrchr(line, ')')) &&
	       strncmp(s, ") R", 3) == 0;
}

/* 0: it has ended by itself. */
static int wait_for(pid_t pid, const volatile uint64_t *progress, unsigned timeout_ms)
{
	_cleanup_close_ int fd = pidfd_open(pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	siginfo_t end = {0};
	uint64_t seen;
	int r;

	if (fd < 0)
		return -errno;
	do {
		seen = *progress;
		r = poll(&p, 1, (int)timeout_ms);
	} while ((r < 0 && errno == EINTR) || (r == 0 && (*progress != seen || is_runnable(pid))));
	if (r == 0)
		return -ETIMEDOUT;
	if (waitid(P_PIDFD, (id_t)fd, &end, WEXITED) < 0)
		return -errno;
	return end.si_code == CLD_EXITED ? 0 : -EPROTO;
}

int deadline_call(deadline_look look, void *argument, void *ret_result, size_t size,
		  unsigned timeout_ms)
{
	struct shared *shared = mmap(NULL, sizeof(*shared) + size, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;
	int r;

	if (shared == MAP_FAILED)
		return -errno;
	pid = fork();
	if (pid == 0)
		run(look, argument, shared);
	r = pid < 0 ? -errno : wait_for(pid, &shared->progress, timeout_ms);
	if (r < 0 && pid > 0)
		(void)kill(pid, SIGKILL); /* not waited for: it may hang */
	if (r == 0)
		r = shared->r;
	memcpy(ret_result, shared->result, size);
	(void)munmap(shared, sizeof(*shared) + size);
	return r;
}
