/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * event-table - see event-table.h.
 *
 * libvirt calls each event's callback with arguments of its own, the connection and the domain
 * always first. For an id that is newer than our headers only these two are known. Its callback
 * takes just them, which the calling conventions of all platforms that libvirt runs on allow, and
 * cannot reach its userdata, which comes last: so each such id has a callback of its own that knows
 * its number, and the subscription is found by the connection.
 */
#include "spooler/listener/event-table.h"

#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdarg.h>

#include "spooler/base/util.h"

#define SUBSCRIPTIONS_MAX 32

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct subscription *subscriptions[SUBSCRIPTIONS_MAX];

/* --- words */

/* Newer than the libvirt that we are built with may be: its number and its callback do not
   change. */
#define EVENT_ID_NIC_MAC_CHANGE 27 /* 11.2.0 */

static const char *const event_names[] = {
	[VIR_DOMAIN_EVENT_ID_LIFECYCLE] = "lifecycle",
	[VIR_DOMAIN_EVENT_ID_REBOOT] = "reboot",
	[VIR_DOMAIN_EVENT_ID_RTC_CHANGE] = "rtc-change",
	[VIR_DOMAIN_EVENT_ID_WATCHDOG] = "watchdog",
	[VIR_DOMAIN_EVENT_ID_IO_ERROR] = "io-error",
	[VIR_DOMAIN_EVENT_ID_GRAPHICS] = "graphics",
	[VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON] = "io-error-reason",
	[VIR_DOMAIN_EVENT_ID_CONTROL_ERROR] = "control-error",
	[VIR_DOMAIN_EVENT_ID_BLOCK_JOB] = "block-job",
	[VIR_DOMAIN_EVENT_ID_DISK_CHANGE] = "disk-change",
	[VIR_DOMAIN_EVENT_ID_TRAY_CHANGE] = "tray-change",
	[VIR_DOMAIN_EVENT_ID_PMWAKEUP] = "pm-wakeup",
	[VIR_DOMAIN_EVENT_ID_PMSUSPEND] = "pm-suspend",
	[VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE] = "balloon-change",
	[VIR_DOMAIN_EVENT_ID_PMSUSPEND_DISK] = "pm-suspend-disk",
	[VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED] = "device-removed",
	[VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2] = "block-job-2",
	[VIR_DOMAIN_EVENT_ID_TUNABLE] = "tunable",
	[VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE] = "agent-lifecycle",
	[VIR_DOMAIN_EVENT_ID_DEVICE_ADDED] = "device-added",
	[VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION] = "migration-iteration",
	[VIR_DOMAIN_EVENT_ID_JOB_COMPLETED] = "job-completed",
	[VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED] = "device-removal-failed",
	[VIR_DOMAIN_EVENT_ID_METADATA_CHANGE] = "metadata-change",
	[VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD] = "block-threshold",
	[VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE] = "memory-failure",
	[VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE] = "memory-device-size-change",
	[EVENT_ID_NIC_MAC_CHANGE] = "nic-mac-change",
};

struct words {
	const char *const *list;
	size_t n;
};
#define WORDS(...)                                                                                 \
	{                                                                                          \
		.list = (const char *const[]){__VA_ARGS__},                                        \
		.n = ELEMENTSOF(((const char *const[]){__VA_ARGS__}))                              \
	}

static const struct words lifecycle_words =
	WORDS("defined", "undefined", "started", "suspended", "resumed", "stopped", "shutdown",
	      "pmsuspended", "crashed");

/* As the hooks' last argument has them, where that has them. */
static const struct words lifecycle_details[] = {
	[VIR_DOMAIN_EVENT_DEFINED] = WORDS("added", "updated", "renamed", "from snapshot"),
	[VIR_DOMAIN_EVENT_UNDEFINED] = WORDS("removed", "renamed"),
	[VIR_DOMAIN_EVENT_STARTED] =
		WORDS("booted", "migrated", "restored", "from snapshot", "wakeup"),
	[VIR_DOMAIN_EVENT_SUSPENDED] =
		WORDS("paused", "migrated", "ioerror", "watchdog", "restored", "from snapshot",
		      "api error", "postcopy", "postcopy failed"),
	[VIR_DOMAIN_EVENT_RESUMED] =
		WORDS("unpaused", "migrated", "from snapshot", "postcopy", "postcopy failed"),
	[VIR_DOMAIN_EVENT_STOPPED] = WORDS("shutdown", "destroyed", "crashed", "migrated", "saved",
					   "failed", "from snapshot"),
	[VIR_DOMAIN_EVENT_SHUTDOWN] = WORDS("finished", "guest", "host"),
	[VIR_DOMAIN_EVENT_PMSUSPENDED] = WORDS("memory", "disk"),
	[VIR_DOMAIN_EVENT_CRASHED] = WORDS("panicked", "crashloaded"),
};

