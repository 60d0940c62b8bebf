/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* access - see access.h. */
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <sys/stat.h>

#include "spooler/base/log.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/config/config.h"
#include "spooler/mqtt/credentials.h"
#include "spooler/recorder/access.h"

#define TOKEN_MIN 16
#define TEXT_MAX (1024 * 1024) /* of a file */
#define PRIORITY TLS_PRIORITY ":-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define CHAIN_MAX 8

struct access {
	char *token;
	size_t token_size;
	char *authorities; /* PEM */

	char *certificate_file, *key_file;
	struct timespec certificate_time, key_time; /* when what is in use was modified */
	gnutls_pcert_st chain[CHAIN_MAX];
	unsigned n_chain;
	gnutls_privkey_t key;
};

/* The callback that GnuTLS calls for a certificate has no user data; a process has one server. */
static struct access *serving;

/* --- files */

/* The whole file, to be freed; NULL: errno says why. */
static char *read_text(const char *path)
{
	char *text;
	int r = safe_read_named(path, TEXT_MAX, &text, NULL);

	errno = r < 0 ? -r : 0;
	return r < 0 ? NULL : text;
}

static int fail(char **ret_error, const char *file, const char *what, const char *why)
{
	if (asprintf(ret_error, "cannot use '%s' as %s: %s", file, what, why) < 0)
		*ret_error = NULL;
	return -EINVAL;
}

/* --- the certificate */

static void forget_certificate(struct access *a)
{
	for (unsigned i = 0; i < a->n_chain; i++)
		gnutls_pcert_deinit(&a->chain[i]);
	a->n_chain = 0;
	gnutls_privkey_deinit(a->key);
	a->key = NULL;
}

static int import_chain(const char *pem, struct access *ret)
{
	gnutls_datum_t d = {(unsigned char *)(uintptr_t)pem, (unsigned)strlen(pem)};
	unsigned n = CHAIN_MAX;
	int r = gnutls_pcert_list_import_x509_raw(ret->chain, &n, &d, GNUTLS_X509_FMT_PEM, 0);

	ret->n_chain = r < 0 ? 0 : n;
	return r;
}

static int import_key(const char *pem, struct access *ret)
{
	gnutls_datum_t d = {(unsigned char *)(uintptr_t)pem, (unsigned)strlen(pem)};
	int r = gnutls_privkey_init(&ret->key);

	if (r >= 0)
		r = gnutls_privkey_import_x509_raw(ret->key, &d, GNUTLS_X509_FMT_PEM, NULL, 0);
	return r;
}

static bool key_fits(const struct access *a)
{
	unsigned char of_certificate[20], of_key[20];
	size_t n = sizeof(of_certificate), m = sizeof(of_key);
	gnutls_pubkey_t public;
	bool fits = false;

	if (gnutls_pubkey_init(&public) < 0)
		return false;
	if (gnutls_pubkey_import_privkey(public, a->key, 0, 0) >= 0 &&
	    gnutls_pubkey_get_key_id(public, 0, of_key, &m) >= 0 &&
	    gnutls_pubkey_get_key_id(a->chain[0].pubkey, 0, of_certificate, &n) >= 0)
		fits = n == m && memcmp(of_certificate, of_key, n) == 0;
	gnutls_pubkey_deinit(public);
	return fits;
}

/* Reads both files. On failure the former contents stay in use. */
static int load_certificate(struct access *a, char **ret_error)
{
	struct access new = {0};
	_cleanup_free_ char *certificate = NULL, *key = NULL;
	struct stat of_certificate, of_key;
	const char *why;
	size_t size;
	int r;

	if (stat(a->certificate_file, &of_certificate) < 0 ||
	    !(certificate = read_text(a->certificate_file)))
		return fail(ret_error, a->certificate_file, "certificate", strerror(errno));
	if (stat(a->key_file, &of_key) < 0)
		return fail(ret_error, a->key_file, "key", strerror(errno));
	r = config_read_secret(a->key_file, &key, &size, &why);
	if (r < 0)
		return fail(ret_error, a->key_file, "key", why);
	r = import_chain(certificate, &new);
	if (r >= 0)
		r = import_key(key, &new);
	explicit_bzero(key, size);
	if (r < 0 || new.n_chain == 0 || !key_fits(&new)) {
		forget_certificate(&new);
		return fail(ret_error, a->certificate_file, "certificate",
			    r < 0 ? gnutls_strerror(r) : "the key is another certificate's");
	}
	forget_certificate(a);
	memcpy(a->chain, new.chain, sizeof(a->chain));
	a->n_chain = new.n_chain;
	a->key = new.key;
	a->certificate_time = of_certificate.st_mtim;
	a->key_time = of_key.st_mtim;
	return 0;
}

static bool is_newer(const char *path, const struct timespec *than)
{
	struct stat st;

	return stat(path, &st) == 0 && memcmp(&st.st_mtim, than, sizeof(*than)) != 0;
}

