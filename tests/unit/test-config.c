/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a configuration may say, what each mistake is told as, and that example and manual know
   the same keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "spooler/config/config.h"
#include "tests/unit/source-file.h"

#define B "brokers: [mqtts://b]\n"

/* With the files that configurations name; see setup(). */
static char directory[] = "/tmp/test-config-XXXXXX";

/* DIR in a text stands for the directory. */
static char *expand(const char *text)
{
	char *s;
	size_t size;
	FILE *f = open_memstream(&s, &size);

	for (; *text; text++)
		if (strncmp(text, "DIR", 3) == 0) {
			fputs(directory, f);
			text += 2;
		} else {
			fputc(*text, f);
		}
	fclose(f);
	return s;
}

static int parse(const char *text, struct config **ret, char **ret_errors)
{
	size_t size;
	FILE *f = open_memstream(ret_errors, &size);
	int r;

	*ret = NULL;
	r = config_parse("F", text, strlen(text), f, ret);
	fclose(f);
	return r;
}

static struct config *load(const char *text)
{
	char *expanded = expand(text), *errors;
	struct config *c;

	if (parse(expanded, &c, &errors) < 0)
		fail_msg("%s", errors);
	assert_string_equal(errors, "");
	free(expanded);
	free(errors);
	return c;
}

/* --- what is right */

static void defaults(void **state)
{
	struct config *c = load("host: n\n" B);
	char *warnings;

	(void)state;
	assert_string_equal(c->host, "n");
	assert_int_equal(c->n_brokers, 1);
	assert_int_equal(c->mqtt.version, 5);
	assert_int_equal(c->mqtt.qos, 1);
	assert_string_equal(c->mqtt.client_id, "virtspool-n");
	assert_null(c->mqtt.username);
	assert_null(c->mqtt.password_file);
	assert_int_equal(c->mqtt.window, 100);
	assert_string_equal(c->mqtt.topic, "virtspool/v1/{host}/{driver}/{uuid}/{operation}");
	assert_string_equal(c->mqtt.status_topic, "virtspool/v1/{host}/status");
	assert_int_equal(c->mqtt.will_delay_s, 1);
	assert_int_equal(c->mqtt.keep_alive_s, 30);
	assert_int_equal(c->mqtt.connect_timeout_s, 10);
	assert_int_equal(c->mqtt.ack_timeout_s, 30);
	assert_int_equal(c->mqtt.retry_min_s, 1);
	assert_int_equal(c->mqtt.retry_max_s, 60);
	assert_null(c->tls.ca_file);
	assert_string_equal(c->tls.minimum_version, "1.2");
	assert_false(c->events.xml);
	assert_int_equal(c->events.drivers.n, 0);
	assert_int_equal(c->spool.sent_age_s, 7 * 86400);
	assert_int_equal(c->spool.sent_size, 1 << 30);
	assert_int_equal(c->spool.queue_size, 0);
	assert_int_equal(c->spool.tmp_age_s, 3600);
	assert_int_equal(c->spool.stop_timeout_s, 5);
	assert_string_equal(c->metrics_file, "/run/test/virtspool.prom");
	assert_int_equal(c->log_level, LOG_INFO);
	config_free(c);

	assert_int_equal(parse(B, &c, &warnings),
			 0); /* warns of a machine that is called localhost */
	free(warnings);
	assert_true(strlen(c->host) > 0);
	assert_int_equal(strncmp(c->mqtt.client_id, "virtspool-", 10), 0);
	assert_string_equal(c->mqtt.client_id + 10, c->host);
	config_free(c);
}

