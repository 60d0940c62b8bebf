/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-config - any bytes as a configuration. What is accepted is what the rest of the program
 * relies on; what is refused is told in lines that a terminal shows as they are.
 *
 *	clang -fsanitize=fuzzer,address,undefined: scripts/fuzz
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/config/config.h"
#include "spooler/event/topic.h"
#include "spooler/base/terminal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void check_messages(const char *s, size_t size, bool refused)
{
	struct bytes message = {s, size};
	char *clean, *lines = malloc(size + 1);
	size_t n = 0;

	check(size > 0 || !refused);
	check(size == 0 || s[size - 1] == '\n');
	check(utf8_valid(message.data, message.size));
	for (size_t i = 0; i < size; i++)
		if (s[i] != '\n')
			lines[n++] = s[i];
	clean = terminal_text(NULL, lines, n);
	check(strlen(clean) == n && memcmp(lines, clean, n) == 0);
	free(clean);
	free(lines);
}

static void check_config(const struct config *c)
{
	const char *why;

	check(*c->host && c->n_brokers > 0 && *c->mqtt.client_id);
	for (size_t i = 0; i < c->n_brokers; i++)
		check(c->brokers[i].url && *c->brokers[i].host && c->brokers[i].port > 0);
	check(c->mqtt.version == 5 || c->mqtt.version == 3);
	check(c->mqtt.qos == 1 || c->mqtt.qos == 2);
	check(c->mqtt.window >= 1 && c->mqtt.window <= 65535);
	check(c->mqtt.retry_min_s >= 1 && c->mqtt.retry_min_s <= c->mqtt.retry_max_s);
	check(topic_check(c->mqtt.topic, TOPIC_ALL_FIELDS, &why) == 0);
	check(!c->mqtt.status_topic ||
	      topic_check(c->mqtt.status_topic, 1U << TOPIC_HOST, &why) == 0);
	check(!c->mqtt.password_file || c->mqtt.username);
	check(!c->tls.certificate_file == !c->tls.key_file);
	check(strcmp(c->tls.minimum_version, "1.2") == 0 ||
	      strcmp(c->tls.minimum_version, "1.3") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *c = NULL;
	char *messages;
	size_t n;
	FILE *f;
	int r;

	if (size > CONFIG_SIZE_MAX)
		return 0;
	f = open_memstream(&messages, &n);
	r = config_parse("F", (const char *)data, size, f, &c);
	(void)fclose(f);
	check((r == 0) == (c != NULL));
	check_messages(messages, n, r < 0);
	if (c)
		check_config(c);
	config_free(c);
	free(messages);
	return 0;
}
