/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* verify - is the peer of a TLS session the server that we want? */
#pragma once

#include <gnutls/gnutls.h>
#include <stddef.h>

struct credentials;

/*
 * Is the peer of this session, whose certificate has just arrived, the server `name`? Returns 0, or
 * -EKEYREJECTED with the reason in `why`, worded to follow "HOST (ADDRESS): ".
 */
int verify_server(gnutls_session_t session, const struct credentials *c, const char *name,
		  char *why, size_t size);
