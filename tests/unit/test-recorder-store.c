/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The store: the same events in any order, with repetitions, in batches of any size, give the same
 * rows; so does a rebuild, and one after retention. Against SQLite, and against the PostgreSQL that
 * $VIRTSPOOL_TEST_POSTGRESQL names (tests/e2e/test_recorder_postgresql.py runs it so).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "spooler/base/util.h"
#include "spooler/recorder/db.h"
#include "spooler/recorder/query.h"
#include "spooler/recorder/schema.h"
#include "spooler/recorder/store.h"

#define HOSTS 4
#define GUESTS 6
#define EVENTS 260
#define NOW INT64_C(1790100000000000)

static const struct cloudevent_topics topics = {"virtspool/v1/{host}/{driver}/{uuid}/{operation}",
						"virtspool/v1/{host}/status"};

struct message {
	char *topic, *payload;
	int64_t time;
};

static struct message messages[2 * EVENTS];
static size_t n_messages;
static int64_t clock_usec;
static uint64_t sequences[HOSTS];
static int epochs[HOSTS];

static void format_time(int64_t usec, char text[64])
{
	time_t t = (time_t)(usec / (int64_t)USEC_PER_SEC);
	char date[32];
	struct tm tm;

	(void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", gmtime_r(&t, &tm));
	(void)snprintf(text, 64, "%s.%06dZ", date, (int)(usec % (int64_t)USEC_PER_SEC));
}

static void add_message(char *topic, char *payload, int64_t time)
{
	messages[n_messages++] = (struct message){topic, payload, time};
}

static void add_event(int host, int guest, const char *operation, const char *reason, bool api)
{
	int64_t time = clock_usec + host * 300000; /* the hosts' clocks differ */
	uint64_t ms = (uint64_t)time / 1000;
	char at[64], *topic, *payload;

	clock_usec += 200000 + rand() % 3000000;
	sequences[host]++;
	if (rand() % 12 == 0)
		return; /* lost on the way */
	format_time(time, at);
	if (asprintf(&topic, "virtspool/v1/h%d/qemu/%08d-edaf-4455-926a-d65c16db1809/%s", host,
		     guest, operation) < 0 ||
	    asprintf(
		    &payload,
		    "{\"specversion\":\"1.0\",\"id\":\"%08x-%04x-7000-8000-%012zx\",\"source\":\"/virtspool/h%d\","
		    "\"type\":\"org.virtspool.qemu.x\",\"time\":\"%s\",\"sequence\":\"%020" PRIu64
		    "\",\"epoch\":\"%016x%016x\",\"replayed\":false,\"data\":{\"driver\":\"qemu\",\"operation\":\"%s\","
		    "%s%s%s%s\"name\":\"g%d\",\"uuid\":\"%08d-edaf-4455-926a-d65c16db1809\"}}",
		    (unsigned)(ms >> 16), (unsigned)(ms & 0xffff), n_messages, host, at,
		    sequences[host], host, epochs[host], operation,
		    api ? "\"origin\":\"api\"," : "", reason ? "\"reason\":\"" : "",
		    reason ? reason : "", reason ? "\"," : "", guest, guest) < 0)
		abort();
	add_message(topic, payload, time);
}

/* A status report: it comes after what the host has assigned, or before. */
static void add_status(int host, bool online)
{
	int64_t time = clock_usec + host * 300000;
	char at[64], *topic, *payload;

	format_time(time, at);
	if (asprintf(&topic, "virtspool/v1/h%d/status", host) < 0 ||
	    asprintf(
		    &payload,
		    "{\"specversion\":\"1.0\",\"id\":\"x\",\"source\":\"/virtspool/h%d\",\"type\":"
		    "\"org.virtspool.status.%s\",\"time\":\"%s\",\"data\":{\"status\":\"%s\",\"epoch\":\"%016x%016x\","
		    "\"sequence\":\"%" PRIu64 "\"}}",
		    host, online ? "online" : "offline", at, online ? "online" : "offline", host,
		    epochs[host], sequences[host]) < 0)
		abort();
	add_message(topic, payload, time);
	clock_usec += 1000;
}

static void something(int host, int guest)
{
	int to = rand() % HOSTS;

	switch (rand() % 9) {
	case 0:
	case 1:
		add_event(host, guest, "prepare", NULL, false);
		add_event(host, guest, "start", NULL, false);
		add_event(host, guest, "started", NULL, false);
		break;
	case 2:
	case 3:
		add_event(host, guest, "stopped", NULL, false);
		add_event(host, guest, "release", rand() % 2 ? "destroyed" : NULL, false);
		break;
	case 4:
		add_event(to, guest, "migrate", NULL, false);
		add_event(to, guest, "prepare", NULL, false);
		add_event(to, guest, "started", NULL, false);
		add_event(rand() % 3 ? host : to, guest, "stopped", NULL, false);
		add_event(host, guest, "release", "migrated", false);
		break;
	case 5:
		add_event(host, guest, rand() % 2 ? "lifecycle-suspended" : "lifecycle-resumed",
			  "paused", true);
		break;
	case 6:
		add_event(host, guest, "reconnect", NULL, false);
		break;
	case 7:
		add_status(host, rand() % 3);
		break;
	default:
		add_event(host, guest, "device-added", NULL, true);
		if (rand() % 6 == 0) { /* booted */
			epochs[host]++;
			sequences[host] = 0;
		}
	}
}

static void make_messages(unsigned seed)
{
	srand(seed);
	clock_usec = NOW - 3600 * (int64_t)USEC_PER_SEC;
	memset(sequences, 0, sizeof(sequences));
	memset(epochs, 0, sizeof(epochs));
	for (int host = 0; host < HOSTS; host++) {
		sequences[host] = (uint64_t)rand() % 50;
		add_status(host, true);
	}
	while (n_messages < EVENTS)
		something(rand() % HOSTS, rand() % GUESTS);
}

static void free_messages(void)
{
	for (size_t i = 0; i < n_messages; i++) {
		free(messages[i].topic);
		free(messages[i].payload);
	}
	n_messages = 0;
}

static bool is_event(const struct message *m)
{
	return !strstr(m->topic, "/status");
}

static struct store_message store_message(const struct message *m)
{
	return (struct store_message){
		.topic = m->topic, .payload = m->payload, .size = strlen(m->payload)};
}

/* --- stores */

static const char *postgresql(void)
{
	return getenv("VIRTSPOOL_TEST_POSTGRESQL");
}

static char directory[] = "/dev/shm/test-recorder-store.XXXXXX";

static int make_directory(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	return system(command);
}

static char *url_of(void)
{
	static char url[128];

	(void)snprintf(url, sizeof(url), "sqlite://%s/db", directory);
	return url;
}

static void clear(const char *url)
{
	static const char drop[] =
		"DROP TABLE IF EXISTS meta, hosts, epochs, holes, events, guests, operations, rejects, certificates";
	char path[160], *error;
	struct db *db;

	if (postgresql()) {
		assert_int_equal(db_open(url, 0, &db, &error), 0);
		assert_int_equal(db_execute(db, drop), 0);
		db_close(db);
		return;
	}
	for (size_t i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof(path), "%s/db%s", directory,
			       i == 0	? ""
			       : i == 1 ? "-wal"
					: "-shm");
		(void)unlink(path);
	}
}

