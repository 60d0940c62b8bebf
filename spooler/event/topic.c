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

static struct bytes field_value(enum topic_field f, struct bytes value)
{
	if (!value.size)
		return (struct bytes){"-", 1};
	if (value.size > topic_field_max(f))
		value.size = topic_field_max(f);
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
			f = topic_field_parse(s + 1, &s);
			size += 3 * field_value((enum topic_field)f, values[f]).size;
		}
	topic = malloc(size);
	if (!topic)
		return -ENOMEM;
	for (const char *s = template; *s;)
		if (*s != '{')
			topic[n++] = *s++;
		else {
			f = topic_field_parse(s + 1, &s);
			n += percent_encode(field_value((enum topic_field)f, values[f]),
					    f == TOPIC_HOST ? "." : "", topic + n, size - n);
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
