/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* select - the events that a command works on: those whose ids are given, or those that the
   filters match. */
#pragma once

#include "spooler/admin/command.h"
#include "spooler/spool/filter.h"
#include "spooler/spool/lookup.h"

struct selection {
	unsigned places;  /* where to look: the command's own choice, or --from */
	unsigned allowed; /* the places that --from accepts */
	bool strays; /* also files that are not events: by name, or where the selection is by time or --all */

	struct filter filter;
	bool all;   /* --all: everything in these places */
	char **ids; /* prefixes of ids */
	int n_ids;
	bool dry_run, yes, json;
};

/* [ID...] --all --dry-run --yes --json and the filters, as a child of a command's argp. */
extern const struct argp selection_argp;
/* The argument of --from. */
void selection_parse_from(struct selection *s, const struct argp_state *state, const char *arg);

/* Fills the list, and l->strays, oldest first. Reports errors on stderr; returns an exit code. */
int selection_find(struct lookup *l, const struct selection *s, struct id_list *list);
/* "3 events", "3 events and 1 file that is not an event" */
void selection_count(const struct lookup *l, const struct id_list *list, char ret[static 128]);
/* --dry-run: lists them on stdout, and says how many would be `done`. Returns an exit code. */
int selection_dry_run(struct lookup *l, const struct selection *s, const struct id_list *list,
		      const char *done);
