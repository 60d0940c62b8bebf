/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-event - any bytes as driver, object, operation, sub-operation, extra, one more argument (and
 * detail) and document, each ended by a newline but the last. The payload is always JSON with the
 * attributes that CloudEvents demands, and the topic has as many levels as its template.
 *
 *	clang -fsanitize=fuzzer,address,undefined: scripts/fuzz
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/event/event.h"
#include "spooler/event/topic.h"
#include "spooler/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static struct bytes line(const char **s, const char *end)
{
	const char *stop = *s < end ? memchr(*s, '\n', (size_t)(end - *s)) : NULL;
	struct bytes b = {*s, (size_t)((stop ? stop : end) - *s)};

	*s = stop ? stop + 1 : end;
	if (b.size > RECORD_VALUE_MAX)
		b.size = RECORD_VALUE_MAX;
	return b;
}

static unsigned levels(const char *topic)
{
	unsigned n = 1;

	for (; *topic; topic++)
		n += *topic == '/';
	return n;
}

static void check_event(const struct config *c, const struct event *e)
{
	static const char *const demanded[] = {"specversion", "id",	      "source",
					       "type",	      "time",	      "sequence",
					       "epoch",	      "recordedtime", "datacontenttype"};
	json_t *event = json_loadb(e->payload, e->payload_size, JSON_REJECT_DUPLICATES, NULL);

	check(json_is_object(event));
	for (size_t i = 0; i < sizeof(demanded) / sizeof(demanded[0]); i++)
		check(json_string_length(json_object_get(event, demanded[i])) > 0);
	check(json_is_boolean(json_object_get(event, "replayed")));
	check(json_is_object(json_object_get(event, "data")));
	check(strncmp(json_string_value(json_object_get(event, "type")), "org.virtspool.", 14) ==
	      0);
	check(levels(e->topic) == levels(c->mqtt.topic));
	check(!strpbrk(e->topic, "+#") && e->topic[0] != '$');
	check(strlen(e->topic) <= TOPIC_MAX);
	check(utf8_valid(e->domain, strlen(e->domain)));
	json_decref(event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *list[] = {"urn:x"};
	static const struct config c = {
		.host = "node1",
		.mqtt.topic = "v/{host}/{driver}/{uuid}/{name}/{operation}/{suboperation}/{epoch}",
		.events = {.xml = true, .metadata = {list, 1}, .skip_domains = {list, 1}},
	};
	const char *s = (const char *)data, *end = s + size, *why = NULL;
	struct record r = {
		.stamp = {.epoch = "0123456789abcdef0123456789abcdef",
			  .sequence = size,
			  .ticks = size << 40,
			  .id = "01990a3c-7bbd-7123-8123-0123456789ab"},
		.argc = (unsigned)size,
		.n_arguments = size % 2,
		.flags = (unsigned)size,
		.redacted = (unsigned)size % 3,
	};
	struct event e;

	if (size == 0)
		return 0;
	r.driver = line(&s, end);
	r.object = line(&s, end);
	r.operation = line(&s, end);
	r.suboperation = line(&s, end);
	r.extra = line(&s, end);
	r.arguments[0] = r.details[0] = line(&s, end);
	r.n_details = size % 4 == 0;
	if (r.n_details) {
		r.origin = r.extra;
		r.transition = r.object;
	}
	r.document = (struct bytes){s, (size_t)(end - s)};
	r.recorded_ns = (int64_t)(size << 50) - (int64_t)size;
	check(event_build(&c, &r, size % 2, &e, &why) == 0);
	check_event(&c, &e);
	(void)event_wanted(&c, &r, &e);
	event_release(&e);
	return 0;
}
