/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * credentials - the part of a TLS session that comes from files: trust, own certificate, PSK.
 *
 * They are loaded at start and on reload, shared by sessions and counted, so that old ones live as
 * long as their last session. Users of this header see nothing of GnuTLS.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "spooler/config/config.h"

/*
 * GnuTLS priorities, as RFC 9325 recommends: forward secrecy and authenticated encryption only, no
 * SHA-1, certificates with RSA keys of at least 2048 bits. Without the versions, which are added;
 * without resumption, see transport.c.
 */
#define TLS_PRIORITY_OF(kx)                                                                        \
	"NORMAL:-KX-ALL:" kx                                                                       \
	":-CIPHER-ALL:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:-MAC-ALL:+AEAD"                 \
	":-SIGN-RSA-SHA1:-SIGN-ECDSA-SHA1:-SIGN-DSA-SHA1:%PROFILE_MEDIUM"
#define TLS_PRIORITY TLS_PRIORITY_OF("+ECDHE-ECDSA:+ECDHE-RSA")
#define TLS_PRIORITY_PSK TLS_PRIORITY_OF("+ECDHE-PSK:+DHE-PSK")

struct credentials;
/* Returns 0, or a negative errno with a sentence in *ret_error (to be freed) that names the
   file. */
int credentials_load(const struct config_tls *c, struct credentials **ret_credentials,
		     char **ret_error);
/*
 * Loads them again if one of their files was replaced or changed since, as a renewal does. Returns
 * 1 and the new ones in *credentials (the old reference is given up); 0 if nothing has changed; a
 * negative errno with a sentence in *ret_error (to be freed) if the new files cannot be used:
 * *credentials stays as it is, and the next call tries again.
 */
int credentials_renew(const struct config_tls *c, struct credentials **credentials,
		      char **ret_error);
struct credentials *credentials_ref(struct credentials *c);
void credentials_unref(struct credentials *c);

/* When a certificate is valid, or of several the one that ends first: seconds since 1970, 0 if it
   is not known. */
struct validity {
	int64_t begin_s, end_s;
};
/* Of our own certificate and its chain; not known if there is none, or a token keeps it. */
struct validity credentials_own_validity(const struct credentials *c);
/* Of the authority that the broker's certificate rests on, as of the last connection; before there
   was one, of that in tls.ca_file which ends last: the others may be there for other brokers, or
   for a change of the authority. Not known of the system's trust store before a connection. */
struct validity credentials_trust_validity(const struct credentials *c, const struct config_tls *t);
/* Our own certificate, base64 of its DER form (to be freed); NULL: there is none, or no memory. */
char *credentials_own_certificate(const struct credentials *c);

/* Its common name (to be freed); NULL: there is no certificate, or it has no such name. */
char *credentials_own_name(const struct credentials *c);
/* Is it made for this host: is that its common name, or one of its DNS names? False without one. */
bool credentials_are_for(const struct credentials *c, const char *host);
