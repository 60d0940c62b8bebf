/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * credentials - from the files that the configuration names to what GnuTLS wants: trust (CA file or
 * the system's store, CRL, pins), our own certificate with its key (files or PKCS#11 objects), a
 * pre-shared key, and the priorities.
 *
 * Everything is read and checked when it is loaded, so that a broken file is reported at start or
 * reload and the old credentials stay in use. Secrets are wiped from our memory once GnuTLS has
 * them. A relative path is looked for in $CREDENTIALS_DIRECTORY, where systemd puts what
 * LoadCredential= names.
 */
#include <ctype.h>
#include <gnutls/x509.h>
#include <stdarg.h>

#include "spooler/base/hex.h"
#include "spooler/mqtt/credentials-internal.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"

#define PUBLIC_FILE_MAX (64 * 1024 * 1024) /* of a CRL; certificates have some KiB */
#define SYSTEM_STORE "the system's trust store"

struct secret {
	char *data;
	size_t size;
};

static void secret_release(struct secret *s)
{
	if (s->data)
		explicit_bzero(s->data, s->size);
	free(s->data);
	*s = (struct secret){0};
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

static int read_secret(const char *what, const char *path, struct secret *ret_secret,
		       char **ret_error)
{
	const char *why = NULL;
	int r;

	r = config_read_secret(path, &ret_secret->data, &ret_secret->size, &why);
	if (r < 0)
		return fail(r, ret_error, "cannot use the %s '%s': %s", what, path,
			    why ? why : strerror(-r));
	return 0;
}

static char *resolve_path(const char *path)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	char *joined;

	if (path[0] == '/' || !directory)
		return strdup(path);
	if (asprintf(&joined, "%s/%s", directory, path) < 0)
		return NULL;
	return joined;
}

static bool is_uri(const char *path)
{
	return strncasecmp(path, "pkcs11:", 7) == 0;
}

/* Takes note of a file before it is read: one that is replaced meanwhile counts as changed. */
static int note_file(struct credentials *c, const char *path)
{
	struct credential_file *f = &c->files[c->n_files];

	if (!path || is_uri(path))
		return 0;
	f->path = resolve_path(path);
	if (!f->path)
		return -ENOMEM;
	c->n_files++;
	if (stat(f->path, &f->st) < 0)
		f->st = (struct stat){0};
	return 0;
}

static int note_files(struct credentials *c, const struct config_tls *t)
{
	const char *paths[FILES_MAX] = {t->ca_file,  t->crl_file,	   t->certificate_file,
					t->key_file, t->key_password_file, t->psk_key_file};
	int r = 0;

	for (size_t i = 0; i < FILES_MAX && r == 0; i++)
		r = note_file(c, paths[i]);
	return r;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static bool is_stale(const struct credentials *c)
{
	struct stat st;

	for (unsigned i = 0; i < c->n_files; i++) {
		if (stat(c->files[i].path, &st) < 0)
			st = (struct stat){0};
		if (!same_file(&st, &c->files[i].st))
			return true;
	}
	return false;
}

/* A public file: certificates, CRLs. */
static int load_file(const char *what, const char *path, gnutls_datum_t *ret_data, char **ret_error)
{
	_cleanup_free_ char *full = resolve_path(path);
	char *data;
	size_t size;
	int r;

	if (!full)
		return -ENOMEM;
	r = safe_read_named(full, PUBLIC_FILE_MAX, &data, &size);
	if (r < 0)
		return fail(r, ret_error, "cannot read the %s '%s': %s", what, path,
			    safe_read_error(r));
	*ret_data = (gnutls_datum_t){(unsigned char *)data, (unsigned)size};
	return 0;
}

static int load_trust(const struct config_tls *t, struct credentials *c, char **ret_error)
{
	_cleanup_(gnutls_datum_release) gnutls_datum_t pem = {0};
	int r;

	c->verify_chain = t->ca_file || c->n_pins == 0;
	if (!t->ca_file) {
		c->ca_name = strdup(SYSTEM_STORE);
		if (!c->ca_name)
			return -ENOMEM;
		if (!c->verify_chain)
			return 0;
		r = gnutls_certificate_set_x509_system_trust(c->certificates);
		if (r < 0)
			return fail(-ENOENT, ret_error, "cannot load %s: %s", SYSTEM_STORE,
				    gnutls_strerror(r));
		if (r == 0)
			return fail(-ENOENT, ret_error,
				    "%s holds no CA certificate (package ca-certificates); "
				    "name one with tls.ca_file",
				    SYSTEM_STORE);
		return 0;
	}
	if (asprintf(&c->ca_name, "'%s'", t->ca_file) < 0) {
		c->ca_name = NULL;
		return -ENOMEM;
	}
	r = load_file("CA file", t->ca_file, &pem, ret_error);
	if (r < 0)
		return r;
	r = gnutls_certificate_set_x509_trust_mem(c->certificates, &pem, GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return fail(-EINVAL, ret_error, "cannot read the CA file '%s': %s", t->ca_file,
			    gnutls_strerror(r));
	if (r == 0)
		return fail(-EINVAL, ret_error, "the CA file '%s' holds no certificate",
			    t->ca_file);
	return 0;
}

static int load_crl(const struct config_tls *t, struct credentials *c, char **ret_error)
{
	_cleanup_(gnutls_datum_release) gnutls_datum_t pem = {0};
	int r;

	if (!t->crl_file)
		return 0;
	if (!c->verify_chain)
		return fail(-EINVAL, ret_error,
			    "tls.crl_file needs tls.ca_file: keys in tls.pins cannot be revoked");
	if (asprintf(&c->crl_name, "'%s'", t->crl_file) < 0) {
		c->crl_name = NULL;
		return -ENOMEM;
	}
	r = load_file("CRL file", t->crl_file, &pem, ret_error);
	if (r < 0)
		return r;
	r = gnutls_certificate_set_x509_crl_mem(c->certificates, &pem, GNUTLS_X509_FMT_PEM);
	if (r <= 0)
		return fail(-EINVAL, ret_error, "the CRL file '%s' holds no revocation list: %s",
			    t->crl_file, r < 0 ? gnutls_strerror(r) : "none found");
	/* Once more, to be looked at by verify.c. */
	r = gnutls_x509_crl_list_import2(&c->crls, &c->n_crls, &pem, GNUTLS_X509_FMT_PEM, 0);
	if (r < 0)
		return fail(-EINVAL, ret_error, "cannot read the CRL file '%s': %s", t->crl_file,
			    gnutls_strerror(r));
	return 0;
}

/* Does systemd pass it to the unit? Before version 260 it does so only when the unit starts. */
static bool is_credential(const char *path)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	size_t n = directory ? strlen(directory) : 0;

	if (n == 0 || is_uri(path))
		return false;
	return path[0] != '/' || (strncmp(path, directory, n) == 0 && path[n] == '/');
}

static int certificate_error(int code, const struct config_tls *t, char **ret_error)
{
	if (code == GNUTLS_E_DECRYPTION_FAILED)
		return fail(-EINVAL, ret_error,
			    t->key_password_file
				    ? "the password in tls.key_password_file does not open "
				      "the key '%s'"
				    : "the key '%s' is encrypted and tls.key_password_file "
				      "is not set",
			    t->key_file);
	if (code == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
		return fail(-EINVAL, ret_error,
			    "the key '%s' is not the one of the certificate '%s'%s", t->key_file,
			    t->certificate_file,
			    is_credential(t->key_file) != is_credential(t->certificate_file)
				    ? "; if it was renewed, restart the unit: systemd reads "
				      "LoadCredential= only at start"
				    : "");
	if (code == GNUTLS_E_PKCS11_PIN_ERROR || code == GNUTLS_E_PKCS11_PIN_LOCKED)
		return fail(-EINVAL, ret_error, "the token refuses the PIN of '%s' (%s)",
			    t->key_file, gnutls_strerror(code));
	return fail(-EINVAL, ret_error, "cannot use the certificate '%s' with the key '%s': %s",
		    t->certificate_file, t->key_file, gnutls_strerror(code));
}

/* Objects of a token, or a mix: GnuTLS opens them itself. The password is the token's PIN. */
static int load_own_from_token(const struct config_tls *t, struct credentials *c,
			       const char *password, char **ret_error)
{
	_cleanup_free_ char *certificate = is_uri(t->certificate_file)
						   ? strdup(t->certificate_file)
						   : resolve_path(t->certificate_file);
	_cleanup_free_ char *key =
		is_uri(t->key_file) ? strdup(t->key_file) : resolve_path(t->key_file);
	int r;

	if (!certificate || !key)
		return -ENOMEM;
	r = gnutls_certificate_set_x509_key_file2(c->certificates, certificate, key,
						  GNUTLS_X509_FMT_PEM, password, 0);
	return r < 0 ? certificate_error(r, t, ret_error) : 0;
}

static int load_own_from_files(const struct config_tls *t, struct credentials *c,
			       const char *password, char **ret_error)
{
	_cleanup_(gnutls_datum_release) gnutls_datum_t certificate = {0};
	_cleanup_(secret_release) struct secret key = {0};
	gnutls_datum_t key_data;
	int r;

	r = load_file("certificate", t->certificate_file, &certificate, ret_error);
	if (r < 0)
		return r;
	r = read_secret("key", t->key_file, &key, ret_error);
	if (r < 0)
		return r;
	key_data = (gnutls_datum_t){.data = (unsigned char *)key.data, .size = (unsigned)key.size};
	r = gnutls_certificate_set_x509_key_mem2(c->certificates, &certificate, &key_data,
						 GNUTLS_X509_FMT_PEM, password, 0);
	return r < 0 ? certificate_error(r, t, ret_error) : 0;
}

/* So that they can be sent whatever authorities the server names, see on_certificate_request(). */
static int keep_own(struct credentials *c)
{
	gnutls_x509_crt_t *list = NULL;
	gnutls_x509_privkey_t key = NULL;
	unsigned n = 0;
	int r;

	r = gnutls_certificate_get_x509_key(c->certificates, 0, &key);
	if (r >= 0)
		r = gnutls_certificate_get_x509_crt(c->certificates, 0, &list, &n);
	c->own = r >= 0 ? calloc(n, sizeof(*c->own)) : NULL;
	for (unsigned i = 0; i < n; i++) {
		if (c->own && gnutls_pcert_import_x509(&c->own[c->n_own], list[i], 0) >= 0)
			c->n_own++;
		gnutls_x509_crt_deinit(list[i]);
	}
	gnutls_free(list);
	if (r >= 0)
		r = gnutls_privkey_init(&c->own_key);
	if (r >= 0) /* which takes the key over */
		r = gnutls_privkey_import_x509(c->own_key, key, GNUTLS_PRIVKEY_IMPORT_AUTO_RELEASE);
	if (r < 0 && key)
		gnutls_x509_privkey_deinit(key);
	return r < 0 || c->n_own != n ? -ENOMEM : 0;
}

static int load_own(const struct config_tls *t, struct credentials *c, char **ret_error)
{
	_cleanup_(secret_release) struct secret password = {0};
	int r;

	if (!t->certificate_file && !t->key_file)
		return 0;
	if (!t->certificate_file || !t->key_file)
		return fail(-EINVAL, ret_error,
			    "tls.certificate_file and tls.key_file belong together");
	if (t->key_password_file) {
		r = read_secret("key password file", t->key_password_file, &password, ret_error);
		if (r < 0)
			return r;
	}
	c->from_token = is_uri(t->certificate_file) || is_uri(t->key_file);
	if (c->from_token)
		return load_own_from_token(t, c, password.data, ret_error);
	r = load_own_from_files(t, c, password.data, ret_error);
	return r < 0 ? r : keep_own(c);
}

/* The key in hexadecimal digits, alone or as in the brokers' files, "identity:key". */
static int load_psk(const struct config_tls *t, struct credentials *c, char **ret_error)
{
	_cleanup_(secret_release) struct secret file = {0};
	gnutls_datum_t key;
	const char *hex;
	size_t n;
	int r;

	if (!t->psk_identity || !t->psk_key_file)
		return fail(-EINVAL, ret_error,
			    "tls.psk_identity and tls.psk_key_file belong together");
	r = read_secret("PSK key file", t->psk_key_file, &file, ret_error);
	if (r < 0)
		return r;
	hex = strrchr(file.data, ':');
	hex = hex ? hex + 1 : file.data;
	n = strspn(hex, "0123456789abcdefABCDEF");
	if (n < 32 || n % 2 || hex[n + strspn(hex + n, " \t\r\n")])
		return fail(
			-EINVAL, ret_error,
			"the PSK key file '%s' must hold an even number of hexadecimal digits, at least 32",
			t->psk_key_file);
	r = gnutls_psk_allocate_client_credentials(&c->psk);
	if (r < 0)
		return -ENOMEM;
	key = (gnutls_datum_t){.data = (unsigned char *)hex, .size = (unsigned)n};
	r = gnutls_psk_set_client_credentials(c->psk, t->psk_identity, &key, GNUTLS_PSK_KEY_HEX);
	if (r < 0)
		return fail(-EINVAL, ret_error, "cannot use the PSK key file '%s': %s",
			    t->psk_key_file, gnutls_strerror(r));
	return 0;
}

/* "sha256:" and 64 hexadecimal digits, colons between them allowed. */
static int parse_pin(const char *s, unsigned char pin[PIN_SIZE])
{
	size_t n = 0;
	int byte;

	if (strncasecmp(s, "sha256:", 7) != 0)
		return -EINVAL;
	for (s += 7; *s; s += 2) {
		if (*s == ':' && n > 0)
			s++;
		byte = hex_byte(s);
		if (byte < 0 || n == PIN_SIZE)
			return -EINVAL;
		pin[n++] = (unsigned char)byte;
	}
	return n == PIN_SIZE ? 0 : -EINVAL;
}

static int load_pins(const struct config_tls *t, struct credentials *c, char **ret_error)
{
	if (t->pins.n == 0)
		return 0;
	c->pins = calloc(t->pins.n, PIN_SIZE);
	if (!c->pins)
		return -ENOMEM;
	for (; c->n_pins < t->pins.n; c->n_pins++)
		if (parse_pin(t->pins.list[c->n_pins], c->pins[c->n_pins]) < 0)
			return fail(-EINVAL, ret_error,
				    "the pin '%s' is not sha256: and 64 hexadecimal digits",
				    t->pins.list[c->n_pins]);
	return 0;
}

/* A priority string of the administrator's is narrowed by the minimum version, never widened. */
static int load_priority(const struct config_tls *t, struct credentials *c, char **ret_error)
{
	bool only_13 = t->minimum_version && strcmp(t->minimum_version, "1.3") == 0;
	_cleanup_free_ char *text = NULL;
	const char *position = NULL;
	int r;

	c->minimum_version = only_13 ? GNUTLS_TLS1_3 : GNUTLS_TLS1_2;
	if (t->priority)
		r = asprintf(&text, "%s:-VERS-SSL3.0:-VERS-TLS1.0:-VERS-TLS1.1%s", t->priority,
			     only_13 ? ":-VERS-TLS1.2" : "");
	else
		r = asprintf(&text, "%s:-VERS-ALL:+VERS-TLS1.3%s",
			     c->psk ? TLS_PRIORITY_PSK : TLS_PRIORITY,
			     only_13 ? "" : ":+VERS-TLS1.2");
	if (r < 0) {
		text = NULL;
		return -ENOMEM;
	}
	r = gnutls_priority_init(&c->priority, text, &position);
	if (r < 0)
		return fail(-EINVAL, ret_error,
			    "the priority string '%s' is not understood at '%s': %s", text,
			    position ? position : text, gnutls_strerror(r));
	return 0;
}

static int credentials_fill(struct credentials *c, const struct config_tls *t, char **ret_error)
{
	int r;

	r = note_files(c, t);
	if (r < 0)
		return r;
	if (t->alpn) {
		c->alpn = strdup(t->alpn);
		if (!c->alpn)
			return -ENOMEM;
	}
	r = load_pins(t, c, ret_error);
	if (r < 0)
		return r;
	if (t->psk_identity || t->psk_key_file) {
		r = load_psk(t, c, ret_error);
		if (r < 0)
			return r;
		return load_priority(t, c, ret_error);
	}
	r = gnutls_certificate_allocate_credentials(&c->certificates);
	if (r < 0)
		return -ENOMEM;
	r = load_trust(t, c, ret_error);
	if (r < 0)
		return r;
	r = load_crl(t, c, ret_error);
	if (r < 0)
		return r;
	r = load_own(t, c, ret_error);
	if (r < 0)
		return r;
	return load_priority(t, c, ret_error);
}

int credentials_load(const struct config_tls *t, struct credentials **ret_credentials,
		     char **ret_error)
{
	struct credentials *c;
	char *error = NULL;
	int r;

	c = calloc(1, sizeof(*c));
	r = c ? credentials_fill(c, t, &error) : -ENOMEM;
	if (r < 0) {
		if (c) {
			c->n_ref = 1;
			credentials_unref(c);
		}
		*ret_error =
			error ? error : strdup("out of memory while loading the TLS credentials");
		return r;
	}
	c->n_ref = 1;
	*ret_credentials = c;
	return 0;
}

int credentials_renew(const struct config_tls *t, struct credentials **credentials,
		      char **ret_error)
{
	struct credentials *fresh;
	int r;

	if (!*credentials || !is_stale(*credentials))
		return 0;
	r = credentials_load(t, &fresh, ret_error);
	if (r < 0)
		return r;
	credentials_unref(*credentials);
	*credentials = fresh;
	return 1;
}

struct credentials *credentials_ref(struct credentials *c)
{
	if (c)
		c->n_ref++;
	return c;
}

void credentials_unref(struct credentials *c)
{
	if (!c || --c->n_ref > 0)
		return;
	if (c->certificates)
		gnutls_certificate_free_credentials(c->certificates);
	if (c->psk)
		gnutls_psk_free_client_credentials(c->psk);
	if (c->priority)
		gnutls_priority_deinit(c->priority);
	for (unsigned i = 0; i < c->n_crls; i++)
		gnutls_x509_crl_deinit(c->crls[i]);
	gnutls_free(c->crls);
	for (unsigned i = 0; i < c->n_own; i++)
		gnutls_pcert_deinit(&c->own[i]);
	free(c->own);
	if (c->own_key)
		gnutls_privkey_deinit(c->own_key);
	for (unsigned i = 0; i < c->n_files; i++)
		free(c->files[i].path);
	free(c->pins);
	free(c->alpn);
	free(c->ca_name);
	free(c->crl_name);
	free(c);
}

/* Did one of these authorities issue it? Otherwise *issuer_text names its issuer (to be freed). */
static bool issued_by_one_of(const gnutls_datum_t *certificate, const gnutls_datum_t *accepted,
			     int n_accepted, gnutls_datum_t *issuer_text)
{
	gnutls_datum_t issuer = {0};
	gnutls_x509_crt_t crt;
	bool found = false;

	if (gnutls_x509_crt_init(&crt) < 0)
		return true;
	if (gnutls_x509_crt_import(crt, certificate, GNUTLS_X509_FMT_DER) < 0 ||
	    gnutls_x509_crt_get_raw_issuer_dn(crt, &issuer) < 0)
		found = true;
	for (int i = 0; i < n_accepted && !found; i++)
		found = accepted[i].size == issuer.size &&
			memcmp(accepted[i].data, issuer.data, issuer.size) == 0;
	if (!found)
		(void)gnutls_x509_crt_get_issuer_dn3(crt, issuer_text, 0);
	gnutls_free(issuer.data);
	gnutls_x509_crt_deinit(crt);
	return found;
}

void credentials_compare_authorities(const struct credentials *c, const gnutls_datum_t *accepted,
				     int n_accepted, char *text, size_t size)
{
	_cleanup_(gnutls_datum_release) gnutls_datum_t theirs = {0};
	_cleanup_(gnutls_datum_release) gnutls_datum_t ours = {0};
	char more[32] = "";

	text[0] = '\0';
	if (n_accepted == 0 || c->n_own == 0)
		return;
	for (unsigned i = 0; i < c->n_own; i++) {
		gnutls_datum_release(&ours);
		ours = (gnutls_datum_t){0};
		if (issued_by_one_of(&c->own[i].cert, accepted, n_accepted, &ours))
			return;
	}
	if (n_accepted > 1)
		(void)snprintf(more, sizeof(more), " and %d more", n_accepted - 1);
	(void)gnutls_x509_rdn_get2(&accepted[0], &theirs, 0);
	(void)snprintf(text, size, "; it accepts certificates of '%s'%s, ours is from '%s'",
		       theirs.data ? (char *)theirs.data : "?", more,
		       ours.data ? (char *)ours.data : "?");
}

char *credentials_own_certificate(const struct credentials *c)
{
	_cleanup_(gnutls_datum_release) gnutls_datum_t text = {0};
	gnutls_datum_t der;

	if (!c || !c->certificates ||
	    gnutls_certificate_get_crt_raw(c->certificates, 0, 0, &der) < 0 ||
	    gnutls_base64_encode2(&der, &text) < 0)
		return NULL;
	return strndup((const char *)text.data, text.size);
}

/* --- when certificates end */

struct validity certificate_validity(gnutls_x509_crt_t certificate)
{
	time_t begin = gnutls_x509_crt_get_activation_time(certificate),
	       end = gnutls_x509_crt_get_expiration_time(certificate);

	return (struct validity){.begin_s = begin == (time_t)-1 ? 0 : begin,
				 .end_s = end == (time_t)-1 ? 0 : end};
}

/* Of those of the list, the one that ends first. Frees the list. */
static struct validity list_validity(gnutls_x509_crt_t *list, unsigned n)
{
	struct validity first = {0};

	for (unsigned i = 0; i < n; i++) {
		struct validity v = certificate_validity(list[i]);

		if (v.end_s != 0 && (first.end_s == 0 || v.end_s < first.end_s))
			first = v;
		gnutls_x509_crt_deinit(list[i]);
	}
	gnutls_free(list);
	return first;
}

struct validity credentials_own_validity(const struct credentials *c)
{
	gnutls_x509_crt_t *list = NULL;
	unsigned n = 0;

	if (!c->certificates || gnutls_certificate_get_x509_crt(c->certificates, 0, &list, &n) < 0)
		return (struct validity){0};
	return list_validity(list, n);
}

/* Of those of the list, the one that ends last. Frees the list. */
static struct validity last_validity(gnutls_x509_crt_t *list, unsigned n)
{
	struct validity last = {0};

	for (unsigned i = 0; i < n; i++) {
		struct validity v = certificate_validity(list[i]);

		if (v.end_s > last.end_s)
			last = v;
		gnutls_x509_crt_deinit(list[i]);
	}
	gnutls_free(list);
	return last;
}

struct validity credentials_trust_validity(const struct credentials *c, const struct config_tls *t)
{
	_cleanup_(gnutls_datum_release) gnutls_datum_t pem = {0};
	_cleanup_free_ char *error = NULL;
	gnutls_x509_crt_t *list = NULL;
	unsigned n = 0;

	if (c && c->authority.end_s != 0)
		return c->authority;
	if (!t->ca_file || load_file("CA file", t->ca_file, &pem, &error) < 0 ||
	    gnutls_x509_crt_list_import2(&list, &n, &pem, GNUTLS_X509_FMT_PEM, 0) < 0)
		return (struct validity){0};
	return last_validity(list, n);
}

/* --- the names of our own certificate */

/* Our certificate without its chain; NULL: there is none. To be deinitialised. */
static gnutls_x509_crt_t own_certificate(const struct credentials *c)
{
	gnutls_x509_crt_t *list = NULL, own;
	unsigned n = 0;

	if (!c->certificates || gnutls_certificate_get_x509_crt(c->certificates, 0, &list, &n) < 0)
		return NULL;
	own = n > 0 ? list[0] : NULL;
	for (unsigned i = 1; i < n; i++)
		gnutls_x509_crt_deinit(list[i]);
	gnutls_free(list);
	return own;
}

static char *common_name(gnutls_x509_crt_t certificate)
{
	char name[256];
	size_t size = sizeof(name);

	if (gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name,
					  &size) < 0)
		return NULL;
	return strndup(name, size);
}

static bool has_dns_name(gnutls_x509_crt_t certificate, const char *host)
{
	for (unsigned i = 0;; i++) {
		char name[256];
		size_t size = sizeof(name);
		int r = gnutls_x509_crt_get_subject_alt_name(certificate, i, name, &size, NULL);

		if (r == GNUTLS_E_SHORT_MEMORY_BUFFER)
			continue;
		if (r < 0)
			return false;
		if (r == GNUTLS_SAN_DNSNAME && size == strlen(host) &&
		    memcmp(name, host, size) == 0)
			return true;
	}
}

char *credentials_own_name(const struct credentials *c)
{
	gnutls_x509_crt_t own = own_certificate(c);
	char *name = own ? common_name(own) : NULL;

	if (own)
		gnutls_x509_crt_deinit(own);
	return name;
}

bool credentials_are_for(const struct credentials *c, const char *host)
{
	_cleanup_free_ char *name = credentials_own_name(c);
	gnutls_x509_crt_t own;
	bool is;

	if (name && strcmp(name, host) == 0)
		return true;
	own = own_certificate(c);
	is = own && has_dns_name(own, host);
	if (own)
		gnutls_x509_crt_deinit(own);
	return is;
}
