/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * doctor - what the checks of `virtspool doctor` share. Most of what they print is the verdict's
 * (spooler/spool/verdict.h); a check adds what only it looks at.
 */
#pragma once

#include <stdbool.h>

#include "spooler/admin/facts.h"
#include "spooler/config/config.h"
#include "spooler/mqtt/transport.h"

#define DOCTOR_AS_ROOT "run this as root"
#define DOCTOR_UNIT "virtspool.service"

enum grade {
	GRADE_OK,
	GRADE_WARNING, /* works now, but; or: has happened, and is over */
	GRADE_BAD,     /* events are lost or held up */
};

struct doctor {
	const char *config_path, *hooksdir;
	struct config *config;		 /* NULL: not valid */
	struct credentials *credentials; /* NULL: cannot be loaded */
	struct facts *facts;
	struct verdict verdict;
	bool json, colour;
	unsigned warnings, bad;
};

/* check: what was looked at, in a word; how: how to fix it, or NULL. */
void finding(struct doctor *d, enum grade grade, const char *check, const char *how,
	     const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Prints the verdict's findings that belong to this check. True if there is one. */
bool doctor_print_verdict(struct doctor *d, const char *check);
/* The same for a certificate that was found in a file or at a broker; prints also if it is
   valid. */
void doctor_certificate(struct doctor *d, const char *whose, struct validity validity,
			const char *how);

/* A file that we may not look at may be fine for the daemon and the hook. */
bool doctor_is_hidden(int error);
/* Does the spool answer? Otherwise nothing may touch it. */
bool doctor_may_touch_spool(const struct doctor *d);

void doctor_hooks(struct doctor *d);   /* doctor-hooks.c: the hooks of all drivers */
void doctor_spool(struct doctor *d);   /* doctor-spool.c: directories, space, writing */
void doctor_brokers(struct doctor *d); /* doctor-broker.c: a connection to each broker */
