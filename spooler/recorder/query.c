/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * query - see query.h. A statement is put together from a fixed part and one condition for each
 * filter that was given; values are always parameters. Globs are matched by the database: GLOB of
 * SQLite, a regular expression in PostgreSQL.
 */
#include <ctype.h>
#include <stdarg.h>

#include "spooler/base/hex.h"
#include "spooler/base/util.h"
#include "spooler/recorder/db.h"
#include "spooler/recorder/intervals.h"
#include "spooler/recorder/query-sql.h"
#include "spooler/recorder/query.h"
#include "spooler/recorder/schema.h"

/* Guests or hosts of a name that are put into a statement; of more, a subquery. */
#define RESOLVED_MAX 1

struct query {
	struct db *db;
	char error[600];
};

int query_open(const char *url, unsigned flags, struct query **ret_query, char **ret_error)
{
	struct query *q = calloc(1, sizeof(*q));
	int r;

	*ret_error = NULL;
	if (!q)
		return -ENOMEM;
	r = db_open(url, DB_READ_ONLY | flags, &q->db, ret_error);
	if (r >= 0)
		r = schema_check(q->db, ret_error);
	if (r < 0) {
		query_close(q);
		return r;
	}
	*ret_query = q;
	return 0;
}

void query_close(struct query *q)
{
	if (!q)
		return;
	db_close(q->db);
	free(q);
}

const char *query_error(const struct query *q)
{
	return q->error;
}

static void keep_error(struct query *q)
{
	(void)snprintf(q->error, sizeof(q->error), "%s", db_error(q->db));
}

struct db *query_db(struct query *q)
{
	return q->db;
}

/* --- putting a statement together */

struct builder {
	struct query *q;
	char *sql;
	size_t size;
	FILE *f;
	bool any; /* a condition */
	char types[DB_PARAMS_MAX + 1];
	struct db_value params[DB_PARAMS_MAX];
	size_t n;
	unsigned char ids[DB_PARAMS_MAX][16]; /* storage for parameters */
	char *texts[DB_PARAMS_MAX];
};

static int builder_init(struct builder *b, struct query *q)
{
	*b = (struct builder){.q = q};
	b->f = open_memstream(&b->sql, &b->size);
	return b->f ? 0 : -ENOMEM;
}

static void builder_release(struct builder *b)
{
	if (b->f)
		(void)fclose(b->f);
	free(b->sql);
	for (size_t i = 0; i < DB_PARAMS_MAX; i++)
		free(b->texts[i]);
}

/* Adds a parameter; returns its number. */
static size_t param(struct builder *b, char type, struct db_value v)
{
	if (b->n == DB_PARAMS_MAX)
		return DB_PARAMS_MAX;
	b->types[b->n] = type;
	b->params[b->n] = v;
	return ++b->n;
}

static size_t param_id(struct builder *b, const unsigned char id[16])
{
	if (b->n == DB_PARAMS_MAX)
		return DB_PARAMS_MAX;
	memcpy(b->ids[b->n], id, 16);
	return param(b, 'u', db_uuid(b->ids[b->n]));
}

/* Takes over the text. */
static size_t param_text(struct builder *b, char *text)
{
	if (b->n == DB_PARAMS_MAX) {
		free(text);
		return DB_PARAMS_MAX;
	}
	b->texts[b->n] = text;
	return param(b, 't', db_text(text ? text : ""));
}

static void add(struct builder *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct builder *b, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vfprintf(b->f, format, ap);
	va_end(ap);
}

/* Begins a condition. */
static void where(struct builder *b)
{
	fputs(b->any ? " AND " : " WHERE ", b->f);
	b->any = true;
}

/* --- globs */

static bool is_glob(const char *s)
{
	return s[strcspn(s, "*?[\\")];
}

/* The end of the set that begins here, its ']'; NULL: it is a plain '['. */
static const char *end_of_set(const char *s)
{
	const char *first = s + 1 + (s[1] == '!' || s[1] == '^');

	return *first ? strchr(first + 1, ']') : NULL;
}

static bool is_negated(const char *set)
{
	return set[1] == '!' || set[1] == '^';
}

/* SQLite's GLOB has no backslash. */
static void put_for_sqlite(FILE *f, char c)
{
	fprintf(f, strchr("*?[", c) ? "[%c]" : "%c", c);
}

