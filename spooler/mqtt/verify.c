/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verify - is the peer the right server, and if not, why not, in words that an administrator can
 * act upon.
 *
 * GnuTLS judges chain, dates, revocation and host name (gnutls_certificate_verify_peers), including
 * a stapled OCSP response. This file puts the judgement into a sentence, refuses revocation lists
 * that are missing or out of date (see check_lists()), and compares the pins. With pins and no CA,
 * the pinned key replaces the chain, while name and dates are still checked.
 */
#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <stdarg.h>

#include "spooler/base/hex.h"
#include "spooler/mqtt/credentials-internal.h"
#include "spooler/mqtt/verify.h"
#include "spooler/base/util.h"

#define NAMES_SHOWN 6
#define CHAIN_MAX 16

static void crt_deinitp(gnutls_x509_crt_t *crt)
{
	if (*crt)
		gnutls_x509_crt_deinit(*crt);
}

static void format_time(time_t t, char *buf, size_t size)
{
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(buf, size, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		(void)snprintf(buf, size, "an unreadable date");
}

static void __attribute__((format(printf, 3, 4)))
append(char *buf, size_t size, const char *format, ...)
{
	size_t n = strlen(buf);
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(buf + n, size - n, format, ap);
	va_end(ap);
}

/* "'a.example', 'b.example', 192.0.2.1 and 3 more", or the subject if there is no name at all. */
static void describe_names(gnutls_x509_crt_t crt, char *buf, size_t size)
{
	unsigned n = 0, more = 0;
	char name[256], subject[256];
	size_t length;
	unsigned i;
	int type;

	buf[0] = '\0';
	for (i = 0;; i++) {
		length = sizeof(name) - 1;
		type = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &length, NULL);
		if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			break;
		if (type != GNUTLS_SAN_DNSNAME && type != GNUTLS_SAN_IPADDRESS)
			continue;
		if (n == NAMES_SHOWN) {
			more++;
			continue;
		}
		name[length] = '\0';
		if (type == GNUTLS_SAN_DNSNAME) {
			append(buf, size, "%s'%s'", n ? ", " : "", name);
		} else if (length == 4) {
			unsigned char *a = (unsigned char *)name;

			append(buf, size, "%s%u.%u.%u.%u", n ? ", " : "", a[0], a[1], a[2], a[3]);
		} else if (length == 16 && inet_ntop(AF_INET6, name, subject, sizeof(subject))) {
			append(buf, size, "%s%s", n ? ", " : "", subject);
		}
		n++;
	}
	if (more)
		append(buf, size, " and %u more", more);
	if (n)
		return;
	length = sizeof(subject);
	if (gnutls_x509_crt_get_dn(crt, subject, &length) < 0)
		(void)snprintf(subject, sizeof(subject), "?");
	append(buf, size, "no host name (its subject is '%s')", subject);
}

/* Finds the certificate of the chain that is out of its dates, and which date it was; often it is
   not the server's own. */
static int describe_dates(const gnutls_datum_t *chain, unsigned n_chain, bool expired, char *why,
			  size_t size)
{
	char date[64], dn[256];
	time_t now = time(NULL), limit;
	size_t length;
	unsigned i;

	for (i = 0; i < n_chain && i < CHAIN_MAX; i++) {
		_cleanup_(crt_deinitp) gnutls_x509_crt_t crt = NULL;

		if (gnutls_x509_crt_init(&crt) < 0 ||
		    gnutls_x509_crt_import(crt, &chain[i], GNUTLS_X509_FMT_DER) < 0)
			return -EBADMSG;
		limit = expired ? gnutls_x509_crt_get_expiration_time(crt)
				: gnutls_x509_crt_get_activation_time(crt);
		if (expired ? limit >= now : limit <= now)
			continue;
		format_time(limit, date, sizeof(date));
		length = sizeof(dn);
		if (i == 0 || gnutls_x509_crt_get_dn(crt, dn, &length) < 0)
			(void)snprintf(why, size,
				       expired ? "its certificate expired on %s"
					       : "its certificate is not valid before %s",
				       date);
		else
			(void)snprintf(
				why, size,
				expired ? "the certificate of its issuer '%s' expired on %s"
					: "the certificate of its issuer '%s' is not valid before %s",
				dn, date);
		if (!expired) {
			format_time(now, date, sizeof(date));
			append(why, size, " (the clock here says %s)", date);
		}
		return 0;
	}
	/* None that was sent: a CA of ours. */
	(void)snprintf(why, size,
		       expired ? "a CA certificate above its certificate has expired"
			       : "a CA certificate above its certificate is not valid yet");
	return 0;
}

static void describe_issuer(gnutls_x509_crt_t crt, const struct credentials *c, char *why,
			    size_t size)
{
	char issuer[256];
	size_t length = sizeof(issuer);

	if (gnutls_x509_crt_check_issuer(crt, crt)) {
		(void)snprintf(why, size, "its certificate is self-signed and not in %s",
			       c->ca_name);
		return;
	}
	if (gnutls_x509_crt_get_issuer_dn(crt, issuer, &length) < 0)
		(void)snprintf(issuer, sizeof(issuer), "?");
	(void)snprintf(why, size,
		       "its certificate is not signed by a CA in %s (its issuer is '%s')",
		       c->ca_name, issuer);
}

