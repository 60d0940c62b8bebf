/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* api-internal - what the parts of api share. Internal to api. */
#pragma once

#include <stdio.h>

#include "spooler/recorder/api.h"
#include "spooler/recorder/cloudevent.h"
#include "spooler/recorder/intervals.h"
#include "spooler/recorder/query-sql.h"
#include "spooler/recorder/query.h"

#define API_SUMMARY_AGE_USEC (1000 * 1000) /* the summary and the metrics are at most so old */

struct api {
	struct query *query;
	struct db *db; /* its connection; NULL: it has to be opened again */
	char *store;
	unsigned long long queries;
	void (*metrics)(FILE *f, void *userdata);
	void *userdata;
	json_t *summary;       /* the last one */
	uint64_t summary_usec; /* CLOCK_MONOTONIC */
};

/* One request: what its path and its parameters said. */
struct api_request {
	struct api *api;
	const char *key, *second; /* the parts of the path that vary: a host, a UUID, an id */
	const struct api_query *query;
	struct api_answer *answer;
	bool answered; /* with an error */
};

/* --- parameters; an error is answered, and the value is then without meaning */

/* NULL: not given, or empty. */
const char *api_text(const struct api_request *r, const char *name);
uint64_t api_number(struct api_request *r, const char *name, uint64_t fallback, uint64_t max);
/* RFC 3339, or milliseconds since 1970; in microseconds since 1970. */
int64_t api_time(struct api_request *r, const char *name, int64_t fallback);
/* Ends the request with an error. Always returns -EINVAL. */
int api_refuse(struct api_request *r, unsigned status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* --- SQL that is put together */

struct sql {
	char text[4096];
	size_t n;
	char types[DB_PARAMS_MAX + 1];
	struct db_value params[DB_PARAMS_MAX];
	size_t n_params;
};

/* Appends text. */
void sql_add(struct sql *s, const char *text);
/* Appends text and then $N for this value of this type: "AND h.name = " */
void sql_bind(struct sql *s, const char *text, char type, struct db_value value);
int sql_run(struct api_request *r, const struct sql *s, db_row_fn fn, void *userdata);

/* --- values */

json_t *json_when(const struct db_value *v); /* a time; null for NULL and 0 */
json_t *json_when_usec(int64_t usec);
json_t *json_text(const struct db_value *v); /* null for NULL */
json_t *json_id(const struct db_value *v);   /* a UUID */
json_t *json_epoch(const struct db_value *v);

/* Texts of query.h: null for "". */
json_t *json_or_null(const char *text);

/* Handlers: fill *ret, or answer an error with api_refuse(), or return db_run()'s error. */
typedef int (*api_handler)(struct api_request *r, json_t *ret);

int api_hosts(struct api_request *r, json_t *ret);
int api_host(struct api_request *r, json_t *ret);
int api_guests(struct api_request *r, json_t *ret);
int api_guest(struct api_request *r, json_t *ret);
int api_operations(struct api_request *r, json_t *ret);
int api_holes(struct api_request *r, json_t *ret);
int api_log(struct api_request *r, json_t *ret);
int api_event(struct api_request *r, json_t *ret);
int api_guest_timeline(struct api_request *r, json_t *ret);
int api_host_timeline(struct api_request *r, json_t *ret);
int api_summary(struct api_request *r, json_t *ret);

int api_metrics(struct api_request *r, FILE *f);

/* The host's number. Answers 404 if it is not known. */
int api_find_host(struct api_request *r, const char *name, int64_t *ret_no);
/* The path's key as a UUID. */
int api_key_uuid(struct api_request *r, unsigned char ret_uuid[16]);
