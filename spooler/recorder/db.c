/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* db - see db.h: which database it is, and the tokens of its dialect. */
#include "spooler/base/util.h"
#include "spooler/recorder/db-backend.h"

struct db_value db_text(const char *s)
{
	return s ? db_text_n(s, strlen(s)) : db_null();
}

int db_open(const char *url, unsigned flags, struct db **ret_db, char **ret_error)
{
	if (strncmp(url, "sqlite://", 9) == 0)
		return db_sqlite_open(url, flags, ret_db, ret_error);
	if (strncmp(url, "postgresql://", 13) == 0 || strncmp(url, "postgres://", 11) == 0) {
#ifdef HAVE_POSTGRESQL
		return db_postgresql_open(url, flags, ret_db, ret_error);
#else
		if (asprintf(
			    ret_error,
			    "store '%.11s...': this virtspool-recorder was built without PostgreSQL; install "
			    "libpq-dev and build it again, or use sqlite:///PATH",
			    url) < 0)
			*ret_error = NULL;
		return -EPROTONOSUPPORT;
#endif
	}
	if (asprintf(ret_error, "store '%s': expected sqlite:///PATH or postgresql://HOST/DATABASE",
		     url) < 0)
		*ret_error = NULL;
	return -EPROTONOSUPPORT;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	for (size_t i = 0; i < ELEMENTSOF(db->prepared); i++) {
		if (db->prepared[i].sql)
			db->backend->forget(db, i);
		free(db->prepared[i].sql);
	}
	db->backend->close(db);
	free(db);
}

/* --- tokens */

#define COPY "copy: "

/* The text of "{name: text}" if `name` is this database, "" if it is another. */
static const char *conditional(const struct db *db, const char *token)
{
	const char *text = strchr(token, ':');
	size_t n = (size_t)(text - token);

	return strlen(db->backend->scheme) == n && strncmp(db->backend->scheme, token, n) == 0
		       ? text + 1
		       : "";
}

static const char *find_word(const struct db_word *words, const char *name)
{
	while (words->name && strcmp(words->name, name) != 0)
		words++;
	return words->name ? words->text : "";
}

/* Also notes in `p` what it says of the statement. */
static void put_token(const struct db *db, FILE *f, const char *token, const char *types,
		      struct db_prepared *p)
{
	bool in = strcmp(token, "in") == 0;

	if (in || strcmp(token, "values") == 0) {
		db->backend->put_rows(f, types, in);
		p->many = true;
	} else if (strncmp(token, COPY, strlen(COPY)) == 0) {
		db->backend->put_copy(f, token + strlen(COPY), types);
		p->copies = true;
	} else if (strcmp(token, "from") == 0) {
		db->backend->put_from(f, types);
		p->many = true;
	} else if (*token >= '1' && *token <= '9') {
		fputs(db->backend->parameter, f);
		fputs(token, f);
	} else if (strchr(token, ':')) {
		fputs(conditional(db, token), f);
	} else {
		fputs(find_word(db->backend->words, token), f);
	}
}

static char *expand(const struct db *db, const char *sql, const char *types, struct db_prepared *p)
{
	char *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	if (!f)
		return NULL;
	while (*sql) {
		size_t n = strcspn(sql, "{"), length;
		char token[256];

		fwrite(sql, 1, n, f);
		sql += n;
		if (!*sql)
			break;
		length = strcspn(sql, "}");
		(void)snprintf(token, sizeof(token), "%.*s", (int)(length - 1), sql + 1);
		put_token(db, f, token, types, p);
		sql += length + 1;
	}
	return fclose(f) == 0 ? out : NULL;
}

/* --- statements */

static int prepare(struct db *db, size_t slot, const struct db_statement *s)
{
	struct db_prepared *p = &db->prepared[slot];

	if (p->sql) {
		db->backend->forget(db, slot);
		free(p->sql);
	}
	*p = (struct db_prepared){.statement = s};
	p->sql = expand(db, s->sql, s->types, p);
	return p->sql ? 0 : -ENOMEM;
}

static int run_slot(struct db *db, size_t slot, const struct db_value *params, size_t n_rows,
		    db_row_fn fn, void *userdata)
{
	const struct db_prepared *p = &db->prepared[slot];

	return db->backend->run(db, slot, p->statement, p->sql, p->many, params, n_rows, fn,
				userdata);
}

int db_run(struct db *db, const struct db_statement *s, const struct db_value *params,
	   size_t n_rows, db_row_fn fn, void *userdata)
{
	size_t slot = 0;
	int r;

	while (slot < DB_STATEMENTS_MAX - 1 && db->prepared[slot].statement &&
	       db->prepared[slot].statement != s)
		slot++;
	if (db->prepared[slot].statement != s) {
		r = prepare(db, slot, s);
		if (r < 0)
			return r;
	}
	return n_rows == 0 ? 0 : run_slot(db, slot, params, n_rows, fn, userdata);
}

int db_query(struct db *db, const char *sql, const char *types, const struct db_value *params,
	     db_row_fn fn, void *userdata)
{
	struct db_statement s = {sql, types};
	int r;

	r = prepare(db, DB_STATEMENTS_MAX, &s);
	return r < 0 ? r : run_slot(db, DB_STATEMENTS_MAX, params, 1, fn, userdata);
}

int db_execute(struct db *db, const char *sql)
{
	struct db_prepared p = {};
	_cleanup_free_ char *text = expand(db, sql, "", &p);

	return text ? db->backend->execute(db, text) : -ENOMEM;
}

int db_begin(struct db *db)
{
	return db->backend->begin(db);
}

int db_commit(struct db *db)
{
	return db->backend->commit(db);
}

void db_rollback(struct db *db)
{
	db->backend->rollback(db);
}

const char *db_error(const struct db *db)
{
	return db->error;
}

bool db_is_postgresql(const struct db *db)
{
	return strcmp(db->backend->scheme, "postgresql") == 0;
}

uint64_t db_size(struct db *db)
{
	return db->backend->size(db);
}

void db_interrupt(struct db *db)
{
	db->backend->interrupt(db);
}

int db_set_timeout(struct db *db, unsigned ms)
{
	char sql[64];

	if (db->backend->set_timeout)
		return db->backend->set_timeout(db, ms);
	(void)snprintf(sql, sizeof(sql), "SET statement_timeout = %u", ms); /* PostgreSQL */
	return db_execute(db, sql);
}
