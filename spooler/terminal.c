/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* terminal - see terminal.h. */
#include "terminal.h"
#include "util.h"

bool terminal_colour(FILE *f)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(fileno(f)) && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
}

void terminal_clean(char *text)
{
	for (unsigned char *s = (unsigned char *)text; *s; s++) {
		if (*s < 0x20 || *s == 0x7f)
			*s = '?';
		else if (s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0)
			s[0] = s[1] = '?';
	}
}
