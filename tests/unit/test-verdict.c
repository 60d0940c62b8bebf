/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verdict: each row is a set of facts and what is found in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/base/util.h"
#include "spooler/spool/verdict.h"

#define NOW (UINT64_C(1795248000) * USEC_PER_SEC)
#define HOURS(n) (UINT64_C(3600) * (n)*USEC_PER_SEC)
#define DAYS(n) HOURS(24 * (n))

/* A host on which all is well; each row changes something. */
struct host {
	struct status_file status;
	struct listener_file listener;
	struct hook_file hooks[HOOK_N_DRIVERS];
	struct verdict_facts facts;
};

static void be_well(struct host *h)
{
	static const char *const drivers[] = HOOK_DRIVERS;

	*h = (struct host){
		.status = {.pid = 1,
			   .version = PACKAGE_VERSION,
			   .host = "kvm1",
			   .config = "/etc/virtspool/virtspool.yaml",
			   .connected = true,
			   .broker = "mqtts://broker:8883",
			   .client_id = "virtspool-kvm1",
			   .keep_alive_s = 60,
			   .own_begin_usec = NOW - DAYS(5),
			   .own_end_usec = NOW + DAYS(360)},
		.listener = {.pid = 2, .listening = true},
		.facts = {.now_usec = NOW,
			  .spool_dir = "/spool",
			  .run_dir = "/run",
			  .status = &h->status,
			  .hooks = h->hooks,
			  .host = "kvm1"},
	};
	for (size_t i = 0; i < HOOK_N_DRIVERS; i++)
		h->hooks[i] = (struct hook_file){
			.driver = drivers[i],
			.state = i == 0 ? HOOK_RECORDS : HOOK_NOT_INSTALLED,
			.path = "/etc/libvirt/hooks/qemu",
		};
	h->facts.listener = &h->listener;
}

static void add_attempt(struct host *h, const char *why, const char *topic, uint64_t waiting)
{
	h->status.attempts[h->status.n_attempts++] = (struct status_attempt){
		.id = "01900000-0000-7000-8000-000000000001",
		.why = why,
		.topic = topic,
		.waiting = waiting,
		.refused = waiting > 0,
	};
}

#define ROW(name, change)                                                                          \
	static void name(struct host *h)                                                           \
	{                                                                                          \
		change;                                                                            \
	}

ROW(no_daemon, h->status = (struct status_file){0}; h->facts.status_error = -ENOENT)
ROW(fifo, h->status = (struct status_file){0}; h->facts.status_error = -EMEDIUMTYPE)
ROW(not_ours_to_read, h->status = (struct status_file){0}; h->facts.status_error = -EACCES)
ROW(disconnected, h->status.connected = false; h->status.last_error = "no route")
ROW(no_spool, h->facts.spool_error = -ENOENT)
ROW(dead_spool, h->facts.spool_error = -ETIMEDOUT; h->status.spool_error = "x")
ROW(spool_error, h->status.spool_error = "cannot open '/spool/new': Permission denied")
ROW(read_only, h->facts.write_error = -EROFS)
ROW(disk_error, h->status.emergency_error = "Input/output error"; h->status.emergency_run = 3;
    h->status.emergency_last_usec = NOW - 5)
ROW(through_memory, h->status.emergency_run = 1; h->status.emergency_last_usec = NOW - HOURS(1) / 2)
ROW(through_memory_long_ago, h->status.emergency_run = 1;
    h->status.emergency_last_usec = NOW - HOURS(2))
ROW(emergency, h->facts.emergency = 2)
ROW(hook_missing, h->hooks[0].state = HOOK_MISSING)
ROW(hook_replaced, h->hooks[0].state = HOOK_REPLACED)
ROW(hook_not_executable, h->hooks[0].state = HOOK_NOT_EXECUTABLE)
ROW(hook_old, h->hooks[0].state = HOOK_OTHER_VERSION)
ROW(hook_twice, h->hooks[0].state = HOOK_TWICE)
ROW(hook_silent, h->listener.records.without_hook = 2;
    h->listener.records.without_hook_usec = NOW - 1)
ROW(deaf_listener, h->listener.listening = false)
ROW(no_listener, h->facts.listener = NULL)
ROW(two_losses, h->status.losses_last_hour = 2)
ROW(idle_cut, h->status.losses_last_hour = 9; h->status.losses_idle = 9;
    h->status.loss_silence_ms = 30000; h->status.losses_steady = true;
    h->status.loss_lasted_ms = 31500)
