/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* terminal - see terminal.h. */
#include <locale.h>
#include <sys/ioctl.h>
#include <wchar.h>

#include "spooler/base/terminal.h"
#include "spooler/base/util.h"

static unsigned paged_width; /* 0: stdout is not piped to a pager */

/* Of stdout it is asked for each cell of a table. */
static bool is_tty(FILE *f)
{
	static int of_stdout = -1;

	if (f != stdout)
		return isatty(fileno(f));
	if (of_stdout < 0)
		of_stdout = isatty(STDOUT_FILENO);
	return of_stdout;
}

bool terminal_is(FILE *f)
{
	return (f == stdout && paged_width > 0) || is_tty(f);
}

bool terminal_colour(FILE *f)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return terminal_is(f) && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
}

unsigned terminal_width(FILE *f)
{
	struct winsize size = {0};

	if (f == stdout && paged_width > 0)
		return paged_width;
	if (!is_tty(f))
		return 0;
	return ioctl(fileno(f), TIOCGWINSZ, &size) < 0 || size.ws_col == 0 ? 80 : size.ws_col;
}

void terminal_set_paged(void)
{
	paged_width = terminal_width(stdout);
}

/* By the variables and not by setlocale(): the locale that they name need not be installed here. */
static bool locale_is_utf8(void)
{
	const char *const values[] = {getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")};

	for (size_t i = 0; i < ELEMENTSOF(values); i++)
		if (values[i] && *values[i])
			return strcasestr(values[i], "UTF-8") || strcasestr(values[i], "UTF8");
	return false;
}

bool terminal_ascii(FILE *f)
{
	return terminal_is(f) && !locale_is_utf8();
}

/* --- unsafe characters */

/* Unicode 15: categories Cc, Zl, Zp, the default-ignorable code points
   (DerivedCoreProperties.txt), and Cf but for the few Arabic and Syriac signs that are visible. */
static const struct {
	uint32_t first, last;
} unsafe[] = {
	{0x0000, 0x001f},   {0x007f, 0x009f},	{0x00ad, 0x00ad},   {0x034f, 0x034f},
	{0x061c, 0x061c},   {0x115f, 0x1160},	{0x17b4, 0x17b5},   {0x180b, 0x180f},
	{0x200b, 0x200f},   {0x2028, 0x202e},	{0x2060, 0x206f},   {0x3164, 0x3164},
	{0xfdd0, 0xfdef},   {0xfe00, 0xfe0f},	{0xfeff, 0xfeff},   {0xffa0, 0xffa0},
	{0xfff0, 0xfffb},   {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a},
	{0xe0000, 0xe0fff},
};

bool terminal_unsafe(uint32_t c)
{
	if ((c & 0xfffe) == 0xfffe) /* the two noncharacters of each plane */
		return true;
	for (size_t i = 0; i < ELEMENTSOF(unsafe) && c >= unsafe[i].first; i++)
		if (c <= unsafe[i].last)
			return true;
	return false;
}

/* --- escaping */

size_t terminal_plain(const char *s, size_t most)
{
	size_t n = 0;

	while (n < most && s[n] >= ' ' && s[n] <= '~')
		n++;
	return n;
}

#define ESCAPE_MAX 12 /* two times \uXXXX */

static size_t escape_character(uint32_t c, char ret[static ESCAPE_MAX + 1])
{
	int n;

	if (c == '\n' || c == '\r' || c == '\t')
		n = snprintf(ret, ESCAPE_MAX + 1, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
	else if (c < 0x80)
		n = snprintf(ret, ESCAPE_MAX + 1, "\\x%02x", (unsigned)c);
	else if (c < 0x10000)
		n = snprintf(ret, ESCAPE_MAX + 1, "\\u%04x", (unsigned)c);
	else
		n = snprintf(ret, ESCAPE_MAX + 1, "\\U%08x", (unsigned)c);
	return (size_t)n;
}

/* The next piece of the text: a character as it is, or what stands for it. Takes its bytes from the
   front of the text. */
static size_t next_piece(const char **s, size_t *size, bool ascii, char ret[static ESCAPE_MAX + 1])
{
	uint32_t c;
	size_t length = utf8_decode(*s, *size, &c), n;

	if (length == 0)
		n = (size_t)snprintf(ret, ESCAPE_MAX + 1, "\\x%02x", (unsigned char)**s);
	else if (terminal_unsafe(c))
		n = escape_character(c, ret);
	else if (ascii && c >= 0x80)
		n = (size_t)snprintf(ret, ESCAPE_MAX + 1, "?");
	else
		memcpy(ret, *s, n = length);
	length = length ? length : 1;
	*s += length;
	*size -= length;
	return n;
}

size_t terminal_escape(FILE *f, const char *s, size_t n_bytes, char *buf, size_t size)
{
	bool ascii = f && terminal_ascii(f);
	char piece[ESCAPE_MAX + 1];
	size_t n = 0;

	while (n_bytes > 0) {
		size_t length = terminal_plain(s, n_bytes < size - n - 1 ? n_bytes : size - n - 1);

		memcpy(buf + n, s, length);
		n += length;
		s += length;
		n_bytes -= length;
		if (n_bytes == 0)
			break;
		length = next_piece(&s, &n_bytes, ascii, piece);

		if (length >= size - n)
			break;
		memcpy(buf + n, piece, length);
		n += length;
	}
	buf[n] = 0;
	return n;
}

char *terminal_text(FILE *f, const char *s, size_t n_bytes)
{
	/* The worst: \xff for a byte, as \u202e stands for two or three. */
	size_t size = 4 * n_bytes + 1;
	char *buf = malloc(size);

	if (buf)
		(void)terminal_escape(f, s, n_bytes, buf, size);
	return buf;
}

static size_t json_escape(uint32_t c, char ret[static ESCAPE_MAX + 1])
{
	if (c < 0x10000)
		return (size_t)snprintf(ret, ESCAPE_MAX + 1, "\\u%04x", (unsigned)c);
	c -= 0x10000; /* a surrogate pair: RFC 8259, section 7 */
	return (size_t)snprintf(ret, ESCAPE_MAX + 1, "\\u%04x\\u%04x", 0xd800 + (unsigned)(c >> 10),
				0xdc00 + (unsigned)(c & 0x3ff));
}

char *terminal_json(const char *json)
{
	size_t left = strlen(json);
	char *buf = malloc(6 * left + 1); /* the worst: DEL */
	char piece[ESCAPE_MAX + 1];
	size_t n = 0;

	while (buf && left > 0) {
		const char *from = json;
		uint32_t c;
		size_t taken = utf8_decode(json, left, &c), length = taken;

		/* below U+0020 it is the white space between two tokens */
		if (taken > 0 && c >= 0x20 && terminal_unsafe(c)) {
			length = json_escape(c, piece);
			from = piece;
		} else if (taken == 0) {
			taken = length = 1;
		}
		memcpy(buf + n, from, length);
		n += length;
		json += taken;
		left -= taken;
	}
	if (buf)
		buf[n] = 0;
	return buf;
}

/* --- columns */

/* Of one character; by a locale that is always there, as the environment's need not be. */
static size_t character_columns(uint32_t c)
{
	static locale_t utf8;
	locale_t before;
	int width;

	if (c < 0x80)
		return 1;
	if (!utf8)
		utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
	if (!utf8)
		return 1;
	before = uselocale(utf8);
	width = wcwidth((wchar_t)c);
	(void)uselocale(before);
	return width < 0 ? 1 : (size_t)width;
}

/* How far the text goes within these bytes and columns. */
static size_t measure(const char *text, size_t n, size_t most, size_t *ret_columns)
{
	size_t at = 0, columns = 0;

	for (;;) {
		size_t room = most - columns, length, width;
		uint32_t c;

		length = terminal_plain(text + at, n - at < room ? n - at : room);
		columns += length;
		at += length;
		if (at == n || !text[at])
			break;
		length = utf8_decode(text + at, strnlen(text + at, 4), &c);
		width = length > 0 ? character_columns(c) : 1;
		if (width > most - columns)
			break;
		columns += width;
		at += length > 0 ? length : 1;
	}
	*ret_columns = columns;
	return at;
}

size_t terminal_columns(const char *text, size_t n)
{
	size_t columns;

	(void)measure(text, n, SIZE_MAX, &columns);
	return columns;
}

size_t terminal_fit(const char *text, size_t columns)
{
	size_t taken;

	return measure(text, SIZE_MAX, columns, &taken);
}

void terminal_wrap(FILE *f, const char *text, size_t columns, unsigned indent)
{
	while (*text) {
		size_t fits = terminal_fit(text, columns), n = fits;

		if (text[n])
			while (n > 0 && text[n] != ' ')
				n--;
		n = n > 0 ? n : fits > 0 ? fits : strlen(text);
		fprintf(f, "%*s%.*s\n", (int)indent, "", (int)n, text);
		text += n;
		text += strspn(text, " ");
	}
}
