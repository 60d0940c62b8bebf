/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is published of a record: always valid JSON with the attributes that CloudEvents demands,
   whatever bytes it has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/event/event.h"
#include "spooler/base/utf8.h"
#include "tests/unit/source-file.h"

#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"
#define ID "01990a3c-7bbd-7123-8123-0123456789ab"
#define EPOCH "0123456789abcdef0123456789abcdef"
#define DOMAIN_XML                                                                                 \
	"<domain type='kvm' id='3'><name>web</name><uuid>" UUID                                    \
	"</uuid><title>T</title><metadata>"                                                        \
	"<x xmlns='urn:x'>y</x></metadata><memory>2048</memory><vcpu>2</vcpu></domain>"
#define HEAD(time, sequence, type, subject)                                                        \
	"{\"specversion\":\"1.0\",\"id\":\"" ID                                                    \
	"\",\"source\":\"/virtspool/node1.example\",\"type\":\"" type "\"," subject                \
	"\"time\":\"" time "\",\"datacontenttype\":\"application/json\",\"sequence\":\"" sequence  \
	"\","                                                                                      \
	"\"epoch\":\"" EPOCH                                                                       \
	"\",\"recordedtime\":\"2026-09-21T14:13:20.123456Z\",\"replayed\":false,\"data\":"
#define TICKS_1 (1790000000123ULL * 4096 + 2048)

static char *metadata_list[] = {"urn:x"};

static struct config config_default(void)
{
	return (struct config){
		.host = "node1.example",
		.mqtt.topic = "virtspool/v1/{host}/{driver}/{uuid}/{operation}",
		.mqtt.status_topic = "virtspool/v1/{host}/status",
	};
}

static struct bytes b(const char *s)
{
	return (struct bytes){s, strlen(s)};
}

static struct record record_default(void)
{
	return (struct record){
		.stamp = {.epoch = EPOCH, .sequence = 42, .ticks = TICKS_1, .id = ID},
		.recorded_ns = 1790000000123456789,
		.driver = b("qemu"),
		.object = b("web"),
		.operation = b("started"),
		.suboperation = b("begin"),
		.extra = b("-"),
		.argc = 4,
	};
}

/* --- whole payloads */

static json_t *known_fields; /* of the schema: the properties of data */

static int load_schema(void **state)
{
	const char *srcdir = getenv("srcdir");
	char path[4096];
	json_t *schema;

	(void)state;
	snprintf(path, sizeof(path), "%s/etc/event.schema.json", srcdir ? srcdir : ".");
	schema = json_load_file(path, 0, NULL);
	known_fields = json_object_get(
		json_object_get(json_object_get(schema, "definitions"), "transition"),
		"properties");
	json_incref(known_fields);
	json_decref(schema);
	return known_fields ? 0 : -1;
}

static int free_schema(void **state)
{
	(void)state;
	json_decref(known_fields);
	return 0;
}

