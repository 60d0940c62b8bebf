/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * text - a line is built piece by piece into a buffer of fixed size, without stdio: its code would
 * be most of the hook. Text that does not fit is dropped, and `full` says so.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct text {
	char *data;
	size_t size;
	size_t length;
	bool full;
};

static inline void text_add_bytes(struct text *t, const void *data, size_t size)
{
	if (size > t->size - t->length) {
		t->full = true;
		return;
	}
	if (size)
		memcpy(t->data + t->length, data, size);
	t->length += size;
}

static inline void text_add(struct text *t, const char *s)
{
	text_add_bytes(t, s, strlen(s));
}

/* Decimal, with zeros in front up to `width` digits. */
static inline void text_add_number(struct text *t, uint64_t n, unsigned width)
{
	char digits[24];
	size_t i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n || (sizeof(digits) - i < width && i > 0));
	text_add_bytes(t, digits + i, sizeof(digits) - i);
}

/* The lowest `width` digits in lower-case hexadecimal. */
static inline void text_add_hex(struct text *t, uint64_t n, unsigned width)
{
	for (unsigned i = width; i > 0; i--)
		text_add_bytes(t, &"0123456789abcdef"[n >> (4 * (i - 1)) & 15], 1);
}

/* Percent-escapes every byte that is not printable ASCII, and the percent sign: what comes out
   is one line. */
static inline void text_add_escaped(struct text *t, const void *data, size_t size)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < size; i++) {
		if (p[i] >= 0x20 && p[i] < 0x7f && p[i] != '%') {
			text_add_bytes(t, &p[i], 1);
			continue;
		}
		text_add_bytes(
			t,
			(char[]){'%', "0123456789ABCDEF"[p[i] >> 4], "0123456789ABCDEF"[p[i] & 15]},
			3);
	}
}
