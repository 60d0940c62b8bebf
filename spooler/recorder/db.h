/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * db - SQL on SQLite or PostgreSQL: one connection, statements with parameters, transactions.
 *
 * The recorder's SQL is written once, in the part that both dialects share; what differs is a
 * token in braces, which the connection fills in:
 *
 *	{int} {uuid} {bytes}	a column's type
 *	{serial}		a primary key that the database counts
 *	{values}		rows to insert: db_run() inserts all rows that it is given
 *	{in}			`(a, b) {in}`: the rows whose columns are one of the rows that it is given
 *	{copy: t (a, b)}	the whole statement: inserts all rows that it is given, the fastest way that there is
 *	{from}			`UPDATE t SET a = {2} {from} WHERE b = {1}`: updates with each row that it is given
 *	{1} {2} ...		there: the columns of these rows
 *	{sqlite: ...} {postgresql: ...}	for one of them only
 *
 * Parameters are $1, $2, ... in the order of `types`: i integer, t text, u UUID (16 bytes), b
 * bytes.
 *
 * A connection belongs to one thread at a time. The only files that know libsqlite3 and libpq are
 * db-sqlite.c, sqlite-checkpoint.c and db-postgresql.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum db_type {
	DB_NULL,
	DB_INT,
	DB_TEXT, /* UTF-8; what is read ends with a 0 that is not counted */
	DB_BYTES,
	DB_UUID, /* 16 bytes */
};

struct db_value {
	enum db_type type;
	int64_t number;
	const void *data; /* borrowed; of a row that was read: valid during the call */
	size_t size;
};

#define DB_PARAMS_MAX 24

struct db_statement {
	const char *sql;
	const char *types; /* of the parameters; "" if there are none */
};

/* Called for each row of a result, in order. A negative return ends the statement with it. */
typedef int (*db_row_fn)(const struct db_value *values, void *userdata);

struct db;

enum db_flags {
	DB_READ_ONLY = 1 << 0, /* cannot write; does not create anything */
	DB_EXISTING = 1 << 1,  /* does not create the file */
	/* SQLite's cache is of large pages (base/memory.h), in the whole process, if this one is the
	   first to open a file. For a command that reads much. */
	DB_LARGE_CACHE = 1 << 2,
};

/*
 * Opens sqlite:///PATH or postgresql://... Returns 0 or a negative errno; *ret_error is then a
 * sentence to be freed that names the file or server, the reason and what to do. -EPROTONOSUPPORT:
 * built without that database.
 */
int db_open(const char *url, unsigned flags, struct db **ret_db, char **ret_error);
void db_close(struct db *db); /* rolls back; NULL is fine */

/*
 * Runs a statement once for each of `n_rows` rows of parameters ({values}, {in}, {from} and
 * {copy: ...}: for all of them). fn may be NULL. The statement stays prepared: its address is its name. Returns 0 or
 *
 *	-EAGAIN		the database is locked by another, or has just ended: the same will succeed later
 *	-ENOTCONN	the connection is lost: db_open() again
 *	-ENOSPC, -EROFS, -EIO, -EACCES	the disk
 *	-EEXIST		{copy: ...}: one of the rows is there already
 *	-EBADMSG	the values are refused: the same will never succeed
 *	-ENOMEM, or what fn returned.
 */
int db_run(struct db *db, const struct db_statement *s, const struct db_value *params,
	   size_t n_rows, db_row_fn fn, void *userdata);
/* The same for SQL that is put together for one call; it is not kept. */
int db_query(struct db *db, const char *sql, const char *types, const struct db_value *params,
	     db_row_fn fn, void *userdata);
/* One or more statements without parameters. */
int db_execute(struct db *db, const char *sql);

int db_begin(struct db *db); /* takes the write lock, where there is one */
int db_commit(struct db *db);
void db_rollback(struct db *db); /* fine without a transaction */

/* What the last failure was, in the database's words; never NULL. */
const char *db_error(const struct db *db);
bool db_is_postgresql(const struct db *db);
/* Bytes that the database occupies; 0: unknown. */
uint64_t db_size(struct db *db);
/* Interrupts a statement that runs in another thread (SQLite) or bounds it (PostgreSQL). May be
   called from any thread. */
void db_interrupt(struct db *db);
/* A statement that runs for longer than this ends with -EAGAIN; 0: none does. */
int db_set_timeout(struct db *db, unsigned ms);

/* --- values */

static inline struct db_value db_int(int64_t n)
{
	return (struct db_value){.type = DB_INT, .number = n};
}

static inline struct db_value db_null(void)
{
	return (struct db_value){.type = DB_NULL};
}

static inline struct db_value db_text_n(const char *s, size_t size)
{
	return s ? (struct db_value){.type = DB_TEXT, .data = s, .size = size} : db_null();
}

/* NULL becomes NULL. */
struct db_value db_text(const char *s);

static inline struct db_value db_bytes(const void *data, size_t size)
{
	return (struct db_value){.type = DB_BYTES, .data = data, .size = size};
}

static inline struct db_value db_uuid(const unsigned char uuid[16])
{
	return (struct db_value){.type = DB_UUID, .data = uuid, .size = 16};
}

/* "" for NULL. */
static inline const char *db_string(const struct db_value *v)
{
	return v->type == DB_NULL ? "" : v->data;
}
