/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What redact() takes out and what it leaves, and that a document cut off anywhere shows nothing
   of a secret. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hook/redact.h"

static const struct {
	const char *in, *out;
	unsigned count;
} table[] = {
	{"", "", 0},
	{"no markup", "no markup", 0},
	{"<a/>", "<a/>", 0},
	{"<graphics type='vnc' passwd='secret' port='1'/>",
	 "<graphics type='vnc' passwd='' port='1'/>", 1},
	{"<graphics passwd=\"it's\" b='c'>", "<graphics passwd=\"\" b='c'>", 1},
	{"<g passwd='a>b/>' x='1'><h/></g>", "<g passwd='' x='1'><h/></g>", 1},
	{"<g passwd=''/>", "<g passwd=''/>", 0},
	{"<g\n\tpasswd \n = \t'secret'\n/>", "<g\n\tpasswd \n = \t''\n/>", 1},
	{"<g password='a'/><g Passphrase='b'/><g x:passwd='c'/>",
	 "<g password=''/><g Passphrase=''/><g x:passwd=''/>", 3},
	{"<g passwdValidTo='2030-01-01' nopasswd='b'/>",
	 "<g passwdValidTo='2030-01-01' nopasswd='b'/>", 0},
	{"<g x=' passwd=' y='z'/>", "<g x=' passwd=' y='z'/>", 0},
	{"<g x='>' passwd='s'/>", "<g x='>' passwd=''/>", 1},
	{"<cookies><cookie name='a'>secret</cookie><cookie name='b'>s2</cookie></cookies>",
	 "<cookies><cookie name='a'></cookie><cookie name='b'></cookie></cookies>", 2},
	{"<cookie/><a>b</a>", "<cookie/><a>b</a>", 0},
	{"<cookie name='x'/><a>b</a>", "<cookie name='x'/><a>b</a>", 0},
	{"<cookie></cookie>", "<cookie></cookie>", 0},
	{"<p:password>s</p:password>t", "<p:password></p:password>t", 1},
	{"<password>a<b>c</b>d</password>e", "<password></password>e", 1},
	{"<password>a<password>b</password>c</password>d", "<password></password>d", 1},
	{"<password>a<password x='/>'/>b</password>c", "<password></password>c", 1},
	{"<password><![CDATA[</password>]]>s</password>c", "<password></password>c", 1},
	{"<password><!-- </password> -->s</password>c", "<password></password>c", 1},
	{"<password >s</password >c", "<password ></password >c", 1},
	{"<password x='1' passwd='2'>3</password>", "<password x='1' passwd=''></password>", 2},
	{"<passwords>s</passwords>", "<passwords>s</passwords>", 0},
	/* what looks like markup and is none */
	{"<!-- it's --><g passwd='s'/>", "<!-- it's --><g passwd=''/>", 1},
	{"<!-- <g passwd='s'/> -->", "<!-- <g passwd='s'/> -->", 0},
	{"<![CDATA[it's <g ]]><g passwd='s'/>", "<![CDATA[it's <g ]]><g passwd=''/>", 1},
	{"<?xml version='1.0'?><g passwd='s'/>", "<?xml version='1.0'?><g passwd=''/>", 1},
	{"<?x it's?><g passwd='s'/>", "<?x it's?><g passwd=''/>", 1},
	{"<!DOCTYPE d [<!ENTITY e '>]'>]><g passwd='s'/>",
	 "<!DOCTYPE d [<!ENTITY e '>]'>]><g passwd=''/>", 1},
	{"<t>it's \"</t><g passwd='s'/>", "<t>it's \"</t><g passwd=''/>", 1},
	/* no XML at all */
	{"<g passwd=secret x=y>", "<g passwd= x=y>", 1},
	{"<g passwd=a/b/>", "<g passwd=>", 1},
	{"<g passwd>x</g>", "<g passwd>x</g>", 0},
	{"<g x='never closed><h passwd='s'/>", "<g x='never closed><h passwd=''/>", 1},
	{"<g passwd='never closed><h a='b'/>", "<g passwd=''b'/>", 1},
	{"a < b <g passwd='s'/>", "a < b <g passwd=''/>", 1},
	{"<<g passwd='s'/>", "<<g passwd=''/>", 1},
	{"<g <h passwd='s'/>", "<g <h passwd=''/>", 1},
	{"<g ='x' passwd='s'/>", "<g ='x' passwd=''/>", 1},
	{"<g a='1'passwd='s'/>", "<g a='1'passwd=''/>", 1},
	{"<password>to the end", "<password>", 1},
	{"<g passwd='to the end", "<g passwd='", 1},
	{"<", "<", 0},
	{"</", "</", 0},
	{"<!", "<!", 0},
	{"<!--", "<!--", 0},
	{"<g passwd", "<g passwd", 0},
	{"<g passwd=", "<g passwd=", 0},
};

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t n = strlen(table[i].in);
		char *copy =
			malloc(n ? n : 1); /* no byte more: a sanitizer sees what reads beyond */
		unsigned count = 99;

		memcpy(copy, table[i].in, n);
		n = redact(copy, n, &count);
		if (n != strlen(table[i].out) || memcmp(copy, table[i].out, n) != 0)
			fail_msg("%s\n became %.*s\n not    %s", table[i].in, (int)n, copy,
				 table[i].out);
		assert_int_equal(count, table[i].count);
		free(copy);
	}
}

