/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * signature - see signature.h.
 *
 * The envelope is {"payload":BASE64,"payloadType":TYPE,"signatures":[{"keyid":ID,"sig":BASE64}]}.
 * Signed is the pre-authentication encoding of the payload (DSSE 1.0.2, PAE): "DSSEv1 LENGTH TYPE
 * LENGTH PAYLOAD". The payload is {"core":BASE64,"ext":BASE64,"signedextattrs":[NAME,...]}.
 */
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdarg.h>

#include "spooler/base/hex.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/event/p256.h"
#include "spooler/event/signature.h"

#define PAYLOAD_TYPE "https://cloudevents.io/verifiability/dsse/v0.1"
#define DIGEST 32		      /* SHA-256 */
#define RAW_HALF (SIGNATURE_SIZE / 2) /* of a P-256 signature: r, and s */
#define DIGEST_BASE64 45
#define PAE_MAX (SIGNATURE_PAYLOAD_MAX + sizeof(PAYLOAD_TYPE) + 32)
#define MATERIAL_MAX 4096
#define PUBLIC_FILE_MAX (64 * 1024 * 1024) /* of a CRL; certificates have some KiB */

struct signer {
	gnutls_privkey_t key;
	gnutls_sign_algorithm_t algorithm;
	char key_id[SIGNATURE_KEY_ID];
	char *certificate;
	int64_t begin_s, end_s; /* of the certificate */
};

struct signing_trust {
	gnutls_x509_trust_list_t trust;
	gnutls_x509_crl_t *crls; /* revocation lists, of whatever authority */
	unsigned n_crls;
};

struct signing_certificate {
	gnutls_pubkey_t key;
	struct p256 *p256; /* NULL: the key is an Ed25519 key, and GnuTLS verifies */
	char *text;
	int64_t begin_s, end_s;
	int64_t revoked_s; /* INT64_MAX: it is not */
	char key_id[SIGNATURE_KEY_ID];
};

static void datum_release(gnutls_datum_t *d)
{
	gnutls_free(d->data);
}

/* Sets the sentence and passes the error through, so that a check reads `return fail(...)`. */
static int __attribute__((format(printf, 3, 4)))
fail(int error, char **ret_error, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (vasprintf(ret_error, format, ap) < 0)
		*ret_error = NULL;
	va_end(ap);
	return error;
}

static bool decode(const char *text, size_t size, gnutls_datum_t *ret)
{
	const gnutls_datum_t base64 = {(unsigned char *)text, (unsigned)size};

	return size > 0 && gnutls_base64_decode2(&base64, ret) >= 0;
}

static int reject(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EKEYREJECTED;
}

/* --- what is signed */

/* The SHA-256 of the concatenated SHA-256 of each part, in base64. */
static int digest_of(const struct iovec *parts, size_t n, char ret_base64[static DIGEST_BASE64])
{
	_cleanup_(datum_release) gnutls_datum_t text = {0};
	unsigned char part[DIGEST], digest[DIGEST];
	gnutls_hash_hd_t all;
	int r = 0;

	if (gnutls_hash_init(&all, GNUTLS_DIG_SHA256) < 0)
		return -ENOMEM;
	for (size_t i = 0; r >= 0 && i < n; i++) {
		r = gnutls_hash_fast(GNUTLS_DIG_SHA256, parts[i].iov_len ? parts[i].iov_base : "",
				     parts[i].iov_len, part);
		if (r >= 0)
			r = gnutls_hash(all, part, sizeof(part));
	}
	gnutls_hash_deinit(all, digest);
	if (r < 0 || gnutls_base64_encode2(&(gnutls_datum_t){digest, DIGEST}, &text) < 0)
		return -EIO;
	snprintf(ret_base64, DIGEST_BASE64, "%.*s", (int)text.size, (char *)text.data);
	return 0;
}

struct digests {
	char core[DIGEST_BASE64], extensions[DIGEST_BASE64];
};

static int digests_of(const struct verifiable *v, struct digests *ret)
{
	int r = digest_of(v->core, VERIFIABLE_CORE, ret->core);

	return r < 0 ? r : digest_of(v->extensions, v->n_extensions, ret->extensions);
}

