/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a guest's events say: each row is a stream of calls, "HOST:CALL[=REASON]", one a second. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/base/util.h"
#include "spooler/recorder/guest.h"

/* Host A's first epoch is a, its next one is A!; operations: KIND/OUTCOME[/REASON][/FROM>TO]. */
static const struct {
	const char *name, *stream, *state, *operations;
} table[] = {
	{"start", "A:prepare A:start A:started", "running@A", "start/success"},
	{"start and destroy", "A:prepare A:start A:started A:stopped A:release=destroyed",
	 "stopped@A (destroyed)", "start/success stop/success/destroyed"},
	{"starting", "A:prepare A:start", "starting@A", "start/running"},
	{"a start that fails after prepare", "A:prepare A:stopped A:release=failed",
	 "stopped@A (failed)", "start/failed/failed"},
	{"a start that fails after start", "A:prepare A:start A:stopped A:release", "stopped@A",
	 "start/failed"},
	{"libvirtd was killed in a start", "A:prepare A:prepare A:start A:started", "running@A",
	 "start/incomplete start/success"},
	{"no prepare", "A:started", "running@A", "start/success"},
	{"stopping", "A:started A:stopped", "stopped@A", "start/success stop/running"},
	{"no stopped", "A:started A:release=crashed", "stopped@A (crashed)",
	 "start/success stop/success/crashed"},
	{"no release", "A:started A:stopped A:prepare A:start A:started", "running@A",
	 "start/success stop/incomplete start/success"},
	{"restore", "A:restore A:prepare A:start A:started", "running@A", "restore/success"},
	{"libvirtd restarts", "A:prepare A:start A:started A:reconnect", "running@A",
	 "start/success"},
	{"found running", "A:reconnect", "running@A", ""},
	{"migration",
	 "A:started B:migrate B:prepare B:start B:started A:stopped A:release=migrated",
	 "running@B (migrated)", "start/success migration/success/A>B stop/success/migrated"},
	{"migrating", "A:started B:migrate B:prepare B:start B:started", "running@A incoming@B",
	 "start/success migration/running/A>B"},
	{"a migration that fails",
	 "A:started B:migrate B:prepare B:start B:started B:stopped B:release=failed",
	 "running@A (failed)", "start/success migration/failed/failed/A>B"},
	{"a migration from nobody known", "B:migrate B:prepare B:start B:started", "incoming@B",
	 "migration/running/?>B"},
	{"the source is known by its stop", "B:migrate B:prepare B:start B:started A:stopped",
	 "running@B", "migration/success/A>B stop/running"},
	{"the source's clock is slow",
	 "A:started A:stopped A:release=migrated B:migrate B:prepare B:start B:started",
	 "running@B", "start/success stop/success/migrated migration/success/A>B"},
	{"the API reports the move", "A:started B:migrate B:prepare B:start B:started B:moved",
	 "running@B running@A", "start/success migration/success/A>B"},
	{"there and back",
	 "A:started B:migrate B:prepare B:start B:started A:stopped A:release A:migrate A:prepare A:start "
	 "A:started B:stopped B:release",
	 "running@A",
	 "start/success migration/success/A>B stop/success migration/success/B>A stop/success"},
	{"on two hosts", "A:prepare A:start A:started B:prepare B:start B:started",
	 "running@B running@A", "start/success start/success"},
	{"booted", "A:started A!:prepare A!:start A!:started", "running@A",
	 "start/success start/success"},
	{"booted in a start", "A:prepare A!:prepare A!:start A!:started", "running@A",
	 "start/incomplete start/success"},
	{"the run directory was emptied", "A:started A!:stopped A!:release=shutdown",
	 "stopped@A (shutdown)", "start/success stop/success/shutdown"},
	{"paused", "A:started A:paused=paused", "paused@A (paused)", "start/success"},
	{"resumed", "A:started A:paused=paused A:resumed", "running@A", "start/success"},
	{"resumed before it is started", "A:prepare A:start A:resumed A:started", "running@A",
	 "start/success"},
	{"crashed and kept", "A:started A:crashed=panicked", "crashed@A (panicked)",
	 "start/success"},
	{"late words about a stop",
	 "A:started A:stopped A:release A:stop-reason=destroyed A:paused=paused",
	 "stopped@A (destroyed)", "start/success stop/success/destroyed"},
	{"the hook's reason counts", "A:started A:stopped A:release=shutdown A:stop-reason=other",
	 "stopped@A (shutdown)", "start/success stop/success/shutdown"},
	{"twice", "A:started A:stopped A:stopped A:release A:release", "stopped@A",
	 "start/success stop/success"},
};

