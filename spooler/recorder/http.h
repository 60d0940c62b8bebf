/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * http - the recorder's web server: the page, the read-only API, the metrics and the live stream.
 *
 * It runs in a thread of its own, with a loop and a read-only database connection of its own. So a
 * slow query, a TLS handshake or a thousand readers cost ingest nothing but processor time:
 *
 *	struct http *h;
 *	r = http_start(&options, &h, &error);	binds, then starts the thread
 *	http_changed(h, &change);		after each commit, from the thread that commits
 *	http_stop(h);				ends all connections and the thread
 *
 * Limits: connections, bytes of a request, time for a request and for reading the answer, rows of an
 * answer, time of a query. The only files that know libmicrohttpd are http.c and live.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_options {
	const char *store;  /* the URL for db_open() */
	const char *listen; /* ADDRESS:PORT, the address in brackets if it is IPv6 */
	const char *certificate_file, *key_file; /* PEM; NULL: no TLS */
	const char *client_ca_file; /* clients need a certificate of these authorities */
	const char *token_file;	    /* clients need this token */
	unsigned connections;	    /* at a time */
	/* Appends the metrics of the process (not of the store) in Prometheus' text format. Called in
	   the server's thread. NULL: there are none. */
	void (*metrics)(FILE *f, void *userdata);
	void *userdata;
};

/* What changed with a commit. Both lists may be short of what changed if `all` is set. */
struct http_change {
	const char *const *hosts; /* names */
	size_t n_hosts;
	const unsigned char (*guests)[16]; /* UUIDs */
	size_t n_guests;
	bool all;
};

#define HTTP_LISTEN_DEFAULT "127.0.0.1:8480"
#define HTTP_CONNECTIONS_DEFAULT 1200

struct http;

/*
 * Returns 0, or a negative errno and a sentence to be freed in *ret_error that names the address,
 * file or server, the reason and what to do.
 */
int http_start(const struct http_options *o, struct http **ret_http, char **ret_error);
void http_stop(struct http *h); /* NULL is fine */
void http_changed(struct http *h,
		  const struct http_change *change); /* from any thread; never blocks for long */

/* Is this address served without TLS and without a check of the client: loopback? */
bool http_is_loopback(const char *listen);
/* NULL, or what is wrong with the text, for the configuration. */
const char *http_check_listen(const char *listen);
/* NULL, or which key is missing with this combination and why. */
const char *http_check_access(const struct http_options *o);