/* Base64 and our own names: nothing in the payload needs to be escaped. */
static int payload_of(const struct verifiable *v, char ret[static SIGNATURE_PAYLOAD_MAX])
{
	struct digests d;
	int n, r;

	r = digests_of(v, &d);
	if (r < 0)
		return r;
	n = snprintf(ret, SIGNATURE_PAYLOAD_MAX, "{\"core\":\"%s\"", d.core);
	if (v->n_extensions > 0)
		n += snprintf(ret + n, SIGNATURE_PAYLOAD_MAX - (size_t)n,
			      ",\"ext\":\"%s\",\"signedextattrs\":[", d.extensions);
	for (size_t i = 0; i < v->n_extensions; i++)
		n += snprintf(ret + n, SIGNATURE_PAYLOAD_MAX - (size_t)n, "%s\"%s\"", i ? "," : "",
			      v->names[i]);
	return n + snprintf(ret + n, SIGNATURE_PAYLOAD_MAX - (size_t)n,
			    v->n_extensions > 0 ? "]}" : "}");
}

/* The pre-authentication encoding of a payload. */
static gnutls_datum_t pae_of(const void *payload, size_t size, unsigned char ret[static PAE_MAX])
{
	int n = snprintf((char *)ret, PAE_MAX, "DSSEv1 %zu %s %zu ", strlen(PAYLOAD_TYPE),
			 PAYLOAD_TYPE, size);

	memcpy(ret + n, payload, size);
	return (gnutls_datum_t){ret, (unsigned)((size_t)n + size)};
}

static int key_id_of(gnutls_pubkey_t key, char ret_id[static SIGNATURE_KEY_ID])
{
	unsigned char id[DIGEST];
	size_t size = sizeof(id);

	if (gnutls_pubkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, id, &size) < 0)
		return -EIO;
	hex_format(id, DIGEST, ret_id);
	return 0;
}

/* 0: a kind of key that we do not sign with. */
static gnutls_sign_algorithm_t algorithm_of(gnutls_pubkey_t key)
{
	gnutls_ecc_curve_t curve;

	switch (gnutls_pubkey_get_pk_algorithm(key, NULL)) {
	case GNUTLS_PK_ECDSA:
		if (gnutls_pubkey_export_ecc_raw2(key, &curve, NULL, NULL, 0) < 0 ||
		    curve != GNUTLS_ECC_CURVE_SECP256R1)
			return 0;
		return GNUTLS_SIGN_ECDSA_SHA256;
	case GNUTLS_PK_EDDSA_ED25519:
		return GNUTLS_SIGN_EDDSA_ED25519;
	default:
		return 0;
	}
}

/* --- the raw form of an ECDSA signature */

/* A number of a DER signature, 32 bytes wide: a leading zero goes, missing zeros come. */
static bool put_half(const gnutls_datum_t *number, unsigned char half[static RAW_HALF])
{
	const unsigned char *data = number->data;
	size_t size = number->size;

	while (size > RAW_HALF && *data == 0) {
		data++;
		size--;
	}
	if (size > RAW_HALF)
		return false;
	memset(half, 0, RAW_HALF - size);
	memcpy(half + RAW_HALF - size, data, size);
	return true;
}

/* Replaces the DER form by r||s. */
static int raw_signature(gnutls_datum_t *signature)
{
	_cleanup_(datum_release) gnutls_datum_t r = {0}, s = {0};
	unsigned char *raw = gnutls_malloc(2 * RAW_HALF);

	if (!raw)
		return -ENOMEM;
	if (gnutls_decode_rs_value(signature, &r, &s) < 0 || !put_half(&r, raw) ||
	    !put_half(&s, raw + RAW_HALF)) {
		gnutls_free(raw);
		return -EIO;
	}
	gnutls_free(signature->data);
	*signature = (gnutls_datum_t){raw, 2 * RAW_HALF};
	return 0;
}

/* --- signing */

