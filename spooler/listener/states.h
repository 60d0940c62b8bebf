/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * states - the state of each domain of one connection as it was last recorded, in memory and in a
 * file.
 *
 * The file, SPOOLDIR/listen.URI, is what makes the difference after a restart of ours, or of the
 * whole host: it lies on the disk, is replaced atomically, and one that is damaged counts as none.
 * Not locked: its owner does that.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define STATES_UUID 37

struct domain_state {
	char uuid[STATES_UUID];
	char *name;
	int state;	 /* enum virDomainState */
	int id;		 /* of its run, -1: none */
	bool persistent; /* defined: it stays when it has stopped */
	bool seen;	 /* scratch for a comparison */
};

struct states {
	char *path;
	struct domain_state *list; /* by uuid */
	size_t n, room;
	bool changed; /* since it was saved */
};

/* Reads the file for this URI. An absent file is an empty list; 1 is returned if there was one
   that was damaged, 0 otherwise; -ENOMEM. */
int states_load(struct states *k, const char *uri);
/* Writes the file if something has changed. Negative errno. */
int states_save(struct states *k);
/* The file's text, as states_load() reads and states_save() writes it. False if it is damaged;
   what was read before is then in the list. */
bool states_parse(struct states *k, FILE *f);
int states_print(const struct states *k, FILE *f);
void states_release(struct states *k);

struct domain_state *states_find(struct states *k, const char *uuid);
/* The domain, made if it is not there; NULL without memory. Sets its name, and `changed`. */
struct domain_state *states_put(struct states *k, const char *uuid, const char *name);
void states_remove(struct states *k, struct domain_state *d);
