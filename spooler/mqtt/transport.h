/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * transport - a TCP connection with GnuTLS on the event loop, verified before a byte of the user's
 * goes through.
 *
 * One struct transport is one attempt: transport_open() resolves the name, connects (the addresses
 * in turn), shakes hands and verifies chain, host name and expiry. `changed` is called whenever the
 * state, or what can be read or written, may have changed; never from inside a call of the user's.
 * A lost connection is one state with one sentence, whatever the code was. A TLS connection that
 * ends without close_notify is lost, not ended.
 *
 * Its users see nothing of GnuTLS.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "spooler/config/config.h"

/* The part of a session that comes from files: trust, own certificate, PSK. Loaded at start and on
   reload; shared by sessions and counted, so that an old one lives as long as its last session. */
struct credentials;
/* Returns 0, or a negative errno with a sentence in *ret_error (to be freed) that names the
   file. */
int credentials_load(const struct config_tls *c, struct credentials **ret_credentials,
		     char **ret_error);
/*
 * Loads them again if one of their files was replaced or changed since, as a renewal does. Returns
 * 1 and the new ones in *credentials (the old reference is given up); 0 if nothing has changed; a
 * negative errno with a sentence in *ret_error (to be freed) if the new files cannot be used:
 * *credentials stays as it is, and the next call tries again.
 */
int credentials_renew(const struct config_tls *c, struct credentials **credentials,
		      char **ret_error);
struct credentials *credentials_ref(struct credentials *c);
void credentials_unref(struct credentials *c);

/* When a certificate is valid, or of several the one that ends first: seconds since 1970, 0 if it
   is not known. */
struct validity {
	int64_t begin_s, end_s;
};
/* Of our own certificate and its chain; not known if there is none, or a token keeps it. */
struct validity credentials_own_validity(const struct credentials *c);
/* Of the authorities in tls.ca_file; not known if the system's trust store is used. */
struct validity credentials_trust_validity(const struct config_tls *c);
/* Our own certificate, base64 of its DER form (to be freed); NULL: there is none, or no memory. */
char *credentials_own_certificate(const struct credentials *c);

/* Its common name (to be freed); NULL: there is no certificate, or it has no such name. */
char *credentials_own_name(const struct credentials *c);
/* Is it made for this host: is that its common name, or one of its DNS names? False without one. */
bool credentials_are_for(const struct credentials *c, const char *host);

enum transport_state {
	TRANSPORT_RESOLVING,
	TRANSPORT_CONNECTING,
	TRANSPORT_HANDSHAKING,
	TRANSPORT_ESTABLISHED, /* verified; may be read and written */
	TRANSPORT_LOST,	       /* for good; transport_error() says why */
};

/* Why a transport was lost. */
enum transport_failure {
	TRANSPORT_FAILURE_NONE,
	TRANSPORT_FAILURE_NETWORK,	/* unresolvable, reset, timed out */
	TRANSPORT_FAILURE_REFUSED,	/* nobody listens at any of its addresses */
	TRANSPORT_FAILURE_TLS,		/* handshake or protocol */
	TRANSPORT_FAILURE_VERIFICATION, /* the server is not who it must be */
	TRANSPORT_FAILURE_CLOSED,	/* the peer closed, with close_notify */
};

struct transport;
typedef void (*transport_changed)(struct transport *t, void *userdata);

/* Begins. credentials may be NULL only for a broker without tls. timeout_s bounds each of
   connect and handshake. The name's addresses are tried in their order, from the one with the
   index first_address on (the last one, if there are fewer). */
int transport_open(sd_event *loop, const struct broker *broker, const struct config_tls *tls,
		   struct credentials *credentials, uint64_t timeout_s, unsigned first_address,
		   transport_changed changed, void *userdata, struct transport **ret_transport);
/* Sends close_notify if established, and frees. NULL is fine. */
void transport_close(struct transport *t);

enum transport_state transport_state(const struct transport *t);
enum transport_failure transport_failure(const struct transport *t);
const char *
transport_error(const struct transport *t);	       /* one sentence: what failed, on what, why */
const char *transport_peer(const struct transport *t); /* "HOST (ADDRESS:PORT)" */
const char *
transport_protocol(const struct transport *t); /* "TLS1.3 (…cipher suite…)" or "plain TCP" */

/* Of the broker's certificate; not known without TLS, or with a PSK. */
struct validity transport_peer_validity(const struct transport *t);

/* The index of the address after the one in use; 0: there is none, or it is not known yet. */
unsigned transport_next_address(const struct transport *t);

/* While off, nothing is read and the loop does not wake for what arrives: TCP holds the peer back.
   A connection that is reset meanwhile is noticed; one that ends in good order is noticed later. */
void transport_set_reading(struct transport *t, bool reading);
/* Bytes read; -EAGAIN: nothing now (changed will be called); -ECONNRESET: lost (state says so). */
ssize_t transport_read(struct transport *t, void *buf, size_t size);
/* Bytes taken, which may be fewer; -EAGAIN; -ECONNRESET. After -EAGAIN the next call must offer
   the same bytes. */
ssize_t transport_write(struct transport *t, const void *buf, size_t size);