static int envelope(const struct signer *s, const gnutls_datum_t *payload,
		    const gnutls_datum_t *signature, char **ret_material)
{
	_cleanup_(datum_release) gnutls_datum_t payload64 = {0}, sig64 = {0}, material = {0};
	_cleanup_free_ char *json = NULL;
	int n;

	if (gnutls_base64_encode2(payload, &payload64) < 0 ||
	    gnutls_base64_encode2(signature, &sig64) < 0)
		return -ENOMEM;
	n = asprintf(&json,
		     "{\"payload\":\"%.*s\",\"payloadType\":\"" PAYLOAD_TYPE
		     "\",\"signatures\":[{\"keyid\":\"%s\",\"sig\":\"%.*s\"}]}",
		     (int)payload64.size, (char *)payload64.data, s->key_id, (int)sig64.size,
		     (char *)sig64.data);
	if (n < 0) {
		json = NULL;
		return -ENOMEM;
	}
	if (gnutls_base64_encode2(&(gnutls_datum_t){(unsigned char *)json, (unsigned)n},
				  &material) < 0)
		return -ENOMEM;
	*ret_material = strndup((char *)material.data, material.size);
	return *ret_material ? 0 : -ENOMEM;
}

static int sign(struct signer *s, const gnutls_datum_t *data, gnutls_datum_t *ret_signature)
{
	const unsigned deterministic =
		s->algorithm == GNUTLS_SIGN_ECDSA_SHA256 ? GNUTLS_PRIVKEY_FLAG_REPRODUCIBLE : 0;

	/* Not every token can sign deterministically. */
	if (gnutls_privkey_sign_data2(s->key, s->algorithm, deterministic, data, ret_signature) <
		    0 &&
	    gnutls_privkey_sign_data2(s->key, s->algorithm, 0, data, ret_signature) < 0)
		return -EIO;
	return s->algorithm == GNUTLS_SIGN_ECDSA_SHA256 ? raw_signature(ret_signature) : 0;
}

int signer_sign(struct signer *s, const struct verifiable *parts, char **ret_material)
{
	_cleanup_(datum_release) gnutls_datum_t signature = {0};
	unsigned char pae[PAE_MAX];
	char payload[SIGNATURE_PAYLOAD_MAX];
	gnutls_datum_t data;
	int n, r;

	n = payload_of(parts, payload);
	if (n < 0)
		return n;
	data = pae_of(payload, (size_t)n, pae);
	r = sign(s, &data, &signature);
	if (r < 0)
		return r;
	return envelope(s, &(gnutls_datum_t){(unsigned char *)payload, (unsigned)n}, &signature,
			ret_material);
}

static char *resolve_path(const char *path)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	char *joined;

	if (path[0] == '/' || !directory)
		return strdup(path);
	return asprintf(&joined, "%s/%s", directory, path) < 0 ? NULL : joined;
}

static bool is_uri(const char *path)
{
	return strncasecmp(path, "pkcs11:", 7) == 0;
}

/* GnuTLS asks for the PIN of a token while it opens a key. */
static int give_pin(void *password, int attempt, const char *url, const char *label, unsigned flags,
		    char *pin, size_t size)
{
	if (!password || attempt > 0 || strlen(password) >= size)
		return GNUTLS_E_PKCS11_PIN_ERROR;
	strcpy(pin, password);
	return 0;
}

static int load_key(struct signer *s, const char *path, const char *password, char **ret_error)
{
	const char *why = NULL;
	gnutls_datum_t pem;
	char *text = NULL;
	size_t size = 0;
	int r;

	if (is_uri(path)) {
		gnutls_privkey_set_pin_function(s->key, give_pin, (void *)password);
		r = gnutls_privkey_import_url(s->key, path, 0);
		gnutls_privkey_set_pin_function(s->key, give_pin, NULL);
		return r < 0 ? fail(-EINVAL, ret_error, "cannot use the signing key '%s': %s", path,
				    gnutls_strerror(r))
			     : 0;
	}
	r = config_read_secret(path, &text, &size, &why);
	if (r < 0)
		return fail(r, ret_error, "cannot use the signing key '%s': %s", path,
			    why ? why : strerror(-r));
	pem = (gnutls_datum_t){(unsigned char *)text, (unsigned)size};
	r = gnutls_privkey_import_x509_raw(s->key, &pem, GNUTLS_X509_FMT_PEM, password, 0);
	explicit_bzero(text, size);
	free(text);
	if (r == GNUTLS_E_DECRYPTION_FAILED)
		return fail(
			-EINVAL, ret_error,
			"the signing key '%s' is encrypted; tls.key_password_file must name the "
			"file with its password",
			path);
	return r < 0 ? fail(-EINVAL, ret_error, "cannot use the signing key '%s': %s", path,
			    gnutls_strerror(r))
		     : 0;
}

