/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * redact - one pass over the markup. Each tag is read as a whole, as its last attribute may be the
 * one that names what the others hold; then it is copied down, usually in one piece.
 *
 * Where the text is not XML: an attribute's value without quotes ends at the next blank or '>', and
 * a secret one whose quote is never closed takes the rest of the document with it.
 */
#include "hook/redact.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

static const struct redact_rule secrets[] = {
	{REDACT_CONTAINS, "passw"},
	{REDACT_CONTAINS, "passphrase"},
	{REDACT_CONTAINS, "passcode"},
	{REDACT_ENDS, "pass"},
	{REDACT_CONTAINS, "pwd"},
	{REDACT_IS, "pw"},
	{REDACT_ENDS, "psk"},
	{REDACT_CONTAINS, "secret"},
	{REDACT_CONTAINS, "token"},
	{REDACT_CONTAINS, "apikey"},
	{REDACT_CONTAINS, "accesskey"},
	{REDACT_CONTAINS, "privatekey"},
	{REDACT_CONTAINS, "privkey"},
	{REDACT_CONTAINS, "sharedkey"},
	{REDACT_CONTAINS, "encryptionkey"},

	{REDACT_CONTAINS, "credential"},
	{REDACT_CONTAINS, "setcookie"},
	{REDACT_IS, "cookie"},
	{REDACT_CONTAINS, "authorization"},
	{REDACT_IS, "bearer"},
	{REDACT_IS, "sig"},
	{REDACT_CONTAINS, "signature"},
	{REDACT_CONTAINS, "userdata"},
	{REDACT_CONTAINS, "vendordata"},
	{REDACT_CONTAINS, "cloudinit"},
	{REDACT_CONTAINS, "cloudconfig"},
	{REDACT_CONTAINS, "ignition"},
	{REDACT_CONTAINS, "sysprep"},
	{REDACT_CONTAINS, "payload"},
	{REDACT_IS, "query"},
	{REDACT_IS, ""},
};

static const struct redact_rule elements[] = {
	{REDACT_IS, "arg"},
	{REDACT_IS, "env"},
	{REDACT_IS, "initarg"},
	{REDACT_IS, "initenv"},
	{REDACT_IS, "option"},
	{REDACT_IS, "cmdline"},
	{REDACT_IS, "bootloaderargs"},
	{REDACT_IS, "dhcert"},
	{REDACT_IS, "session"},
	{REDACT_IS, ""},
};

static const char *const kept[] = {"name", "key",	"id",	   "type",   "usage",
				   "uuid", "ephemeral", "private", "format", NULL};
static const char *const naming[] = {"name", "key", "id", "property", "field", "variable", NULL};
static const char *const entries[] = {"vendor",	 "version",  "date", "release", "manufacturer",
				      "product", "serial",   "uuid", "sku",	"family",
				      "asset",	 "location", NULL};
static const char *const free_texts[] = {"metadata", "description", "title", NULL};
static const char *const beginnings[] = {
	"#cloud-",   "#!",   "#include", "Content-Type:", "MIME-Version:", "-----BEGIN",
	"I2Nsb3VkL", "IyEv", NULL,
};

const struct redact_rules redact_rules = {secrets, elements,   kept,	  naming,
					  entries, free_texts, beginnings};

/* --- names */

struct name {
	const char *s;
	size_t size;
	uint32_t letters; /* a bit for each letter that is in it */
};

#define LETTER(c) (1U << ((c)&31))
#define HAS(set, c) ((set)&LETTER(c))

/* The letters of most names rule every word of a secret out. A test holds each word against it. */
static bool may_be_secret(uint32_t s)
{
	if (HAS(s, 'p') && (HAS(s, 'a') || HAS(s, 'w') || HAS(s, 'k') || HAS(s, 'y')) &&
	    (HAS(s, 's') || HAS(s, 'w') || HAS(s, 'l')))
		return true;
	if (HAS(s, 'k') && HAS(s, 'e') && (HAS(s, 'y') || HAS(s, 'o')))
		return true;
	if (HAS(s, 'c') && ((HAS(s, 'r') && HAS(s, 'e') && (HAS(s, 't') || HAS(s, 'd'))) ||
			    (HAS(s, 'l') && HAS(s, 'u'))))
		return true;
	if (HAS(s, 'a') && ((HAS(s, 'd') && (HAS(s, 'u') || HAS(s, 'v'))) ||
			    (HAS(s, 'h') && HAS(s, 'z')) || (HAS(s, 'b') && HAS(s, 'r'))))
		return true;
	return (HAS(s, 'g') && HAS(s, 'i') && (HAS(s, 's') || HAS(s, 'n'))) ||
	       (HAS(s, 'q') && HAS(s, 'y'));
}