static void put_for_postgresql(FILE *f, char c)
{
	fprintf(f, strchr("\\^$.|+*?(){}[]", c) ? "\\%c" : "%c", c);
}

static void put_set(FILE *f, const char *set, const char *end, bool postgresql)
{
	fputs(is_negated(set) ? "[^" : "[", f);
	for (set += 1 + is_negated(set); set < end; set++)
		fprintf(f, postgresql && *set == '\\' ? "\\%c" : "%c", *set);
	fputc(']', f);
}

/* The shell's glob as the database has it: SQLite's GLOB, or a regular expression. */
static char *translate_glob(const char *glob, bool postgresql)
{
	char *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	if (!f)
		return NULL;
	fputs(postgresql ? "^" : "", f);
	for (; *glob; glob++) {
		const char *end = *glob == '[' ? end_of_set(glob) : NULL;

		if (end) {
			put_set(f, glob, end, postgresql);
			glob = end;
		} else if (*glob == '*' || *glob == '?') {
			fprintf(f, "%s%s", postgresql ? "." : "",
				*glob == '*'  ? "*"
				: !postgresql ? "?"
					      : "");
		} else {
			if (*glob == '\\' && glob[1])
				glob++;
			(postgresql ? put_for_postgresql : put_for_sqlite)(f, *glob);
		}
	}
	fputs(postgresql ? "$" : "", f);
	return fclose(f) == 0 ? out : NULL;
}

static void add_glob(struct builder *b, const char *column, const char *glob)
{
	bool postgresql = db_is_postgresql(b->q->db);

	add(b, "%s %s $%zu", column, postgresql ? "~" : "GLOB",
	    param_text(b, translate_glob(glob, postgresql)));
}

/* The condition "column matches this name or glob", without WHERE. A glob matches itself as well, as
   a guest may be called "a[1]". */
static void add_match(struct builder *b, const char *column, const char *text)
{
	size_t p = param_text(b, strdup(text));

	if (!is_glob(text)) {
		add(b, "%s = $%zu", column, p);
		return;
	}
	add(b, "(%s = $%zu OR ", column, p);
	add_glob(b, column, text);
	add(b, ")");
}

/* A guest's name or, of a glob that could be one's, its UUID. */
static void add_guest_match(struct builder *b, const char *table, const char *text)
{
	_cleanup_free_ char *low = strdup(text), *column = NULL;

	add(b, "(");
	if (asprintf(&column, "%s.name", table) >= 0)
		add_match(b, column, text);
	free(TAKE_PTR(column));
	if (low && is_glob(text) && !text[strspn(text, "0123456789abcdefABCDEF-*?[]!^")] &&
	    asprintf(
		    &column,
		    "{postgresql:%1$s.uuid::text}{sqlite:lower(substr(hex(%1$s.uuid), 1, 8) || '-' || "
		    "substr(hex(%1$s.uuid), 9, 4) || '-' || substr(hex(%1$s.uuid), 13, 4) || '-' || "
		    "substr(hex(%1$s.uuid), 17, 4) || '-' || substr(hex(%1$s.uuid), 21))}",
		    table) >= 0) {
		for (char *s = low; *s; s++)
			*s = (char)tolower((unsigned char)*s);
		add(b, " OR ");
		add_glob(b, column, low);
	}
	add(b, ")");
}

/* The same as a condition; none without a text. */
static void where_matches(struct builder *b, const char *column, const char *text)
{
	if (!text)
		return;
	where(b);
	add_match(b, column, text);
}

/* A part of the text, any case; nothing in it is special. */
static void add_search(struct builder *b, const char *column, const char *text)
{
	char *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	if (!f)
		return;
	fputc('%', f);
	for (; *text; text++) {
		if (strchr("%_\\", *text))
			fputc('\\', f);
		fputc(*text, f);
	}
	fputc('%', f);
	(void)fclose(f);
	add(b, "%s %s $%zu ESCAPE '\\'", column, db_is_postgresql(b->q->db) ? "ILIKE" : "LIKE",
	    param_text(b, out));
}

/* --- the limit, the page */

static uint64_t limit_of(const struct query_filter *f)
{
	return f->limit == 0		    ? QUERY_LIMIT
	       : f->limit > QUERY_LIMIT_MAX ? QUERY_LIMIT_MAX
					    : f->limit;
}

/* What every callback of a row needs. */
struct rows {
	void (*fn)(void); /* the user's, of the type that goes with the query */
	void *userdata;
	uint64_t limit, n;
	bool more;
	struct query_page page;
	bool brief;
};