/* A public file. An error of GnuTLS's. */
static int load_file(const char *path, gnutls_datum_t *ret_data)
{
	char *data;
	size_t size;

	if (safe_read_named(path, PUBLIC_FILE_MAX, &data, &size) < 0)
		return GNUTLS_E_FILE_ERROR;
	*ret_data = (gnutls_datum_t){(unsigned char *)data, (unsigned)size};
	return 0;
}

static int import_certificate(gnutls_x509_crt_t certificate, const char *path)
{
	_cleanup_(datum_release) gnutls_datum_t pem = {0};
	_cleanup_free_ char *full = resolve_path(path);
	int r;

	if (is_uri(path))
		return gnutls_x509_crt_import_url(certificate, path, 0);
	if (!full)
		return GNUTLS_E_MEMORY_ERROR;
	r = load_file(full, &pem);
	return r < 0 ? r : gnutls_x509_crt_import(certificate, &pem, GNUTLS_X509_FMT_PEM);
}

static int load_certificate(struct signer *s, const char *path, gnutls_pubkey_t ret_key,
			    char **ret_error)
{
	_cleanup_(datum_release) gnutls_datum_t der = {0}, base64 = {0};
	gnutls_x509_crt_t certificate = NULL;
	int r;

	if (gnutls_x509_crt_init(&certificate) < 0)
		return -ENOMEM;
	r = import_certificate(certificate, path);
	if (r >= 0)
		r = gnutls_pubkey_import_x509(ret_key, certificate, 0);
	if (r >= 0)
		r = gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_DER, &der);
	if (r >= 0)
		r = gnutls_base64_encode2(&der, &base64);
	s->begin_s = gnutls_x509_crt_get_activation_time(certificate);
	s->end_s = gnutls_x509_crt_get_expiration_time(certificate);
	gnutls_x509_crt_deinit(certificate);
	if (r < 0)
		return fail(-EINVAL, ret_error, "cannot read the signing certificate '%s': %s",
			    path, gnutls_strerror(r));
	s->certificate = strndup((char *)base64.data, base64.size);
	return s->certificate ? 0 : -ENOMEM;
}

static void pubkey_release(gnutls_pubkey_t *k)
{
	if (*k)
		gnutls_pubkey_deinit(*k);
}

static int signer_fill(struct signer *s, const struct config *c, const char *password,
		       char **ret_error)
{
	const char *key_file = c->events.sign_key_file ? c->events.sign_key_file : c->tls.key_file;
	const char *certificate_file = c->events.sign_certificate_file
					       ? c->events.sign_certificate_file
					       : c->tls.certificate_file;
	_cleanup_(pubkey_release) gnutls_pubkey_t key = NULL, certified = NULL;
	char certified_id[SIGNATURE_KEY_ID];
	int r;

	if (!key_file || !certificate_file)
		return fail(
			-EINVAL, ret_error,
			"events.sign needs a key and its certificate; set events.sign_key_file and "
			"events.sign_certificate_file, or tls.key_file and "
			"tls.certificate_file");
	if (gnutls_privkey_init(&s->key) < 0 || gnutls_pubkey_init(&key) < 0 ||
	    gnutls_pubkey_init(&certified) < 0)
		return -ENOMEM;
	r = load_key(s, key_file, password, ret_error);
	if (r >= 0)
		r = load_certificate(s, certificate_file, certified, ret_error);
	if (r < 0)
		return r;
	if (gnutls_pubkey_import_privkey(key, s->key, 0, 0) < 0 || key_id_of(key, s->key_id) < 0 ||
	    key_id_of(certified, certified_id) < 0)
		return fail(-EINVAL, ret_error, "cannot use the signing key '%s'", key_file);
	if (strcmp(s->key_id, certified_id) != 0)
		return fail(-EINVAL, ret_error,
			    "the signing key '%s' is not the one of the certificate '%s'", key_file,
			    certificate_file);
	s->algorithm = algorithm_of(key);
	if (!s->algorithm)
		return fail(
			-EINVAL, ret_error,
			"the signing key '%s' is neither ECDSA P-256 nor Ed25519 (it is %s; a signature "
			"with RSA takes as long as the delivery of twenty events); give this host a key "
			"of its own for signatures with `virtspool join --sign-only`, or set "
			"events.sign_key_file and events.sign_certificate_file",
			key_file,
			gnutls_pk_get_name(
				(gnutls_pk_algorithm_t)gnutls_pubkey_get_pk_algorithm(key, NULL)));
	return 0;
}