static void values(void **state)
{
	struct config *c = load(
		"---\n"
		"host: node1.example.org\n"
		"brokers:\n"
		"  - mqtts://broker.example.org\n"
		"  - mqtts://192.0.2.1:8884\n"
		"  - mqtt://[::1]\n"
		"  - mqtts://[fe80::1%eth0]:443\n"
		"mqtt: {version: 3.1.1, qos: 2, client_id: c, username: \"u: \\\"x\\\"\", password_file: DIR/secret,\n"
		"       window: 65535, topic: 't/{name}', status_topic: none, keep_alive: 1m, ack_timeout: 45}\n"
		"tls:\n"
		"  ca_file: DIR/file\n"
		"  crl_file: DIR/file\n"
		"  certificate_file: pkcs11:token=t;object=c\n"
		"  key_file: pkcs11:token=t;object=k\n"
		"  key_password_file: DIR/secret\n"
		"  pins: [sha256:0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef]\n"
		"  minimum_version: 1.3\n"
		"  priority: NORMAL\n"
		"  server_name: b.example.org\n"
		"events:\n"
		"  xml: yes\n"
		"  metadata: ['http://example.org/x', \"urn:y\"]\n"
		"  domains: [web*, '*-db']\n"
		"spool: {sent_age: 0, sent_size: 512M, queue_size: 2T, tmp_age: 90m, stop_timeout: 0}\n"
		"metrics:\n"
		"  file: none\n"
		"log:\n"
		"  level: debug\n"
		"...\n");

	(void)state;
	assert_string_equal(c->host, "node1.example.org");
	assert_int_equal(c->n_brokers, 4);
	assert_string_equal(c->brokers[0].host, "broker.example.org");
	assert_int_equal(c->brokers[0].port, 8883);
	assert_true(c->brokers[0].tls);
	assert_string_equal(c->brokers[1].host, "192.0.2.1");
	assert_int_equal(c->brokers[1].port, 8884);
	assert_string_equal(c->brokers[2].host, "::1");
	assert_int_equal(c->brokers[2].port, 1883);
	assert_false(c->brokers[2].tls);
	assert_string_equal(c->brokers[3].host, "fe80::1%eth0");
	assert_int_equal(c->brokers[3].port, 443);
	assert_int_equal(c->mqtt.version, 3);
	assert_int_equal(c->mqtt.qos, 2);
	assert_string_equal(c->mqtt.username, "u: \"x\"");
	assert_int_equal(c->mqtt.window, 65535);
	assert_string_equal(c->mqtt.topic, "t/{name}");
	assert_null(c->mqtt.status_topic);
	assert_int_equal(c->mqtt.keep_alive_s, 60);
	assert_int_equal(c->mqtt.ack_timeout_s, 45);
	assert_string_equal(c->tls.certificate_file, "pkcs11:token=t;object=c");
	assert_int_equal(c->tls.pins.n, 1);
	assert_string_equal(c->tls.minimum_version, "1.3");
	assert_true(c->events.xml);
	assert_int_equal(c->events.metadata.n, 2);
	assert_string_equal(c->events.metadata.list[1], "urn:y");
	assert_string_equal(c->events.domains.list[1], "*-db");
	assert_int_equal(c->spool.sent_age_s, 0);
	assert_int_equal(c->spool.sent_size, 512 << 20);
	assert_int_equal(c->spool.queue_size, 2ULL << 40);
	assert_int_equal(c->spool.tmp_age_s, 5400);
	assert_null(c->metrics_file);
	assert_int_equal(c->log_level, LOG_DEBUG);
	config_free(c);
}

/* An empty section is one whose keys are commented out. */
static void empty_sections(void **state)
{
	(void)state;
	config_free(load("host: n\n" B "mqtt:\ntls: {}\nspool:\n"));
	config_free(load("host: n\n" B "events: {drivers: []}\n"));
}

static void credentials(void **state)
{
	struct config *c;
	char *expected;

	(void)state;
	setenv("CREDENTIALS_DIRECTORY", directory, 1);
	c = load("host: n\n" B "mqtt: {username: u, password_file: secret}\n");
	unsetenv("CREDENTIALS_DIRECTORY");
	expected = expand("DIR/secret");
	assert_string_equal(c->mqtt.password_file, expected);
	free(expected);
	config_free(c);
}

/* --- what is wrong */

