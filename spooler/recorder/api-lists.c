/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * api-lists - hosts, guests, operations, holes, the log, one event.
 *
 * Hosts and guests are state: few enough to count, and paged by offset, so that a page of the
 * browser can show any part of them. The rest grows without end: newest first, and paged by a
 * cursor, so that a page costs the same however far back it is.
 */
#include "spooler/base/hex.h"
#include "spooler/base/util.h"
#include "spooler/recorder/api-internal.h"

/* "%...%" with what LIKE reads otherwise escaped by a backslash; to be freed. */
static char *search_pattern(const char *text)
{
	char *out = malloc(2 * strlen(text) + 3), *p = out;

	if (!out)
		return NULL;
	*p++ = '%';
	for (; *text; *p++ = *text++)
		if (*text == '%' || *text == '_' || *text == '\\')
			*p++ = '\\';
	*p++ = '%';
	*p = 0;
	return out;
}

/* Anywhere in the column, any case. */
static void sql_search(struct sql *s, const char *column, const char *pattern)
{
	sql_add(s, "AND");
	sql_add(s, column);
	sql_bind(s, "{sqlite:LIKE}{postgresql:ILIKE}", 't', db_text(pattern));
	sql_add(s, "ESCAPE '\\'");
}

static int take_count(const struct db_value *v, void *userdata)
{
	(void)json_object_set_new(userdata, "total", json_integer(v[0].number));
	return 0;
}

static struct sql select_from(const char *columns, const char *tables, const struct sql *where)
{
	struct sql s = *where;

	s.n = 0;
	sql_add(&s, columns);
	sql_add(&s, "FROM");
	sql_add(&s, tables);
	sql_add(&s, where->text);
	return s;
}

/* What to list. */
struct listing {
	const char *name; /* in the answer */
	const char *columns, *tables, *order;
	const char *counted; /* the tables that `where` needs; those of columns alone are not */
	struct sql where;
};

/*
 * Reads a page, and how many rows there are in all. A filter that finds less than a page reads its
 * table once: the total is then known.
 */
static int run_page(struct api_request *r, const struct listing *l, db_row_fn fn, json_t *ret)
{
	uint64_t limit = api_number(r, "limit", API_LIMIT_DEFAULT, API_LIMIT_MAX);
	uint64_t offset = api_number(r, "offset", 0, API_OFFSET_MAX), found;
	struct sql count = select_from("SELECT count(*)", l->counted, &l->where);
	struct sql page = select_from(l->columns, l->tables, &l->where);
	json_t *rows = json_array();
	int n;

	(void)json_object_set_new(ret, l->name, rows);
	if (r->answered)
		return -EINVAL;
	sql_add(&page, l->order);
	sql_bind(&page, "LIMIT", 'i', db_int((int64_t)limit));
	sql_bind(&page, "OFFSET", 'i', db_int((int64_t)offset));
	n = sql_run(r, &page, fn, rows);
	if (n < 0)
		return n;
	found = json_array_size(rows);
	if (found == limit || (found == 0 && offset > 0))
		return sql_run(r, &count, take_count, ret);
	return json_object_set_new(ret, "total", json_integer((json_int_t)(offset + found)));
}

/* --- hosts */

#define HOST_COLUMNS                                                                               \
	"SELECT h.name, " HOST_STATE ", h.seen, h.epoch, h.sequence, h.missing, h.last_time, "     \
	"(SELECT e.received - e.time FROM events e WHERE e.id = h.last_id AND e.host = h.no), "    \
	"(SELECT count(*) FROM guests g WHERE g.host = h.no AND g.place = 'running' AND "          \
	"(h.boot_id IS NULL OR g.place_id >= h.boot_id)), "                                        \
	"(SELECT min(o.first) FROM holes o WHERE o.host = h.no AND o.epoch = h.epoch AND "         \
	"o.filled IS NULL)"