int signer_load(const struct config *c, struct signer **ret_signer, char **ret_error)
{
	struct signer *s = calloc(1, sizeof(*s));
	const char *why = NULL;
	char *password = NULL;
	size_t size = 0;
	int r = s ? 0 : -ENOMEM;

	*ret_error = NULL;
	if (r >= 0 && c->tls.key_password_file) {
		r = config_read_secret(c->tls.key_password_file, &password, &size, &why);
		if (r < 0)
			(void)fail(r, ret_error, "cannot use the key password file '%s': %s",
				   c->tls.key_password_file, why ? why : strerror(-r));
	}
	if (r >= 0)
		r = signer_fill(s, c, password, ret_error);
	if (password)
		explicit_bzero(password, size);
	free(password);
	if (r < 0) {
		signer_free(s);
		if (!*ret_error)
			*ret_error = strdup("out of memory while loading the signing key");
		return r;
	}
	*ret_signer = s;
	return 0;
}

void signer_free(struct signer *s)
{
	if (!s)
		return;
	if (s->key)
		gnutls_privkey_deinit(s->key);
	free(s->certificate);
	free(s);
}

const char *signer_key_id(const struct signer *s)
{
	return s->key_id;
}

const char *signer_certificate(const struct signer *s)
{
	return s->certificate;
}

int64_t signer_begin(const struct signer *s)
{
	return s->begin_s;
}

int64_t signer_end(const struct signer *s)
{
	return s->end_s;
}

/* --- the consumer's authority */

static int load_crls(struct signing_trust *a, const char *crl_file)
{
	_cleanup_(datum_release) gnutls_datum_t pem = {0};
	int r = load_file(crl_file, &pem);

	return r < 0 ? r
		     : gnutls_x509_crl_list_import2(&a->crls, &a->n_crls, &pem, GNUTLS_X509_FMT_PEM,
						    0);
}

int signing_trust_load(const char *ca_file, const char *crl_file, struct signing_trust **ret_trust,
		       char **ret_error)
{
	struct signing_trust *a = calloc(1, sizeof(*a));
	int r;

	if (!a || gnutls_x509_trust_list_init(&a->trust, 0) < 0) {
		free(a);
		*ret_error = strdup("out of memory while loading the authority");
		return -ENOMEM;
	}
	r = gnutls_x509_trust_list_add_trust_file(a->trust, ca_file, NULL, GNUTLS_X509_FMT_PEM, 0,
						  0);
	if (r <= 0) {
		signing_trust_free(a);
		return fail(-EINVAL, ret_error, "cannot read the CA file '%s': %s", ca_file,
			    r < 0 ? gnutls_strerror(r) : "it holds no certificate");
	}
	r = crl_file ? load_crls(a, crl_file) : 0;
	if (r < 0) {
		signing_trust_free(a);
		return fail(-EINVAL, ret_error, "cannot read the CRL file '%s': %s", crl_file,
			    gnutls_strerror(r));
	}
	*ret_trust = a;
	return 0;
}

