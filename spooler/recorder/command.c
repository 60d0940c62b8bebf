/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* command - see command.h. */
#include "spooler/base/format.h"
#include "spooler/base/log.h"
#include "spooler/base/memory.h"
#include "spooler/base/number.h"
#include "spooler/base/terminal.h"
#include "spooler/base/utf8.h"
#include "spooler/base/util.h"
#include "spooler/recorder/command.h"
#include "spooler/recorder/db.h"
#include "spooler/spool/filter.h"

#define TERMINAL_LIMIT 100
#define OUTPUT_BUFFER                                                                              \
	(16 * 1024 * 1024) /* a page, see command_pages(); touched only as it is used */

/* --- the command line */

static int64_t parse_time(const struct argp_state *state, const char *option, const char *text)
{
	uint64_t ms = 0;

	if (filter_parse_time(text, (int64_t)time(NULL), &ms) < 0)
		argp_error(
			state,
			"%s: '%s' is not a time; try 2h, yesterday, 14:00, 2026-11-21 or 2026-11-21T08:00:00Z",
			option, text);
	return ms ? (int64_t)ms * 1000 : 1; /* 0: not given */
}

static const char *const states[] = {"running",	 "stopped",  "paused", "crashed",
				     "starting", "incoming", "unknown"};

static void check_state(const struct argp_state *state, const char *text)
{
	for (size_t i = 0; i < ELEMENTSOF(states); i++)
		if (strcmp(text, states[i]) == 0)
			return;
	argp_error(state, "--state: '%s' is not a state; see --help", text);
}

/* The last of two would win, and nobody would notice that the first is ignored. */
static void set_pattern(const struct argp_state *state, const char *option, const char **to,
			const char *text)
{
	if (*to)
		argp_error(state, "%s is given twice; a glob takes several, like 'web*'", option);
	if (!*text)
		argp_error(state, "%s: '' matches nothing", option);
	*to = text;
}

static void check_together(const struct argp_state *state, const struct command *c)
{
	if (c->argument_name && !c->argument)
		argp_error(state, "missing %s", c->argument_name);
	if (c->filter.since && c->filter.until && c->filter.since >= c->filter.until)
		argp_error(state, "--since is not before --until: nothing is in between");
	if (c->follow && c->filter.until)
		argp_error(state, "--follow shows what arrives; it does not go with --until");
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
		set_pattern(state, "--vm", &c->filter.vm, arg);
		return 0;
	case 'H':
		set_pattern(state, "--host", &c->filter.host, arg);
		return 0;
	case 'o':
		set_pattern(state, "--op", &c->filter.operation, arg);
		return 0;
	case 'd':
		set_pattern(state, "--driver", &c->filter.driver, arg);
		return 0;
	case OPTION_STATE:
		check_state(state, arg);
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
		check_together(state, c);
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
	if (access(c->config, R_OK) < 0 && errno == EACCES) {
		log_error("cannot read '%s': %s; this needs root, or the user virtspool-recorder",
			  c->config, strerror(errno));
		return COMMAND_RIGHTS;
	}
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
	return error == -EACCES || error == -EPERM			    ? COMMAND_RIGHTS
	       : error == -ENOTCONN || error == -EAGAIN || error == -ENOENT ? COMMAND_UNAVAILABLE
	       : error == -EPROTONOSUPPORT || error == -EPROTO		    ? COMMAND_CONFIG
									    : COMMAND_FAILED;
}

static int open_query(const struct command *c, const char *url, struct query **ret,
		      char **ret_error)
{
	bool much = c->reads_table && command_limit(c) == UINT64_MAX;

	return query_open(url, much ? DB_LARGE_CACHE : 0, ret, ret_error);
}

int command_open(struct command *c)
{
	_cleanup_free_ char *error = NULL;
	int code, r;
	const char *url = command_store(c, &code);

	if (!url)
		return code;
	(void)setvbuf(stdout, memory_large(OUTPUT_BUFFER), _IOFBF, OUTPUT_BUFFER);
	r = open_query(c, url, &c->query, &error);
	return r < 0 ? command_failure(r, error) : COMMAND_OK;
}

int command_reopen(struct command *c)
{
	_cleanup_free_ char *error = NULL;
	struct query *query;
	int code, r;
	const char *url = command_store(c, &code);

	r = url ? open_query(c, url, &query, &error) : -EINVAL;
	if (r < 0)
		return r;
	query_close(c->query);
	c->query = query;
	return 0;
}

void command_release(struct command *c)
{
	query_close(c->query);
	config_free(c->loaded);
}

/* --- output */

static int output_error; /* the first; errno may be of something else at the end */

bool command_output_ended(void)
{
	if (ferror(stdout) && output_error == 0)
		output_error = errno;
	return ferror(stdout);
}

void command_flush(void)
{
	(void)fflush(stdout);
	(void)command_output_ended();
}

int command_finish(int code)
{
	command_flush();
	if (!command_output_ended() || output_error == EPIPE)
		return code;
	log_error("cannot write the output: %s", strerror(output_error));
	return COMMAND_FAILED;
}

uint64_t command_limit(const struct command *c)
{
	if (c->limit)
		return c->limit;
	return !c->all && !c->json && isatty(STDOUT_FILENO) ? TERMINAL_LIMIT : UINT64_MAX;
}

int command_pages(struct command *c, uint64_t limit, uint64_t page, command_page_fn ask,
		  void *userdata, bool *ret_more)
{
	struct query_page this = {.cursor = ""};
	char cursor[QUERY_CURSOR_SIZE] = "";
	uint64_t left = limit;
	int r;

	do {
		c->filter.limit = left < page ? left : page;
		c->filter.cursor = cursor;
		r = ask(c, userdata, &this);
		if (r < 0)
			break;
		left -= this.rows;
		memcpy(cursor, this.cursor, sizeof(cursor));
		command_flush();
	} while (cursor[0] && left > 0 && !command_output_ended());
	c->filter.cursor = NULL;
	*ret_more = cursor[0];
	return r;
}

int command_footer(const struct command *c, int r, uint64_t shown, bool more, const char *nothing)
{
	if (r < 0 && r != -EPIPE)
		return command_failure(r, query_error(c->query));
	if (!nothing)
		return COMMAND_OK;
	command_flush();
	if (shown == 0 && !c->json)
		fprintf(stderr, "%s\n", nothing);
	else if (more && !c->limit)
		fprintf(stderr, "%llu shown, there are more; see --limit and --all\n",
			(unsigned long long)shown);
	return COMMAND_OK;
}

void command_print_json(json_t *o)
{
	size_t ascii = terminal_ascii(stdout) ? JSON_ENSURE_ASCII : 0;
	_cleanup_free_ char *text = json_dumps(o, JSON_COMPACT | ascii),
			    *safe = text ? terminal_json(text) : NULL;

	puts(safe ? safe : "{}");
	json_decref(o);
}

json_t *command_json_text(const char *s)
{
	return s && *s ? json_string(s) : json_null();
}

json_t *command_json_bytes(const void *data, size_t size)
{
	_cleanup_free_ char *text = malloc(3 * size + 1);

	return text ? json_stringn(text, utf8_replace(data, size, text)) : json_null();
}

void command_format_time(int64_t usec, char ret[static 32])
{
	if (usec <= 0) {
		strcpy(ret, "-");
		return;
	}
	format_time((uint64_t)usec / 1000, ret);
	if (ret[0] != '@') /* without the milliseconds */
		memmove(ret + 19, ret + 23, strlen(ret + 23) + 1);
}