static json_t *host_of(const struct db_value *v)
{
	int64_t complete = v[9].type == DB_NULL ? v[4].number : v[9].number - 1;

	return json_pack(
		"{s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:o, s:I, s:o}", "host", json_text(&v[0]),
		"state", json_text(&v[1]), "last_seen", json_when(&v[2]), "epoch",
		json_epoch(&v[3]), "sequence", (json_int_t)v[4].number, "complete_to",
		(json_int_t)complete, "missing", (json_int_t)v[5].number, "lag",
		v[7].type == DB_NULL ? json_null()
				     : json_real((double)(v[7].number > 0 ? v[7].number : 0) / 1e6),
		"running", (json_int_t)v[8].number, "last_event", json_when(&v[6]));
}

static int take_host(const struct db_value *v, void *userdata)
{
	return json_array_append_new(userdata, host_of(v));
}

int api_hosts(struct api_request *r, json_t *ret)
{
	const char *q = api_text(r, "q"), *state = api_text(r, "state"),
		   *sort = api_text(r, "sort");
	_cleanup_free_ char *pattern = q ? search_pattern(q) : NULL;
	struct listing l = {.name = "hosts",
			    .columns = HOST_COLUMNS,
			    .tables = "hosts h",
			    .counted = "hosts h",
			    .order = "ORDER BY h.name"};

	if (sort && strcmp(sort, "name") != 0 && strcmp(sort, "holes") != 0)
		return api_refuse(r, 400, "sort: expected name or holes");
	if (sort && strcmp(sort, "holes") == 0)
		l.order = "ORDER BY h.missing DESC, h.name";
	sql_add(&l.where, "WHERE 1 = 1");
	if (pattern)
		sql_search(&l.where, "h.name", pattern);
	if (state)
		sql_bind(&l.where, "AND " HOST_STATE " =", 't', db_text(state));
	return run_page(r, &l, take_host, ret);
}

static int take_one_host(const struct db_value *v, void *userdata)
{
	json_t *o = host_of(v);

	(void)json_object_update(userdata, o);
	json_decref(o);
	return 0;
}

int api_host(struct api_request *r, json_t *ret)
{
	struct sql s = {.n = 0};
	int n;

	sql_add(&s, HOST_COLUMNS);
	sql_bind(&s, "FROM hosts h WHERE h.name =", 't', db_text(r->key));
	n = sql_run(r, &s, take_one_host, ret);
	if (n >= 0 && json_object_size(ret) == 0)
		return api_refuse(r, 404, "no host of this name has reported");
	return n;
}

/* --- guests */

#define GUEST_COLUMNS                                                                              \
	"SELECT g.uuid, g.name, g.driver, " GUEST_STATE ", " GUEST_HOST ", " GUEST_SINCE           \
	", g.reason, " GUEST_ALSO_ON                                                               \
	", f.name, t.name, g.migration_begin, g.migration_end, g.migration_outcome"
#define GUEST_TABLES                                                                               \
	GUEST_JOINS " LEFT JOIN hosts f ON f.no = g.migration_from LEFT JOIN hosts t ON "          \
		    "t.no = g.migration_to"

static json_t *migration_of(const struct db_value *v)
{
	if (v[2].type == DB_NULL || v[2].number == 0)
		return json_null();
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "source", json_text(&v[0]), "host",
			 json_text(&v[1]), "begin", json_when(&v[2]), "end", json_when(&v[3]),
			 "outcome", json_text(&v[4]));
}

static json_t *guest_of(const struct db_value *v)
{
	json_t *also = json_array();

	if (v[7].type != DB_NULL)
		(void)json_array_append_new(also, json_text(&v[7]));
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "uuid", json_id(&v[0]),
			 "name", json_text(&v[1]), "driver", json_text(&v[2]), "state",
			 json_text(&v[3]), "host", json_text(&v[4]), "since", json_when(&v[5]),
			 "reason", json_text(&v[6]), "also", also, "migration",
			 migration_of(v + 8));
}

