/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-listen - the command line. Exit codes are sysexits.h's, see virtspool-listen(8). */
#include <argp.h>
#include <ctype.h>
#include <sysexits.h>

#include "hook/spool.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/listener/listener.h"
#include "spooler/listener/report.h"
#include "spooler/listener/uri.h"

#define DEFAULT_URI "qemu:///system"

enum {
	KEY_BALLOON = 256,
	KEY_KEEP_ALIVE,
	KEY_KEEP_ALIVE_COUNT,
	KEY_RETRY_MAX,
	KEY_METRICS,
	KEY_DEBUG,
	KEY_LIST,
};

const char *argp_program_version = "virtspool-listen " PACKAGE_VERSION;
const char *argp_program_bug_address = "<" PACKAGE_BUGREPORT ">";

static const struct argp_option options[] = {
	{"connect", 'c', "URI", 0, "libvirt to listen to; may be repeated [" DEFAULT_URI "]", 0},
	{"balloon", KEY_BALLOON, NULL, 0, "record balloon-change as well; a guest can cause many",
	 0},
	{"keep-alive", KEY_KEEP_ALIVE, "SECONDS", 0,
	 "probe a connection after this time of silence; 0: never [5]", 0},
	{"keep-alive-count", KEY_KEEP_ALIVE_COUNT, "N", 0,
	 "give the connection up after N unanswered probes [3]", 0},
	{"retry-max", KEY_RETRY_MAX, "SECONDS", 0, "longest time between attempts to connect [30]",
	 0},
	{"metrics", KEY_METRICS, "FILE", 0,
	 "write metrics to FILE; empty: none [" RUNDIR "/" REPORT_METRICS_FILE "]", 0},
	{"debug", KEY_DEBUG, NULL, 0, "log more", 0},
	{"list-events", KEY_LIST, NULL, 0, "print the events that have a name, and exit", 0},
	{0},
};

static unsigned number(struct argp_state *state, const char *option, const char *arg,
		       unsigned least, unsigned most)
{
	char *end;
	unsigned long n = strtoul(arg, &end, 10);

	if (!isdigit((unsigned char)*arg) || *end || n < least || n > most)
		argp_error(state, "--%s: '%s' is not a number from %u to %u", option, arg, least,
			   most);
	return (unsigned)n;
}

static void add_uri(struct argp_state *state, struct listener_options *o, const char *uri)
{
	char driver[64];

	if (uri_driver(uri, driver, sizeof(driver)) < 0)
		argp_error(state, "'%s' is not a libvirt URI such as " DEFAULT_URI, uri);
	for (size_t i = 0; i < o->n_uris; i++)
		if (strcmp(o->uris[i], uri) == 0)
			argp_error(state, "'%s' is given twice", uri);
	if (o->n_uris == LISTENER_URIS_MAX)
		argp_error(state, "more than %d URIs", LISTENER_URIS_MAX);
	o->uris[o->n_uris++] = uri;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct listener_options *o = state->input;

	switch (key) {
	case 'c':
		add_uri(state, o, arg);
		return 0;
	case KEY_BALLOON:
		o->connection.balloon = true;
		return 0;
	case KEY_KEEP_ALIVE:
		o->connection.keep_alive_s = number(state, "keep-alive", arg, 0, 3600);
		return 0;
	case KEY_KEEP_ALIVE_COUNT:
		o->connection.keep_alive_count = number(state, "keep-alive-count", arg, 1, 100);
		return 0;
	case KEY_RETRY_MAX:
		o->connection.retry_max_s = number(state, "retry-max", arg, 1, 3600);
		return 0;
	case KEY_METRICS:
		o->metrics_file = *arg ? arg : NULL;
		return 0;
	case KEY_DEBUG:
		log_set_level(LOG_DEBUG);
		return 0;
	case KEY_LIST:
		for (int id = 0; event_table_event_name(id); id++)
			printf("%2d %s\n", id, event_table_event_name(id));
		exit(EX_OK);
	case ARGP_KEY_ARG:
		argp_error(state, "'%s': takes no arguments", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Records the events of libvirt's API in virtspool's spool.\vSee virtspool-listen(8).",
	};
	_cleanup_free_ char *metrics = NULL;
	struct listener_options o = {
		.connection = {.keep_alive_s = 5,
			       .keep_alive_count = 3,
			       .retry_min_s = 1,
			       .retry_max_s = 30},
	};

	log_set_program("virtspool-listen");
	if (asprintf(&metrics, "%s/" REPORT_METRICS_FILE, spool_run_directory()) < 0)
		metrics = NULL;
	o.metrics_file = metrics;
	argp_err_exit_status = EX_USAGE;
	if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
		return EX_USAGE;
	if (o.n_uris == 0)
		o.uris[o.n_uris++] = DEFAULT_URI;
	return listener_run(&o);
}
