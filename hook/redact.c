/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * redact - one pass over the markup. Each tag is read as a whole, because its last attribute may
 * name what the others hold; then it is copied down, usually in one piece.
 *
 * The scanner knows which elements are open, and where in the copy they begin. So a text that names
 * a secret removes the rest of its element; and if the value stands before its name, the part that
 * was already copied is removed again.
 *
 * If the text is not XML: an attribute's value without quotes ends at the next blank or '>', and a
 * secret value whose quote is never closed takes the rest of the document with it.
 */
#include "hook/redact.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "hook/clock.h"

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
	return a.size == b.size && memcmp(a.s, b.s, a.size) == 0;
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

		if (c != '-' && c != '_' && c != '.' && c != ' ')
			buf[size++] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	return size;
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
		return memmem(s, size, rule->word, n);
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
		if (matches(plain, size, n.letters, redact_rules.secrets))
			return true;
	}
	size = plain_name(n, plain);
	/* a time, and libvirt's own name for it */
	return matches(plain, size, n.letters, redact_rules.secrets) &&
	       !(size == 13 && memcmp(plain, "passwdvalidto", 13) == 0);
}

static bool may_be_secret_element(uint32_t s)
{
	return (HAS(s, 'a') && HAS(s, 'r') && HAS(s, 'g')) ||
	       (HAS(s, 'e') && HAS(s, 'n') && (HAS(s, 'v') || (HAS(s, 'o') && HAS(s, 's')))) ||
	       (HAS(s, 'o') && HAS(s, 'p') && HAS(s, 't')) ||
	       (HAS(s, 'c') && HAS(s, 'd') && (HAS(s, 'm') || HAS(s, 'h'))) ||
	       (HAS(s, 'd') && HAS(s, 'h') && HAS(s, 't')) ||
	       (HAS(s, 'i') && HAS(s, 'd') && HAS(s, 'b'));
}

static bool is_secret_element(struct name n)
{
	char plain[64];

	if (is_secret(n))
		return true;
	if (!may_be_secret_element(n.letters))
		return false;
	n = local_name(n);
	return n.size <= 64 &&
	       matches(plain, plain_name(n, plain), n.letters, redact_rules.elements);
}

static bool is_key(struct name n)
{
	n = local_name(n);
	return n.size == 3 && bytes_equal(n.s, "key", 3);
}

static bool may_be_free_name(uint32_t s)
{
	return HAS(s, 'p') || HAS(s, 'j') || (HAS(s, 'k') && (HAS(s, 'e') || HAS(s, 't'))) ||
	       (HAS(s, 'a') && (HAS(s, 'u') || HAS(s, 'm'))) ||
	       (HAS(s, 'c') && (HAS(s, 'd') || HAS(s, 't'))) ||
	       (HAS(s, 'i') && ((HAS(s, 's') && HAS(s, 'd')) || (HAS(s, 'w') && HAS(s, 'f'))));
}

/* In free text more names count; but `key` names what stands beside it. */
static bool is_free_name(struct name n)
{
	char plain[64];

	if (!may_be_free_name(n.letters))
		return false;
	n = local_name(n);
	return !is_key(n) &&
	       matches(plain, plain_name(n, plain), n.letters, redact_rules.free_names);
}

/* --- the document */

#define STEPS 4096   /* between two looks at the clock: far less than a millisecond */
#define DEPTH_MAX 64 /* what is deeper counts as content of the last */
#define NAME_DEPTH 3 /* of <name> in <hookData><network> */

/* One that is open. Its place is that in the copy, and its name follows the '<'. */
struct element {
	size_t start, name_size;
	size_t content;
};

