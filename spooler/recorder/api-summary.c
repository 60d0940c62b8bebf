/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * api-summary - the fleet in numbers: for the page's overview and for Prometheus.
 *
 * Both are made from the same statements, and are kept for a second: a thousand pages that are told
 * of a change at once cost one query. What is listed by name (guests in trouble) is bounded, so
 * that the number of time series is.
 */
#include <sys/statvfs.h>

#include "spooler/base/util.h"
#include "spooler/recorder/api-internal.h"

#define PROBLEMS_MAX 100			       /* of each kind */
#define CRASH_AGE_USEC (86400 * (int64_t)USEC_PER_SEC) /* and of forged events */
#define FLAPPING_USEC (3600 * (int64_t)USEC_PER_SEC)
#define FLAPPING_STARTS 4

/* --- counts */

static int take_counts(const struct db_value *v, void *userdata)
{
	json_t *hosts =
		json_pack("{s:I, s:I, s:I, s:I, s:I}", "total", (json_int_t)v[0].number, "online",
			  (json_int_t)v[1].number, "offline", (json_int_t)v[2].number, "silent",
			  (json_int_t)v[3].number, "unknown", (json_int_t)v[4].number);

	return json_object_set_new(userdata, "hosts", hosts);
}

static int count_hosts(struct api_request *r, json_t *ret)
{
	static const struct db_statement s = {
		"SELECT count(*), coalesce(sum(CASE WHEN s = 'online' THEN 1 END), 0), coalesce(sum(CASE WHEN s = "
		"'offline' THEN 1 END), 0), coalesce(sum(CASE WHEN s = 'silent' THEN 1 END), 0), coalesce(sum(CASE WHEN "
		"s = 'unknown' THEN 1 END), 0) FROM (SELECT " HOST_STATE " AS s FROM hosts h) x",
		""};

	return db_run(r->api->db, &s, NULL, 1, take_counts, ret);
}

static int take_state(const struct db_value *v, void *userdata)
{
	json_t *states = json_object_get(userdata, "states");
	json_int_t total = json_integer_value(json_object_get(userdata, "total"));

	(void)json_object_set_new(states, db_string(&v[0]), json_integer(v[1].number));
	return json_object_set_new(userdata, "total", json_integer(total + v[1].number));
}

static int count_guests(struct api_request *r, json_t *ret)
{
	static const struct db_statement s = {"SELECT " GUEST_STATE
					      " AS state, count(*) FROM " GUEST_JOINS
					      " WHERE g.last_id IS NOT NULL GROUP BY 1",
					      ""};
	json_t *guests = json_pack("{s:i, s:{}}", "total", 0, "states");

	(void)json_object_set_new(ret, "guests", guests);
	return db_run(r->api->db, &s, NULL, 1, take_state, guests);
}

static int take_rest(const struct db_value *v, void *userdata)
{
	(void)json_object_set_new(userdata, "holes",
				  json_pack("{s:I, s:I}", "open", (json_int_t)v[0].number,
					    "missing", (json_int_t)v[1].number));
	(void)json_object_set_new(userdata, "events", json_integer(v[2].number));
	return json_object_set_new(userdata, "rejects", json_integer(v[3].number));
}

/* Events are counted by their place in the table, or as PostgreSQL estimates: see the API's
   description. */
static int count_rest(struct api_request *r, json_t *ret)
{
	static const struct db_statement s = {
		"SELECT (SELECT count(*) FROM holes WHERE filled IS NULL), (SELECT coalesce(sum(missing), 0) FROM hosts), "
		"{sqlite:coalesce((SELECT max(rowid) FROM events) - (SELECT min(rowid) FROM events) + 1, 0)}"
		"{postgresql:coalesce((SELECT sum(greatest(c.reltuples, 0)) FROM pg_inherits i JOIN pg_class c ON c.oid = "
		"i.inhrelid WHERE i.inhparent = 'events'::regclass), 0)::bigint}, (SELECT coalesce(sum(times), 0) FROM "
		"rejects)",
		""};

	return db_run(r->api->db, &s, NULL, 1, take_rest, ret);
}

