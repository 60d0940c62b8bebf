/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* command - what the subcommands of virtspool share, see command.h. */
#include <inttypes.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "spooler/admin/command.h"
#include "spooler/admin/facts.h"
#include "spooler/admin/pager.h"
#include "spooler/config/config.h"
#include "hook/spool.h"
#include "spooler/base/log.h"
#include "spooler/base/number.h"
#include "spooler/config/topic-template.h"
#include "spooler/spool/lookup.h"
#include "spooler/spool/status-file.h"
#include "spooler/base/terminal.h"
#include "spooler/mqtt/transport.h"
#include "spooler/base/utf8.h"
#include "spooler/base/util.h"

#define NEEDS_RIGHTS "this needs root, or the group virtspool"
#define PROGRESS_AFTER_USEC (USEC_PER_SEC / 2)
#define PROGRESS_EVERY_USEC (USEC_PER_SEC / 10)

/* --- the command line */

bool command_parse(const struct argp *argp, int argc, char **argv, void *arguments)
{
	argp_err_exit_status = COMMAND_USAGE;
	return argp_parse(argp, argc, argv, 0, NULL, arguments) == 0;
}

error_t command_no_arguments(int key, const char *arg, const struct argp_state *state)
{
	if (key != ARGP_KEY_ARG)
		return ARGP_ERR_UNKNOWN;
	argp_error(state, "'%s': takes no arguments", arg);
	return 0;
}

/* --- the filter's options */

enum { OPTION_SINCE = 0x1000, OPTION_UNTIL };

static const struct argp_option filter_options[] = {
	{NULL, 0, NULL, 0, "Which events:", 2},
	{"vm", 'v', "NAME|UUID|GLOB", 0, "only these virtual machines", 2},
	{"op", 'o', "GLOB", 0, "only this operation: start, release ...", 2},
	{"driver", 'd', "GLOB", 0, "only this driver: qemu, lxc, network ...", 2},
	{"since", OPTION_SINCE, "TIME", 0,
	 "only events newer than TIME: 2h, yesterday, 14:00, 2026-11-21, 2026-11-21T08:00:00Z ...",
	 2},
	{"until", OPTION_UNTIL, "TIME", 0, "only events older than TIME", 2},
	{0},
};

static void parse_time(const struct argp_state *state, const char *option, const char *text,
		       uint64_t *ret_ms)
{
	if (filter_parse_time(text, (int64_t)time(NULL), ret_ms) < 0)
		argp_error(
			state,
			"%s: '%s' is not a time; try 2h, yesterday, 14:00, 2026-11-21 or 2026-11-21T08:00:00Z",
			option, text);
}