void signing_trust_free(struct signing_trust *a)
{
	if (!a)
		return;
	for (unsigned i = 0; i < a->n_crls; i++)
		gnutls_x509_crl_deinit(a->crls[i]);
	gnutls_free(a->crls);
	gnutls_x509_trust_list_deinit(a->trust, 1);
	free(a);
}

int signing_trust_each(const struct signing_trust *a,
		       int (*fn)(const char *base64, const char *fingerprint, void *userdata),
		       void *userdata)
{
	gnutls_x509_trust_list_iter_t i = NULL;
	gnutls_x509_crt_t authority;
	int r = 0;

	while (r >= 0 && gnutls_x509_trust_list_iter_get_ca(a->trust, &i, &authority) >= 0) {
		_cleanup_(datum_release) gnutls_datum_t der = {0}, base64 = {0};
		unsigned char digest[DIGEST];
		char fingerprint[SIGNATURE_KEY_ID];

		r = -ENOMEM;
		if (gnutls_x509_crt_export2(authority, GNUTLS_X509_FMT_DER, &der) >= 0 &&
		    gnutls_base64_encode2(&der, &base64) >= 0 &&
		    gnutls_hash_fast(GNUTLS_DIG_SHA256, der.data, der.size, digest) >= 0) {
			hex_format(digest, DIGEST, fingerprint);
			r = fn((char *)base64.data, fingerprint, userdata);
		}
		gnutls_x509_crt_deinit(authority);
	}
	gnutls_x509_trust_list_iter_deinit(i);
	return r;
}

/* --- a host's certificate */

static bool names_host(gnutls_x509_crt_t certificate, const char *host)
{
	char name[256];
	size_t size;

	for (unsigned i = 0;; i++) {
		size = sizeof(name) - 1;
		int r = gnutls_x509_crt_get_subject_alt_name(certificate, i, name, &size, NULL);

		if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			break;
		if (r == GNUTLS_SAN_DNSNAME && size == strlen(host) &&
		    strncasecmp(name, host, size) == 0)
			return true;
	}
	size = sizeof(name);
	return gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name,
					     &size) >= 0 &&
	       strlen(host) == size && strncasecmp(name, host, size) == 0;
}

/* The dates are looked at for each event, at that event's time. */
static int check_chain(const struct signing_trust *a, gnutls_x509_crt_t certificate,
		       const char *host, char **ret_why)
{
	_cleanup_(datum_release) gnutls_datum_t text = {0};
	unsigned status = 0;

	if (gnutls_x509_trust_list_verify_crt(a->trust, &certificate, 1,
					      GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status, NULL) < 0)
		return fail(-EKEYREJECTED, ret_why, "the certificate cannot be verified");
	if (status) {
		(void)gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text,
								   0);
		return fail(-EKEYREJECTED, ret_why, "the certificate is not acceptable: %s",
			    text.data ? (char *)text.data : "it does not come from our CA");
	}
	if (!names_host(certificate, host))
		return fail(-EKEYREJECTED, ret_why, "the certificate does not name the host '%s'",
			    host);
	/* The broker may run on the host, and has a certificate of this name as well. */
	if (!gnutls_x509_crt_check_key_purpose(certificate, GNUTLS_KP_TLS_WWW_CLIENT, 0))
		return fail(-EKEYREJECTED, ret_why, "the certificate is not for a client's use");
	return 0;
}

/* Is this list of the authority that issued the certificate, and signed by it? An old one counts.
   */
static bool is_list_for(const struct signing_trust *a, gnutls_x509_crl_t crl,
			gnutls_x509_crt_t certificate)
{
	const unsigned old = GNUTLS_CERT_INVALID | GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED |
			     GNUTLS_CERT_REVOCATION_DATA_ISSUED_IN_FUTURE;
	gnutls_x509_crt_t issuer;
	unsigned status;

	return gnutls_x509_trust_list_get_issuer(a->trust, certificate, &issuer, 0) >= 0 &&
	       gnutls_x509_crl_verify(crl, &issuer, 1, 0, &status) >= 0 && !(status & ~old);
}