static const struct words watchdog_words =
	WORDS("none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi");
static const struct words io_error_words = WORDS("none", "pause", "report");
static const struct words graphics_words = WORDS("connect", "initialize", "disconnect");
static const struct words address_words = WORDS("ipv4", "ipv6", "unix");
static const struct words block_job_words =
	WORDS("unknown", "pull", "copy", "commit", "active-commit", "backup");
static const struct words block_job_status_words =
	WORDS("completed", "failed", "canceled", "ready");
static const struct words disk_change_words = WORDS("missing-on-start", "drop-missing-on-start");
static const struct words tray_words = WORDS("open", "close");
static const struct words agent_words = WORDS(NULL, "connected", "disconnected");
static const struct words agent_reason_words = WORDS("unknown", "domain-started", "channel");
static const struct words metadata_words = WORDS("description", "title", "element");
static const struct words recipient_words = WORDS("hypervisor", "guest");
static const struct words memory_action_words = WORDS("ignore", "inject", "fatal", "reset");
static const struct words job_words =
	WORDS("unknown", "start", "save", "restore", "migration-in", "migration-out", "snapshot",
	      "snapshot-revert", "dump", "backup", "snapshot-delete");

static const struct words state_words =
	WORDS(NULL, "running", "running", "paused", "shutdown", "shutoff", "crashed",
	      "pmsuspended"); /* blocked runs */
static const struct words state_reasons[] = {
	[VIR_DOMAIN_RUNNING] = WORDS("unknown", "booted", "migrated", "restored", "from snapshot",
				     "unpaused", "migration canceled", "save canceled", "wakeup",
				     "crashed", "postcopy", "postcopy failed"),
	[VIR_DOMAIN_PAUSED] =
		WORDS("unknown", "user", "migration", "save", "dump", "ioerror", "watchdog",
		      "from snapshot", "shutting down", "snapshot", "crashed", "starting up",
		      "postcopy", "postcopy failed", "api error"),
	[VIR_DOMAIN_SHUTDOWN] = WORDS("unknown", "user"),
	[VIR_DOMAIN_SHUTOFF] = WORDS("unknown", "shutdown", "destroyed", "crashed", "migrated",
				     "saved", "failed", "from snapshot", "daemon"),
	[VIR_DOMAIN_CRASHED] = WORDS("unknown", "panicked"),
	[VIR_DOMAIN_PMSUSPENDED] = WORDS("unknown"),
};

/* The word, or the number itself. */
static void word(const struct words *w, int value, char *buf, size_t size)
{
	if (w && value >= 0 && (size_t)value < w->n && w->list[value])
		(void)snprintf(buf, size, "%s", w->list[value]);
	else
		(void)snprintf(buf, size, "%d", value);
}

const char *event_table_event_name(int event_id)
{
	return event_id >= 0 && (size_t)event_id < ELEMENTSOF(event_names) ? event_names[event_id]
									   : NULL;
}

void event_table_state_word(int state, char *buf, size_t size)
{
	word(&state_words, state, buf, size);
}

void event_table_state_reason(int state, int reason, char *buf, size_t size)
{
	word(state >= 0 && (size_t)state < ELEMENTSOF(state_reasons) ? &state_reasons[state] : NULL,
	     reason, buf, size);
}

const char *event_table_hook_of(const struct notice *n)
{
	if (n->lifecycle == VIR_DOMAIN_EVENT_STARTED &&
	    n->detail != VIR_DOMAIN_EVENT_STARTED_WAKEUP)
		return "started";
	return n->lifecycle == VIR_DOMAIN_EVENT_STOPPED ? "stopped" : NULL;
}

