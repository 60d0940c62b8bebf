/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* command - see command.h. */
#include <sys/ioctl.h>

#include "spooler/base/format.h"
#include "spooler/base/log.h"
#include "spooler/base/number.h"
#include "spooler/base/terminal.h"
#include "spooler/base/utf8.h"
#include "spooler/base/util.h"
#include "spooler/recorder/command.h"
#include "spooler/spool/filter.h"

#define TERMINAL_LIMIT 100

/* --- the command line */

static int64_t parse_time(const struct argp_state *state, const char *option, const char *text)
{
	uint64_t ms = 0;

	if (filter_parse_time(text, (int64_t)time(NULL), &ms) < 0)
		argp_error(
			state,
			"%s: '%s' is not a time; try 2h, yesterday, 14:00, 2026-11-21 or 2026-11-21T08:00:00Z",
			option, text);
	return (int64_t)ms * 1000;
}

static error_t command_argument(char *arg, struct argp_state *state)
{
	struct command *c = state->input;

	if (!c->argument_name)
		argp_error(state, "'%s': takes no arguments", arg);
	else if (c->argument)
		argp_error(state, "'%s': takes one %s", arg, c->argument_name);
	c->argument = arg;
	return 0;
}

error_t command_option(int key, char *arg, struct argp_state *state)
{
	struct command *c = state->input;
	uint64_t number = 0;

	switch (key) {
	case 'c':
		c->config = arg;
		return 0;
	case OPTION_CAFILE:
		c->ca_file = arg;
		return 0;
	case OPTION_CRLFILE:
		c->crl_file = arg;
		return 0;
	case OPTION_STORE:
		c->store = arg;
		return 0;
	case 'j':
		c->json = true;
		return 0;
	case 'f':
		c->follow = true;
		return 0;
	case 'y':
		c->yes = true;
		return 0;
	case 'a':
		c->all = true;
		return 0;
	case 'n':
		if (!number_parse(arg, "", NULL, &c->limit) || c->limit == 0)
			argp_error(state, "--limit: '%s' is not a number from 1", arg);
		return 0;
	case 'v':
		c->filter.vm = arg;
		return 0;
	case 'H':
		c->filter.host = arg;
		return 0;
	case 'o':
		c->filter.operation = arg;
		return 0;
	case 'd':
		c->filter.driver = arg;
		return 0;
	case OPTION_STATE:
		c->filter.state = arg;
		return 0;
	case OPTION_SINCE:
		c->filter.since = parse_time(state, "--since", arg);
		return 0;
	case OPTION_UNTIL:
		c->filter.until = parse_time(state, "--until", arg);
		return 0;
	case OPTION_BEFORE:
		c->before_us = (uint64_t)parse_time(state, "--before", arg);
		return 0;
	case OPTION_LAST_ARRIVAL:
		c->last_arrival = true;
		return 0;
	case OPTION_AFTER:
		c->after = -1;
		if (strcmp(arg, "-1") == 0)
			return 0;
		if (!number_parse(arg, "", NULL, &number) || number == 0 || number > INT64_MAX)
			argp_error(state, "--after: '%s' is not the arrival of an event", arg);
		c->after = (int64_t)number;
		return 0;
	case OPTION_OLDEST:
		c->filter.oldest_first = true;
		return 0;
	case ARGP_KEY_ARG:
		return command_argument(arg, state);
	case ARGP_KEY_END:
		if (c->argument_name && !c->argument)
			argp_error(state, "missing %s", c->argument_name);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

bool command_parse(const struct argp *argp, int argc, char **argv, struct command *c)
{
	c->config = CONFIG_RECORDER_FILE;
	argp_err_exit_status = COMMAND_USAGE;
	return argp_parse(argp, argc, argv, 0, NULL, c) == 0;
}

int command_load(struct command *c)
{
	if (c->loaded)
		return COMMAND_OK;
	return config_load_for(CONFIG_RECORDER, c->config, stderr, &c->loaded) < 0 ? COMMAND_CONFIG
										   : COMMAND_OK;
}

const char *command_store(struct command *c, int *ret_exit)
{
	*ret_exit = COMMAND_OK;
	if (c->store)
		return c->store;
	*ret_exit = command_load(c);
	return *ret_exit == COMMAND_OK ? c->loaded->recorder.store : NULL;
}

const char *command_ca_file(struct command *c)
{
	if (c->ca_file)
		return c->ca_file;
	if (access(c->config, R_OK) < 0 || command_load(c) != COMMAND_OK)
		return NULL;
	return c->loaded->recorder.verify_ca_file ? c->loaded->recorder.verify_ca_file
						  : c->loaded->tls.ca_file;
}

int command_failure(int error, const char *text)
{
	log_error("%s", text && *text ? text : strerror(-error));
	return error == -EACCES || error == -EPERM	       ? COMMAND_RIGHTS
	       : error == -ENOTCONN || error == -EAGAIN	       ? COMMAND_UNAVAILABLE
	       : error == -EPROTONOSUPPORT || error == -EPROTO ? COMMAND_CONFIG
							       : COMMAND_FAILED;
}

int command_open(struct command *c)
{
	_cleanup_free_ char *error = NULL;
	int code, r;
	const char *url = command_store(c, &code);

	if (!url)
		return code;
	r = query_open(url, &c->query, &error);
	return r < 0 ? command_failure(r, error) : COMMAND_OK;
}

void command_release(struct command *c)
{
	query_close(c->query);
	config_free(c->loaded);
}

/* --- output */

bool command_output_ended(void)
{
	return ferror(stdout);
}

int command_finish(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	if (errno == EPIPE)
		return code;
	log_error("cannot write the output: %m");
	return COMMAND_FAILED;
}

uint64_t command_limit(const struct command *c)
{
	if (c->limit)
		return c->limit;
	return !c->all && !c->json && isatty(STDOUT_FILENO) ? TERMINAL_LIMIT : UINT64_MAX;
}

int command_footer(const struct command *c, int r, uint64_t shown, bool more, const char *nothing)
{
	if (r < 0 && r != -EPIPE)
		return command_failure(r, query_error(c->query));
	if (!nothing)
		return COMMAND_OK;
	(void)fflush(stdout);
	if (shown == 0 && !c->json)
		fprintf(stderr, "%s\n", nothing);
	else if (more && !c->limit)
		fprintf(stderr, "%llu shown, there are more; see --limit and --all\n",
			(unsigned long long)shown);
	return COMMAND_OK;
}

unsigned command_columns(void)
{
	static int columns = -1; /* it is asked for each cell */
	struct winsize w;

	if (columns < 0 && (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0))
		columns = 0;
	else if (columns < 0)
		columns = w.ws_col >= 40 ? w.ws_col : 80;
	return (unsigned)columns;
}

/* Characters of a UTF-8 string, and where the n-th ends. */
static unsigned characters(const char *s, unsigned most, size_t *ret_bytes)
{
	unsigned n = 0;
	size_t i = 0;

	while (s[i] && n < most) {
		i++;
		while (((unsigned char)s[i] & 0xc0) == 0x80)
			i++;
		n++;
	}
	*ret_bytes = i;
	return n;
}

void command_cell(const char *text, unsigned width)
{
	_cleanup_free_ char *safe = terminal_text(stdout, text, strlen(text));
	bool cut;
	size_t bytes;
	unsigned n;

	if (!safe)
		return;
	n = characters(safe, UINT_MAX, &bytes);
	cut = n > width && command_columns();
	if (cut)
		n = characters(safe, width - 1, &bytes) + 1;
	(void)fwrite(safe, 1, bytes, stdout);
	if (cut)
		(void)putchar('~');
	for (; n < width; n++)
		(void)putchar(' ');
	(void)putchar(' ');
}

void command_last_cell(const char *text, unsigned used)
{
	_cleanup_free_ char *safe = terminal_text(stdout, text, strlen(text));
	unsigned columns = command_columns();
	size_t bytes = safe ? strlen(safe) : 0;

	if (safe && columns > used)
		(void)characters(safe, columns - used, &bytes);
	(void)fwrite(safe ? safe : "", 1, bytes, stdout);
	(void)putchar('\n');
}

void command_header(const char *line)
{
	bool colour = terminal_colour(stdout);

	printf("%s%s%s\n", colour ? TERMINAL_BOLD : "", line, colour ? TERMINAL_RESET : "");
}

void command_print_json(json_t *o)
{
	_cleanup_free_ char *text = json_dumps(o, JSON_COMPACT),
			    *safe = text ? terminal_json(text) : NULL;

	puts(safe ? safe : "{}");
	json_decref(o);
}

json_t *command_json_text(const char *s)
{
	return s && *s ? json_string(s) : json_null();
}

void command_format_time(int64_t usec, bool with_ms, char ret[static 32])
{
	if (usec <= 0) {
		strcpy(ret, "-");
		return;
	}
	format_time((uint64_t)usec / 1000, ret);
	if (!with_ms && strlen(ret) > 19)
		ret[19] = 0;
}