/* One row more than asked for is read: it says that there is another page. */
static bool is_past_limit(struct rows *rows)
{
	if (rows->n < rows->limit) {
		rows->n++;
		return false;
	}
	rows->more = true;
	return true;
}

/* The next page begins after this row. */
static bool is_last(const struct rows *rows)
{
	return rows->n == rows->limit;
}

/* Of rows that are ordered by (id, host): run() ends what begin_of() begins. */
static const char *begin_of(const struct query_filter *f)
{
	return f->newest ? "SELECT * FROM (" : "";
}

static const char *order_of(const struct query_filter *f)
{
	return f->oldest_first && !f->newest ? "ASC" : "DESC";
}

/* Adds SELECT, conditions and order of a query. */
typedef int (*select_fn)(struct builder *b, const struct query_filter *f);

static int run(struct builder *b, const struct query_filter *f, db_row_fn fn, struct rows *rows)
{
	int r;

	rows->limit = limit_of(f);
	if (f->newest)
		add(b, " LIMIT %llu) AS newest ORDER BY 1, 2", (unsigned long long)rows->limit);
	else
		add(b, " LIMIT %llu", (unsigned long long)rows->limit + 1);
	if (fclose(TAKE_PTR(b->f)) != 0)
		return -ENOMEM;
	r = b->n == DB_PARAMS_MAX ? -E2BIG
				  : db_query(b->q->db, b->sql, b->types, b->params, fn, rows);
	if (r < 0)
		keep_error(b->q);
	return r;
}

/* Asks, and calls on_row for each row, which calls `fn`, the user's. */
static int ask(struct query *q, const struct query_filter *f, select_fn select, db_row_fn on_row,
	       void (*fn)(void), void *userdata, struct query_page *ret_page)
{
	struct rows rows = {.fn = fn, .userdata = userdata, .brief = f->brief};
	struct builder b;
	int r;

	r = builder_init(&b, q);
	if (r < 0)
		return r;
	r = select(&b, f);
	if (r >= 0)
		r = run(&b, f, on_row, &rows);
	builder_release(&b);
	if (!rows.more)
		rows.page.cursor[0] = 0;
	rows.page.rows = rows.n;
	if (r >= 0 && ret_page)
		*ret_page = rows.page;
	return r;
}

static void format_id(const struct db_value *v, char ret[static UUID_TEXT])
{
	ret[0] = 0;
	if (v->type != DB_NULL && v->size == 16)
		uuid_format(v->data, ret);
}

static void format_epoch(const struct db_value *v, char ret[static 33])
{
	ret[0] = 0;
	if (v->type != DB_NULL && v->size == 16)
		hex_format(v->data, 16, ret);
}

/* A cursor "UUID:REST". */
static bool parse_cursor(const char *cursor, unsigned char ret_id[16], const char **ret_rest)
{
	char id[UUID_TEXT];

	if (strlen(cursor) < UUID_TEXT || cursor[UUID_TEXT - 1] != ':')
		return false;
	memcpy(id, cursor, UUID_TEXT - 1);
	id[UUID_TEXT - 1] = 0;
	*ret_rest = cursor + UUID_TEXT;
	return uuid_parse(id, ret_id);
}

static bool has_cursor(const struct query_filter *f)
{
	return f->cursor && *f->cursor;
}

/* --- which guests and hosts are meant */

struct resolved {
	unsigned char ids[RESOLVED_MAX + 1][16];
	int64_t numbers[RESOLVED_MAX + 1];
	size_t n;
};

static int take_resolved(const struct db_value *v, void *userdata)
{
	struct resolved *x = userdata;

	if (x->n > RESOLVED_MAX)
		return 0;
	if (v[0].type == DB_INT)
		x->numbers[x->n++] = v[0].number;
	else if (v[0].size == 16)
		memcpy(x->ids[x->n++], v[0].data, 16);
	return 0;
}

static int resolve(struct query *q, bool guests, const char *text, struct resolved *ret)
{
	struct builder b;
	int r;

	*ret = (struct resolved){};
	r = builder_init(&b, q);
	if (r < 0)
		return r;
	if (guests) {
		add(&b, "SELECT g.uuid FROM guests g WHERE ");
		add_guest_match(&b, "g", text);
	} else {
		add(&b, "SELECT no FROM hosts WHERE ");
		add_match(&b, "name", text);
	}
	add(&b, " LIMIT %d", RESOLVED_MAX + 1);
	(void)fclose(TAKE_PTR(b.f));
	r = db_query(q->db, b.sql, b.types, b.params, take_resolved, ret);
	if (r < 0)
		keep_error(q);
	builder_release(&b);
	return r;
}

