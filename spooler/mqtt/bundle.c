/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bundle - see bundle.h. */
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "spooler/base/util.h"
#include "spooler/mqtt/bundle.h"

#define FIRST_LINE "virtspool bundle 1\n"
#define BLOCKS_MAX 16

static int fail(char **ret_error, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(char **ret_error, int error, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (vasprintf(ret_error, format, ap) < 0)
		*ret_error = NULL;
	va_end(ap);
	return error;
}

void bundle_release(struct bundle *b)
{
	free(b->host);
	for (size_t i = 0; i < b->n_brokers; i++)
		free(b->brokers[i]);
	if (b->key)
		explicit_bzero(b->key, strlen(b->key));
	free(b->key);
	free(b->certificate);
	free(b->authorities);
	*b = (struct bundle){.n_brokers = 0};
}

char *bundle_format(const struct bundle *b)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	fputs(FIRST_LINE, f);
	fprintf(f, "host: %s\n", b->host);
	for (size_t i = 0; i < b->n_brokers; i++)
		fprintf(f, "broker: %s\n", b->brokers[i]);
	if (b->mqtt_version == 3)
		fputs("mqtt-version: 3.1.1\n", f);
	fprintf(f, "\n%s%s%s", b->certificate, b->key, b->authorities);
	return fclose(f) == 0 ? text : NULL;
}

/* --- the lines before the PEM blocks */

static int take_line(struct bundle *b, const char *name, size_t n, const char *value, size_t size)
{
	char *copy;

	if (n == 12 && strncmp(name, "mqtt-version", n) == 0) {
		b->mqtt_version = size == 5 && strncmp(value, "3.1.1", 5) == 0 ? 3 : 5;
		return 0;
	}
	copy = strndup(value, size);
	if (!copy)
		return -ENOMEM;
	if (n == 4 && strncmp(name, "host", n) == 0 && !b->host) {
		b->host = copy;
	} else if (n == 6 && strncmp(name, "broker", n) == 0 && b->n_brokers < BUNDLE_BROKERS_MAX) {
		b->brokers[b->n_brokers++] = copy;
	} else {
		free(copy);
		return -EINVAL;
	}
	return 0;
}

/* Returns where the PEM blocks begin; NULL: a line is not one. */
static const char *take_lines(struct bundle *b, const char *text)
{
	while (*text && *text != '\n') {
		size_t size = strcspn(text, "\n"), n = strcspn(text, ":");

		if (n + 2 >= size || text[n + 1] != ' ' ||
		    take_line(b, text, n, text + n + 2, size - n - 2) < 0)
			return NULL;
		text += size + (text[size] == '\n');
	}
	return text;
}

/* --- PEM */

struct block {
	const char *text;
	size_t size;
	gnutls_x509_crt_t certificate;
};

static void release_blocks(struct block *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].certificate)
			gnutls_x509_crt_deinit(list[i].certificate);
}

/* The next block from *text, which is moved past it. */
static bool next_block(const char **text, struct block *ret)
{
	const char *begin = strstr(*text, "-----BEGIN "),
		   *end = begin ? strstr(begin, "\n-----END ") : NULL;

	end = end ? strstr(end + 10, "-----") : NULL;
	if (!end)
		return false;
	end += 5;
	end += *end == '\n';
	*ret = (struct block){.text = begin, .size = (size_t)(end - begin)};
	*text = end;
	return true;
}

static bool is_key(const struct block *b)
{
	return strncmp(b->text, "-----BEGIN CERTIFICATE-----", 27) != 0;
}

static int load_block(struct block *b)
{
	gnutls_datum_t d = {(unsigned char *)(uintptr_t)b->text, (unsigned)b->size};
	int r = gnutls_x509_crt_init(&b->certificate);

	return r < 0 ? r : gnutls_x509_crt_import(b->certificate, &d, GNUTLS_X509_FMT_PEM);
}

static bool key_fits(const gnutls_x509_privkey_t key, gnutls_x509_crt_t certificate)
{
	unsigned char a[64], b[64];
	size_t n = sizeof(a), m = sizeof(b);

	return gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, a, &n) >= 0 &&
	       gnutls_x509_crt_get_key_id(certificate, GNUTLS_KEYID_USE_SHA256, b, &m) >= 0 &&
	       n == m && memcmp(a, b, n) == 0;
}

static char *append(char *to, const struct block *b)
{
	char *text;

	if (asprintf(&text, "%s%.*s%s", to ? to : "", (int)b->size, b->text,
		     b->text[b->size - 1] == '\n' ? "" : "\n") < 0)
		text = NULL;
	free(to);
	return text;
}

/* The host's certificate is the one whose key is there; intermediate certificates go with it. */
static int sort_blocks(struct bundle *b, struct block *list, size_t n, size_t key, const char *name,
		       char **ret_error)
{
	gnutls_datum_t d = {(unsigned char *)(uintptr_t)list[key].text, (unsigned)list[key].size};
	gnutls_x509_privkey_t k;
	size_t own = n;
	int r = gnutls_x509_privkey_init(&k);

	if (r >= 0)
		r = gnutls_x509_privkey_import2(k, &d, GNUTLS_X509_FMT_PEM, NULL, 0);
	for (size_t i = 0; i < n && r >= 0; i++)
		if (i != key && key_fits(k, list[i].certificate))
			own = i;
	gnutls_x509_privkey_deinit(k);
	if (r < 0)
		return fail(ret_error, -EINVAL, "'%s': the key cannot be read: %s", name,
			    gnutls_strerror(r));
	if (own == n)
		return fail(ret_error, -EINVAL, "'%s': no certificate in it belongs to its key",
			    name);
	b->key = strndup(list[key].text, list[key].size);
	b->certificate = append(NULL, &list[own]);
	for (size_t i = 0; i < n; i++)
		if (i != key && i != own) {
			char **to =
				gnutls_x509_crt_get_ca_status(list[i].certificate, NULL) > 0 &&
						gnutls_x509_crt_check_issuer(list[i].certificate,
									     list[i].certificate)
					? &b->authorities
					: &b->certificate;

			*to = append(*to, &list[i]);
		}
	return 0;
}