static const char domain[] =
	"<?xml version='1.0'?>\n<!-- it's here -->\n<domain type='qemu' id='7'>\n  <name>web1</name>\n"
	"  <title>\"quoted\" &amp; 'so'</title>\n"
	"  <metadata><a:b xmlns:a='urn:a'><![CDATA[<x passwd=']]></a:b></metadata>\n"
	"  <devices>\n    <disk type='network'><source protocol='https' name='x'>\n"
	"      <cookies><cookie name='one'>5ECRET1</cookie><cookie name='two'><![CDATA[5ECRET2]]></cookie></cookies>\n"
	"    </source></disk>\n"
	"    <graphics type='vnc' port='-1' passwd='5ECRET3' passwdValidTo='2030-01-01T00:00:00'/>\n"
	"    <graphics type='spice' passwd=\"5ECRET4\"/>\n  </devices>\n</domain>\n";

/* Wherever in a document a secret stands, it is found; and what only looks like one does not
   hide it, nor counts. */
static void test_every_place(void **state)
{
	static const struct {
		const char *in, *out;
		unsigned count;
	} parts[] = {
		{"<g PassWd='s'/>", "<g PassWd=''/>", 1},
		{"<passphrase>s</passphrase>", "<passphrase></passphrase>", 1},
		{"<Cookie>s</Cookie>", "<Cookie></Cookie>", 1},
		{"<cpu mode='host-passthrough'/>", "<cpu mode='host-passthrough'/>", 0},
		{"<c m='host-passthrough'/><g password='s'/>",
		 "<c m='host-passthrough'/><g password=''/>", 1},
	};
	char in[512], out[512];
	unsigned count;

	(void)state;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		for (int before = 0; before < 140; before++) {
			for (int behind = 0; behind < 140; behind += 23) {
				int n = snprintf(in, sizeof(in), "%*s%s%*s", before, "",
						 parts[i].in, behind, "");
				int m = snprintf(out, sizeof(out), "%*s%s%*s", before, "",
						 parts[i].out, behind, "");

				assert_int_equal(redact(in, (size_t)n, &count), m);
				assert_memory_equal(in, out, m);
				assert_int_equal(count, parts[i].count);
			}
		}
	}
}

/* Cut anywhere, not a part of a secret comes out; and what was redacted stays as it is when
   redacted again. */
static void test_cut_off(void **state)
{
	(void)state;
	for (size_t cut = 0; cut < sizeof(domain); cut++) {
		char *copy = malloc(cut + 1);
		unsigned count;
		size_t n, again;

		memcpy(copy, domain, cut);
		n = redact(copy, cut, &count);
		assert_true(n <= cut);
		copy[n] = '\0';
		assert_null(strstr(copy, "5E"));
		again = redact(copy, n, &count);
		assert_int_equal(again, n);
		assert_int_equal(count, 0);
		free(copy);
	}
}

/* Everything but the secrets is left, byte by byte. */
static void test_rest_is_left(void **state)
{
	char copy[sizeof(domain)], expected[sizeof(domain)], *p;
	unsigned count;
	size_t n;

	(void)state;
	strcpy(expected, domain);
	while ((p = strstr(expected, "<![CDATA[5ECRET2]]>")))
		memmove(p, p + 19, strlen(p + 19) + 1);
	while ((p = strstr(expected, "5ECRET")))
		memmove(p, p + 7, strlen(p + 7) + 1);
	strcpy(copy, domain);
	n = redact(copy, strlen(copy), &count);
	copy[n] = '\0';
	assert_string_equal(copy, expected);
	assert_int_equal(count, 4);
}

/* Random pieces of markup in any order: in place, never longer, never outside. */
static void test_random(void **state)
{
	static const char *const pieces[] = {
		"<",	">",   "/",	    "'",    "\"", "=",	" ",	 "passwd", "cookie",
		"<!--", "-->", "<![CDATA[", "]]>",  "<?", "?>", "<!",	 "[",	   "]",
		"x",	":",   "\n",	    "\xff", "</", "/>", "a='b'",
	};
	const size_t n_pieces = sizeof(pieces) / sizeof(pieces[0]);

	(void)state;
	srandom(1);
	for (int round = 0; round < 20000; round++) {
		char built[512], *copy;
		size_t size = 0, n, again;
		unsigned count;

		for (long i = random() % 40; i > 0; i--) {
			const char *piece = pieces[(size_t)random() % n_pieces];

			memcpy(built + size, piece, strlen(piece));
			size += strlen(piece);
		}
		copy = malloc(size ? size : 1);
		memcpy(copy, built, size);
		n = redact(copy, size, &count);
		assert_true(n <= size);
		assert_true((n < size) == (count > 0));
		again = redact(copy, n, &count);
		assert_true(again <= n);
		free(copy);
	}
}

/* Linear: eight MiB of what makes a scanner look ahead for ever. */
static void test_time(void **state)
{
	static const char *const patterns[] = {
		"<!--", "<cookie>", "<a b='", "<![CDATA[", "<", "<password><password/>", "<!"};
	const size_t size = 8 * 1024 * 1024;
	char *data = malloc(size);

	(void)state;
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		unsigned count;

		for (size_t at = 0; at < size; at++)
			data[at] = patterns[i][at % strlen(patterns[i])];
		(void)redact(data, size, &count);
	}
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),	cmocka_unit_test(test_every_place),
		cmocka_unit_test(test_cut_off), cmocka_unit_test(test_rest_is_left),
		cmocka_unit_test(test_random),	cmocka_unit_test(test_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
