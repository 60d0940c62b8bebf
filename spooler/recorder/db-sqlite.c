/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * db-sqlite - see db.h; only this file and sqlite-checkpoint.c know libsqlite3.
 *
 * WAL, so that readers do not hold up the writer; synchronous=FULL, so that a commit is on the disk
 * when it returns. The page size is that of new files: each event touches pages by guest and by
 * host, so large pages would write more (see tests/bench/README.md).
 */
#include <ctype.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "spooler/base/memory.h"
#include "spooler/base/util.h"
#include "spooler/recorder/db-backend.h"
#include "spooler/recorder/sqlite-checkpoint.h"

#define NEW_PAGE_SIZE "4096"
#define LARGE_CACHE_PAGES 2560 /* 10 MiB: all of 20,000 guests */
#define PROGRESS_STEPS 20000   /* of SQLite's machine, between two looks at the clock */
#define BUSY_TIMEOUT_MS 2000   /* then -EAGAIN: the caller retries, and can be stopped in between */
#define CACHE_KIB "16384"
#define WAL_LIMIT_BYTES "67108864" /* the WAL file is cut back to this after a checkpoint */

struct sqlite {
	struct db db;
	sqlite3 *handle;
	sqlite3_stmt *statements[DB_STATEMENTS_MAX + 1];
	struct sqlite_checkpoint *checkpoint; /* NULL: SQLite's own */
	char *path;
	bool read_only;
	dev_t device; /* of the file that is open, */
	ino_t inode;  /* to see that it is still the one with this name */
	unsigned timeout_ms;
	uint64_t deadline_usec; /* of the statement that runs; CLOCK_MONOTONIC */
};

static struct sqlite *sqlite_of(struct db *db)
{
	return (struct sqlite *)db;
}

/* --- errors */

static int translate(int code)
{
	if (code == SQLITE_CONSTRAINT_PRIMARYKEY || code == SQLITE_CONSTRAINT_UNIQUE)
		return -EEXIST;
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
	case SQLITE_ROW:
		return 0;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_INTERRUPT:
	case SQLITE_PROTOCOL:
		return -EAGAIN;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
	case SQLITE_TOOBIG:
		return -EBADMSG;
	case SQLITE_CANTOPEN:
		return -ENOTCONN;
	default:
		return -EIO;
	}
}

static int fail(struct sqlite *q, int code)
{
	int r = translate(code);

	(void)snprintf(q->db.error, sizeof(q->db.error), "%s: %s%s%s", q->path,
		       q->handle ? sqlite3_errmsg(q->handle) : sqlite3_errstr(code),
		       r == -EIO && q->handle && sqlite3_system_errno(q->handle) ? ": " : "",
		       r == -EIO && q->handle && sqlite3_system_errno(q->handle)
			       ? strerror(sqlite3_system_errno(q->handle))
			       : "");
	return r;
}

/* A file that was removed, replaced or unmounted is read and takes writes all the same, and they
   would be lost. */
static int check_place(struct sqlite *q)
{
	struct stat st;

	if (stat(q->path, &st) == 0 && st.st_dev == q->device && st.st_ino == q->inode)
		return 0;
	(void)snprintf(q->db.error, sizeof(q->db.error), "%s: the file was removed or replaced",
		       q->path);
	return -ENOTCONN;
}

/* --- the dialect */

static const struct db_word words[] = {
	{"int", "INTEGER"},
	{"uuid", "BLOB"},
	{"bytes", "BLOB"},
	{"serial", "INTEGER PRIMARY KEY AUTOINCREMENT"},
	{0},
};

static void put_rows(FILE *f, const char *types, bool in)
{
	fputs(in ? "= (" : "VALUES (", f);
	for (size_t i = 0; types[i]; i++)
		fprintf(f, "%s$%zu", i ? ", " : "", i + 1);
	fputc(')', f);
}

static void put_copy(FILE *f, const char *table, const char *types)
{
	fprintf(f, "INSERT INTO %s ", table);
	put_rows(f, types, false);
}

/* Parameters can be named at once. */
static void put_from(FILE *f, const char *types)
{
}

/* --- statements */