static const struct {
	const char *text;
	/* Parts, one for each line that must be told, in order, "|" between them. */
	const char *errors;
} mistakes[] = {
	/* the brokers */
	{"", "F:1:1: brokers is missing"},
	{"# nothing\n", "F:1:1: brokers is missing"},
	{"host: h\n", "F:1:1: brokers is missing"},
	{"brokers: []\n", "F:1:10: brokers is empty"},
	{"brokers:\n", "F:1:9: brokers: wrong type; allowed: a list of mqtts://"},
	{"brokers: mqtts://b\n", "F:1:10: brokers: wrong type"},
	{"brokers: [b]\n", "F:1:11: brokers: 'b': allowed: mqtts://HOST[:PORT], or"},
	{"brokers: ['ssl://b', wss://b]\n",
	 "F:1:11: brokers: 'ssl://b'|F:1:22: brokers: 'wss://b'"},
	{"brokers: ['mqtts://']\n", "DNS name"},
	{"brokers: ['mqtts://b:0']\n", ":PORT"},
	{"brokers: ['mqtts://b:65536']\n", ":PORT"},
	{"brokers: ['mqtts://b:x']\n", ":PORT"},
	{"brokers: ['mqtts://b:']\n", ":PORT"},
	{"brokers: ['mqtts://b/x']\n", "DNS name"},
	{"brokers: ['mqtts://u:p@b']\n", "mqtt.password_file"},
	{"brokers: ['mqtts://2001:db8::1']\n", "brackets"},
	{"brokers: ['mqtts://[2001:db8::1']\n", "]"},
	{"brokers: ['mqtts://[b]']\n", "DNS name"},
	{"brokers: ['mqtts://b_ \303\274']\n", "DNS name"},
	/* keys */
	{B "hots: h\n", "F:2:1: unknown key 'hots'; did you mean 'host'?"},
	{B "mqtt:\n  windwo: 3\n", "F:3:3: unknown key 'mqtt.windwo'; did you mean 'mqtt.window'?"},
	{B "window: 3\n", "F:2:1: unknown key 'window'; did you mean 'mqtt.window'?"},
	{B "tsl: {ca_file: x}\n", "F:2:1: unknown key 'tsl'; did you mean 'tls'?"},
	{B "tls: {password_file: x}\n", "did you mean 'mqtt.password_file'?"},
	{B "zzzzzz: 1\n",
	 "F:2:1: unknown key 'zzzzzz'; allowed here: host, brokers, mqtt, tls, events, spool, metrics, log"},
	{B "log: {zzzzzz: 1}\n", "unknown key 'log.zzzzzz'; allowed here: level"},
	{B "? [a, b]\n: 1\n", "F:2:3: a key is plain text"},
	{B "? {a: b}\n: {c: [d]}\nhost: h\nhost: i\n", "a key is plain text|F:5:1: duplicate"},
	{B "zz: {a: {b: [c, {d: e}]}}\nhost: ''\n", "unknown key 'zz'|F:3:7: host has no value"},
	{B B, "F:2:1: duplicate key 'brokers'; first set on line 1"},
	{B "mqtt: {qos: 1}\nmqtt: {qos: 2}\n",
	 "F:3:8: duplicate key 'mqtt.qos'; first set on line 2"},
	{B "mqtt: 5\n", "F:2:7: mqtt: wrong type; allowed: a section with keys"},
	{B "mqtt: [5]\n", "F:2:7: mqtt: wrong type"},
	{B "host: {a: b}\n", "F:2:7: host: wrong type; allowed: text"},
	{B "host: [a]\n", "F:2:7: host: wrong type; allowed: text"},
	/* secrets */
	{B "mqtt: {password: hunter2}\n",
	 "F:2:8: unknown key 'mqtt.password': secrets do not belong here; put it into a file"},
	{B "tls: {psk_key: 00}\n", "tls.psk_key_file"},
	{B "tls: {key_file: 'pkcs11:x?pin-value=1', certificate_file: 'pkcs11:x'}\n",
	 "secrets do not belong here"},
	{B "tls: {insecure: true}\n", "always verified"},
	{B "mqtt: {retain: true}\n", "never retained"},
	/* values */
	{B "host:\n", "F:2:6: host has no value"},
	{B "host: ~\n", "F:2:7: host has no value"},
	{B "host: \"a\\0b\"\n", "control characters"},
	{B "host: \"a\\nb\"\n", "control characters"},
	{B "host: \"a\\x1bb\"\n", "control characters"},
	{B "mqtt: {qos: 0}\n", "F:2:13: mqtt.qos: 0 is not allowed: without acknowledgements"},
	{B "mqtt: {qos: 3}\n", "'3' is not one of: 1 or 2"},
	{B "mqtt: {version: 4}\n", "'4' is not one of: 5 or 3.1.1"},
	{B "mqtt: {window: 0}\n",
	 "mqtt.window: '0' is out of range; allowed: an integer from 1 to 65535"},
	{B "mqtt: {window: 65536}\n", "out of range"},
	{B "mqtt: {window: -1}\n", "not an integer"},
	{B "mqtt: {window: 1k}\n", "not an integer"},
	{B "mqtt: {window: 99999999999999999999}\n", "not an integer"},
	{B "mqtt: {keep_alive: 4s}\n",
	 "'4s' is out of range; allowed: a duration from 5s to 65535s"},
	{B "mqtt: {keep_alive: soon}\n", "'soon' is not a duration; allowed:"},
	{B "mqtt: {keep_alive: 100ms}\n", "'100ms' is not a duration"},
	{B "mqtt: {keep_alive: 1 m}\n", "not a duration"},
	{B "mqtt: {keep_alive: 9999999999999999999d}\n", "not a duration"},
	{B "mqtt: {retry_min: 5m}\n",
	 "F:2:19: mqtt.retry_min (300s) is more than mqtt.retry_max (60s)"},
	{B "spool: {sent_size: 1X}\n", "'1X' is not a size; allowed: a size, like 512M or 1G"},
	{B "spool: {sent_size: 99999999T}\n", "not a size"},
	{B "spool: {sent_size: 9000000T}\n", "out of range"},
	{B "events: {xml: perhaps}\n", "'perhaps' is neither true nor false"},
	{B "events: {drivers: qemu}\n", "events.drivers: wrong type; allowed: a list"},
	{B "events: {drivers: [{a: b}, qemu, [x]]}\n",
	 "F:2:20: events.drivers: allowed: a list of plain values|F:2:34:"},
	{B "log: {level: loud}\n", "'loud' is not one of: err, warning, notice, info or debug"},
	{B "mqtt: {topic: 'a/#'}\n",
	 "F:2:15: mqtt.topic: 'a/#': a topic to publish to cannot contain the wildcards"},
	{B "mqtt: {topic: '{vm}'}\n", "allowed: {host} {driver}"},
	{B "mqtt: {status_topic: '{uuid}'}\n", "only {host}"},
	{B "tls: {pins: ['sha256:00']}\n", "64 hexadecimal digits"},
	{B
	 "tls: {pins: ['sha1:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef']}\n",
	 "64 hexadecimal"},
	{B "tls: {minimum_version: 1.1}\n", "allowed: 1.2, 1.3"},
	{B "tls: {server_name: 'a b'}\n", "allowed: a DNS name or an IP address"},
	/* files */
	{B "tls: {ca_file: DIR/missing}\n", "F:2:16: tls.ca_file: 'DIR/missing' does not exist"},
	{B "tls: {ca_file: DIR/file/x}\n", "does not exist"},
	{B "tls: {ca_file: DIR}\n", "is a directory"},
	{B "tls: {ca_file: 'pkcs11:x'}\n", "a pkcs11: URI is not possible here"},
	{B "mqtt: {username: u, password_file: DIR/world-readable}\n",
	 "(mode 644): it can be read by others; chmod o-r"},
	{B "mqtt: {username: u, password_file: DIR/group-writable}\n",
	 "(mode 660): it can be written by others"},
	{B "mqtt: {username: u, password_file: DIR/missing}\n", "does not exist"},
	{B "metrics: {file: x.prom}\n", "is relative; allowed: an absolute path, or none"},
	/* what belongs together */
	{B "mqtt: {password_file: DIR/secret}\n", "mqtt.password_file needs mqtt.username"},
	{B "tls: {key_file: DIR/secret}\n", "tls.key_file needs tls.certificate_file"},
	{B "tls: {certificate_file: DIR/file}\n", "tls.certificate_file needs tls.key_file"},
	{B "tls: {key_password_file: DIR/secret}\n", "tls.key_password_file needs tls.key_file"},
	{B "tls: {psk_identity: i}\n", "tls.psk_identity needs tls.psk_key_file"},
	{B "tls: {psk_identity: i, psk_key_file: DIR/secret, ca_file: DIR/file}\n",
	 "tls.ca_file has no effect with tls.psk_identity"},
	/* YAML */
	{B "host: &a h\n", "F:2:7: anchors are not supported"},
	{B "host: *a\n", "F:2:7: aliases are not supported"},
	{B "host: !!str h\n", "F:2:7: tags are not supported"},
	{B "mqtt: &a {qos: 1}\n", "anchors are not supported"},
	{B "<<: {host: h}\n", "merge keys"},
	{"--- !x\n" B, "tags are not supported"},
	{B "---\nhost: h\n", "F:2:1: a second document"},
	{"- a\n", "F:1:1: not a configuration"},
	{"text\n", "F:1:1: not a configuration"},
	{B "host: [a\n", "F:2:7: host: wrong type|F:3:1: while parsing a flow sequence"},
	{B "\thost: h\n", "F:2:1: "},
	{B "host: a: b\n", "F:2:8: mapping values are not allowed"},
	{B "host: 'a\n", "F:"},
	{"brokers: [\377]\n", "F:"},
	{"brokers: [\001]\n", "F:"},
	{B "zz: [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n", "unknown key|nested too deeply"},
	/* many at once */
	{"hots: a\nmqtt:\n  qos: 9\n  window: x\nlog:\n  level: y\n",
	 "F:1:1: unknown key 'hots'|F:3:8: mqtt.qos|F:4:11: mqtt.window|F:6:10: log.level|brokers is missing"},
};

