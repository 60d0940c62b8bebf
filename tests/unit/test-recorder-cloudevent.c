/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages: what is an event, what is refused and why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/base/hex.h"
#include "spooler/base/util.h"
#include "spooler/recorder/cloudevent.h"

static const struct cloudevent_topics topics = {"virtspool/v1/{host}/{driver}/{uuid}/{operation}",
						"virtspool/v1/{host}/status"};

#define TOPIC "virtspool/v1/kvm1/qemu/c7a5fdbd-edaf-9455-926a-d65c16db1809/started"
#define ID "01990a3c-7bbd-7123-8123-0123456789ab"
#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"
#define EPOCH "0123456789abcdef0123456789abcdef"
#define HEAD_(source, id, time, sequence, epoch)                                                   \
	"{\"specversion\":\"1.0\",\"id\":" id ",\"source\":" source                                \
	",\"type\":\"org.virtspool.qemu.started.begin\",\"time\":" time ",\"sequence\":" sequence  \
	",\"epoch\":" epoch ",\"replayed\":false,\"data\":"
#define HEAD                                                                                       \
	HEAD_("\"/virtspool/kvm1\"", "\"" ID "\"", "\"2026-09-21T14:13:20.123500Z\"",              \
	      "\"00000000000000000042\"", "\"" EPOCH "\"")
#define DATA "\"driver\":\"qemu\",\"operation\":\"started\",\"uuid\":\"" UUID "\""

static const struct {
	const char *name, *topic, *payload;
	const char *why; /* a part of it; NULL: it is an event */
} table[] = {
	{"an event", TOPIC, HEAD "{" DATA "}}", NULL},
	{"of another host's topic", "virtspool/v1/kvm2/qemu/u/started", HEAD "{" DATA "}}",
	 "another host"},
	{"of another host's data", TOPIC, HEAD "{\"host\":\"kvm2\"," DATA "}}", "'host'"},
	{"source of another kind", TOPIC, HEAD_("\"kvm1\"", "1", "1", "1", "1") "{}}",
	 "'source' is not"},
	{"another topic", "virtspool/v2/kvm1/qemu/u/started", HEAD "{" DATA "}}", "topic"},
	{"a shorter topic", "virtspool/v1/kvm1", HEAD "{" DATA "}}", "topic"},
	{"a longer topic", TOPIC "/x", HEAD "{" DATA "}}", "topic"},
	{"a topic without a host", "virtspool/v1//qemu/u/started", HEAD "{" DATA "}}", "topic"},
	{"a topic with half a character", "virtspool/v1/%c3/qemu/u/started", HEAD "{" DATA "}}",
	 "topic"},
	{"a topic with a line break", "virtspool/v1/%0a/qemu/u/started", HEAD "{" DATA "}}",
	 "topic"},
	{"not JSON", TOPIC, "hello", "not JSON"},
	{"nothing", TOPIC, "", "not JSON"},
	{"a list", TOPIC, "[]", "not a JSON object"},
	{"cut off", TOPIC, HEAD "{" DATA, "not JSON"},
	{"a member twice", TOPIC, HEAD "{" DATA ",\"uuid\":\"" UUID "\"}}", "not JSON"},
	{"data is a string", TOPIC, HEAD "\"x\"}", "'data'"},
	{"no operation", TOPIC, HEAD "{\"driver\":\"qemu\"}}", "'operation' is missing"},
	{"driver is a number", TOPIC, HEAD "{\"driver\":1,\"operation\":\"started\"}}",
	 "'driver' is not a string"},
	{"uuid is not one", TOPIC,
	 HEAD "{\"driver\":\"qemu\",\"operation\":\"started\",\"uuid\":\"x\"}}", "UUID"},
	{"id is a number", TOPIC,
	 HEAD_("\"/virtspool/kvm1\"", "1", "\"\"", "\"\"", "\"\"") "{" DATA "}}", "'id'"},
	{"id is of version 4", TOPIC,
	 HEAD_("\"/virtspool/kvm1\"", "\"" UUID "\"", "\"2026-09-21T14:13:20Z\"", "\"1\"",
	       "\"" EPOCH "\"") "{" DATA "}}",
	 "version 7"},
	{"time is not one", TOPIC,
	 HEAD_("\"/virtspool/kvm1\"", "\"" ID "\"", "\"yesterday\"", "\"1\"",
	       "\"" EPOCH "\"") "{" DATA "}}",
	 "'time'"},
	{"sequence is 0", TOPIC,
	 HEAD_("\"/virtspool/kvm1\"", "\"" ID "\"", "\"2026-09-21T14:13:20Z\"", "\"0\"",
	       "\"" EPOCH "\"") "{" DATA "}}",
	 "'sequence'"},
	{"sequence is too large", TOPIC,
	 HEAD_("\"/virtspool/kvm1\"", "\"" ID "\"", "\"2026-09-21T14:13:20Z\"",
	       "\"99999999999999999999\"", "\"" EPOCH "\"") "{" DATA "}}",
	 "'sequence'"},
	{"epoch is short", TOPIC,
	 HEAD_("\"/virtspool/kvm1\"", "\"" ID "\"", "\"2026-09-21T14:13:20Z\"", "\"1\"",
	       "\"12\"") "{" DATA "}}",
	 "'epoch'"},
	{"a name with a zero", TOPIC, HEAD "{" DATA ",\"name\":\"a\\u0000b\"}}", "not JSON"},
};

