/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lines come out in the order of their keys, and each as it was given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "spooler/base/util.h"
#include "spooler/recorder/lines.h"

#define ROUNDS 300
#define LINES_MAX 3000 /* more than there is room for at first */
#define KEY_MAX 24
#define TEXT_MAX 100

struct given {
	char key[KEY_MAX + 1], text[TEXT_MAX + 1];
};

static unsigned below(unsigned n)
{
	return (unsigned)rand() % n;
}

/* Few characters, so that keys have beginnings of all lengths in common. */
static void random_text(char *text, unsigned most)
{
	static const char characters[] = "aab\x01\x7f\x80\xff";
	unsigned n = below(most + 1);

	for (unsigned i = 0; i < n; i++)
		text[i] = characters[below(sizeof(characters) - 1)];
	text[n] = 0;
}

static int by_key(const void *p, const void *q)
{
	const struct given *a = p, *b = q;
	int order = strcmp(a->key, b->key);

	return order ? order : strcmp(a->text, b->text);
}

static char *expect(struct given *all, unsigned n)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	assert_non_null(f);
	qsort(all, n, sizeof(*all), by_key);
	for (unsigned i = 0; i < n; i++)
		fputs(all[i].text, f);
	assert_int_equal(fclose(f), 0);
	return text;
}

static void test_any_lines(void **state)
{
	struct given *all = calloc(LINES_MAX, sizeof(*all));

	assert_non_null(all);
	srand(1);
	for (unsigned round = 0; round < ROUNDS; round++) {
		_cleanup_free_ char *text = NULL, *expected = NULL;
		unsigned n = below(8) ? below(40) : below(LINES_MAX);
		struct lines l = {0};
		size_t size;
		FILE *f = open_memstream(&text, &size);

		for (unsigned i = 0; i < n; i++) {
			size_t cut;

			random_text(all[i].key, below(4) ? 3 : KEY_MAX);
			random_text(all[i].text, below(4) ? 3 : TEXT_MAX);
			cut = below((unsigned)strlen(all[i].text) + 1);
			lines_begin(&l, all[i].key);
			lines_add(&l, all[i].text, cut);
			lines_add(&l, all[i].text + cut, strlen(all[i].text + cut));
		}
		assert_int_equal(lines_print(&l, f), 0);
		assert_int_equal(fclose(f), 0);
		lines_release(&l);
		expected = expect(all, n);
		assert_string_equal(text, expected);
	}
	free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_lines)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