static void told(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		char *text = expand(mistakes[i].text), *parts = expand(mistakes[i].errors), *errors;
		struct config *c;
		char *line, *rest_lines, *part, *rest_parts = parts;

		if (parse(text, &c, &errors) != -EINVAL)
			fail_msg("accepted: %s", text);
		assert_null(c);
		for (line = strtok_r(errors, "\n", &rest_lines); line;
		     line = strtok_r(NULL, "\n", &rest_lines)) {
			part = strsep(&rest_parts, "|");
			if (!part)
				fail_msg("%s\n  is also told: %s", text, line);
			if (strncmp(line, "F:", 2) != 0 || !strstr(line, part))
				fail_msg("%s\n  is told:    %s\n  instead of: %s", text, line,
					 part);
		}
		if (rest_parts && *rest_parts)
			fail_msg("%s\n  is not told: %s", text, rest_parts);
		free(errors);
		free(parts);
		free(text);
	}
}

static void warned(void **state)
{
	static const struct {
		const char *text, *warning; /* NULL: none */
	} table[] = {
		{"brokers: [mqtt://b]\nmqtt: {username: u, password_file: DIR/secret}\n",
		 "F:1:10: warning: the password goes to mqtt://b without TLS"},
		{"brokers: [mqtts://b]\nmqtt: {username: u, password_file: DIR/secret}\n", NULL},
		{"brokers: [mqtt://127.0.0.1, mqtt://localhost, 'mqtt://[::1]']\nmqtt: {username: u, password_file: "
		 "DIR/secret}\n",
		 NULL},
		{"brokers: [mqtt://b]\n", NULL},
		{"brokers: [mqtts://b]\nmqtt: {username: u, password_file: relative}\n",
		 "F:2:36: warning: mqtt.password_file: 'relative' is a relative path"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char *text = expand(table[i].text), *errors;
		struct config *c;

		strcat(text = realloc(text, strlen(text) + 16), "host: n\n");
		assert_int_equal(parse(text, &c, &errors), 0);
		if (table[i].warning ? !strstr(errors, table[i].warning) : *errors != 0)
			fail_msg("%s\n  is told: %s\n", text, errors);
		config_free(c);
		free(errors);
		free(text);
	}
}

static void bounded(void **state)
{
	size_t size;
	char *text, *errors, path[64];
	struct config *c;
	FILE *f = open_memstream(&text, &size);
	unsigned lines = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		fprintf(f, "zz%d: 1\n", i);
	fclose(f);
	assert_int_equal(parse(text, &c, &errors), -EINVAL);
	for (char *s = errors; (s = strchr(s, '\n')); s++)
		lines++;
	assert_int_equal(lines, 21);
	assert_non_null(strstr(errors, "too many errors"));
	free(errors);
	free(text);

	snprintf(path, sizeof(path), "%s/large", directory);
	f = fopen(path, "w");
	for (int i = 0; i <= CONFIG_SIZE_MAX; i++)
		fputc('#', f);
	fclose(f);
	f = open_memstream(&errors, &size);
	assert_int_equal(config_load(path, f, &c), -EFBIG);
	assert_int_equal(config_load("/nonexistent/x.yaml", f, &c), -ENOENT);
	assert_true(config_load(directory, f, &c) < 0);
	fclose(f);
	assert_non_null(strstr(errors, "larger than"));
	assert_non_null(strstr(errors, "/nonexistent/x.yaml: cannot be read: No such file"));
	free(errors);
}

/* --- secrets */

static void secrets(void **state)
{
	static const struct {
		const char *name;
		int r;
		const char *content, *why;
	} table[] = {
		{"secret", 0, "hunter2", NULL},
		{"two-lines", 0, "a\nb\n", NULL},
		{"world-readable", -EPERM, NULL, "read by others"},
		{"group-writable", -EPERM, NULL, "written by others"},
		{"missing", -ENOENT, NULL, "does not exist"},
		{"too-large", -EFBIG, NULL, "64 KiB"},
		{"", -EINVAL, NULL, "regular"},
		{"fifo", -EINVAL, NULL, "regular"},
	};

	(void)state;
	for (int relative = 0; relative < 2; relative++) {
		if (relative)
			setenv("CREDENTIALS_DIRECTORY", directory, 1);
		for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
			const char *why = NULL;
			char path[128], *secret = NULL;
			size_t size;
			int r;

			snprintf(path, sizeof(path), "%s%s%s", relative ? "." : directory, "/",
				 table[i].name);
			r = config_read_secret(path, &secret, &size, &why);
			assert_int_equal(r, table[i].r);
			if (r < 0) {
				assert_non_null(strstr(why, table[i].why));
				continue;
			}
			assert_int_equal(size, strlen(table[i].content));
			assert_memory_equal(secret, table[i].content, size + 1);
			free(secret);
		}
	}
	unsetenv("CREDENTIALS_DIRECTORY");
}