static int bind(struct sqlite *q, sqlite3_stmt *s, const struct db_value *params, size_t n)
{
	int code = SQLITE_OK;

	for (size_t i = 0; i < n && code == SQLITE_OK; i++) {
		const struct db_value *v = &params[i];
		int at = (int)i + 1;

		switch (v->type) {
		case DB_NULL:
			code = sqlite3_bind_null(s, at);
			break;
		case DB_INT:
			code = sqlite3_bind_int64(s, at, v->number);
			break;
		case DB_TEXT:
			code = sqlite3_bind_text64(s, at, v->data, v->size, SQLITE_STATIC,
						   SQLITE_UTF8);
			break;
		case DB_BYTES:
		case DB_UUID:
			code = sqlite3_bind_blob64(s, at, v->data ? v->data : "", v->size,
						   SQLITE_STATIC);
			break;
		}
	}
	return code == SQLITE_OK ? 0 : fail(q, code);
}

/* Member by member: values that are put together elsewhere and copied take 4 ms more for 20,000 guests. */
static void read_value(sqlite3_value *v, struct db_value *ret)
{
	*ret = db_null();
	switch (sqlite3_value_type(v)) {
	case SQLITE_INTEGER:
		ret->type = DB_INT;
		ret->number = sqlite3_value_int64(v);
		break;
	case SQLITE_FLOAT:
		ret->type = DB_INT;
		ret->number = (int64_t)sqlite3_value_double(v);
		break;
	case SQLITE_TEXT:
		ret->data = sqlite3_value_text(v);
		ret->type = ret->data ? DB_TEXT : DB_NULL; /* no memory */
		ret->size = (size_t)sqlite3_value_bytes(v);
		break;
	case SQLITE_BLOB:
		ret->type = DB_BYTES;
		ret->data = sqlite3_value_blob(v);
		ret->size = (size_t)sqlite3_value_bytes(v);
		break;
	default:
		break;
	}
}

/* A handle belongs to one thread at a time, so that the values need no lock: sqlite3_column_...()
   would take one for each. */
static void read_row(sqlite3_stmt *s, struct db_value *values, int n)
{
	for (int i = 0; i < n; i++)
		read_value(sqlite3_column_value(s, i), &values[i]);
}

static int step_all(struct sqlite *q, sqlite3_stmt *s, db_row_fn fn, void *userdata)
{
	struct db_value values[DB_PARAMS_MAX];
	int n = sqlite3_column_count(s), code, r = 0;

	q->deadline_usec = now_usec(CLOCK_MONOTONIC) + q->timeout_ms * UINT64_C(1000);
	while (r >= 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
		if (!fn)
			continue;
		read_row(s, values, n > DB_PARAMS_MAX ? DB_PARAMS_MAX : n);
		r = fn(values, userdata);
	}
	if (r >= 0 && code != SQLITE_DONE)
		r = fail(q, code);
	(void)sqlite3_reset(s);
	return r;
}

/* SQLite numbers $N by its first appearance; ?N is what others mean by $N. */
static int prepare(struct sqlite *q, size_t slot, const char *sql)
{
	_cleanup_free_ char *copy = strdup(sql);
	int code;

	if (!copy)
		return -ENOMEM;
	for (char *s = copy; *s; s++)
		if (s[0] == '$' && s[1] >= '0' && s[1] <= '9')
			*s = '?';
	code = sqlite3_prepare_v3(q->handle, copy, -1,
				  slot < DB_STATEMENTS_MAX ? SQLITE_PREPARE_PERSISTENT : 0,
				  &q->statements[slot], NULL);
	return code == SQLITE_OK ? 0 : fail(q, code);
}

static int run(struct db *db, size_t slot, const struct db_statement *s, const char *sql, bool many,
	       const struct db_value *params, size_t n_rows, db_row_fn fn, void *userdata)
{
	struct sqlite *q = sqlite_of(db);
	size_t n = strlen(s->types);
	int r = q->read_only ? check_place(q) : 0;

	if (r >= 0 && !q->statements[slot])
		r = prepare(q, slot, sql);
	for (size_t i = 0; i < n_rows && r >= 0; i++) {
		r = bind(q, q->statements[slot], params + i * n, n);
		if (r >= 0)
			r = step_all(q, q->statements[slot], fn, userdata);
	}
	return r;
}

static void forget(struct db *db, size_t slot)
{
	struct sqlite *q = sqlite_of(db);

	(void)sqlite3_finalize(q->statements[slot]);
	q->statements[slot] = NULL;
}

