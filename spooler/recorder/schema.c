/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * schema - see schema.h. Times are microseconds since 1970; ids and epochs are 16 bytes.
 *
 *	meta		version of the schema; the last arrival: SQLite's highest rowid, PostgreSQL's highest events.received
 *	hosts		one row per host. Apart from `seen` all of it follows from events and status reports
 *	epochs		which numbers of a host's epoch are accounted for: lowest..highest but for `holes`
 *	holes		numbers that no event came for; `filled` ones stay as history
 *	events		one row per event, with the payload as it was sent
 *	guests		one row per domain: where it is, and the memory of guest.c (`state`, opaque)
 *	operations	one row per start, stop, migration ...; its key is its first event. `before` is guest.c's memory
 *			before that event: from there a late event is folded in
 *	certificates	with which hosts sign their events, see verifiers.h
 *	rejects		what was not taken and why; a repetition is counted in its row
 *
 * PostgreSQL partitions `events` by month: of the id, which begins with the time.
 */
#include "spooler/base/util.h"
#include "spooler/recorder/schema.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

/* One entry per version; a released one is never changed. */
static const char *const migrations[SCHEMA_VERSION] = {
	/* 1 */
	"CREATE TABLE hosts ("
	" no {serial},"
	" name TEXT {postgresql:COLLATE \"C\"} NOT NULL UNIQUE,"
	" online {int},"		      /* of the last status report; NULL: none came */
	" status_time {int},"		      /* of that report */
	" status TEXT,"			      /* its payload */
	" boot TEXT,"			      /* the boot id that it said */
	" epoch {uuid},"		      /* the last one */
	" sequence {int} NOT NULL DEFAULT 0," /* the highest seen in it */
	" reported {int} NOT NULL DEFAULT 0," /* the highest that the host has assigned, as far as it said */
	" missing {int} NOT NULL DEFAULT 0," /* numbers in open holes of all its epochs */
	" first_id {uuid},"		     /* of its events */
	" last_id {uuid},"
	" last_time {int}," /* of the last event */
	" boot_id {uuid},"  /* guests whose last event is before this id did not survive a boot */
	" seen {int} NOT NULL DEFAULT 0" /* when the recorder last heard of it */
	");"
	"CREATE TABLE epochs ("
	" host {int} NOT NULL,"
	" epoch {uuid} NOT NULL,"
	" first_id {uuid},"		    /* of its events; NULL: known by a status report only */
	" lowest {int} NOT NULL DEFAULT 0," /* sequence numbers seen; 0: none */
	" highest {int} NOT NULL DEFAULT 0,"
	" reported {int} NOT NULL DEFAULT 0," /* by the host's status */
	" begin_at {int} NOT NULL DEFAULT 1," /* numbers below are of no interest: before the record, or pruned */
	" boot TEXT,"
	" PRIMARY KEY (host, epoch));"
	"CREATE TABLE holes ("
	" host {int} NOT NULL,"
	" epoch {uuid} NOT NULL,"
	" first {int} NOT NULL,"
	" last {int} NOT NULL,"
	" found {int} NOT NULL,"
	" filled {int},"		  /* NULL: open */
	" lost {int} NOT NULL DEFAULT 0," /* 1: the host says that it never reached its spool */
	" PRIMARY KEY (host, epoch, first));"
	"CREATE TABLE events ("
	" id {uuid} NOT NULL,"
	" host {int} NOT NULL,"
	" time {int} NOT NULL,"
	" received {int} NOT NULL,"
	" epoch {uuid} NOT NULL,"
	" sequence {int} NOT NULL,"
	" call {int} NOT NULL,"	 /* enum guest_call; 0: says nothing of a guest's state */
	" flags {int} NOT NULL," /* enum event_flags */
	" guest {uuid},"	 /* the domain's */
	" driver TEXT NOT NULL,"
	" operation TEXT NOT NULL,"
	" reason TEXT,"
	" name TEXT,"
	" payload TEXT NOT NULL,"
	" PRIMARY KEY (id, host)){postgresql: PARTITION BY RANGE (id)};"
	"{postgresql:CREATE TABLE events_other PARTITION OF events DEFAULT;}"
	"CREATE INDEX events_guest ON events (guest, id) WHERE guest IS NOT NULL;"
	"CREATE INDEX events_host ON events (host, id);"
	"{postgresql:CREATE INDEX events_received ON events USING brin (received);}"
	"CREATE TABLE guests ("
	" uuid {uuid} PRIMARY KEY,"
	" name TEXT {postgresql:COLLATE \"C\"} NOT NULL DEFAULT '',"
	" driver TEXT NOT NULL DEFAULT '',"
	" place TEXT NOT NULL DEFAULT 'stopped'," /* enum guest_phase in words, on: */
	" host {int},"
	" since {int},"
	" reason TEXT,"
	" last_id {uuid}," /* of its events that count, of any host */
	" last_time {int},"
	" place_id {uuid},"  /* its last event on `host` */
	" other_place TEXT," /* a second host that has it */
	" other_host {int},"
	" other_id {uuid},"
	" other_since {int},"
	" migration_from {int}," /* the last migration */
	" migration_to {int},"
	" migration_begin {int},"
	" migration_end {int},"
	" migration_outcome TEXT,"
	" state {bytes},"
	/* Events before this one are pruned; what they said is the memory that is kept in their
	   place. */
	" base_id {uuid},"
	" base {bytes});"
	"CREATE INDEX guests_name ON guests (name, uuid);"
	"CREATE INDEX guests_host ON guests (host);"
	"CREATE TABLE operations ("
	" guest {uuid} NOT NULL,"
	" id {uuid} NOT NULL,"	/* of its first event */
	" host {int} NOT NULL," /* of that event */
	" kind TEXT NOT NULL,"	/* start, restore, stop, migration */
	" begun {int} NOT NULL,"
	" ended {int},"		  /* NULL: under way */
	" outcome TEXT NOT NULL," /* running, success, failed, incomplete */
	" reason TEXT,"
	" from_host {int},"
	" to_host {int},"
	" before {bytes} NOT NULL,"
	" PRIMARY KEY (guest, id, host));"
	"CREATE INDEX operations_id ON operations (id, host);"
	"CREATE INDEX operations_host ON operations (host, id);"
	"CREATE TABLE certificates ("
	" host {int} NOT NULL,"
	" digest {uuid} NOT NULL," /* of the certificate */
	" learned {int} NOT NULL,"
	" certificate TEXT NOT NULL," /* base64 of its DER form */
	" PRIMARY KEY (host, digest));"
	"CREATE TABLE rejects ("
	" no {serial},"
	" digest {uuid} NOT NULL UNIQUE," /* of topic, payload and reason */
	" received {int} NOT NULL,"	  /* the last time */
	" times {int} NOT NULL,"
	" topic TEXT NOT NULL,"
	" host TEXT," /* that the topic names */
	" reason TEXT NOT NULL,"
	" size {int} NOT NULL,"
	" payload {bytes} NOT NULL);" /* its beginning */
	"CREATE INDEX rejects_received ON rejects (received);",
	/* 2: open holes are found without the history of filled ones; rows that change with each batch find room
	   in their page, so that PostgreSQL needs not write their indexes */
	"CREATE INDEX holes_open ON holes (host, epoch, first) WHERE filled IS NULL;"
	"{postgresql:ALTER TABLE hosts SET (fillfactor = 70);}"
	"{postgresql:ALTER TABLE epochs SET (fillfactor = 70);}"
	"{postgresql:ALTER TABLE guests SET (fillfactor = 70);}",
	/* 3: the last arrival, which is counted */
	"INSERT INTO meta SELECT 'arrival', coalesce(max({sqlite:rowid}{postgresql:received}), -1) FROM events;",
};

