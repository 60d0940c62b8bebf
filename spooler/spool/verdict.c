/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* verdict - see verdict.h. A judge function for each part of the way, in the order of the way. */
#include <inttypes.h>
#include <stdarg.h>

#include "spooler/base/format.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/spool/verdict.h"

#define LATE_S 60 /* an event that waits for longer, with a connection, is late */
#define DAY_S (24 * 60 * 60)
#define CERTIFICATE_BAD_S DAY_S /* a certificate that ends within this time is as good as ended */
#define CERTIFICATE_SOON_S (30 * DAY_S) /* at most; never more than a third of its lifetime */
#define LOSSES_MANY 3			/* connections lost within an hour */
#define SETTLED_S (5 * 60) /* a connection that lasts for this long may be good again */
#define IDLE_CUT_MS 2000   /* no idle time-out is shorter */
#define KEEP_ALIVE_MIN_S 5 /* of mqtt.keep_alive */
#define UNHEARD_MANY 3	   /* events without a subscriber in a row: one guest's start */
#define EMERGENCY_RECENT_S 3600

#define LOOK_AT_DAEMON "systemctl start virtspool; journalctl -u virtspool says why it stopped"

static const char *const level_names[] = {
	[VERDICT_HEALTHY] = "healthy",
	[VERDICT_WARNING] = "warning",
	[VERDICT_DEGRADED] = "degraded",
	[VERDICT_DOWN] = "down",
};

static const char *const kind_names[VERDICT_N_KINDS] = {
	[VERDICT_DAEMON_DOWN] = "daemon_down",
	[VERDICT_STATUS_UNREADABLE] = "status_unreadable",
	[VERDICT_SPOOL_MISSING] = "spool_missing",
	[VERDICT_SPOOL_HANGS] = "spool_hangs",
	[VERDICT_SPOOL_UNREADABLE] = "spool_unreadable",
	[VERDICT_EMERGENCY] = "emergency",
	[VERDICT_HOOK_MISSING] = "hook_missing",
	[VERDICT_HOOK_REPLACED] = "hook_replaced",
	[VERDICT_HOOK_NOT_EXECUTABLE] = "hook_not_executable",
	[VERDICT_HOOK_OTHER_VERSION] = "hook_other_version",
	[VERDICT_HOOK_TWICE] = "hook_twice",
	[VERDICT_HOOK_SILENT] = "hook_silent",
	[VERDICT_DISCONNECTED] = "disconnected",
	[VERDICT_FLAPPING] = "flapping",
	[VERDICT_NO_SUBSCRIBER] = "no_subscriber",
	[VERDICT_REFUSED] = "refused",
	[VERDICT_LATE] = "late",
	[VERDICT_UNREADABLE_RECORDS] = "unreadable_records",
	[VERDICT_FAILED_EVENTS] = "failed_events",
	[VERDICT_STRAY_FILES] = "stray_files",
	[VERDICT_SEQUENCE_HOLE] = "sequence_hole",
	[VERDICT_RELOAD_REFUSED] = "reload_refused",
	[VERDICT_CERTIFICATE_EXPIRED] = "certificate_expired",
	[VERDICT_CERTIFICATE_EXPIRES] = "certificate_expires",
	[VERDICT_STATUS_TOPIC] = "status_topic",
	[VERDICT_OTHER_VERSION] = "other_version",
	[VERDICT_HOST_CHANGED] = "host_changed",
	[VERDICT_LISTENER] = "listener",
};

const char *verdict_level_name(enum verdict_level level)
{
	return level_names[level];
}

const char *verdict_kind_name(enum verdict_kind kind)
{
	return kind_names[kind];
}

bool verdict_kind_of_daemon(enum verdict_kind kind)
{
	return kind != VERDICT_DAEMON_DOWN && kind != VERDICT_STATUS_UNREADABLE &&
	       kind != VERDICT_SPOOL_MISSING && kind != VERDICT_SPOOL_HANGS &&
	       kind != VERDICT_OTHER_VERSION && kind != VERDICT_HOST_CHANGED &&
	       kind != VERDICT_STRAY_FILES;
}

