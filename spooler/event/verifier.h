/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verifier - a consumer's side of signed events: it learns the hosts' certificates from their
 * status messages, and says of each event whether its host signed it.
 *
 *	verifier_new(ca, crl, &v, &error);
 *	verifier_learn(v, status_event, &why);          for each status message, and for stored certificates
 *	verifier_check(v, event, payload, size, &why);  for each event
 *
 * Each certificate of a host is kept, so events that were signed with an earlier key, or before a
 * key got a new certificate, still verify. A verifier may be used by one thread at a time.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#define VERIFIER_CERTIFICATES_MAX 1000 /* of one host: the oldest is forgotten */

enum verification {
	VERIFICATION_VERIFIED, /* signed by the host that the event names, and not changed since */
	VERIFICATION_UNSIGNED, /* it carries no signature */
	VERIFICATION_UNKNOWN,  /* signed with a key whose certificate has not been seen */
	VERIFICATION_FORGED,   /* signed, and the signature or the event is wrong */
	N_VERIFICATIONS,
};

/* verified, unsigned, unknown, forged */
const char *verification_name(enum verification v);

struct verifier;

/* PEM files; crl_file may be NULL. Negative errno with a sentence in *ret_error (to be freed). */
int verifier_new(const char *ca_file, const char *crl_file, struct verifier **ret_verifier,
		 char **ret_error);
void verifier_free(struct verifier *v); /* NULL is fine */

/*
 * Takes the certificate out of a host's status message. Returns 1 if it is a new one, 0 if there is
 * none or it is known, -EKEYREJECTED with a sentence in *ret_why (to be freed), or -ENOMEM.
 */
int verifier_learn(struct verifier *v, const json_t *status_event, char **ret_why);

/* The same with a host's name and its certificate (base64 of its DER form), as a consumer keeps
   them. */
int verifier_add(struct verifier *v, const char *host, const char *certificate, char **ret_why);

/* Judges an event or a status message, and the payload that it was parsed from. *ret_why is a sentence (static) for
   every outcome but VERIFIED. */
enum verification verifier_check(struct verifier *v, const json_t *event, const char *payload,
				 size_t size, const char **ret_why);