static void payloads(void **state)
{
	static const struct {
		const char *driver, *object, *operation, *suboperation, *extra, *document;
		unsigned flags, argc;
		const char *topic, *payload;
	} table[] = {
		{"qemu", "web", "started", "begin", "-", DOMAIN_XML, 0, 4,
		 "virtspool/v1/node1.example/qemu/" UUID "/started",
		 HEAD("2026-09-21T14:13:20.123500Z", "00000000000000000042",
		      "org.virtspool.qemu.started.begin",
		      "\"subject\":\"web\",") "{\"host\":\"node1.example\",\"driver\":\"qemu\",\"operation\":"
					      "\"started\",\"suboperation\":\"begin\","
					      "\"name\":\"web\",\"transition\":\"" ID
					      "\",\"uuid\":\"" UUID
					      "\",\"title\":\"T\",\"domain_type\":\"kvm\",\"domain_id\":3,"
					      "\"vcpus\":2,\"vcpus_max\":2,\"memory_kib\":2048,\"memory_max_kib\":2048}"
					      "}"},
		{"qemu", "web", "release", "end", "from snapshot",
		 "<domain type='kvm'><name>web</name></domain>", 0, 4,
		 "virtspool/v1/node1.example/qemu/-/release",
		 HEAD("2026-09-21T14:13:20.123500Z", "00000000000000000042",
		      "org.virtspool.qemu.release.end",
		      "\"subject\":\"web\",") "{\"host\":\"node1.example\",\"driver\":\"qemu\",\"operation\":"
					      "\"release\",\"suboperation\":\"end\","
					      "\"reason\":\"from "
					      "snapshot\",\"name\":\"web\",\"domain_type\":\"kvm\"}}"},
		{"daemon", "-", "reload", "begin", "SIGHUP", "", 0, 4,
		 "virtspool/v1/node1.example/daemon/-/reload",
		 HEAD("2026-09-21T14:13:20.123500Z", "00000000000000000042",
		      "org.virtspool.daemon.reload.begin",
		      "") "{\"host\":\"node1.example\",\"driver\":\"daemon\",\"operation\":\"reload\",\"suboperation\":"
			  "\"begin\","
			  "\"reason\":\"SIGHUP\"}}"},
		{"daemon", "-", "start", "-", "start", "", 0, 4,
		 "virtspool/v1/node1.example/daemon/-/start",
		 HEAD("2026-09-21T14:13:20.123500Z", "00000000000000000042",
		      "org.virtspool.daemon.start",
		      "") "{\"host\":\"node1.example\",\"driver\":\"daemon\",\"operation\":\"start\",\"reason\":"
			  "\"start\"}}"},
		/* a domain may be called "-" */
		{"lxc", "-", "prepare", "begin", "-", "", 0, 4,
		 "virtspool/v1/node1.example/lxc/-/prepare",
		 HEAD("2026-09-21T14:13:20.123500Z", "00000000000000000042",
		      "org.virtspool.lxc.prepare.begin",
		      "\"subject\":\"-\",") "{\"host\":\"node1.example\",\"driver\":\"lxc\",\"operation\":\"prepare\","
					    "\"suboperation\":\"begin\","
					    "\"name\":\"-\"}}"},
		/* called without arguments */
		{"qemu", "", "", "", "", "junk", RECORD_UNORDERED, 0,
		 "virtspool/v1/node1.example/qemu/-/-",
		 HEAD("2026-09-21T14:13:20.123500Z", "00000000000000000042",
		      "org.virtspool.qemu.unknown",
		      "") "{\"host\":\"node1.example\",\"driver\":\"qemu\",\"operation\":\"\",\"argument_count\":0,"
			  "\"unordered\":true,\"document_error\":\"it is not well-formed XML\"}}"},
		{"qemu", "w\377\nb", "st.op/ped", "e\303nd", "b\200d", "",
		 RECORD_DOCUMENT_TRUNCATED | RECORD_ARGUMENTS_TRUNCATED, 4,
		 "virtspool/v1/node1.example/qemu/-/st%2Eop%2Fped",
		 HEAD("2026-09-21T14:13:20.123500Z", "00000000000000000042",
		      "org.virtspool.qemu.st%2Eop%2Fped.e%C3nd",
		      "\"subject\":\"w\357\277\275\357\277\275b\",") "{\"host\":\"node1.example\",\"driver\":\"qemu\","
								     "\"operation\":\"st.op/ped\","
								     "\"suboperation\":\"e\357\277\275nd\",\"reason\":"
								     "\"b\357\277\275d\",\"name\":"
								     "\"w\357\277\275\\nb\","
								     "\"truncated\":[\"document\",\"arguments\"],"
								     "\"exact\":{\"suboperation\":\"e%C3nd\","
								     "\"reason\":\"b%80d\",\"name\":\"w%FF%0Ab\"}}}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct config c = config_default();
		struct record r = record_default();
		struct event e;
		const char *why;

		r.driver = b(table[i].driver);
		r.object = b(table[i].object);
		r.operation = b(table[i].operation);
		r.suboperation = b(table[i].suboperation);
		r.extra = b(table[i].extra);
		r.document = b(table[i].document);
		r.flags = table[i].flags;
		r.argc = table[i].argc;
		assert_int_equal(event_build(&c, &r, false, &e, &why), 0);
		assert_string_equal(e.topic, table[i].topic);
		assert_string_equal(e.payload, table[i].payload);
		assert_int_equal(e.payload_size, strlen(e.payload));
		event_release(&e);
	}
}

static json_t *built(const struct config *c, const struct record *r, bool replayed)
{
	const char *why = NULL;
	json_error_t error;
	struct event e;
	json_t *event, *value;
	const char *key;

	assert_int_equal(event_build(c, r, replayed, &e, &why), 0);
	event = json_loadb(e.payload, e.payload_size, JSON_REJECT_DUPLICATES, &error);
	if (!event)
		fail_msg("%s in %s", error.text, e.payload);
	json_object_foreach (json_object_get(event, "data"), key, value)
		if (!json_object_get(known_fields, key))
			fail_msg("data.%s is not in etc/event.schema.json", key);
	event_release(&e);
	return event;
}

static const char *string_at(json_t *event, const char *section, const char *key)
{
	json_t *object = section ? json_object_get(event, section) : event;

	return json_string_value(json_object_get(object, key));
}

/* What the event API told: marked, tied to the hook's event, with its details. */
static void api(void **state)
{
	struct config c = config_default();
	struct record r = record_default();
	json_t *event, *data;

	(void)state;
	r.operation = b("lifecycle-stopped");
	r.suboperation = b("event");
	r.extra = b("destroyed");
	r.origin = b("api");
	r.flags = RECORD_TOLD_BY_HOOK;
	r.details[0] = b("device=net0");
	r.details[1] = b("path=/a\377=b");
	r.details[2] = b("alone");
	r.n_details = 3;
	event = built(&c, &r, false);
	data = json_object_get(event, "data");
	assert_string_equal(string_at(event, NULL, "type"),
			    "org.virtspool.qemu.lifecycle-stopped.event");
	assert_string_equal(string_at(event, "data", "origin"), "api");
	assert_string_equal(string_at(event, "data", "reason"), "destroyed");
	assert_true(json_is_false(json_object_get(data, "authoritative")));
	assert_null(json_object_get(data, "transition"));
	assert_string_equal(string_at(data, "details", "device"), "net0");
	assert_string_equal(string_at(data, "details", "path"), "/a\357\277\275=b");
	assert_string_equal(string_at(data, "details", "alone"), "");
	assert_string_equal(string_at(data, "exact", "details.path"), "/a%FF%3Db");
	json_decref(event);

	r.transition = b(ID);
	r.flags = 0;
	event = built(&c, &r, false);
	assert_string_equal(string_at(event, "data", "transition"), ID);
	assert_null(json_object_get(json_object_get(event, "data"), "authoritative"));
	json_decref(event);
}

static void asked_for(void **state)
{
	const char *why = NULL;
	struct event e;
	struct config c = config_default();
	struct record r = record_default();
	json_t *event, *data;

	(void)state;
	r.document = b(DOMAIN_XML);
	r.redacted = 2;
	c.events.xml = true;
	c.events.metadata = (struct strings){metadata_list, 1};
	event = built(&c, &r, true);
	data = json_object_get(event, "data");
	assert_true(json_is_true(json_object_get(event, "replayed")));
	assert_string_equal(string_at(event, "data", "xml"), DOMAIN_XML);
	assert_int_equal(json_integer_value(json_object_get(data, "redacted")), 2);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(data, "metadata"), "urn:x")),
		"<x xmlns=\"urn:x\">y</x>");
	json_decref(event);

	assert_int_equal(event_build_without_xml(&c, &r, true, &e, &why), 0);
	assert_true(e.xml_omitted && !e.xml);
	event = json_loadb(e.payload, e.payload_size, JSON_REJECT_DUPLICATES, NULL);
	assert_string_equal(string_at(event, "data", "xml_omitted"), "too large");
	assert_null(string_at(event, "data", "xml"));
	json_decref(event);
	event_release(&e);

	r.document = b("<domain>\377</domain>");
	event = built(&c, &r, false);
	assert_string_equal(string_at(event, "data", "xml"), "<domain>\357\277\275</domain>");
	assert_non_null(string_at(event, "data", "document_error"));
	json_decref(event);
}