static int take_blocks(struct bundle *b, const char *text, const char *name, char **ret_error)
{
	struct block list[BLOCKS_MAX];
	size_t n = 0, key = BLOCKS_MAX;
	int r = 0;

	while (n < BLOCKS_MAX && next_block(&text, &list[n])) {
		if (is_key(&list[n]))
			key = n;
		else if (load_block(&list[n]) < 0)
			r = fail(ret_error, -EINVAL, "'%s': certificate %zu cannot be read", name,
				 n + 1);
		n++;
		if (r < 0)
			break;
	}
	if (r >= 0 && key == BLOCKS_MAX)
		r = fail(ret_error, -EINVAL, "'%s': there is no key in it", name);
	if (r >= 0)
		r = sort_blocks(b, list, n, key, name, ret_error);
	release_blocks(list, n);
	return r;
}

/* --- is it good? */

static int load_list(const char *pem, gnutls_x509_crt_t **ret_list, unsigned *ret_n)
{
	gnutls_datum_t d = {(unsigned char *)(uintptr_t)pem, (unsigned)strlen(pem)};

	return gnutls_x509_crt_list_import2(ret_list, ret_n, &d, GNUTLS_X509_FMT_PEM, 0);
}

static void free_list(gnutls_x509_crt_t *list, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		gnutls_x509_crt_deinit(list[i]);
	gnutls_free(list);
}

static int check(struct bundle *b, const char *name, char **ret_error)
{
	gnutls_x509_crt_t *chain = NULL, *authorities = NULL;
	unsigned n = 0, m = 0, status = 0;
	gnutls_datum_t text = {NULL, 0};
	gnutls_x509_trust_list_t trust = NULL;
	gnutls_typed_vdata_st purpose = {GNUTLS_DT_KEY_PURPOSE_OID,
					 (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT, 0};
	int r = load_list(b->certificate, &chain, &n);

	if (r >= 0)
		r = load_list(b->authorities, &authorities, &m);
	if (r >= 0)
		r = gnutls_x509_trust_list_init(&trust, 0);
	if (r >= 0)
		r = gnutls_x509_trust_list_add_cas(trust, authorities, m, 0);
	if (r >= 0)
		r = gnutls_x509_trust_list_verify_crt2(trust, chain, n, &purpose, 1, 0, &status,
						       NULL);
	if (r >= 0)
		b->expires = gnutls_x509_crt_get_expiration_time(chain[0]);
	if (r >= 0 && status)
		(void)gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text,
								   0);
	if (r < 0 || status)
		r = fail(ret_error, -EINVAL,
			 "'%s': its certificate is not valid: %s; make a new bundle", name,
			 r < 0	     ? gnutls_strerror(r)
			 : text.data ? (char *)text.data
				     : "not verified");
	gnutls_free(text.data);
	if (trust)
		gnutls_x509_trust_list_deinit(trust, 0);
	free_list(chain, n);
	free_list(authorities, m);
	return r;
}

int bundle_parse(const char *name, const char *text, struct bundle *ret_bundle, char **ret_error)
{
	struct bundle b = {.mqtt_version = 5};
	const char *blocks = NULL;
	int r = 0;

	*ret_error = NULL;
	if (strncmp(text, FIRST_LINE, strlen(FIRST_LINE)) != 0)
		return fail(
			ret_error, -EINVAL,
			"'%s' is not a bundle of this version of virtspool; `virtspool-recorder init` makes one",
			name);
	blocks = take_lines(&b, text + strlen(FIRST_LINE));
	if (!blocks || !b.host || b.n_brokers == 0)
		r = fail(ret_error, -EINVAL, "'%s': its first lines must name a host and a broker",
			 name);
	else
		r = take_blocks(&b, blocks, name, ret_error);
	if (r >= 0 && b.certificate && b.key && b.authorities)
		r = check(&b, name, ret_error);
	else if (r >= 0)
		r = fail(ret_error, -EINVAL, "'%s': an authority is missing", name);
	if (r < 0)
		bundle_release(&b);
	else
		*ret_bundle = b;
	return r;
}

int bundle_read(const char *path, struct bundle *ret_bundle, char **ret_error)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	_cleanup_free_ char *text = calloc(1, BUNDLE_SIZE_MAX + 1);
	size_t size = 0;
	struct stat st;
	ssize_t n;
	int r;

	*ret_error = NULL;
	if (!text)
		return -ENOMEM;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(ret_error, -errno, "cannot open '%s': %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size > BUNDLE_SIZE_MAX)
		return fail(ret_error, -EINVAL, "'%s' is not a bundle", path);
	if (st.st_mode & 077)
		return fail(
			ret_error, -EPERM,
			"'%s' holds a key, and others may read it (mode %04o): chmod 600 it; if others could have "
			"copied it, make a new one",
			path, (unsigned)st.st_mode & 07777);
	while (size < BUNDLE_SIZE_MAX && (n = read(fd, text + size, BUNDLE_SIZE_MAX - size)) > 0)
		size += (size_t)n;
	r = bundle_parse(path, text, ret_bundle, ret_error);
	explicit_bzero(text, size);
	return r;
}