/* Whatever the case of letters; the library's functions take longer than most names. */
static bool bytes_equal(const char *a, const char *b, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (a[i] != b[i] &&
		    ((a[i] ^ b[i]) != 0x20 || (a[i] | 0x20) < 'a' || (a[i] | 0x20) > 'z'))
			return false;
	}
	return true;
}

static bool name_equal(struct name a, struct name b)
{
	return a.size == b.size && bytes_equal(a.s, b.s, a.size);
}

static bool is_one_of(struct name n, const char *const *list)
{
	char first = (char)(n.size ? n.s[0] | 0x20 : 0);

	for (; *list; list++) {
		if (first == ((*list)[0] | 0x20) && n.size == strlen(*list) &&
		    bytes_equal(n.s, *list, n.size))
			return true;
	}
	return false;
}

static struct name local_name(struct name n)
{
	const char *colon = HAS(n.letters, ':') ? memrchr(n.s, ':', n.size) : NULL;

	if (!colon)
		return n;
	return (struct name){colon + 1, n.size - (size_t)(colon + 1 - n.s), n.letters};
}

/* In lower case and without what joins words; of a long name the end, so that both ends match. */
static size_t plain_name(struct name n, char buf[static 64])
{
	size_t size = 0;

	for (size_t i = n.size > 64 ? n.size - 64 : 0; i < n.size; i++) {
		char c = n.s[i];

		if (c != '-' && c != '_' && c != '.')
			buf[size++] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	return size;
}

static bool contains(const char *s, size_t size, const char *word, size_t n)
{
	for (size_t i = 0; i + n <= size; i++) {
		if (s[i] == word[0] && memcmp(s + i, word, n) == 0)
			return true;
	}
	return false;
}

static bool rule_matches(const struct redact_rule *rule, const char *s, size_t size)
{
	size_t n = strlen(rule->word);

	if (size < n)
		return false;
	switch (rule->match) {
	case REDACT_IS:
		return size == n && memcmp(s, rule->word, n) == 0;
	case REDACT_ENDS:
		return memcmp(s + size - n, rule->word, n) == 0;
	default:
		return contains(s, size, rule->word, n);
	}
}

static bool matches(const char *s, size_t size, uint32_t letters, const struct redact_rule *rule)
{
	for (; *rule->word; rule++) {
		if (HAS(letters, rule->word[0]) && HAS(letters, rule->word[1]) &&
		    (!rule->word[2] || HAS(letters, rule->word[2])) && rule_matches(rule, s, size))
			return true;
	}
	return false;
}

static bool is_secret(struct name n)
{
	char plain[64];
	size_t size;

	if (!may_be_secret(n.letters))
		return false;
	n = local_name(n);
	for (; n.size > 64; n.s += 32, n.size -= 32) { /* overlapping pieces */
		size = plain_name((struct name){n.s, 64, 0}, plain);
		if (matches(plain, size, n.letters, secrets))
			return true;
	}
	size = plain_name(n, plain);
	/* a time, and libvirt's own name for it */
	return matches(plain, size, n.letters, secrets) &&
	       !(size == 13 && memcmp(plain, "passwdvalidto", 13) == 0);
}

static bool may_be_secret_element(uint32_t s)
{
	return (HAS(s, 'a') && HAS(s, 'r') && HAS(s, 'g')) ||
	       (HAS(s, 'e') && HAS(s, 'n') && (HAS(s, 'v') || (HAS(s, 'o') && HAS(s, 's')))) ||
	       (HAS(s, 'o') && HAS(s, 'p') && HAS(s, 't')) ||
	       (HAS(s, 'c') && HAS(s, 'd') && (HAS(s, 'm') || HAS(s, 'h')));
}

static bool is_secret_element(struct name n)
{
	char plain[64];

	if (is_secret(n))
		return true;
	if (!may_be_secret_element(n.letters))
		return false;
	n = local_name(n);
	return n.size <= 64 && matches(plain, plain_name(n, plain), n.letters, elements);
}

/* --- the document */

struct redact {
	char *data;
	size_t size;
	size_t in;  /* next byte to look at */
	size_t out; /* next byte to write; out <= in */
	unsigned count;
	unsigned free_depth; /* in how many elements in which anything may be written */
	bool pending;	     /* the text before named a secret: the next is one */
	bool is_name;	     /* of the guest or network: not a secret */
};

enum {
	BLANK = 1 << 0,
	ENDS_NAME = 1 << 1,
	STOPS_VALUE = 1 << 2, /* it ends here, or scrub() may find something */
	ENDS_URL = 1 << 3,
	ENDS_USER = 1 << 4,
};

#define BLANKS (BLANK | ENDS_NAME | ENDS_URL | ENDS_USER)
#define QUOTES (ENDS_NAME | STOPS_VALUE | ENDS_URL | ENDS_USER)

static const unsigned char classes[256] = {
	[' '] = BLANKS,
	['\t'] = BLANKS,
	['\n'] = BLANKS,
	['\r'] = BLANKS,
	['"'] = QUOTES,
	['\''] = QUOTES,
	['<'] = QUOTES,
	['>'] = ENDS_NAME | ENDS_URL | ENDS_USER,
	['/'] = ENDS_NAME | ENDS_USER,
	['='] = ENDS_NAME | STOPS_VALUE,
	['&'] = STOPS_VALUE,
	[':'] = STOPS_VALUE | ENDS_USER,
	['?'] = ENDS_USER,
	['#'] = ENDS_USER,
	['@'] = ENDS_USER,
};

static bool is(char c, unsigned char class)
{
	return classes[(unsigned char)c] & class;
}

static bool is_blank(char c)
{
	return is(c, BLANK);
}

static bool starts_with(const struct redact *r, size_t from, size_t end, const char *s, size_t n)
{
	return end - from >= n && bytes_equal(r->data + from, s, n);
}

/* Does this literal stand there, whatever its case? */
#define STANDS(r, from, end, s)                                                                    \
	((from) < (end) && (((r)->data[from] ^ (s)[0]) & ~0x20) == 0 &&                            \
	 starts_with(r, from, end, s, sizeof(s) - 1))
#define AT(r, s) STANDS(r, (r)->in, (r)->size, s)

/* Takes the bytes up to `end` over into what stays. */
static void keep(struct redact *r, size_t end)
{
	if (end <= r->in)
		return;
	if (r->out != r->in)
		memmove(r->data + r->out, r->data + r->in, end - r->in);
	r->out += end - r->in;
	r->in = end;
}

static void drop(struct redact *r, size_t end)
{
	if (end <= r->in)
		return;
	r->count++;
	r->in = end;
}

/* The end of the next `s` at or after `from`, or the end of the document. */
static size_t after(const struct redact *r, size_t from, const char *s)
{
	const char *p =
		from < r->size ? memmem(r->data + from, r->size - from, s, strlen(s)) : NULL;

	return p ? (size_t)(p - r->data) + strlen(s) : r->size;
}

static size_t skip_blanks(const struct redact *r, size_t from, size_t end)
{
	const char *p = r->data + from, *stop = r->data + end;

	while (p < stop && is_blank(*p))
		p++;
	return (size_t)(p - r->data);
}

/* --- texts and values */

static bool is_word_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-' || c == '.';
}

