/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * http - the recorder's web server: the page, the read-only API, the metrics and the live stream.
 *
 * It runs in a thread of its own, with a loop and a read-only database connection of its own. So a
 * slow query, a TLS handshake or a thousand readers cost ingest nothing but processor time:
 *
 *	struct http *h;
 *	r = http_start(&options, &h, &error);	binds, then starts the thread
 *	http_changed(&change, h);		after each commit, from the thread that commits
 *	http_stop(h);				ends all connections and the thread
 *
 * Limits: connections, bytes of a request, time for a request and for reading the answer, rows of
 * an answer, time of a query. Only http.c, live.[ch] and access.[ch] know libmicrohttpd.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "spooler/recorder/store.h"

struct http_options {
	const char *store;  /* the URL for db_open() */
	const char *listen; /* ADDRESS:PORT, the address in brackets if it is IPv6 */
	const char *certificate_file, *key_file; /* PEM; NULL: no TLS */
	const char *client_ca_file; /* clients need a certificate of these authorities */
	const char *token_file;	    /* clients need this token */
	unsigned connections;	    /* at a time */
	/* Appends the metrics of the process (not of the store) in Prometheus' text format.
	   Called in the server's thread. NULL: there are none. */
	void (*metrics)(FILE *f, void *userdata);
	void *userdata;
};

struct http;

/*
 * Returns 0, or a negative errno and a sentence to be freed in *ret_error that names the address,
 * file or server, the reason and what to do.
 */
int http_start(const struct http_options *o, struct http **ret_http, char **ret_error);
/* Reads the files that http_start() would, and fails as it does. */
int http_check(const struct http_options *o, char **ret_error);
void http_stop(struct http *h); /* NULL is fine */
/* A store_changed_fn, whose userdata is a struct http: what a commit has changed. From any
   thread; never blocks for long. */
void http_changed(const struct store_change *change, void *userdata);
