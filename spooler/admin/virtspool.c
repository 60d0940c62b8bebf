/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool - the admin's tool: a table of subcommands. Results go to stdout, messages to
   stderr. */
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
	{"status", cmd_status, "show the overall health"},
	{"list", cmd_list, "list the events in the spool"},
	{"show", cmd_show, "show everything known about an event"},
	{"flush", cmd_flush, "retry everything that waits now"},
	{"replay", cmd_replay, "put events back into the queue"},
	{"drop", cmd_drop, "remove waiting or failed events"},
	{"purge", cmd_purge, "remove old events from the archive"},
	{"config", cmd_config, "print the configuration in force"},
	{"hooks", cmd_hooks, "install, remove or show libvirt's hooks"},
	{"test", cmd_test, "send a test event end to end"},
	{"doctor", cmd_doctor, "check the installation and suggest fixes"},
	{"join", cmd_join, "make this host report, with a bundle from the management node"},
	{"watch", cmd_watch, "show events as they arrive at the broker"},
};

/* Credentials that systemd passes to the daemon's unit (LoadCredential=) have the same bare
   names here; root can read them. */
static void find_credentials(void)
{
	static const char directory[] = "/run/credentials/virtspool.service";

	if (!getenv("CREDENTIALS_DIRECTORY") && access(directory, X_OK) == 0)
		(void)setenv("CREDENTIALS_DIRECTORY", directory, 1);
}

static void print_help(FILE *f)
{
	fputs("Usage: virtspool COMMAND [OPTION...]\n\n"
	      "Shows and manages the spool of virtual machine events.\n\n",
	      f);
	for (size_t i = 0; i < ELEMENTSOF(commands); i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
	fputs("\n`virtspool COMMAND --help` lists the options of a command. See virtspool(1).\n",
	      f);
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
			argv[1] = name; /* for the usage line of the command's --help */
			return commands[i].run(argc - 1, argv + 1);
		}
	log_error("'%s' is not a command; `virtspool --help` lists them", argv[1]);
	return COMMAND_USAGE;
}
