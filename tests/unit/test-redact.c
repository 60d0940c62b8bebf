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
	 "<g passwdValidTo='2030-01-01' nopasswd=''/>", 1},
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
	{"<password x='1' passwd='2'>3</password>", "<password x='' passwd=''></password>", 3},
	{"<passwords>s</passwords>", "<passwords></passwords>", 1},
	/* what looks like markup and is none */
	{"<!-- it's --><g passwd='s'/>", "<!-- it's --><g passwd=''/>", 1},
	{"<!-- <g passwd='s'/> -->", "<!-- <g passwd='-->", 1},
	{"<![CDATA[it's <g ]]><g passwd='s'/>", "<![CDATA[it's <g ]]><g passwd=''/>", 1},
	{"<?xml version='1.0'?><g passwd='s'/>", "<?xml version='1.0'?><g passwd=''/>", 1},
	{"<?x it's?><g passwd='s'/>", "<?x it's?><g passwd=''/>", 1},
	{"<!DOCTYPE d [<!ENTITY e '>]'>]><g passwd='s'/>",
	 "<!DOCTYPE d [<!ENTITY e ''>]><g passwd=''/>", 2},
	{"<!DOCTYPE d [<!-- it's -->]><g passwd='s'/>",
	 "<!DOCTYPE d [<!-- it's -->]><g passwd=''/>", 1},
	{"<!DOCTYPE d [<?x it's?>]><g passwd='s'/>", "<!DOCTYPE d [<?x it's?>]><g passwd=''/>", 1},
	{"<t>it's \"</t><g passwd='s'/>", "<t>it's \"</t><g passwd=''/>", 1},
	/* arguments and environments of guests */
	{"<initenv name='DB'>s</initenv><initarg>s</initarg>",
	 "<initenv name='DB'></initenv><initarg></initarg>", 2},
	{"<qemu:env name='X' value='s'/>", "<qemu:env name='X' value=''/>", 1},
	{"<qemu:arg value='secret,id=s,data=s'/>", "<qemu:arg value=''/>", 1},
	{"<arg xmlns='http://libvirt.org/schemas/domain/qemu/1.0' value='-x'/>",
	 "<arg xmlns='http://libvirt.org/schemas/domain/qemu/1.0' value=''/>", 1},
	{"<bhyve:arg value='s'/><xen:arg value='s'/>", "<bhyve:arg value=''/><xen:arg value=''/>",
	 2},
	{"<dnsmasq:option value='s'/>", "<dnsmasq:option value=''/>", 1},
	{"<cmdline>ks=http://u:p@h/</cmdline>", "<cmdline></cmdline>", 1},
	{"<bootloader_args>s</bootloader_args>", "<bootloader_args></bootloader_args>", 1},
	{"<target arg='x'>y</target>", "<target arg='x'>y</target>", 0},
	{"<sysinfo type='fwcfg'><entry name='opt/a' file='/f'>s</entry></sysinfo>",
	 "<sysinfo type='fwcfg'><entry name='opt/a' file=''></entry></sysinfo>", 2},
	{"<oemStrings><entry>io.systemd.credential:x=s</entry></oemStrings>",
	 "<oemStrings><entry></entry></oemStrings>", 1},
	{"<system><entry name='serial'>s123</entry><entry name='UUID'>u</entry></system>",
	 "<system><entry name='serial'>s123</entry><entry name='UUID'>u</entry></system>", 0},
	{"<launchSecurity type='sev'><dhCert>s</dhCert><session>s</session></launchSecurity>",
	 "<launchSecurity type='sev'><dhCert></dhCert><session></session></launchSecurity>", 2},
	/* elements and attributes named for a secret */
	{"<password value='s'/><cookie value='s' name='n'/>",
	 "<password value=''/><cookie value='' name='n'/>", 2},
	{"<secret type='ceph' usage='u' uuid='x'/>", "<secret type='ceph' usage='u' uuid='x'/>", 0},
	{"<a adminPass='s' ROOT_PASSWORD='s' api-key='s' x:Token='s'/>",
	 "<a adminPass='' ROOT_PASSWORD='' api-key='' x:Token=''/>", 4},
	{"<nova:adminPass>s</nova:adminPass><graphicsPassword>s</graphicsPassword>",
	 "<nova:adminPass></nova:adminPass><graphicsPassword></graphicsPassword>", 2},
	{"<apiKey>s</apiKey><api_key>s</api_key><access-token>s</access-token>",
	 "<apiKey></apiKey><api_key></api_key><access-token></access-token>", 3},
	{"<m key='password' value='s'/>", "<m key='password' value=''/>", 1},
	{"<m value='s' key='password'/>", "<m value='' key='password'/>", 1},
	{"<m name=\"admin_pass\">s</m>", "<m name=\"admin_pass\"></m>", 1},
	{"<m name='p&#97;ssword'>s</m>", "<m name=''></m>", 2},
	{"<source name='pool/token.img'><host name='h'/></source>",
	 "<source name='pool/token.img'><host name='h'/></source>", 0},
	/* URLs */
	{"<source file='https://u:s@h/p'/>", "<source file='https://@h/p'/>", 1},
	{"<source file='iscsi://u%s@h/p'/>", "<source file='iscsi://@h/p'/>", 1},
	{"<source file='https://h/p?sig=s&amp;x=y'/>", "<source file='https://h/p?'/>", 1},
	{"<source file='https://u:s@h/p?sig=s'/>", "<source file='https://@h/p?'/>", 2},
	{"<source protocol='https' query='sig=s'/>", "<source protocol='https' query=''/>", 1},
	{"<source file='rbd:p/i:id=a:key=s:x'/>", "<source file='rbd:p/i:id=a:key='/>", 1},
	{"<source file='nbd:u:s@h'/>", "<source file='nbd:@h'/>", 1},
	{"<description>ssh u:p:s@h, v</description>", "<description>ssh u:@h, v</description>", 1},
	{"<source file='json:{\"password\": \"s\"}'/>", "<source file='json:{\"password\": \"'/>",
	 1},
	{"<source file='json:{&quot;password&quot;:&quot;s&quot;}'/>",
	 "<source file='json:{&quot;password&quot;:&quot;'/>", 1},
	{"<mac address='52:54:00:12:34:56'/>", "<mac address='52:54:00:12:34:56'/>", 0},
	/* texts */
	{"<name>token: a@b</name>", "<name>token: a@b</name>", 0},
	{"<description>rootPassword=s</description>", "<description>rootPassword=</description>",
	 1},
	{"<description>the root password is s</description>",
	 "<description>the root password </description>", 1},
	{"<description>password</description><memory>1</memory>",
	 "<description>password</description><memory>1</memory>", 0},
	{"<description>see https://u:s@h/?x=s now</description>",
	 "<description>see https://@h/? now</description>", 2},
	{"<description>p&#97;ssword=s</description>", "<description></description>", 1},
	{"<description>p&#x41;ss: s</description>", "<description></description>", 1},
	{"<description>ssh root:s@h</description>", "<description>ssh root:@h</description>", 1},
	{"<metadata><a><![CDATA[#cloud-config\nchpasswd: x]]></a></metadata>",
	 "<metadata><a><![CDATA[]]></a></metadata>", 1},
	{"<metadata><a><![CDATA[<adminPass>s</adminPass>]]></a></metadata>",
	 "<metadata><a><![CDATA[<adminPass>]]></a></metadata>", 1},
	{"<metadata><a>&lt;password&gt;s</a></metadata>",
	 "<metadata><a>&lt;password&gt;</a></metadata>", 1},
	{"<metadata><userdata>I2Nsb3VkLWNvbmZpZw==</userdata></metadata>",
	 "<metadata><userdata></userdata></metadata>", 1},
	{"<metadata><b>  #!/bin/sh\ns</b></metadata>", "<metadata><b></b></metadata>", 1},
	{"<metadata><key>password</key><string>s</string><x>y</x></metadata>",
	 "<metadata><key>password</key><string></string><x>y</x></metadata>", 1},
	{"<metadata><m note='the token s'/></metadata>",
	 "<metadata><m note='the token '/></metadata>", 1},
	{"<metadata><m name='x'>web</m></metadata><memory>1</memory>",
	 "<metadata><m name='x'>web</m></metadata><memory>1</memory>", 0},
	/* what cannot be read goes */
	{"<?xml version='1.0' encoding='UTF-7'?><a/>", "", 1},
	{"<?xml version='1.0' encoding='utf-8'?><a/>", "<?xml version='1.0' encoding='utf-8'?><a/>",
	 0},
	{"\xff\xfe<", "", 1},
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
	unsigned wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t n = strlen(table[i].in);
		char *copy =
			malloc(n ? n : 1); /* no byte more: a sanitizer sees what reads beyond */
		unsigned count = 99;

		memcpy(copy, table[i].in, n);
		n = redact(copy, n, &count);
		if (n != strlen(table[i].out) || memcmp(copy, table[i].out, n) != 0)
			wrong += (unsigned)fprintf(stderr, "%s\n became %.*s\n not    %s\n",
						   table[i].in, (int)n, copy, table[i].out);
		else if (count != table[i].count)
			wrong += (unsigned)fprintf(stderr, "%s: %u are counted, not %u\n",
						   table[i].in, count, table[i].count);
		free(copy);
	}
	assert_int_equal(wrong, 0);
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