static const struct db_statement select_version = {"SELECT number FROM meta WHERE name = 'schema'",
						   ""};

static int take_number(const struct db_value *v, void *userdata)
{
	*(int64_t *)userdata = v[0].number;
	return 0;
}

/* -1: there is no table `meta`. */
static int read_version(struct db *db, int64_t *ret_version)
{
	static const char exists[] =
		"{sqlite:SELECT count(*) FROM sqlite_schema WHERE name = 'meta'}"
		"{postgresql:SELECT to_regclass(quote_ident(current_schema()) || '.meta') IS NOT NULL}";
	int64_t n = 0;
	int r = db_query(db, exists, "", NULL, take_number, &n);

	*ret_version = -1;
	if (r < 0 || n == 0)
		return r;
	return db_query(db, select_version.sql, "", NULL, take_number, ret_version);
}

static int migrate(struct db *db, int64_t from)
{
	char text[128];
	int r = 0;

	if (from < 0)
		r = db_execute(db,
			       "CREATE TABLE meta (name TEXT PRIMARY KEY, number {int} NOT NULL);"
			       "INSERT INTO meta VALUES ('schema', 0)");
	for (int64_t v = from < 0 ? 0 : from; r >= 0 && v < SCHEMA_VERSION; v++)
		r = db_execute(db, migrations[v]);
	if (r < 0)
		return r;
	(void)snprintf(text, sizeof(text), "UPDATE meta SET number = %d WHERE name = 'schema'",
		       SCHEMA_VERSION);
	return db_execute(db, text);
}

