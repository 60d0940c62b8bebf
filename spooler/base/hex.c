/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hex - see hex.h. */
#include <string.h>

#include "spooler/base/hex.h"
#include "spooler/base/util.h"

int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int hex_byte(const char *s)
{
	int high = hex_digit(s[0]), low = high < 0 ? -1 : hex_digit(s[1]);

	return low < 0 ? -1 : high << 4 | low;
}

/* Returns where it ended. */
static char *put(const unsigned char *bytes, size_t n, char *to)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*to++ = digits[bytes[i] >> 4];
		*to++ = digits[bytes[i] & 15];
	}
	*to = '\0';
	return to;
}

/* Returns where it ended; NULL if it is not all digits. */
static const char *take(const char *text, unsigned char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++, text += 2) {
		int byte = hex_byte(text);

		if (byte < 0)
			return NULL;
		bytes[i] = (unsigned char)byte;
	}
	return text;
}

void hex_format(const unsigned char *bytes, size_t n, char *ret_text)
{
	(void)put(bytes, n, ret_text);
}

bool hex_parse(const char *text, unsigned char *ret_bytes, size_t n)
{
	const char *end = take(text, ret_bytes, n);

	return end && !*end;
}

static const unsigned char uuid_parts[] = {4, 2, 2, 2, 6};

void uuid_format(const unsigned char uuid[16], char ret_text[static UUID_TEXT])
{
	for (size_t i = 0; i < ELEMENTSOF(uuid_parts); i++) {
		if (i)
			*ret_text++ = '-';
		ret_text = put(uuid, uuid_parts[i], ret_text);
		uuid += uuid_parts[i];
	}
}

bool uuid_parse(const char *text, unsigned char ret_uuid[16])
{
	unsigned char uuid[16], *to = uuid;

	for (size_t i = 0; i < ELEMENTSOF(uuid_parts); i++) {
		if (i && *text++ != '-')
			return false;
		text = take(text, to, uuid_parts[i]);
		if (!text)
			return false;
		to += uuid_parts[i];
	}
	memcpy(ret_uuid, uuid, sizeof(uuid));
	return !*text;
}
