/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* document-uuid - see document-uuid.h. */
#include "spooler/base/hex.h"
#include "spooler/base/util.h"
#include "spooler/spool/document-uuid.h"

#define DEPTH_MAX 3 /* hookData/network/uuid */

struct scan {
	const char *s, *end;
	size_t depth;
	struct bytes path[DEPTH_MAX]; /* the names of the open elements, the outermost first */
};

static bool begins_with(const struct scan *c, const char *text)
{
	return (size_t)(c->end - c->s) >= strlen(text) && memcmp(c->s, text, strlen(text)) == 0;
}

/* Moves to after the next `text`, or to the end. */
static void skip_past(struct scan *c, const char *text)
{
	const char *at = memmem(c->s, (size_t)(c->end - c->s), text, strlen(text));

	c->s = at ? at + strlen(text) : c->end;
}

/* To the ">" that ends a tag: one in an attribute's value does not. */
static void skip_tag(struct scan *c)
{
	char quote = 0;

	for (; c->s < c->end; c->s++)
		if (quote)
			quote = *c->s == quote ? 0 : quote;
		else if (*c->s == '"' || *c->s == '\'')
			quote = *c->s;
		else if (*c->s == '>')
			return;
}

static bool is_uuid_element(const struct scan *c)
{
	const struct bytes *p = c->path;

	if (c->depth == 2)
		return bytes_are(p[1], "uuid") &&
		       (bytes_are(p[0], "domain") || bytes_are(p[0], "network"));
	return c->depth == 3 && bytes_are(p[2], "uuid") && bytes_are(p[1], "network") &&
	       bytes_are(p[0], "hookData");
}

static bool read_uuid(const struct scan *c, char ret_uuid[static UUID_TEXT])
{
	unsigned char uuid[16];
	char text[UUID_TEXT] = "";

	if (c->end - c->s < UUID_TEXT || c->s[UUID_TEXT - 1] != '<')
		return false;
	memcpy(text, c->s, UUID_TEXT - 1);
	if (!uuid_parse(text, uuid))
		return false;
	uuid_format(uuid, ret_uuid);
	return true;
}

/* A start tag, after its "<". True: the scan is over. */
static bool open_element(struct scan *c, char ret_uuid[static 37])
{
	const char *name = c->s;

	while (c->s < c->end && !strchr(" \t\r\n/>", *c->s))
		c->s++;
	if (c->depth < DEPTH_MAX)
		c->path[c->depth] = (struct bytes){name, (size_t)(c->s - name)};
	c->depth++;
	skip_tag(c);
	if (c->s == c->end)
		return true;
	if (c->s[-1] == '/')
		c->depth--;
	c->s++;
	return is_uuid_element(c) && c->s[-2] != '/' && read_uuid(c, ret_uuid);
}

void document_uuid(struct bytes document, char ret_uuid[static 37])
{
	struct scan c = {.s = document.data, .end = document.data + document.size};

	ret_uuid[0] = 0;
	while (document.size > 0 && c.s < c.end) {
		skip_past(&c, "<");
		if (begins_with(&c, "!--"))
			skip_past(&c, "-->");
		else if (begins_with(&c, "![CDATA["))
			skip_past(&c, "]]>");
		else if (begins_with(&c, "?"))
			skip_past(&c, "?>");
		else if (begins_with(&c, "!"))
			skip_tag(&c);
		else if (begins_with(&c, "/"))
			c.depth -= c.depth > 0;
		else if (c.s < c.end && open_element(&c, ret_uuid))
			return;
	}
}
