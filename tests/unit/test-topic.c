/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which templates are allowed, and that no value of a field can get anything but itself into a
   topic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <string.h>

#include "spooler/event/topic.h"
#include "spooler/base/utf8.h"

#define HOST_ONLY (1U << TOPIC_HOST)

static void checks_templates(void **state)
{
	static const struct {
		const char *template;
		unsigned allowed;
		const char *why; /* part of the reason; NULL: allowed */
	} table[] = {
		{"virtspool/v1/{host}/{driver}/{uuid}/{operation}", TOPIC_ALL_FIELDS, NULL},
		{"{host}{driver}{uuid}{name}{operation}{suboperation}{epoch}", TOPIC_ALL_FIELDS,
		 NULL},
		{"a", TOPIC_ALL_FIELDS, NULL},
		{"/a//b/", TOPIC_ALL_FIELDS, NULL},
		{"a/$b", TOPIC_ALL_FIELDS, NULL},
		{"gr\303\274n/{name}", TOPIC_ALL_FIELDS, NULL},
		{"v/{host}/status", HOST_ONLY, NULL},
		{"", TOPIC_ALL_FIELDS, "at least one"},
		{"$SYS/{host}", TOPIC_ALL_FIELDS, "$"},
		{"a/+/b", TOPIC_ALL_FIELDS, "wildcards"},
		{"a/#", TOPIC_ALL_FIELDS, "wildcards"},
		{"a\nb", TOPIC_ALL_FIELDS, "control"},
		{"a\177b", TOPIC_ALL_FIELDS, "control"},
		{"a\377b", TOPIC_ALL_FIELDS, "UTF-8"},
		{"a/{nme}", TOPIC_ALL_FIELDS, "{suboperation}"},
		{"a/{name", TOPIC_ALL_FIELDS, "unknown field"},
		{"a/{", TOPIC_ALL_FIELDS, "unknown field"},
		{"a/{}", TOPIC_ALL_FIELDS, "unknown field"},
		{"a/{{name}}", TOPIC_ALL_FIELDS, "unknown field"},
		{"a/name}", TOPIC_ALL_FIELDS, "without its {"},
		{"v/{host}/{uuid}", HOST_ONLY, "only {host}"},
		{"{name}{name}{name}{name}{name}", TOPIC_ALL_FIELDS, NULL},
		{"{name}{name}{name}{name}{name}{name}", TOPIC_ALL_FIELDS, "65535"},
	};
	char longest[TOPIC_TEMPLATE_MAX + 2];
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int r = topic_check(table[i].template, table[i].allowed, &why);

		if ((r < 0) != (table[i].why != NULL) || (r < 0 && !strstr(why, table[i].why)))
			fail_msg("'%s': %d, %s", table[i].template, r, r < 0 ? why : "");
	}
	memset(longest, 'a', sizeof(longest));
	longest[TOPIC_TEMPLATE_MAX] = 0;
	assert_int_equal(topic_check(longest, TOPIC_ALL_FIELDS, &why), 0);
	longest[TOPIC_TEMPLATE_MAX] = 'a';
	longest[TOPIC_TEMPLATE_MAX + 1] = 0;
	assert_int_equal(topic_check(longest, TOPIC_ALL_FIELDS, &why), -EINVAL);
}

