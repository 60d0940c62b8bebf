/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* utf8 - see utf8.h. The table of valid sequences is RFC 3629's section 4. */
#include <stdint.h>
#include <string.h>

#include "spooler/base/utf8.h"

/* The length of the valid character at s, of which n > 0 bytes are there; 0 if there is none. */
static size_t character(const unsigned char *s, size_t n)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t length;

	if (s[0] < 0x80)
		return s[0] != 0;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		length = 2;
	else if ((s[0] & 0xf0) == 0xe0)
		length = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0; /* overlong */
	else if (s[0] == 0xed)
		high = 0x9f; /* surrogates */
	else if (s[0] == 0xf0)
		low = 0x90; /* overlong */
	else if (s[0] == 0xf4)
		high = 0x8f; /* beyond U+10FFFF */
	if (n < length || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

/* Bytes at the start of s that are ASCII, by eights: nearly all of what comes is. */
static size_t ascii_prefix(const char *s, size_t n)
{
	size_t i = 0;

	for (uint64_t word; i + sizeof(word) <= n; i += sizeof(word)) {
		memcpy(&word, s + i, sizeof(word));
		if (word & UINT64_C(0x8080808080808080))
			break;
	}
	return i;
}

bool utf8_valid(const char *s, size_t size)
{
	if (size && memchr(s, 0, size))
		return false;
	for (size_t i = 0, length; i < size; i += length) {
		i += ascii_prefix(s + i, size - i);
		if (i == size)
			break;
		length = character((const unsigned char *)s + i, size - i);
		if (!length)
			return false;
	}
	return true;
}

size_t utf8_decode(const char *at, size_t size, uint32_t *ret_c)
{
	const unsigned char *s = (const unsigned char *)at;
	size_t length = character(s, size);
	uint32_t c = s[0];

	if (length > 1)
		c &= 0xffU >> (length + 1);
	for (size_t i = 1; i < length; i++)
		c = c << 6 | (s[i] & 0x3f);
	if (length > 0)
		*ret_c = c;
	return length;
}

static bool control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0xfdd0 && c <= 0xfdef) ||
	       (c & 0xfffe) == 0xfffe;
}

static size_t replace(const char *from, size_t size, bool controls, char *buf)
{
	size_t n = 0;

	for (size_t i = 0; i < size;) {
		uint32_t c;
		size_t length = utf8_decode(from + i, size - i, &c);

		if (length && !(controls && control(c))) {
			memcpy(buf + n, from + i, length);
			n += length;
		} else {
			memcpy(buf + n, "\xef\xbf\xbd", 3);
			n += 3;
		}
		i += length ? length : 1;
	}
	return n;
}

size_t utf8_replace(const char *s, size_t size, char *buf)
{
	return replace(s, size, false, buf);
}

size_t utf8_replace_controls(const char *s, size_t size, char *buf)
{
	return replace(s, size, true, buf);
}