static void arguments(void **state)
{
	struct config c = config_default();
	struct record r = record_default();
	json_t *event, *data, *list;

	(void)state;
	r.argc = 40;
	r.n_arguments = RECORD_ARGUMENTS_MAX;
	for (unsigned i = 0; i < r.n_arguments; i++)
		r.arguments[i] = i == 3 ? b("x\377/") : b("more");
	event = built(&c, &r, false);
	data = json_object_get(event, "data");
	list = json_object_get(data, "arguments");
	assert_int_equal(json_integer_value(json_object_get(data, "argument_count")), 40);
	assert_int_equal(json_array_size(list), RECORD_ARGUMENTS_MAX);
	assert_string_equal(json_string_value(json_array_get(list, 0)), "more");
	assert_string_equal(json_string_value(json_array_get(list, 3)), "x\357\277\275/");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(data, "exact"), "arguments.3")),
		"x%FF/");
	json_decref(event);
}

static void times(void **state)
{
	static const struct {
		uint64_t ticks;
		int64_t ns;
		const char *time, *recorded;
	} table[] = {
		{0, 0, "1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.000000Z"},
		{4095, 999, "1970-01-01T00:00:00.000999Z", "1970-01-01T00:00:00.000000Z"},
		{4096ULL * 951782399999, -1, "2000-02-28T23:59:59.999000Z",
		 "1969-12-31T23:59:59.999999Z"},
		{4096ULL * 951868800000, INT64_MIN, "2000-03-01T00:00:00.000000Z",
		 "1677-09-21T00:12:43.145224Z"},
		{4096ULL * 253402300799999, INT64_MAX, "9999-12-31T23:59:59.999000Z",
		 "2262-04-11T23:47:16.854775Z"},
		{4096ULL * 253402300800000, 0, "9999-12-31T23:59:59.000000Z",
		 "1970-01-01T00:00:00.000000Z"},
		{UINT64_MAX, 0, "9999-12-31T23:59:59.495999Z", "1970-01-01T00:00:00.000000Z"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct config c = config_default();
		struct record r = record_default();
		json_t *event;

		r.stamp.ticks = table[i].ticks;
		r.recorded_ns = table[i].ns;
		r.stamp.sequence = UINT64_MAX;
		event = built(&c, &r, false);
		assert_string_equal(string_at(event, NULL, "time"), table[i].time);
		assert_string_equal(string_at(event, NULL, "recordedtime"), table[i].recorded);
		assert_string_equal(string_at(event, NULL, "sequence"), "18446744073709551615");
		json_decref(event);
	}
}

/* Each byte in each place of a record: the JSON stays JSON, the attributes stay what they are. */
static void any_bytes(void **state)
{
	static char huge[RECORD_VALUE_MAX];

	(void)state;
	for (int c = 0; c < 257; c++) {
		struct config config = config_default();
		struct record r = record_default();
		char text[3] = {'a', (char)c, 'b'};
		struct bytes value =
			c == 256 ? (struct bytes){huge, sizeof(huge)} : (struct bytes){text, 3};
		json_t *event;
		const char *type;

		memset(huge, '\377', sizeof(huge));
		r.driver = r.object = r.operation = r.suboperation = r.extra = r.arguments[0] =
			r.document = value;
		r.n_arguments = 1;
		config.host = "h/+#\303\274";
		config.events.xml = true;
		event = built(&config, &r, false);
		assert_string_equal(string_at(event, NULL, "specversion"), "1.0");
		assert_string_equal(string_at(event, NULL, "id"), ID);
		assert_string_equal(string_at(event, NULL, "source"),
				    "/virtspool/h%2F%2B%23%C3%BC");
		type = string_at(event, NULL, "type");
		assert_int_equal(strncmp(type, "org.virtspool.", 14), 0);
		assert_int_equal(
			strspn(type,
			       "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~%."),
			strlen(type));
		assert_true(strlen(string_at(event, NULL, "subject")) > 0);
		json_decref(event);
	}
}

static void refuses(void **state)
{
	static const struct {
		const char *id, *epoch;
	} table[] = {{"", EPOCH},
		     {ID, ""},
		     {"../../../etc/passwd", EPOCH},
		     {ID, "0123456789ABCDEF0123456789ABCDEF"}};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct config c = config_default();
		struct record r = record_default();
		const char *why = NULL;
		struct event e;

		strcpy(r.stamp.id, table[i].id);
		strcpy(r.stamp.epoch, table[i].epoch);
		assert_int_equal(event_build(&c, &r, false, &e, &why), -EBADMSG);
		assert_non_null(why);
	}
}