/* --- a notice */

static void begin(struct notice *n, virDomainPtr domain, int event_id)
{
	const char *name = event_table_event_name(event_id);

	n->event_id = event_id;
	n->lifecycle = n->detail = -1;
	n->n_details = 0;
	n->truncated = false;
	n->reason[0] = '\0';
	n->name = virDomainGetName(domain);
	n->domain_id = (int)virDomainGetID(domain); /* (unsigned) -1: none */
	if (virDomainGetUUIDString(domain, n->uuid) < 0)
		n->uuid[0] = '\0';
	if (name)
		(void)snprintf(n->operation, sizeof(n->operation), "%s", name);
	else
		(void)snprintf(n->operation, sizeof(n->operation), "event-%d", event_id);
}

__attribute__((format(printf, 3, 4))) static void detail(struct notice *n, const char *key,
							 const char *format, ...)
{
	char *line;
	size_t k;
	va_list ap;

	if (n->n_details == RECORD_DETAILS_MAX) {
		n->truncated = true;
		return;
	}
	line = n->details[n->n_details];
	k = (size_t)snprintf(line, RECORD_DETAIL_MAX, "%s=", key);
	if (k >= RECORD_DETAIL_MAX) {
		n->truncated = true;
		return;
	}
	va_start(ap, format);
	if ((size_t)vsnprintf(line + k, RECORD_DETAIL_MAX - k, format, ap) >= RECORD_DETAIL_MAX - k)
		n->truncated = true;
	va_end(ap);
	n->n_details++;
}

static void detail_string(struct notice *n, const char *key, const char *value)
{
	if (value)
		detail(n, key, "%s", value);
}

static void detail_word(struct notice *n, const char *key, const struct words *w, int value)
{
	char buf[64];

	word(w, value, buf, sizeof(buf));
	detail_string(n, key, buf);
}

static void reason_word(struct notice *n, const struct words *w, int value)
{
	word(w, value, n->reason, sizeof(n->reason));
}

static void detail_parameter(struct notice *n, const virTypedParameter *p)
{
	switch (p->type) {
	case VIR_TYPED_PARAM_INT:
		detail(n, p->field, "%d", p->value.i);
		break;
	case VIR_TYPED_PARAM_UINT:
		detail(n, p->field, "%u", p->value.ui);
		break;
	case VIR_TYPED_PARAM_LLONG:
		detail(n, p->field, "%lld", p->value.l);
		break;
	case VIR_TYPED_PARAM_ULLONG:
		detail(n, p->field, "%llu", p->value.ul);
		break;
	case VIR_TYPED_PARAM_DOUBLE:
		detail(n, p->field, "%g", p->value.d);
		break;
	case VIR_TYPED_PARAM_BOOLEAN:
		detail(n, p->field, "%s", p->value.b ? "true" : "false");
		break;
	case VIR_TYPED_PARAM_STRING:
		detail(n, p->field, "%s", p->value.s ? p->value.s : "");
		break;
	default:
		detail(n, p->field, "type-%d", p->type);
	}
}

static void notify(const struct subscription *s, const struct notice *n)
{
	s->notify(n, s->userdata);
}

/* --- libvirt's callbacks: each says what its arguments are called. One thread runs them all. */

static struct notice notice;

static int on_lifecycle(virConnectPtr conn, virDomainPtr domain, int event, int why, void *userdata)
{
	const struct words *details = event >= 0 && (size_t)event < ELEMENTSOF(lifecycle_details)
					      ? &lifecycle_details[event]
					      : NULL;
	char name[32];

	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_LIFECYCLE);
	notice.lifecycle = event;
	notice.detail = why;
	word(&lifecycle_words, event, name, sizeof(name));
	(void)snprintf(notice.operation, sizeof(notice.operation), "lifecycle-%s", name);
	reason_word(&notice, details, why);
	notify(userdata, &notice);
	return 0;
}

static void on_reboot(virConnectPtr conn, virDomainPtr domain, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_REBOOT);
	notify(userdata, &notice);
}

static void on_rtc_change(virConnectPtr conn, virDomainPtr domain, long long offset, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_RTC_CHANGE);
	detail(&notice, "offset_s", "%lld", offset);
	notify(userdata, &notice);
}

