/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-recorder - the management node's record: a table of subcommands. Results go to stdout,
   chatter to stderr. */
#include <signal.h>

#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/recorder/command.h"

const char *argp_program_version = "virtspool-recorder " PACKAGE_VERSION;
const char *argp_program_bug_address = "<" PACKAGE_BUGREPORT ">";

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{"run", cmd_run, "record events; what the service runs"},
	{"init", cmd_init, "set up the recorder, and make a bundle for each host"},
	{"check", cmd_check, "check configuration and store"},
	{"hosts", cmd_hosts, "show the hosts: online, last heard of, how complete"},
	{"guests", cmd_guests, "show where each virtual machine is, and its state"},
	{"log", cmd_log, "show events, also as they arrive"},
	{"timeline", cmd_timeline, "show what happened to a virtual machine"},
	{"holes", cmd_holes, "show which events have not arrived"},
	{"rejects", cmd_rejects, "show messages that were not recorded, and why"},
	{"prune", cmd_prune, "remove old events now"},
	{"rebuild", cmd_rebuild, "rebuild all state from the events"},
	{"forget", cmd_forget, "end the session at the broker"},
	{"export", cmd_export, "write events, certificates and holes to a file: evidence"},
	{"verify", cmd_verify, "verify such a file, without the store"},
	{"import-task-log", cmd_import_task_log, "take over the database of the recipe task-log"},
};

/* Credentials that systemd passes to the service (LoadCredential=) have the same bare names here;
   root can read them. */
static void find_credentials(void)
{
	static const char directory[] = "/run/credentials/virtspool-recorder.service";

	if (!getenv("CREDENTIALS_DIRECTORY") && access(directory, X_OK) == 0)
		(void)setenv("CREDENTIALS_DIRECTORY", directory, 1);
}

static void print_help(FILE *f)
{
	fputs("Usage: virtspool-recorder COMMAND [OPTION...]\n\n"
	      "Stores and shows the events of virtual machines on all hosts.\n\n",
	      f);
	for (size_t i = 0; i < ELEMENTSOF(commands); i++)
		fprintf(f, "  %-16s %s\n", commands[i].name, commands[i].help);
	fputs("\n`virtspool-recorder COMMAND --help` lists options. See virtspool-recorder(8).\n",
	      f);
}

static bool is_help(const char *s)
{
	return strcmp(s, "--help") == 0 || strcmp(s, "-?") == 0 || strcmp(s, "-h") == 0 ||
	       strcmp(s, "help") == 0;
}

int main(int argc, char **argv)
{
	static char name[64];

	log_set_program("virtspool-recorder");
	find_credentials();
	if (argc < 2) {
		print_help(stderr);
		return COMMAND_USAGE;
	}
	if (is_help(argv[1])) {
		print_help(stdout);
		return command_finish(COMMAND_OK);
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts(argp_program_version);
		return command_finish(COMMAND_OK);
	}
	if (strcmp(argv[1], "--help-config") == 0) {
		config_print_keys(stdout, CONFIG_RECORDER);
		return command_finish(COMMAND_OK);
	}
	for (size_t i = 0; i < ELEMENTSOF(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0) {
			(void)snprintf(name, sizeof(name), "virtspool-recorder %s",
				       commands[i].name);
			argv[1] = name; /* so that the command's --help shows how it is called */
			return commands[i].run(argc - 1, argv + 1);
		}
	log_error("'%s' is not a command; `virtspool-recorder --help` lists them", argv[1]);
	return COMMAND_USAGE;
}
