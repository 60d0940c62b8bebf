/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * transport-loss - why a transport was lost: a kind, and a sentence for the user. The first loss is
 * kept.
 */
#pragma once

enum transport_failure {
	TRANSPORT_FAILURE_NONE,
	TRANSPORT_FAILURE_NETWORK,	/* unresolvable, reset, timed out */
	TRANSPORT_FAILURE_REFUSED,	/* nobody listens at any of its addresses */
	TRANSPORT_FAILURE_TLS,		/* handshake or protocol */
	TRANSPORT_FAILURE_VERIFICATION, /* the server is not who it must be */
	TRANSPORT_FAILURE_CLOSED,	/* the peer closed, with close_notify */
};

/* Zeroed: nothing is lost. */
struct transport_loss {
	enum transport_failure failure;
	char text[1024]; /* what failed, on what, why */
};

void transport_loss_set(struct transport_loss *l, enum transport_failure failure,
			const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The socket to `peer` failed; `when` is empty, or follows a sentence (" during ..."). */
void transport_loss_set_errno(struct transport_loss *l, const char *peer, const char *when,
			      int error);