/* When a list says that the certificate was revoked; INT64_MAX: none does. */
static int64_t revocation_of(const struct signing_trust *a, gnutls_x509_crt_t certificate)
{
	unsigned char own[128], serial[128];
	size_t own_size = sizeof(own), size;
	int64_t revoked = INT64_MAX;
	time_t when;

	if (gnutls_x509_crt_get_serial(certificate, own, &own_size) < 0)
		return revoked;
	for (unsigned i = 0; i < a->n_crls; i++) {
		gnutls_x509_crl_iter_t iterator = NULL;

		if (!is_list_for(a, a->crls[i], certificate))
			continue;
		while (size = sizeof(serial),
		       gnutls_x509_crl_iter_crt_serial(a->crls[i], &iterator, serial, &size,
						       &when) >= 0)
			if (size == own_size && memcmp(serial, own, size) == 0 && when < revoked)
				revoked = when;
		gnutls_x509_crl_iter_deinit(iterator);
	}
	return revoked;
}

static int take_key(struct signing_certificate *c, gnutls_x509_crt_t certificate, char **ret_why)
{
	_cleanup_(datum_release) gnutls_datum_t spki = {0};
	gnutls_sign_algorithm_t algorithm = 0;

	if (gnutls_pubkey_init(&c->key) < 0)
		return -ENOMEM;
	if (gnutls_pubkey_import_x509(c->key, certificate, 0) >= 0 &&
	    key_id_of(c->key, c->key_id) >= 0 &&
	    gnutls_pubkey_export2(c->key, GNUTLS_X509_FMT_DER, &spki) >= 0)
		algorithm = algorithm_of(c->key);
	if (!algorithm ||
	    (algorithm == GNUTLS_SIGN_ECDSA_SHA256 && p256_new(spki.data, spki.size, &c->p256) < 0))
		return fail(-EKEYREJECTED, ret_why,
			    "the certificate's key is neither ECDSA P-256 nor Ed25519");
	c->begin_s = gnutls_x509_crt_get_activation_time(certificate);
	c->end_s = gnutls_x509_crt_get_expiration_time(certificate);
	return 0;
}

int signing_certificate_load(const struct signing_trust *a, const char *base64, const char *host,
			     struct signing_certificate **ret_certificate, char **ret_why)
{
	_cleanup_(datum_release) gnutls_datum_t der = {0};
	struct signing_certificate *c = calloc(1, sizeof(*c));
	gnutls_x509_crt_t certificate = NULL;
	int r;

	*ret_why = NULL;
	if (!c || gnutls_x509_crt_init(&certificate) < 0) {
		free(c);
		return -ENOMEM;
	}
	if (!decode(base64, strlen(base64), &der) ||
	    gnutls_x509_crt_import(certificate, &der, GNUTLS_X509_FMT_DER) < 0)
		r = fail(-EKEYREJECTED, ret_why, "the host sent no readable certificate");
	else
		r = check_chain(a, certificate, host, ret_why);
	if (r >= 0)
		r = take_key(c, certificate, ret_why);
	if (r >= 0 && !(c->text = strdup(base64)))
		r = -ENOMEM;
	if (r >= 0)
		c->revoked_s = revocation_of(a, certificate);
	gnutls_x509_crt_deinit(certificate);
	if (r < 0) {
		signing_certificate_free(c);
		return r;
	}
	*ret_certificate = c;
	return 0;
}

void signing_certificate_free(struct signing_certificate *c)
{
	if (!c)
		return;
	if (c->key)
		gnutls_pubkey_deinit(c->key);
	p256_free(c->p256);
	free(c->text);
	free(c);
}

const char *signing_certificate_key_id(const struct signing_certificate *c)
{
	return c->key_id;
}

const char *signing_certificate_text(const struct signing_certificate *c)
{
	return c->text;
}

/* --- verifying */

/* Decodes base64 into at most `max` bytes. */
static bool decode_into(const char *text, void *ret, size_t max, size_t *ret_size)
{
	_cleanup_(datum_release) gnutls_datum_t data = {0};

	if (!decode(text, strlen(text), &data) || data.size > max)
		return false;
	memcpy(ret, data.data, data.size);
	*ret_size = data.size;
	return true;
}