/* The condition that `column` is a guest of this name or UUID; where no guest is called so, that
   `name_column` is. */
static int add_vm(struct builder *b, const char *column, const char *name_column, const char *vm)
{
	unsigned char uuid[16];
	struct resolved x;
	int r;

	if (uuid_parse(vm, uuid)) {
		add(b, "%s = $%zu", column, param_id(b, uuid));
		return 0;
	}
	r = resolve(b->q, true, vm, &x);
	if (r < 0)
		return r;
	if (x.n == 0) {
		add_match(b, name_column, vm);
	} else if (x.n == 1) { /* in the order of the index */
		add(b, "%s = $%zu", column, param_id(b, x.ids[0]));
	} else {
		add(b, "%s IN (SELECT m.uuid FROM guests m WHERE ", column);
		add_guest_match(b, "m", vm);
		add(b, ")");
	}
	return 0;
}

static int add_host(struct builder *b, const char *column, const char *host)
{
	struct resolved x;
	int r = resolve(b->q, false, host, &x);

	if (r < 0)
		return r;
	if (x.n == 1) {
		add(b, "%s = $%zu", column, param(b, 'i', db_int(x.numbers[0])));
	} else {
		add(b, "%s IN (SELECT no FROM hosts WHERE ", column);
		add_match(b, "name", host);
		add(b, ")");
	}
	return 0;
}

static void add_times(struct builder *b, const char *column, const struct query_filter *f)
{
	if (f->since) {
		where(b);
		add(b, "%s >= $%zu", column, param(b, 'i', db_int(f->since)));
	}
	if (f->until) {
		where(b);
		add(b, "%s < $%zu", column, param(b, 'i', db_int(f->until)));
	}
}

/* The same for an id, which begins with the time. */
static void add_id_times(struct builder *b, const char *column, const struct query_filter *f)
{
	unsigned char id[16];

	if (f->since) {
		id_at(f->since, id);
		where(b);
		add(b, "%s >= $%zu", column, param_id(b, id));
	}
	if (f->until) {
		id_at(f->until, id);
		where(b);
		add(b, "%s < $%zu", column, param_id(b, id));
	}
}

/* Rows that are ordered by (id, host): from the cursor on. */
static int add_id_cursor(struct builder *b, const char *table, const struct query_filter *f)
{
	unsigned char id[16];
	const char *rest;
	size_t p;

	if (!has_cursor(f))
		return 0;
	if (!parse_cursor(f->cursor, id, &rest))
		return -EINVAL;
	where(b);
	p = param_id(b, id);
	add(b, "(%s.id, %s.host) %s ($%zu, $%zu)", table, table, f->oldest_first ? ">" : "<", p,
	    param(b, 'i', db_int(strtoll(rest, NULL, 10))));
	return 0;
}

static void set_id_cursor(struct rows *rows, const char *id, int64_t host)
{
	if (is_last(rows))
		(void)snprintf(rows->page.cursor, sizeof(rows->page.cursor), "%s:%lld", id,
			       (long long)host);
}

/* --- hosts */

static int on_host(const struct db_value *v, void *userdata)
{
	struct rows *rows = userdata;
	struct query_host h = {
		.no = v[0].number,
		.name = db_string(&v[1]),
		.online = v[2].type == DB_NULL ? -1 : (int)v[2].number,
		.status_time = v[3].number,
		.status = db_string(&v[4]),
		.boot = db_string(&v[5]),
		.sequence = v[7].number,
		.behind = v[8].number > v[7].number ? v[8].number - v[7].number : 0,
		.missing = v[9].number,
		.last_time = v[10].number,
		.seen = v[11].number,
		.guests = v[12].number,
	};

	if (is_past_limit(rows))
		return 0;
	format_epoch(&v[6], h.epoch);
	if (is_last(rows))
		(void)snprintf(rows->page.cursor, sizeof(rows->page.cursor), "%s", h.name);
	return ((query_host_fn)rows->fn)(&h, rows->userdata);
}