static void fills_in(void **state)
{
	static const struct {
		const char *template, *value, *topic; /* the value is every field's */
	} table[] = {
		{"v/{name}", "web1", "v/web1"},
		{"v/{name}", "", "v/-"},
		{"v/{name}/x", "a/b", "v/a%2Fb/x"},
		{"v/{name}", "+", "v/%2B"},
		{"v/{name}", "#", "v/%23"},
		{"{name}/v", "$SYS", "%24SYS/v"},
		{"v/{name}", "{uuid}", "v/%7Buuid%7D"},
		{"v/{name}", "%2F", "v/%252F"},
		{"v/{name}", "a b\t\n\x01\x7f*'\"\\", "v/a%20b%09%0A%01%7F%2A%27%22%5C"},
		{"v/{name}", "\377\300\200", "v/%FF%C0%80"},
		{"v/{name}", "gr\303\274n", "v/gr%C3%BCn"},
		{"v/{name}", "A-Z_a~z09", "v/A-Z_a~z09"},
		{"v/{name}", "web.example.org", "v/web%2Eexample%2Eorg"},
		{"v/{host}", "node1.example.org", "v/node1.example.org"},
		{"v/{host}", "a/b+#", "v/a%2Fb%2B%23"},
		{"v/{name}", "..", "v/%2E%2E"},
		{"{host}{driver}{uuid}{name}{operation}{suboperation}{epoch}", "x", "xxxxxxx"},
		{"a}", "x", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct bytes values[TOPIC_FIELDS];
		char *topic = NULL;
		int r;

		for (int f = 0; f < TOPIC_FIELDS; f++)
			values[f] = (struct bytes){table[i].value, strlen(table[i].value)};
		r = topic_format(table[i].template, values, &topic);
		assert_int_equal(r, table[i].topic ? 0 : -EINVAL);
		if (table[i].topic)
			assert_string_equal(topic, table[i].topic);
		free(topic);
	}
}

/* Every byte, alone and at a value's end, in every field: at most the host's "." is left of what
   is special. */
static void lets_no_byte_through(void **state)
{
	(void)state;
	for (int f = 0; f < TOPIC_FIELDS; f++)
		for (int c = 0; c < 256; c++) {
			static const char *const names[] = {"host", "driver",	 "uuid",
							    "name", "operation", "suboperation",
							    "epoch"};
			char byte = (char)c, template[32], *topic;
			struct bytes values[TOPIC_FIELDS] = {[0] = {"h", 1}};

			values[f] = (struct bytes){&byte, 1};
			snprintf(template, sizeof(template), "{%s}", names[f]);
			assert_int_equal(topic_format(template, values, &topic), 0);
			assert_int_equal(
				strspn(topic,
				       "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~.%"),
				strlen(topic));
			assert_true(strlen(topic) == 1 || (strlen(topic) == 3 && topic[0] == '%'));
			assert_true(f == TOPIC_HOST || !strchr(topic, '.'));
			free(topic);
		}
}

static void bounds_values(void **state)
{
	static char name[100000];
	struct bytes values[TOPIC_FIELDS] = {[TOPIC_NAME] = {name, sizeof(name)}};
	char *topic;

	(void)state;
	memset(name, '/', sizeof(name));
	assert_int_equal(topic_format("{name}{name}{name}{name}{name}", values, &topic), 0);
	assert_int_equal(strlen(topic), 5 * 3 * RECORD_VALUE_MAX);
	assert_true(strlen(topic) <= TOPIC_MAX);
	free(topic);
}

static void filters(void **state)
{
	static const struct {
		const char *template, *filter;
	} table[] = {
		{"virtspool/v1/{host}/{driver}/{uuid}/{operation}", "virtspool/v1/+/+/+/+"},
		{"a/x{host}y/b", "a/+/b"},
		{"{host}", "+"},
		{"a", "a"},
		{"/{name}/", "/+/"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char *filter;

		assert_int_equal(topic_filter(table[i].template, &filter), 0);
		assert_string_equal(filter, table[i].filter);
		free(filter);
	}
}

static void encodes_within_bounds(void **state)
{
	char buf[8];

	(void)state;
	assert_int_equal(percent_encode((struct bytes){"ab/", 3}, "", buf, sizeof(buf)), 5);
	assert_string_equal(buf, "ab%2F");
	assert_int_equal(percent_encode((struct bytes){"abcdef/", 7}, "", buf, sizeof(buf)), 6);
	assert_string_equal(buf, "abcdef");
	assert_int_equal(percent_encode((struct bytes){"abcdefgh", 8}, "", buf, sizeof(buf)), 7);
	assert_string_equal(buf, "abcdefg");
	assert_int_equal(percent_encode((struct bytes){"x", 1}, "", buf, 1), 0);
	assert_string_equal(buf, "");
}

static void utf8(void **state)
{
	static const struct {
		const char *in;
		size_t size;
		const char *out;   /* NULL: valid, stays */
		const char *shown; /* with control characters replaced; NULL: as out */
	} table[] = {
#define R "\357\277\275"
		{"", 0, NULL, NULL},
		{"abcdefghijklmnop", 16, NULL, NULL},
		{"gr\303\274n", 5, NULL, NULL},
		{"\342\202\254 \360\237\230\200", 8, NULL, NULL},
		{"a\0b", 3, "a" R "b", NULL},
		{"12345678\377", 9, "12345678" R, NULL},
		{"\300\200", 2, R R, NULL},	  /* overlong */
		{"\340\200\257", 3, R R R, NULL}, /* overlong */
		{"\355\240\200", 3, R R R, NULL}, /* surrogate */
		{"\364\220\200\200", 4, R R R R, NULL},
		{"\360\237\230", 3, R R R, NULL}, /* cut off */
		{"\303", 1, R, NULL},
		{"\303a", 2, R "a", NULL},
		{"a\001b\n\177", 5, NULL, "a" R "b" R R},
		{"\302\237", 2, NULL, R},	  /* C1 */
		{"\357\267\220", 3, NULL, R},	  /* U+FDD0 */
		{"\360\237\277\277", 4, NULL, R}, /* U+1FFFF */
		{"\302\240", 2, NULL, NULL},
#undef R
	};
	char buf[64];
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct bytes b = {table[i].in, table[i].size};
		const char *out = table[i].out ? table[i].out : table[i].in;
		size_t size = table[i].out ? strlen(out) : table[i].size;

		assert_int_equal(utf8_valid(b.data, b.size), table[i].out == NULL);
		n = utf8_replace(b.data, b.size, buf);
		assert_int_equal(n, size);
		assert_memory_equal(buf, out, n);
		assert_true(utf8_valid(buf, n));
		n = utf8_replace_controls(b.data, b.size, buf);
		if (table[i].shown)
			assert_int_equal(n, strlen(table[i].shown));
		assert_memory_equal(buf, table[i].shown ? table[i].shown : out, n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checks_templates),
		cmocka_unit_test(fills_in),
		cmocka_unit_test(lets_no_byte_through),
		cmocka_unit_test(bounds_values),
		cmocka_unit_test(filters),
		cmocka_unit_test(encodes_within_bounds),
		cmocka_unit_test(utf8),
	};

	return cmocka_run_group_tests_name("topic", tests, NULL, NULL);
}