static int on_certificate(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
			  gnutls_pcert_st **ret_chain, unsigned *ret_n,
			  gnutls_ocsp_data_st **ret_ocsp, unsigned *ret_n_ocsp,
			  gnutls_privkey_t *ret_key, unsigned *ret_flags)
{
	struct access *a = serving;
	_cleanup_free_ char *error = NULL;

	if ((is_newer(a->certificate_file, &a->certificate_time) ||
	     is_newer(a->key_file, &a->key_time)) &&
	    load_certificate(a, &error) < 0 && error)
		log_warning("%s; the old one is used", error);
	*ret_chain = a->chain;
	*ret_n = a->n_chain;
	*ret_key = a->key;
	*ret_n_ocsp = 0;
	*ret_flags = 0; /* all of it stays ours */
	return 0;
}

/* --- start and end */

static int load_token(struct access *a, const char *file, char **ret_error)
{
	const char *why;

	if (config_read_secret(file, &a->token, &a->token_size, &why) < 0)
		return fail(ret_error, file, "token", why);
	if (a->token_size < TOKEN_MIN)
		return fail(ret_error, file, "token",
			    "it is too short; make one with `openssl rand -hex 16`");
	return 0;
}

int access_new(const struct http_options *o, struct access **ret_access, char **ret_error)
{
	struct access *a = calloc(1, sizeof(*a));
	int r = 0;

	if (!a)
		return -ENOMEM;
	if (o->token_file)
		r = load_token(a, o->token_file, ret_error);
	if (r >= 0 && o->client_ca_file && !(a->authorities = read_text(o->client_ca_file)))
		r = fail(ret_error, o->client_ca_file, "authority", strerror(errno));
	if (r >= 0 && o->certificate_file) {
		a->certificate_file = strdup(o->certificate_file);
		a->key_file = strdup(o->key_file);
		r = a->certificate_file && a->key_file ? load_certificate(a, ret_error) : -ENOMEM;
	}
	if (r < 0) {
		access_free(a);
		return r;
	}
	*ret_access = a;
	return 0;
}

void access_free(struct access *a)
{
	if (!a)
		return;
	forget_certificate(a);
	if (a->token)
		explicit_bzero(a->token, a->token_size);
	free(a->token);
	free(a->authorities);
	free(a->certificate_file);
	free(a->key_file);
	if (serving == a)
		serving = NULL;
	free(a);
}

size_t access_options(struct access *a, struct MHD_OptionItem *options, unsigned *flags)
{
	size_t n = 0;

	if (!a->certificate_file)
		return 0;
	serving = a;
	*flags |= MHD_USE_TLS;
	options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK2, 0,
					       (void *)(uintptr_t)on_certificate};
	options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0,
					       (void *)(uintptr_t)PRIORITY};
	if (a->authorities)
		options[n++] =
			(struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, a->authorities};
	return n;
}

/* --- requests */

static bool is_token(const struct access *a, const char *text, size_t size)
{
	return size == a->token_size && gnutls_memcmp(text, a->token, size) == 0;
}

static bool has_token(const struct access *a, struct MHD_Connection *connection)
{
	const char *value =
		MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
	gnutls_datum_t decoded, encoded;
	const char *colon;
	bool ok;

	if (!a->token || !value)
		return false;
	if (strncasecmp(value, "Bearer ", 7) == 0)
		return is_token(a, value + 7, strlen(value + 7));
	if (strncasecmp(value, "Basic ", 6) != 0)
		return false;
	encoded = (gnutls_datum_t){(unsigned char *)(uintptr_t)(value + 6),
				   (unsigned)strlen(value + 6)};
	if (gnutls_base64_decode2(&encoded, &decoded) < 0)
		return false;
	colon = memchr(decoded.data, ':', decoded.size);
	ok = colon &&
	     is_token(a, colon + 1, decoded.size - (size_t)(colon + 1 - (char *)decoded.data));
	gnutls_memset(decoded.data, 0, decoded.size);
	gnutls_free(decoded.data);
	return ok;
}

/* libmicrohttpd asks for a certificate, and leaves it to us whether it is good. */
static bool has_certificate(const struct access *a, struct MHD_Connection *connection)
{
	gnutls_typed_vdata_st purpose = {GNUTLS_DT_KEY_PURPOSE_OID,
					 (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT, 0};
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	unsigned status;

	return a->authorities && info &&
	       gnutls_certificate_verify_peers(info->tls_session, &purpose, 1, &status) >= 0 &&
	       status == 0;
}

static bool host_is_loopback(const char *host)
{
	static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};

	for (size_t i = 0; host && i < ELEMENTSOF(names); i++) {
		size_t n = strlen(names[i]);

		if (strncasecmp(host, names[i], n) == 0 && (host[n] == 0 || host[n] == ':'))
			return true;
	}
	return false;
}

bool access_check(struct access *a, struct MHD_Connection *connection, struct access_answer *ret)
{
	if (!a->token && !a->authorities) {
		*ret = (struct access_answer){
			421, "this server answers to localhost, 127.0.0.1 and [::1] only"};
		return host_is_loopback(
			MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host"));
	}
	if (has_token(a, connection) || has_certificate(a, connection))
		return true;
	*ret = a->token ? (struct access_answer){401, "the token is missing or wrong"}
			: (struct access_answer){403, "a client certificate is needed"};
	return false;
}