/* GnuTLS sets all bits that apply; the most telling one is worded. */
static void describe_status(unsigned status, const gnutls_datum_t *chain, unsigned n_chain,
			    gnutls_x509_crt_t crt, const struct credentials *c, const char *name,
			    char *why, size_t size)
{
	char names[512];
	gnutls_datum_t text;

	if (status & GNUTLS_CERT_REVOKED)
		(void)snprintf(why, size, "its certificate is revoked (%s%s)",
			       c->crl_name ? c->crl_name : "says its OCSP response",
			       c->crl_name ? ", or its OCSP response" : "");
	else if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
		describe_issuer(crt, c, why, size);
	else if (status & GNUTLS_CERT_EXPIRED)
		(void)describe_dates(chain, n_chain, true, why, size);
	else if (status & GNUTLS_CERT_NOT_ACTIVATED)
		(void)describe_dates(chain, n_chain, false, why, size);
	else if (status & GNUTLS_CERT_PURPOSE_MISMATCH)
		(void)snprintf(
			why, size,
			"its certificate is not meant for a TLS server (extended key usage)");
	else if (status & GNUTLS_CERT_UNEXPECTED_OWNER) {
		describe_names(crt, names, sizeof(names));
		(void)snprintf(why, size, "its certificate is for %s, not for '%s'", names, name);
	} else if (status & (GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED |
			     GNUTLS_CERT_REVOCATION_DATA_ISSUED_IN_FUTURE))
		(void)snprintf(why, size, "its OCSP response is %s",
			       status & GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED ? "out of date"
									       : "from the future");
	else if (status & GNUTLS_CERT_SIGNER_NOT_CA)
		(void)snprintf(why, size, "its certificate's issuer is not a CA");
	else if (status & (GNUTLS_CERT_MISSING_OCSP_STATUS | GNUTLS_CERT_INVALID_OCSP_STATUS))
		(void)snprintf(why, size,
			       "its certificate demands a stapled OCSP response, which is %s",
			       status & GNUTLS_CERT_MISSING_OCSP_STATUS ? "missing" : "not valid");
	else if (status & GNUTLS_CERT_INSECURE_ALGORITHM)
		(void)snprintf(why, size,
			       "its certificate uses an algorithm or key that is too weak");
	else if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) ==
		 0) {
		(void)snprintf(why, size, "its certificate cannot be trusted: %s",
			       (char *)text.data);
		gnutls_free(text.data);
	} else
		(void)snprintf(why, size, "its certificate cannot be trusted (status 0x%x)",
			       status);
}

static unsigned status_without_ca(gnutls_x509_crt_t crt, const char *name)
{
	time_t now = time(NULL);
	unsigned status = 0;

	if (gnutls_x509_crt_get_expiration_time(crt) < now)
		status |= GNUTLS_CERT_EXPIRED;
	if (gnutls_x509_crt_get_activation_time(crt) > now)
		status |= GNUTLS_CERT_NOT_ACTIVATED;
	if (!gnutls_x509_crt_check_hostname(crt, name))
		status |= GNUTLS_CERT_UNEXPECTED_OWNER;
	return status;
}

/* 0, or -EKEYREJECTED with the pin that would fit in the sentence: to be compared by another
   way, not copied. */
static int check_pins(gnutls_x509_crt_t crt, const struct credentials *c, char *why, size_t size)
{
	unsigned char id[PIN_SIZE];
	char text[2 * PIN_SIZE + 1];
	size_t length = sizeof(id), i;

	if (gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, id, &length) < 0 ||
	    length != PIN_SIZE) {
		(void)snprintf(why, size, "its public key cannot be read, so no pin can match");
		return -EKEYREJECTED;
	}
	for (i = 0; i < c->n_pins; i++)
		if (memcmp(c->pins[i], id, PIN_SIZE) == 0)
			return 0;
	hex_format(id, PIN_SIZE, text);
	(void)snprintf(why, size, "its public key is not pinned; it is sha256:%s", text);
	return -EKEYREJECTED;
}

/* GnuTLS takes a certificate whose issuer has no list for one that is not revoked, and goes on
   with a list that was not renewed, which would hide what was revoked since. */