static int take_guest(const struct db_value *v, void *userdata)
{
	return json_array_append_new(userdata, guest_of(v));
}

int api_guests(struct api_request *r, json_t *ret)
{
	const char *q = api_text(r, "q"), *state = api_text(r, "state"),
		   *host = api_text(r, "host");
	_cleanup_free_ char *pattern = q ? search_pattern(q) : NULL;
	struct listing l = {.name = "guests",
			    .columns = GUEST_COLUMNS,
			    .tables = GUEST_TABLES,
			    .counted = state || host ? GUEST_JOINS : "guests g",
			    .order = "ORDER BY g.name, g.uuid"};
	unsigned char uuid[16];

	sql_add(&l.where, "WHERE g.last_id IS NOT NULL");
	if (q && uuid_parse(q, uuid))
		sql_bind(&l.where, "AND g.uuid =", 'u', db_uuid(uuid));
	else if (q)
		sql_search(&l.where, "g.name", pattern);
	if (state && strcmp(state, "crashed") != 0 && strcmp(state, "unknown") != 0) {
		sql_bind(&l.where, "AND", 't', db_text(state)); /* needs no join */
		sql_add(&l.where, "IN (g.place, g.other_place)");
	}
	if (state)
		sql_bind(&l.where, "AND (" GUEST_STATE ") =", 't', db_text(state));
	if (host)
		sql_bind(&l.where, "AND (" GUEST_HOST ") =", 't', db_text(host));
	return run_page(r, &l, take_guest, ret);
}

static int take_one_guest(const struct db_value *v, void *userdata)
{
	json_t *o = guest_of(v);

	(void)json_object_update(userdata, o);
	json_decref(o);
	return 0;
}

int api_guest(struct api_request *r, json_t *ret)
{
	unsigned char uuid[16];
	struct sql s = {.n = 0};
	int n = api_key_uuid(r, uuid);

	if (n < 0)
		return n;
	sql_add(&s, GUEST_COLUMNS);
	sql_bind(&s, "FROM " GUEST_TABLES " WHERE g.last_id IS NOT NULL AND g.uuid =", 'u',
		 db_uuid(uuid));
	n = sql_run(r, &s, take_one_guest, ret);
	if (n >= 0 && json_object_size(ret) == 0)
		return api_refuse(r, 404, "no guest with this UUID has been seen");
	return n;
}

/* --- operations, the log and holes: query.h's, page by page with its cursors */

/* What all three filter by. */
static int read_filter(struct api_request *r, struct query_filter *ret)
{
	int64_t to = api_time(r, "to", 0);

	*ret = (struct query_filter){
		.vm = api_text(r, "guest"),
		.host = api_text(r, "host"),
		.operation = api_text(r, "operation"),
		.since = api_time(r, "from", 0),
		.until = to ? to + 1000 : 0, /* to the end of its millisecond */
		.limit = api_number(r, "limit", API_LIMIT_DEFAULT, API_LIMIT_MAX),
		.cursor = api_text(r, "cursor"),
	};
	return r->answered ? -EINVAL : 0;
}

static int end_page(struct api_request *r, int n, const struct query_page *page, json_t *ret)
{
	if (n == -EINVAL)
		return api_refuse(r, 400,
				  "cursor: expected the `next` of an answer to the same question");
	if (n == -E2BIG)
		return api_refuse(r, 400, "too many filters at once");
	(void)json_object_set_new(ret, "next", json_or_null(n < 0 ? NULL : page->cursor));
	return n;
}

static int add_operation(const struct query_operation *o, void *userdata)
{
	return json_array_append_new(
		userdata,
		json_pack("{s:s, s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:s, s:o}", "id", o->id, "kind",
			  o->kind, "guest", o->guest, "name", json_or_null(o->name), "host",
			  *o->to ? o->to : o->host, "source", json_or_null(o->from), "begin",
			  json_when_usec(o->begun), "end", json_when_usec(o->ended), "outcome",
			  o->outcome, "reason", json_or_null(o->reason)));
}

