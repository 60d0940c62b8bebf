/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* select - which events a command works on: ids that were named, or what the filters match. */
#pragma once

#include "filter.h"
#include "lookup.h"

struct selection {
	unsigned places; /* where to look */
	struct filter filter;
	bool all;   /* everything in these places: said, not by default */
	char **ids; /* beginnings of ids */
	int n_ids;
};

/* Fills the list, oldest first. Tells what is wrong on stderr; returns an exit code. */
int selection_find(struct lookup *l, const struct selection *s, struct id_list *list);
/* Prints them on stdout, a line each. */
int selection_print(struct lookup *l, const struct id_list *list, bool json);
