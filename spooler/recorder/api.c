/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* api - see api.h: paths, parameters, and what all answers share. */
#include <stdarg.h>

#include "spooler/base/hex.h"
#include "spooler/base/rfc3339.h"
#include "spooler/base/json-time.h"
#include "spooler/base/log.h"
#include "spooler/base/utf8.h"
#include "spooler/base/util.h"
#include "spooler/recorder/api-internal.h"

#define JSON_TYPE "application/json"
#define QUERY_TIMEOUT_MS 3000
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Each path with the parameters that it takes; `*` stands for one part that varies. */
static const struct route {
	const char *path;
	const char *parameters;
	api_handler handler;
} routes[] = {
	{"summary", "", api_summary},
	{"hosts", "q state sort limit offset", api_hosts},
	{"hosts/*", "", api_host},
	{"hosts/*/timeline", "from to limit offset", api_host_timeline},
	{"guests", "q state host limit offset", api_guests},
	{"guests/*", "", api_guest},
	{"guests/*/timeline", "from to", api_guest_timeline},
	{"operations", "guest host kind from to limit cursor", api_operations},
	{"holes", "host all from to limit cursor", api_holes},
	{"log", "guest host operation from to limit cursor", api_log},
	{"events/*/*", "", api_event},
};

/* --- answers */

void api_error(struct api_answer *ret, unsigned status, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	json_t *o;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	o = json_pack("{s:s}", "error", text ? text : "out of memory");
	*ret = (struct api_answer){
		.status = status, .type = JSON_TYPE, .body = json_dumps(o, JSON_COMPACT)};
	ret->size = ret->body ? strlen(ret->body) : 0;
	json_decref(o);
}

int api_refuse(struct api_request *r, unsigned status, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	if (r->answered)
		return -EINVAL;
	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	api_error(r->answer, status, "%s", text ? text : "");
	r->answered = true;
	return -EINVAL;
}

static void answer_failure(struct api_request *r, int error)
{
	struct api *a = r->api;

	if (r->answered)
		return;
	if (error == -EAGAIN)
		api_error(r->answer, 503,
			  "the query took too long or the store is busy; ask for less, "
			  "a shorter time, or try again");
	else
		api_error(r->answer, 503, "the store cannot be read: %s", db_error(a->db));
	if (error == -ENOTCONN || error == -EIO) { /* the next request opens it again */
		log_warning("the web server lost the store: %s", db_error(a->db));
		query_close(a->query);
		a->query = NULL;
		a->db = NULL;
	}
}

/* --- text from the URL */

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Decodes %XX of n bytes. NULL: not valid, not UTF-8, or too long. */
static char *decode(const char *s, size_t n)
{
	char *out = malloc(n + 1);
	size_t m = 0;

	for (size_t i = 0; out && i < n; i++) {
		int c = (unsigned char)s[i];

		if (c == '%') {
			int a = i + 2 < n ? hex(s[i + 1]) : -1, b = i + 2 < n ? hex(s[i + 2]) : -1;

			if (a < 0 || b < 0)
				goto bad;
			c = a * 16 + b;
			i += 2;
		}
		out[m++] = (char)c;
	}
	if (!out || m > API_TEXT_MAX || !utf8_valid(out, m))
		goto bad;
	out[m] = 0;
	return out;
bad:
	free(out);
	return NULL;
}

const char *api_query_add(struct api_query *q, const char *name, const char *value)
{
	char *n, *v;

	if (q->n == API_PARAMETERS_MAX)
		return "too many parameters";
	n = decode(name, strlen(name));
	v = decode(value, strlen(value));
	if (!n || !v) {
		free(n);
		free(v);
		return "a parameter is too long, or is not UTF-8, percent-encoded";
	}
	for (size_t i = 0; i < q->n; i++)
		if (strcmp(q->list[i].name, n) == 0) {
			free(n);
			free(v);
			return "a parameter is given twice";
		}
	q->list[q->n].name = n;
	q->list[q->n++].value = v;
	return NULL;
}

void api_query_release(struct api_query *q)
{
	for (size_t i = 0; i < q->n; i++) {
		free(q->list[i].name);
		free(q->list[i].value);
	}
	q->n = 0;
}