static void on_watchdog(virConnectPtr conn, virDomainPtr domain, int action, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_WATCHDOG);
	reason_word(&notice, &watchdog_words, action);
	notify(userdata, &notice);
}

static void on_io_error(virConnectPtr conn, virDomainPtr domain, const char *path,
			const char *device, int action, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_IO_ERROR);
	detail_string(&notice, "path", path);
	detail_string(&notice, "device", device);
	detail_word(&notice, "action", &io_error_words, action);
	notify(userdata, &notice);
}

static void on_io_error_reason(virConnectPtr conn, virDomainPtr domain, const char *path,
			       const char *device, int action, const char *reason, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON);
	(void)snprintf(notice.reason, sizeof(notice.reason), "%s", reason ? reason : "");
	detail_string(&notice, "path", path);
	detail_string(&notice, "device", device);
	detail_word(&notice, "action", &io_error_words, action);
	notify(userdata, &notice);
}

static void detail_address(const char *side, const virDomainEventGraphicsAddress *a)
{
	char key[32];

	if (!a)
		return;
	(void)snprintf(key, sizeof(key), "%s_family", side);
	detail_word(&notice, key, &address_words, a->family);
	(void)snprintf(key, sizeof(key), "%s_node", side);
	detail_string(&notice, key, a->node);
	(void)snprintf(key, sizeof(key), "%s_service", side);
	detail_string(&notice, key, a->service);
}

static void on_graphics(virConnectPtr conn, virDomainPtr domain, int phase,
			const virDomainEventGraphicsAddress *local,
			const virDomainEventGraphicsAddress *remote, const char *scheme,
			const virDomainEventGraphicsSubject *subject, void *userdata)
{
	char key[64];

	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_GRAPHICS);
	reason_word(&notice, &graphics_words, phase);
	detail_address("local", local);
	detail_address("remote", remote);
	detail_string(&notice, "authentication", scheme);
	for (int i = 0; subject && i < subject->nidentity; i++) {
		(void)snprintf(key, sizeof(key), "identity_%s", subject->identities[i].type);
		detail_string(&notice, key, subject->identities[i].name);
	}
	notify(userdata, &notice);
}

static void on_control_error(virConnectPtr conn, virDomainPtr domain, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_CONTROL_ERROR);
	notify(userdata, &notice);
}

static void block_job(virDomainPtr domain, int id, const char *disk, int type, int status,
		      void *userdata)
{
	begin(&notice, domain, id);
	reason_word(&notice, &block_job_status_words, status);
	detail_string(&notice, "disk", disk);
	detail_word(&notice, "job", &block_job_words, type);
	notify(userdata, &notice);
}

static void on_block_job(virConnectPtr conn, virDomainPtr domain, const char *path, int type,
			 int status, void *userdata)
{
	block_job(domain, VIR_DOMAIN_EVENT_ID_BLOCK_JOB, path, type, status, userdata);
}

static void on_block_job_2(virConnectPtr conn, virDomainPtr domain, const char *target, int type,
			   int status, void *userdata)
{
	block_job(domain, VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, target, type, status, userdata);
}

static void on_disk_change(virConnectPtr conn, virDomainPtr domain, const char *old_path,
			   const char *new_path, const char *device, int reason, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_DISK_CHANGE);
	reason_word(&notice, &disk_change_words, reason);
	detail_string(&notice, "old_path", old_path);
	detail_string(&notice, "new_path", new_path);
	detail_string(&notice, "device", device);
	notify(userdata, &notice);
}

static void on_tray_change(virConnectPtr conn, virDomainPtr domain, const char *device, int reason,
			   void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_TRAY_CHANGE);
	reason_word(&notice, &tray_words, reason);
	detail_string(&notice, "device", device);
	notify(userdata, &notice);
}

static void pm(virDomainPtr domain, int id, int reason, void *userdata)
{
	begin(&notice, domain, id);
	if (reason != 0) /* libvirt has none yet */
		reason_word(&notice, NULL, reason);
	notify(userdata, &notice);
}

static void on_pm_wakeup(virConnectPtr conn, virDomainPtr domain, int reason, void *userdata)
{
	pm(domain, VIR_DOMAIN_EVENT_ID_PMWAKEUP, reason, userdata);
}