static int explain(int r, struct db *db, int64_t version, char **ret_error)
{
	int n;

	if (r == -EPROTO)
		n = asprintf(
			ret_error,
			"the store has schema version %lld; this virtspool-recorder knows up to " TEXT(
				SCHEMA_VERSION) ": install the newer virtspool-recorder again",
			(long long)version);
	else if (r == -ENOENT)
		n = asprintf(ret_error, "the store is empty: start virtspool-recorder once");
	else if (r == -ESTALE)
		n = asprintf(
			ret_error,
			"the store has schema version %lld, which is older than " TEXT(
				SCHEMA_VERSION) ": restart virtspool-recorder, which migrates it",
			(long long)version);
	else
		n = asprintf(ret_error, "cannot use the store: %s", db_error(db));
	if (n < 0)
		*ret_error = NULL;
	return r;
}

int schema_migrate(struct db *db, char **ret_error)
{
	int64_t version = -1;
	int r = db_begin(db);

	*ret_error = NULL;
	if (r >= 0) /* two recorders may start at once */
		r = db_execute(db, "{postgresql:SELECT pg_advisory_xact_lock(864001)}");
	if (r >= 0)
		r = read_version(db, &version);
	if (r >= 0 && version > SCHEMA_VERSION)
		r = -EPROTO;
	if (r >= 0 && version < SCHEMA_VERSION)
		r = migrate(db, version);
	if (r >= 0)
		r = db_commit(db);
	if (r < 0) {
		(void)explain(r, db, version, ret_error);
		db_rollback(db);
	}
	return r;
}

int schema_check(struct db *db, char **ret_error)
{
	int64_t version = -1;
	int r = read_version(db, &version);

	*ret_error = NULL;
	if (r >= 0 && version != SCHEMA_VERSION)
		r = version < 0 ? -ENOENT : version < SCHEMA_VERSION ? -ESTALE : -EPROTO;
	return r < 0 ? explain(r, db, version, ret_error) : 0;
}

/* --- months */

/* The first moment of a month, as the id that is the least in it. */
static void month_id(int year, int month, char ret_id[static 37])
{
	struct tm tm = {.tm_year = year - 1900, .tm_mon = month, .tm_mday = 1};
	uint64_t ms = (uint64_t)timegm(&tm) * 1000;

	(void)snprintf(ret_id, 37, "%08x-%04x-0000-0000-000000000000", (unsigned)(ms >> 16),
		       (unsigned)(ms & 0xffff));
}

int schema_add_month(struct db *db, int64_t usec)
{
	time_t t = (time_t)(usec / (int64_t)USEC_PER_SEC);
	char sql[256], begin[37], end[37];
	struct tm tm;

	if (!db_is_postgresql(db) || !gmtime_r(&t, &tm))
		return 0;
	month_id(tm.tm_year + 1900, tm.tm_mon, begin);
	month_id(tm.tm_year + 1900, tm.tm_mon + 1, end);
	(void)snprintf(
		sql, sizeof(sql),
		"CREATE TABLE IF NOT EXISTS events_%04d_%02d PARTITION OF events FOR VALUES FROM "
		"('%s') TO ('%s')",
		tm.tm_year + 1900, tm.tm_mon + 1, begin, end);
	return db_execute(db, sql);
}

struct months {
	char names[64][64];
	size_t n;
};

static int take_name(const struct db_value *v, void *userdata)
{
	struct months *m = userdata;

	if (m->n < ELEMENTSOF(m->names))
		(void)snprintf(m->names[m->n++], sizeof(m->names[0]), "%s", db_string(&v[0]));
	return 0;
}

int schema_drop_months(struct db *db, int64_t usec)
{
	static const char sql[] =
		"SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
		"WHERE i.inhparent = 'events'::regclass AND c.relname < $1 AND c.relname LIKE "
		"'events\\_2%' ORDER BY 1";
	time_t t = (time_t)(usec / (int64_t)USEC_PER_SEC);
	struct months months = {.n = 0};
	struct db_value name;
	char limit[64];
	struct tm tm;
	int r;

	if (!db_is_postgresql(db) || !gmtime_r(&t, &tm))
		return 0;
	(void)snprintf(limit, sizeof(limit), "events_%04d_%02d", tm.tm_year + 1900, tm.tm_mon + 1);
	name = db_text(limit);
	r = db_query(db, sql, "t", &name, take_name, &months);
	for (size_t i = 0; i < months.n && r >= 0; i++) {
		char text[512];

		(void)snprintf(
			text, sizeof(text),
			"DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM %s) THEN DROP TABLE %s; END IF; END $$",
			months.names[i], months.names[i]);
		r = db_execute(db, text);
	}
	return r;
}