static struct name word_at(const struct redact *r, size_t from, size_t end)
{
	struct name n = {r->data + from, 0, 0};

	for (; from + n.size < end && is_word_byte(n.s[n.size]); n.size++)
		n.letters |= LETTER(n.s[n.size]);
	return n;
}

/* A letter written as a number hides a word: &#112;assword. */
static bool is_hidden_letter(const struct redact *r, size_t from, size_t end)
{
	unsigned base = 10, n = 0;
	size_t i = from + 2;

	if (!STANDS(r, from, end, "&#"))
		return false;
	if (i < end && (r->data[i] | 0x20) == 'x') {
		base = 16;
		i++;
	}
	for (; i < end && r->data[i] != ';' && n < 0x110000; i++) {
		unsigned char c = (unsigned char)r->data[i];

		n = n * base + (unsigned)(c >= 'A' ? (c | 0x20) - 'a' + 10 : c - '0');
	}
	return n < 0x80 && (is_word_byte((char)n) || n == '=' || n == ':');
}

static bool begins_as_a_whole(const struct redact *r, size_t end)
{
	size_t from = skip_blanks(r, r->in, end);

	for (const char *const *b = beginnings; from < end && *b; b++) {
		if ((((*b)[0] ^ r->data[from]) & ~0x20) == 0 &&
		    starts_with(r, from, end, *b, strlen(*b)))
			return true;
	}
	return false;
}