static int execute(struct db *db, const char *sql)
{
	struct sqlite *q = sqlite_of(db);
	int code = sqlite3_exec(q->handle, sql, NULL, NULL, NULL);

	return code == SQLITE_OK ? 0 : fail(q, code);
}

static int begin(struct db *db)
{
	int r = check_place(sqlite_of(db));

	return r < 0 ? r : execute(db, "BEGIN IMMEDIATE");
}

static int commit(struct db *db)
{
	return execute(db, "COMMIT");
}

static void rollback(struct db *db)
{
	sqlite3 *handle = sqlite_of(db)->handle;

	if (handle && !sqlite3_get_autocommit(handle))
		(void)sqlite3_exec(handle, "ROLLBACK", NULL, NULL, NULL);
}

static uint64_t size_of(struct db *db)
{
	struct sqlite *q = sqlite_of(db);
	struct stat st;

	return stat(q->path, &st) < 0 ? 0 : (uint64_t)st.st_size;
}

static void interrupt(struct db *db)
{
	sqlite3_interrupt(sqlite_of(db)->handle);
}

static int on_progress(void *userdata)
{
	struct sqlite *q = userdata;

	return now_usec(CLOCK_MONOTONIC) > q->deadline_usec;
}

static int set_timeout(struct db *db, unsigned ms)
{
	struct sqlite *q = sqlite_of(db);

	q->timeout_ms = ms;
	sqlite3_progress_handler(q->handle, ms ? PROGRESS_STEPS : 0, ms ? on_progress : NULL, q);
	return 0;
}

static void close_database(struct db *db)
{
	struct sqlite *q = sqlite_of(db);

	rollback(db);
	sqlite_checkpoint_stop(q->checkpoint);
	(void)sqlite3_close_v2(q->handle);
	free(q->path);
}

static const struct db_backend backend = {
	.scheme = "sqlite",
	.words = words,
	.put_rows = put_rows,
	.put_copy = put_copy,
	.put_from = put_from,
	.parameter = "$",
	.run = run,
	.execute = execute,
	.begin = begin,
	.commit = commit,
	.rollback = rollback,
	.forget = forget,
	.size = size_of,
	.interrupt = interrupt,
	.set_timeout = set_timeout,
	.close = close_database,
};

/* --- opening */

static char *directory_of(const char *path)
{
	char *directory = strdup(path), *slash = directory ? strrchr(directory, '/') : NULL;

	if (slash)
		slash[slash == directory] = 0;
	return slash ? directory : (free(directory), strdup("."));
}

/* Who may: "root, the user X or the group Y", as far as the mode lets them. */
static void name_owner(const struct stat *st, bool writes, char ret[static 128])
{
	const struct passwd *user = st->st_uid ? getpwuid(st->st_uid) : NULL;
	const struct group *group =
		st->st_mode & (writes ? S_IWGRP : S_IRGRP) ? getgrgid(st->st_gid) : NULL;

	(void)snprintf(ret, 128, "root%s%.32s%s%.32s", user ? ", the user " : "",
		       user ? user->pw_name : "", group ? ", or the group " : "",
		       group ? group->gr_name : "");
}

/* Of a file, or a directory, that is there but must not be used: why not, and who may. NULL: it may
   be. Sets *ret_error to a negative errno. */
static char *find_fault(const char *what, const char *path, const char *directory, int mode,
			int *ret_error)
{
	char *text, owner[128];
	struct stat st;

	if (access(path, mode) == 0)
		return NULL;
	*ret_error = -errno;
	if (errno == EROFS)
		return asprintf(&text,
				"%son a read-only file system; a service writes elsewhere than in "
				"its state directory only if ReadWritePaths= of its unit says so",
				what) < 0
			       ? NULL
			       : text;
	if (stat(path, &st) < 0 && stat(directory, &st) < 0)
		st = (struct stat){0};
	name_owner(&st, mode & W_OK, owner);
	return asprintf(&text, "%snot %s for this user: %s; this needs %s", what,
			mode & W_OK ? "writable" : "readable", strerror(-*ret_error), owner) < 0
		       ? NULL
		       : text;
}

