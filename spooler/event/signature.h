/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * signature - signs an event's parts (verifiable.h), and verifies them: the CloudEvents
 * verifiability extension (cloudevents/extensions/verifiability.md) in a DSSE 1.0.2 envelope.
 *
 * The envelope's payload is a JSON object with the SHA-256 of the core parts' digests (core), the
 * same of the extensions (ext) and their names (signedextattrs). The signature is ECDSA P-256 with
 * SHA-256, raw r||s and deterministic (RFC 6979), or Ed25519. The key's id is the SHA-256 of its
 * SubjectPublicKeyInfo, in hexadecimal digits.
 *
 * A signer may be used by one thread at a time, and so may a certificate and an authority.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "spooler/config/config.h"
#include "spooler/event/verifiable.h"

#define SIGNATURE_KEY_ID 65 /* hexadecimal digits and a 0 */
#define SIGNATURE_PAYLOAD_MAX 512
#define SIGNATURE_SIZE 64 /* raw, of both kinds of keys */

/* --- signing: the host */

struct signer;

/*
 * Loads events.sign_key_file and events.sign_certificate_file, or where these are not set,
 * tls.key_file and tls.certificate_file. Returns 0, or a negative errno with a sentence in
 * *ret_error (to be freed) that names the file and the remedy: -EINVAL for a key that is not P-256
 * or Ed25519, or is not the certificate's; -EPERM for one that others may read.
 */
int signer_load(const struct config *c, struct signer **ret_signer, char **ret_error);
void signer_free(struct signer *s); /* NULL is fine */
const char *signer_key_id(const struct signer *s);
/* The certificate, as status messages carry it: base64 of its DER form. Lives as long as the
   signer. */
const char *signer_certificate(const struct signer *s);

/* When that is valid: seconds since 1970. */
int64_t signer_begin(const struct signer *s);
int64_t signer_end(const struct signer *s);

/* The value of the attribute dssematerial, to be freed. -ENOMEM, or -EIO if the key (its token)
   fails. */
int signer_sign(struct signer *s, const struct verifiable *parts, char **ret_material);

/* --- verifying: the consumer */

struct signing_trust; /* the consumer's CA, and its revocation lists */

/* From PEM files; crl_file may be NULL, and lists of other authorities in it are ignored. Returns
   0, or a negative errno with a sentence. */
int signing_trust_load(const char *ca_file, const char *crl_file, struct signing_trust **ret_trust,
		       char **ret_error);
void signing_trust_free(struct signing_trust *a); /* NULL is fine */

/* Calls fn for each certificate of the CA file (base64 of its DER form, and the SHA-256 of that in
   hexadecimal digits), until it returns a negative number, which is returned. -ENOMEM. */
int signing_trust_each(const struct signing_trust *a,
		       int (*fn)(const char *base64, const char *fingerprint, void *userdata),
		       void *userdata);

struct signing_certificate;

/*
 * Reads a host's certificate (base64 of its DER form) and checks that it comes from the authority,
 * names `host` (a DNS name of it, or its common name) and is not for a server's use only. Returns
 * 0; -EKEYREJECTED with a sentence in *ret_why (to be freed), or -ENOMEM.
 */
int signing_certificate_load(const struct signing_trust *a, const char *base64, const char *host,
			     struct signing_certificate **ret_certificate, char **ret_why);
void signing_certificate_free(struct signing_certificate *c); /* NULL is fine */
const char *signing_certificate_key_id(const struct signing_certificate *c);
/* The base64 that it was read from. */
const char *signing_certificate_text(const struct signing_certificate *c);

/* An envelope as it was read; nothing of it has been verified. */
struct signature {
	char key_id[SIGNATURE_KEY_ID];
	unsigned char payload[SIGNATURE_PAYLOAD_MAX];
	size_t payload_size;
	unsigned char raw[SIGNATURE_SIZE];
};

/* Reads the value of dssematerial. -EBADMSG if it is not an envelope of this kind. */
int signature_read(const char *material, struct signature *ret_signature);

/*
 * Was the signature made with this certificate's key over this event, whose data is these bytes,
 * with all its extensions, at a time (seconds since 1970) at which the certificate was valid and
 * not yet revoked? Returns 0, or -EKEYREJECTED with a sentence in *ret_why (static).
 */
int signature_verify(const struct signature *s, const struct signing_certificate *c,
		     const json_t *event, const char *data, size_t size, int64_t time_s,
		     const char **ret_why);