/* After a word: quotes and blanks, in their spellings. */
static size_t skip_quotes(const struct redact *r, size_t from, size_t end)
{
	for (;; from++) {
		if (STANDS(r, from, end, "&quot;") || STANDS(r, from, end, "&apos;"))
			from += 5;
		else if (from >= end || !(is_blank(r->data[from]) || r->data[from] == '"' ||
					  r->data[from] == '\'' || r->data[from] == '\\'))
			return from;
	}
}

/* The length of what separates a word from its value, or 0. */
static size_t separator(const struct redact *r, size_t from, size_t end)
{
	if (STANDS(r, from, end, "&gt;"))
		return 4;
	return from < end && (r->data[from] == '=' || r->data[from] == ':' ||
			      r->data[from] == '>' || r->data[from] == ',');
}

/*
 * A word that names a secret: what follows goes, in a free text after anything, otherwise after a
 * separator. `key` is too common a word, and counts right before one only: rbd:pool/image:key=...
 */
static bool word_names_secret(struct redact *r, size_t at_word, size_t end, struct name n,
			      bool is_free)
{
	size_t word_end = at_word + n.size, next;

	if (n.size == 3 && bytes_equal(n.s, "key", 3))
		return separator(r, word_end, end) > 0 && r->data[word_end] != ',';
	if (!is_secret(n))
		return false;
	next = skip_quotes(r, word_end, end);
	if (!is_free)
		return separator(r, next, end) > 0;
	r->pending = next == end;
	return next < end;
}

static size_t skip_until(const struct redact *r, size_t from, size_t end, unsigned char class)
{
	while (from < end && !is(r->data[from], class))
		from++;
	return from;
}

/* scheme://user:password@host/path?query: what is before '@' and what is after '?' goes. Returns
   where to go on. */
static size_t url(struct redact *r, size_t colon, size_t end)
{
	size_t i = skip_until(r, colon + 3, end, ENDS_USER), url_end;
	const char *query;

	while (i < end && r->data[i] == ':')
		i = skip_until(r, i + 1, end, ENDS_USER);

	if (i < end && r->data[i] == '@') {
		keep(r, colon + 3);
		drop(r, i);
	}
	url_end = skip_until(r, i, end, ENDS_URL);
	query = memchr(r->data + i, '?', url_end - i);
	if (query) {
		keep(r, (size_t)(query - r->data) + 1);
		drop(r, url_end);
	}
	return url_end;
}

/* One byte that is not in a word. *colon is the first one of user:password@host, 0 if none. Returns
   where to go on. */
static size_t punctuation(struct redact *r, size_t i, size_t end, size_t *colon)
{
	char c = r->data[i];

	if (is_hidden_letter(r, i, end)) {
		drop(r, end);
		return end;
	}
	if (c == ':' && STANDS(r, i, end, "://")) {
		*colon = 0;
		return url(r, i, end);
	}
	if (c == '@' && *colon > 0 && i > *colon + 1) {
		keep(r, *colon + 1);
		drop(r, i);
	}
	if (c == ':' && *colon == 0)
		*colon = i;
	else if (c != ':' && is(c, ENDS_USER))
		*colon = 0;
	return i + 1;
}

/* A text, or an attribute's value, up to `end`. */
static void scrub(struct redact *r, size_t end, bool is_free)
{
	size_t i = r->in, colon = 0;

	if (is_free && begins_as_a_whole(r, end)) {
		drop(r, end);
		return;
	}
	while (i < end) {
		struct name n = word_at(r, i, end);

		if (n.size == 0) {
			i = punctuation(r, i, end, &colon);
		} else if (word_names_secret(r, i, end, n, is_free)) {
			size_t value = skip_quotes(r, i + n.size, end);

			keep(r, skip_quotes(r, value + separator(r, value, end), end));
			drop(r, end);
			return;
		} else {
			i += n.size;
		}
	}
	keep(r, end);
}

