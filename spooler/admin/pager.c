/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pager - see pager.h. */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <systemd/sd-login.h>

#include "spooler/admin/pager.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"

#define WORDS_MAX 32

static pid_t pager_pid; /* 0: there is none */

/* Root, but somebody else's session. */
static bool is_elevated(void)
{
	uid_t owner;

	if (geteuid() != getuid() || getegid() != getgid())
		return true;
	if (geteuid() != 0)
		return false;
	if (getenv("SUDO_UID") || getenv("PKEXEC_UID") || getenv("DOAS_USER"))
		return true;
	return sd_pid_get_owner_uid(0, &owner) >= 0 && owner != geteuid();
}

/* The user's choice; NULL: there is none. */
static const char *chosen(void)
{
	const char *own = getenv("VIRTSPOOL_PAGER");

	if (is_elevated())
		return NULL;
	return own ? own : getenv("PAGER");
}

/* Runs a command line of blank-separated words with this input. A negative errno if it cannot be
   run. */
static int start(const char *command, int input)
{
	_cleanup_free_ char *line = strdup(command);
	char *words[WORDS_MAX] = {NULL}, *rest;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t signals;
	size_t n = 0;
	int r;

	if (!line)
		return -ENOMEM;
	for (char *w = strtok_r(line, " \t", &rest); w && n + 1 < WORDS_MAX;
	     w = strtok_r(NULL, " \t", &rest))
		words[n++] = w;
	if (n == 0)
		return -ENOENT;
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGPIPE);
	(void)sigaddset(&signals, SIGINT);
	(void)posix_spawnattr_init(&attributes);
	(void)posix_spawnattr_setsigdefault(&attributes, &signals);
	(void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
	r = posix_spawnp(&pager_pid, words[0], &actions, &attributes, words, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attributes);
	if (r != 0)
		pager_pid = 0;
	return -r;
}

static void set_environment(void)
{
	(void)setenv("LESS", "FRSXMK", 1);
	(void)setenv("LESSCHARSET", terminal_ascii(stdout) ? "ascii" : "utf-8", 1);
	if (geteuid() != 0)
		return;
	(void)setenv("LESSSECURE", "1", 1);
	(void)unsetenv("LESSOPEN");
	(void)unsetenv("LESSCLOSE");
}

/* Is there a person in front? A pseudo-terminal without a size is a program's (script, expect):
   nobody there would leave the pager. */
static bool somebody_looks(void)
{
	struct winsize size = {0};
	const char *term = getenv("TERM");

	return isatty(STDIN_FILENO) && term && strcmp(term, "dumb") != 0 &&
	       ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0;
}

int pager_open(void)
{
	const char *command = chosen();
	_cleanup_close_ int input = -1, output = -1;
	int fds[2];

	if (pager_pid > 0 || !somebody_looks())
		return 0;
	if (command && (command[strspn(command, " \t")] == 0 || strcmp(command, "cat") == 0))
		return 0;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return 0;
	input = fds[0];
	output = fds[1];
	set_environment();
	if ((!command || start(command, input) < 0) && start("less", input) < 0)
		return 0;
	terminal_set_paged();
	(void)signal(SIGPIPE, SIG_IGN); /* who leaves the pager early ends us, but not before it */
	(void)signal(SIGINT, SIG_IGN);	/* the pager's: it stops reading then */
	(void)dup2(output, STDOUT_FILENO);
	return 1;
}

void pager_close(void)
{
	if (pager_pid == 0)
		return;
	(void)fflush(stdout);
	(void)close(STDOUT_FILENO);
	while (waitpid(pager_pid, NULL, 0) < 0 && errno == EINTR)
		;
	pager_pid = 0;
}