static const char *store_url(void)
{
	return postgresql() ? postgresql() : url_of();
}

static struct store *open_store(bool anew)
{
	struct store *s = NULL;
	char *error = NULL;

	if (anew)
		clear(store_url());
	if (store_open(store_url(), &topics, &s, &error) < 0)
		fail_msg("%s", error ? error : "?");
	return s;
}

static void apply(struct store *s, const size_t *order, size_t n)
{
	struct store_message batch[64] = {};
	struct store_parsed parsed[64] = {};
	struct store_counts c;

	for (size_t i = 0; i < n; i++) {
		const struct message *m = &messages[order[i]];

		batch[i] = store_message(m);
		if (order[i] % 2) /* the others are the store's to parse */
			assert_int_equal(store_parse(&topics, &batch[i], &parsed[i]), 0);
		if (order[i] % 2)
			batch[i].parsed = &parsed[i];
	}
	if (store_apply(s, batch, n, NOW, &c) < 0)
		fail_msg("%s", store_error(s));
	for (size_t i = 0; i < n; i++)
		store_parsed_release(&parsed[i]);
	assert_int_equal(c.rejects, 0);
}

/* In any order but that of the hosts' first reports, by which they are numbered. */
static void apply_all(struct store *s, bool shuffled)
{
	size_t order[4 * EVENTS], n = 0;

	for (size_t i = 0; i < n_messages; i++)
		order[n++] = i;
	for (size_t i = 0; shuffled && i < n_messages / 3; i++) /* repetitions */
		order[n++] = (size_t)rand() % n_messages;
	for (size_t i = n; shuffled && i > HOSTS + 1; i--) {
		size_t k = HOSTS + (size_t)rand() % (i - HOSTS), x = order[k];

		order[k] = order[i - 1];
		order[i - 1] = x;
	}
	for (size_t i = 0, size; i < n; i += size) {
		size = i == 0 ? HOSTS : shuffled ? 1 + (size_t)rand() % 60 : 1;
		if (size > n - i)
			size = n - i;
		apply(s, order + i, size);
	}
}