static void relative_secret_without_credentials(void **state)
{
	const char *why = NULL;
	char *secret;
	size_t size;

	(void)state;
	assert_int_equal(config_read_secret("secret", &secret, &size, &why), -ENOENT);
	assert_non_null(strstr(why, "CREDENTIALS_DIRECTORY"));
}

/* --- the example and the manual */

/* Calls f for each key of the table with its path and its default. */
static void for_each_key_of(enum config_program program,
			    void (*f)(const char *path, const char *fallback, const char *text),
			    const char *text)
{
	char *keys, *line, *rest;
	size_t size;
	FILE *stream = open_memstream(&keys, &size);
	unsigned n = 0;

	config_print_keys(stream, program);
	fclose(stream);
	for (line = strtok_r(keys, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char path[64], fallback[256];

		if (*line == ' ')
			continue;
		if (sscanf(line, "%63s (%*[^,], default: %255[^)])", path, fallback) != 2)
			fail_msg("%s", line);
		f(path, fallback, text);
		n++;
	}
	assert_true(n > 20);
	free(keys);
}

static void for_each_key(void (*f)(const char *path, const char *fallback, const char *text),
			 const char *text)
{
	for_each_key_of(CONFIG_DAEMON, f, text);
}

/* "key:" or "#key:", of a section indented below "section:". */
static void in_example(const char *path, const char *fallback, const char *text)
{
	const char *dot = strchr(path, '.'), *section = text;
	char line[128], shown[128],
		exclusive[128]; /* the last cannot be used together with what is active */

	(void)fallback;
	if (dot) {
		snprintf(line, sizeof(line), "\n%.*s:\n", (int)(dot - path), path);
		section = strstr(text, line);
		if (!section)
			fail_msg("no section of %s in the example", path);
	}
	snprintf(line, sizeof(line), "\n%s%s:", dot ? "  " : "", dot ? dot + 1 : path);
	snprintf(shown, sizeof(shown), "\n%s#%s:", dot ? "  " : "", dot ? dot + 1 : path);
	snprintf(exclusive, sizeof(exclusive), "\n  #   %s:", dot ? dot + 1 : path);
	if (!strstr(section, line) && !strstr(section, shown) && !strstr(section, exclusive))
		fail_msg("%s is not in the example", path);
}

static void in_manual(const char *path, const char *fallback, const char *text)
{
	char line[400];
	const char *entry, *next;

	snprintf(line, sizeof(line), "\n.It Cm %s", path);
	entry = strstr(text, line);
	if (!entry || !strchr(" \n", entry[strlen(line)]))
		fail_msg("%s is not in the manual", path);
	next = strstr(entry + 1, "\n.It ");
	entry = strstr(entry, fallback);
	if (!entry || (next && entry > next))
		fail_msg("the default of %s, '%s', is not in the manual", path, fallback);
}

static void manual_knows_the_keys(void **state)
{
	char *text = file_of_source("spooler/config/virtspool.yaml.5");

	(void)state;
	for_each_key(in_manual, text);
	free(text);
}

/* The example with "#key: value" made active, and its files below the directory. */
static char *uncommented(const char *text)
{
	char *s;
	size_t size;
	FILE *f = open_memstream(&s, &size);

	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		size_t indent = strspn(line, " "), n = strcspn(line, "\n");
		bool key = line[indent] == '#' && islower((unsigned char)line[indent + 1]);
		static const char etc[] = "/etc/virtspool";

		fprintf(f, "%.*s", (int)indent, line);
		for (size_t i = indent + key; i < n; i++)
			if (strncmp(line + i, etc, strlen(etc)) == 0) {
				fputs(directory, f);
				i += strlen(etc) - 1;
			} else {
				fputc(line[i], f);
			}
		fputc('\n', f);
	}
	fclose(f);
	return s;
}