ROW(short_idle_cut, h->status.losses_last_hour = 9; h->status.losses_steady = true;
    h->status.loss_silence_ms = 5000)
ROW(scattered, h->status.losses_last_hour = 9; h->status.losses_idle = 8;
    h->status.loss_silence_ms = 20000; h->status.loss_lasted_ms = 21500)
ROW(many_losses, h->status.losses_last_hour = 64; h->status.losses_span_ms = 130 * 1000)
ROW(settled, h->status.losses_last_hour = 9; h->status.loss_lasted_ms = 100 * 1000;
    h->status.connected_since_usec = NOW - HOURS(1) / 12)
ROW(not_settled, h->status.losses_last_hour = 3; h->status.loss_lasted_ms = 1000 * 1000;
    h->status.connected_since_usec = NOW - HOURS(1) / 2)
ROW(taken_over, h->status.losses_last_hour = 9; h->status.taken_over = 8)
ROW(two_clients, h->status.losses_last_hour = 60; h->status.losses_idle = 50;
    h->status.losses_steady = true; h->status.loss_lasted_ms = 1200;
    h->status.loss_silence_ms = 1200)
ROW(unheard, h->status.unheard = 3; h->status.unheard_since_usec = NOW - HOURS(1))
ROW(once_unheard, h->status.unheard = 2; h->status.unheard_since_usec = NOW - HOURS(1);
    h->status.answers[0] = 1)
ROW(first_unheard, h->status.unheard = 1; h->status.unheard_since_usec = NOW - HOURS(1))
ROW(unheard_before, h->status.unheard_before = 307; h->status.answers[0] = 1;
    h->status.unheard_before_since_usec = NOW - HOURS(2);
    h->status.unheard_before_until_usec = NOW - HOURS(1))
ROW(refused, add_attempt(h, "Not authorized (0x87)", "virtspool/v1/kvm1/qemu/u/started", 214))
ROW(lacks_subscriber, add_attempt(h, "No matching subscribers (0x10)", "v/k/q/u/started", 2))
ROW(lost_answer, add_attempt(h, "the connection was lost before the answer", NULL, 0))
ROW(late, h->facts.oldest_usec = NOW - 60 * USEC_PER_SEC; h->facts.live = 1)
ROW(not_late, h->facts.oldest_usec = NOW - 59 * USEC_PER_SEC; h->facts.live = 1)
ROW(unreadable, h->status.unreadable = 1; h->status.unreadable_error = "x: Permission denied")
ROW(failed, h->facts.failed = 1)
ROW(stray, h->facts.strays = 1)
ROW(hole, h->status.missing = 4)
ROW(reload, h->status.reload_refused_usec = NOW - HOURS(3); h->status.reload_error = "line 3")
ROW(expired, h->status.own_end_usec = NOW - 1)
ROW(signing_expired, h->status.signing_end_usec = NOW - 1)
ROW(expires_today, h->status.broker_begin_usec = NOW - DAYS(300);
    h->status.broker_end_usec = NOW + HOURS(23))
ROW(expires_soon, h->status.own_begin_usec = NOW - DAYS(340);
    h->status.own_end_usec = NOW + DAYS(25))
ROW(month_new, h->status.own_begin_usec = NOW; h->status.own_end_usec = NOW + DAYS(30))
ROW(month_old, h->status.own_begin_usec = NOW - DAYS(21); h->status.own_end_usec = NOW + DAYS(9))
ROW(authority_unknown_begin, h->status.authority_end_usec = NOW + DAYS(29))
ROW(status_topic, h->status.status_topic_error = "the broker refuses the will")
ROW(version, h->status.version = "0.1")
ROW(renamed, h->facts.host = "kvm2")
ROW(nothing, (void)h)

#define NOTHING VERDICT_N_KINDS