int api_operations(struct api_request *r, json_t *ret)
{
	json_t *rows = json_array();
	struct query_filter f;
	struct query_page page;
	int n = read_filter(r, &f);

	(void)json_object_set_new(ret, "operations", rows);
	f.operation = api_text(r, "kind");
	if (n >= 0)
		n = query_operations(r->api->query, &f, add_operation, rows, &page);
	return r->answered ? -EINVAL : end_page(r, n, &page, ret);
}

static const char *origin(unsigned flags)
{
	return flags & EVENT_API ? "api" : flags & EVENT_SPOOLER ? "spooler" : "hook";
}

static int add_event(const struct query_event *e, void *userdata)
{
	return json_array_append_new(
		userdata,
		json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:s, s:s, s:o, s:b, s:s, s:I, s:s, s:s}",
			  "id", e->id, "host", e->host, "time", json_when_usec(e->time), "received",
			  json_when_usec(e->received), "guest", json_or_null(e->guest), "name",
			  json_or_null(e->name), "driver", e->driver, "operation", e->operation,
			  "reason", json_or_null(e->reason), "replayed",
			  (e->flags & EVENT_REPLAYED) != 0, "epoch", e->epoch, "sequence",
			  (json_int_t)e->sequence, "origin", origin(e->flags), "signature",
			  cloudevent_signature(e->flags)));
}

int api_log(struct api_request *r, json_t *ret)
{
	json_t *rows = json_array();
	struct query_filter f;
	struct query_page page;
	int n = read_filter(r, &f);

	(void)json_object_set_new(ret, "events", rows);
	if (n >= 0)
		n = query_log(r->api->query, &f, add_event, rows, &page);
	return r->answered ? -EINVAL : end_page(r, n, &page, ret);
}

static int add_hole(const struct query_hole *h, void *userdata)
{
	const char *state = h->filled ? "filled" : h->lost ? "lost" : "open";

	return json_array_append_new(userdata,
				     json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:s}", "host",
					       h->host, "epoch", h->epoch, "first",
					       (json_int_t)h->first, "last", (json_int_t)h->last,
					       "missing", (json_int_t)(h->last - h->first + 1),
					       "found", json_when_usec(h->found), "filled",
					       json_when_usec(h->filled), "status", state));
}

int api_holes(struct api_request *r, json_t *ret)
{
	const char *all = api_text(r, "all");
	json_t *rows = json_array();
	struct query_filter f;
	struct query_page page;
	int n = read_filter(r, &f);

	(void)json_object_set_new(ret, "holes", rows);
	if (all && strcmp(all, "true") != 0 && strcmp(all, "false") != 0)
		return api_refuse(r, 400, "all: expected true or false");
	f.all = all && strcmp(all, "true") == 0;
	if (n >= 0)
		n = query_holes(r->api->query, &f, add_hole, rows, &page);
	return r->answered ? -EINVAL : end_page(r, n, &page, ret);
}

/* --- one event */

/* As it was sent. */
static int take_payload(const struct db_value *v, void *userdata)
{
	json_t *o = json_loadb(v[0].data, v[0].size, 0, NULL);

	(void)json_object_update(userdata, o);
	json_decref(o);
	return 0;
}

int api_event(struct api_request *r, json_t *ret)
{
	unsigned char id[16];
	struct sql s = {.n = 0};
	int64_t host;
	int n = api_find_host(r, r->key, &host);

	if (n < 0)
		return n;
	if (!uuid_parse(r->second, id))
		return api_refuse(r, 400, "the path needs the event's id, a UUID");
	sql_bind(&s, "SELECT payload FROM events WHERE id =", 'u', db_uuid(id));
	sql_bind(&s, "AND host =", 'i', db_int(host));
	n = sql_run(r, &s, take_payload, ret);
	if (n >= 0 && json_object_size(ret) == 0)
		return api_refuse(r, 404,
				  "there is no such event, or it is older than the retention");
	return n;
}