static const char *const calls[] = {
	[CALL_NONE] = "none",		[CALL_RESTORE] = "restore",
	[CALL_MIGRATE] = "migrate",	[CALL_PREPARE] = "prepare",
	[CALL_START] = "start",		[CALL_STARTED] = "started",
	[CALL_RECONNECT] = "reconnect", [CALL_STOPPED] = "stopped",
	[CALL_RELEASE] = "release",	[CALL_PAUSED] = "paused",
	[CALL_RESUMED] = "resumed",	[CALL_MOVED] = "moved",
	[CALL_CRASHED] = "crashed",	[CALL_STOP_REASON] = "stop-reason",
	[CALL_NAMED] = "named",
};

static void parse(char *word, int at, struct guest_event *e)
{
	char *call = strchr(word, ':') + 1, *reason = strchr(call, '=');

	*e = (struct guest_event){.host = word[0], .time = at * (int64_t)USEC_PER_SEC + 1};
	e->id[5] = (unsigned char)at;
	memset(e->epoch, word[0] + (word[1] == '!'), 16);
	if (reason)
		*reason++ = 0;
	e->reason = reason;
	for (size_t i = 0; i < ELEMENTSOF(calls); i++)
		if (strcmp(calls[i], call) == 0)
			e->call = (enum guest_call)i;
	assert_int_not_equal(e->call, CALL_NONE);
}

static void print_state(const struct guest *g, char *text, size_t size)
{
	const struct guest_place *p = guest_place(g), *o = guest_other_place(g);
	size_t n = (size_t)snprintf(text, size, "%s@%c", guest_phase_name(p->phase), (char)p->host);

	if (o)
		n += (size_t)snprintf(text + n, size - n, " %s@%c", guest_phase_name(o->phase),
				      (char)o->host);
	if (g->reason[0])
		(void)snprintf(text + n, size - n, " (%s)", g->reason);
}

static void print_operations(const struct operations *ops, char *text, size_t size)
{
	size_t n = 0;

	text[0] = 0;
	for (size_t i = 0; i < ops->n; i++) {
		const struct operation *o = &ops->list[i];

		n += (size_t)snprintf(text + n, size - n, "%s%s/%s%s%s", i ? " " : "",
				      operation_kind_name(o->kind),
				      operation_outcome_name(o->outcome), o->reason[0] ? "/" : "",
				      o->reason);
		if (o->to)
			n += (size_t)snprintf(text + n, size - n, "/%c>%c",
					      o->from ? (char)o->from : '?', (char)o->to);
	}
}

static void test_table(void **state)
{
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		_cleanup_free_ char *stream = strdup(table[i].stream);
		struct operations ops = {};
		struct guest g = {};
		char text[512], *rest = stream;
		int at = 1;

		for (char *word; (word = strsep(&rest, " ")); at++) {
			unsigned char buf[GUEST_ENCODED_MAX];
			struct guest_event e;
			struct guest again;

			parse(word, at, &e);
			guest_fold(&g, &e, &ops);
			assert_int_equal(guest_decode(buf, guest_encode(&g, buf), &again), 0);
			g = again; /* nothing that matters is outside the memory */
		}
		print_state(&g, text, sizeof(text));
		if (strcmp(text, table[i].state) != 0)
			fail_msg("%s: state '%s' instead of '%s'", table[i].name, text,
				 table[i].state);
		print_operations(&ops, text, sizeof(text));
		if (strcmp(text, table[i].operations) != 0)
			fail_msg("%s: operations '%s' instead of '%s'", table[i].name, text,
				 table[i].operations);
		operations_release(&ops);
	}
}

/* Any calls on any hosts: nothing is written beyond a bound, and the memory survives its bytes. */
static void test_anything(void **state)
{
	srand(15);
	for (int round = 0; round < 300; round++) {
		struct operations ops = {};
		struct guest g = {};

		for (int at = 1; at < 200; at++) {
			struct guest_event e = {
				.host = 'A' + rand() % 7,
				.time = at * (int64_t)USEC_PER_SEC,
				.call = (enum guest_call)(rand() % 15),
				.reason =
					rand() % 3
						? "a reason that is longer than what is kept of it, ümläute"
						: NULL};
			unsigned char buf[GUEST_ENCODED_MAX];
			struct guest again;
			size_t n;

			e.id[5] = (unsigned char)at;
			memset(e.epoch, (int)e.host + rand() % 2, 16);
			guest_fold(&g, &e, &ops);
			n = guest_encode(&g, buf);
			assert_int_equal(guest_decode(buf, n, &again), 0);
			again.name = g.name;
			again.driver = g.driver;
			assert_int_equal(guest_encode(&again, buf), n);
			assert_true(g.n_places <= GUEST_PLACES_MAX);
			for (size_t cut = 0; cut < n; cut += 7) /* whatever is in the column */
				assert_int_equal(guest_decode(buf, cut, &again),
						 cut ? -EBADMSG : 0);
		}
		operations_release(&ops);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_anything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
