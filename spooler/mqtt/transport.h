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
#include "spooler/mqtt/credentials.h"
#include "spooler/mqtt/transport-loss.h"

enum transport_state {
	TRANSPORT_CONNECTING, /* and resolving the name */
	TRANSPORT_HANDSHAKING,
	TRANSPORT_ESTABLISHED, /* verified; may be read and written */
	TRANSPORT_LOST,	       /* for good; transport_error() says why */
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
/* One sentence: what failed, on what, why. */
const char *transport_error(const struct transport *t);
/* "HOST (ADDRESS:PORT)" */
const char *transport_peer(const struct transport *t);
/* "TLS1.3 (…cipher suite…)" or "plain TCP" */
const char *transport_protocol(const struct transport *t);

/* The broker asked for a client certificate, and none is configured. Not every broker insists. */
bool transport_lacks_certificate(const struct transport *t);

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