static void status(void **state)
{
	struct config c = config_default();
	json_error_t error;
	struct event e;
	struct event_status s;
	json_t *event;

	(void)state;
	for (int online = 0; online < 2; online++) {
		s = (struct event_status){
			.online = online,
			.will = !online,
			.boot_id = EPOCH,
			.epoch = online ? EPOCH : NULL,
			.sequence = 7,
			.certificate = online ? "TUlJ" : NULL,
		};
		assert_int_equal(event_build_status(&c, &s, &e), 0);
		assert_string_equal(e.topic, "virtspool/v1/node1.example/status");
		event = json_loads(e.payload, 0, &error);
		assert_non_null(event);
		assert_string_equal(string_at(event, NULL, "type"),
				    online ? "org.virtspool.status.online"
					   : "org.virtspool.status.offline");
		assert_int_equal(strlen(string_at(event, NULL, "id")), 36);
		assert_null(string_at(event, NULL, "sequence"));
		assert_string_equal(string_at(event, "data", "status"),
				    online ? "online" : "offline");
		assert_true((string_at(event, "data", "epoch") != NULL) == online);
		assert_string_equal(string_at(event, "data", "boot_id"), EPOCH);
		assert_true((string_at(event, "data", "certificate") != NULL) == online);
		assert_true((string_at(event, NULL, "time") != NULL) == online);
		if (!online)
			assert_string_equal(string_at(event, "data", "reason"), "lost");
		json_decref(event);
		event_release(&e);
	}
	s = (struct event_status){
		.online = true,
		.lost = (struct event_range[]){{EPOCH, 3, 4}, {EPOCH, 7, 7}},
		.n_lost = 2,
	};
	assert_int_equal(event_build_status(&c, &s, &e), 0);
	assert_non_null(strstr(e.payload, "\"lost\":[{\"epoch\":\"" EPOCH
					  "\",\"first\":3,\"last\":4},{\"epoch\":\"" EPOCH
					  "\",\"first\":7,\"last\":7}]"));
	event_release(&e);
	c.mqtt.status_topic = NULL;
	s = (struct event_status){.online = false};
	assert_int_equal(event_build_status(&c, &s, &e), 0);
	assert_non_null(strstr(e.payload, "\"reason\":\"stopped\""));
	assert_null(e.topic);
	event_release(&e);
}