/* --- dumps */

static int dump_row(const struct db_value *v, void *userdata)
{
	FILE *f = userdata;

	for (size_t i = 0; v[i].type != DB_INT || v[i].number != INT64_MIN; i++) {
		if (v[i].type == DB_NULL)
			fputs("|-", f);
		else if (v[i].type == DB_INT)
			fprintf(f, "|%" PRId64, v[i].number);
		else if (v[i].type == DB_TEXT)
			fprintf(f, "|%.*s", (int)v[i].size, (const char *)v[i].data);
		else
			for (size_t k = 0; k < v[i].size; k++)
				fprintf(f, "%s%02x", k ? "" : "|",
					((const unsigned char *)v[i].data)[k]);
	}
	fputc('\n', f);
	return 0;
}

#define LAST_ARRIVAL "SELECT number FROM meta WHERE name = 'arrival'"
#define END ", -9223372036854775807 - 1"

static char *dump(bool reports)
{
	static const char *const selects[] = {
		"SELECT host, epoch, first_id, lowest, highest, reported, begin_at" END
		" FROM epochs ORDER BY host, epoch",
		"SELECT host, epoch, first, last, filled, lost" END
		" FROM holes ORDER BY host, epoch, first",
		"SELECT uuid, name, driver, place, host, since, reason, last_id, last_time, place_id, other_place, other_host, "
		"other_id, other_since, migration_from, migration_to, migration_begin, migration_end, migration_outcome, "
		"base_id, base, state" END " FROM guests ORDER BY uuid",
		"SELECT guest, id, host, kind, begun, ended, outcome, reason, from_host, to_host, before" END
		" FROM operations ORDER BY guest, id, host",
		"SELECT no, name, epoch, sequence, reported, missing, first_id, last_id, last_time, boot_id" END
		" FROM hosts ORDER BY no",
		"SELECT no, online, status_time" END " FROM hosts ORDER BY no",
	};
	char *text = NULL, *error = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	struct db *db;

	assert_int_equal(db_open(store_url(), 0, &db, &error), 0);
	for (size_t i = 0; i < ELEMENTSOF(selects) - !reports; i++) {
		fprintf(f, "# %zu\n", i);
		if (db_query(db, selects[i], "", NULL, dump_row, f) < 0)
			fail_msg("%s", db_error(db));
	}
	db_close(db);
	(void)fclose(f);
	return text;
}

/* On failure: the beginning of the row, and where it differs. */
static void assert_same(const char *what, const char *a, const char *b)
{
	size_t line = 0;

	for (size_t i = 0;; i++) {
		size_t from = i - line > 90 ? i - 30 : line + 60;

		if (a[i] != b[i])
			fail_msg("%s:\n%.60s ... %.*s\n%.60s ... %.*s", what, a + line,
				 (int)strnlen(a + from, 160), a + from, b + line,
				 (int)strnlen(b + from, 160), b + from);
		if (a[i] == '\n')
			line = i + 1;
		if (!a[i])
			return;
	}
}

/* --- one number */

static int read_number(const struct db_value *v, void *userdata)
{
	*(int64_t *)userdata = v[0].number;
	return 0;
}