/* What is in the way of opening the file; NULL: nothing that can be seen. */
static char *find_obstacle(const struct sqlite *q, unsigned flags, int *ret_error)
{
	_cleanup_free_ char *directory = directory_of(q->path), *what = NULL;
	bool reads = flags & DB_READ_ONLY, exists;
	struct stat st;
	char *text;

	if (!directory || asprintf(&what, "directory '%s' is ", directory) < 0)
		return NULL;
	if (stat(directory, &st) < 0) {
		*ret_error = -errno;
		return asprintf(&text, "directory '%s': %s; is its file system mounted?", directory,
				strerror(errno)) < 0
			       ? NULL
			       : text;
	}
	exists = access(q->path, F_OK) == 0 || errno != ENOENT;
	if (!exists && flags & (DB_READ_ONLY | DB_EXISTING)) {
		*ret_error = -ENOENT;
		return strdup(reads ? "it does not exist; virtspool-recorder.service makes it"
				    : "it does not exist");
	}
	text = exists ? find_fault("it is ", q->path, directory, reads ? R_OK : R_OK | W_OK,
				   ret_error)
		      : NULL;
	return text || reads ? text
			     : find_fault(what, directory, directory, W_OK | X_OK, ret_error);
}

/* A sentence that says which file or directory stands in the way. Returns a negative errno. */
static int explain_open(const struct sqlite *q, int code, unsigned flags, char **ret_error)
{
	int error = q->handle ? sqlite3_system_errno(q->handle) : 0, r = translate(code), n;
	_cleanup_free_ char *obstacle = NULL;

	if (r == -ENOTCONN && error)
		r = -error;
	if ((code & 0xff) == SQLITE_NOTADB) {
		r = -EINVAL;
		obstacle = strdup("it is not an SQLite database");
	} else {
		obstacle = find_obstacle(q, flags, &r);
	}
	if (obstacle)
		n = asprintf(ret_error, "cannot open the store '%s': %s", q->path, obstacle);
	else
		n = asprintf(ret_error, "cannot open the store '%s': %s%s%s", q->path,
			     q->handle ? sqlite3_errmsg(q->handle) : sqlite3_errstr(code),
			     error ? ": " : "", error ? strerror(error) : "");
	if (n < 0)
		*ret_error = NULL;
	return r ? r : -EIO;
}

/* A new file belongs to whom its directory belongs: what root does by a command must not leave one
   that the service cannot write. */
static void create_file(const char *path)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	_cleanup_free_ char *directory = directory_of(path);
	struct stat st;

	if (fd >= 0 && geteuid() == 0 && directory && stat(directory, &st) == 0)
		(void)!fchown(fd, st.st_uid, st.st_gid);
}

/* Reading a pipe would wait for its other end. */
static int check_kind(const char *path, char **ret_error)
{
	struct stat st;

	if (stat(path, &st) < 0 || S_ISREG(st.st_mode))
		return 0;
	if (asprintf(ret_error, "cannot open the store '%s': it is %s, not a file", path,
		     S_ISDIR(st.st_mode)    ? "a directory"
		     : S_ISFIFO(st.st_mode) ? "a pipe"
		     : S_ISSOCK(st.st_mode) ? "a socket"
					    : "a device") < 0)
		*ret_error = NULL;
	return -EINVAL;
}

