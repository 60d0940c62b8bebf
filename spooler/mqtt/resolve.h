/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * resolve - a host name's addresses without holding up the event loop.
 *
 * getaddrinfo() has no non-blocking form and may take minutes, so each question is asked by a
 * thread of its own, which notifies the loop through an eventfd. A question that is no longer
 * wanted is left to finish by itself. Only a few may be open at a time, so that a name server that
 * is down cannot pile up threads.
 */
#pragma once

#include <netdb.h>
#include <systemd/sd-event.h>

struct resolve;

/* list (to be freed with freeaddrinfo()) with error 0, or NULL with the EAI_ code. Called once,
   from the loop. */
typedef void (*resolve_done)(struct addrinfo *list, int error, void *userdata);

/* A numeric address needs no thread: 0 and the list at once, or -EINVAL if `host` is a name. */
int resolve_numeric(const char *host, uint16_t port, struct addrinfo **ret_list);

/* Returns 0, -EBUSY if too many questions are still open, or another negative errno. */
int resolve_start(sd_event *loop, const char *host, uint16_t port, resolve_done done,
		  void *userdata, struct resolve **ret_resolve);
/* The answer is not wanted (any more); always needed, also after `done`. NULL is fine. */
void resolve_free(struct resolve *r);
