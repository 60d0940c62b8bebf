/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * running-table - the guests that run on a host, as its records say. A table in memory, and its
 * text, which is JSON:
 *
 *	{"boot": BOOT-ID, "seen": ID, "guests": [{"uuid": UUID, "id": ID, "driver": D, "name": N}]}
 *
 * "seen" is "" before the first record; "id" is that of the guest's last record; driver and name
 * are percent-escaped, as they may be any bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "hook/record.h"
#include "spooler/base/hex.h"
#include "spooler/spool/spoolid.h"

struct running_guest {
	char uuid[UUID_TEXT]; /* first: the key */
	struct spool_id id;
	struct bytes driver, name; /* in data */
	char data[];
};

/* Zeroed, it is empty. */
struct running_table {
	char boot[33];	      /* during which the guests ran; "": not known */
	struct spool_id seen; /* the highest id of all records, but for reports of ended guests */
	void *root;	      /* tsearch() of struct running_guest */
	size_t n;
	bool full_logged;
};

/*
 * Applies a record: puts its guest in if it runs, and takes it out if it has ended. A record that
 * is older than the guest's last one changes nothing.
 */
void running_table_apply(struct running_table *t, const struct spool_id *id,
			 const struct record *r);
/* Any guest; NULL if the table is empty. */
struct running_guest *running_table_any(const struct running_table *t);
void running_table_remove(struct running_table *t, struct running_guest *guest);
/* All guests; boot and seen stay. */
void running_table_clear(struct running_table *t);

/* Text to be freed; NULL without memory. */
char *running_table_text(const struct running_table *t);
/* The other way, into an empty table. False if the text is damaged: the table is then empty. */
bool running_table_parse(struct running_table *t, const char *text, size_t size);
