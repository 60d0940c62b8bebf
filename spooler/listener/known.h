/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * known - the state of each domain of one connection as it was last recorded, in memory and in a
 * file.
 *
 * The file, SPOOLDIR/listen.URI, is what makes the difference after a restart of ours, or of the
 * whole host: it lies on the disk, is replaced atomically, and one that is damaged counts as none.
 * Not locked: its owner does that.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define KNOWN_UUID 37

struct known_domain {
	char uuid[KNOWN_UUID];
	char *name;
	int state;	 /* enum virDomainState */
	int id;		 /* of its run, -1: none */
	bool persistent; /* defined: it stays when it has stopped */
	bool seen;	 /* scratch for a comparison */
};

struct known {
	char *path;
	struct known_domain *list; /* by uuid */
	size_t n, room;
	bool changed; /* since it was saved */
};

/* Reads the file for this URI. An absent file is an empty list; 1 is returned if there was one
   that was damaged, 0 otherwise; -ENOMEM. */
int known_load(struct known *k, const char *uri);
/* Writes the file if something has changed. Negative errno. */
int known_save(struct known *k);
void known_release(struct known *k);

struct known_domain *known_find(struct known *k, const char *uuid);
/* The domain, made if it is not there; NULL without memory. Sets its name, and `changed`. */
struct known_domain *known_put(struct known *k, const char *uuid, const char *name);
void known_remove(struct known *k, struct known_domain *d);