/* The form with the word for each '@', and no shorter than what is looked at before. */
static size_t fill_in(const char *form, const char *word, char *buf, size_t size)
{
	int n = snprintf(buf, size, "<metadata>%79s", "");

	for (; *form; form++)
		n += *form == '@' ? snprintf(buf + n, size - (size_t)n, "%s", word)
				  : snprintf(buf + n, size - (size_t)n, "%c", *form);
	return (size_t)n;
}

static void expect_blanked(const char *form, const char *word)
{
	char buf[512];
	unsigned count;
	size_t n = fill_in(form, word, buf, sizeof(buf));

	buf[redact(buf, n, &count)] = '\0';
	if (strstr(buf, "5E") || count == 0)
		fail_msg("%s: %s", word, buf);
}

/* Each rule of the table, as an element, as an attribute, as what names a value and in a text, in
   the spellings that are one to it. */
static void test_every_rule(void **state)
{
	static const char *const forms[] = {
		"<@>5ECRET</@></metadata>",	      "<a @='5ECRET'/></metadata>",
		"<a v='5ECRET' key='@'/></metadata>", "<a key='@'>5ECRET</a></metadata>",
		"<a>@=5ECRET</a></metadata>",	      "<a><![CDATA[@ 5ECRET]]></a></metadata>",
	};
	char word[64];

	(void)state;
	for (const struct redact_rule *rule = redact_rules.secrets; *rule->word; rule++) {
		int half = (int)strlen(rule->word) / 2;

		for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
			expect_blanked(forms[i], rule->word);
			(void)snprintf(word, sizeof(word), "%.*s_%s", half, rule->word,
				       rule->word + half);
			expect_blanked(forms[i], word);
			(void)snprintf(word, sizeof(word), "%s%s%s",
				       rule->match == REDACT_IS ? "" : "my-", rule->word,
				       rule->match == REDACT_CONTAINS ? ".2" : "");
			for (char *c = word; *c; c++)
				*c = (char)(*c >= 'a' && *c <= 'z' ? *c - 0x20 : *c);
			expect_blanked(forms[i], word);
		}
	}
	for (const struct redact_rule *rule = redact_rules.elements; *rule->word; rule++) {
		expect_blanked("</metadata><@ value='5ECRET'>5ECRET</@>", rule->word);
		expect_blanked("</metadata><x:@>5ECRET</x:@>", rule->word);
	}
}