static int select_hosts(struct builder *b, const struct query_filter *f)
{
	/* All guests are counted: to read the table is cheaper than to look each up by an index. */
	add(b,
	    "SELECT h.no, h.name, h.online, h.status_time, h.status, h.boot, h.epoch, h.sequence, h.reported, "
	    "h.missing, h.last_time, h.seen, coalesce(g.n, 0) FROM hosts h LEFT JOIN (SELECT host, count(*) AS n "
	    "FROM guests {sqlite:NOT INDEXED} JOIN hosts ON hosts.no = guests.host WHERE place <> 'stopped' AND (boot_id IS NULL OR "
	    "place_id >= boot_id) GROUP BY host) g ON g.host = h.no");
	where_matches(b, "h.name", f->host);
	if (f->search) {
		where(b);
		add_search(b, "h.name", f->search);
	}
	if (has_cursor(f)) {
		where(b);
		add(b, "h.name > $%zu", param_text(b, strdup(f->cursor)));
	}
	add(b, " ORDER BY h.name");
	return 0;
}

int query_hosts(struct query *q, const struct query_filter *f, query_host_fn fn, void *userdata,
		struct query_page *ret_page)
{
	return ask(q, f, select_hosts, on_host, (void (*)(void))fn, userdata, ret_page);
}

/* --- guests */

static int on_guest(const struct db_value *v, void *userdata)
{
	struct rows *rows = userdata;
	struct query_guest g = {
		.name = db_string(&v[1]),
		.host = db_string(&v[2]),
		.state = db_string(&v[3]),
		.since = v[4].number,
		.reason = db_string(&v[5]),
		.also_on = db_string(&v[6]),
		.going_to = db_string(&v[7]),
	};

	if (is_past_limit(rows))
		return 0;
	if (!rows->brief) {
		g.driver = db_string(&v[8]);
		g.last_time = v[9].number;
		g.migration_from = db_string(&v[10]);
		g.migration_to = db_string(&v[11]);
		g.migration_begin = v[12].number;
		g.migration_end = v[13].number;
		g.migration_outcome = db_string(&v[14]);
	}
	if (!rows->brief || !*g.name || is_last(rows))
		format_id(&v[0], g.uuid);
	if (is_last(rows))
		(void)snprintf(rows->page.cursor, sizeof(rows->page.cursor), "%s:%.580s", g.uuid,
			       g.name);
	return ((query_guest_fn)rows->fn)(&g, rows->userdata);
}

/* The name or the UUID, or its beginning. */
static void add_guest_search(struct builder *b, const char *text)
{
	char low[UUID_TEXT] = "00000000-0000-0000-0000-000000000000",
	     high[UUID_TEXT] = "ffffffff-ffff-ffff-ffff-ffffffffffff";
	unsigned char from[16], to[16];
	size_t n = strlen(text), p;

	where(b);
	add(b, "(");
	add_search(b, "g.name", text);
	if (n >= 4 && n < UUID_TEXT) {
		memcpy(low, text, n);
		memcpy(high, text, n);
		if (uuid_parse(low, from) && uuid_parse(high, to)) {
			p = param_id(b, from);
			add(b, " OR g.uuid BETWEEN $%zu AND $%zu", p, param_id(b, to));
		}
	}
	add(b, ")");
}

static int add_guest_filters(struct builder *b, const struct query_filter *f)
{
	unsigned char uuid[16];
	const char *name;
	size_t p;

	where(b);
	add(b, "g.last_id IS NOT NULL");
	if (f->vm) {
		where(b);
		if (uuid_parse(f->vm, uuid))
			add(b, "g.uuid = $%zu", param_id(b, uuid));
		else
			add_guest_match(b, "g", f->vm);
	}
	where_matches(b, "(" GUEST_HOST ")", f->host);
	where_matches(b, "g.driver", f->driver);
	if (f->state) {
		where(b);
		add(b, "(" GUEST_STATE ") = $%zu", param_text(b, strdup(f->state)));
	}
	if (f->search)
		add_guest_search(b, f->search);
	add_times(b, "g.last_time", f);
	if (!has_cursor(f))
		return 0;
	if (!parse_cursor(f->cursor, uuid, &name))
		return -EINVAL;
	where(b);
	p = param_text(b, strdup(name));
	add(b, "(g.name, g.uuid) > ($%zu, $%zu)", p, param_id(b, uuid));
	return 0;
}