static int64_t number(const char *sql)
{
	char *error = NULL;
	int64_t n = -1;
	struct db *db;

	assert_int_equal(db_open(store_url(), 0, &db, &error), 0);
	if (db_query(db, sql, "", NULL, read_number, &n) < 0)
		fail_msg("%s", db_error(db));
	db_close(db);
	return n;
}

/* --- tests */

static void test_any_order(void **state)
{
	for (unsigned seed = 1; seed <= (postgresql() ? 4 : 12); seed++) {
		_cleanup_free_ char *first = NULL;

		make_messages(seed);
		for (int order = 0; order < 4; order++) {
			struct store *s = open_store(true);
			_cleanup_free_ char *text = NULL;

			apply_all(s, order > 0);
			store_close(s);
			text = dump(true);
			if (order == 0)
				first = TAKE_PTR(text);
			else
				assert_same("another order, other rows", first, text);
		}
		free_messages();
	}
}

static void test_rebuild(void **state)
{
	for (unsigned seed = 30; seed < 36; seed++) {
		struct store *s = open_store(true);
		_cleanup_free_ char *before = NULL, *after = NULL;

		make_messages(seed);
		apply_all(s, true);
		before = dump(true);
		assert_int_equal(store_rebuild(s, NOW, NULL, NULL), 0);
		after = dump(true);
		assert_same("rebuilt, other rows", before, after);
		store_close(s);
		free_messages();
	}
}

/* Guests keep their state, and a rebuild from what is left gives it again. */
static void test_retention(void **state)
{
	for (unsigned seed = 50; seed < 54; seed++) {
		struct store *s = open_store(true);
		size_t removed, sum = 0;
		_cleanup_free_ char *before = NULL, *after = NULL;

		make_messages(seed);
		apply_all(s, false);
		do {
			assert_int_equal(
				store_prune(s, messages[n_messages * 2 / 3].time, 7, &removed), 0);
			sum += removed;
		} while (removed >= 7);
		assert_true(sum > EVENTS / 4);
		before = dump(true);
		assert_int_equal(store_rebuild(s, NOW, NULL, NULL), 0);
		after = dump(true);
		assert_same("rebuilt after retention, other rows", before, after);
		store_close(s);
		free_messages();
	}
}

/* Also if the event that arrived last is old, and all that may go goes: a follower asks for what came
   after it. */
static void test_arrivals_after_retention(void **state)
{
	struct store *s = open_store(true);
	size_t last = 2 * EVENTS, oldest, removed;
	int64_t arrival;

	make_messages(60);
	for (oldest = 0; !is_event(&messages[oldest]); oldest++)
		;
	for (size_t i = 0; i < n_messages; i++)
		if (is_event(&messages[i]))
			last = i;
	for (size_t i = 0; i < n_messages; i++)
		if (i != oldest && i != last)
			apply(s, &i, 1);
	apply(s, &oldest, 1);
	arrival = number("SELECT max({sqlite:rowid}{postgresql:received}) FROM events");
	assert_int_equal(number(LAST_ARRIVAL), arrival);
	do
		assert_int_equal(store_prune(s, messages[last].time, 50, &removed), 0);
	while (removed >= 50);
	apply(s, &last, 1);
	assert_true(number("SELECT max({sqlite:rowid}{postgresql:received}) FROM events") >
		    arrival);
	store_close(s);
	free_messages();
}

/* An older recorder, whose store another has just migrated, adds events and does not count them. */
static void test_arrivals_beside_an_older_recorder(void **state)
{
	struct store *s = open_store(true);
	struct db *db;
	char *error;

	make_messages(61);
	for (size_t i = 0; i < n_messages / 2; i++)
		apply(s, &i, 1);
	assert_int_equal(db_open(store_url(), 0, &db, &error), 0);
	assert_int_equal(db_execute(db, "UPDATE meta SET number = -1 WHERE name = 'arrival'"), 0);
	db_close(db);
	for (size_t i = n_messages / 2; i < n_messages; i++)
		apply(s, &i, 1);
	assert_int_equal(number("SELECT count(*) FROM rejects"), 0);
	store_close(s);
	free_messages();
}

