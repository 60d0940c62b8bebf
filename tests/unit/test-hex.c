/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hexadecimal digits and UUIDs, as text and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "spooler/base/hex.h"
#include "spooler/base/util.h"

#define UUID "0123abcd-4567-89ef-0011-223344556677"

static const unsigned char uuid[16] = {0x01, 0x23, 0xab, 0xcd, 0x45, 0x67, 0x89, 0xef,
				       0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77};

static void uuids(void **state)
{
	static const struct {
		const char *text;
		bool good;
	} table[] = {
		{UUID, true},
		{"0123ABCD-4567-89EF-0011-223344556677", true},
		{"", false},
		{"0123abcd", false},
		{"0123abcd-4567-89ef-0011-22334455667", false},
		{"0123abcd-4567-89ef-0011-2233445566778", false},
		{"0123abcd-4567-89ef-0011_223344556677", false},
		{"0123abcd456789ef0011223344556677", false},
		{"0123abcg-4567-89ef-0011-223344556677", false},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		unsigned char got[16] = {0};
		char text[UUID_TEXT];

		if (uuid_parse(table[i].text, got) != table[i].good)
			fail_msg("'%s'", table[i].text);
		if (!table[i].good)
			continue;
		assert_memory_equal(got, uuid, sizeof(uuid));
		uuid_format(got, text);
		assert_string_equal(text, UUID);
	}
}

static void digits(void **state)
{
	static const char good[] = "0123456789abcdefABCDEF";
	unsigned char bytes[2];
	char text[5];

	(void)state;
	for (int c = 0; c < 256; c++)
		assert_int_equal(hex_digit((char)c) >= 0, c && strchr(good, c));
	assert_int_equal(hex_byte("fE"), 0xfe);
	assert_int_equal(hex_byte("f"), -1);
	assert_int_equal(hex_byte(""), -1);
	assert_true(hex_parse("00fF", bytes, 2));
	hex_format(bytes, 2, text);
	assert_string_equal(text, "00ff");
	assert_false(hex_parse("00f", bytes, 2));
	assert_false(hex_parse("00ff0", bytes, 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(uuids),
		cmocka_unit_test(digits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