/* Up to the next tag. Most is white space. */
static void text(struct redact *r)
{
	size_t from = skip_blanks(r, r->in, r->size), end;
	const char *tag;

	if (from == r->size || r->data[from] == '<') {
		keep(r, from);
		return;
	}
	tag = memchr(r->data + from, '<', r->size - from);
	end = tag ? (size_t)(tag - r->data) : r->size;
	if (r->is_name) {
		keep(r, end);
	} else if (r->pending) {
		r->pending = false;
		keep(r, from);
		drop(r, end);
	} else {
		scrub(r, end, r->free_depth > 0);
	}
}

/* --- what is not a tag */

static size_t after_quoted(const struct redact *r, size_t from)
{
	const char *p = from + 1 < r->size
				? memchr(r->data + from + 1, r->data[from], r->size - from - 1)
				: NULL;

	return p ? (size_t)(p - r->data) + 1 : r->size;
}

/* A comment, a CDATA section or a processing instruction: anything may be written in it. */
static void section(struct redact *r, size_t opening, const char *closing)
{
	size_t end = after(r, r->in + opening, closing), n = strlen(closing);
	bool closed = end - r->in >= opening + n && memcmp(r->data + end - n, closing, n) == 0;

	keep(r, r->in + opening < r->size ? r->in + opening : r->size);
	if (r->pending && closing[0] == ']')
		drop(r, closed ? end - n : end);
	else
		scrub(r, closed ? end - n : end, true);
	keep(r, end);
}

/* <!DOCTYPE ...>: it may have a subset in brackets with declarations, comments and instructions.
   Values of entities go. */
static void declaration(struct redact *r)
{
	int brackets = 0;
	size_t i = r->in + 2;

	while (i < r->size) {
		char c = r->data[i];

		if (STANDS(r, i, r->size, "<!--")) {
			keep(r, i);
			section(r, 4, "-->");
			i = r->in;
		} else if (STANDS(r, i, r->size, "<?")) {
			keep(r, i);
			section(r, 2, "?>");
			i = r->in;
		} else if (c == '"' || c == '\'') {
			size_t end = after_quoted(r, i);

			keep(r, i + 1);
			drop(r, end > i + 1 && r->data[end - 1] == c ? end - 1 : end);
			i = end;
		} else if (c == '>' && brackets <= 0) {
			i++;
			break;
		} else {
			brackets += c == '[' ? 1 : c == ']' ? -1 : 0;
			i++;
		}
	}
	keep(r, i);
}

/* It looks like a tag and is not one. */
static void not_a_tag(struct redact *r)
{
	if (AT(r, "<!--"))
		section(r, 4, "-->");
	else if (AT(r, "<![CDATA["))
		section(r, 9, "]]>");
	else if (AT(r, "<?"))
		section(r, 2, "?>");
	else
		declaration(r);
}

/* --- tags */

struct attribute {
	struct name name;
	size_t value, end; /* without its quotes */
	bool secret;	   /* by its name */
	bool has_value;
	bool special; /* the value has something that scrub() looks for */
};

static struct name name_at(const struct redact *r, size_t from)
{
	const char *start = r->data + from, *p = start, *end = r->data + r->size;
	uint32_t letters = 0;

	while (p < end && !is(*p, ENDS_NAME))
		letters |= LETTER(*p++);
	return (struct name){start, (size_t)(p - start), letters};
}

/* The value that begins at `from`. XML has no '<' in a value: there ends what was never closed,
   unless that could show a secret. */
static size_t find_value(const struct redact *r, size_t from, struct attribute *a)
{
	char quote = r->data[from];
	size_t i = from;

	if (quote != '"' && quote != '\'') {
		while (i < r->size && !is_blank(r->data[i]) && r->data[i] != '>')
			i++;
		a->value = from;
		a->end = i;
		a->special = true;
		return i;
	}
	const char *p = r->data + from + 1, *end = r->data + r->size;

	a->value = from + 1;
	for (; p < end && *p != quote; p++) {
		if (!is(*p, STOPS_VALUE))
			continue;
		if (*p == '<' && !a->secret)
			break;
		a->special = true;
	}
	a->end = (size_t)(p - r->data);
	return a->end + (p < end && *p == quote);
}