bool verdict_kind_warns(enum verdict_kind kind)
{
	return kind == VERDICT_HOOK_OTHER_VERSION || kind == VERDICT_HOOK_TWICE ||
	       kind == VERDICT_CERTIFICATE_EXPIRES || kind == VERDICT_STATUS_TOPIC ||
	       kind == VERDICT_OTHER_VERSION || kind == VERDICT_HOST_CHANGED ||
	       kind == VERDICT_LISTENER || kind == VERDICT_NO_SUBSCRIBER;
}

const char *verdict_health_name(const struct verdict *v)
{
	return level_names[v->level == VERDICT_WARNING ? VERDICT_HEALTHY : v->level];
}

/* --- adding a finding */

/* Returns the finding, for its remedy; one that is thrown away if there is no room. */
static struct finding *find(struct verdict *v, enum verdict_kind kind, enum verdict_level level,
			    const char *object, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

static struct finding *find(struct verdict *v, enum verdict_kind kind, enum verdict_level level,
			    const char *object, const char *format, ...)
{
	static struct finding none;
	struct finding *f;
	va_list ap;

	if (level > v->level)
		v->level = level;
	if (v->n == VERDICT_FINDINGS_MAX)
		return &none;
	f = &v->findings[v->n++];
	*f = (struct finding){.kind = kind, .level = level};
	f->object = strdup(object ? object : "");
	va_start(ap, format);
	if (vasprintf(&f->cause, format, ap) < 0)
		f->cause = NULL;
	va_end(ap);
	return f;
}

static void remedy(struct finding *f, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void remedy(struct finding *f, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (!f->cause || vasprintf(&f->remedy, format, ap) < 0)
		f->remedy = NULL;
	va_end(ap);
}

static uint64_t age_s(const struct verdict_facts *f, uint64_t usec)
{
	return usec != 0 && usec < f->now_usec ? (f->now_usec - usec) / USEC_PER_SEC : 0;
}

/* "2026-11-21 08:00:00" in local time. */
static const char *clock_text(uint64_t usec, char buf[static 32])
{
	format_time(usec / 1000, buf);
	buf[strcspn(buf, ".")] = 0;
	return buf;
}

/* --- the hook */

static void judge_hook(const struct hook_file *h, struct verdict *v)
{
	char install[64] = "virtspool hooks install";
	struct finding *f;

	if (strcmp(h->driver, "qemu") != 0)
		(void)snprintf(install, sizeof(install), "virtspool hooks install %s", h->driver);
	switch (h->state) {
	case HOOK_MISSING:
		f = find(v, VERDICT_HOOK_MISSING, VERDICT_DEGRADED, h->path,
			 "libvirt has no hook '%s': the transitions of %s are not recorded",
			 h->path, h->driver);
		remedy(f, "%s", install);
		return;
	case HOOK_REPLACED:
		f = find(v, VERDICT_HOOK_REPLACED, VERDICT_DEGRADED, h->path,
			 "'%s' is another hook, and ours is not in '%s.d': the transitions "
			 "of %s are not recorded",
			 h->path, h->path, h->driver);
		remedy(f, "%s", install);
		return;
	case HOOK_NOT_EXECUTABLE:
		f = find(
			v, VERDICT_HOOK_NOT_EXECUTABLE, VERDICT_DEGRADED, h->path,
			"'%s' is not executable: libvirt passes over it, and the transitions of %s "
			"are not recorded",
			h->path, h->driver);
		remedy(f, "chmod 0755 '%s'", h->path);
		return;
	case HOOK_TWICE:
		f = find(v, VERDICT_HOOK_TWICE, VERDICT_WARNING, h->path,
			 "'%s' and '%s.d/virtspool' both record each event of %s", h->path, h->path,
			 h->driver);
		remedy(f, "%s", install);
		return;
	case HOOK_OTHER_VERSION:
		f = find(v, VERDICT_HOOK_OTHER_VERSION, VERDICT_WARNING, h->path,
			 "'%s' is of another version than '%s'", h->path, HOOK_PROGRAM);
		remedy(f, "%s", install);
		return;
	case HOOK_RECORDS:
	case HOOK_NOT_INSTALLED:
	case HOOK_NOT_LOOKED_AT:
		return;
	}
}

static void judge_hooks(const struct verdict_facts *f, struct verdict *v)
{
	char count[48], when[32];
	struct finding *found;

	for (size_t i = 0; f->hooks && i < HOOK_N_DRIVERS; i++)
		judge_hook(&f->hooks[i], v);
	if (!f->listener || f->listener->records.without_hook == 0)
		return;
	format_count(f->listener->records.without_hook, "transition", count);
	found = find(v, VERDICT_HOOK_SILENT, VERDICT_DEGRADED, hook_directory(),
		     "libvirt reported %s that no hook recorded, the last one at %s", count,
		     clock_text(f->listener->records.without_hook_usec, when));
	remedy(found, "virtspool doctor checks the hook; libvirtd sees a new one after a reload; "
		      "restarting virtspool-listen clears the count");
}

static void judge_listener(const struct verdict_facts *f, struct verdict *v)
{
	if (f->listener && f->listener->pid && !f->listener->listening)
		remedy(find(v, VERDICT_LISTENER, VERDICT_WARNING, "virtspool-listen",
			    "virtspool-listen is not connected to every libvirt that it is configured for"),
		       "journalctl -u virtspool-listen; is libvirtd running?");
}

/* --- the spool */

static void judge_emergency(const struct verdict_facts *f, struct verdict *v)
{
	const struct status_file *s = f->status;
	const char *error = f->write_error < 0	 ? strerror(-f->write_error)
			    : s->emergency_error ? s->emergency_error
						 : NULL;
	struct finding *found;
	char count[48];

	if (f->emergency > 0) {
		format_count(f->emergency, "event", count);
		found = find(v, VERDICT_EMERGENCY, VERDICT_DEGRADED, f->spool_dir,
			     "the emergency spool in '%s' is in use (%s): the disk could not take "
			     "them%s%s",
			     f->run_dir, count, error ? ": " : "", error ? error : "");
	} else if (error) {
		found = find(v, VERDICT_EMERGENCY, VERDICT_DEGRADED, f->spool_dir,
			     "the spool '%s' takes no events: %s; they go through memory, and a "
			     "power cut loses them",
			     f->spool_dir, error);
	} else if (s->emergency_run > 0 && age_s(f, s->emergency_last_usec) < EMERGENCY_RECENT_S) {
		format_count(s->emergency_run, "event", count);
		found = find(
			v, VERDICT_EMERGENCY, VERDICT_DEGRADED, f->spool_dir,
			"the last %s did not reach the disk '%s': the hook put them into memory",
			count, f->spool_dir);
	} else {
		return;
	}
	remedy(found, "virtspool doctor writes to the spool and says what fails: full, read-only, "
		      "an error of the disk, rights (NFS with root_squash)");
}

static void judge_spool(const struct verdict_facts *f, struct verdict *v)
{
	const char *error = f->status->spool_error;

	if (f->spool_error == -ETIMEDOUT)
		remedy(find(v, VERDICT_SPOOL_HANGS, VERDICT_DEGRADED, f->spool_dir,
			    "the spool '%s' does not answer, so what is in it is not known; new "
			    "events go to the emergency spool in '%s'",
			    f->spool_dir, f->run_dir),
		       "look at its disk or file server (dmesg)");
	else if (f->spool_error == -EACCES)
		remedy(find(v, VERDICT_SPOOL_MISSING, VERDICT_DOWN, f->spool_dir,
			    "cannot open the spool '%s': %s", f->spool_dir, strerror(EACCES)),
		       "virtspool doctor, run as root, shows who should own it");
	else if (f->spool_error < 0)
		remedy(find(v, VERDICT_SPOOL_MISSING, VERDICT_DOWN, f->spool_dir,
			    "cannot open the spool '%s': %s; is its file system mounted?",
			    f->spool_dir, strerror(-f->spool_error)),
		       "mount its file system, or systemd-tmpfiles --create virtspool.conf");
	if (error && f->spool_error == 0)
		remedy(find(v, VERDICT_SPOOL_UNREADABLE, VERDICT_DEGRADED, f->spool_dir,
			    "the daemon %s", error),
		       "virtspool doctor checks the spool's directories and its disk");
	judge_emergency(f, v);
}

/* --- the daemon and its connection */

static void judge_daemon(const struct verdict_facts *f, struct verdict *v)
{
	const struct status_file *s = f->status;

	if (f->status_error == -ENOENT)
		remedy(find(v, VERDICT_DAEMON_DOWN, VERDICT_DOWN, "virtspoold",
			    "virtspoold is not running; events wait in the spool"),
		       LOOK_AT_DAEMON);
	else if (f->status_error == -EACCES)
		remedy(find(v, VERDICT_STATUS_UNREADABLE, VERDICT_DEGRADED, STATUS_FILE,
			    "cannot read '%s/" STATUS_FILE "': %s", f->run_dir, strerror(EACCES)),
		       "run this as root, or in the group virtspool");
	else if (f->status_error < 0)
		remedy(find(v, VERDICT_STATUS_UNREADABLE, VERDICT_DEGRADED, STATUS_FILE,
			    "cannot read '%s/" STATUS_FILE "': %s", f->run_dir,
			    safe_read_error(f->status_error)),
		       "remove it, then systemctl restart virtspool; the daemon writes a regular "
		       "file, so find out who put this there");
	if (f->status_error < 0)
		return;
	if (!s->connected)
		remedy(find(v, VERDICT_DISCONNECTED, VERDICT_DEGRADED, s->broker,
			    "not connected to a broker%s%s; events wait in the spool",
			    s->last_error ? ": " : "", s->last_error ? s->last_error : ""),
		       "virtspool doctor tries each broker");
	if (s->reload_refused_usec) {
		char when[32];

		remedy(find(v, VERDICT_RELOAD_REFUSED, VERDICT_DEGRADED, s->config,
			    "the reload at %s was refused, and the configuration and certificates "
			    "from before it stay in force: %s",
			    clock_text(s->reload_refused_usec, when),
			    s->reload_error ? s->reload_error : "see the log"),
		       "virtspoold --check-config says what is wrong; fix it, then systemctl "
		       "reload virtspool");
	}
	if (s->version && strcmp(s->version, PACKAGE_VERSION) != 0)
		remedy(find(v, VERDICT_OTHER_VERSION, VERDICT_WARNING, "virtspoold",
			    "the running virtspoold is of version %s, the installed programs of "
			    "%s",
			    s->version, PACKAGE_VERSION),
		       "systemctl restart virtspool");
	if (s->host && f->host && strcmp(s->host, f->host) != 0)
		remedy(find(v, VERDICT_HOST_CHANGED, VERDICT_WARNING, f->host,
			    "this host is called '%s' now, but the daemon publishes as '%s'",
			    f->host, s->host),
		       "systemctl restart virtspool, or set `host` in the configuration");
	if (s->status_topic_error)
		remedy(find(v, VERDICT_STATUS_TOPIC, VERDICT_WARNING, "mqtt.status_topic", "%s",
			    s->status_topic_error),
		       "grant this host its status topic, retained; or set mqtt.status_topic: none");
}

/* Do connections end after the same time of silence, which is shorter than the keep-alive? */
static bool is_idle_cut(const struct status_file *s)
{
	return s->losses_steady && s->loss_silence_ms >= IDLE_CUT_MS &&
	       (s->keep_alive_s == 0 || s->loss_silence_ms < s->keep_alive_s * 1000 + 500);
}

/* Has the current connection lasted much longer than those that were lost? */
static bool has_settled(const struct verdict_facts *f)
{
	uint64_t lasted_s = age_s(f, f->status->connected_since_usec);

	return f->status->connected && lasted_s >= SETTLED_S &&
	       lasted_s * 1000 >= 2 * f->status->loss_lasted_ms;
}

static void remedy_idle_cut(const struct status_file *s, struct finding *found)
{
	/* A PINGREQ may be a second late, and takes its time. */
	uint64_t keep_alive_s = s->loss_silence_ms * 3 / 4 / 1000;

	if (keep_alive_s >= KEEP_ALIVE_MIN_S)
		remedy(found,
		       "a proxy or firewall seems to end idle connections: set mqtt.keep_alive to "
		       "%" PRIu64 "s, or raise its idle time-out",
		       keep_alive_s);
	else
		remedy(found, "a proxy or firewall seems to end idle connections: raise its idle "
			      "time-out, and set mqtt.keep_alive to less than that");
}

static void judge_losses(const struct verdict_facts *f, struct verdict *v)
{
	const struct status_file *s = f->status;
	const char *client_id = s->client_id ? s->client_id : "";
	struct finding *found;
	char span[32] = "an hour";

	if (s->losses_last_hour < LOSSES_MANY || has_settled(f))
		return;
	if (s->losses_span_ms > 0 && s->losses_span_ms < UINT64_C(3600000))
		format_age(s->losses_span_ms / 1000, span);
	found = find(v, VERDICT_FLAPPING, VERDICT_DEGRADED, s->broker,
		     "the connection to %s was lost %" PRIu64
		     " times within %s, typically %.1f s after it was made and after %.1f s "
		     "of silence%s",
		     s->broker ? s->broker : "the broker", s->losses_last_hour, span,
		     (double)s->loss_lasted_ms / 1000, (double)s->loss_silence_ms / 1000,
		     s->taken_over ? "; the broker says that another client took it over" : "");
	if (s->taken_over)
		remedy(found,
		       "another client uses the client id '%s': give each host its own mqtt.client_id",
		       client_id);
	else if (is_idle_cut(s))
		remedy_idle_cut(s, found);
	else if (2 * s->losses_idle > s->losses_last_hour)
		remedy(found,
		       "the broker closes it without a reason, and takes the next one: another "
		       "client probably uses the client id '%s'; the broker's log shows it; give "
		       "each host its own mqtt.client_id",
		       client_id);
	else
		remedy(found,
		       "the broker's log says why; is the network up, and does the broker "
		       "keep running? If its log names the client id '%s' again and again, "
		       "two clients use it: give each host its own mqtt.client_id",
		       client_id);
}

/* Up to a consumer's coming, or going and coming back. */
static void judge_unheard_before(const struct status_file *s, struct verdict *v)
{
	char count[48], first[32], last[32], since[40], until[40];

	if (s->unheard_before == 0)
		return;
	format_count(s->unheard_before, "event", count);
	format_time_utc(s->unheard_before_since_usec / 1000, since);
	format_time_utc(s->unheard_before_until_usec / 1000 + 1, until);
	remedy(find(v, VERDICT_NO_SUBSCRIBER, VERDICT_WARNING, s->broker,
		    "%s of %s to %s reached nobody: the broker had no subscriber for them (0x10)",
		    count, clock_text(s->unheard_before_since_usec, first),
		    clock_text(s->unheard_before_until_usec, last)),
	       "virtspool replay --from sent --since %s --until %s sends them again; "
	       "mqtt.require_subscriber: true lets such events wait",
	       since, until);
}

static void judge_subscriber(const struct verdict_facts *f, struct verdict *v)
{
	const struct status_file *s = f->status;
	char count[48], when[32], since[40];

	/* A short row may be of topics that nobody wants, if others are wanted. */
	if (s->unheard == 0 || (s->unheard < UNHEARD_MANY && s->answers[0] > 0)) {
		judge_unheard_before(s, v);
		return;
	}
	format_count(s->unheard, "event", count);
	format_time_utc(s->unheard_since_usec / 1000, since);
	remedy(find(v, VERDICT_NO_SUBSCRIBER, VERDICT_DEGRADED, s->broker,
		    "the broker %s has no subscriber for what it takes (0x10): the last %s, since "
		    "%s, reached nobody",
		    s->broker ? s->broker : "", count, clock_text(s->unheard_since_usec, when)),
	       "when the consumer has subscribed: virtspool replay --from sent --since %s; with "
	       "mqtt.require_subscriber: true such events wait",
	       since);
}

/* --- what waits */

/* mqtt.require_subscriber is set, and nobody has subscribed. */
static bool lacks_subscriber(const struct status_attempt *a)
{
	return strstr(a->why, "(0x10)");
}

/* Events that were refused, or that lack a subscriber, and those of the same guests after them. */
static bool judge_held(const struct verdict_facts *f, bool unheard, struct verdict *v)
{
	const struct status_file *s = f->status;
	const struct status_attempt *first = NULL;
	uint64_t events = 0, guests = 0;
	char count[48], vms[48];

	for (size_t i = 0; i < s->n_attempts; i++) {
		const struct status_attempt *a = &s->attempts[i];

		if (!a->refused || !a->topic || lacks_subscriber(a) != unheard)
			continue;
		events += 1 + a->waiting;
		guests++;
		first = first ? first : a;
	}
	if (!first)
		return false;
	format_count(events, "event", count);
	format_count(guests, "VM", vms);
	remedy(find(v, unheard ? VERDICT_NO_SUBSCRIBER : VERDICT_REFUSED, VERDICT_DEGRADED,
		    first->topic, "%s of %s wait%s because %s: %s on topic %s", count, vms,
		    events == 1 ? "s" : "",
		    unheard ? "nobody has subscribed" : "the broker refuses them", first->why,
		    first->topic),
	       unheard ? "they are sent when a consumer subscribes; virtspool show %.18s shows the "
			 "first"
		       : "grant this host the right to publish there; they are sent then, and "
			 "virtspool show %.18s shows the first",
	       first->id);
	return true;
}

static void judge_attempts(const struct verdict_facts *f, struct verdict *v)
{
	const struct status_file *s = f->status;
	bool refused = judge_held(f, false, v), unheard = judge_held(f, true, v);
	char count[48];

	if (refused || unheard || s->n_attempts == 0)
		return;
	format_count(s->n_attempts, "event", count);
	remedy(find(v, VERDICT_REFUSED, VERDICT_DEGRADED, s->attempts[0].id,
		    "%s wait%s after an attempt without success: %s", count,
		    s->n_attempts == 1 ? "s" : "", s->attempts[0].why),
	       "virtspool show %.18s shows the event", s->attempts[0].id);
}

static void judge_waiting(const struct verdict_facts *f, struct verdict *v)
{
	const struct status_file *s = f->status;
	uint64_t age = age_s(f, f->oldest_usec);
	char text[48];

	judge_attempts(f, v);
	if (s->unreadable > 0) {
		format_count(s->unreadable, "record", text);
		remedy(find(v, VERDICT_UNREADABLE_RECORDS, VERDICT_DEGRADED, f->spool_dir,
			    "the daemon cannot read %s that wait%s: %s", text,
			    s->unreadable == 1 ? "s" : "",
			    s->unreadable_error ? s->unreadable_error : "see the log"),
		       "chgrp virtspool and chmod 0660 what is in '%s/new'", f->spool_dir);
	}
	if (age < LATE_S)
		return;
	format_age(age, text);
	remedy(find(v, VERDICT_LATE, VERDICT_DEGRADED, f->spool_dir,
		    "the oldest event has been waiting for %s", text),
	       s->connected ? "virtspool list new shows it, and virtspool show ID why it waits"
			    : "it is sent as soon as there is a connection");
}

static void judge_failed(const struct verdict_facts *f, struct verdict *v)
{
	char count[48];

	if (f->failed > 0) {
		format_count(f->failed, "event", count);
		remedy(find(v, VERDICT_FAILED_EVENTS, VERDICT_DEGRADED, "failed/",
			    "%s could not be delivered", count),
		       "virtspool list failed says why; then virtspool replay --from failed, or "
		       "virtspool drop");
	}
	if (f->strays > 0) {
		format_count(f->strays, "file", count);
		remedy(find(v, VERDICT_STRAY_FILES, VERDICT_DEGRADED, "failed/",
			    f->strays == 1 ? "failed/ holds %s that is not an event"
					   : "failed/ holds %s that are not events",
			    count),
		       "virtspool list failed shows the names, virtspool drop removes them");
	}
}

static void judge_sequence(const struct verdict_facts *f, struct verdict *v)
{
	const struct status_file *s = f->status;
	char count[48];

	if (s->missing == 0)
		return;
	format_count(s->missing, "transition", count);
	remedy(find(v, VERDICT_SEQUENCE_HOLE, VERDICT_DEGRADED, s->epoch,
		    "%s of this epoch never reached the spool", count),
	       "journalctl -t virtspool-hook says why; consumers see the hole in the sequence");
}

/* --- certificates */

bool verdict_judge_certificate(uint64_t now_usec, const char *whose, uint64_t begin_usec,
			       uint64_t end_usec, const char *how, struct verdict *v)
{
	uint64_t left_s = end_usec > now_usec ? (end_usec - now_usec) / USEC_PER_SEC : 0;
	uint64_t lifetime_s =
		begin_usec && end_usec > begin_usec ? (end_usec - begin_usec) / USEC_PER_SEC : 0;
	uint64_t soon_s = lifetime_s && lifetime_s / 3 < CERTIFICATE_SOON_S ? lifetime_s / 3
									    : CERTIFICATE_SOON_S;
	bool bad = left_s <= CERTIFICATE_BAD_S;
	char age[32];

	if (end_usec == 0 || (!bad && left_s > soon_s))
		return false;
	format_age(left_s > 0 ? left_s : (now_usec - end_usec) / USEC_PER_SEC, age);
	if (left_s == 0)
		remedy(find(v, VERDICT_CERTIFICATE_EXPIRED, VERDICT_DEGRADED, whose,
			    "%s expired %s ago", whose, age),
		       "%s", how);
	else
		remedy(find(v, VERDICT_CERTIFICATE_EXPIRES,
			    bad ? VERDICT_DEGRADED : VERDICT_WARNING, whose, "%s expires in %s",
			    whose, age),
		       "%s", how);
	return true;
}

static void judge_certificates(const struct verdict_facts *f, struct verdict *v)
{
	static const char renew[] = "renew it, then systemctl reload virtspool";
	const struct status_file *s = f->status;

	(void)verdict_judge_certificate(f->now_usec, "our certificate", s->own_begin_usec,
					s->own_end_usec, renew, v);
	(void)verdict_judge_certificate(
		f->now_usec, "the signing certificate", s->signing_begin_usec, s->signing_end_usec,
		"renew it, then systemctl reload virtspool: consumers reject "
		"what is signed later",
		v);
	(void)verdict_judge_certificate(f->now_usec, "the authority's certificate",
					s->authority_begin_usec, s->authority_end_usec, renew, v);
	(void)verdict_judge_certificate(f->now_usec, "the broker's certificate",
					s->broker_begin_usec, s->broker_end_usec,
					"renew it on the broker", v);
}

/* --- all of it */

/* The worst first, otherwise in the order of the way. */
static void sort(struct verdict *v)
{
	for (size_t i = 1; i < v->n; i++)
		for (size_t k = i; k > 0 && v->findings[k - 1].level < v->findings[k].level; k--) {
			struct finding f = v->findings[k];

			v->findings[k] = v->findings[k - 1];
			v->findings[k - 1] = f;
		}
}

void verdict_judge(const struct verdict_facts *f, struct verdict *ret_verdict)
{
	struct verdict *v = ret_verdict;

	*v = (struct verdict){0};
	judge_daemon(f, v);
	judge_spool(f, v);
	judge_hooks(f, v);
	judge_listener(f, v);
	judge_losses(f, v);
	judge_subscriber(f, v);
	judge_waiting(f, v);
	judge_failed(f, v);
	judge_sequence(f, v);
	judge_certificates(f, v);
	sort(v);
}

void verdict_release(struct verdict *v)
{
	for (size_t i = 0; i < v->n; i++) {
		free(v->findings[i].object);
		free(v->findings[i].cause);
		free(v->findings[i].remedy);
	}
	*v = (struct verdict){0};
}

const struct finding *verdict_find(const struct verdict *v, enum verdict_kind kind)
{
	for (size_t i = 0; i < v->n; i++)
		if (v->findings[i].kind == kind)
			return &v->findings[i];
	return NULL;
}

int verdict_exit_code(const struct verdict *v)
{
	return v->level == VERDICT_DOWN ? 2 : v->level == VERDICT_DEGRADED ? 1 : 0;
}