/* The recorder's example and manual know its keys; the example is valid, and says the defaults. */
static void recorder_keys(void **state)
{
	char *manual = file_of_source("spooler/config/recorder.yaml.5"),
	     *text = file_of_source("etc/recorder.yaml"), *all = uncommented(text), *errors = NULL;
	static const char least[] = "brokers: [mqtts://h]\nmqtt: {client_id: x}\n";
	struct config *c, *d;
	size_t size;
	FILE *f = open_memstream(&errors, &size);

	for_each_key_of(CONFIG_RECORDER, in_manual, manual);
	for_each_key_of(CONFIG_RECORDER, in_example, text);
	if (config_parse_for(CONFIG_RECORDER, "example", all, strlen(all), f, &c) < 0) {
		fflush(f);
		fail_msg("%s", errors);
	}
	assert_int_equal(config_parse_for(CONFIG_RECORDER, "least", least, strlen(least), f, &d),
			 0);
	assert_string_equal(c->recorder.store, d->recorder.store);
	assert_int_equal(c->recorder.retention_s, d->recorder.retention_s);
	assert_int_equal(c->recorder.session_expiry_s, d->recorder.session_expiry_s);
	assert_string_equal(c->mqtt.topic, d->mqtt.topic);
	assert_string_equal(c->mqtt.status_topic, d->mqtt.status_topic);
	config_free(c);
	config_free(d);
	fclose(f);
	free(errors);
	free(all);
	free(text);
	free(manual);
}

