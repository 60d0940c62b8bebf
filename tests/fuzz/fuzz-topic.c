/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-topic - a line of any bytes as a template, and what follows it as the value of every field.
 * What a template that passes the check makes is a topic that MQTT allows, with the template's
 * levels.
 *
 *	clang -fsanitize=fuzzer,address,undefined: scripts/fuzz
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/event/topic.h"
#include "spooler/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static unsigned levels(const char *topic)
{
	unsigned n = 1;

	for (; *topic; topic++)
		n += *topic == '/';
	return n;
}

static void check_topic(const char *template, const char *topic)
{
	check(*topic && *topic != '$' && strlen(topic) <= TOPIC_MAX);
	check(!strpbrk(topic, "+#{}"));
	check(utf8_valid(topic, strlen(topic)));
	check(levels(topic) == levels(template));
	for (; *topic; topic++)
		check((unsigned char)*topic >= 0x20 && *topic != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	size_t n = end ? (size_t)(end - data) : size;
	struct bytes values[TOPIC_FIELDS];
	char *template = strndup((const char *)data, n), *topic = NULL, *filter = NULL;
	const char *why = NULL;
	int r;

	for (int f = 0; f < TOPIC_FIELDS; f++)
		values[f] = end ? (struct bytes){(const char *)end + 1, size - n - 1}
				: (struct bytes){};
	r = topic_check(template, TOPIC_ALL_FIELDS, &why);
	check(r == 0 || why);
	check(topic_format(template, values, &topic) == r);
	if (topic) {
		check_topic(template, topic);
		check(topic_filter(template, &filter) == 0);
		check(levels(filter) == levels(topic));
	}
	free(filter);
	free(topic);
	free(template);
	return 0;
}
