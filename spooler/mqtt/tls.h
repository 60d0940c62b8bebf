/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tls - a GnuTLS session over a connected socket. The caller watches the socket.
 *
 *	tls_new(fd, credentials, name, peer, &loss, &s);
 *	tls_handshake(s)		until it is 0
 *	tls_read(s, ...), tls_write(s, ...)
 *	tls_bye(s); close(fd); tls_free(s);
 *
 * It promises:
 * - Nothing of the user's goes through before the server is verified. The certificate is judged
 *   inside the handshake, before our own is sent. After the handshake, a session in which that
 *   judgement was not made is dropped, unless it is a PSK session with our key.
 * - No session is resumed: a resumed session skips the verification.
 * - After a failed send, reading goes on: the alert that says why lies in the receive queue. In TLS
 *   1.3 a refused client certificate shows only there, after our side's handshake succeeded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "spooler/mqtt/credentials.h"
#include "spooler/mqtt/transport-loss.h"

struct tls;

/* All pointers are borrowed for the session's life. `name` is verified; `peer` begins sentences;
   `loss` says why a call returned -ECONNRESET. Returns 0 or a negative errno, with a loss. */
int tls_new(int fd, struct credentials *c, const char *name, const char *peer,
	    struct transport_loss *loss, struct tls **ret_tls);
/* NULL is fine. */
void tls_free(struct tls *s);

/* The loop found the socket readable, or writable. */
void tls_wake(struct tls *s);
/* 0: done and verified; -EAGAIN: again when the socket is ready, see tls_wants_write();
   -ECONNRESET. */
int tls_handshake(struct tls *s);
bool tls_wants_write(const struct tls *s);

/* Bytes read; -EAGAIN: nothing now; -EINTR: nothing, but call again in another turn of the loop;
   -ECONNRESET. */
ssize_t tls_read(struct tls *s, void *buf, size_t size);
/* Bytes taken, which may be fewer; -EAGAIN: the next call must offer the same bytes; -ECONNRESET.
   After tls_send_failed() it stays with -EAGAIN. */
ssize_t tls_write(struct tls *s, const void *buf, size_t size);
bool tls_send_failed(const struct tls *s);
/* Sends close_notify. */
void tls_bye(struct tls *s);

/* "TLS1.3 (…cipher suite…)" */
void tls_describe(const struct tls *s, char *buf, size_t size);
/* The server asked for a certificate, and none is configured. Not every server insists. */
bool tls_lacks_certificate(const struct tls *s);
/* Of the peer's certificate; not known with a PSK. */
struct validity tls_peer_validity(const struct tls *s);