/* Of several signatures, the first counts: one is all that we make. */
static bool read_envelope(json_t *envelope, struct signature *ret)
{
	const char *payload, *type, *id, *raw;
	size_t raw_size;

	if (json_unpack(envelope, "{s:s, s:s, s:[{s:s, s:s}]}", "payload", &payload, "payloadType",
			&type, "signatures", "keyid", &id, "sig", &raw) < 0 ||
	    strcmp(type, PAYLOAD_TYPE) != 0 || strlen(id) != SIGNATURE_KEY_ID - 1 ||
	    strspn(id, "0123456789abcdef") != SIGNATURE_KEY_ID - 1)
		return false;
	memcpy(ret->key_id, id, SIGNATURE_KEY_ID);
	return decode_into(payload, ret->payload, sizeof(ret->payload), &ret->payload_size) &&
	       decode_into(raw, ret->raw, sizeof(ret->raw), &raw_size) &&
	       raw_size == sizeof(ret->raw);
}

int signature_read(const char *material, struct signature *ret_signature)
{
	_cleanup_(datum_release) gnutls_datum_t json = {0};
	json_auto_t *envelope = NULL;
	size_t size = strnlen(material, MATERIAL_MAX + 1);

	if (size > MATERIAL_MAX || !decode(material, size, &json))
		return -EBADMSG;
	envelope = json_loadb((char *)json.data, json.size, JSON_REJECT_DUPLICATES, NULL);
	return envelope && read_envelope(envelope, ret_signature) ? 0 : -EBADMSG;
}

static bool signature_holds(const struct signature *s, const struct signing_certificate *c)
{
	unsigned char pae[PAE_MAX];
	const gnutls_datum_t data = pae_of(s->payload, s->payload_size, pae);
	const gnutls_datum_t raw = {(unsigned char *)s->raw, sizeof(s->raw)};

	if (c->p256)
		return p256_verify(c->p256, data.data, data.size, s->raw);
	return gnutls_pubkey_verify_data2(c->key, GNUTLS_SIGN_EDDSA_ED25519, 0, &data, &raw) >= 0;
}

/* Do core, ext and signedextattrs of the signed payload say what the event says? */
static int compare(const json_t *payload, const json_t *event, const char *data, size_t size,
		   const char **ret_why)
{
	const char *core = json_string_value(json_object_get(payload, "core"));
	const char *extensions = json_string_value(json_object_get(payload, "ext"));
	const json_t *names = json_object_get(payload, "signedextattrs");
	struct verifiable v;
	struct digests d;

	if (!core || !extensions != !names || (names && !json_is_array(names)) ||
	    verifiable_parts_listed(event, data, size, names, &v) < 0)
		return reject(ret_why, "its signature does not describe such an event");
	if (verifiable_lacks_extension(&v, event))
		return reject(ret_why, "an extension of the event is not signed");
	if (digests_of(&v, &d) < 0)
		return reject(ret_why, "its digest cannot be computed");
	if (strcmp(core, d.core) != 0 || (extensions && strcmp(extensions, d.extensions) != 0))
		return reject(ret_why, "the event was changed after it was signed");
	return 0;
}

int signature_verify(const struct signature *s, const struct signing_certificate *c,
		     const json_t *event, const char *data, size_t size, int64_t time_s,
		     const char **ret_why)
{
	json_auto_t *signed_payload = NULL;

	if (strcmp(s->key_id, c->key_id) != 0)
		return reject(ret_why, "it is signed with another key than the host's");
	if (time_s < c->begin_s || time_s > c->end_s)
		return reject(ret_why, "the certificate was not valid at the event's time");
	if (time_s >= c->revoked_s)
		return reject(ret_why, "the certificate was revoked before the event's time");
	if (!signature_holds(s, c))
		return reject(ret_why, "the signature is wrong");
	signed_payload =
		json_loadb((const char *)s->payload, s->payload_size, JSON_REJECT_DUPLICATES, NULL);
	return compare(signed_payload, event, data, size, ret_why);
}