static const struct {
	const char *name;
	void (*change)(struct host *);
	enum verdict_kind kind; /* the only finding */
	enum verdict_level level;
	const char *object, *cause, *remedy; /* a part of each */
} table[] = {
	{"all is well", nothing, NOTHING, VERDICT_HEALTHY, NULL, NULL, NULL},
	{"no listener is fine", no_listener, NOTHING, VERDICT_HEALTHY, NULL, NULL, NULL},
	{"no daemon", no_daemon, VERDICT_DAEMON_DOWN, VERDICT_DOWN, "virtspoold",
	 "virtspoold is not running", "systemctl start"},
	{"a FIFO", fifo, VERDICT_STATUS_UNREADABLE, VERDICT_DEGRADED, "status.json",
	 "'/run/status.json': it is not a regular file", "remove it"},
	{"no rights", not_ours_to_read, VERDICT_STATUS_UNREADABLE, VERDICT_DEGRADED, "status.json",
	 "Permission denied", "as root"},
	{"disconnected", disconnected, VERDICT_DISCONNECTED, VERDICT_DEGRADED,
	 "mqtts://broker:8883", "not connected to a broker: no route", "virtspool doctor"},
	{"no spool", no_spool, VERDICT_SPOOL_MISSING, VERDICT_DOWN, "/spool",
	 "is its file system mounted", "mount"},
	{"a dead file server", dead_spool, VERDICT_SPOOL_HANGS, VERDICT_DEGRADED, "/spool",
	 "does not answer", "file server"},
	{"the daemon cannot read it", spool_error, VERDICT_SPOOL_UNREADABLE, VERDICT_DEGRADED,
	 "/spool", "the daemon cannot open '/spool/new'", "doctor"},
	{"a read-only spool", read_only, VERDICT_EMERGENCY, VERDICT_DEGRADED, "/spool",
	 "takes no events: Read-only file system", "virtspool doctor"},
	{"a disk with errors", disk_error, VERDICT_EMERGENCY, VERDICT_DEGRADED, "/spool",
	 "Input/output error", "virtspool doctor"},
	{"an event through memory", through_memory, VERDICT_EMERGENCY, VERDICT_DEGRADED, "/spool",
	 "the last 1 event did not reach the disk", "root_squash"},
	{"long ago", through_memory_long_ago, NOTHING, VERDICT_HEALTHY, NULL, NULL, NULL},
	{"the emergency spool", emergency, VERDICT_EMERGENCY, VERDICT_DEGRADED, "/spool",
	 "the emergency spool in '/run' is in use (2 events)", "virtspool doctor"},
	{"no hook", hook_missing, VERDICT_HOOK_MISSING, VERDICT_DEGRADED, "/hooks/qemu",
	 "are not recorded", "virtspool hooks install"},
	{"another's hook", hook_replaced, VERDICT_HOOK_REPLACED, VERDICT_DEGRADED, "/hooks/qemu",
	 "is another hook", "virtspool hooks install"},
	{"a hook that cannot run", hook_not_executable, VERDICT_HOOK_NOT_EXECUTABLE,
	 VERDICT_DEGRADED, "/hooks/qemu", "is not executable", "chmod 0755 '/etc"},
	{"an old hook", hook_old, VERDICT_HOOK_OTHER_VERSION, VERDICT_WARNING, "/hooks/qemu",
	 "of another version", "virtspool hooks install"},
	{"two hooks", hook_twice, VERDICT_HOOK_TWICE, VERDICT_WARNING, "/hooks/qemu", "both record",
	 "virtspool hooks install"},
	{"a hook that is not called", hook_silent, VERDICT_HOOK_SILENT, VERDICT_DEGRADED, "",
	 "2 transitions that no hook recorded", "doctor"},
	{"a deaf listener", deaf_listener, VERDICT_LISTENER, VERDICT_WARNING, "virtspool-listen",
	 "not connected", "libvirtd"},
	{"two losses", two_losses, NOTHING, VERDICT_HEALTHY, NULL, NULL, NULL},
	{"a proxy", idle_cut, VERDICT_FLAPPING, VERDICT_DEGRADED, "mqtts://broker:8883",
	 "9 times within an hour, typically 31.5 s after it was made and after 30.0 s of silence",
	 "set mqtt.keep_alive to 22s"},
	{"a proxy that is faster than any keep-alive", short_idle_cut, VERDICT_FLAPPING,
	 VERDICT_DEGRADED, "mqtts://broker:8883", "after 5.0 s of silence",
	 "raise its idle time-out"},
	{"a client id used twice, by clients that wait for longer and longer", scattered,
	 VERDICT_FLAPPING, VERDICT_DEGRADED, "mqtts://broker:8883", "after 20.0 s of silence",
	 "another client probably uses the client id 'virtspool-kvm1'"},
	{"more losses than are remembered", many_losses, VERDICT_FLAPPING, VERDICT_DEGRADED,
	 "mqtts://broker:8883", "was lost 64 times within 2 min 10 s", "the broker's log"},
	{"losses that have an end", settled, NOTHING, VERDICT_HEALTHY, NULL, NULL, NULL},
	{"losses that come every half hour", not_settled, VERDICT_FLAPPING, VERDICT_DEGRADED,
	 "mqtts://broker:8883", "3 times within an hour", "the broker's log"},
	{"a client id used twice, and the broker says so", taken_over, VERDICT_FLAPPING,
	 VERDICT_DEGRADED, "mqtts://broker:8883", "took it over", "client id 'virtspool-kvm1'"},
	{"a client id used twice, and it does not", two_clients, VERDICT_FLAPPING, VERDICT_DEGRADED,
	 "mqtts://broker:8883", "60 times",
	 "another client probably uses the client id 'virtspool-kvm1'"},
	{"no subscriber", unheard, VERDICT_NO_SUBSCRIBER, VERDICT_DEGRADED, "mqtts://broker:8883",
	 "no subscriber for what it takes (0x10): the last 3 events",
	 "virtspool replay --from sent --since 20"},
	{"the first event without a subscriber", first_unheard, VERDICT_NO_SUBSCRIBER,
	 VERDICT_DEGRADED, "mqtts://broker:8883", "the last 1 event", "virtspool replay"},
	{"events without a subscriber, before", unheard_before, VERDICT_NO_SUBSCRIBER,
	 VERDICT_WARNING, "mqtts://broker:8883", "307 events of 20",
	 "virtspool replay --from sent --since 20"},
	{"two events without a subscriber", once_unheard, NOTHING, VERDICT_HEALTHY, NULL, NULL,
	 NULL},
	{"not authorized", refused, VERDICT_REFUSED, VERDICT_DEGRADED,
	 "virtspool/v1/kvm1/qemu/u/started",
	 "215 events of 1 VM wait because the broker refuses them: Not authorized (0x87) on topic "
	 "virtspool/v1/kvm1/qemu/u/started",
	 "grant this host"},
	{"no subscriber, and they are kept", lacks_subscriber, VERDICT_NO_SUBSCRIBER,
	 VERDICT_DEGRADED, "v/k/q/u/started",
	 "3 events of 1 VM wait because nobody has subscribed: No matching subscribers (0x10) on "
	 "topic v/k/q/u/started",
	 "when a consumer subscribes"},
	{"tried without an answer", lost_answer, VERDICT_REFUSED, VERDICT_DEGRADED, "01900000",
	 "1 event waits after an attempt", "virtspool show 01900000-0000-7000"},
	{"late", late, VERDICT_LATE, VERDICT_DEGRADED, "/spool",
	 "the oldest event has been waiting for 1 min 0 s", "virtspool list"},
	{"not late yet", not_late, NOTHING, VERDICT_HEALTHY, NULL, NULL, NULL},
	{"unreadable records", unreadable, VERDICT_UNREADABLE_RECORDS, VERDICT_DEGRADED, "/spool",
	 "cannot read 1 record that waits: x: Permission denied", "chgrp"},
	{"failed events", failed, VERDICT_FAILED_EVENTS, VERDICT_DEGRADED, "failed/",
	 "1 event could not be delivered", "virtspool list failed"},
	{"other files", stray, VERDICT_STRAY_FILES, VERDICT_DEGRADED, "failed/",
	 "failed/ holds 1 file that is not an event", "drop"},
	{"a hole", hole, VERDICT_SEQUENCE_HOLE, VERDICT_DEGRADED, "",
	 "4 transitions of this epoch never reached the spool", "journalctl"},
	{"a refused reload", reload, VERDICT_RELOAD_REFUSED, VERDICT_DEGRADED, "virtspool.yaml",
	 "stay in force: line 3", "--check-config"},
	{"signing_expired", signing_expired, VERDICT_CERTIFICATE_EXPIRED, VERDICT_DEGRADED,
	 "the signing certificate", "the signing certificate expired 0 s ago", "consumers reject"},
	{"expired", expired, VERDICT_CERTIFICATE_EXPIRED, VERDICT_DEGRADED, "our certificate",
	 "our certificate expired 0 s ago", "renew it"},
	{"expires within a day", expires_today, VERDICT_CERTIFICATE_EXPIRES, VERDICT_DEGRADED,
	 "the broker's certificate", "expires in 23 h 0 min", "on the broker"},
	{"expires soon", expires_soon, VERDICT_CERTIFICATE_EXPIRES, VERDICT_WARNING,
	 "our certificate", "expires in 25 d 0 h", "renew it"},
	{"a month's certificate, new", month_new, NOTHING, VERDICT_HEALTHY, NULL, NULL, NULL},
	{"a month's certificate, old", month_old, VERDICT_CERTIFICATE_EXPIRES, VERDICT_WARNING,
	 "our certificate", "expires in 9 d", "renew it"},
	{"an authority whose begin is not known", authority_unknown_begin,
	 VERDICT_CERTIFICATE_EXPIRES, VERDICT_WARNING, "the authority's certificate", "expires",
	 "renew it"},
	{"no will", status_topic, VERDICT_STATUS_TOPIC, VERDICT_WARNING, "mqtt.status_topic",
	 "refuses the will", "or set mqtt.status_topic: none"},
	{"another version", version, VERDICT_OTHER_VERSION, VERDICT_WARNING, "virtspoold", "0.1",
	 "restart"},
	{"another host name", renamed, VERDICT_HOST_CHANGED, VERDICT_WARNING, "kvm2",
	 "called 'kvm2' now, but the daemon publishes as 'kvm1'", "restart"},
};

