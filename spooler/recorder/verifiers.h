/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verifiers - judges the signatures of a batch on one thread per processor: a signature takes longer
 * than all else that the recorder does for an event.
 *
 * Each thread has a verifier of its own (spooler/event/verifier.h), and each learns all the
 * certificates, so there are no locks between them. The caller's thread takes its share.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "spooler/recorder/store.h"

#define VERIFIERS_MAX 8

struct verifiers;

/* `required`: messages that are not verified are rejects. Negative errno with a sentence in
   *ret_error. */
int verifiers_new(const char *ca_file, const char *crl_file, bool required,
		  struct verifiers **ret_verifiers, char **ret_error);
void verifiers_free(struct verifiers *v); /* NULL is fine */

/* A certificate that was stored. One that is not acceptable any more is left out. -ENOMEM. */
int verifiers_add(struct verifiers *v, const char *host, const char *certificate);

/*
 * First learns the certificates of the batch's status reports, then judges its messages, which are
 * parsed: sets the flags of their events, and makes rejects of forged ones (and see `required`). The
 * trees of events are dropped.
 */
void verifiers_judge(struct verifiers *v, const struct store_message *messages, size_t n);
