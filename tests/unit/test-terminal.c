/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What reaches a terminal, and what JSON on a terminal looks like: tables of bytes and their
   escapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hook/record.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"

#define BYTES(literal)                                                                             \
	{                                                                                          \
		literal, sizeof(literal) - 1                                                       \
	}

static const struct {
	struct bytes in;
	const char *out;
} lines[] = {
	{BYTES(""), ""},
	{BYTES("web1"), "web1"},
	{BYTES("m\303\274ller \346\233\233 \360\237\230\200"),
	 "m\303\274ller \346\233\233 \360\237\230\200"},
	{BYTES("back\\slash"), "back\\slash"},
	{BYTES("a\nb\rc\td"), "a\\nb\\rc\\td"},
	{BYTES("\033[31m\007\177"), "\\x1b[31m\\x07\\x7f"},
	{BYTES("a\0b"), "a\\x00b"},
	/* C1, raw and in UTF-8 */
	{BYTES("\233"), "\\x9b"},
	{BYTES("\302\233 \302\200 \302\237 \302\240"), "\\u009b \\u0080 \\u009f \302\240"},
	/* bidirectional */
	{BYTES("\330\234 \342\200\216 \342\200\217"), "\\u061c \\u200e \\u200f"},
	{BYTES("\342\200\252\342\200\253\342\200\254\342\200\255\342\200\256"),
	 "\\u202a\\u202b\\u202c\\u202d\\u202e"},
	{BYTES("\342\201\246\342\201\247\342\201\250\342\201\251"), "\\u2066\\u2067\\u2068\\u2069"},
	/* zero width */
	{BYTES("\342\200\213\342\200\214\342\200\215\342\201\240\357\273\277"),
	 "\\u200b\\u200c\\u200d\\u2060\\ufeff"},
	{BYTES("\302\255 \315\217 \341\240\216 \343\205\244"), "\\u00ad \\u034f \\u180e \\u3164"},
	{BYTES("\357\270\217 \357\277\271"), "\\ufe0f \\ufff9"},
	/* lines, noncharacters, beyond the first plane */
	{BYTES("\342\200\250\342\200\251"), "\\u2028\\u2029"},
	{BYTES("\357\267\220 \357\277\277 \360\237\277\277"), "\\ufdd0 \\uffff \\U0001ffff"},
	{BYTES("\363\240\200\201 \363\240\204\200"), "\\U000e0001 \\U000e0100"},
	/* no UTF-8: alone, overlong, a surrogate, cut off */
	{BYTES("a\377b\303"), "a\\xffb\\xc3"},
	{BYTES("\300\200\355\240\200"), "\\xc0\\x80\\xed\\xa0\\x80"},
	{BYTES("\342\200"), "\\xe2\\x80"},
	/* neighbours that are safe */
	{BYTES("\342\200\220 \342\200\257 \330\233 \340\241\201"),
	 "\342\200\220 \342\200\257 \330\233 \340\241\201"},
};

static void escapes_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
		char *text = terminal_text(NULL, lines[i].in.data, lines[i].in.size);

		assert_string_equal(text, lines[i].out);
		free(text);
	}
}

static void cuts_between_characters(void **state)
{
	static const struct {
		const char *in;
		size_t size;
		const char *out;
	} table[] = {
		{"abc", 4, "abc"},
		{"abc", 3, "ab"},
		{"abc", 1, ""},
		{"a\303\274b", 3, "a"},
		{"a\303\274b", 4, "a\303\274"},
		{"a\342\200\256b", 7, "a"},
		{"a\342\200\256b", 8, "a\\u202e"},
	};
	char buf[16];

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct bytes in = {table[i].in, strlen(table[i].in)};

		assert_int_equal(terminal_escape(NULL, in.data, in.size, buf, table[i].size),
				 strlen(table[i].out));
		assert_string_equal(buf, table[i].out);
	}
}

static void escapes_json(void **state)
{
	static const struct {
		const char *in, *out;
	} table[] = {
		{"{}", "{}"},
		{"{\n  \"a\": \"\\u001b\"\n}", "{\n  \"a\": \"\\u001b\"\n}"},
		{"\"m\303\274ller\"", "\"m\303\274ller\""},
		{"\"\302\233\177\"", "\"\\u009b\\u007f\""},
		{"\"a\342\200\256b\342\201\246\357\273\277\"", "\"a\\u202eb\\u2066\\ufeff\""},
		{"\"\363\240\200\201\"", "\"\\udb40\\udc01\""},
		{"\"\\\\u202e\"", "\"\\\\u202e\""},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		char *json = terminal_json(table[i].in);

		assert_string_equal(json, table[i].out);
		free(json);
	}
}

static void counts_plain_bytes(void **state)
{
	static const struct {
		const char *in;
		size_t most, n;
	} table[] = {
		{"", SIZE_MAX, 0},
		{"web 1~", SIZE_MAX, 6},
		{"web1", 3, 3},
		{"web1", 0, 0},
		{"a\177b", SIZE_MAX, 1},
		{"a\tb", SIZE_MAX, 1},
		{"ab\303\274", SIZE_MAX, 2},
		{"\033[31m", SIZE_MAX, 0},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++)
		assert_int_equal(terminal_plain(table[i].in, table[i].most), table[i].n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(escapes_lines),
		cmocka_unit_test(cuts_between_characters),
		cmocka_unit_test(counts_plain_bytes),
		cmocka_unit_test(escapes_json),
	};

	return cmocka_run_group_tests_name("terminal", tests, NULL, NULL);
}
