/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verdict - is the next event recorded, delivered and acknowledged, as far as this host can know?
 *
 * One pure function judges: facts in, findings out. `virtspool status`, `doctor` and `test`, the
 * metrics and the daemon's log line on a change all show its findings, so they cannot disagree.
 * Each finding names what is wrong with what, and what to do.
 *
 * Whoever asks collects the facts that it can see: the daemon what it knows, the commands what the
 * daemon's and the listener's files and the directories show. A fact that is not known is zero, and
 * nothing is found in it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spooler/spool/hook-file.h"
#include "spooler/spool/listener-file.h"
#include "spooler/spool/status-file.h"

enum verdict_level {
	VERDICT_HEALTHY,
	VERDICT_WARNING,  /* healthy, but look at it in time */
	VERDICT_DEGRADED, /* events wait, or reach nobody, or will not be recorded */
	VERDICT_DOWN,	  /* nothing leaves the host, or nothing is recorded durably */
};

enum verdict_kind {
	VERDICT_DAEMON_DOWN,
	VERDICT_STATUS_UNREADABLE,
	VERDICT_SPOOL_MISSING,
	VERDICT_SPOOL_HANGS,
	VERDICT_SPOOL_UNREADABLE,
	VERDICT_EMERGENCY,
	VERDICT_HOOK_MISSING,
	VERDICT_HOOK_REPLACED,
	VERDICT_HOOK_NOT_EXECUTABLE,
	VERDICT_HOOK_OTHER_VERSION,
	VERDICT_HOOK_TWICE,
	VERDICT_HOOK_SILENT,
	VERDICT_DISCONNECTED,
	VERDICT_FLAPPING,
	VERDICT_NO_SUBSCRIBER,
	VERDICT_REFUSED,
	VERDICT_LATE,
	VERDICT_UNREADABLE_RECORDS,
	VERDICT_FAILED_EVENTS,
	VERDICT_STRAY_FILES,
	VERDICT_SEQUENCE_HOLE,
	VERDICT_RELOAD_REFUSED,
	VERDICT_CERTIFICATE_EXPIRED,
	VERDICT_CERTIFICATE_EXPIRES,
	VERDICT_STATUS_TOPIC,
	VERDICT_OTHER_VERSION,
	VERDICT_HOST_CHANGED,
	VERDICT_LISTENER,
	VERDICT_N_KINDS,
};

/* The words of the JSON and the metric: "healthy", "degraded"; "daemon_down". */
const char *verdict_level_name(enum verdict_level level);
const char *verdict_kind_name(enum verdict_kind kind);

struct verdict_facts {
	uint64_t now_usec; /* CLOCK_REALTIME */
	const char *spool_dir, *run_dir;

	const struct status_file *status;     /* never NULL; zeros if status_error is not 0 */
	int status_error;		      /* of status_file_read() */
	const struct listener_file *listener; /* NULL: not known, or not running */

	/* the spool on disk */
	int spool_error; /* it cannot be opened; -ETIMEDOUT: it does not answer */
	int write_error; /* no record can be written there; 0: not known, or it can */
	uint64_t live, emergency, replay; /* what waits: on disk, in memory, again */
	uint64_t oldest_usec;		  /* time of the oldest of the first two; 0: none */
	uint64_t failed, strays;	  /* events in failed/, and other files there */

	const struct hook_file *hooks; /* HOOK_N_DRIVERS of them; NULL: not looked at */
	const char *host; /* the name that a daemon started now would use; NULL: not known */
};

struct finding {
	enum verdict_kind kind;
	enum verdict_level level;
	char *object; /* what it is about: a file, a topic, a broker, an event */
	char *cause;  /* one sentence without a full stop */
	char *remedy; /* what to do; NULL: nothing can be done here */
};

#define VERDICT_FINDINGS_MAX 40

struct verdict {
	enum verdict_level level;		       /* the worst of the findings */
	struct finding findings[VERDICT_FINDINGS_MAX]; /* the worst first */
	size_t n;
};

/*
 * Judges one certificate, for those who look at files that the daemon does not use yet. `whose`
 * begins the sentence. Returns false if nothing is found.
 */
bool verdict_judge_certificate(uint64_t now_usec, const char *whose, uint64_t begin_usec,
			       uint64_t end_usec, const char *how, struct verdict *v);

/* To be released. Findings that do not fit into memory are left out, though their level counts. */
void verdict_judge(const struct verdict_facts *f, struct verdict *ret_verdict);
void verdict_release(struct verdict *v);
/* The first finding of this kind; NULL: there is none. */
const struct finding *verdict_find(const struct verdict *v, enum verdict_kind kind);
/* Can the daemon find it? The rest is found by those who look at the daemon. */
bool verdict_kind_of_daemon(enum verdict_kind kind);
/* Are there findings of it that are only a warning? */
bool verdict_kind_warns(enum verdict_kind kind);
/* "healthy", also with warnings; "degraded" or "down". */
const char *verdict_health_name(const struct verdict *v);
/* The exit code of `virtspool status`: 0 healthy, 1 degraded, 2 down. */
int verdict_exit_code(const struct verdict *v);