static void test_rejects(void **state)
{
	struct store *s = open_store(true);
	struct store_message batch[3] = {
		{"virtspool/v1/h1/qemu/u/started", "hello", 5, NULL},
		{"virtspool/v1/h1/qemu/u/started", "hello", 5, NULL},
		{"virtspool/v1/h2/qemu/u/started", "\xff\0\n", 3, NULL},
	};
	struct store_counts c;

	assert_int_equal(store_apply(s, batch, 3, NOW, &c), 0);
	assert_int_equal(c.rejects, 3);
	assert_int_equal(store_apply(s, batch, 3, NOW, &c), 0);
	assert_int_equal(c.rejects, 3);
	store_close(s);
}

static void test_rejects_are_bounded(void **state)
{
	struct store *s = open_store(true);
	char topics_[50][64], *error;
	int64_t n = 0;
	struct db *db;

	for (int i = 0; i < STORE_REJECTS_MAX + 500; i += 50) {
		struct store_message batch[50];
		struct store_counts c;

		for (int k = 0; k < 50; k++) {
			(void)snprintf(topics_[k], sizeof(topics_[k]),
				       "virtspool/v1/h%d/qemu/u/started", i + k);
			batch[k] = (struct store_message){
				.topic = topics_[k], .payload = "x", .size = 1};
		}
		assert_int_equal(store_apply(s, batch, 50, NOW, &c), 0);
	}
	store_close(s);
	assert_int_equal(db_open(store_url(), 0, &db, &error), 0);
	assert_int_equal(db_query(db, "SELECT count(*) FROM rejects", "", NULL, read_number, &n),
			 0);
	assert_int_equal(n, STORE_REJECTS_MAX);
	assert_int_equal(db_query(db, "SELECT count(*) FROM hosts", "", NULL, read_number, &n), 0);
	assert_int_equal(n, 0);
	db_close(db);
}

/* A store of a newer version is refused by name, and stays as it is. */
static void test_newer_schema(void **state)
{
	struct store *s = open_store(true);
	char *error = NULL;
	struct db *db;

	store_close(s);
	assert_int_equal(db_open(store_url(), 0, &db, &error), 0);
	assert_int_equal(db_execute(db, "UPDATE meta SET number = 99 WHERE name = 'schema'"), 0);
	db_close(db);
	assert_int_equal(store_open(store_url(), &topics, &s, &error), -EPROTO);
	assert_non_null(strstr(error, "99"));
	free(error);
}

/* A store of version 1 is refused by a reader, and migrated by the writer: its rows are the same. */
static void test_older_schema(void **state)
{
	static const char back[] = "DROP INDEX holes_open;"
				   "{postgresql:ALTER TABLE hosts RESET (fillfactor);}"
				   "{postgresql:ALTER TABLE epochs RESET (fillfactor);}"
				   "{postgresql:ALTER TABLE guests RESET (fillfactor);}"
				   "DELETE FROM meta WHERE name = 'arrival';"
				   "UPDATE meta SET number = 1 WHERE name = 'schema'";
	static const char has_index[] =
		"SELECT count(*) FROM {sqlite:sqlite_schema WHERE name}{postgresql:pg_indexes WHERE indexname} = "
		"'holes_open'";
	struct store *s = open_store(true);
	char *error = NULL, *before, *after;
	struct query *q;
	struct db *db;

	make_messages(7);
	apply_all(s, true);
	store_close(s);
	before = dump(true);
	assert_int_equal(db_open(store_url(), 0, &db, &error), 0);
	assert_int_equal(db_execute(db, back), 0);
	db_close(db);
	assert_int_equal(number(has_index), 0);
	assert_int_equal(query_open(store_url(), 0, &q, &error), -ESTALE);
	assert_non_null(strstr(error, "version 1"));
	assert_non_null(strstr(error, "restart virtspool-recorder"));
	free(error);
	s = open_store(false);
	assert_int_equal(number("SELECT number FROM meta WHERE name = 'schema'"), SCHEMA_VERSION);
	assert_int_equal(number(has_index), 1);
	assert_int_equal(number("SELECT count(*) FROM events WHERE "
				"{sqlite:rowid}{postgresql:received} > (" LAST_ARRIVAL ")"),
			 0);
	after = dump(true);
	assert_same("rows", before, after);
	free(after);
	apply_all(s, true); /* repetitions change nothing */
	after = dump(true);
	assert_same("rows", before, after);
	store_close(s);
	assert_int_equal(query_open(store_url(), 0, &q, &error), 0);
	query_close(q);
	free(before);
	free(after);
	free_messages();
}