static void on_pm_suspend(virConnectPtr conn, virDomainPtr domain, int reason, void *userdata)
{
	pm(domain, VIR_DOMAIN_EVENT_ID_PMSUSPEND, reason, userdata);
}

static void on_pm_suspend_disk(virConnectPtr conn, virDomainPtr domain, int reason, void *userdata)
{
	pm(domain, VIR_DOMAIN_EVENT_ID_PMSUSPEND_DISK, reason, userdata);
}

static void on_balloon_change(virConnectPtr conn, virDomainPtr domain, unsigned long long kib,
			      void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE);
	detail(&notice, "memory_kib", "%llu", kib);
	notify(userdata, &notice);
}

static void device(virDomainPtr domain, int id, const char *alias, void *userdata)
{
	begin(&notice, domain, id);
	detail_string(&notice, "device", alias);
	notify(userdata, &notice);
}

static void on_device_removed(virConnectPtr conn, virDomainPtr domain, const char *alias,
			      void *userdata)
{
	device(domain, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, alias, userdata);
}

static void on_device_added(virConnectPtr conn, virDomainPtr domain, const char *alias,
			    void *userdata)
{
	device(domain, VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, alias, userdata);
}

static void on_device_removal_failed(virConnectPtr conn, virDomainPtr domain, const char *alias,
				     void *userdata)
{
	device(domain, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, alias, userdata);
}

static void on_tunable(virConnectPtr conn, virDomainPtr domain, virTypedParameterPtr parameters,
		       int n, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_TUNABLE);
	for (int i = 0; i < n; i++)
		detail_parameter(&notice, &parameters[i]);
	notify(userdata, &notice);
}

static void on_agent(virConnectPtr conn, virDomainPtr domain, int state, int reason, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE);
	reason_word(&notice, &agent_words, state);
	detail_word(&notice, "cause", &agent_reason_words, reason);
	notify(userdata, &notice);
}

static void on_migration_iteration(virConnectPtr conn, virDomainPtr domain, int iteration,
				   void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION);
	detail(&notice, "iteration", "%d", iteration);
	notify(userdata, &notice);
}

static void on_job_completed(virConnectPtr conn, virDomainPtr domain,
			     virTypedParameterPtr parameters, int n, void *userdata)
{
	int operation;

	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED);
	if (virTypedParamsGetInt(parameters, n, VIR_DOMAIN_JOB_OPERATION, &operation) == 1)
		reason_word(&notice, &job_words, operation);
	for (int i = 0; i < n; i++)
		detail_parameter(&notice, &parameters[i]);
	notify(userdata, &notice);
}

static void on_metadata_change(virConnectPtr conn, virDomainPtr domain, int type, const char *uri,
			       void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_METADATA_CHANGE);
	reason_word(&notice, &metadata_words, type);
	detail_string(&notice, "namespace", uri);
	notify(userdata, &notice);
}

static void on_block_threshold(virConnectPtr conn, virDomainPtr domain, const char *disk,
			       const char *path, unsigned long long threshold,
			       unsigned long long excess, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD);
	detail_string(&notice, "disk", disk);
	detail_string(&notice, "path", path);
	detail(&notice, "threshold", "%llu", threshold);
	detail(&notice, "excess", "%llu", excess);
	notify(userdata, &notice);
}

static void on_memory_failure(virConnectPtr conn, virDomainPtr domain, int recipient, int action,
			      unsigned int flags, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE);
	reason_word(&notice, &memory_action_words, action);
	detail_word(&notice, "recipient", &recipient_words, recipient);
	detail(&notice, "action_required", "%s",
	       flags & VIR_DOMAIN_MEMORY_FAILURE_ACTION_REQUIRED ? "true" : "false");
	detail(&notice, "recursive", "%s",
	       flags & VIR_DOMAIN_MEMORY_FAILURE_RECURSIVE ? "true" : "false");
	detail(&notice, "flags", "%u", flags);
	notify(userdata, &notice);
}

static void on_memory_device_size_change(virConnectPtr conn, virDomainPtr domain, const char *alias,
					 unsigned long long kib, void *userdata)
{
	begin(&notice, domain, VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE);
	detail_string(&notice, "device", alias);
	detail(&notice, "size_kib", "%llu", kib);
	notify(userdata, &notice);
}

