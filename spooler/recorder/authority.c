/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* authority - see authority.h. */
#include <arpa/inet.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "spooler/base/util.h"
#include "spooler/recorder/authority.h"

#define SERIAL_SIZE 16
#define CLOCK_SKEW_S 3600 /* a host's clock may be behind */
#define YEAR_S (365 * 86400L)

struct authority {
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
	char *crt_pem, *key_pem;
};

static int fail(char **ret_error, const char *what, int error)
{
	if (asprintf(ret_error, "%s: %s", what, gnutls_strerror(error)) < 0)
		*ret_error = NULL;
	return -EINVAL;
}

/* --- PEM */

static char *text_of(gnutls_datum_t *d)
{
	char *text = strndup((char *)d->data, d->size);

	gnutls_memset(d->data, 0, d->size);
	gnutls_free(d->data);
	return text;
}

static int export_certificate(gnutls_x509_crt_t crt, char **ret_pem)
{
	gnutls_datum_t d;
	int r = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &d);

	if (r >= 0 && !(*ret_pem = text_of(&d)))
		r = GNUTLS_E_MEMORY_ERROR;
	return r;
}

static int export_key(gnutls_x509_privkey_t key, char **ret_pem)
{
	gnutls_datum_t d;
	int r = gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
						  &d);

	if (r >= 0 && !(*ret_pem = text_of(&d)))
		r = GNUTLS_E_MEMORY_ERROR;
	return r;
}

/* --- certificates */

static int make_key(gnutls_x509_privkey_t *ret_key)
{
	int r = gnutls_x509_privkey_init(ret_key);

	return r < 0 ? r
		     : gnutls_x509_privkey_generate(
			       *ret_key, GNUTLS_PK_ECDSA,
			       GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
}

/* What all certificates have: key, name, serial, identifiers, validity. */
static int make_certificate(gnutls_x509_privkey_t key, const char *name, long years,
			    gnutls_x509_crt_t *ret_crt)
{
	unsigned char serial[SERIAL_SIZE], id[64];
	size_t size = sizeof(id);
	time_t now = time(NULL);
	gnutls_x509_crt_t c;
	int r = gnutls_x509_crt_init(ret_crt);

	if (r < 0)
		return r;
	c = *ret_crt;
	r = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));
	serial[0] = (serial[0] & 0x3f) | 0x40; /* positive, and always as long */
	if (r >= 0)
		r = gnutls_x509_crt_set_version(c, 3);
	if (r >= 0)
		r = gnutls_x509_crt_set_key(c, key);
	if (r >= 0)
		r = gnutls_x509_crt_set_dn_by_oid(c, GNUTLS_OID_X520_COMMON_NAME, 0, name,
						  (unsigned)strlen(name));
	if (r >= 0)
		r = gnutls_x509_crt_set_serial(c, serial, sizeof(serial));
	if (r >= 0)
		r = gnutls_x509_crt_set_activation_time(c, now - CLOCK_SKEW_S);
	if (r >= 0)
		r = gnutls_x509_crt_set_expiration_time(c, now + years * YEAR_S);
	if (r >= 0)
		r = gnutls_x509_crt_get_key_id(c, 0, id, &size);
	return r < 0 ? r : gnutls_x509_crt_set_subject_key_id(c, id, size);
}

static int add_names(gnutls_x509_crt_t c, const char *const *names, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++) {
		unsigned char address[16];
		size_t size = inet_pton(AF_INET, names[i], address) == 1    ? 4
			      : inet_pton(AF_INET6, names[i], address) == 1 ? 16
									    : 0;

		r = size ? gnutls_x509_crt_set_subject_alt_name(c, GNUTLS_SAN_IPADDRESS, address,
								(unsigned)size, GNUTLS_FSAN_APPEND)
			 : gnutls_x509_crt_set_subject_alt_name(c, GNUTLS_SAN_DNSNAME, names[i],
								(unsigned)strlen(names[i]),
								GNUTLS_FSAN_APPEND);
	}
	return r;
}

/* --- the authority */

int authority_new(const char *name, struct authority **ret_authority, char **ret_error)
{
	struct authority *a = calloc(1, sizeof(*a));
	int r;

	*ret_error = NULL;
	if (!a)
		return -ENOMEM;
	r = make_key(&a->key);
	if (r >= 0)
		r = make_certificate(a->key, name, AUTHORITY_YEARS, &a->crt);
	if (r >= 0)
		r = gnutls_x509_crt_set_basic_constraints(a->crt, 1, 0);
	if (r >= 0)
		r = gnutls_x509_crt_set_key_usage(a->crt,
						  GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN);
	if (r >= 0)
		r = gnutls_x509_crt_sign2(a->crt, a->crt, a->key, GNUTLS_DIG_SHA256, 0);
	if (r >= 0)
		r = export_certificate(a->crt, &a->crt_pem);
	if (r >= 0)
		r = export_key(a->key, &a->key_pem);
	if (r < 0) {
		authority_free(a);
		return fail(ret_error, "cannot make a certificate authority", r);
	}
	*ret_authority = a;
	return 0;
}

