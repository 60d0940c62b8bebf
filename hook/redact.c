/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * redact - one pass over the markup, copying down what stays. Most documents hold no word that
 * could name a secret, and then there is nothing to pass over.
 *
 * Told apart are tags, with their attributes, and what only looks like tags: comments, CDATA
 * sections, processing instructions and declarations. Those are copied as they are, so that an
 * apostrophe in a comment does not swallow the password behind it. Where the text is no XML, the
 * doubt goes against the secret: an attribute's value without quotes ends at the next blank or '>',
 * and one whose quote is never closed takes the rest of the document with it.
 */
#include "hook/redact.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

struct redact {
	char *data;
	size_t size;
	size_t in;  /* next byte to look at */
	size_t out; /* next byte to write; out <= in */
	unsigned count;
};

struct name {
	const char *s;
	size_t size;
};

#define BLOCK 64 /* places that are looked at together */

static const char *const secret_names[] = {"passwd", "password", "passphrase"};

static bool name_equal(struct name a, struct name b)
{
	return a.size == b.size && strncasecmp(a.s, b.s, a.size) == 0;
}

static struct name local_name(struct name n)
{
	const char *colon = memrchr(n.s, ':', n.size);

	if (!colon)
		return n;
	return (struct name){colon + 1, n.size - (size_t)(colon + 1 - n.s)};
}

static bool is_secret_attribute(struct name n)
{
	n = local_name(n);
	for (size_t i = 0; i < sizeof(secret_names) / sizeof(secret_names[0]); i++) {
		if (name_equal(n, (struct name){secret_names[i], strlen(secret_names[i])}))
			return true;
	}
	return false;
}

