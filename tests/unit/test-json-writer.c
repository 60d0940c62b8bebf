/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is written is, byte for byte, what jansson writes for the same members. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "spooler/base/json-writer.h"
#include "spooler/base/utf8.h"
#include "spooler/base/util.h"

#define ROUNDS 3000
#define MEMBERS 12
#define TEXT_MAX 600

/* Both are given the same members; the ends are compared. */
struct twin {
	struct json_writer writer;
	json_t *levels[MEMBERS + 1]; /* jansson's object at each depth */
	unsigned depth;
};

static unsigned below(unsigned n)
{
	return (unsigned)rand() % n;
}

/* Valid UTF-8 without U+0000, with many characters that are escaped. */
static size_t random_text(char text[static 3 * TEXT_MAX])
{
	static const char *const pieces[] = {
		"\"",	"\\", "\n",	  "\x01",	  "\x1f",
		"\x7f", "/",  "plain",	  "\t",		  "\r",
		"\b",	"\f", "\xc3\xa4", "\xe2\x80\xae", "\xf0\x9f\x98\x80",
		"<"};
	size_t n = 0, wanted = below(4) ? below(30) : below(TEXT_MAX);

	while (n < wanted) {
		const char *piece = pieces[below(ELEMENTSOF(pieces))];

		memcpy(text + n, piece, strlen(piece));
		n += strlen(piece);
	}
	assert_true(utf8_valid(text, n));
	return n;
}

static void set(struct twin *t, const char *key, json_t *value)
{
	assert_int_equal(json_object_set_new(t->levels[t->depth], key, value), 0);
}

static void add_member(struct twin *t, const char *key)
{
	static const int64_t numbers[] = {0, 1, -1, 4096, INT64_MAX, INT64_MIN};
	char text[3 * TEXT_MAX];
	int64_t number;
	size_t n;

	switch (below(6)) {
	case 0:
		number = numbers[below(ELEMENTSOF(numbers))];
		json_writer_integer(&t->writer, key, number);
		set(t, key, json_integer(number));
		break;
	case 1:
		json_writer_boolean(&t->writer, key, key[1] & 1);
		set(t, key, json_boolean(key[1] & 1));
		break;
	case 2:
		json_writer_tree(&t->writer, key, json_pack("{s[i,n]}", "list", 7));
		set(t, key, json_pack("{s[i,n]}", "list", 7));
		break;
	case 3:
		json_writer_open(&t->writer, key);
		set(t, key, json_object());
		t->levels[t->depth + 1] = json_object_get(t->levels[t->depth], key);
		t->depth++;
		break;
	default:
		n = random_text(text);
		json_writer_text(&t->writer, key, text, n);
		set(t, key, json_stringn(text, n));
	}
}

static void as_jansson_writes(void **state)
{
	(void)state;
	srand(1);
	for (int round = 0; round < ROUNDS; round++) {
		struct twin t = {.levels = {json_object()}};
		unsigned n = below(MEMBERS + 1);
		char key[8], *expected;

		json_writer_open(&t.writer, NULL);
		for (unsigned i = 0; i < n; i++) {
			snprintf(key, sizeof(key), "k%u", i);
			add_member(&t, key);
		}
		for (unsigned i = 0; i <= t.depth; i++)
			json_writer_close(&t.writer);
		assert_false(t.writer.failed);
		expected = json_dumps(t.levels[0], JSON_COMPACT);
		assert_string_equal(t.writer.text, expected);
		assert_int_equal(t.writer.size, strlen(expected));
		free(expected);
		free(t.writer.text);
		json_decref(t.levels[0]);
	}
}

static void every_byte_below_128(void **state)
{
	(void)state;
	for (char c = 1; c > 0; c++) {
		struct json_writer w = {};
		json_t *twin = json_pack("{ss#}", "k", &c, 1);
		char *expected = json_dumps(twin, JSON_COMPACT);

		json_writer_open(&w, NULL);
		json_writer_text(&w, "k", &c, 1);
		json_writer_close(&w);
		assert_string_equal(w.text, expected);
		free(expected);
		free(w.text);
		json_decref(twin);
		if (c == 127)
			break;
	}
}

static void a_tree_that_is_not_there_is_a_failure(void **state)
{
	struct json_writer w = {};

	(void)state;
	json_writer_open(&w, NULL);
	json_writer_tree(&w, "k", NULL);
	assert_true(w.failed);
	free(w.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_jansson_writes),
		cmocka_unit_test(every_byte_below_128),
		cmocka_unit_test(a_tree_that_is_not_there_is_a_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
