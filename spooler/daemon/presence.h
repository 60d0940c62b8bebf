/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * presence - the message on the status topic: this host is online, or (as will, or at the end)
 * offline, with the epoch and sequence that the hooks have reached, so that a consumer sees what is
 * missing at the end, too.
 */
#pragma once

#include <stdbool.h>

#include "spooler/config/config.h"
#include "spooler/event/event.h"

/* Returns 1, or 0 if the configuration has no status topic (ret_event is empty then), or
   -ENOMEM. */
int presence_build(const struct config *c, bool online, struct event *ret_event);