static error_t parse_filter(int key, char *arg, struct argp_state *state)
{
	struct filter *f = state->input;

	switch (key) {
	case 'v':
		f->vm = arg;
		return 0;
	case 'o':
		f->operation = arg;
		return 0;
	case 'd':
		f->driver = arg;
		return 0;
	case OPTION_SINCE:
		parse_time(state, "--since", arg, &f->since_ms);
		return 0;
	case OPTION_UNTIL:
		parse_time(state, "--until", arg, &f->until_ms);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

const struct argp filter_argp = {.options = filter_options, .parser = parse_filter};

uint64_t command_number(const struct argp_state *state, const char *what, const char *text,
			uint64_t most)
{
	uint64_t n = 0;

	if (!number_parse(text, "", NULL, &n) || n == 0 || n > most)
		argp_error(state, "%s: '%s' is not a whole number from 1 to %" PRIu64, what, text,
			   most);
	return n;
}

/* --- errors */

int command_failure(const char *what, int error)
{
	if (error == -EACCES || error == -EPERM) {
		log_error("%s: %s; " NEEDS_RIGHTS, what, strerror(-error));
		return COMMAND_RIGHTS;
	}
	log_error("%s: %s", what, strerror(-error));
	return COMMAND_FAILED;
}

int command_event_failure(const char *what, const struct spool_id *id, int error)
{
	char text[128], name[37];

	spool_id_name(id, name);
	(void)snprintf(text, sizeof(text), "%s event %s in %s/", what, name,
		       place_table[id->source].name);
	return command_failure(text, error);
}

void failures_add(struct failures *f, const struct spool_id *id, int error)
{
	if (f->n < FAILURES_SHOWN) {
		f->ids[f->n] = *id;
		f->errors[f->n] = error;
	}
	f->n++;
}

int failures_report(const struct failures *f)
{
	int code = COMMAND_OK;

	for (uint64_t i = 0; i < f->n && i < FAILURES_SHOWN; i++)
		code = command_event_failure(f->what, &f->ids[i], f->errors[i]);
	if (f->n > FAILURES_SHOWN)
		log_error("%s %" PRIu64 " more events", f->what, f->n - FAILURES_SHOWN);
	return code;
}

int command_spool_failure(int error)
{
	_cleanup_free_ char *what = NULL;

	if (error == -ENOENT) {
		log_error(
			"cannot open the spool '%s': %s; is its file system mounted? See `virtspool doctor`",
			spool_directory(), strerror(-error));
		return COMMAND_FAILED;
	}
	if (error == -ETIMEDOUT) {
		log_error("the spool '%s' does not answer: its disk or file server hangs; "
			  "virtspool status shows what is known without it",
			  spool_directory());
		return COMMAND_FAILED;
	}
	if (asprintf(&what, "cannot open the spool '%s'", spool_directory()) < 0)
		return COMMAND_FAILED;
	return command_failure(what, error);
}

int command_open_spool(struct lookup *l)
{
	int r = facts_spool_answers();

	if (r == -ETIMEDOUT)
		return command_spool_failure(r);
	r = lookup_open(l);
	if (r == 0)
		return COMMAND_OK;
	lookup_release(l);
	return command_spool_failure(r);
}

int command_on_spool(const struct argp *argp, int argc, char **argv, void *arguments,
		     int (*run)(struct lookup *l, void *arguments))
{
	struct lookup l;
	int r;

	if (!command_parse(argp, argc, argv, arguments))
		return COMMAND_USAGE;
	r = command_open_spool(&l);
	if (r != COMMAND_OK)
		return r;
	r = run(&l, arguments);
	lookup_release(&l);
	return command_finish(r);
}

int command_check_config(const char *path)
{
	if (access(path, R_OK) == 0 || errno != EACCES)
		return COMMAND_OK;
	log_error("cannot read '%s': %s; " NEEDS_RIGHTS, path, strerror(errno));
	return COMMAND_RIGHTS;
}

int command_load(const char *path, struct config **ret_config, struct credentials **ret_credentials)
{
	_cleanup_free_ char *error = NULL;
	struct config *config = NULL;
	int r;

	if (command_check_config(path) != COMMAND_OK)
		return COMMAND_RIGHTS;
	if (config_load(path, stderr, &config) < 0)
		return COMMAND_CONFIG;
	r = credentials_load(&config->tls, ret_credentials, &error);
	if (r == 0) {
		*ret_config = config;
		return COMMAND_OK;
	}
	config_free(config);
	log_error("%s%s", error ? error : "no memory", r == -EACCES ? "; " NEEDS_RIGHTS : "");
	return r == -EACCES ? COMMAND_RIGHTS : COMMAND_CONFIG;
}

void command_take_daemons_host(struct config *config, const char *path)
{
	struct status_file daemon;
	char *host;

	if (status_file_read(spool_run_directory(), &daemon) < 0)
		return;
	if (daemon.config && strcmp(daemon.config, path) == 0 && daemon.host &&
	    strlen(daemon.host) <= TOPIC_HOST_MAX && (host = strdup(daemon.host)) != NULL) {
		free(config->host);
		config->host = host;
	}
	status_file_release(&daemon);
}

int command_check_places(const struct lookup *l, unsigned places)
{
	int code = COMMAND_OK;

	for (enum place p = 0; p < N_PLACES; p++) {
		_cleanup_free_ char *what = NULL;

		if (!(places & PLACE_BIT(p)) || l->errors[p] == 0)
			continue;
		if (asprintf(&what, "cannot open %s/ in the spool", place_table[p].name) >= 0)
			code = command_failure(what, l->errors[p]);
	}
	return code;
}

bool command_confirm(const char *format, ...)
{
	char answer[16] = "";
	va_list ap;

	va_start(ap, format);
	(void)vfprintf(stderr, format, ap);
	va_end(ap);
	if (!isatty(STDIN_FILENO)) {
		fputs(" There is no terminal to ask on; give --yes.\n", stderr);
		return false;
	}
	fputs(" [y/N] ", stderr);
	if (!fgets(answer, sizeof(answer), stdin) || (answer[0] != 'y' && answer[0] != 'Y')) {
		fputs("nothing done\n", stderr);
		return false;
	}
	return true;
}

/* --- progress */

void progress_start(struct progress *p, const char *what, uint64_t total)
{
	*p = (struct progress){
		.what = what, .total = total, .started_usec = now_usec(CLOCK_MONOTONIC)};
}

static void progress_draw(const struct progress *p)
{
	struct winsize size = {0};
	int width, filled;
	char bar[128];

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		size.ws_col = 80;
	/* Of two numbers of ten digits, and what is between. */
	width = size.ws_col - (int)strlen(p->what) - 32;
	if (width < 5) {
		fprintf(stderr, "\r%" PRIu64 "/%" PRIu64, p->done, p->total);
		return;
	}
	width = width > 60 ? 60 : width;
	filled = p->total ? (int)((uint64_t)width * p->done / p->total) : width;
	memset(bar, '.', (size_t)width);
	memset(bar, '#', (size_t)filled);
	bar[width] = 0;
	fprintf(stderr, "\r%s [%s] %" PRIu64 " of %" PRIu64, p->what, bar, p->done, p->total);
	(void)fflush(stderr);
}

void progress_step(struct progress *p)
{
	uint64_t now;

	p->done++;
	if ((p->done & 63) != 0 && p->total > 1000) /* not a clock call for each */
		return;
	now = now_usec(CLOCK_MONOTONIC);
	if (now - p->started_usec < PROGRESS_AFTER_USEC ||
	    now - p->drawn_usec < PROGRESS_EVERY_USEC || !isatty(STDERR_FILENO))
		return;
	p->drawn_usec = now;
	p->shown = true;
	progress_draw(p);
}

void progress_end(struct progress *p)
{
	if (!p->shown)
		return;
	progress_draw(p);
	fputc('\n', stderr);
	p->shown = false;
}

/* --- output */

void command_print_json(json_t *o)
{
	_cleanup_free_ char *text = command_json_text(o, JSON_COMPACT);

	(void)puts(text ? text : "{}");
	json_decref(o);
}

char *command_json_text(const json_t *o, size_t flags)
{
	_cleanup_free_ char *text =
		json_dumps(o, flags | (terminal_ascii(stdout) ? JSON_ENSURE_ASCII : 0));

	return text ? terminal_json(text) : NULL;
}

char *command_text(FILE *f, const char *format, va_list ap)
{
	_cleanup_free_ char *text = NULL;
	int n = vasprintf(&text, format, ap);

	if (n < 0) {
		text = NULL;
		return NULL;
	}
	return terminal_text(f, text, (size_t)n);
}

void command_print_wrapped(const char *indent, const char *begin, const char *text)
{
	_cleanup_free_ char *clean =
		terminal_text(stdout, text ? text : "", text ? strlen(text) : 0);
	size_t width = terminal_width(stdout), column = strlen(indent) + strlen(begin);
	char *rest, *word = strtok_r(clean, " ", &rest);

	if (width < 40)
		width = SIZE_MAX;
	printf("%s%s", indent, begin);
	for (bool first = true; word; word = strtok_r(NULL, " ", &rest), first = false) {
		if (!first && column + 1 + strlen(word) > width) {
			printf("\n%*s", (int)strlen(indent), "");
			column = strlen(indent);
		} else if (!first) {
			(void)putchar(' ');
			column++;
		}
		fputs(word, stdout);
		column += strlen(word);
	}
	(void)putchar('\n');
}

static int output_error; /* the first; errno may be of something else at the end */

bool command_output_ended(void)
{
	if (ferror(stdout) && output_error == 0)
		output_error = errno;
	return ferror(stdout);
}

static bool reader_is_gone(void)
{
	struct pollfd fd = {.fd = STDOUT_FILENO, .events = POLLOUT};

	return poll(&fd, 1, 0) == 1 && fd.revents & (POLLERR | POLLHUP);
}

int command_finish(int code)
{
	bool failed;

	(void)fflush(stdout);
	failed = command_output_ended() && !reader_is_gone();
	pager_close();
	if (!failed)
		return code;
	log_error("cannot write the output: %s", strerror(output_error));
	return COMMAND_FAILED;
}

uint64_t command_now_ms(void)
{
	return now_usec(CLOCK_REALTIME) / 1000;
}
