/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* topic-template - see topic-template.h. */
#include "spooler/config/topic-template.h"
#include "hook/record.h"
#include "spooler/base/utf8.h"
#include "spooler/base/util.h"

static const struct {
	const char *name;
	size_t max; /* bytes of a value before encoding */
} fields[TOPIC_FIELDS] = {
	[TOPIC_HOST] = {"host", TOPIC_HOST_MAX},
	[TOPIC_DRIVER] = {"driver", RECORD_VALUE_MAX},
	[TOPIC_UUID] = {"uuid", 36},
	[TOPIC_NAME] = {"name", RECORD_VALUE_MAX},
	[TOPIC_OPERATION] = {"operation", RECORD_VALUE_MAX},
	[TOPIC_SUBOPERATION] = {"suboperation", RECORD_VALUE_MAX},
	[TOPIC_EPOCH] = {"epoch", 32},
};

size_t topic_field_max(enum topic_field field)
{
	return fields[field].max;
}

int topic_field_parse(const char *s, const char **ret_end)
{
	for (int f = 0; f < TOPIC_FIELDS; f++) {
		size_t n = strlen(fields[f].name);

		if (strncmp(s, fields[f].name, n) == 0 && s[n] == '}') {
			*ret_end = s + n + 1;
			return f;
		}
	}
	return -1;
}

static const char *literal_why(unsigned char c)
{
	if (c == '+' || c == '#')
		return "a topic to publish to cannot contain the wildcards + and #";
	if (c < 0x20 || c == 0x7f)
		return "a topic cannot contain control characters";
	if (c == '}')
		return "a } without its {; fields are written like {host}";
	return NULL;
}

int topic_check(const char *template, unsigned allowed, const char **ret_why)
{
	size_t longest = 0;
	const char *s = template, *why = NULL;

	if (!*s)
		why = "a topic has at least one character";
	else if (*s == '$')
		why = "topics that begin with $ are the broker's own";
	else if (strlen(s) > TOPIC_TEMPLATE_MAX)
		why = "a template is at most 1024 bytes";
	else if (!utf8_valid(s, strlen(s)))
		why = "a topic is UTF-8";

	while (*s && !why) {
		int f;

		if (*s != '{') {
			why = literal_why((unsigned char)*s++);
			longest++;
			continue;
		}
		f = topic_field_parse(s + 1, &s);
		if (f < 0)
			why = "unknown field; allowed: {host} {driver} {uuid} {name} {operation} {suboperation} "
			      "{epoch}";
		else if (!(allowed & 1U << f))
			why = "only {host} is allowed here";
		else
			longest += 3 * fields[f].max;
	}
	if (!why && longest > TOPIC_MAX)
		why = "with the longest values it exceeds MQTT's limit of 65535 bytes; use fewer fields";
	if (!why)
		return 0;
	*ret_why = why;
	return -EINVAL;
}