/* --- the manual and the schema */

/* The example in virtspool-events(7) is what is published. */
static void manual_example(void **state)
{
	char *text = file_of_source("spooler/event/virtspool-events.7"),
	     *example = strstr(text, "\n{\n"), *end;
	struct config c = config_default();
	struct record r = record_default();
	json_error_t error;
	json_t *shown, *event;

	(void)state;
	assert_non_null(example);
	end = strstr(example, "\n}\n");
	assert_non_null(end);
	end[2] = 0;
	shown = json_loads(example, JSON_REJECT_DUPLICATES, &error);
	assert_non_null(shown);
	r.document = b(DOMAIN_XML);
	event = built(&c, &r, false);
	assert_true(json_equal(shown, event));
	json_decref(shown);
	json_decref(event);
	free(text);
}

/* Every field of the schema is in the manual. */
static void manual_fields(void **state)
{
	char *text = file_of_source("etc/event.schema.json"),
	     *manual = file_of_source("spooler/event/virtspool-events.7");
	json_error_t error;
	json_t *schema = json_loads(text, JSON_REJECT_DUPLICATES, &error), *definitions, *value;
	json_t *objects[3];
	const char *key;

	(void)state;
	if (!schema)
		fail_msg("etc/event.schema.json:%d: %s", error.line, error.text);
	definitions = json_object_get(schema, "definitions");
	objects[0] = json_object_get(schema, "properties");
	objects[1] = json_object_get(json_object_get(definitions, "transition"), "properties");
	objects[2] = json_object_get(json_object_get(definitions, "status"), "properties");
	for (size_t i = 0; i < 3; i++) {
		assert_true(json_object_size(objects[i]) > 2);
		json_object_foreach (objects[i], key, value) {
			char item[128], second[128];

			snprintf(item, sizeof(item), "\n.It Cm %s\n", key);
			snprintf(second, sizeof(second), " , %s\n", key);
			if (strcmp(key, "data") && !strstr(manual, item) &&
			    !strstr(manual, second)) {
				snprintf(item, sizeof(item), "\n.It Cm %s ,", key);
				if (!strstr(manual, item))
					fail_msg("%s is not in virtspool-events(7)", key);
			}
		}
	}
	json_decref(schema);
	free(text);
	free(manual);
}

