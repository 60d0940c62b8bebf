/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * p256 - verifies ECDSA signatures over the curve P-256 with libcrypto, which takes less than half of
 * GnuTLS's time (tests/bench/README.md), and which libmosquitto brings into the process anyway.
 * Everything else about keys, certificates and TLS is done by GnuTLS.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define P256_SIGNATURE 64 /* r and s, 32 bytes each, big-endian */

struct p256;

/* From the SubjectPublicKeyInfo (DER) of a key that is known to be on P-256. -EINVAL or -ENOMEM. */
int p256_new(const unsigned char *spki, size_t size, struct p256 **ret_key);
void p256_free(struct p256 *k); /* NULL is fine */

/* Is this the key's signature over the data, by ECDSA with SHA-256? One thread at a time. */
bool p256_verify(struct p256 *k, const void *data, size_t size,
		 const unsigned char signature[static P256_SIGNATURE]);
