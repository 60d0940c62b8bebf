/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libcrypto's verdict on a P-256 signature is GnuTLS's, on good signatures and on malformed ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>

#include "spooler/event/p256.h"

#define HALF (P256_SIGNATURE / 2)

/* The key of the verifiability extension's test vectors: the signatures below are always the same. */
static const char pem[] = "-----BEGIN EC PRIVATE KEY-----\n"
			  "MHcCAQEEINc+xDf9Y0bjYZxev9//D2kWgElVrTKsmsSSsO3h9v+3oAoGCCqGSM49\n"
			  "AwEHoUQDQgAEZ805D3eqNZywjCI19lInBJOp7YMrCrzAH3CVTAOQ0jgMeCvVTiaR\n"
			  "JaRPRDOv8UMs6U4SvKc6pnrIDOoSYI3fdA==\n"
			  "-----END EC PRIVATE KEY-----\n";

/* The order of the curve. */
static const unsigned char order[HALF] = {
	0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
	0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
};
static const unsigned char zero[HALF], one[HALF] = {[HALF - 1] = 1};
static const unsigned char largest[HALF] = {[0 ... HALF - 1] = 0xff};

static gnutls_privkey_t private_key;
static gnutls_pubkey_t public_key;
static struct p256 *key;

static void must(int r)
{
	if (r < 0)
		fail_msg("%s", gnutls_strerror(r));
}

static int setup(void **state)
{
	gnutls_datum_t spki;

	(void)state;
	must(gnutls_privkey_init(&private_key));
	must(gnutls_privkey_import_x509_raw(private_key,
					    &(gnutls_datum_t){(unsigned char *)pem, strlen(pem)},
					    GNUTLS_X509_FMT_PEM, NULL, 0));
	must(gnutls_pubkey_init(&public_key));
	must(gnutls_pubkey_import_privkey(public_key, private_key, 0, 0));
	must(gnutls_pubkey_export2(public_key, GNUTLS_X509_FMT_DER, &spki));
	assert_int_equal(p256_new(spki.data, spki.size, &key), 0);
	gnutls_free(spki.data);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	p256_free(key);
	gnutls_pubkey_deinit(public_key);
	gnutls_privkey_deinit(private_key);
	return 0;
}

static gnutls_datum_t datum(const void *data, size_t size)
{
	return (gnutls_datum_t){(unsigned char *)data, (unsigned)size};
}

static bool gnutls_verifies(const char *text, const unsigned char raw[static P256_SIGNATURE])
{
	gnutls_datum_t data = datum(text, strlen(text)), r = datum(raw, HALF),
		       s = datum(raw + HALF, HALF), der = {0};
	bool holds = gnutls_encode_rs_value(&der, &r, &s) >= 0 &&
		     gnutls_pubkey_verify_data2(public_key, GNUTLS_SIGN_ECDSA_SHA256, 0, &data,
						&der) >= 0;

	gnutls_free(der.data);
	return holds;
}

/* A number as wide as half a signature. */
static void widen(const gnutls_datum_t *number, unsigned char ret[static HALF])
{
	size_t skip = number->size > HALF ? number->size - HALF : 0;
	size_t size = number->size - skip;

	memset(ret, 0, HALF);
	memcpy(ret + HALF - size, number->data + skip, size);
}

static void sign(const char *text, unsigned char ret_raw[static P256_SIGNATURE])
{
	gnutls_datum_t data = datum(text, strlen(text)), der, r, s;

	must(gnutls_privkey_sign_data2(private_key, GNUTLS_SIGN_ECDSA_SHA256,
				       GNUTLS_PRIVKEY_FLAG_REPRODUCIBLE, &data, &der));
	must(gnutls_decode_rs_value(&der, &r, &s));
	widen(&r, ret_raw);
	widen(&s, ret_raw + HALF);
	gnutls_free(der.data);
	gnutls_free(r.data);
	gnutls_free(s.data);
}

/* --- the tests */

/* Some have an r or s with a leading zero, or whose first bit is set. */
static void test_good_signatures(void **state)
{
	unsigned short_ones = 0, negative = 0;
	unsigned char raw[P256_SIGNATURE];
	char text[32];

	(void)state;
	for (unsigned i = 0; i < 400; i++) {
		snprintf(text, sizeof(text), "event %u", i);
		sign(text, raw);
		short_ones += raw[0] == 0 || raw[HALF] == 0;
		negative += raw[0] > 0x7f || raw[HALF] > 0x7f;
		assert_true(gnutls_verifies(text, raw));
		if (!p256_verify(key, text, strlen(text), raw))
			fail_msg("the signature of '%s' is refused", text);
		if (p256_verify(key, text, strlen(text) - 1, raw))
			fail_msg("the signature of '%s' holds for less", text);
	}
	assert_true(short_ones > 0 && negative > 0);
}

static void test_malformed_signatures(void **state)
{
	/* NULL: as it is */
	static const struct {
		const char *name;
		const unsigned char *r, *s;
	} table[] = {
		{"both zero", zero, zero},
		{"r zero", zero, NULL},
		{"s zero", NULL, zero},
		{"r is the order", order, NULL},
		{"s is the order", NULL, order},
		{"r too large", largest, NULL},
		{"s too large", NULL, largest},
		{"both too large", largest, largest},
		{"r one", one, NULL},
		{"s one", NULL, one},
		{"both one", one, one},
	};
	static const char text[] = "event";
	unsigned char good[P256_SIGNATURE], raw[P256_SIGNATURE];

	(void)state;
	sign(text, good);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		memcpy(raw, good, sizeof(raw));
		if (table[i].r)
			memcpy(raw, table[i].r, HALF);
		if (table[i].s)
			memcpy(raw + HALF, table[i].s, HALF);
		assert_false(gnutls_verifies(text, raw));
		if (p256_verify(key, text, strlen(text), raw))
			fail_msg("%s: it holds", table[i].name);
		/* The key is as usable as before. */
		assert_true(p256_verify(key, text, strlen(text), good));
	}
	for (size_t bit = 0; bit < 8 * sizeof(raw); bit++) {
		memcpy(raw, good, sizeof(raw));
		raw[bit / 8] ^= (unsigned char)(1 << bit % 8);
		if (p256_verify(key, text, strlen(text), raw))
			fail_msg("it holds without bit %zu", bit);
	}
	memcpy(raw, good + HALF, HALF);
	memcpy(raw + HALF, good, HALF);
	assert_false(p256_verify(key, text, strlen(text), raw));
}

static void test_unreadable_keys(void **state)
{
	struct p256 *k = NULL;

	(void)state;
	assert_int_equal(p256_new((const unsigned char *)"", 0, &k), -EINVAL);
	assert_int_equal(p256_new((const unsigned char *)"rubbish", 7, &k), -EINVAL);
	assert_null(k);
	p256_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_signatures),
		cmocka_unit_test(test_malformed_signatures),
		cmocka_unit_test(test_unreadable_keys),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