/* --- filters */

static void filters(void **state)
{
	enum { DRIVERS, OPERATIONS, DOMAINS, SKIP_DRIVERS, SKIP_OPERATIONS, SKIP_DOMAINS };
	static const struct {
		int key;
		const char *glob, *driver, *object, *operation;
		bool wanted;
	} table[] = {
		{DRIVERS, "qemu", "qemu", "web", "started", true},
		{DRIVERS, "qemu", "lxc", "web", "started", false},
		{DRIVERS, "q*", "qemu", "web", "started", true},
		{SKIP_DRIVERS, "network", "network", "default", "started", false},
		{SKIP_DRIVERS, "network", "qemu", "network", "started", true},
		{OPERATIONS, "st*", "qemu", "web", "started", true},
		{OPERATIONS, "st*", "qemu", "web", "release", false},
		{SKIP_OPERATIONS, "prepare", "qemu", "web", "prepare", false},
		{SKIP_OPERATIONS, "prepare", "qemu", "web", "start", true},
		{DOMAINS, "web", "qemu", "web", "start", true},
		{DOMAINS, "web", "qemu", "web2", "start", false},
		{DOMAINS, "[wd]eb?", "qemu", "deb1", "start", true},
		{DOMAINS, UUID, "qemu", "web", "start", true},
		{DOMAINS, "c7a5*", "qemu", "web", "start", true},
		{DOMAINS, "web", "network", "default", "start", true},
		{DOMAINS, "web", "daemon", "-", "start", true},
		{SKIP_DOMAINS, "test-*", "qemu", "test-1", "start", false},
		{SKIP_DOMAINS, "test-*", "qemu", "web", "start", true},
		{SKIP_DOMAINS, "c7a5*", "qemu", "web", "start", false},
		{SKIP_DOMAINS, "*", "daemon", "-", "start", true},
		{SKIP_DOMAINS, "a\357\277\275b", "qemu", "a\377b", "start", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct config c = config_default();
		struct record r = record_default();
		struct strings *lists[] = {&c.events.drivers,	      &c.events.operations,
					   &c.events.domains,	      &c.events.skip_drivers,
					   &c.events.skip_operations, &c.events.skip_domains};
		char *glob = (char *)(uintptr_t)table[i].glob;
		const char *why;
		struct event e;

		*lists[table[i].key] = (struct strings){&glob, 1};
		r.driver = b(table[i].driver);
		r.object = b(table[i].object);
		r.operation = b(table[i].operation);
		r.document = b(DOMAIN_XML);
		assert_int_equal(event_build(&c, &r, false, &e, &why), 0);
		if (event_wanted(&c, &r, &e) != table[i].wanted)
			fail_msg("%d '%s' with %s %s %s", table[i].key, table[i].glob,
				 table[i].driver, table[i].object, table[i].operation);
		event_release(&e);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(payloads),	 cmocka_unit_test(api),
		cmocka_unit_test(asked_for),	 cmocka_unit_test(arguments),
		cmocka_unit_test(times),	 cmocka_unit_test(any_bytes),
		cmocka_unit_test(refuses),	 cmocka_unit_test(status),
		cmocka_unit_test(filters),	 cmocka_unit_test(manual_example),
		cmocka_unit_test(manual_fields),
	};

	return cmocka_run_group_tests_name("event", tests, load_schema, free_schema);
}
