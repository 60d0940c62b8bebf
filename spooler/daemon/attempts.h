/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * attempts - which events were published without success, how often, and why the last time: for the
 * reason of a failure and for `virtspool show`. Bounded: of what does not find room nothing is
 * remembered, and nothing depends on it.
 */
#pragma once

#include <stddef.h>

#include "spooler/spool/spoolid.h"

#define ATTEMPTS_MAX 256

struct attempt {
	struct spool_id entry;
	unsigned count;
	char why[96]; /* the last time */
};

/* A zeroed struct is an empty table. */
struct attempts {
	struct attempt table[ATTEMPTS_MAX];
	size_t n;
};

/* NULL if there was none, or it is not remembered. Valid until the next call that changes the
   table. */
const struct attempt *attempts_find(const struct attempts *a, const struct spool_id *e);
void attempts_note(struct attempts *a, const struct spool_id *e, const char *why);
void attempts_forget(struct attempts *a, const struct spool_id *e);
