/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool - the admin's tool: a table of subcommands. Results go to stdout, chatter to stderr. */
#include <signal.h>

#include "spooler/admin/command.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"

const char *argp_program_version = "virtspool " PACKAGE_VERSION;

static const struct {
	const char *name;
	command_run run;
	const char *help;
} commands[] = {
	{"status", cmd_status, "tell whether all is well"},
	{"list", cmd_list, "list the events in the spool"},
	{"show", cmd_show, "show all that is known of an event"},
	{"replay", cmd_replay, "put events back into the queue"},
	{"drop", cmd_drop, "remove events that wait or failed"},
	{"purge", cmd_purge, "remove old events from the archive"},
	{"hooks", cmd_hooks, "install, remove or show libvirt's hooks"},
	{"test", cmd_test, "send a probe down the whole road and back"},
	{"doctor", cmd_doctor, "check the installation, and say how to mend it"},
	{"watch", cmd_watch, "show events as they arrive at the broker"},
};

/* What systemd hands to the daemon's unit (LoadCredential=) is meant by the same bare names
   here; root can read it. */
static void find_credentials(void)
{
	static const char directory[] = "/run/credentials/virtspool.service";

	if (!getenv("CREDENTIALS_DIRECTORY") && access(directory, X_OK) == 0)
		(void)setenv("CREDENTIALS_DIRECTORY", directory, 1);
}

static void print_help(FILE *f)
{
	fputs("Usage: virtspool COMMAND [OPTION...]\n\n"
	      "Looks after the spool of virtual machines' events.\n\n",
	      f);
	for (size_t i = 0; i < ELEMENTSOF(commands); i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
	fputs("\n`virtspool COMMAND --help` tells a command's options. See virtspool(1).\n", f);
}

int main(int argc, char **argv)
{
	static char name[64];

	log_set_program("virtspool");
	find_credentials();
	if (argc < 2) {
		print_help(stderr);
		return COMMAND_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0 ||
	    strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		print_help(stdout);
		return command_finish(COMMAND_OK);
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts(argp_program_version);
		return command_finish(COMMAND_OK);
	}
	for (size_t i = 0; i < ELEMENTSOF(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0) {
			(void)snprintf(name, sizeof(name), "virtspool %s", commands[i].name);
			argv[1] = name; /* so that the command's --help shows how it is called */
			return commands[i].run(argc - 1, argv + 1);
		}
	log_error("'%s' is not a command; `virtspool --help` lists them", argv[1]);
	return COMMAND_USAGE;
}
