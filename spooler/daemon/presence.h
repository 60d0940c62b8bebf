/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * presence - what this host reports on the status topic: that it is online, or (as will, or at an
 * orderly end) offline; with its boot id, how far its sequence has come, and its certificate.
 *
 * A report always carries an epoch, so that a consumer sees a boot even if no hook has run since.
 * Before the first event of a boot there is no epoch, and a placeholder stands for it, with
 * sequence 0: the same in each report of this boot, and different from every epoch of an event.
 *
 * It also lists the numbers that will never come, as ranges: those that never reached the spool
 * (completeness.h) and those that were dropped from it on purpose (dropped.h). So a consumer does not
 * wait for them. At most the last PRESENCE_LOST_MAX ranges are listed, and none in the will, which
 * is written too early.
 */
#pragma once

#include <systemd/sd-id128.h>

#include "spooler/config/config.h"
#include "spooler/daemon/completeness.h"
#include "spooler/daemon/signing.h"
#include "spooler/event/event.h"
#include "spooler/mqtt/transport.h"

#define PRESENCE_LOST_MAX 32 /* ranges: a few KiB */

/* How much of it a broker takes; learnt from its refusals, see link.c. */
enum presence_level {
	PRESENCE_RETAINED, /* everything */
	PRESENCE_LIVE,	   /* reports that are not retained */
};

/* Whether a CONNECT that was refused with this reason code (0: closed without one) may have been
   refused because of its will: rights, topic, size or a reason that says nothing. */
bool presence_will_may_be_refused(unsigned reason_code);

enum presence {
	PRESENCE_ONLINE,
	PRESENCE_OFFLINE, /* an orderly end */
	PRESENCE_WILL,	  /* offline, published by the broker after a lost connection */
};

/* The id of this boot. Negative errno. */
int presence_boot_id(sd_id128_t *ret_id);

/* Returns 1, or 0 if the configuration has no status topic (ret_event is empty then), or
   a negative errno. signing: signs the report, which carries its certificate; NULL: it is not
   signed, and carries the one of the credentials, which may be NULL as well. completeness: NULL leaves out what is lost. */
int presence_build(const struct config *c, const struct credentials *credentials,
		   struct signing *signing, const struct completeness *completeness,
		   enum presence p, struct event *ret_event);
