/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * connect - the instance of libmosquitto that one connection uses: made with login, will and
 * limits, and its CONNECT sent into the bridge.
 *
 *	connect_new(&options, window, userdata, &mosq, why, sizeof(why));
 *	...set the callbacks...
 *	connect_send(mosq, &options, subscriber, &keep_alive_us, &fd);
 */
#pragma once

#include <mosquitto.h>

#include "spooler/mqtt/client.h"

/* The largest message that a subscriber takes: a whole document, escaped as JSON. */
#define CONNECT_MESSAGE_MAX (32 * 1024 * 1024)

/* `window` bounds the publishes under way. Returns 0; or a negative errno, with the reason in `why`
   if it is more than the errno says (otherwise `why` is empty). *ret_mosq belongs to the caller
   in both cases; it may be NULL after an error. */
int connect_new(const struct client_options *o, unsigned window, void *userdata,
		struct mosquitto **ret_mosq, char *why, size_t size);
/* Returns 0, our end of the bridge, and the keep-alive that was asked for; or a negative errno. */
int connect_send(struct mosquitto *mosq, const struct client_options *o, bool subscriber,
		 uint64_t *ret_keep_alive_us, int *ret_fd);

/* A code of libmosquitto's as 0 or a negative errno. MOSQ_ERR_ERRNO: errno is consulted. */
int connect_errno(int code);
