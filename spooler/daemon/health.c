/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* health - see health.h. */
#include "hook/spool.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/daemon/health.h"

/* These are logged where they happen, in more detail. */
static bool is_logged_elsewhere(enum verdict_kind kind)
{
	return kind == VERDICT_DISCONNECTED || kind == VERDICT_REFUSED ||
	       kind == VERDICT_FAILED_EVENTS || kind == VERDICT_SEQUENCE_HOLE ||
	       kind == VERDICT_RELOAD_REFUSED || kind == VERDICT_SPOOL_UNREADABLE;
}

static void log_changes(struct health *h, const struct verdict *v)
{
	const struct log_about about = {.message = LOG_MESSAGE_HEALTH};
	bool found[VERDICT_N_KINDS] = {false};

	for (size_t i = 0; i < v->n; i++) {
		const struct finding *f = &v->findings[i];

		if (!h->found[f->kind] && !found[f->kind] && !is_logged_elsewhere(f->kind)) {
			h->logged = true;
			log_about(LOG_WARNING, &about, "%s: %s%s%s", verdict_level_name(f->level),
				  f->cause ? f->cause : "no memory", f->remedy ? "; " : "",
				  f->remedy ? f->remedy : "");
		}
		found[f->kind] = true;
	}
	if (h->logged && v->level == VERDICT_HEALTHY) {
		log_about(LOG_NOTICE, &about, "healthy again");
		h->logged = false;
	}
	memcpy(h->found, found, sizeof(found));
}

void health_judge(struct health *h, const struct status_file *status, const struct hook_file *hooks,
		  struct verdict *ret_verdict)
{
	struct listener_file listener;
	struct verdict_facts f = {
		.now_usec = now_usec(CLOCK_REALTIME),
		.spool_dir = spool_directory(),
		.run_dir = spool_run_directory(),
		.status = status,
		.live = status->waiting - status->waiting_emergency,
		.emergency = status->waiting_emergency,
		.oldest_usec = status->oldest_usec,
		.failed = status->kept_failed,
		.hooks = hooks,
	};

	if (listener_file_read(f.run_dir, &listener) == 0)
		f.listener = &listener;
	verdict_judge(&f, ret_verdict);
	log_changes(h, ret_verdict);
}