static void on_nic_mac_change(virConnectPtr conn, virDomainPtr domain, const char *alias,
			      const char *old_mac, const char *new_mac, void *userdata)
{
	begin(&notice, domain, EVENT_ID_NIC_MAC_CHANGE);
	detail_string(&notice, "device", alias);
	detail_string(&notice, "old_mac", old_mac);
	detail_string(&notice, "new_mac", new_mac);
	notify(userdata, &notice);
}

/* --- events that have no name yet */

static void on_unknown(int id, virConnectPtr conn, virDomainPtr domain)
{
	const struct subscription *found = NULL;

	(void)pthread_mutex_lock(&lock);
	for (size_t i = 0; i < SUBSCRIPTIONS_MAX; i++)
		if (subscriptions[i] && subscriptions[i]->conn == conn)
			found = subscriptions[i];
	(void)pthread_mutex_unlock(&lock);
	if (!found)
		return;
	begin(&notice, domain, id);
	detail(&notice, "event", "%d", id);
	notify(found, &notice);
}

#define UNKNOWN(id)                                                                                \
	static void on_##id(virConnectPtr conn, virDomainPtr domain)                               \
	{                                                                                          \
		on_unknown(id, conn, domain);                                                      \
	}
#define UNKNOWN_8(a, b, c, d, e, f, g, h)                                                          \
	UNKNOWN(a) UNKNOWN(b) UNKNOWN(c) UNKNOWN(d) UNKNOWN(e) UNKNOWN(f) UNKNOWN(g) UNKNOWN(h)
UNKNOWN_8(24, 25, 26, 27, 28, 29, 30, 31)
UNKNOWN_8(32, 33, 34, 35, 36, 37, 38, 39)
UNKNOWN_8(40, 41, 42, 43, 44, 45, 46, 47)
UNKNOWN_8(48, 49, 50, 51, 52, 53, 54, 55)
UNKNOWN_8(56, 57, 58, 59, 60, 61, 62, 63)

typedef void (*unknown_fn)(virConnectPtr conn, virDomainPtr domain);
#define UNKNOWN_FIRST 24 /* below it every libvirt that we build with has names */
static const unknown_fn unknown[EVENT_TABLE_IDS_MAX - UNKNOWN_FIRST] = {
	on_24, on_25, on_26, on_27, on_28, on_29, on_30, on_31, on_32, on_33,
	on_34, on_35, on_36, on_37, on_38, on_39, on_40, on_41, on_42, on_43,
	on_44, on_45, on_46, on_47, on_48, on_49, on_50, on_51, on_52, on_53,
	on_54, on_55, on_56, on_57, on_58, on_59, on_60, on_61, on_62, on_63,
};

/* --- registering */

/* Any function pointer type holds any other: libvirt casts it back to the event's own. */
#define CALLBACK(f) ((virConnectDomainEventGenericCallback)(void (*)(void))(f))

