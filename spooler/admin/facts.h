/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * facts - what a command can see of this host, for the verdict: the daemon's and the listener's
 * files, the hooks, and the spool's directories.
 *
 * The spool's disk may hang. It is looked at in a child, and when that does not come back within a
 * second the facts say so; nothing else here touches the spool.
 */
#pragma once

#include "spooler/spool/lookup.h"
#include "spooler/spool/verdict.h"
#include "hook/stamp.h"

struct facts {
	struct verdict_facts of_verdict; /* points into this struct */
	struct status_file status;
	struct listener_file listener;
	struct hook_file hooks[HOOK_N_DRIVERS];
	struct stamp stamp; /* sequence 0: no event since boot */
	/* zeros if the spool does not answer */
	struct place_count places[N_PLACES];
	char host[256];
};

/* with_sizes: also count and measure what is kept, which takes longer. To be released. */
void facts_collect(struct facts *f, const char *hooksdir, bool with_sizes);
void facts_release(struct facts *f);

/* Does the spool's disk answer? 0, or -ETIMEDOUT after a second. -ENOENT and the like count as an
   answer. */
int facts_spool_answers(void);
