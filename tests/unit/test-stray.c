/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names that are no event's: each has one form in ASCII, and no other form means it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "spooler/spool/stray.h"

#define ID "01a213d2-227f-743a-a7fd-96f1123aea18"

static void escapes(void **state)
{
	static const struct {
		const char *name, *text;
	} table[] = {
		{"notes.txt", "notes.txt"},
		{"a b'c\"d", "a b'c\"d"},
		{"a\x1b[2J\n\x7f", "a%1B[2J%0A%7F"},
		{"100%", "100%25"},
		{"%41", "%2541"},
		{"m\303\274ller\377", "m%C3%BCller%FF"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char *text = stray_escape(table[i].name), name[64];

		assert_string_equal(text, table[i].text);
		assert_true(stray_unescape(text, name, sizeof(name)));
		assert_string_equal(name, table[i].name);
		free(text);
	}
}

static void takes_no_other_form(void **state)
{
	static const char *const table[] = {"%",   "100%",	    "%4",   "%41", "%1b",
					    "%zz", "m\303\274ller", "a\nb", "%00"};
	char name[64];

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (stray_unescape(table[i], name, sizeof(name)))
			fail_msg("'%s' was taken for '%s'", table[i], name);
	assert_false(stray_unescape("longer than there is room", name, 10));
}

static void finds_strays(void **state)
{
	char directory[] = "/tmp/test-stray-XXXXXX";
	int fd;

	(void)state;
	assert_non_null(mkdtemp(directory));
	fd = open(directory, O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	assert_int_equal(close(openat(fd, "notes", O_WRONLY | O_CREAT, 0600)), 0);
	assert_false(stray_is(fd, "."));
	assert_false(stray_is(fd, ".."));
	assert_false(stray_is(fd, ID));
	assert_false(stray_is(fd, ID ".reason")); /* also before the event is there */
	assert_false(stray_is(fd, "notes.reason"));
	assert_true(stray_is(fd, "notes"));
	assert_true(stray_is(fd, "other.reason"));
	assert_true(stray_is(fd, ".reason"));
	assert_true(stray_is(fd, ".hidden"));
	assert_true(stray_is(fd, ID "0"));
	assert_int_equal(unlinkat(fd, "notes", 0), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(escapes),
		cmocka_unit_test(takes_no_other_form),
		cmocka_unit_test(finds_strays),
	};

	return cmocka_run_group_tests_name("stray", tests, NULL, NULL);
}
