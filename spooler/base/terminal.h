/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* terminal - what may be written to a person's terminal: colours only where wanted, and no bytes
   that drive it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "spooler/base/utf8.h"

#define TERMINAL_RED "\033[31m"
#define TERMINAL_GREEN "\033[32m"
#define TERMINAL_YELLOW "\033[33m"
#define TERMINAL_BOLD "\033[1m"
#define TERMINAL_RESET "\033[0m"

/* Is f a terminal, or stdout piped to a pager that shows it on one? */
bool terminal_is(FILE *f);
/* Does f take colours? Not under NO_COLOR (https://no-color.org), nor with TERM=dumb. */
bool terminal_colour(FILE *f);
/* Does f take ASCII only? So it is where the locale does not name UTF-8, whose bytes may be
   controls there. */
bool terminal_ascii(FILE *f);
/* Columns of a line; 0 if f is not a terminal. */
unsigned terminal_width(FILE *f);
/* From here on stdout is the pager's input: the functions above answer for the terminal that it
   had. */
void terminal_set_paged(void);

/* The columns that the first n bytes of a line from terminal_text() take: wide characters have two,
   combining ones none. */
size_t terminal_columns(const char *text, size_t n);
/* The bytes at the front of such a line that take at most this many columns. */
size_t terminal_fit(const char *text, size_t columns);
/* Wraps such a line at blanks, if it has any, to at most `columns` columns. Each line begins with
   `indent` more blanks. */
void terminal_wrap(FILE *f, const char *text, size_t columns, unsigned indent);

/*
 * Must this character not reach a terminal as it is? Controls (C0, DEL, C1), everything that has no
 * glyph of its own or reorders the text around it (zero-width, bidirectional and other format
 * characters, variation selectors, fillers), line and paragraph separators, noncharacters.
 */
bool terminal_unsafe(uint32_t c);

/*
 * Any bytes as one line that drives no terminal and looks like no other text: unsafe characters
 * become \n, \x1b or \u202e (beyond U+FFFF \U000e0001), bytes that are not UTF-8 \xff, and, if f
 * (which may be NULL) is a terminal that takes ASCII only, every other character beyond ASCII '?'.
 * A backslash stays as it is.
 *
 * terminal_escape() writes into buf, which holds size > 0 bytes; text that does not fit is cut
 * between two characters or escapes. Returns the length. terminal_text() allocates; NULL without
 * memory.
 */
size_t terminal_escape(FILE *f, const char *s, size_t n_bytes, char *buf, size_t size);
char *terminal_text(FILE *f, const char *s, size_t n_bytes);

/* How many of the first `most` bytes are printable ASCII, which is written as it is, a column for each
   byte. Ends at a NUL. */
size_t terminal_plain(const char *s, size_t most);

/* JSON in which the unsafe characters inside strings are escaped as JSON has it: \u202e, beyond
   U+FFFF two of them. To be freed; NULL without memory. */
char *terminal_json(const char *json);
