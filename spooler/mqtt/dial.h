/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dial - a TCP connection to a host name on the event loop: resolves the name, and tries its
 * addresses in turn until one answers.
 *
 *	dial_start(loop, host, port, timeout_us, 0, &loss, done, userdata, &d);
 *	done:	a connected socket, or a loss
 *	dial_free(d);
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "spooler/mqtt/transport-loss.h"

struct dial;

/* Called once, from the loop. fd: connected and non-blocking, the callee's from now on, and
   "ADDRESS:PORT" of it, valid during the call; or -1, and the loss says why. */
typedef void (*dial_done)(int fd, const char *address, void *userdata);

/*
 * timeout_us bounds the name service's answer, and then all addresses together. They are tried in
 * their order, from the one with the index first_address on (the last one, if there are fewer).
 * `host` and `loss` are borrowed. Returns 0, or a negative errno (`done` is not called then).
 */
int dial_start(sd_event *loop, const char *host, uint16_t port, uint64_t timeout_us,
	       unsigned first_address, struct transport_loss *loss, dial_done done, void *userdata,
	       struct dial **ret_dial);
/* Gives up, or forgets what is over; the socket that was handed over stays. NULL is fine. */
void dial_free(struct dial *d);

/* The index of the address after the one in use; 0: there is none, or it is not known yet. */
unsigned dial_next_address(const struct dial *d);