static int check_lists(gnutls_x509_crt_t crt, const struct credentials *c, char *why, size_t size)
{
	_cleanup_(gnutls_datum_release) gnutls_datum_t issuer = {0};
	time_t until = 0, next;
	bool found = false;
	char text[256];
	size_t length = sizeof(text);

	if (c->n_crls == 0)
		return 0;
	if (gnutls_x509_crt_get_raw_issuer_dn(crt, &issuer) < 0)
		issuer.size = 0;
	for (unsigned i = 0; i < c->n_crls; i++) {
		_cleanup_(gnutls_datum_release) gnutls_datum_t of = {0};

		if (gnutls_x509_crl_get_raw_issuer_dn(c->crls[i], &of) < 0 ||
		    of.size != issuer.size || memcmp(of.data, issuer.data, of.size) != 0)
			continue;
		found = true;
		next = gnutls_x509_crl_get_next_update(c->crls[i]);
		until = next > until ? next : until;
	}
	if (!found) {
		if (gnutls_x509_crt_get_issuer_dn(crt, text, &length) < 0)
			(void)snprintf(text, sizeof(text), "?");
		(void)snprintf(
			why, size,
			"revocation cannot be checked: there is no list of its issuer '%s' in %s",
			text, c->crl_name);
		return -EKEYREJECTED;
	}
	if (until > 0 && until < time(NULL)) {
		format_time(until, text, sizeof(text));
		(void)snprintf(
			why, size,
			"revocation cannot be checked: the list in %s should have been renewed by %s",
			c->crl_name, text);
		return -EKEYREJECTED;
	}
	return 0;
}

int verify_server(gnutls_session_t session, const struct credentials *c, const char *name,
		  char *why, size_t size)
{
	gnutls_typed_vdata_st data[] = {
		{.type = GNUTLS_DT_DNS_HOSTNAME, .data = (void *)name},
		{.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = (void *)GNUTLS_KP_TLS_WWW_SERVER},
	};
	_cleanup_(crt_deinitp) gnutls_x509_crt_t crt = NULL;
	const gnutls_datum_t *chain;
	unsigned n_chain = 0, status = 0;
	int r;

	chain = gnutls_certificate_get_peers(session, &n_chain);
	if (!chain || n_chain == 0 ||
	    gnutls_certificate_type_get2(session, GNUTLS_CTYPE_SERVER) != GNUTLS_CRT_X509) {
		(void)snprintf(why, size, "it has sent no X.509 certificate");
		return -EKEYREJECTED;
	}
	r = gnutls_x509_crt_init(&crt);
	if (r >= 0)
		r = gnutls_x509_crt_import(crt, &chain[0], GNUTLS_X509_FMT_DER);
	if (r < 0) {
		(void)snprintf(why, size, "its certificate cannot be read: %s", gnutls_strerror(r));
		return -EKEYREJECTED;
	}
	if (c->verify_chain) {
		r = gnutls_certificate_verify_peers(session, data, ELEMENTSOF(data), &status);
		if (r < 0) {
			(void)snprintf(why, size, "its certificate cannot be verified: %s",
				       gnutls_strerror(r));
			return -EKEYREJECTED;
		}
	} else {
		status = status_without_ca(crt, name);
	}
	if (status) {
		describe_status(status, chain, n_chain, crt, c, name, why, size);
		return -EKEYREJECTED;
	}
	r = check_lists(crt, c, why, size);
	if (r < 0)
		return r;
	return c->n_pins ? check_pins(crt, c, why, size) : 0;
}

/* --- how long that holds */

static void use_first_to_end(struct validity *v, struct validity other)
{
	if (v->end_s == 0 || (other.end_s != 0 && other.end_s < v->end_s))
		*v = other;
}

/* Of the trusted authorities that issued this certificate, the one that ends last: one of them is
   enough. Not known if none did. */
static struct validity issuer_validity(gnutls_x509_trust_list_t trusted, gnutls_x509_crt_t crt)
{
	gnutls_x509_trust_list_iter_t i = NULL;
	struct validity last = {0};
	gnutls_x509_crt_t ca;

	while (gnutls_x509_trust_list_iter_get_ca(trusted, &i, &ca) >= 0) {
		struct validity v = certificate_validity(ca);

		if (v.end_s > last.end_s &&
		    (gnutls_x509_crt_equals(ca, crt) || gnutls_x509_crt_check_issuer(crt, ca)))
			last = v;
		gnutls_x509_crt_deinit(ca);
	}
	return last;
}

void verify_describe(gnutls_session_t session, const struct credentials *c,
		     struct validity *ret_server, struct validity *ret_authority)
{
	gnutls_x509_trust_list_t trusted;
	const gnutls_datum_t *chain;
	unsigned n = 0;

	*ret_server = *ret_authority = (struct validity){0};
	chain = gnutls_certificate_get_peers(session, &n);
	gnutls_certificate_get_trust_list(c->certificates, &trusted);
	for (unsigned i = 0; chain && i < n && ret_authority->end_s == 0; i++) {
		_cleanup_(crt_deinitp) gnutls_x509_crt_t crt = NULL;

		if (gnutls_x509_crt_init(&crt) < 0 ||
		    gnutls_x509_crt_import(crt, &chain[i], GNUTLS_X509_FMT_DER) < 0)
			return;
		use_first_to_end(ret_server, certificate_validity(crt));
		if (!c->verify_chain) /* the pins are the trust */
			return;
		*ret_authority = issuer_validity(trusted, crt);
	}
}
