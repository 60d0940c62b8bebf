/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* verify - is the peer of a TLS session the server that we want? */
#pragma once

#include <gnutls/gnutls.h>
#include <stddef.h>

#include "spooler/mqtt/credentials.h"

/*
 * Is the peer of this session, whose certificate has just arrived, the server `name`? Returns 0, or
 * -EKEYREJECTED with the reason in `why`, worded to follow "HOST (ADDRESS): ".
 */
int verify_server(gnutls_session_t session, const struct credentials *c, const char *name,
		  char *why, size_t size);

/*
 * How long the verified server's certificate is valid, with those that it sent along up to the
 * authority that we trust, and how long that authority is; not known with pins instead of one.
 * Certificates that it sent without need, and authorities that it does not rest on, do not count.
 */
void verify_describe(gnutls_session_t session, const struct credentials *c,
		     struct validity *ret_server, struct validity *ret_authority);
