/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* select - which events a command works on: ids that were named, or what the filters match. */
#pragma once

#include "spooler/admin/command.h"
#include "spooler/spool/filter.h"
#include "spooler/spool/lookup.h"

struct selection {
	unsigned places;  /* where to look: the command's own choice, or --from */
	unsigned allowed; /* what --from may say */
	bool strays; /* also what is no event: by its name, or with what is selected by time or as a whole */

	struct filter filter;
	bool all;   /* everything in these places: said, not by default */
	char **ids; /* beginnings of ids */
	int n_ids;
	bool dry_run, yes, json;
};

/* [ID...] --all --dry-run --yes --json and the filters, as a child of a command's argp. */
extern const struct argp selection_argp;
/* --from, which means something else for each command. */
void selection_parse_from(struct selection *s, const struct argp_state *state, const char *arg);

/* Fills the list, and l->strays, oldest first. Tells what is wrong on stderr; returns an exit
   code. */
int selection_find(struct lookup *l, const struct selection *s, struct id_list *list);
/* "3 events", "3 events and 1 file that is no event" */
void selection_count(const struct lookup *l, const struct id_list *list, char ret[static 128]);
/* --dry-run: lists them on stdout, and says how many would be `done`. Returns an exit code. */
int selection_dry_run(struct lookup *l, const struct selection *s, const struct id_list *list,
		      const char *done);