static bool is_secret_element(struct name n)
{
	return is_secret_attribute(n) || name_equal(local_name(n), (struct name){"cookie", 6});
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool at(const struct redact *r, const char *s)
{
	size_t n = strlen(s);

	return r->size - r->in >= n && memcmp(r->data + r->in, s, n) == 0;
}

/* Takes the bytes up to `end` over into what stays. */
static void keep(struct redact *r, size_t end)
{
	if (r->out != r->in)
		memmove(r->data + r->out, r->data + r->in, end - r->in);
	r->out += end - r->in;
	r->in = end;
}

static void drop(struct redact *r, size_t end)
{
	if (end > r->in)
		r->count++;
	r->in = end;
}

/* Where `s` ends that is next found at or after `from`, or the end of the document. */
static size_t after(const struct redact *r, size_t from, const char *s)
{
	const char *p =
		from < r->size ? memmem(r->data + from, r->size - from, s, strlen(s)) : NULL;

	return p ? (size_t)(p - r->data) + strlen(s) : r->size;
}

/* <!DOCTYPE ...>: it may hold quoted '>' and a subset in brackets with declarations of its own. */
static size_t after_declaration(const struct redact *r)
{
	size_t i = r->in + 2;
	int brackets = 0;

	for (char quote = 0; i < r->size; i++) {
		char c = r->data[i];

		if (quote)
			quote = c == quote ? 0 : quote;
		else if (c == '"' || c == '\'')
			quote = c;
		else if (c == '[')
			brackets++;
		else if (c == ']')
			brackets--;
		else if (c == '>' && brackets <= 0)
			return i + 1;
	}
	return i;
}

/* If something begins here that looks like a tag and is none: where it ends. Otherwise 0. */
static size_t after_no_tag(const struct redact *r)
{
	if (at(r, "<!--"))
		return after(r, r->in + 4, "-->");
	if (at(r, "<![CDATA["))
		return after(r, r->in + 9, "]]>");
	if (at(r, "<?"))
		return after(r, r->in + 2, "?>");
	if (at(r, "<!"))
		return after_declaration(r);
	return 0;
}

static struct name name_at(const struct redact *r, size_t from)
{
	static const bool ends_name[256] = {
		[' '] = true, ['\t'] = true, ['\n'] = true, ['\r'] = true, ['='] = true,
		['/'] = true, ['>'] = true,  ['<'] = true,  ['"'] = true,  ['\''] = true,
	};
	size_t end = from;

	while (end < r->size && !ends_name[(unsigned char)r->data[end]])
		end++;
	return (struct name){r->data + from, end - from};
}

static size_t skip_blanks(const struct redact *r, size_t from)
{
	while (from < r->size && is_blank(r->data[from]))
		from++;
	return from;
}

/* The value that begins here; quoted, the quotes stay. */
static void attribute_value(struct redact *r, bool secret)
{
	size_t end = r->in;
	char quote = r->data[r->in];

	if (quote == '"' || quote == '\'') {
		keep(r, r->in + 1);
		end = r->in;
		/* XML has no '<' in a value: there ends what was never closed, unless that could
		   show a secret. */
		while (end < r->size && r->data[end] != quote && (secret || r->data[end] != '<'))
			end++;
	} else {
		while (end < r->size && !is_blank(r->data[end]) && r->data[end] != '>')
			end++;
		quote = 0;
	}
	if (secret)
		drop(r, end);
	keep(r, end);
	if (quote && r->in < r->size && r->data[r->in] == quote)
		keep(r, r->in + 1);
}

/* From behind the element's name to behind its '>'. Returns whether the tag closed itself. */
static bool attributes(struct redact *r)
{
	bool slash = false;

	while (r->in < r->size && r->data[r->in] != '<') {
		char c = r->data[r->in];
		struct name n = name_at(r, r->in);

		if (c == '>') {
			keep(r, r->in + 1);
			return slash;
		}
		slash = c == '/';
		if (n.size == 0) {
			keep(r, r->in + 1);
			continue;
		}
		/* The name is judged before what follows is copied over it. */
		bool secret = is_secret_attribute(n);
		size_t equals = skip_blanks(r, r->in + n.size);

		if (equals >= r->size || r->data[equals] != '=') {
			keep(r, equals);
			continue;
		}
		keep(r, skip_blanks(r, equals + 1));
		if (r->in < r->size)
			attribute_value(r, secret);
	}
	return false;
}

/* Does the tag that begins at `from` close itself? Nothing of it is taken or written. */
static bool is_empty_tag(const struct redact *r, size_t from)
{
	char quote = 0, previous = 0;

	for (size_t i = from + 1; i < r->size; i++) {
		char c = r->data[i];

		if (quote)
			quote = c == quote ? 0 : quote;
		else if (c == '"' || c == '\'')
			quote = c;
		else if (c == '>' || c == '<')
			return c == '>' && previous == '/';
		previous = c;
	}
	return false;
}

/* Where the content of the element `n` ends that begins here: at the '<' of its end tag, or with
   the document. */
static size_t content_end(const struct redact *r, struct name n)
{
	struct redact scan = *r; /* looks ahead, writes nothing */
	unsigned depth = 1;

	while (scan.in < scan.size) {
		const char *tag = memchr(scan.data + scan.in, '<', scan.size - scan.in);

		if (!tag)
			break;
		scan.in = (size_t)(tag - scan.data);
		size_t end = after_no_tag(&scan);

		if (end) {
			scan.in = end;
			continue;
		}
		bool closing = at(&scan, "</");

		if (name_equal(local_name(name_at(&scan, scan.in + (closing ? 2 : 1))), n)) {
			if (closing && --depth == 0)
				return scan.in;
			if (!closing && !is_empty_tag(&scan, scan.in))
				depth++;
		}
		scan.in++;
	}
	return scan.size;
}

static void start_tag(struct redact *r)
{
	struct name full = name_at(r, r->in + 1), n = local_name(full);
	bool secret = is_secret_element(n);
	char copy[16];

	if (secret) { /* all such names are short; where this one stands, attributes may be copied to */
		memcpy(copy, n.s, n.size);
		n.s = copy;
	}
	keep(r, r->in + 1 + full.size);
	if (!attributes(r) && secret)
		drop(r, content_end(r, n));
}

/* Bit by bit, without a jump, so that the compiler makes vectors of the loop around it. */
static unsigned char is_word(const char *s, const char word[4])
{
	return ((s[0] | 0x20) == word[0]) & ((s[1] | 0x20) == word[1]) &
	       ((s[2] | 0x20) == word[2]) & ((s[3] | 0x20) == word[3]);
}

/* Every name of a secret has one of these in it. */
static bool has_word(const char block[BLOCK + 3])
{
	unsigned char found = 0;

	for (size_t i = 0; i < BLOCK; i++)
		found |= is_word(block + i, "pass") | is_word(block + i, "cook");
	return found;
}

/* Most documents have the mode host-passthrough, and no secret. */
static bool has_other_word(const char *block, size_t size)
{
	static const char harmless[] = "passthrough";
	const size_t n = sizeof(harmless) - 1;

	for (size_t i = 0; i < BLOCK; i++) {
		if (is_word(block + i, "cook") ||
		    (is_word(block + i, "pass") &&
		     (size - i < n || memcmp(block + i, harmless, n) != 0)))
			return true;
	}
	return false;
}

/* A short document is not worth the look. The last block overlaps the one before. */
static bool may_hold_secret(const char *data, size_t size)
{
	for (size_t i = 0, last = size - BLOCK - 3; size >= BLOCK + 3;
	     i = i + BLOCK < last ? i + BLOCK : last) {
		if (has_word(data + i) && has_other_word(data + i, size - i))
			return true;
		if (i == last)
			return false;
	}
	return true;
}

size_t redact(char *data, size_t size, unsigned *ret_count)
{
	struct redact r = {.data = data, .size = size};

	*ret_count = 0;
	if (!may_hold_secret(data, size))
		return size;
	while (r.in < r.size) {
		const char *tag = memchr(r.data + r.in, '<', r.size - r.in);

		if (!tag)
			break;
		keep(&r, (size_t)(tag - r.data));
		size_t end = after_no_tag(&r);

		if (end)
			keep(&r, end);
		else if (at(&r, "</"))
			keep(&r, after(&r, r.in, ">"));
		else
			start_tag(&r);
	}
	keep(&r, r.size);
	*ret_count = r.count;
	return r.out;
}