/* The list in virtspool-hook(8) is the table: its words in their order, and no other. */
static void expect_words(FILE *f, const char *heading, const char *const *words, size_t n)
{
	char line[256];
	size_t at = 0;

	rewind(f);
	while (fgets(line, sizeof(line), f) && strcmp(line, heading) != 0)
		;
	while (fgets(line, sizeof(line), f) && strcmp(line, ".Ed\n") != 0) {
		if (line[0] == '.')
			continue;
		for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
			if (at == n || strcmp(word, words[at]) != 0)
				fail_msg("%s '%s' is not '%s'", heading, word,
					 at < n ? words[at] : "(end)");
			at++;
		}
	}
	if (at != n)
		fail_msg("%s '%s' is missing", heading, words[at]);
}

static size_t spell(const struct redact_rule *rules, char (*spelled)[32], const char **words)
{
	size_t n = 0;

	for (; *rules[n].word; n++) {
		(void)snprintf(spelled[n], sizeof(spelled[n]),
			       rules[n].match == REDACT_CONTAINS ? "*%s*"
			       : rules[n].match == REDACT_ENDS	 ? "*%s"
								 : "%s",
			       rules[n].word);
		words[n] = spelled[n];
	}
	return n;
}

static size_t length(const char *const *list)
{
	size_t n = 0;

	while (list[n])
		n++;
	return n;
}