/* Each program refuses the other's keys. */
static void keys_of_the_other_program(void **state)
{
	static const char spool[] = "brokers: [mqtts://h]\nspool: {sent_age: 1d}\n";
	static const char store[] = "brokers: [mqtts://h]\nstore: sqlite:///x\n";
	struct config *c;
	FILE *f = fopen("/dev/null", "w");

	assert_int_equal(config_parse_for(CONFIG_RECORDER, "x", spool, strlen(spool), f, &c),
			 -EINVAL);
	assert_int_equal(config_parse_for(CONFIG_DAEMON, "x", store, strlen(store), f, &c),
			 -EINVAL);
	fclose(f);
}

static void example(void **state)
{
	char *text = file_of_source("etc/virtspool.yaml"), *all = uncommented(text), *errors;
	struct config *c, *d = load("host: node1\n" B);

	(void)state;
	for_each_key(in_example, text);
	if (parse(all, &c, &errors) < 0)
		fail_msg("%s", errors);
	assert_string_equal(errors, "");
	assert_string_equal(c->mqtt.topic, d->mqtt.topic);
	assert_string_equal(c->mqtt.status_topic, "virtspool/v1/{host}/status");
	assert_int_equal(c->mqtt.version, d->mqtt.version);
	assert_int_equal(c->mqtt.qos, d->mqtt.qos);
	assert_int_equal(c->mqtt.window, d->mqtt.window);
	assert_int_equal(c->mqtt.keep_alive_s, d->mqtt.keep_alive_s);
	assert_int_equal(c->mqtt.connect_timeout_s, d->mqtt.connect_timeout_s);
	assert_int_equal(c->mqtt.ack_timeout_s, d->mqtt.ack_timeout_s);
	assert_int_equal(c->mqtt.retry_min_s, d->mqtt.retry_min_s);
	assert_int_equal(c->mqtt.retry_max_s, d->mqtt.retry_max_s);
	assert_string_equal(c->tls.minimum_version, d->tls.minimum_version);
	assert_int_equal(c->events.xml, d->events.xml);
	assert_memory_equal(&c->spool, &d->spool, sizeof(c->spool));
	assert_int_equal(c->log_level, d->log_level);
	config_free(c);
	config_free(d);
	free(errors);
	free(all);
	free(text);
}