static int set_up(struct sqlite *q, unsigned flags)
{
	static const char writer[] = "PRAGMA page_size = " NEW_PAGE_SIZE ";"
				     "PRAGMA journal_mode = WAL;"
				     "PRAGMA synchronous = FULL;"
				     "PRAGMA journal_size_limit = " WAL_LIMIT_BYTES ";";
	int code, keep = 1; /* -wal and -shm: who may only read the file cannot make them */

	(void)sqlite3_extended_result_codes(q->handle, 1);
	(void)sqlite3_busy_timeout(q->handle, BUSY_TIMEOUT_MS);
	code = sqlite3_exec(q->handle,
			    "PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF;"
			    "PRAGMA temp_store = MEMORY;",
			    NULL, NULL, NULL);
	if (code == SQLITE_OK && !(flags & DB_READ_ONLY) && sqlite3_db_readonly(q->handle, "main"))
		code = SQLITE_READONLY;
	if (code == SQLITE_OK && !(flags & DB_READ_ONLY))
		code = sqlite3_exec(q->handle, writer, NULL, NULL, NULL);
	if (code == SQLITE_OK && !(flags & DB_READ_ONLY))
		(void)sqlite3_file_control(q->handle, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
	if (code == SQLITE_OK) /* the first look into the file */
		code = sqlite3_exec(q->handle, "SELECT 1 FROM sqlite_schema LIMIT 1", NULL, NULL,
				    NULL);
	if (code == SQLITE_OK) /* counted in pages, whose size that look has shown */
		code = sqlite3_exec(q->handle, "PRAGMA cache_size = -" CACHE_KIB, NULL, NULL, NULL);
	return code;
}

/* SQLite touches all of it at once; larger pages, and more of them, it takes from elsewhere. */
static void prepare_cache(void)
{
	int header = 0, size;
	void *memory;

	(void)sqlite3_config(SQLITE_CONFIG_PCACHE_HDRSZ, &header);
	size = (atoi(NEW_PAGE_SIZE) + header + 7) & ~7;
	memory = memory_large((size_t)size * LARGE_CACHE_PAGES);
	if (memory) /* refused after the first use of SQLite */
		(void)sqlite3_config(SQLITE_CONFIG_PAGECACHE, memory, size, LARGE_CACHE_PAGES);
}

/* The name as SQLite's URI. Without a WAL file, and where none can be made, nobody writes: "immutable"
   reads such a file, a copy or one on a read-only disk. */
static char *immutable_uri(const char *path)
{
	char *uri = NULL;
	size_t size;
	FILE *f = open_memstream(&uri, &size);

	if (!f)
		return NULL;
	fputs("file:", f);
	for (; *path; path++)
		fprintf(f, isalnum((unsigned char)*path) || strchr("/._-", *path) ? "%c" : "%%%02X",
			(unsigned char)*path);
	fputs("?immutable=1", f);
	return fclose(f) == 0 ? uri : NULL;
}

static int open_handle(struct sqlite *q, const char *name, unsigned flags)
{
	int access = flags & DB_READ_ONLY  ? SQLITE_OPEN_READONLY
		     : flags & DB_EXISTING ? SQLITE_OPEN_READWRITE
					   : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
	int code;

	(void)sqlite3_close_v2(q->handle);
	q->handle = NULL;
	code = sqlite3_open_v2(
		name, &q->handle,
		access | SQLITE_OPEN_NOMUTEX | (name == q->path ? 0 : SQLITE_OPEN_URI), NULL);
	return code == SQLITE_OK ? set_up(q, flags) : code;
}

static bool has_wal(const char *path)
{
	_cleanup_free_ char *wal = NULL;
	struct stat st;

	if (asprintf(&wal, "%s-wal", path) < 0)
		wal = NULL;
	return !wal || (stat(wal, &st) == 0 ? st.st_size > 0 : errno != ENOENT);
}

int db_sqlite_open(const char *url, unsigned flags, struct db **ret_db, char **ret_error)
{
	static bool prepared;
	struct sqlite *q = calloc(1, sizeof(*q));
	_cleanup_free_ char *uri = NULL;
	struct stat st;
	int code, r = 0;

	*ret_error = NULL;
	if (!q)
		return -ENOMEM;
	if (flags & DB_LARGE_CACHE && !prepared) {
		prepared = true;
		prepare_cache();
	}
	q->db.backend = &backend;
	q->read_only = flags & DB_READ_ONLY;
	q->path = strdup(url + strlen("sqlite://"));
	r = q->path ? check_kind(q->path, ret_error) : -ENOMEM;
	if (r >= 0) {
		if (!(flags & (DB_READ_ONLY | DB_EXISTING)))
			create_file(q->path);
		code = open_handle(q, q->path, flags);
		if (((code & 0xff) == SQLITE_CANTOPEN || (code & 0xff) == SQLITE_READONLY) &&
		    q->read_only && access(q->path, R_OK) == 0 && !has_wal(q->path) &&
		    (uri = immutable_uri(q->path)))
			code = open_handle(q, uri, flags);
		if (code != SQLITE_OK)
			r = explain_open(q, code, flags, ret_error);
	}
	if (r < 0) {
		db_close(&q->db);
		return r;
	}
	if (stat(q->path, &st) == 0) {
		q->device = st.st_dev;
		q->inode = st.st_ino;
	}
	if (!q->read_only)
		(void)sqlite_checkpoint_start(q->handle, q->path, &q->checkpoint);
	*ret_db = &q->db;
	return 0;
}
