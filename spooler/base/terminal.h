/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* terminal - what may be written to a person's terminal: colours only where wanted, and no bytes
   that drive it. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#define TERMINAL_RED "\033[31m"
#define TERMINAL_GREEN "\033[32m"
#define TERMINAL_YELLOW "\033[33m"
#define TERMINAL_BOLD "\033[1m"
#define TERMINAL_RESET "\033[0m"

/* Is f a terminal that wants colours? Not under NO_COLOR (https://no-color.org), nor TERM=dumb. */
bool terminal_colour(FILE *f);
/* Is f a terminal that takes ASCII only, going by the locale? Where UTF-8 is not understood, its bytes may be controls.
 */
bool terminal_ascii(FILE *f);
/* Replaces in place every control character of a UTF-8 string, C1 ones (U+0080 to U+009F)
   included, by '?', and, if f (which may be NULL) takes ASCII only, every character beyond. */
void terminal_clean(FILE *f, char *text);