/* The next attribute at or after *at. False at the end of the tag: *at is after its '>', or at
   something that cannot be in a tag. */
static bool next_attribute(const struct redact *r, size_t *at, bool *empty, struct attribute *ret)
{
	size_t i = skip_blanks(r, *at, r->size), equals;
	struct attribute a = {0};
	bool slash = false;

	while (i < r->size && is(r->data[i], ENDS_NAME) && r->data[i] != '<' && r->data[i] != '>') {
		slash = r->data[i] == '/' || (slash && is_blank(r->data[i]));
		i++;
	}
	*empty = slash;
	if (i == r->size || r->data[i] == '<' || r->data[i] == '>') {
		*at = i + (i < r->size && r->data[i] == '>');
		return false;
	}
	a.name = name_at(r, i);
	a.secret = is_secret(a.name);
	i += a.name.size;
	equals = i < r->size && r->data[i] == '=' ? i : skip_blanks(r, i, r->size);
	if (equals < r->size && r->data[equals] == '=') {
		i = skip_blanks(r, equals + 1, r->size);
		a.has_value = i < r->size;
		if (a.has_value)
			i = find_value(r, i, &a);
	}
	*at = i;
	*ret = a;
	return true;
}

struct tag {
	struct name name;
	size_t end;
	bool empty;   /* it closes itself */
	bool secret;  /* the element holds one */
	bool touched; /* something in the tag itself may have to go */
};

static struct name value_name(const struct redact *r, const struct attribute *a)
{
	struct name n = {r->data + a->value, a->end - a->value, 0};

	for (size_t i = 0; i < n.size; i++)
		n.letters |= LETTER(n.s[i]);
	return n;
}

static bool is_naming(struct name n)
{
	switch (n.size) {
	case 2:
	case 3:
	case 4:
	case 5:
	case 8:
		return is_one_of(n, naming);
	default:
		return false;
	}
}

static bool is_entry(struct name n)
{
	n = local_name(n);
	return n.size == 5 && bytes_equal(n.s, "entry", 5);
}

static struct tag look_at_tag(const struct redact *r)
{
	struct tag t = {.name = name_at(r, r->in + 1)};
	struct attribute a;
	bool entry = is_entry(t.name), entry_stays = false;

	t.secret = is_secret_element(t.name);
	t.end = r->in + 1 + t.name.size;
	while (next_attribute(r, &t.end, &t.empty, &a)) {
		struct name n = local_name(a.name);

		t.touched |= a.special || a.secret;
		if (!a.has_value || !is_naming(n))
			continue;
		if (entry)
			entry_stays |= is_one_of(value_name(r, &a), entries);
		if (r->free_depth == 0 && memchr(r->data + a.value, '/', a.end - a.value))
			continue; /* a path */
		t.secret |= is_secret(value_name(r, &a)) ||
			    (a.end - a.value >= 4 &&
			     memmem(r->data + a.value, a.end - a.value, "&#", 2));
	}
	t.secret |= entry && !entry_stays;
	return t;
}

static bool attribute_is_secret(const struct attribute *a, bool element_is_secret)
{
	if (a->secret)
		return true;
	return element_is_secret && !is_one_of(local_name(a->name), kept) &&
	       !(a->name.size >= 5 && memcmp(a->name.s, "xmlns", 5) == 0);
}

/* Copies the tag, with what is secret in its attributes blanked. */
static void copy_attributes(struct redact *r, const struct tag *t)
{
	size_t at = r->in + 1 + t->name.size;
	bool empty, pending = r->pending;
	struct attribute a;

	while (next_attribute(r, &at, &empty, &a)) {
		if (!a.has_value)
			continue;
		/* judged before anything is copied over the name */
		bool secret = attribute_is_secret(&a, t->secret);

		keep(r, a.value);
		if (secret)
			drop(r, a.end);
		else if (a.special || r->free_depth > 0)
			scrub(r, a.end, r->free_depth > 0);
	}
	keep(r, t->end);
	r->pending = pending;
}

/* The end of the content of the element `n` that begins here: at the '<' of its end tag, or with
   the document. */
