/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* db-backend - what a database must do for db.c. Internal to db. */
#pragma once

#include <stdio.h>

#include "spooler/recorder/db.h"

#define DB_STATEMENTS_MAX 64 /* that stay prepared */

/* A token of db.h, and its text in a database's dialect. */
struct db_word {
	const char *name, *text;
};

struct db_backend {
	const char *scheme;	     /* "sqlite" */
	const struct db_word *words; /* ended by a name that is NULL */
	/* The text of {values} or, with `in`, of {in}: rows of parameters of these types. */
	void (*put_rows)(FILE *f, const char *types, bool in);
	void (*put_copy)(FILE *f, const char *table, const char *types); /* {copy: table} */
	void (*put_from)(FILE *f, const char *types);			 /* {from} */
	const char *parameter; /* {N}: what stands before the number */
	int (*run)(struct db *db, size_t slot, const struct db_statement *s, const char *sql,
		   bool many, const struct db_value *params, size_t n_rows, db_row_fn fn,
		   void *userdata);
	int (*execute)(struct db *db, const char *sql);
	int (*begin)(struct db *db);
	int (*commit)(struct db *db);
	void (*rollback)(struct db *db);
	void (*forget)(struct db *db, size_t slot); /* a prepared statement */
	uint64_t (*size)(struct db *db);
	void (*interrupt)(struct db *db);
	int (*set_timeout)(struct db *db, unsigned ms); /* NULL: SQL does it */
	void (*close)(struct db *db);			/* frees all but what db.c allocated */
};

/* The first member of a backend's own struct. */
struct db {
	const struct db_backend *backend;
	char error[512];
	struct db_prepared {
		const struct db_statement *statement;
		char *sql;		   /* with its tokens filled in */
		bool many;		   /* has {values}, {in} or {from} */
		bool copies;		   /* is {copy: ...} */
		bool ready;		   /* the backend's: the database knows it */
	} prepared[DB_STATEMENTS_MAX + 1]; /* the last one is db_query()'s */
};

/* The URL without its scheme. */
int db_sqlite_open(const char *url, unsigned flags, struct db **ret_db, char **ret_error);
int db_postgresql_open(const char *url, unsigned flags, struct db **ret_db, char **ret_error);