const char *api_text(const struct api_request *r, const char *name)
{
	for (size_t i = 0; i < r->query->n; i++)
		if (strcmp(r->query->list[i].name, name) == 0 && r->query->list[i].value[0])
			return r->query->list[i].value;
	return NULL;
}

uint64_t api_number(struct api_request *r, const char *name, uint64_t fallback, uint64_t max)
{
	const char *text = api_text(r, name);
	uint64_t n = 0;

	if (!text)
		return fallback;
	for (const char *c = text; *c; c++) {
		if (*c < '0' || *c > '9' || n > max)
			goto bad;
		n = n * 10 + (uint64_t)(*c - '0');
	}
	if (n <= max && (n > 0 || strcmp(name, "limit") != 0))
		return n;
bad:
	(void)api_refuse(r, 400, "%s: expected a number from %d to %llu", name,
			 strcmp(name, "limit") == 0, (unsigned long long)max);
	return fallback;
}

int64_t api_time(struct api_request *r, const char *name, int64_t fallback)
{
	const char *text = api_text(r, name);
	int64_t usec;

	if (!text)
		return fallback;
	if (rfc3339_parse(text, &usec) && usec >= 0)
		return usec;
	(void)api_refuse(r, 400, "%s: expected a time like 2026-11-28T10:00:00Z (RFC 3339)", name);
	return fallback;
}

int api_key_uuid(struct api_request *r, unsigned char ret_uuid[16])
{
	return uuid_parse(r->key, ret_uuid) ? 0 : api_refuse(r, 400, "the path needs a UUID");
}

/* --- SQL */

void sql_add(struct sql *s, const char *text)
{
	int n = snprintf(s->text + s->n, sizeof(s->text) - s->n, "%s ", text);

	s->n += n > 0 && (size_t)n < sizeof(s->text) - s->n ? (size_t)n : 0;
}

void sql_bind(struct sql *s, const char *text, char type, struct db_value value)
{
	char number[16];

	if (s->n_params == DB_PARAMS_MAX)
		return;
	s->types[s->n_params] = type;
	s->params[s->n_params++] = value;
	sql_add(s, text);
	(void)snprintf(number, sizeof(number), "$%zu", s->n_params);
	sql_add(s, number);
}

int sql_run(struct api_request *r, const struct sql *s, db_row_fn fn, void *userdata)
{
	return db_query(r->api->db, s->text, s->types, s->params, fn, userdata);
}

/* --- values */

json_t *json_when_usec(int64_t usec)
{
	return json_time(usec > 0 ? (uint64_t)usec : 0);
}

json_t *json_when(const struct db_value *v)
{
	return v->type == DB_NULL ? json_null() : json_when_usec(v->number);
}

json_t *json_or_null(const char *text)
{
	return text && *text ? json_string(text) : json_null();
}

json_t *json_text(const struct db_value *v)
{
	json_t *o = v->type == DB_NULL ? NULL : json_stringn(v->data, v->size);

	return o ? o : json_null();
}

json_t *json_id(const struct db_value *v)
{
	char text[UUID_TEXT];

	if (v->type == DB_NULL)
		return json_null();
	uuid_format(v->data, text);
	return json_string(text);
}

json_t *json_epoch(const struct db_value *v)
{
	char text[33];

	if (v->type == DB_NULL)
		return json_null();
	hex_format(v->data, 16, text);
	return json_string(text);
}

static int take_number(const struct db_value *v, void *userdata)
{
	*(int64_t *)userdata = v[0].number;
	return 0;
}

int api_find_host(struct api_request *r, const char *name, int64_t *ret_no)
{
	static const struct db_statement find = {"SELECT no FROM hosts WHERE name = $1", "t"};
	struct db_value v = db_text(name);
	int n;

	*ret_no = 0;
	n = db_run(r->api->db, &find, &v, 1, take_number, ret_no);
	if (n >= 0 && *ret_no == 0)
		return api_refuse(r, 404, "no host of this name has reported");
	return n;
}

/* --- paths */

