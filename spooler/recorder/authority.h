/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * authority - a small certificate authority for one management node and its hosts: it makes keys
 * (ECDSA P-256) and signs certificates. Used by `virtspool-recorder init` only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define AUTHORITY_YEARS 20
#define CERTIFICATE_YEARS 5

struct authority;

/* A new one; or one that exists, from PEM. Returns 0, or -EINVAL with a sentence in *ret_error. */
int authority_new(const char *name, struct authority **ret_authority, char **ret_error);
int authority_load(const char *certificate, const char *key, struct authority **ret_authority,
		   char **ret_error);
void authority_free(struct authority *a); /* NULL is fine; wipes the key */

/* PEM, borrowed. */
const char *authority_certificate(const struct authority *a);
const char *authority_key(const struct authority *a);

/*
 * A new key and a certificate for it with this common name: of a client, or of a server if `names`
 * are given (DNS names or IP addresses). Both are PEM; the caller wipes and frees the key.
 */
int authority_issue(struct authority *a, const char *name, const char *const *names, size_t n_names,
		    char **ret_certificate, char **ret_key, char **ret_error);