static int select_guests(struct builder *b, const struct query_filter *f)
{
	int r = 0;

	add(b,
	    "SELECT g.uuid, g.name, " GUEST_HOST ", " GUEST_STATE ", " GUEST_SINCE
	    ", g.reason, " GUEST_ALSO_ON ", " GUEST_GOING_TO "%s FROM " GUEST_JOINS "%s",
	    f->brief ? ""
		     : ", g.driver, g.last_time, mf.name, mt.name, g.migration_begin, "
		       "g.migration_end, g.migration_outcome",
	    f->brief ? ""
		     : " LEFT JOIN hosts mf ON mf.no = g.migration_from LEFT JOIN hosts mt ON "
		       "mt.no = g.migration_to");
	r = add_guest_filters(b, f);
	if (!f->any_order)
		add(b, " ORDER BY g.name, g.uuid");
	return r;
}

int query_guests(struct query *q, const struct query_filter *f, query_guest_fn fn, void *userdata,
		 struct query_page *ret_page)
{
	return ask(q, f, select_guests, on_guest, (void (*)(void))fn, userdata, ret_page);
}

/* --- the log */

/* SQLite numbers the rows; PostgreSQL has an index by time of arrival. */
#define ARRIVAL "{sqlite:e.rowid}{postgresql:e.received}"

static int on_event(const struct db_value *v, void *userdata)
{
	struct rows *rows = userdata;
	struct query_event e = {
		.time = v[2].number,
		.received = v[3].number,
		.sequence = v[5].number,
		.flags = (unsigned)v[6].number,
		.driver = db_string(&v[8]),
		.operation = db_string(&v[9]),
		.reason = db_string(&v[10]),
		.name = db_string(&v[11]),
		.payload = db_string(&v[12]),
		.payload_size = v[12].size,
		.host = db_string(&v[13]),
		.arrival = v[14].number,
	};

	if (is_past_limit(rows))
		return 0;
	format_id(&v[0], e.id);
	format_epoch(&v[4], e.epoch);
	format_id(&v[7], e.guest);
	set_id_cursor(rows, e.id, v[1].number);
	return ((query_event_fn)rows->fn)(&e, rows->userdata);
}

/* In the order of arrival the cursor is a place among those that have arrived at the same time. */
static int add_event_cursor(struct builder *b, const struct query_filter *f)
{
	unsigned char id[16];
	const char *rest;
	size_t after, p;

	if (!f->arrived_after || !has_cursor(f))
		return add_id_cursor(b, "e", f);
	if (!parse_cursor(f->cursor, id, &rest))
		return -EINVAL;
	where(b);
	after = param(b, 'i', db_int(f->arrived_after));
	p = param_id(b, id);
	add(b, "(" ARRIVAL " > $%zu OR (e.id, e.host) > ($%zu, $%zu))", after, p,
	    param(b, 'i', db_int(strtoll(rest, NULL, 10))));
	return 0;
}

static int add_event_filters(struct builder *b, const struct query_filter *f)
{
	int r = 0;

	if (f->vm) {
		where(b);
		r = add_vm(b, "e.guest", "e.name", f->vm);
	}
	if (r >= 0 && f->host) {
		where(b);
		r = add_host(b, "e.host", f->host);
	}
	where_matches(b, "e.operation", f->operation);
	where_matches(b, "e.driver", f->driver);
	add_id_times(b, "e.id", f);
	if (f->arrived_after) {
		where(b);
		add(b, ARRIVAL " %s $%zu", has_cursor(f) ? ">=" : ">",
		    param(b, 'i', db_int(f->arrived_after)));
	}
	return r < 0 ? r : add_event_cursor(b, f);
}

static int select_log(struct builder *b, const struct query_filter *f)
{
	const char *order = order_of(f);
	int r = 0;

	add(b,
	    "%sSELECT e.id, e.host, e.time, e.received, e.epoch, e.sequence, e.flags, e.guest, e.driver, e.operation, "
	    "e.reason, e.name, e.payload, h.name, " ARRIVAL
	    " FROM events e LEFT JOIN hosts h ON h.no = e.host",
	    begin_of(f));
	r = add_event_filters(b, f);
	if (f->arrived_after)
		add(b, " ORDER BY " ARRIVAL "{postgresql:, e.id, e.host}");
	else
		add(b, " ORDER BY e.id %s, e.host %s", order, order);
	return r;
}