static virConnectDomainEventGenericCallback callback_of(int id)
{
	const virConnectDomainEventGenericCallback known[] = {
		[VIR_DOMAIN_EVENT_ID_LIFECYCLE] = CALLBACK(on_lifecycle),
		[VIR_DOMAIN_EVENT_ID_REBOOT] = CALLBACK(on_reboot),
		[VIR_DOMAIN_EVENT_ID_RTC_CHANGE] = CALLBACK(on_rtc_change),
		[VIR_DOMAIN_EVENT_ID_WATCHDOG] = CALLBACK(on_watchdog),
		[VIR_DOMAIN_EVENT_ID_IO_ERROR] = CALLBACK(on_io_error),
		[VIR_DOMAIN_EVENT_ID_GRAPHICS] = CALLBACK(on_graphics),
		[VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON] = CALLBACK(on_io_error_reason),
		[VIR_DOMAIN_EVENT_ID_CONTROL_ERROR] = CALLBACK(on_control_error),
		[VIR_DOMAIN_EVENT_ID_BLOCK_JOB] = CALLBACK(on_block_job),
		[VIR_DOMAIN_EVENT_ID_DISK_CHANGE] = CALLBACK(on_disk_change),
		[VIR_DOMAIN_EVENT_ID_TRAY_CHANGE] = CALLBACK(on_tray_change),
		[VIR_DOMAIN_EVENT_ID_PMWAKEUP] = CALLBACK(on_pm_wakeup),
		[VIR_DOMAIN_EVENT_ID_PMSUSPEND] = CALLBACK(on_pm_suspend),
		[VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE] = CALLBACK(on_balloon_change),
		[VIR_DOMAIN_EVENT_ID_PMSUSPEND_DISK] = CALLBACK(on_pm_suspend_disk),
		[VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED] = CALLBACK(on_device_removed),
		[VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2] = CALLBACK(on_block_job_2),
		[VIR_DOMAIN_EVENT_ID_TUNABLE] = CALLBACK(on_tunable),
		[VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE] = CALLBACK(on_agent),
		[VIR_DOMAIN_EVENT_ID_DEVICE_ADDED] = CALLBACK(on_device_added),
		[VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION] = CALLBACK(on_migration_iteration),
		[VIR_DOMAIN_EVENT_ID_JOB_COMPLETED] = CALLBACK(on_job_completed),
		[VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED] = CALLBACK(on_device_removal_failed),
		[VIR_DOMAIN_EVENT_ID_METADATA_CHANGE] = CALLBACK(on_metadata_change),
		[VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD] = CALLBACK(on_block_threshold),
		[VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE] = CALLBACK(on_memory_failure),
		[VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE] =
			CALLBACK(on_memory_device_size_change),
		[EVENT_ID_NIC_MAC_CHANGE] = CALLBACK(on_nic_mac_change),
	};

	if ((size_t)id < ELEMENTSOF(known) && known[id])
		return known[id];
	return id >= UNKNOWN_FIRST && id < EVENT_TABLE_IDS_MAX
		       ? CALLBACK(unknown[id - UNKNOWN_FIRST])
		       : NULL;
}

/* An event with a richer successor is wanted only where that is missing. */
static int successor_of(int id)
{
	return id == VIR_DOMAIN_EVENT_ID_IO_ERROR    ? VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON
	       : id == VIR_DOMAIN_EVENT_ID_BLOCK_JOB ? VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2
						     : -1;
}

static void register_one(struct subscription *s, int id)
{
	virConnectDomainEventGenericCallback callback = callback_of(id);

	if (!callback)
		return;
	s->callbacks[id] = virConnectDomainEventRegisterAny(s->conn, NULL, id, callback, s, NULL);
	if (s->callbacks[id] >= 0)
		s->n_registered++;
}

static void enlist(struct subscription *s, struct subscription *instead_of)
{
	(void)pthread_mutex_lock(&lock);
	for (size_t i = 0; i < SUBSCRIPTIONS_MAX; i++)
		if (subscriptions[i] == instead_of) {
			subscriptions[i] = s;
			break;
		}
	(void)pthread_mutex_unlock(&lock);
}

int event_table_register(struct subscription *s, virConnectPtr conn, bool balloon)
{
	s->conn = conn;
	s->n_registered = 0;
	for (int id = 0; id < EVENT_TABLE_IDS_MAX; id++)
		s->callbacks[id] = -1;
	enlist(s, NULL);
	register_one(s, VIR_DOMAIN_EVENT_ID_LIFECYCLE);
	if (s->callbacks[VIR_DOMAIN_EVENT_ID_LIFECYCLE] < 0) {
		enlist(NULL, s);
		return -EOPNOTSUPP;
	}
	for (int id = EVENT_TABLE_IDS_MAX - 1; id > VIR_DOMAIN_EVENT_ID_LIFECYCLE; id--) {
		if (successor_of(id) >= 0 && s->callbacks[successor_of(id)] >= 0)
			continue;
		if (id == VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE && !balloon)
			continue;
		register_one(s, id);
	}
	virResetLastError();
	return 0;
}

void event_table_deregister(struct subscription *s)
{
	for (int id = 0; id < EVENT_TABLE_IDS_MAX; id++)
		if (s->callbacks[id] >= 0) /* of a dead connection it only gives back the memory */
			(void)virConnectDomainEventDeregisterAny(s->conn, s->callbacks[id]);
	virResetLastError();
	enlist(NULL, s);
	s->n_registered = 0;
	s->conn = NULL;
}