struct redact {
	char *data;
	size_t size;
	size_t in;  /* next byte to look at */
	size_t out; /* next byte to write; out <= in */
	unsigned count;
	long long deadline_ms;
	unsigned steps;	     /* since the clock was looked at */
	unsigned depth;	     /* of the elements that are open */
	unsigned deeper;     /* how many more are open than there is room for */
	unsigned free_depth; /* the depth from which anything may be written; 0: not here */
	/* The text before stops within a word, at this depth; 0: it does not. */
	unsigned word_depth;
	bool pending;	   /* the text before named a secret: the next is one */
	bool is_name;	   /* of the guest or network: not a secret */
	bool has_entities; /* there is a document type declaration */
	struct element open[DEPTH_MAX];
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

/* A document may take longer than there is time. */
static bool is_late(struct redact *r)
{
	if (++r->steps < STEPS)
		return false;
	r->steps = 0;
	return clock_ms_until(r->deadline_ms, 1) == 0;
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

/* --- elements that are open */

static size_t after_quoted(const struct redact *r, size_t from)
{
	const char *p = from + 1 < r->size
				? memchr(r->data + from + 1, r->data[from], r->size - from - 1)
				: NULL;

	return p ? (size_t)(p - r->data) + 1 : r->size;
}

static struct name name_at(const struct redact *r, size_t from)
{
	const char *start = r->data + from, *p = start, *end = r->data + r->size;
	uint32_t letters = 0;

	while (p < end && !is(*p, ENDS_NAME))
		letters |= LETTER(*p++);
	return (struct name){start, (size_t)(p - start), letters};
}

/* Of the element at this depth, as it was copied. */
static struct name open_name(const struct redact *r, unsigned depth)
{
	const struct element *e = &r->open[depth - 1];

	return (struct name){r->data + e->start + 1, e->name_size, UINT32_MAX};
}

static bool is_free(const struct redact *r)
{
	return r->free_depth > 0;
}

static void enter(struct redact *r, size_t start, size_t name_size)
{
	if (r->depth == DEPTH_MAX) {
		r->deeper++;
		return;
	}
	r->open[r->depth++] = (struct element){start, name_size, r->out};
	if (!is_free(r) && is_one_of(local_name(open_name(r, r->depth)), redact_rules.free_texts))
		r->free_depth = r->depth;
}

static void leave(struct redact *r, unsigned depth)
{
	r->depth = depth;
	r->deeper = 0;
	r->word_depth = 0;
	r->pending = false;
	if (depth < r->free_depth)
		r->free_depth = 0;
}

/* After the tag whose name ends at `from`. A quote hides '>', closed or not. */
static size_t after_tag(const struct redact *r, size_t from, bool *ret_empty)
{
	bool value = false; /* one without quotes */
	size_t i = from;

	*ret_empty = false;
	while (i < r->size && r->data[i] != '>') {
		char c = r->data[i];

		if (is_blank(c)) {
			value = false;
			i++;
			continue;
		}
		*ret_empty = c == '/' && !value;
		if (c == '=') {
			i = skip_blanks(r, i + 1, r->size);
			value = true;
		} else if ((c == '"' || c == '\'') && !value) {
			i = after_quoted(r, i);
		} else {
			i++;
		}
		if (value && i < r->size && (r->data[i] == '"' || r->data[i] == '\'') && c == '=')
			value = false;
	}
	return i < r->size ? i + 1 : r->size;
}

/* The end of the content of `depth` elements of the name `n` that began before: at the '<' of the
   last end tag, or with the document. */
static size_t content_end(const struct redact *r, struct name n, unsigned depth)
{
	size_t i = r->in;

	while (i < r->size) {
		const char *tag = memchr(r->data + i, '<', r->size - i);
		struct name found;
		bool closing, empty;

		if (!tag)
			break;
		i = (size_t)(tag - r->data);
		if (STANDS(r, i, r->size, "<!--")) {
			i = after(r, i + 4, "-->");
		} else if (STANDS(r, i, r->size, "<![CDATA[")) {
			i = after(r, i + 9, "]]>");
		} else if (STANDS(r, i, r->size, "<?")) {
			i = after(r, i + 2, "?>");
		} else if (STANDS(r, i, r->size, "<!")) {
			break;
		} else {
			closing = STANDS(r, i, r->size, "</");
			found = name_at(r, i + 1 + closing);
			if (closing && name_equal(found, n) && --depth == 0)
				return i;
			i = after_tag(r, i + 1 + closing + found.size, &empty);
			depth += !closing && !empty && name_equal(found, n);
		}
	}
	return r->size;
}

/* Drops the rest of the element at this depth, with all that is inside it. */
static void drop_rest(struct redact *r, unsigned depth)
{
	struct name n = open_name(r, depth);
	unsigned same_name = 0;
	size_t end;

	for (unsigned d = depth; d <= r->depth; d++)
		same_name += name_equal(open_name(r, d), n);
	end = content_end(r, n, same_name);
	if (depth < r->depth) {
		r->out = r->open[depth].start;
		r->count++;
		r->in = end;
	}
	drop(r, end);
	leave(r, depth);
}

/* All that the innermost element holds goes, also what was copied. */
static void drop_content(struct redact *r)
{
	r->out = r->open[r->depth - 1].content;
	r->count++;
	r->in = content_end(r, open_name(r, r->depth), 1);
	leave(r, r->depth);
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

/* The length of a line break or tab as XML has it in values, or 0. */
static size_t blank_reference(const struct redact *r, size_t from, size_t end)
{
	static const char *const spellings[] = {"&#9;",	 "&#10;", "&#13;", "&#x9;",
						"&#xA;", "&#xD;", NULL};

	for (const char *const *s = spellings; *s; s++) {
		if (STANDS(r, from, end, "&#") && starts_with(r, from, end, *s, strlen(*s)))
			return strlen(*s);
	}
	return 0;
}

/* A letter written as a number hides a word: &#112;assword. So may an entity. */
static bool hides_letters(const struct redact *r, size_t from, size_t end)
{
	unsigned base = 10, n = 0;
	size_t i = from + 2;

	if (!STANDS(r, from, end, "&#"))
		return r->has_entities && from < end && r->data[from] == '&' &&
		       !STANDS(r, from, end, "&amp;") && !STANDS(r, from, end, "&lt;") &&
		       !STANDS(r, from, end, "&gt;") && !STANDS(r, from, end, "&quot;") &&
		       !STANDS(r, from, end, "&apos;");
	if (i < end && (r->data[i] | 0x20) == 'x') {
		base = 16;
		i++;
	}
	for (; i < end && r->data[i] != ';' && n < 0x110000; i++) {
		unsigned char c = (unsigned char)r->data[i];

		n = n * base + (unsigned)(c >= 'A' ? (c | 0x20) - 'a' + 10 : c - '0');
	}
	return n < 0x80 && blank_reference(r, from, end) == 0;
}

static bool begins_as_secret(const struct redact *r, size_t from, size_t end)
{
	for (const char *const *b = redact_rules.beginnings; from < end && *b; b++) {
		if ((((*b)[0] ^ r->data[from]) & ~0x20) == 0 &&
		    starts_with(r, from, end, *b, strlen(*b)))
			return true;
	}
	return false;
}

/* After a word: quotes and blanks, in their spellings. */
static size_t skip_quotes(const struct redact *r, size_t from, size_t end)
{
	for (;;) {
		if (STANDS(r, from, end, "&quot;") || STANDS(r, from, end, "&apos;"))
			from += 6;
		else if (from < end && (is_blank(r->data[from]) || r->data[from] == '"' ||
					r->data[from] == '\'' || r->data[from] == '\\'))
			from++;
		else if (from < end && r->data[from] == '&' && blank_reference(r, from, end) > 0)
			from += blank_reference(r, from, end);
		else
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
 * separator. `key`, and what counts in free texts only, are too common words without one; and `key`
 * must stand right before it elsewhere: rbd:pool/image:key=...
 */
static bool word_names_secret(struct redact *r, size_t at_word, size_t end, struct name n,
			      bool is_free)
{
	size_t word_end = at_word + n.size, next;
	bool counts = is_secret(n);

	if (is_key(n) && !is_free)
		return separator(r, word_end, end) > 0 && r->data[word_end] != ',';
	if (!counts && !(is_free && (is_key(n) || is_free_name(n))))
		return false;
	next = skip_quotes(r, word_end, end);
	if (!is_free || !counts)
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

static size_t query_of(const struct redact *r, size_t from, size_t end)
{
	while (from < end && r->data[from] != '?' && r->data[from] != '#')
		from++;
	return from;
}

/* scheme://user:password@host/path?query#fragment: what is before '@', after '?' and after '#'
   goes. Returns where to go on. */
static size_t url(struct redact *r, size_t colon, size_t end)
{
	size_t i = skip_until(r, colon + 3, end, ENDS_USER), url_end, query;

	while (i < end && r->data[i] == ':')
		i = skip_until(r, i + 1, end, ENDS_USER);

	if (i < end && r->data[i] == '@') {
		keep(r, colon + 3);
		drop(r, i);
	}
	url_end = skip_until(r, i, end, ENDS_URL);
	query = query_of(r, i, url_end);
	if (query < url_end) {
		keep(r, query + 1);
		drop(r, url_end);
	}
	return url_end;
}

/* One byte that is not in a word. *colon is the first one of user:password@host, 0 if none. Returns
   where to go on. */
static size_t punctuation(struct redact *r, size_t i, size_t end, size_t *colon)
{
	char c = r->data[i];

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

/* A letter of a name is written as a number, or may come from an entity. */
static bool hides_name(const struct redact *r, struct name n)
{
	return HAS(n.letters, '&') &&
	       (memmem(n.s, n.size, "&#", 2) || (r->has_entities && memchr(n.s, '&', n.size)));
}

/* A text, or an attribute's value, up to `end`. True if its rest went: what follows the text may
   belong to the secret. */
static bool scrub(struct redact *r, size_t end, bool is_free)
{
	size_t i = r->in, colon = 0;
	bool after_word = false;

	while (i < end) {
		struct name n;

		if (is_late(r) || hides_letters(r, i, end) ||
		    (is_free && !after_word && begins_as_secret(r, i, end))) {
			drop(r, end);
			return true;
		}
		n = word_at(r, i, end);
		after_word = n.size > 0;
		if (n.size == 0) {
			i = punctuation(r, i, end, &colon);
		} else if (word_names_secret(r, i, end, n, is_free)) {
			size_t value = skip_quotes(r, i + n.size, end);

			value = skip_quotes(r, value + separator(r, value, end), end);
			r->pending = value == end;
			keep(r, value);
			drop(r, end);
			return value < end;
		} else {
			i += n.size;
		}
	}
	keep(r, end);
	return false;
}

/* The value of a `key`. A name is letters, and what joins them; anything else may be a key. */
static bool may_be_key(const struct redact *r, size_t from, size_t end)
{
	for (; from < end; from++) {
		char c = r->data[from];

		if (!is_blank(c) && c != ':' && c != '/' &&
		    (!is_word_byte(c) || (c >= '0' && c <= '9')))
			return true;
	}
	return false;
}

/* Does the word in which the previous text stops go on here? A comment may have split it. Then the
   element that holds it is blanked, because the word could name a secret. */
static bool drop_split_word(struct redact *r, size_t from)
{
	if (r->word_depth == 0 || from >= r->size || !is_word_byte(r->data[from]))
		return false;
	drop_rest(r, r->word_depth);
	r->pending = is_free(r);
	return true;
}

/* Of an element, and not empty. False if its rest went. */
static bool take_text(struct redact *r, size_t end, bool is_free_text)
{
	size_t from = r->in;

	r->word_depth = 0;
	if (r->pending ||
	    (is_free(r) && is_key(open_name(r, r->depth)) && may_be_key(r, from, end)))
		drop(r, end);
	else if (!scrub(r, end, is_free_text)) {
		if (r->depth > 0 && r->out > 0 && is_word_byte(r->data[r->out - 1]))
			r->word_depth = r->depth;
		return true;
	}
	r->pending = false;
	return false;
}

/* Up to the next tag. Most is white space. */
static void text(struct redact *r)
{
	size_t from = skip_blanks(r, r->in, r->size), end;
	const char *tag;

	if (from > r->in)
		r->word_depth = 0;
	keep(r, from);
	if (from == r->size || r->data[from] == '<')
		return;
	tag = memchr(r->data + from, '<', r->size - from);
	end = tag ? (size_t)(tag - r->data) : r->size;
	if (r->is_name)
		keep(r, end);
	else if (!drop_split_word(r, from) && !take_text(r, end, is_free(r)) && r->depth > 0)
		drop_rest(r, r->depth);
}

/* --- what is not a tag */

/* Anything may be written in a comment, or a processing instruction after its target. */
static void aside(struct redact *r, size_t opening, const char *closing, bool is_secret)
{
	size_t end = after(r, r->in + opening, closing), n = strlen(closing);
	bool closed = end - r->in >= opening + n && memcmp(r->data + end - n, closing, n) == 0;

	keep(r, r->in + opening < r->size ? r->in + opening : r->size);
	if (is_secret || (r->pending && is_free(r)))
		drop(r, closed ? end - n : end);
	else
		(void)scrub(r, closed ? end - n : end, true);
	keep(r, end);
}

static void comment(struct redact *r)
{
	aside(r, 4, "-->", false);
}

static void instruction(struct redact *r)
{
	struct name target = name_at(r, r->in + 2);
	const char *mark = memchr(target.s, '?', target.size);

	if (mark)
		target.size = (size_t)(mark - target.s);
	aside(r, 2 + target.size, "?>", is_secret(target));
}

static void cdata(struct redact *r)
{
	static const char opening[] = "<![CDATA[", closing[] = "]]>";
	const size_t n = sizeof(closing) - 1;
	size_t begin = r->in + sizeof(opening) - 1, end = after(r, begin, closing);
	bool closed = end >= begin + n && memcmp(r->data + end - n, closing, n) == 0, stays;

	if (drop_split_word(r, begin))
		return;
	keep(r, begin);
	stays = take_text(r, closed ? end - n : end, true);
	keep(r, end);
	if (!stays && r->depth > 0)
		drop_rest(r, r->depth);
}

/* The end of a quoted value in a declaration, after its quote; 0 if it cannot be one. */
static size_t end_of_literal(const struct redact *r, size_t from)
{
	size_t end = after_quoted(r, from);

	if (end < from + 2 || r->data[end - 1] != r->data[from] ||
	    !(is_blank(r->data[from - 1]) || r->data[from - 1] == '(') ||
	    memchr(r->data + from, '<', end - from))
		return 0;
	return end == r->size || is_blank(r->data[end]) || strchr(">[)|", r->data[end]) ? end : 0;
}

/*
 * <!DOCTYPE ...>, which libvirt never writes: it may have a subset in brackets with declarations,
 * comments and instructions. Values go. One whose end is in doubt takes the rest of the document
 * with it, because a quote in it may hide a tag.
 */
static void declaration(struct redact *r)
{
	size_t start = r->out, i = r->in + 2;
	bool subset = false, declares = false;

	r->has_entities = true;
	while (i < r->size) {
		char c = r->data[i];
		size_t end = c == '"' || c == '\'' ? end_of_literal(r, i) : 0;

		if (STANDS(r, i, r->size, "<!--") || STANDS(r, i, r->size, "<?")) {
			keep(r, i);
			if (r->data[i + 1] == '?')
				instruction(r);
			else
				comment(r);
			i = r->in;
			continue;
		}
		if (end > 0 && declares != subset)
			end = 0; /* between two declarations */
		if (c == '>' && !subset) {
			keep(r, i + 1);
			return;
		}
		if (end > 0) {
			keep(r, i + 1);
			drop(r, end - 1);
			i = end;
		} else if (STANDS(r, i, r->size, "<!") && subset && !declares) {
			declares = true;
			i += 2;
		} else if (c == '[' && !subset) {
			subset = true;
			i++;
		} else if (c == ']' && subset && !declares) {
			subset = false;
			i++;
		} else if (strchr("<\"'[]", c) || (c == '>' && !declares)) {
			break;
		} else {
			declares = declares && c != '>';
			i++;
		}
	}
	if (i < r->size) {
		r->out = start;
		drop(r, r->size);
	}
	keep(r, r->size);
}

/* It looks like a tag and is not one. */
static void not_a_tag(struct redact *r)
{
	if (AT(r, "<!--"))
		comment(r);
	else if (AT(r, "<![CDATA["))
		cdata(r);
	else if (AT(r, "<?"))
		instruction(r);
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

/* May a quote before this place be the end of a value? */
static bool is_after_value(const struct redact *r, size_t at)
{
	return at >= r->size || is_blank(r->data[at]) || memchr("/>?", r->data[at], 3);
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
	for (; p < end; p++) {
		if (!is(*p, STOPS_VALUE))
			continue;
		if (*p == quote && (!a->secret || is_after_value(r, (size_t)(p - r->data) + 1)))
			break;
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
	a.secret =
		is_secret(a.name) || hides_name(r, a.name) || (is_free(r) && is_free_name(a.name));
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
	bool names;   /* it says so of another, as it holds nothing itself */
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
		return is_one_of(n, redact_rules.naming);
	default:
		return false;
	}
}

static bool is_entry(struct name n)
{
	n = local_name(n);
	return n.size == 5 && bytes_equal(n.s, "entry", 5);
}

static bool is_namespace(const struct attribute *a)
{
	return a->name.size >= 5 && memcmp(a->name.s, "xmlns", 5) == 0;
}

static struct name last_word(const struct redact *r, const struct attribute *a)
{
	size_t end = a->end, from;

	while (end > a->value && !is_word_byte(r->data[end - 1]))
		end--;
	for (from = end; from > a->value && is_word_byte(r->data[from - 1]);)
		from--;
	return word_at(r, from, end);
}

/* Is the attribute's value the name of a secret? Where anything may be written, the last word of
   each value may be one; elsewhere a value with '/' is a path. */
static bool names_secret(const struct redact *r, const struct attribute *a)
{
	struct name n = value_name(r, a);

	if (is_free(r) && is_namespace(a))
		return false;
	if (is_naming(local_name(a->name)))
		return (is_free(r) || !memchr(n.s, '/', n.size)) &&
		       (is_secret(n) || hides_name(r, n) || (is_free(r) && is_free_name(n)));
	if (!is_free(r))
		return false;
	n = last_word(r, a);
	return is_secret(n) || (n.s == r->data + a->value && is_free_name(n));
}

static struct tag look_at_tag(const struct redact *r)
{
	struct tag t = {.name = name_at(r, r->in + 1)};
	struct attribute a;
	bool entry = is_entry(t.name), entry_stays = false, alone = true;

	t.secret = is_secret_element(t.name) || hides_name(r, t.name) ||
		   (is_free(r) && is_free_name(t.name));
	t.end = r->in + 1 + t.name.size;
	while (next_attribute(r, &t.end, &t.empty, &a)) {
		bool names;

		t.touched |= a.special || a.secret;
		if (!a.has_value)
			continue;
		if (entry && is_naming(local_name(a.name)))
			entry_stays |= is_one_of(value_name(r, &a), redact_rules.entries);
		names = names_secret(r, &a);
		t.names |= names;
		alone &= names || is_one_of(local_name(a.name), redact_rules.kept) ||
			 is_namespace(&a);
	}
	t.secret |= t.names || (entry && !entry_stays);
	t.names &= alone && t.empty && is_free(r);
	return t;
}

static bool attribute_is_secret(const struct redact *r, const struct attribute *a,
				bool element_is_secret)
{
	if (is_namespace(a))
		return false;
	if (is_key(a->name) && (element_is_secret || is_free(r)) && may_be_key(r, a->value, a->end))
		return true;
	return a->secret ||
	       (element_is_secret && !is_one_of(local_name(a->name), redact_rules.kept));
}

/* Copies the tag, with what is secret in its attributes blanked. */
static void copy_attributes(struct redact *r, const struct tag *t)
{
	size_t at = r->in + 1 + t->name.size;
	bool empty, pending = r->pending;
	struct attribute a;

	while (next_attribute(r, &at, &empty, &a)) {
		bool secret, free_text = is_free(r) && !is_namespace(&a);

		if (!a.has_value)
			continue;
		/* judged before anything is copied over the name */
		secret = attribute_is_secret(r, &a, t->secret);
		keep(r, a.value);
		if (secret)
			drop(r, a.end);
		else if (a.special || free_text)
			(void)scrub(r, a.end, free_text);
	}
	keep(r, t->end);
	r->pending = pending;
}

static void start_tag(struct redact *r)
{
	struct tag t;
	size_t start = r->out;
	struct name n;

	if (r->pending && is_free(r)) {
		drop_rest(r, r->depth);
		return;
	}
	t = look_at_tag(r);
	if (t.touched || t.secret || is_free(r))
		copy_attributes(r, &t);
	else
		keep(r, t.end);
	r->is_name = false;
	if (!is_free(r))
		r->word_depth = 0;
	if (t.names)
		drop_content(r);
	if (t.empty)
		return;
	enter(r, start, t.name.size);
	/* The name as it was copied: what was there may be overwritten. */
	n = (struct name){r->data + start + 1, t.name.size, t.name.letters};
	if (t.secret)
		drop(r, content_end(r, n, 1));
	n = local_name(n);
	r->is_name =
		!is_free(r) && r->depth <= NAME_DEPTH && n.size == 4 && memcmp(n.s, "name", 4) == 0;
}

static void end_tag(struct redact *r)
{
	struct name n = name_at(r, r->in + 2);
	const char *end = memchr(r->data + r->in, '>', r->size - r->in);
	bool names = r->pending && is_free(r);
	unsigned depth = r->depth;

	while (depth > 0 && !name_equal(open_name(r, depth), n))
		depth--;
	keep(r, end ? (size_t)(end - r->data) + 1 : r->size);
	r->is_name = false;
	r->pending = false;
	r->word_depth = 0;
	if (r->deeper > 0)
		r->deeper--;
	else if (depth > 0)
		leave(r, depth - 1);
	if (names && is_free(r)) /* the value is beside the name, before or after it */
		drop_content(r);
}

static bool is_readable_encoding(const char *s, size_t size)
{
	static const char *const readable[] = {"utf-8",	    "utf8",   "us-ascii",    "ascii",
					       "iso-8859-", "latin1", "windows-125", NULL};

	for (size_t i = 0; readable[i]; i++) {
		size_t n = strlen(readable[i]);

		if (size >= n && bytes_equal(s, readable[i], n))
			return true;
	}
	return false;
}

/* Not readable as ASCII with some bytes beyond: nothing could be found in it. Each encoding that
   the first line may mean must be readable. */
static bool is_foreign_encoding(const char *data, size_t size)
{
	const char *p = data, *end;

	for (size_t i = 0; i < size && i < 4; i++) {
		if (data[i] == '\0' || data[i] == '\xfe' || data[i] == '\xff')
			return true;
	}
	if (size >= 4 && memcmp(data, "\x4c\x6f\xa7\x94", 4) == 0) /* "<?xm" in EBCDIC */
		return true;
	if (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0)
		p += 3;
	end = data + size;
	while (p < end && is_blank(*p))
		p++;
	if (end - p < 6 || memcmp(p, "<?xml", 5) != 0)
		return false;
	end = memmem(p, (size_t)(end - p), "?>", 2);
	if (!end)
		end = data + size;
	while ((p = memmem(p, (size_t)(end - p), "encoding", 8))) {
		for (p += 8; p < end && (is_blank(*p) || *p == '=' || *p == '"' || *p == '\'');)
			p++;
		if (!is_readable_encoding(p, (size_t)(end - p)))
			return true;
	}
	return false;
}

/*
 * Most documents hold nothing that a rule matches, and this look finds that out at a fraction of
 * the cost. Each rule needs one of the words below, unless '-', '_' or '.' splits the word (then a
 * document without metadata and the like keeps it: virtspool-hook(8) says so). The look searches
 * for two or three bytes of each word, at 16 places at a time. A test compares the documents that
 * it lets pass with the pass over the markup.
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

	return (EQ(a, 'p') & (cs | ck | cy | EQ(b, 'w'))) | (EQ(a, 's') & (cc | cg | cs)) |
	       (EQ(a, 't') & (ck | ct | cy)) | (EQ(a, 'k') & cy) |
	       (EQ(a, 'c') & (EQ(b, 'r') | EQ(c, 'o') | cd)) | (EQ(a, 'd') & (ct | cc)) |
	       (EQ(a, 'a') & cg & ~EQ(d, 'e')) | (EQ(a, 'e') & (EQ(c, 'v') | cc)) |
	       (EQ(a, 'o') & ct & EQ(b, 'p')) | (EQ(a, 'q') & EQ(c, 'e')) |
	       (EQ(a, ':') & EQ(c, '/')) | (EQ(a, '<') & (EQ(b, '!') | EQ(b, '?'))) |
	       (EQ(a, '&') & EQ(b, '#')) |
	       (EQ(a, 'i') &
		((EQ(b, 'd') & (EQ(c, 'b') | EQ(c, 'a'))) | (EQ(b, 'g') & EQ(c, 'n')))) |
	       (EQ(a, 'a') & ct & EQ(b, 'u')) | (EQ(a, 'b') & EQ(b, 'e') & EQ(c, 'a')) |
	       EQ(a, '@' | 0x20);
}

static bool is_any(vector found)
{
	uint64_t words[2];

	memcpy(words, &found, sizeof(words));
	return words[0] | words[1];
}

/* "desc" and "entry" are found by a later byte of theirs. */
static const char *const triggers[] = {
	"pass", "pw",	"psk",	"secr", "sig",	"sess",	 "token", "titl", "try",
	"key",	"cred", "cook", "cmdl", "data", "dhce",	 "arg",	  "env",  "esc",
	"opt",	"que",	"idb",	"ida",	"ign",	"syspr", "payl",  "clou", "authoriz",
	"bear", "://",	"<!",	"<?",	"&#",	"@",	 NULL,
};

static bool is_trigger(const char *p, size_t left)
{
	static const char harmless[] = "passthrough"; /* most documents have this mode */

	for (const char *const *t = triggers; *t; t++) {
		size_t n = 0;

		if (((*t)[0] ^ p[0]) & ~0x20)
			continue;
		while (n < left && (*t)[n] && ((*t)[n] == p[n] || ((*t)[n] ^ p[n]) == 0x20))
			n++;
		if ((*t)[n] == '\0')
			return left < sizeof(harmless) - 1 ||
			       !bytes_equal(p, harmless, sizeof(harmless) - 1);
	}
	return false;
}

static bool is_trigger_among(vector found, const char *p, size_t left)
{
	unsigned char bytes[sizeof(vector)]; /* an element of a vector takes longer */

	memcpy(bytes, &found, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++) {
		if (bytes[i] && is_trigger(p + i, left - i))
			return true;
	}
	return false;
}

static bool has_trigger(const char *block, size_t left)
{
	const size_t n = sizeof(vector);
	vector found[BLOCK / sizeof(vector)], any = {0};

	for (size_t i = 0; i < BLOCK / n; i++)
		any |= found[i] = candidates(block + i * n);
	if (!is_any(any))
		return false;
	for (size_t i = 0; i < BLOCK / n; i++) {
		if (is_any(found[i]) && is_trigger_among(found[i], block + i * n, left - i * n))
			return true;
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
		if (has_trigger(data + i, size - i))
			return true;
		if (i == last)
			return false;
	}
}

static size_t redact_tags(char *data, size_t size, long long deadline_ms, unsigned *ret_count)
{
	struct redact r = {.data = data, .size = size, .deadline_ms = deadline_ms};

	*ret_count = size > 0 && is_foreign_encoding(data, size);
	if (*ret_count)
		return 0;
	for (;;) {
		text(&r);
		if (is_late(&r))
			drop(&r, r.size);
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

size_t redact_all(char *data, size_t size, unsigned *ret_count)
{
	return redact_tags(data, size, LLONG_MAX, ret_count);
}

size_t redact_until(char *data, size_t size, long long deadline_ms, unsigned *ret_count)
{
	*ret_count = 0;
	if (is_foreign_encoding(data, size) || may_hold_secret(data, size))
		return redact_tags(data, size, deadline_ms, ret_count);
	return size;
}

size_t redact(char *data, size_t size, unsigned *ret_count)
{
	return redact_until(data, size, LLONG_MAX, ret_count);
}