int authority_load(const char *certificate, const char *key, struct authority **ret_authority,
		   char **ret_error)
{
	gnutls_datum_t c = {(unsigned char *)(uintptr_t)certificate, (unsigned)strlen(certificate)};
	gnutls_datum_t k = {(unsigned char *)(uintptr_t)key, (unsigned)strlen(key)};
	unsigned char of_crt[64], of_key[64];
	size_t n = sizeof(of_crt), m = sizeof(of_key);
	struct authority *a = calloc(1, sizeof(*a));
	int r;

	*ret_error = NULL;
	if (!a)
		return -ENOMEM;
	r = gnutls_x509_crt_init(&a->crt);
	if (r >= 0)
		r = gnutls_x509_crt_import(a->crt, &c, GNUTLS_X509_FMT_PEM);
	if (r >= 0)
		r = gnutls_x509_privkey_init(&a->key);
	if (r >= 0)
		r = gnutls_x509_privkey_import2(a->key, &k, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (r >= 0)
		r = gnutls_x509_crt_get_key_id(a->crt, GNUTLS_KEYID_USE_SHA256, of_crt, &n);
	if (r >= 0)
		r = gnutls_x509_privkey_get_key_id(a->key, GNUTLS_KEYID_USE_SHA256, of_key, &m);
	if (r >= 0 && (n != m || memcmp(of_crt, of_key, n) != 0))
		r = GNUTLS_E_CERTIFICATE_KEY_MISMATCH;
	if (r >= 0 && gnutls_x509_crt_get_ca_status(a->crt, NULL) <= 0)
		r = GNUTLS_E_CERTIFICATE_ERROR;
	a->crt_pem = strdup(certificate);
	a->key_pem = strdup(key);
	if (r < 0 || !a->crt_pem || !a->key_pem) {
		authority_free(a);
		return fail(ret_error, "this is not a certificate authority and its key",
			    r < 0 ? r : GNUTLS_E_MEMORY_ERROR);
	}
	*ret_authority = a;
	return 0;
}

void authority_free(struct authority *a)
{
	if (!a)
		return;
	if (a->crt)
		gnutls_x509_crt_deinit(a->crt);
	if (a->key)
		gnutls_x509_privkey_deinit(a->key);
	if (a->key_pem)
		explicit_bzero(a->key_pem, strlen(a->key_pem));
	free(a->key_pem);
	free(a->crt_pem);
	free(a);
}

const char *authority_certificate(const struct authority *a)
{
	return a->crt_pem;
}

const char *authority_key(const struct authority *a)
{
	return a->key_pem;
}

static int sign(struct authority *a, gnutls_x509_crt_t c, const char *const *names, size_t n_names)
{
	unsigned char id[64];
	size_t size = sizeof(id);
	int r = add_names(c, names, n_names);

	if (r >= 0)
		r = gnutls_x509_crt_set_basic_constraints(c, 0, -1);
	if (r >= 0)
		r = gnutls_x509_crt_set_key_usage(c, GNUTLS_KEY_DIGITAL_SIGNATURE);
	if (r >= 0)
		r = gnutls_x509_crt_set_key_purpose_oid(
			c, n_names ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT, 0);
	if (r >= 0 && gnutls_x509_crt_get_subject_key_id(a->crt, id, &size, NULL) >= 0)
		r = gnutls_x509_crt_set_authority_key_id(c, id, size);
	return r < 0 ? r : gnutls_x509_crt_sign2(c, a->crt, a->key, GNUTLS_DIG_SHA256, 0);
}

int authority_issue(struct authority *a, const char *name, const char *const *names, size_t n_names,
		    char **ret_certificate, char **ret_key, char **ret_error)
{
	gnutls_x509_privkey_t key = NULL;
	gnutls_x509_crt_t c = NULL;
	int r = make_key(&key);

	*ret_certificate = *ret_key = *ret_error = NULL;
	if (r >= 0)
		r = make_certificate(key, name, CERTIFICATE_YEARS, &c);
	if (r >= 0)
		r = sign(a, c, names, n_names);
	if (r >= 0)
		r = export_certificate(c, ret_certificate);
	if (r >= 0)
		r = export_key(key, ret_key);
	if (c)
		gnutls_x509_crt_deinit(c);
	if (key)
		gnutls_x509_privkey_deinit(key);
	if (r >= 0)
		return 0;
	free(*ret_certificate);
	*ret_certificate = NULL;
	return fail(ret_error, "cannot issue a certificate", r);
}
