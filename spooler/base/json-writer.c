/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* json-writer - see json-writer.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "spooler/base/json-writer.h"
#include "spooler/base/util.h"

#define USUAL 2048 /* most events fit */

/* Makes room for that many bytes and a 0. Returns where they go; NULL without memory. */
static char *reserve(struct json_writer *w, size_t size)
{
	size_t wanted = w->size + size + 1;
	char *text;

	if (w->failed)
		return NULL;
	if (wanted > w->allocated) {
		wanted = wanted < USUAL ? USUAL : 2 * wanted;
		text = realloc(w->text, wanted);
		if (!text) {
			w->failed = true;
			return NULL;
		}
		w->text = text;
		w->allocated = wanted;
	}
	return w->text + w->size;
}

/* Ends what was reserved at the byte behind the last one written. */
static void written(struct json_writer *w, char *end)
{
	*end = '\0';
	w->size = (size_t)(end - w->text);
}

static void append(struct json_writer *w, const char *data, size_t size)
{
	char *at = reserve(w, size);

	if (at)
		written(w, mempcpy(at, data, size));
}

static void begin_member(struct json_writer *w, const char *key)
{
	size_t size = strlen(key);
	char *at = reserve(w, size + strlen(",\"\":"));

	if (!at)
		return;
	if (w->size && at[-1] != '{')
		*at++ = ',';
	*at++ = '"';
	at = mempcpy(at, key, size);
	*at++ = '"';
	*at++ = ':';
	written(w, at);
}

void json_writer_open(struct json_writer *w, const char *key)
{
	if (key)
		begin_member(w, key);
	append(w, "{", 1);
}

void json_writer_close(struct json_writer *w)
{
	append(w, "}", 1);
}

static bool plain(unsigned char c)
{
	return c >= 0x20 && c != '"' && c != '\\';
}

static char *escape(unsigned char c, char *at)
{
	static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt";

	*at++ = '\\';
	for (const char *l = letters; *l; l += 2)
		if (*l == c) {
			*at++ = l[1];
			return at;
		}
	at = mempcpy(at, "u00", 3);
	*at++ = "01"[c >> 4];
	*at++ = "0123456789ABCDEF"[c & 0xf];
	return at;
}

void json_writer_text(struct json_writer *w, const char *key, const char *text, size_t size)
{
	size_t i = 0, begin;
	char *at;

	begin_member(w, key);
	append(w, "\"", 1);
	while (i < size) {
		begin = i;
		while (i < size && plain((unsigned char)text[i]))
			i++;
		append(w, text + begin, i - begin);
		at = i < size ? reserve(w, strlen("\\u0000")) : NULL;
		if (at)
			written(w, escape((unsigned char)text[i], at));
		i++;
	}
	append(w, "\"", 1);
}

void json_writer_integer(struct json_writer *w, const char *key, int64_t value)
{
	char buf[sizeof("-9223372036854775808")];

	begin_member(w, key);
	append(w, buf, (size_t)snprintf(buf, sizeof(buf), "%" PRId64, value));
}

void json_writer_boolean(struct json_writer *w, const char *key, bool value)
{
	begin_member(w, key);
	append(w, value ? "true" : "false", value ? 4 : 5);
}

void json_writer_tree(struct json_writer *w, const char *key, json_t *value)
{
	_cleanup_free_ char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

	json_decref(value);
	if (!text) {
		w->failed = true;
		return;
	}
	begin_member(w, key);
	append(w, text, strlen(text));
}