static size_t content_end(const struct redact *r, struct name n)
{
	struct redact scan = *r; /* looks ahead; what it would change is not written */
	unsigned depth = 1;

	while (scan.in < scan.size) {
		const char *tag = memchr(scan.data + scan.in, '<', scan.size - scan.in);

		if (!tag)
			break;
		scan.in = (size_t)(tag - scan.data);
		if (AT(&scan, "<!--")) {
			scan.in = after(&scan, scan.in + 4, "-->");
			continue;
		}
		if (AT(&scan, "<![CDATA[")) {
			scan.in = after(&scan, scan.in + 9, "]]>");
			continue;
		}
		if (AT(&scan, "<?")) {
			scan.in = after(&scan, scan.in + 2, "?>");
			continue;
		}
		bool closing = AT(&scan, "</");
		size_t at_name = scan.in + (closing ? 2 : 1), end = at_name;
		struct name found = name_at(&scan, at_name);

		if (name_equal(local_name(found), n)) {
			struct attribute a;
			bool empty = false;

			if (closing && --depth == 0)
				return scan.in;
			end += found.size;
			while (!closing && next_attribute(&scan, &end, &empty, &a))
				;
			depth += !closing && !empty;
		}
		scan.in = end > scan.in ? end : scan.in + 1;
	}
	return scan.size;
}

static void start_tag(struct redact *r)
{
	struct tag t = look_at_tag(r);
	size_t at_name = r->out + 1;
	struct name n;

	if (t.touched || t.secret || r->free_depth > 0)
		copy_attributes(r, &t);
	else
		keep(r, t.end);
	r->is_name = false;
	if (t.empty)
		return;
	/* The name as it was copied: what was there may be overwritten. */
	n = local_name((struct name){r->data + at_name, t.name.size, t.name.letters});
	if (t.secret)
		drop(r, content_end(r, n));
	else if (is_one_of(n, free_texts))
		r->free_depth++;
	r->is_name = r->free_depth == 0 && n.size == 4 && memcmp(n.s, "name", 4) == 0;
}

static void end_tag(struct redact *r)
{
	const char *end;

	if (r->free_depth > 0 && is_one_of(local_name(name_at(r, r->in + 2)), free_texts))
		r->free_depth--;
	if (r->free_depth == 0)
		r->pending = false;
	r->is_name = false;
	end = memchr(r->data + r->in, '>', r->size - r->in);
	keep(r, end ? (size_t)(end - r->data) + 1 : r->size);
}

/* Not readable as ASCII with some bytes beyond: nothing could be found in it. */
static bool is_foreign_encoding(const char *data, size_t size)
{
	static const char *const readable[] = {"utf-8",	    "utf8",   "us-ascii",    "ascii",
					       "iso-8859-", "latin1", "windows-125", NULL};
	size_t n = size < 256 ? size : 256;
	const char *end = memmem(data, n, "?>", 2), *p;

	for (size_t i = 0; i < size && i < 4; i++) {
		if (data[i] == '\0' || data[i] == '\xfe' || data[i] == '\xff')
			return true;
	}
	if (n < 6 || memcmp(data, "<?xml", 5) != 0)
		return false;
	p = memmem(data, end ? (size_t)(end - data) : n, "encoding", 8);
	if (!p)
		return false;
	for (p += 8; p < data + n && (is_blank(*p) || *p == '=' || *p == '"' || *p == '\'');)
		p++;
	for (size_t i = 0; readable[i]; i++) {
		size_t length = strlen(readable[i]);

		if ((size_t)(data + n - p) >= length && bytes_equal(p, readable[i], length))
			return false;
	}
	return true;
}

/*
 * Most documents hold nothing that a rule is about, and that is found out at a fraction of the
 * price. Each rule needs one of the words below; the rules for cloud-init and the like need a
 * document with metadata or a description. Of each word two bytes are looked for, at 16 places at a
 * time. A test holds what this lets pass against the pass over the markup.
 */
#define BLOCK 64
#define MARGIN 4 /* bytes that are read beyond a block */

typedef unsigned char vector __attribute__((vector_size(16)));

static inline vector load(const char *p)
{
	vector v;

	memcpy(&v, p, sizeof(v));
	return v | 0x20; /* lower case; other bytes that change do not matter */
}