static void test_manual(void **state)
{
	const char *source = getenv("srcdir"), *words[64];
	char path[512], spelled[64][32];
	size_t n;
	FILE *f;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/hook/virtspool-hook.8", source ? source : ".");
	f = fopen(path, "re");
	if (!f)
		skip();
	n = spell(redact_rules.secrets, spelled, words);
	expect_words(f, ".\\\" names of secrets\n", words, n);
	n = spell(redact_rules.elements, spelled, words);
	expect_words(f, ".\\\" elements\n", words, n);
	expect_words(f, ".\\\" kept attributes\n", redact_rules.kept, length(redact_rules.kept));
	expect_words(f, ".\\\" naming attributes\n", redact_rules.naming,
		     length(redact_rules.naming));
	expect_words(f, ".\\\" entries\n", redact_rules.entries, length(redact_rules.entries));
	expect_words(f, ".\\\" free texts\n", redact_rules.free_texts,
		     length(redact_rules.free_texts));
	expect_words(f, ".\\\" beginnings\n", redact_rules.beginnings,
		     length(redact_rules.beginnings));
	(void)fclose(f);
}

/* Random pieces of markup in any order: in place, never longer, never outside. */
static void test_random(void **state)
{
	static const char *const pieces[] = {
		"<",	  ">",	     "/",	 "'",		"\"",  "=",	" ",	 "passwd",
		"cookie", "<!--",    "-->",	 "<![CDATA[",	"]]>", "token", "key",	 "://",
		"@",	  "&#112;",  "metadata", "description", "arg", "entry", "name=", "?",
		"secret", "cmdline", "title",	 "<?",		"?>",  "<!",	"[",	 "]",
		"x",	  ":",	     "\n",	 "\xff",	"</",  "/>",	"a='b'",
	};
	const size_t n_pieces = sizeof(pieces) / sizeof(pieces[0]);

	(void)state;
	srandom(1);
	for (int round = 0; round < 20000; round++) {
		char built[1024], all[1024], *copy;
		size_t size = 0, n, again;
		unsigned count, count_all;

		for (long i = random() % 80; i > 0; i--) {
			const char *piece = pieces[(size_t)random() % n_pieces];

			memcpy(built + size, piece, strlen(piece));
			size += strlen(piece);
		}
		copy = malloc(size ? size : 1);
		memcpy(copy, built, size);
		n = redact(copy, size, &count);
		assert_true(n <= size);
		assert_true((n < size) == (count > 0));
		memcpy(all, built, size); /* what the look before lets pass has nothing to blank */
		if (redact_all(all, size, &count_all) != n || memcmp(all, copy, n) != 0)
			fail_msg("%.*s\n became %.*s\n not    %.*s", (int)size, built, (int)n, copy,
				 (int)n, all);
		again = redact(copy, n, &count);
		assert_true(again <= n);
		free(copy);
	}
}

/* Linear: eight MiB of what makes a scanner look ahead for ever. */
static void test_time(void **state)
{
	static const char *const patterns[] = {"<!--",	   "<cookie>",
					       "<a b='",   "<![CDATA[",
					       "<",	   "<password><password/>",
					       "<!",	   "a:",
					       "://",	   "<password passwd='",
					       "&#0",	   "token\"",
					       "<a b:c=d", "<metadata>",
					       "a:b@"};
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
		cmocka_unit_test(test_table),	   cmocka_unit_test(test_every_place),
		cmocka_unit_test(test_cut_off),	   cmocka_unit_test(test_rest_is_left),
		cmocka_unit_test(test_random),	   cmocka_unit_test(test_time),
		cmocka_unit_test(test_every_rule), cmocka_unit_test(test_manual),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