static bool contains(const char *text, const char *part)
{
	return text && strstr(text, part);
}

static void judges_each_kind(void **state)
{
	struct host *h = calloc(1, sizeof(*h));
	bool seen[VERDICT_N_KINDS] = {false};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct verdict v;
		const struct finding *f;

		be_well(h);
		table[i].change(h);
		verdict_judge(&h->facts, &v);
		if (v.level != table[i].level || v.n != (table[i].kind != NOTHING))
			fail_msg("%s: level %d, %zu findings, the first '%s'", table[i].name,
				 v.level, v.n, v.n > 0 ? v.findings[0].cause : "");
		if (table[i].kind != NOTHING) {
			f = &v.findings[0];
			seen[f->kind] = true;
			if (f->kind != table[i].kind || f->level != table[i].level ||
			    !contains(f->object, table[i].object) ||
			    !contains(f->cause, table[i].cause) ||
			    !contains(f->remedy, table[i].remedy))
				fail_msg("%s: %s, '%s', '%s', '%s'", table[i].name,
					 verdict_kind_name(f->kind), f->object, f->cause,
					 f->remedy);
			assert_true(verdict_kind_warns(f->kind) || f->level != VERDICT_WARNING);
		}
		verdict_release(&v);
	}
	for (enum verdict_kind k = 0; k < VERDICT_N_KINDS; k++)
		if (!seen[k])
			fail_msg("no row finds %s", verdict_kind_name(k));
	free(h);
}

