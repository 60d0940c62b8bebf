/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* listener - the process: libvirt's event loop, the connections, signals, readiness and status. */
#pragma once

#include "spooler/listener/connection.h"

#define LISTENER_URIS_MAX 16

struct listener_options {
	const char *uris[LISTENER_URIS_MAX];
	size_t n_uris;
	struct connection_options connection;
	const char *metrics_file; /* NULL: none */
};

/* Runs until a signal ends it. Returns an exit status. */
int listener_run(const struct listener_options *o);

/* The thread that runs libvirt's event loop, once for the process. Negative errno. */
int listener_start_events(void);
void listener_stop_events(void);
