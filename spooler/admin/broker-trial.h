/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * broker-trial - would this broker take an event of this host? A real MQTT connection with the
 * daemon's identity, and the publish of a probe on a topic of this host.
 *
 * The probe is an event as `virtspool test` makes one: driver qemu, operation "probe", outside of
 * the host's sequence. The client id is the daemon's with a suffix, so that the daemon keeps its
 * connection, unless the broker takes the client id from the certificate.
 */
#pragma once

#include "spooler/config/config.h"
#include "spooler/mqtt/client.h"

enum trial_outcome {
	TRIAL_PENDING,
	TRIAL_PASSED,
	TRIAL_NOT_CONNECTED, /* no CONNACK with success */
	TRIAL_REFUSED,	     /* the publish was refused, or not answered */
};

struct broker_trial {
	enum trial_outcome outcome;
	unsigned reason_code; /* of the refusal; 0: none */
	char *error;	      /* one sentence; NULL if it passed */
	char *topic;	      /* of the probe */
};

/* 0, also if it failed; negative errno if it could not be tried. To be released. */
int broker_trial_run(const struct config *c, struct credentials *credentials,
		     const struct broker *broker, struct broker_trial *ret_trial);
void broker_trial_release(struct broker_trial *t);
/* What to do about one that failed; to be freed. NULL: nothing is known. */
char *broker_trial_remedy(const struct broker_trial *t, const struct config *c,
			  const struct credentials *credentials);
