/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hex - hexadecimal digits, and UUIDs as text. Written in lower case, read in either. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The value of a digit, or of two; -1 if they are not digits. A text may end anywhere. */
int hex_digit(char c);
int hex_byte(const char *s);

/* 2 * n digits and the end. */
void hex_format(const unsigned char *bytes, size_t n, char *ret_text);
/* The text must have exactly 2 * n digits. */
bool hex_parse(const char *text, unsigned char *ret_bytes, size_t n);

#define UUID_TEXT 37 /* 36 characters and the end */
void uuid_format(const unsigned char uuid[16], char ret_text[static UUID_TEXT]);
/* Any UUID in its form 8-4-4-4-12. */
bool uuid_parse(const char *text, unsigned char ret_uuid[16]);
