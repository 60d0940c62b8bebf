/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* terminal - see terminal.h. */
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"

bool terminal_colour(FILE *f)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(fileno(f)) && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
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
	return isatty(fileno(f)) && !locale_is_utf8();
}

static void replace_beyond_ascii(char *text)
{
	char *out = text;

	for (const unsigned char *s = (const unsigned char *)text; *s; s++)
		if (*s < 0x80 || *s >= 0xc0) /* not the rest of a character */
			*out++ = *s < 0x80 ? (char)*s : '?';
	*out = 0;
}

void terminal_clean(FILE *f, char *text)
{
	for (unsigned char *s = (unsigned char *)text; *s; s++) {
		if (*s < 0x20 || *s == 0x7f)
			*s = '?';
		else if (s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0)
			s[0] = s[1] = '?';
	}
	if (f && terminal_ascii(f))
		replace_beyond_ascii(text);
}