/* Compares and takes the parts that vary. */
static bool matches(const char *pattern, const char *path, char *ret_parts[2])
{
	size_t n_parts = 0;

	while (*pattern && *path)
		if (*pattern == '*') {
			size_t n = strcspn(path, "/");

			if (n == 0 || n_parts == 2)
				return false;
			ret_parts[n_parts++] = decode(path, n);
			path += n;
			pattern++;
		} else if (*pattern++ != *path++) {
			return false;
		}
	return *pattern == 0 && *path == 0;
}

static bool known_parameter(const struct route *route, const char *name)
{
	const char *found = strstr(route->parameters, name);
	size_t n = strlen(name);

	return n && found && (found == route->parameters || found[-1] == ' ') &&
	       (found[n] == ' ' || found[n] == 0);
}

static int check_parameters(struct api_request *r, const struct route *route)
{
	for (size_t i = 0; i < r->query->n; i++)
		if (!known_parameter(route, r->query->list[i].name))
			return api_refuse(r, 400, "unknown parameter '%s'; allowed here: %s",
					  r->query->list[i].name,
					  *route->parameters ? route->parameters : "none");
	return 0;
}

static int open_store(struct api *a, char **ret_error)
{
	int r;

	*ret_error = NULL;
	if (a->db)
		return 0;
	r = query_open(a->store, 0, &a->query, ret_error);
	if (r >= 0) {
		a->db = query_db(a->query);
		(void)db_set_timeout(a->db, QUERY_TIMEOUT_MS);
	}
	return r;
}

static void get_json(struct api_request *r, const struct route *route)
{
	json_t *o = json_object();
	int error = check_parameters(r, route);

	if (error >= 0)
		error = route->handler(r, o);
	if (error < 0) {
		answer_failure(r, error);
	} else if (!r->answered) {
		r->answer->body = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9));
		r->answer->size = r->answer->body ? strlen(r->answer->body) : 0;
	}
	json_decref(o);
}

static void get_metrics(struct api_request *r)
{
	FILE *f = open_memstream(&r->answer->body, &r->answer->size);
	int error = f ? api_metrics(r, f) : -ENOMEM;

	r->answer->type = METRICS_TYPE;
	if (f && fclose(f) != 0)
		error = -ENOMEM;
	if (error < 0) {
		free(r->answer->body);
		answer_failure(r, error);
	}
}

void api_get(struct api *a, const char *path, const struct api_query *query, struct api_answer *ret)
{
	static const char prefix[] = "/api/v1/";
	struct api_request r = {.api = a, .query = query, .answer = ret};
	_cleanup_free_ char *error = NULL;

	*ret = (struct api_answer){.status = 200, .type = JSON_TYPE};
	if (open_store(a, &error) < 0) {
		api_error(ret, 503, "%s", error ? error : "the store cannot be opened");
		return;
	}
	a->queries++;
	if (strcmp(path, "/metrics") == 0) {
		get_metrics(&r);
		return;
	}
	for (size_t i = 0; strncmp(path, prefix, strlen(prefix)) == 0 && i < ELEMENTSOF(routes);
	     i++) {
		char *parts[2] = {NULL, NULL};
		bool match = matches(routes[i].path, path + strlen(prefix), parts);

		r.key = parts[0];
		r.second = parts[1];
		if (match && strchr(routes[i].path, '*') &&
		    (!r.key || (strstr(routes[i].path, "*/*") && !r.second)))
			api_error(ret, 400, "the path is not UTF-8, percent-encoded");
		else if (match)
			get_json(&r, &routes[i]);
		free(parts[0]);
		free(parts[1]);
		if (match)
			return;
	}
	api_error(ret, 404, "nothing is here; /api/v1/openapi.json describes what there is");
}

/* --- start and end */

int api_new(const struct http_options *o, struct api **ret_api, char **ret_error)
{
	struct api *a = calloc(1, sizeof(*a));

	*ret_error = NULL;
	if (a)
		a->store = strdup(o->store);
	if (!a || !a->store) {
		api_free(a);
		return -ENOMEM;
	}
	a->metrics = o->metrics;
	a->userdata = o->userdata;
	*ret_api = a;
	return 0;
}

void api_free(struct api *a)
{
	if (!a)
		return;
	query_close(a->query);
	json_decref(a->summary);
	free(a->store);
	free(a);
}
