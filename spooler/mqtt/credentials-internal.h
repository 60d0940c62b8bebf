/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* credentials-internal - what credentials.c, verify.c and tls.c share: credentials as GnuTLS has
   them. */
#pragma once

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "spooler/mqtt/credentials.h"

#define PIN_SIZE 32 /* SHA-256 */
#define FILES_MAX 6

/* A file that credentials were made of, as it was then. */
struct credential_file {
	char *path;
	struct stat st; /* all zero: it could not be looked at */
};

struct credentials {
	unsigned n_ref;
	/* Trust, CRL and our own certificate; NULL with a PSK. */
	gnutls_certificate_credentials_t certificates;
	gnutls_psk_client_credentials_t psk; /* NULL without */
	gnutls_priority_t priority;
	gnutls_protocol_t minimum_version;
	char *alpn; /* NULL: none is offered */
	unsigned char (*pins)[PIN_SIZE];
	size_t n_pins;
	bool verify_chain; /* false: pins are given and no CA, so that the pins are the trust */
	struct credential_file files[FILES_MAX];
	unsigned n_files;
	/* Our certificate for a server whatever authorities it says it accepts; NULL: there is
	   none, or it is a token's, which GnuTLS chooses itself. */
	bool from_token;
	gnutls_pcert_st *own;
	unsigned n_own;
	gnutls_privkey_t own_key;
	char *ca_name; /* for sentences: the file's name, or the system's trust store */
	char *crl_name;
	gnutls_x509_crl_t *crls; /* those of the CRL file */
	unsigned n_crls;
	struct validity authority; /* that the last verified server rests on */
};

struct validity certificate_validity(gnutls_x509_crt_t certificate);

static inline void gnutls_datum_release(gnutls_datum_t *d)
{
	gnutls_free(d->data);
}

/*
 * If the authorities that a server accepts (raw names, as GnuTLS has them) are not those of our
 * certificate, puts that into words that follow a sentence; otherwise the text is empty.
 */
void credentials_compare_authorities(const struct credentials *c, const gnutls_datum_t *accepted,
				     int n_accepted, char *text, size_t size);
