/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * schema - the store's tables, and how an older store becomes one of today.
 *
 * One definition for SQLite and PostgreSQL; schema.c describes each table and column. A store
 * carries its version in the table `meta`. An older one is migrated when it is opened for writing;
 * a newer one is refused.
 */
#pragma once

#include "spooler/recorder/db.h"

#define SCHEMA_VERSION 3

/* Creates or migrates the tables. Returns 0 or a negative errno with a sentence to be freed in
   *ret_error; -EPROTO: the store is of a newer version. */
int schema_migrate(struct db *db, char **ret_error);
/* The same for one who only reads: -EPROTO if the version differs, -ENOENT if there is none. */
int schema_check(struct db *db, char **ret_error);

/* PostgreSQL: creates the partition of `events` for the month of this moment (us since 1970), if
   it is missing. Not within a transaction. Does nothing for SQLite. */
int schema_add_month(struct db *db, int64_t usec);
/* PostgreSQL: drops partitions that end before this moment and are empty. */
int schema_drop_months(struct db *db, int64_t usec);