#define EQ(v, c) ((vector)((v) == (c)))

static inline vector candidates(const char *p)
{
	vector a = load(p), b = load(p + 1), c = load(p + 2), d = load(p + 3);
	vector cs = EQ(c, 's'), cd = EQ(c, 'd'), ck = EQ(c, 'k'), cy = EQ(c, 'y'), cc = EQ(c, 'c'),
	       cg = EQ(c, 'g'), ct = EQ(c, 't');

	return (EQ(a, 'p') & (cs | ck | EQ(b, 'w'))) | (EQ(a, 's') & (cc | cg | cs)) |
	       (EQ(a, 't') & (ck | ct | cy)) | (EQ(a, 'k') & cy) |
	       (EQ(a, 'c') & (EQ(b, 'r') | EQ(c, 'o') | cd)) | (EQ(a, 'd') & (ct | cc)) |
	       (EQ(a, 'a') & cg & ~EQ(d, 'e')) | (EQ(a, 'e') & (EQ(c, 'v') | cc)) |
	       (EQ(a, 'o') & ct) | (EQ(a, 'q') & EQ(c, 'e')) | (EQ(a, ':') & EQ(c, '/')) |
	       (EQ(a, '<') & (EQ(b, '!') | EQ(b, '?'))) | (EQ(a, '&') & EQ(b, '#')) |
	       EQ(a, '@' | 0x20);
}

static bool has_candidate(const char *block)
{
	vector found = candidates(block) | candidates(block + 16) | candidates(block + 32) |
		       candidates(block + 48);
	uint64_t words[2];

	memcpy(words, &found, sizeof(words));
	return words[0] | words[1];
}

/* "desc" and "entry" are found by a later byte of theirs. */
static const char *const triggers[] = {"pass", "pw",  "psk", "secr", "sig",  "sess", "token",
				       "titl", "try", "key", "cred", "cook", "cmdl", "data",
				       "dhce", "arg", "env", "esc",  "opt",  "que",  "://",
				       "<!",   "<?",  "&#",  "@",    NULL};

static bool is_trigger(const char *p, size_t left)
{
	static const char harmless[] = "passthrough"; /* most documents have this mode */

	for (const char *const *t = triggers; *t; t++) {
		size_t n = 0;

		while (n < left && (*t)[n] && ((*t)[n] == p[n] || ((*t)[n] ^ p[n]) == 0x20))
			n++;
		if ((*t)[n] == '\0')
			return left < sizeof(harmless) - 1 ||
			       !bytes_equal(p, harmless, sizeof(harmless) - 1);
	}
	return false;
}

static bool has_trigger(const char *block, size_t left)
{
	for (size_t at = 0; at < BLOCK; at += sizeof(vector)) {
		vector found = candidates(block + at);

		for (size_t i = 0; i < sizeof(vector); i++) {
			if (found[i] && is_trigger(block + at + i, left - at - i))
				return true;
		}
	}
	return false;
}

/* A short document is not worth the look. The last block overlaps the one before; a word that
   begins in its last bytes would be too short to be one with a value. */
static bool may_hold_secret(const char *data, size_t size)
{
	if (size < BLOCK + MARGIN)
		return true;
	for (size_t i = 0, last = size - BLOCK - MARGIN;; i = i + BLOCK < last ? i + BLOCK : last) {
		if (has_candidate(data + i) && has_trigger(data + i, size - i))
			return true;
		if (i == last)
			return false;
	}
}

size_t redact_all(char *data, size_t size, unsigned *ret_count)
{
	struct redact r = {.data = data, .size = size};

	*ret_count = size > 0 && is_foreign_encoding(data, size);
	if (*ret_count)
		return 0;
	for (;;) {
		text(&r);
		if (r.in == r.size)
			break;
		switch (r.in + 1 < r.size ? r.data[r.in + 1] : 0) {
		case '/':
			end_tag(&r);
			break;
		case '!':
		case '?':
			not_a_tag(&r);
			break;
		default:
			start_tag(&r);
		}
	}
	*ret_count = r.count;
	return r.out;
}

size_t redact(char *data, size_t size, unsigned *ret_count)
{
	*ret_count = 0;
	if (is_foreign_encoding(data, size) || may_hold_secret(data, size))
		return redact_all(data, size, ret_count);
	return size;
}
