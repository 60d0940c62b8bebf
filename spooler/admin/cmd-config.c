/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool config - prints the configuration in force: every key with its value, defaults marked.
 *
 * The file is the one that the daemon has loaded, if it runs. Secrets are in files of their own, so
 * only their names are shown.
 */
#include "spooler/admin/command.h"
#include "spooler/admin/pager.h"
#include "hook/spool.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"
#include "spooler/config/config.h"
#include "spooler/spool/status-file.h"

enum { OPTION_NO_PAGER = 0x2000 };

struct arguments {
	const char *config; /* NULL: the daemon's */
	bool no_pager;
};

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0,
	 "the configuration [that of the running daemon, else " CONFIG_FILE "]", 0},
	{"no-pager", OPTION_NO_PAGER, NULL, 0, "do not pipe the output into a pager", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'c':
		a->config = arg;
		return 0;
	case OPTION_NO_PAGER:
		a->no_pager = true;
		return 0;
	default:
		return command_no_arguments(key, arg, state);
	}
}

static int print(const char *path)
{
	_cleanup_free_ char *text = NULL, *line = NULL;
	struct config *c = NULL;
	char *rest, *next;
	size_t size;
	FILE *f;

	if (command_check_config(path) != COMMAND_OK)
		return COMMAND_RIGHTS;
	if (config_load(path, stderr, &c) < 0)
		return COMMAND_CONFIG;
	f = open_memstream(&text, &size);
	if (f) {
		fprintf(f, "# %s\n", path);
		config_print(f, c);
		(void)fclose(f);
	}
	config_free(c);
	for (next = strtok_r(text, "\n", &rest); next; next = strtok_r(NULL, "\n", &rest)) {
		free(line);
		line = terminal_text(stdout, next, strlen(next));
		puts(line ? line : "");
	}
	return COMMAND_OK;
}

/* A refused reload leaves the daemon with what it had, which no file has any more. */
static void warn_of_refused_reload(const struct status_file *s)
{
	_cleanup_free_ char *why =
		s->reload_error ? terminal_text(stderr, s->reload_error, strlen(s->reload_error))
				: NULL;

	if (s->reload_refused_usec > 0)
		fprintf(stderr,
			"the daemon has refused this configuration and goes on with the previous one: %s\n",
			why ? why : "see its log");
}

int cmd_config(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Prints the configuration in force as a file that virtspoold reads: every key with its value, "
		       "defaults marked. Secrets are in files of their own and are not shown.",
	};
	struct arguments a = {0};
	struct status_file s;
	const char *path;
	int r;

	if (!command_parse(&argp, argc, argv, &a))
		return COMMAND_USAGE;
	(void)status_file_read(spool_run_directory(), &s);
	path = a.config ? a.config : s.config && *s.config == '/' ? s.config : CONFIG_FILE;
	if (!a.config)
		warn_of_refused_reload(&s);
	if (!a.no_pager)
		(void)pager_open();
	r = print(path);
	status_file_release(&s);
	return command_finish(r);
}
