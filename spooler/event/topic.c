/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * topic - see topic.h.
 *
 * A guest's name is chosen by people whom the host's administrator need not trust, and a topic
 * decides who reads and who believes an event. Therefore everything that is filled in is
 * percent-encoded: letters, digits, "-", "_" and "~" stay, all else becomes %XX. So no value holds
 * a "/" (another level), "+" or "#" (wildcards), "$" (the broker's own topics), a control character
 * or a byte that is no UTF-8. The "." stays in {host} only, where the administrator chose it and
 * access lists look for it: brokers that map topics to AMQP routing keys (RabbitMQ) take "." for a
 * "/".
 */
#include "spooler/event/topic.h"
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

static bool unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_' || c == '~';
}

size_t percent_encode(struct bytes value, const char *also, char *buf, size_t size)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < value.size; i++) {
		unsigned char c = (unsigned char)value.data[i];

		if (unreserved(c) || (c && strchr(also, c))) {
			if (n + 1 >= size)
				break;
			buf[n++] = (char)c;
		} else {
			if (n + 3 >= size)
				break;
			buf[n++] = '%';
			buf[n++] = hex[c >> 4];
			buf[n++] = hex[c & 15];
		}
	}
	if (size)
		buf[n] = 0;
	return n;
}

/* The field that begins at s, which points behind a "{": its number and the character behind its
   "}"; or -1. */
static int field_parse(const char *s, const char **ret_end)
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
		return "a topic that is published to cannot hold the wildcards + and #";
	if (c < 0x20 || c == 0x7f)
		return "a topic cannot hold control characters";
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
		why = "a template has at most 1024 bytes";
	else if (!utf8_valid(s, strlen(s)))
		why = "a topic is UTF-8";

	while (*s && !why) {
		int f;

		if (*s != '{') {
			why = literal_why((unsigned char)*s++);
			longest++;
			continue;
		}
		f = field_parse(s + 1, &s);
		if (f < 0)
			why = "unknown field; allowed: {host} {driver} {uuid} {name} {operation} {suboperation} "
			      "{epoch}";
		else if (!(allowed & 1U << f))
			why = "only {host} can be filled in here";
		else
			longest += 3 * fields[f].max;
	}
	if (!why && longest > TOPIC_MAX)
		why = "with the longest values it exceeds the 65535 bytes that MQTT allows; name fewer fields";
	if (!why)
		return 0;
	*ret_why = why;
	return -EINVAL;
}

static struct bytes field_value(int f, struct bytes value)
{
	if (!value.size)
		return (struct bytes){"-", 1};
	if (value.size > fields[f].max)
		value.size = fields[f].max;
	return value;
}

int topic_format(const char *template, const struct bytes values[TOPIC_FIELDS], char **ret_topic)
{
	_cleanup_free_ char *topic = NULL;
	const char *why;
	size_t size = 1, n = 0;
	int f;

	if (topic_check(template, TOPIC_ALL_FIELDS, &why) < 0)
		return -EINVAL;
	for (const char *s = template; *s;)
		if (*s != '{')
			size++, s++;
		else {
			f = field_parse(s + 1, &s);
			size += 3 * field_value(f, values[f]).size;
		}
	topic = malloc(size);
	if (!topic)
		return -ENOMEM;
	for (const char *s = template; *s;)
		if (*s != '{')
			topic[n++] = *s++;
		else {
			f = field_parse(s + 1, &s);
			n += percent_encode(field_value(f, values[f]), f == TOPIC_HOST ? "." : "",
					    topic + n, size - n);
		}
	topic[n] = 0;
	*ret_topic = TAKE_PTR(topic);
	return 0;
}

int topic_filter(const char *template, char **ret_filter)
{
	char *filter = malloc(strlen(template) + 1), *out = filter;

	if (!filter)
		return -ENOMEM;
	for (const char *level = template;;) {
		size_t n = strcspn(level, "/");

		if (memchr(level, '{', n))
			*out++ = '+';
		else
			out = mempcpy(out, level, n);
		if (!level[n])
			break;
		*out++ = '/';
		level += n + 1;
	}
	*out = 0;
	*ret_filter = filter;
	return 0;
}
