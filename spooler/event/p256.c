/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* p256 - see p256.h. */
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "spooler/base/util.h"
#include "spooler/event/p256.h"

#define HALF (P256_SIGNATURE / 2)

struct p256 {
	EVP_PKEY_CTX *context; /* kept, because it takes longer to make one than to use it */
};

int p256_new(const unsigned char *spki, size_t size, struct p256 **ret_key)
{
	struct p256 *k = calloc(1, sizeof(*k));
	EVP_PKEY *key;

	if (!k)
		return -ENOMEM;
	key = d2i_PUBKEY(NULL, &spki, (long)size);
	k->context = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
	EVP_PKEY_free(key); /* the context has a reference */
	if (!k->context || EVP_PKEY_verify_init(k->context) != 1) {
		ERR_clear_error();
		p256_free(k);
		return -EINVAL;
	}
	*ret_key = k;
	return 0;
}

void p256_free(struct p256 *k)
{
	if (!k)
		return;
	EVP_PKEY_CTX_free(k->context);
	free(k);
}

/* The form that libcrypto takes, to be freed. Returns its size, or a number that is not positive. */
static int der_of(const unsigned char *signature, unsigned char **ret_der)
{
	BIGNUM *r = BN_bin2bn(signature, HALF, NULL), *s = BN_bin2bn(signature + HALF, HALF, NULL);
	ECDSA_SIG *both = ECDSA_SIG_new();
	int n = 0;

	if (both && ECDSA_SIG_set0(both, r, s) == 1) {
		n = i2d_ECDSA_SIG(both, ret_der);
	} else {
		BN_free(r);
		BN_free(s);
	}
	ECDSA_SIG_free(both);
	return n;
}

bool p256_verify(struct p256 *k, const void *data, size_t size,
		 const unsigned char signature[static P256_SIGNATURE])
{
	unsigned char digest[SHA256_DIGEST_LENGTH], *der = NULL;
	int n = der_of(signature, &der);
	bool holds = n > 0 && SHA256(data, size, digest) &&
		     EVP_PKEY_verify(k->context, der, (size_t)n, digest, sizeof(digest)) == 1;

	OPENSSL_free(der);
	if (!holds)
		ERR_clear_error(); /* libmosquitto may read this thread's queue */
	return holds;
}