/* --- what needs attention: kind, host, other host, guest, its name, since, count */

static int take_problem(const struct db_value *v, void *userdata)
{
	return json_array_append_new(
		userdata, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "kind", json_text(&v[0]),
				    "host", json_text(&v[1]), "other", json_text(&v[2]), "guest",
				    json_id(&v[3]), "name", json_text(&v[4]), "since",
				    json_when(&v[5]), "count", (json_int_t)v[6].number));
}

static int list_problems(struct api_request *r, json_t *ret)
{
	static const struct db_statement statements[] = {
		{"SELECT 'guest-on-two-hosts', h.name, " GUEST_OTHER_HOST
		 ", g.uuid, g.name, g.other_since, 1 FROM " GUEST_JOINS
		 " WHERE g.other_host IS NOT NULL AND " GUEST_ALSO_ON
		 " IS NOT NULL ORDER BY g.other_since DESC LIMIT $1",
		 "i"},
		{"SELECT 'host-silent', h.name, NULL, NULL, NULL, h.seen, 1 FROM hosts h WHERE " HOST_STATE
		 " = "
		 "'silent' ORDER BY h.seen DESC LIMIT $1",
		 "i"},
		{"SELECT 'guest-crashed', h.name, NULL, g.uuid, g.name, g.since, 1 FROM " GUEST_JOINS
		 " WHERE " GUEST_STATE
		 " = 'crashed' AND g.since > $2 ORDER BY g.since DESC LIMIT $1",
		 "ii"},
		{"SELECT 'guest-flapping', h.name, NULL, x.guest, g.name, x.since, x.n FROM (SELECT guest, count(*) AS n, "
		 "min(begun) AS since FROM operations WHERE id > $2 AND kind = 'start' GROUP BY guest HAVING count(*) >= "
		 "$3) x JOIN guests g ON g.uuid = x.guest LEFT JOIN hosts h ON h.no = g.host ORDER BY x.n DESC LIMIT $1",
		 "iui"},
		{"SELECT 'hole-open', h.name, NULL, NULL, NULL, (SELECT min(o.found) FROM holes o WHERE o.host = h.no AND "
		 "o.filled IS NULL), h.missing FROM hosts h WHERE h.missing > 0 ORDER BY h.missing DESC LIMIT $1",
		 "i"},
		{"SELECT 'event-forged', host, NULL, NULL, NULL, max(received), sum(times) FROM rejects WHERE reason LIKE "
		 "'forged: %' AND received > $2 GROUP BY host ORDER BY 6 DESC LIMIT $1",
		 "ii"},
	};
	int64_t now = (int64_t)now_usec(CLOCK_REALTIME);
	json_t *items = json_array();
	unsigned char hour_ago[16];
	int n = 0;

	(void)json_object_set_new(ret, "problems",
				  json_pack("{s:i, s:o}", "total", 0, "items", items));
	id_at(now - FLAPPING_USEC, hour_ago);
	for (size_t i = 0; i < ELEMENTSOF(statements) && n >= 0; i++) {
		struct db_value v[3] = {db_int(PROBLEMS_MAX), db_int(now - CRASH_AGE_USEC),
					db_int(FLAPPING_STARTS)};

		if (strcmp(statements[i].types, "iui") == 0)
			v[1] = db_uuid(hour_ago);
		n = db_run(r->api->db, &statements[i], v, 1, take_problem, items);
	}
	(void)json_object_set_new(json_object_get(ret, "problems"), "total",
				  json_integer((json_int_t)json_array_size(items)));
	return n;
}

static int make_summary(struct api_request *r, json_t *ret)
{
	int n = count_hosts(r, ret);

	if (n >= 0)
		n = count_guests(r, ret);
	if (n >= 0)
		n = count_rest(r, ret);
	if (n >= 0)
		n = list_problems(r, ret);
	(void)json_object_set_new(ret, "version", json_string(PACKAGE_VERSION));
	(void)json_object_set_new(ret, "now", json_when_usec((int64_t)now_usec(CLOCK_REALTIME)));
	return n;
}