struct guest_list {
	FILE *f;
	bool brief;
	size_t n, moving;
};

/* What a page of either kind has of a guest. */
static int list_guest(const struct query_guest *g, void *userdata)
{
	struct guest_list *l = userdata;

	fprintf(l->f, "%s %s %s %" PRId64 " %s %s %s\n", g->name, g->host, g->state, g->since,
		g->reason, g->also_on, g->going_to);
	if (!l->brief && strcmp(g->migration_outcome, "running") == 0)
		assert_string_equal(g->going_to, g->migration_to);
	else if (!l->brief)
		assert_string_equal(g->going_to, "");
	l->n++;
	l->moving += *g->going_to != 0;
	return 0;
}

/* All guests by pages of this size, as text. */
static char *list_guests(struct query *q, uint64_t limit, bool brief, struct guest_list *ret)
{
	struct query_filter f = {.limit = limit, .brief = brief};
	struct query_page page = {};
	char *text = NULL;
	size_t size;

	*ret = (struct guest_list){.f = open_memstream(&text, &size), .brief = brief};
	do {
		f.cursor = page.cursor;
		assert_int_equal(query_guests(q, &f, list_guest, ret, &page), 0);
	} while (*page.cursor);
	assert_int_equal(fclose(ret->f), 0);
	return text;
}

/* A page that begins within the list, and one with less of each guest, have the same guests. */
static void test_pages_of_guests(void **state)
{
	static const uint64_t limits[] = {1, 2, 3, 7};
	size_t moving = 0;
	char *error;

	for (unsigned seed = 70; seed < 76; seed++) {
		struct store *s = open_store(true);
		struct guest_list whole, pages;
		struct query *q;
		char *expected;

		make_messages(seed);
		apply_all(s, true);
		assert_int_equal(query_open(store_url(), 0, &q, &error), 0);
		expected = list_guests(q, 0, false, &whole);
		assert_true(whole.n > 3);
		moving += whole.moving;
		for (size_t i = 0; i < 2 * ELEMENTSOF(limits); i++) {
			_cleanup_free_ char *text = list_guests(q, limits[i / 2], i % 2, &pages);

			assert_same("guests by pages", expected, text);
		}
		free(expected);
		query_close(q);
		store_close(s);
		free_messages();
	}
	assert_true(moving > 0);
}

struct racer {
	struct store *store;
	struct store_message message;
	struct store_counts counts;
	int result;
	atomic_bool done;
};

static void *race(void *userdata)
{
	struct racer *r = userdata;

	r->result = store_apply(r->store, &r->message, 1, NOW, &r->counts);
	atomic_store(&r->done, true);
	return NULL;
}

