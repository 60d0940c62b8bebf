/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* doctor - what the checks of `virtspool doctor` have in common: what they look at, and how they tell what they find.
 */
#pragma once

#include <stdbool.h>

#include "spooler/config/config.h"
#include "spooler/mqtt/transport.h"

enum grade {
	GRADE_OK,
	GRADE_WARNING, /* works now, but */
	GRADE_BAD,     /* events are lost or held up */
};

struct doctor {
	const char *config_path, *hooksdir;
	struct config *config;		 /* NULL: not valid */
	struct credentials *credentials; /* NULL: cannot be loaded */
	bool json, colour;
	unsigned warnings, bad;
};

/* check: what was looked at, in a word; how: how to mend it, or NULL. */
void finding(struct doctor *d, enum grade grade, const char *check, const char *how,
	     const char *format, ...) __attribute__((format(printf, 5, 6)));

/* The hooks of all drivers: doctor-hooks.c. */
void doctor_hooks(struct doctor *d);