static void the_worst_comes_first(void **state)
{
	struct host *h = calloc(1, sizeof(*h));
	struct verdict v;

	(void)state;
	be_well(h);
	version(h);
	failed(h);
	no_spool(h);
	verdict_judge(&h->facts, &v);
	assert_int_equal(v.n, 3);
	assert_int_equal(v.findings[0].kind, VERDICT_SPOOL_MISSING);
	assert_int_equal(v.findings[1].kind, VERDICT_FAILED_EVENTS);
	assert_int_equal(v.findings[2].kind, VERDICT_OTHER_VERSION);
	assert_int_equal(verdict_exit_code(&v), 2);
	assert_non_null(verdict_find(&v, VERDICT_OTHER_VERSION));
	assert_null(verdict_find(&v, VERDICT_LATE));
	verdict_release(&v);
	free(h);
}

/* Everything at once fits. */
static void all_at_once(void **state)
{
	struct host *h = calloc(1, sizeof(*h));
	struct verdict v;

	(void)state;
	be_well(h);
	for (size_t i = 0; i < ELEMENTSOF(table); i++)
		if (table[i].kind != VERDICT_DAEMON_DOWN &&
		    table[i].kind != VERDICT_STATUS_UNREADABLE)
			table[i].change(h);
	for (size_t i = 0; i < HOOK_N_DRIVERS; i++)
		h->hooks[i].state = HOOK_NOT_EXECUTABLE;
	no_spool(h);
	h->facts.listener = &h->listener;
	verdict_judge(&h->facts, &v);
	assert_in_range(v.n, 15, VERDICT_FINDINGS_MAX - 1);
	assert_int_equal(v.level, VERDICT_DOWN);
	verdict_release(&v);
	free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_each_kind),
		cmocka_unit_test(the_worst_comes_first),
		cmocka_unit_test(all_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
