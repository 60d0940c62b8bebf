/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* command - the subcommands of virtspool-recorder: one function each, listed in the table of
   virtspool-recorder.c, and what they share. Options, times and exit codes are those of
   virtspool(1). */
#pragma once

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "spooler/config/config.h"
#include "spooler/base/json-time.h"
#include "spooler/recorder/query.h"

enum command_exit {
	COMMAND_OK = 0,
	COMMAND_FAILED = 1,	  /* it was tried, and failed; the line on stderr says why */
	COMMAND_USAGE = 64,	  /* EX_USAGE: the command line */
	COMMAND_UNAVAILABLE = 69, /* EX_UNAVAILABLE: the store or the broker cannot be reached */
	COMMAND_RIGHTS = 77,	  /* EX_NOPERM: needs more rights than the caller has */
	COMMAND_CONFIG = 78,	  /* EX_CONFIG: the configuration */
};

int cmd_run(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_hosts(int argc, char **argv);
int cmd_guests(int argc, char **argv);
int cmd_init(int argc, char **argv);
int cmd_log(int argc, char **argv);
int cmd_timeline(int argc, char **argv);
int cmd_holes(int argc, char **argv);
int cmd_rejects(int argc, char **argv);
int cmd_prune(int argc, char **argv);
int cmd_rebuild(int argc, char **argv);
int cmd_forget(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_import_task_log(int argc, char **argv);

/* --- the command line */

/* Every command fills one; which options it has says its list of struct argp_option. */
struct command {
	const char *config; /* --config */
	const char *store;  /* --store: instead of the configuration's */
	/* --vm --host --op --driver --state --since --until --oldest --all. */
	struct query_filter filter;
	uint64_t limit; /* --limit; 0: not given */
	bool all, json, follow, yes;
	bool last_arrival;	   /* --last-arrival */
	int64_t after;		   /* --after; 0: not given */
	uint64_t before_us;	   /* --before */
	const char *ca_file;	   /* --cafile */
	const char *crl_file;	   /* --crlfile */
	const char *argument;	   /* the one that a command takes */
	const char *argument_name; /* the command's, before it is parsed: "VM"; NULL: takes none */
	bool reads_table;	   /* the command's: without a limit it reads a whole table */

	struct config *loaded; /* by command_load() */
	struct query *query;   /* by command_open() */
};

enum {
	OPTION_STORE = 0x1000,
	OPTION_STATE,
	OPTION_SINCE,
	OPTION_UNTIL,
	OPTION_OLDEST,
	OPTION_BEFORE,
	OPTION_AFTER,
	OPTION_LAST_ARRIVAL,
	OPTION_CAFILE,
	OPTION_CRLFILE,
};

#define COMMAND_COMMON                                                                             \
	{"config", 'c', "FILE", 0, "configuration [" CONFIG_RECORDER_FILE "]", 9},                 \
	{                                                                                          \
		"store", OPTION_STORE, "URL", 0, "read this store instead of the configuration's", \
			9                                                                          \
	}
#define COMMAND_JSON                                                                               \
	{                                                                                          \
		"json", 'j', NULL, 0, "one JSON object a line", 1                                  \
	}
#define COMMAND_LIMIT                                                                              \
	{"limit", 'n', "N", 0, "show at most N lines [100 on a terminal, otherwise all]", 1},      \
	{                                                                                          \
		"all", 'a', NULL, 0, "show all", 1                                                 \
	}
#define COMMAND_VM                                                                                 \
	{                                                                                          \
		"vm", 'v', "NAME|UUID|GLOB", 0, "only these virtual machines", 2                   \
	}
#define COMMAND_HOST                                                                               \
	{                                                                                          \
		"host", 'H', "NAME|GLOB", 0, "only these hosts", 2                                 \
	}
#define COMMAND_TIMES                                                                              \
	{"since",                                                                                  \
	 OPTION_SINCE,                                                                             \
	 "TIME",                                                                                   \
	 0,                                                                                        \
	 "newer than TIME: 2h, yesterday, 14:00, 2026-11-21, 2026-11-21T08:00:00Z ...",            \
	 2},                                                                                       \
	{                                                                                          \
		"until", OPTION_UNTIL, "TIME", 0, "older than TIME", 2                             \
	}

/* The parser of all commands; its input is a struct command. */
error_t command_option(int key, char *arg, struct argp_state *state);
/* The command line; false: it is wrong, and stderr says so. */
bool command_parse(const struct argp *argp, int argc, char **argv, struct command *c);
/* Loads the configuration. Says on stderr what is wrong, and returns an exit code. */
int command_load(struct command *c);
/* The store's URL, by option or configuration; NULL after saying what is wrong. */
const char *command_store(struct command *c, int *ret_exit);
/* The CA of the hosts' signing certificates: --cafile, or else the configuration's, which need not
   be there. NULL: not known. */
const char *command_ca_file(struct command *c);
/* Opens the store for reading. */
int command_open(struct command *c);
/* Closes it and opens it again; on failure the query stays as it was. A negative errno. */
int command_reopen(struct command *c);
void command_release(struct command *c);
/* Says what failed, and returns the exit code for this errno. */
int command_failure(int error, const char *text);

/* --- output */

/* How many lines to show: few if a person reads and did not give a limit. */
uint64_t command_limit(const struct command *c);
/* One page of a query with c->filter; returns what the query does. */
typedef int (*command_page_fn)(struct command *c, void *userdata, struct query_page *ret_page);
/*
 * Asks page after page of `page` rows until there are `limit` rows, or no more; ret_more: there are.
 * A page is written when it was read as a whole: a pager that waits holds no statement open, which
 * would keep SQLite's WAL growing, and which PostgreSQL ends after a time.
 */
int command_pages(struct command *c, uint64_t limit, uint64_t page, command_page_fn ask,
		  void *userdata, bool *ret_more);
/* After the rows of a query that returned r: says on stderr what failed, or that there are more
   rows, or that there are none (`nothing` is the text; NULL: says neither). A reader that is gone
   (-EPIPE) is not a failure. Returns an exit code. */
int command_footer(const struct command *c, int r, uint64_t shown, bool more, const char *nothing);
/* Frees it. */
void command_print_json(json_t *o);
json_t *command_json_text(const char *s); /* null for "" */
/* Bytes as a string; those that are not UTF-8 become U+FFFD. */
json_t *command_json_bytes(const void *data, size_t size);
/* "2026-11-21 08:00:00+01:00" in local time, or "-" for 0. */
void command_format_time(int64_t usec, char ret[static 32]);
/* Is the reader of stdout gone, or the disk full? */
bool command_output_ended(void);
/* Writes what was printed; a failure is seen by command_output_ended(). */
void command_flush(void);
/* Flushes, and turns a failure of that into an exit code. */
int command_finish(int code);
