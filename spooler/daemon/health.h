/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* health - the daemon's own verdict: judged whenever the status is written, and a log line for each
   change. */
#pragma once

#include "spooler/spool/verdict.h"

/* A zeroed struct has judged nothing. */
struct health {
	bool found[VERDICT_N_KINDS];
	bool logged; /* a finding, since it was healthy */
};

/* Judges what the daemon knows, which is in *status, and logs what has changed. The verdict is
   to be released. */
void health_judge(struct health *h, const struct status_file *status, const struct hook_file *hooks,
		  struct verdict *ret_verdict);