static void test_table(void **state)
{
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct cloudevent e;
		char why[128] = "";
		int r = cloudevent_parse(&topics, table[i].topic, table[i].payload,
					 strlen(table[i].payload), &e, why, sizeof(why));

		if (r == 0)
			cloudevent_release(&e);
		if (table[i].why ? r != -EBADMSG || !strstr(why, table[i].why) : r != 0)
			fail_msg("%s: %d '%s' instead of '%s'", table[i].name, r, why,
				 table[i].why ? table[i].why : "an event");
	}
}

static void test_event(void **state)
{
	static const char payload[] = HEAD "{" DATA ",\"name\":\"web\",\"reason\":\"r\"}}";
	struct cloudevent e;
	char why[128], text[UUID_TEXT];

	assert_int_equal(
		cloudevent_parse(&topics, TOPIC, payload, strlen(payload), &e, why, sizeof(why)),
		0);
	assert_int_equal(e.kind, CLOUDEVENT_EVENT);
	assert_string_equal(e.host, "kvm1");
	assert_true(e.time == INT64_C(1790000000123500));
	assert_int_equal(e.sequence, 42);
	assert_int_equal(e.call, CALL_STARTED);
	uuid_format(e.id, text);
	assert_string_equal(text, ID);
	uuid_format(e.guest, text);
	assert_string_equal(text, UUID);
	assert_string_equal(e.name, "web");
	assert_string_equal(e.reason, "r");
	cloudevent_release(&e);
}

static void test_status(void **state)
{
	static const char payload[] =
		"{\"specversion\":\"1.0\",\"source\":\"/virtspool/a%20b\",\"type\":\"org.virtspool.status.online\","
		"\"time\":\"2026-09-21T14:13:20Z\",\"data\":{\"host\":\"a b\",\"status\":\"online\",\"epoch\":\"" EPOCH
		"\",\"sequence\":\"7\",\"boot_id\":\"B\",\"lost\":[{\"first\":3,\"last\":4}]}}";
	struct cloudevent e;
	char why[128];

	assert_int_equal(cloudevent_parse(&topics, "virtspool/v1/a%20b/status", payload,
					  strlen(payload), &e, why, sizeof(why)),
			 0);
	assert_int_equal(e.kind, CLOUDEVENT_STATUS);
	assert_string_equal(e.host, "a b");
	assert_true(e.online);
	assert_int_equal(e.sequence, 7);
	assert_string_equal(e.boot, "B");
	assert_int_equal(e.n_lost, 1);
	assert_int_equal(e.lost[0].last, 4);
	cloudevent_release(&e);
}

/* A guest that a boot ended: its id is its place, although it has no number in the sequence. */
static void test_host_booted(void **state)
{
	static const struct {
		const char *origin, *reason;
		enum guest_call call;
	} rows[] = {
		{"spooler", "host booted", CALL_RELEASE},
		{"spooler", "another", CALL_NONE},
		{"api", "host booted", CALL_NONE},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		char payload[1024], why[128] = "";
		struct cloudevent e;

		(void)snprintf(payload, sizeof(payload),
			       HEAD "{\"origin\":\"%s\",\"driver\":\"qemu\",\"uuid\":\"" UUID
				    "\",\"operation\":\"reconciled\",\"suboperation\":\"shutoff\","
				    "\"reason\":\"%s\",\"unordered\":true}}",
			       rows[i].origin, rows[i].reason);
		assert_int_equal(cloudevent_parse(&topics, TOPIC, payload, strlen(payload), &e, why,
						  sizeof(why)),
				 0);
		assert_int_equal(e.call, rows[i].call);
		cloudevent_release(&e);
	}
}

/* What the event API's events say; the hooks' count where both report a transition. */
static void test_calls(void **state)
{
	static const struct {
		const char *data;
		enum guest_call call;
	} rows[] = {
		{"\"operation\":\"lifecycle-started\",\"reason\":\"booted\",\"authoritative\":false",
		 CALL_NONE},
		{"\"operation\":\"lifecycle-started\",\"reason\":\"booted\"", CALL_STARTED},
		{"\"operation\":\"lifecycle-stopped\",\"reason\":\"crashed\",\"authoritative\":false",
		 CALL_STOP_REASON},
		{"\"operation\":\"lifecycle-stopped\",\"reason\":\"crashed\"", CALL_RELEASE},
		{"\"operation\":\"lifecycle-suspended\",\"reason\":\"paused\"", CALL_PAUSED},
		{"\"operation\":\"lifecycle-suspended\",\"reason\":\"migrated\"", CALL_NONE},
		{"\"operation\":\"lifecycle-resumed\",\"reason\":\"unpaused\"", CALL_RESUMED},
		{"\"operation\":\"lifecycle-resumed\",\"reason\":\"migrated\"", CALL_MOVED},
		{"\"operation\":\"lifecycle-crashed\",\"reason\":\"panicked\"", CALL_CRASHED},
		{"\"operation\":\"device-added\"", CALL_NONE},
		{"\"operation\":\"prepare\"", CALL_NONE},
	};

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		char payload[1024], why[128] = "";
		struct cloudevent e;

		(void)snprintf(payload, sizeof(payload),
			       HEAD "{\"origin\":\"api\",\"driver\":\"qemu\",\"uuid\":\"" UUID
				    "\",%s}}",
			       rows[i].data);
		if (cloudevent_parse(&topics, TOPIC, payload, strlen(payload), &e, why,
				     sizeof(why)) < 0)
			fail_msg("%s: %s", rows[i].data, why);
		if (e.call != rows[i].call)
			fail_msg("%s: %d", rows[i].data, (int)e.call);
		cloudevent_release(&e);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),  cmocka_unit_test(test_event),
		cmocka_unit_test(test_status), cmocka_unit_test(test_host_booted),
		cmocka_unit_test(test_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