/* --- */

static void make_file(const char *name, const char *content, mode_t mode)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(content, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static int setup(void **state)
{
	static char large[64 * 1024 + 2];
	char path[128];

	(void)state;
	assert_non_null(mkdtemp(directory));
	make_file("file", "x\n", 0644);
	make_file("secret", "hunter2\n", 0640);
	make_file("two-lines", "a\nb\n\n", 0600);
	make_file("world-readable", "x\n", 0644);
	make_file("group-writable", "x\n", 0660);
	memset(large, 'x', sizeof(large) - 1);
	make_file("too-large", large, 0600);
	/* what the example names */
	make_file("ca.pem", "", 0644);
	make_file("crl.pem", "", 0644);
	make_file("host.pem", "", 0644);
	make_file("host.key", "", 0640);
	make_file("sign.pem", "", 0644);
	make_file("sign.key", "", 0640);
	make_file("host.key.password", "", 0640);
	make_file("password", "", 0640);
	make_file("psk.key", "", 0640);
	make_file("recorder.pem", "", 0644);
	make_file("recorder.key", "", 0640);
	make_file("web.pem", "", 0644);
	make_file("web.key", "", 0640);
	make_file("web.token", "", 0640);
	make_file("recorder.key.password", "", 0640);
	make_file("recorder.password", "", 0640);
	snprintf(path, sizeof(path), "%s/fifo", directory);
	assert_int_equal(mkfifo(path, 0600), 0);
	setenv("VIRTSPOOL_RUNDIR", "/run/test", 1);
	unsetenv("CREDENTIALS_DIRECTORY");
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(values),
		cmocka_unit_test(empty_sections),
		cmocka_unit_test(credentials),
		cmocka_unit_test(told),
		cmocka_unit_test(warned),
		cmocka_unit_test(bounded),
		cmocka_unit_test(secrets),
		cmocka_unit_test(relative_secret_without_credentials),
		cmocka_unit_test(example),
		cmocka_unit_test(manual_knows_the_keys),
		cmocka_unit_test(recorder_keys),
		cmocka_unit_test(keys_of_the_other_program),
	};

	return cmocka_run_group_tests_name("config", tests, setup, teardown);
}