static int refresh(struct api_request *r)
{
	struct api *a = r->api;
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	json_t *new;
	int n;

	if (a->summary && now - a->summary_usec < API_SUMMARY_AGE_USEC)
		return 0;
	new = json_object();
	n = make_summary(r, new);
	if (n < 0) {
		json_decref(new);
		return n;
	}
	json_decref(a->summary);
	a->summary = new;
	a->summary_usec = now;
	return 0;
}

int api_summary(struct api_request *r, json_t *ret)
{
	int n = refresh(r);

	return n < 0 ? n : json_object_update(ret, r->api->summary);
}

/* --- Prometheus (the text format, version 0.0.4) */

static void head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP virtspool_recorder_%s %s\n# TYPE virtspool_recorder_%s %s\n", name, help,
		name, type);
}

/* name="value", with what the format escapes. */
static void label(FILE *f, const char *name, const char *value)
{
	fprintf(f, "%s=\"", name);
	for (; value && *value; value++)
		if (*value == '\n')
			fputs("\\n", f);
		else if (*value == '"' || *value == '\\')
			fprintf(f, "\\%c", *value);
		else
			fputc(*value, f);
	fputc('"', f);
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static json_int_t number_of(const json_t *o, const char *section, const char *key)
{
	return json_integer_value(json_object_get(json_object_get(o, section), key));
}

static void write_counts(FILE *f, const json_t *s)
{
	static const char *const states[] = {"online", "offline", "silent", "unknown"};
	const char *state;
	json_t *value;

	head(f, "hosts", "gauge", "Hosts by state; silent: gone without a word.");
	for (size_t i = 0; i < ELEMENTSOF(states); i++)
		fprintf(f, "virtspool_recorder_hosts{state=\"%s\"} %lld\n", states[i],
			(long long)number_of(s, "hosts", states[i]));
	head(f, "guests", "gauge", "Guests by state.");
	json_object_foreach (json_object_get(json_object_get(s, "guests"), "states"), state,
			     value) {
		fprintf(f, "virtspool_recorder_guests{state=\"%s\"} %lld\n", state,
			(long long)json_integer_value(value));
	}
	head(f, "holes", "gauge", "Open holes in the hosts' sequences.");
	fprintf(f, "virtspool_recorder_holes %lld\n", (long long)number_of(s, "holes", "open"));
	head(f, "events", "gauge", "Events in the store, about.");
	fprintf(f, "virtspool_recorder_events %lld\n",
		(long long)json_integer_value(json_object_get(s, "events")));
	head(f, "rejects", "gauge",
	     "Messages in the store that were not taken, with their repetitions.");
	fprintf(f, "virtspool_recorder_rejects %lld\n",
		(long long)json_integer_value(json_object_get(s, "rejects")));
}

/* One line per guest that has this kind of problem. */
static void write_guests(FILE *f, const json_t *s, const char *kind, const char *metric,
			 const char *help)
{
	const json_t *items = json_object_get(json_object_get(s, "problems"), "items");
	json_t *p;
	size_t i;

	head(f, metric, "gauge", help);
	json_array_foreach (items, i, p) {
		if (strcmp(text_of(p, "kind"), kind) != 0)
			continue;
		fprintf(f, "virtspool_recorder_%s{", metric);
		label(f, "uuid", text_of(p, "guest"));
		fputc(',', f);
		label(f, "guest", text_of(p, "name"));
		fputc(',', f);
		label(f, "host", text_of(p, "host"));
		if (text_of(p, "other")) {
			fputc(',', f);
			label(f, "other_host", text_of(p, "other"));
		}
		fprintf(f, "} %lld\n", (long long)json_integer_value(json_object_get(p, "count")));
	}
}

struct host_metrics {
	FILE *online, *seen, *missing, *lag;
};

static void write_host(FILE *f, const char *metric, const char *host, double value)
{
	fprintf(f, "virtspool_recorder_host_%s{", metric);
	label(f, "host", host);
	fprintf(f, "} %.15g\n", value);
}

static int take_host(const struct db_value *v, void *userdata)
{
	struct host_metrics *m = userdata;
	const char *host = db_string(&v[0]), *state = db_string(&v[1]);

	if (strcmp(state, "unknown") != 0)
		write_host(m->online, "up", host, strcmp(state, "silent") == 0 ? 0 : 1);
	write_host(m->seen, "last_seen_timestamp_seconds", host, (double)v[2].number / 1e6);
	write_host(m->missing, "missing_events", host, (double)v[3].number);
	if (v[4].type != DB_NULL)
		write_host(m->lag, "lag_seconds", host,
			   (double)(v[4].number > 0 ? v[4].number : 0) / 1e6);
	return 0;
}

/* Each metric's lines must stand together, so each has a buffer of its own. */
static int write_hosts(struct api_request *r, FILE *f)
{
	static const struct db_statement s = {
		"SELECT h.name, " HOST_STATE
		", h.seen, h.missing, (SELECT e.received - e.time FROM events e WHERE e.id = "
		"h.last_id AND e.host = h.no) FROM hosts h ORDER BY h.name LIMIT 65536",
		""};
	static const char *const metrics[][2] = {
		{"host_up", "0: the host went silent; 1: it reports, or said that it stops."},
		{"host_last_seen_timestamp_seconds", "When the recorder last heard of the host."},
		{"host_missing_events", "Events of the host that did not arrive."},
		{"host_lag_seconds", "From the host's last event to its commit."},
	};
	char *text[4] = {NULL};
	size_t size[4];
	FILE *buffers[4];
	struct host_metrics m;
	int n = 0;

	for (size_t i = 0; i < 4; i++)
		buffers[i] = open_memstream(&text[i], &size[i]);
	m = (struct host_metrics){buffers[0], buffers[1], buffers[2], buffers[3]};
	if (m.online && m.seen && m.missing && m.lag)
		n = db_run(r->api->db, &s, NULL, 1, take_host, &m);
	for (size_t i = 0; i < 4; i++) {
		if (buffers[i] && fclose(buffers[i]) == 0 && n >= 0) {
			head(f, metrics[i][0], "gauge", metrics[i][1]);
			fputs(text[i], f);
		}
		free(text[i]);
	}
	return n;
}

static void write_store(struct api_request *r, FILE *f)
{
	static const char prefix[] = "sqlite://";
	uint64_t size = db_size(r->api->db);
	struct statvfs disk;

	if (size) {
		head(f, "store_bytes", "gauge", "Size of the store.");
		fprintf(f, "virtspool_recorder_store_bytes %llu\n", (unsigned long long)size);
	}
	if (strncmp(r->api->store, prefix, strlen(prefix)) == 0 &&
	    statvfs(r->api->store + strlen(prefix), &disk) == 0) {
		head(f, "store_free_bytes", "gauge", "Room on the disk of the store.");
		fprintf(f, "virtspool_recorder_store_free_bytes %llu\n",
			(unsigned long long)disk.f_bavail * disk.f_frsize);
	}
}

int api_metrics(struct api_request *r, FILE *f)
{
	int n = refresh(r);

	if (n < 0)
		return n;
	head(f, "build_info", "gauge", "The version, as a label.");
	fprintf(f, "virtspool_recorder_build_info{version=\"%s\"} 1\n", PACKAGE_VERSION);
	write_counts(f, r->api->summary);
	write_guests(f, r->api->summary, "guest-on-two-hosts", "guest_on_two_hosts",
		     "Guests that run on two hosts at once.");
	write_guests(f, r->api->summary, "guest-crashed", "guest_crashed",
		     "Guests that crashed within a day and have not started since.");
	write_guests(f, r->api->summary, "guest-flapping", "guest_starts_last_hour",
		     "Starts within an hour, of guests with four or more.");
	n = write_hosts(r, f);
	write_store(r, f);
	head(f, "http_requests_total", "counter",
	     "Questions that the API and this page have answered.");
	fprintf(f, "virtspool_recorder_http_requests_total %llu\n", r->api->queries);
	if (r->api->metrics)
		r->api->metrics(f, r->api->userdata);
	return n;
}
