/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * access - TLS for the web server, and who may read. Internal to http.
 *
 * With client_ca_file or token_file a client must have a certificate of these authorities, or the
 * token (Authorization: Bearer TOKEN, or Basic with any name and the token as password, which is
 * what a browser sends). If both are set, either is enough. With neither the address is loopback,
 * and the Host header must be, too: a page elsewhere whose name was made to resolve to 127.0.0.1
 * cannot read what is here.
 *
 * The certificate is read again when its file changes; a key that does not fit is not taken.
 */
#pragma once

#include <microhttpd.h>
#include <stdbool.h>

#include "spooler/recorder/http.h"

struct access;

struct access_answer {
	unsigned status;
	const char *text;
};

int access_new(const struct http_options *o, struct access **ret_access, char **ret_error);
void access_free(struct access *a); /* NULL is fine */

/* Adds libmicrohttpd's options (at most 4), and flags. Returns how many. */
size_t access_options(struct access *a, struct MHD_OptionItem *options, unsigned *flags);
/* May this client read? If not, the answer that it gets. */
bool access_check(struct access *a, struct MHD_Connection *connection, struct access_answer *ret);
