/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * signing - signs events on a thread of its own, while earlier ones are in flight.
 *
 * A signature takes about as long as everything else that the daemon does for an event. So the
 * relay reads ahead: it puts events in with signing_put(), and `ready` is called from the loop when
 * signing_next() has one. Events come out in the order in which they went in. The bounds are
 * SIGNING_EVENTS and SIGNING_BYTES; the caller stops at signing_is_full().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "spooler/event/event.h"
#include "spooler/event/signature.h"

#define SIGNING_EVENTS 64
#define SIGNING_BYTES (4 * 1024 * 1024)

struct signing;

/* Signs with `signer`, which it owns from then on, also on failure. Negative errno. */
int signing_new(sd_event *loop, struct signer *signer, void (*ready)(void *userdata),
		void *userdata, struct signing **ret_signing);
/* Drops what is in it; waits for the signature that is being made. NULL is fine. */
void signing_free(struct signing *s);

/* A job is the caller's: a struct of its own that begins with this one. */
struct signing_job {
	struct event event;
	int error; /* of the signature: 0, or negative errno */
	/* private */
	bool done;
	size_t size;
	struct signing_job *next;
};

/* Hands a job over until signing_take() or signing_drop() gives it back. */
void signing_put(struct signing *s, struct signing_job *job);
bool signing_is_full(const struct signing *s);
bool signing_is_empty(const struct signing *s);

/* The oldest job if it is signed, which stays in; NULL otherwise. */
struct signing_job *signing_peek(struct signing *s);
/* Takes that job out. */
struct signing_job *signing_take(struct signing *s);
/* Takes the oldest job out, signed or not, to drop it; waits if it is being signed. NULL if
   there is none. */
struct signing_job *signing_drop(struct signing *s);

/* Signs an event at once, on the caller's thread: for the rare ones. 0, or negative errno. */
int signing_sign(struct signing *s, struct event *e);
/* The certificate that consumers need, see signer_certificate(). */
const char *signing_certificate(const struct signing *s);
/* The signer itself, for what it says of its certificate. */
const struct signer *signing_signer(const struct signing *s);
