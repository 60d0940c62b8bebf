/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verifiers - judges a batch of signed events on several threads: a signature takes three times as
 * long as everything else that the recorder does for an event.
 *
 * Each thread has a verifier of its own (spooler/event/verifier.h), and all of them learn the same
 * certificates, so there are no locks between them. The caller's thread takes its share.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "spooler/event/verifier.h"

#define VERIFIERS_MAX 8

struct verifiers;

struct verifiers_item {
	const json_t *event; /* NULL: not to be judged */
	const char *payload;
	size_t size;
	bool is_status;		  /* its certificate is learnt */
	bool learned;		  /* out: its certificate was new */
	enum verification result; /* out */
	const char *why;	  /* out: unless it is verified */
};

/* One thread per processor, the caller's among them. Negative errno with a sentence in
   *ret_error. */
int verifiers_new(const char *ca_file, const char *crl_file, struct verifiers **ret_verifiers,
		  char **ret_error);
void verifiers_free(struct verifiers *v); /* NULL is fine */

/* A certificate that was kept. One that is not acceptable any more is left out. -ENOMEM. */
int verifiers_add(struct verifiers *v, const char *host, const char *certificate);

/* First learns from the status reports of the batch, then judges all of it. */
void verifiers_judge(struct verifiers *v, struct verifiers_item *items, size_t n);
