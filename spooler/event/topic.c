/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * topic - see topic.h.
 *
 * A guest's name is chosen by people whom the host's administrator need not trust, and a topic
 * decides who reads and who believes an event. Therefore everything that is filled in is
 * percent-encoded: letters, digits, "-", "_" and "~" stay, all else becomes %XX. So no value holds
 * a "/" (another level), "+" or "#" (wildcards), "$" (the broker's own topics), a control character
 * or a byte that is not UTF-8. The "." stays in {host} only, where the administrator chose it and
 * access lists look for it: brokers that map topics to AMQP routing keys (RabbitMQ) take "." for a
 * "/".
 */
#include "spooler/base/hex.h"
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

/* --- the way back: the host that a topic names */

bool topic_decode_host(const char *text, size_t n, char ret_host[static 256])
{
	size_t length = 0;

	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)text[i];

		if (c == '%') {
			c = i + 2 < n ? hex_byte(text + i + 1) : -1;
			if (c < 0)
				return false;
			i += 2;
		}
		if (c < 0x20 || c == 0x7f || length == 255)
			return false;
		ret_host[length++] = (char)c;
	}
	ret_host[length] = 0;
	return length > 0 && utf8_valid(ret_host, length);
}

/* Does a level fit its template? {host} is decoded; any other field stands for anything. */
static bool match_level(const char *template, size_t n, const char *level, size_t size, bool *found,
			char ret_host[static 256])
{
	static const char field[] = "{host}";
	const char *at = memmem(template, n, field, sizeof(field) - 1);
	size_t before, after;

	if (!memchr(template, '{', n))
		return n == size && memcmp(template, level, n) == 0;
	if (!at)
		return size > 0;
	before = (size_t)(at - template);
	after = n - before - (sizeof(field) - 1);
	if (size <= before + after || memcmp(template, level, before) != 0 ||
	    memcmp(at + sizeof(field) - 1, level + size - after, after) != 0)
		return false;
	*found = true;
	return topic_decode_host(level + before, size - before - after, ret_host);
}

bool topic_host(const char *template, const char *topic, char ret_host[static 256])
{
	bool found = false;

	for (;;) {
		size_t n = strcspn(template, "/"), size = strcspn(topic, "/");

		if (!match_level(template, n, topic, size, &found, ret_host))
			return false;
		if (!template[n] || !topic[size])
			return !template[n] && !topic[size] && found;
		template += n + 1;
		topic += size + 1;
	}
}
