/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* command - the subcommands of virtspool: one function each, in cmd-NAME.c, listed in the table
   of virtspool.c. */
#pragma once

#include <argp.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "spooler/base/format.h"
#include "spooler/spool/filter.h"
#include "spooler/spool/spoolid.h"

/* Exit codes of all subcommands, documented in virtspool(1). Only `status` uses 1 and 2 for
   degraded and down. */
enum command_exit {
	COMMAND_OK = 0,
	COMMAND_FAILED = 1,	  /* it failed; the line on stderr says why */
	COMMAND_USAGE = 64,	  /* sysexits.h's EX_USAGE: the command line */
	COMMAND_UNAVAILABLE = 69, /* EX_UNAVAILABLE: no broker could be reached; flush: no daemon */
	COMMAND_RIGHTS = 77,	  /* EX_NOPERM: the caller lacks permissions */
	COMMAND_CONFIG = 78,	  /* EX_CONFIG: the configuration */
};

/* argv[0] is the subcommand's name. Returns an exit code. */
typedef int (*command_run)(int argc, char **argv);

int cmd_config(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_drop(int argc, char **argv);
int cmd_flush(int argc, char **argv);
int cmd_hooks(int argc, char **argv);
int cmd_join(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_purge(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_test(int argc, char **argv);
int cmd_watch(int argc, char **argv);

/* --- shared: command.c */

/* Parses the command line. False: it is wrong, and stderr says so. */
bool command_parse(const struct argp *argp, int argc, char **argv, void *arguments);
/* The parser's default case in a command that takes options only. */
error_t command_no_arguments(int key, const char *arg, const struct argp_state *state);

/* --vm --op --driver --since --until, as a child of a command's argp; its input is a struct
   filter. */
extern const struct argp filter_argp;
/* A number from 1 to `most` for option `what`, or the end with a message. */
uint64_t command_number(const struct argp_state *state, const char *what, const char *text,
			uint64_t most);

struct config;
struct credentials;
/* COMMAND_RIGHTS if the caller may not read the configuration; stderr says so. */
int command_check_config(const char *path);
/* Loads what a connection to a broker needs. Reports errors on stderr; returns an exit code. */
int command_load(const char *path, struct config **ret_config,
		 struct credentials **ret_credentials);

/*
 * Gives a configuration loaded from `path` the host name under which a daemon that runs with this
 * file publishes: it keeps the one with which it began, also when the machine is renamed.
 */
void command_take_daemons_host(struct config *config, const char *path);

/* As command_failure(), for a spool that cannot be opened. */
int command_spool_failure(int error);

struct lookup;
/* Opens the spool. Reports errors on stderr; returns an exit code. */
int command_open_spool(struct lookup *l);
/* A command that works on the spool, from its command line to its exit code. */
int command_on_spool(const struct argp *argp, int argc, char **argv, void *arguments,
		     int (*run)(struct lookup *l, void *arguments));
/* Reports those of these places that are there but cannot be opened. Returns the exit code of
   the last one. */
int command_check_places(const struct lookup *l, unsigned places);
/* Reports what failed. Returns the exit code for it: COMMAND_RIGHTS or COMMAND_FAILED. */
int command_failure(const char *what, int error);
/* The same for an event: what failed is followed by its id and place. */
int command_event_failure(const char *what, const struct spool_id *id, int error);

/* What failed while a command went on with the next event. The first ones are kept, so that the
   report at the end has a line for each of them and a number for the rest. */
#define FAILURES_SHOWN 5
struct failures {
	const char *what; /* "cannot remove" */
	uint64_t n;
	struct spool_id ids[FAILURES_SHOWN];
	int errors[FAILURES_SHOWN];
};
void failures_add(struct failures *f, const struct spool_id *id, int error);
/* The report on stderr. Returns an exit code: COMMAND_OK if nothing failed. */
int failures_report(const struct failures *f);

/* Asks a question on the terminal. Without a terminal the answer is no, and stderr names --yes. */
bool command_confirm(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A progress bar on stderr, if it is a terminal. Work of less than half a second shows none. */
struct progress {
	const char *what;
	uint64_t total, done;
	uint64_t started_usec, drawn_usec;
	bool shown;
};
void progress_start(struct progress *p, const char *what, uint64_t total);
void progress_step(struct progress *p);
void progress_end(struct progress *p);

/* One object, one line, on stdout; frees it. Nothing in it drives a terminal: see
   terminal_json(). */
void command_print_json(json_t *o);
/* The same as text, with these flags of jansson's; to be freed. NULL without memory. */
char *command_json_text(const json_t *o, size_t flags);
/* A formatted line that terminal_text() has made safe for f; to be freed. NULL without memory. */
char *command_text(FILE *f, const char *format, va_list ap) __attribute__((format(printf, 2, 0)));

/* A line for people: indent, begin, and text, made safe for the terminal; on a terminal it is
   wrapped at its width, and further lines are indented as far. */
void command_print_wrapped(const char *indent, const char *begin, const char *text);

/* Flushes stdout, and waits for the pager. A reader that is gone (`| head`) is not an error; a full
   disk is. Returns an exit code. */
int command_finish(int code);
/* Can stdout no longer be written (its reader is gone, the disk is full)? Call it right after a
   write. */
bool command_output_ended(void);

uint64_t command_now_ms(void);