int query_log(struct query *q, const struct query_filter *f, query_event_fn fn, void *userdata,
	      struct query_page *ret_page)
{
	return ask(q, f, select_log, on_event, (void (*)(void))fn, userdata, ret_page);
}

static int take_arrival(const struct db_value *v, void *userdata)
{
	*(int64_t *)userdata = v[0].number;
	return 0;
}

int query_last_arrival(struct query *q, int64_t *ret_arrival)
{
	static const char sql[] = "{sqlite:SELECT coalesce(max(rowid), -1) FROM events}"
				  "{postgresql:SELECT number FROM meta WHERE name = 'arrival'}";
	int r = db_query(q->db, sql, "", NULL, take_arrival, ret_arrival);

	if (r < 0)
		keep_error(q);
	return r;
}

/* --- operations */

static int on_operation(const struct db_value *v, void *userdata)
{
	struct rows *rows = userdata;
	struct query_operation o = {
		.host = db_string(&v[2]),
		.name = db_string(&v[4]),
		.kind = db_string(&v[5]),
		.begun = v[6].number,
		.ended = v[7].number,
		.outcome = db_string(&v[8]),
		.reason = db_string(&v[9]),
		.from = db_string(&v[10]),
		.to = db_string(&v[11]),
	};

	if (is_past_limit(rows))
		return 0;
	format_id(&v[0], o.id);
	format_id(&v[3], o.guest);
	set_id_cursor(rows, o.id, v[1].number);
	return ((query_operation_fn)rows->fn)(&o, rows->userdata);
}

static int select_operations(struct builder *b, const struct query_filter *f)
{
	const char *order = order_of(f);
	int r = 0;

	add(b,
	    "%sSELECT p.id, p.host, h.name, p.guest, g.name, p.kind, p.begun, p.ended, p.outcome, p.reason, ff.name, "
	    "t.name FROM operations p LEFT JOIN hosts h ON h.no = p.host LEFT JOIN guests g ON g.uuid = p.guest "
	    "LEFT JOIN hosts ff ON ff.no = p.from_host LEFT JOIN hosts t ON t.no = p.to_host",
	    begin_of(f));
	if (f->vm) {
		where(b);
		r = add_vm(b, "p.guest", "g.name", f->vm);
	}
	if (r >= 0 && f->host) {
		where(b);
		r = add_host(b, "p.host", f->host);
	}
	where_matches(b, "p.kind", f->operation);
	add_id_times(b, "p.id", f);
	if (r >= 0)
		r = add_id_cursor(b, "p", f);
	add(b, " ORDER BY p.id %s, p.host %s", order, order);
	return r;
}

int query_operations(struct query *q, const struct query_filter *f, query_operation_fn fn,
		     void *userdata, struct query_page *ret_page)
{
	return ask(q, f, select_operations, on_operation, (void (*)(void))fn, userdata, ret_page);
}

/* --- holes */

static int on_hole(const struct db_value *v, void *userdata)
{
	struct rows *rows = userdata;
	struct query_hole h = {
		.host = db_string(&v[0]),
		.first = v[2].number,
		.last = v[3].number,
		.found = v[4].number,
		.filled = v[5].number,
		.lost = v[6].number,
	};

	if (is_past_limit(rows))
		return 0;
	format_epoch(&v[1], h.epoch);
	if (is_last(rows))
		(void)snprintf(rows->page.cursor, sizeof(rows->page.cursor), "%lld:%s:%lld",
			       (long long)v[7].number, h.epoch, (long long)h.first);
	return ((query_hole_fn)rows->fn)(&h, rows->userdata);
}

static int add_hole_cursor(struct builder *b, const char *cursor)
{
	long long host, first;
	unsigned char id[16];
	char epoch[33];
	size_t p, q;

	if (sscanf(cursor, "%lld:%32[0-9a-f]:%lld", &host, epoch, &first) != 3 ||
	    !hex_parse(epoch, id, 16))
		return -EINVAL;
	where(b);
	p = param(b, 'i', db_int(host));
	q = param_id(b, id);
	add(b, "(o.host, o.epoch, o.first) > ($%zu, $%zu, $%zu)", p, q,
	    param(b, 'i', db_int(first)));
	return 0;
}

