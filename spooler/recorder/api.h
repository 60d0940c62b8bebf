/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * api - the answers of the read-only API, as etc/recorder-api.json describes them, and the metrics.
 * Internal to http; knows nothing of HTTP but status codes.
 *
 *	api.c		paths, parameters, JSON
 *	api-lists.c	hosts, guests, operations, holes, the log
 *	api-timeline.c	timelines
 *	api-summary.c	the summary and the metrics
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spooler/recorder/db.h"
#include "spooler/recorder/http.h"

#define API_PARAMETERS_MAX 16
#define API_LIMIT_DEFAULT 100
#define API_LIMIT_MAX 1000
#define API_OFFSET_MAX 10000000
#define API_TEXT_MAX 512 /* bytes of a parameter or of a part of the path */

struct api;

struct api_query {
	struct {
		char *name, *value; /* decoded */
	} list[API_PARAMETERS_MAX];
	size_t n;
};

/* Decodes and adds a parameter. Returns NULL, or what is wrong with it. */
const char *api_query_add(struct api_query *q, const char *name, const char *value);
void api_query_release(struct api_query *q);

struct api_answer {
	unsigned status; /* of HTTP */
	const char *type;
	char *body; /* to be freed; NULL: empty */
	size_t size;
};

int api_new(const struct http_options *o, struct api **ret_api, char **ret_error);
void api_free(struct api *a); /* NULL is fine */

/* Answers GET `path`, still escaped, without its query string. Always sets *ret. */
void api_get(struct api *a, const char *path, const struct api_query *query,
	     struct api_answer *ret);
/* {"error": TEXT} */
void api_error(struct api_answer *ret, unsigned status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