/* Waits until `n` locks are waited for, or the racer is done. */
static void wait_for_locks(struct db *db, int64_t n, struct racer *r)
{
	static const char sql[] = "SELECT count(*) FROM pg_locks WHERE NOT granted";
	uint64_t until = now_usec(CLOCK_MONOTONIC) + 60 * USEC_PER_SEC;
	int64_t waiting = 0;

	while (waiting < n && !atomic_load(&r->done)) {
		assert_true(now_usec(CLOCK_MONOTONIC) < until);
		assert_int_equal(db_query(db, sql, "", NULL, read_number, &waiting), 0);
		(void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
}

/* An event that another is just inserting. */
static const struct db_statement insert_other = {
	"INSERT INTO events (id, host, time, received, epoch, sequence, call, flags, driver, operation, payload) "
	"SELECT $1, h.no, time, received, e.epoch, e.sequence, call, flags, driver, operation, payload FROM events e, hosts h "
	"WHERE h.name = $2 LIMIT 1",
	"ut"};

/* Parses the message, and inserts a row with the same key. */
static void insert_the_same(struct db *db, const struct store_message *m, struct store_parsed *p)
{
	assert_int_equal(store_parse(&topics, m, p), 0);
	assert_int_equal(p->event.kind, CLOUDEVENT_EVENT);
	assert_int_equal(db_run(db, &insert_other,
				(struct db_value[]){db_uuid(p->event.id), db_text(p->event.host)},
				1, NULL, NULL),
			 0);
}

/* A follower asks for what came after the last event that it has seen: so no event becomes visible
   with a lower `received` later, whichever recorder took it. */
static void test_order_of_arrival(void **state)
{
	struct racer r[2] = {{.result = 0}, {.result = 0}};
	size_t events[3], n = 0;
	struct store_parsed parsed = {};
	pthread_t threads[2];
	char *error;
	int64_t last;
	struct db *db;

	if (!postgresql())
		return; /* SQLite has one writer */
	make_messages(1);
	r[0].store = open_store(true);
	r[1].store = open_store(false);
	for (size_t i = 0; n < ELEMENTSOF(events); i++)
		if (is_event(&messages[i]))
			events[n++] = i;
	apply(r[0].store, &events[0], 1);
	for (int i = 0; i < 2; i++)
		r[i].message = store_message(&messages[events[i + 1]]);
	assert_int_equal(db_open(store_url(), 0, &db, &error), 0);
	assert_int_equal(db_begin(db), 0);
	insert_the_same(db, &r[0].message, &parsed);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, race, &r[i]), 0);
		wait_for_locks(db, i + 1, &r[i]);
	}
	last = number(LAST_ARRIVAL);
	db_rollback(db);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(r[i].result, 0);
		assert_int_equal(r[i].counts.events, 1);
	}
	assert_int_equal(number("SELECT count(*) FROM events"), 3);
	assert_true(
		number("SELECT min(received) FROM (SELECT received FROM events ORDER BY received DESC LIMIT 2) AS new") >
		last);
	store_parsed_release(&parsed);
	db_close(db);
	store_close(r[0].store);
	store_close(r[1].store);
	free_messages();
}

/* Another recorder is just inserting the same event, and commits first: it is a repetition. */
static void test_the_same_event_at_once(void **state)
{
	struct racer r = {.store = NULL};
	struct store_parsed parsed = {};
	pthread_t thread;
	char *error, *next, *id;
	struct db *db;

	if (!postgresql())
		return; /* SQLite has one writer */
	make_messages(1);
	r.store = open_store(true);
	for (size_t i = 0; r.counts.events == 0; i++) { /* the first may be a host's report */
		r.message = store_message(&messages[i]);
		assert_int_equal(store_apply(r.store, &r.message, 1, NOW, &r.counts), 0);
	}
	next = strdup(r.message.payload);
	assert_non_null(next);
	id = strstr(next, "\"id\":\"") + strlen("\"id\":\"") + 35; /* its last digit */
	*id = *id == '0' ? '1' : '0';
	r.message.payload = next;
	assert_int_equal(db_open(store_url(), 0, &db, &error), 0);
	assert_int_equal(db_begin(db), 0);
	insert_the_same(db, &r.message, &parsed);
	assert_int_equal(pthread_create(&thread, NULL, race, &r), 0);
	wait_for_locks(db, 1, &r);
	assert_false(atomic_load(&r.done));
	assert_int_equal(db_commit(db), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.counts.events, 0);
	assert_int_equal(r.counts.duplicates, 1);
	store_parsed_release(&parsed);
	free(next);
	db_close(db);
	store_close(r.store);
	free_messages();
}

static void test_no_directory(void **state)
{
	struct store *s = NULL;
	char *error = NULL;

	assert_true(store_open("sqlite:///nonexistent/dir/db", &topics, &s, &error) < 0);
	assert_non_null(strstr(error, "/nonexistent/dir"));
	free(error);
	assert_true(store_open("mysql://x", &topics, &s, &error) < 0);
	assert_non_null(strstr(error, "sqlite:///PATH"));
	free(error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_order),
		cmocka_unit_test(test_rebuild),
		cmocka_unit_test(test_retention),
		cmocka_unit_test(test_arrivals_after_retention),
		cmocka_unit_test(test_arrivals_beside_an_older_recorder),
		cmocka_unit_test(test_rejects),
		cmocka_unit_test(test_rejects_are_bounded),
		cmocka_unit_test(test_newer_schema),
		cmocka_unit_test(test_older_schema),
		cmocka_unit_test(test_pages_of_guests),
		cmocka_unit_test(test_no_directory),
		cmocka_unit_test(test_order_of_arrival),
		cmocka_unit_test(test_the_same_event_at_once),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
