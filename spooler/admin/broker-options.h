/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * broker-options - a broker and an identity on the command line, spelled as mosquitto_sub has them,
 * instead of the host's configuration.
 *
 *	static const struct argp_child children[] = {{&broker_options_argp, ...}, {0}};
 *	state->child_inputs[0] = &o;			in the parser, at ARGP_KEY_INIT
 *	r = broker_options_load(&o, &config, &credentials);
 */
#pragma once

#include <argp.h>
#include <stdbool.h>

#include "spooler/config/config.h"
#include "spooler/mqtt/transport.h"

struct broker_options {
	const char *config; /* file; CONFIG_FILE unless a host is given */
	const char *host, *port, *ca_file, *certificate_file, *key_file, *client_id;
	const char *username, *password_file, *version;
	bool force; /* also with the identity of the daemon that runs here */
};

extern const struct argp broker_options_argp;

/*
 * The configuration file, or without one what the options say, with the options on top. Errors go
 * to stderr. Returns an exit code.
 *
 * If virtspoold runs on this host and has the same certificate, user name, PSK identity or client
 * id, it is refused: a broker that takes the client id from one of these would end the daemon's
 * connection.
 */
int broker_options_load(const struct broker_options *o, struct config **ret_config,
			struct credentials **ret_credentials);
