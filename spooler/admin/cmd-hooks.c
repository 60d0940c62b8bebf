/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool hooks - installs our hook where libvirt runs it, removes it, or shows where it is.
 *
 * scripts/install-hook does the work, as it does for `make install` and the packages; this is its
 * command line.
 */
#include <argp.h>
#include <unistd.h>

#include "spooler/admin/command.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"

#define SCRIPT PKGLIBEXECDIR "/install-hook"
#define ARGUMENTS_MAX 32

struct arguments {
	const char *action;
	const char *hooksdir;
	/* The others hold the script's name and options, and NULL. */
	char *drivers[ARGUMENTS_MAX - 8];
	size_t n_drivers;
};

static const struct argp_option options[] = {
	{"hooksdir", 'd', "DIR", 0, "libvirt's hooks [" HOOKSDIR "]", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'd':
		a->hooksdir = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (!a->action)
			a->action = arg;
		else if (a->n_drivers == ELEMENTSOF(a->drivers))
			argp_error(state, "too many drivers");
		else
			a->drivers[a->n_drivers++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->action)
			argp_error(state, "missing action: install, remove or status");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Returns the script's option for this action; NULL for install, which needs none. */
static int option_of(const char *action, char **ret_option)
{
	static const struct {
		const char *action;
		char *option;
	} table[] = {{"install", NULL}, {"remove", "--remove"}, {"status", "--status"}};

	for (size_t i = 0; i < ELEMENTSOF(table); i++)
		if (strcmp(table[i].action, action) == 0) {
			*ret_option = table[i].option;
			return 0;
		}
	return -EINVAL;
}

int cmd_hooks(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "install|remove|status [DRIVER...]",
		.doc = "Installs our hook for drivers of libvirt (qemu, lxc, libxl, bhyve, network, daemon), removes "
		       "it, or shows where it is installed.\v"
		       "Without DRIVER, install means qemu, and remove and status mean all drivers. A hook of another "
		       "package is never replaced or removed; ours then goes to DRIVER.d/. status fails (1) if our hook "
		       "is installed nowhere.",
	};
	struct arguments a = {.hooksdir = HOOKSDIR};
	char *command[ARGUMENTS_MAX] = {"install-hook"}, *option;
	size_t n = 1;

	if (!command_parse(&argp, argc, argv, &a))
		return COMMAND_USAGE;
	if (option_of(a.action, &option) < 0) {
		log_error("unknown action '%s'; choose install, remove or status", a.action);
		return COMMAND_USAGE;
	}
	if (strcmp(a.action, "status") != 0 && access(a.hooksdir, F_OK) == 0 &&
	    access(a.hooksdir, W_OK) < 0) {
		log_error("cannot write to '%s': %s", a.hooksdir, strerror(errno));
		return COMMAND_RIGHTS;
	}
	if (option)
		command[n++] = option;
	command[n++] = "--hooksdir";
	command[n++] = (char *)a.hooksdir; /* execv() does not change it */
	command[n++] = "--";
	for (size_t i = 0; i < a.n_drivers; i++)
		command[n++] = a.drivers[i];
	execv(SCRIPT, command);
	log_error("cannot run '" SCRIPT "': %s", strerror(errno));
	return COMMAND_FAILED;
}
