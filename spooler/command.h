/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* command - the subcommands of virtspool: one function each, in cmd-NAME.c, listed in the table of virtspool.c. */
#pragma once

/* Exit codes of all subcommands; virtspool(1) tells them. `status` alone uses 1 and 2 for degraded and down. */
enum command_exit {
	COMMAND_OK = 0,
	COMMAND_FAILED = 1,       /* it was tried, and failed; the line on stderr says why */
	COMMAND_USAGE = 64,       /* sysexits.h's EX_USAGE: the command line */
	COMMAND_UNAVAILABLE = 69, /* EX_UNAVAILABLE: no broker could be reached */
	COMMAND_RIGHTS = 77,      /* EX_NOPERM: needs more rights than the caller has */
	COMMAND_CONFIG = 78,      /* EX_CONFIG: the configuration */
};

#define DEFAULT_CONFIG CONFIGDIR "/virtspool.yaml"

/* argv[0] is the subcommand's name. Returns an exit code. */
typedef int (*command_run)(int argc, char **argv);

int cmd_watch(int argc, char **argv);