static int select_holes(struct builder *b, const struct query_filter *f)
{
	int r = 0;

	add(b,
	    "SELECT h.name, o.epoch, o.first, o.last, o.found, o.filled, o.lost, o.host FROM holes o LEFT JOIN "
	    "hosts h ON h.no = o.host");
	if (!f->all) {
		where(b);
		add(b, "o.filled IS NULL");
	}
	if (f->host) {
		where(b);
		r = add_host(b, "o.host", f->host);
	}
	add_times(b, "o.found", f);
	if (r >= 0 && has_cursor(f))
		r = add_hole_cursor(b, f->cursor);
	add(b, " ORDER BY o.host, o.epoch, o.first");
	return r;
}

int query_holes(struct query *q, const struct query_filter *f, query_hole_fn fn, void *userdata,
		struct query_page *ret_page)
{
	return ask(q, f, select_holes, on_hole, (void (*)(void))fn, userdata, ret_page);
}

/* --- rejects */

static int on_reject(const struct db_value *v, void *userdata)
{
	struct rows *rows = userdata;
	struct query_reject j = {
		.no = v[0].number,
		.received = v[1].number,
		.times = v[2].number,
		.topic = db_string(&v[3]),
		.host = db_string(&v[4]),
		.reason = db_string(&v[5]),
		.size = v[6].number,
		.payload = v[7].data,
		.payload_size = v[7].size,
	};

	if (is_past_limit(rows))
		return 0;
	if (is_last(rows))
		(void)snprintf(rows->page.cursor, sizeof(rows->page.cursor), "%lld",
			       (long long)j.no);
	return ((query_reject_fn)rows->fn)(&j, rows->userdata);
}

static int select_rejects(struct builder *b, const struct query_filter *f)
{
	add(b, "SELECT no, received, times, topic, host, reason, size, payload FROM rejects");
	where_matches(b, "host", f->host);
	add_times(b, "received", f);
	if (has_cursor(f)) {
		where(b);
		add(b, "no < $%zu", param(b, 'i', db_int(strtoll(f->cursor, NULL, 10))));
	}
	add(b, " ORDER BY no DESC");
	return 0;
}

int query_rejects(struct query *q, const struct query_filter *f, query_reject_fn fn, void *userdata,
		  struct query_page *ret_page)
{
	return ask(q, f, select_rejects, on_reject, (void (*)(void))fn, userdata, ret_page);
}

/* --- certificates */

static int on_certificate(const struct db_value *v, void *userdata)
{
	struct rows *rows = userdata;

	return ((query_certificate_fn)rows->fn)(db_string(&v[0]), db_string(&v[1]), rows->userdata);
}

static int select_certificates(struct builder *b, const struct query_filter *f)
{
	add(b, "SELECT h.name, c.certificate FROM certificates c JOIN hosts h ON h.no = c.host");
	where_matches(b, "h.name", f->host);
	add(b, " ORDER BY h.name, c.learned");
	return 0;
}

int query_certificates(struct query *q, const struct query_filter *f, query_certificate_fn fn,
		       void *userdata, struct query_page *ret_page)
{
	return ask(q, f, select_certificates, on_certificate, (void (*)(void))fn, userdata,
		   ret_page);
}

/* --- totals */

static int take_totals(const struct db_value *v, void *userdata)
{
	struct query_totals *t = userdata;

	*t = (struct query_totals){v[0].number, v[1].number, v[2].number,
				   v[3].number, v[4].number, v[5].number,
				   v[6].number, v[7].number, 0};
	return 0;
}

int query_totals(struct query *q, struct query_totals *ret_totals)
{
	/* Rows of SQLite's events are numbered; deleted ones are the oldest. */
	static const char sql[] =
		"SELECT (SELECT count(*) FROM hosts), (SELECT count(*) FROM hosts WHERE online = 1), "
		"(SELECT count(*) FROM guests), (SELECT count(*) FROM guests WHERE place <> 'stopped'), "
		"{sqlite:(SELECT coalesce(max(rowid) - min(rowid) + 1, 0) FROM events)}"
		"{postgresql:(SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_inherits i JOIN pg_class c "
		"ON c.oid = i.inhrelid WHERE i.inhparent = 'events'::regclass)}, "
		"(SELECT coalesce(sum(missing), 0){postgresql:::bigint} FROM hosts), "
		"(SELECT count(*) FROM holes WHERE filled IS NULL), (SELECT count(*) FROM rejects)";
	int r = db_query(q->db, sql, "", NULL, take_totals, ret_totals);

	if (r < 0)
		keep_error(q);
	else
		ret_totals->bytes = db_size(q->db);
	return r;
}
