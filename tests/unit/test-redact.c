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
	{"<metadata><b>  #!/bin/sh\ns</b></metadata>", "<metadata><b>  </b></metadata>", 1},
	{"<metadata><key>password</key><string>s</string><x>y</x></metadata>",
	 "<metadata></metadata>", 1},
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
	{"<g passwd='never closed><h a='b'/>", "<g passwd=''/>", 1},
	{"<g passwd='a'b c='d'/>", "<g passwd=''/>", 1},
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
		/* No byte more: a sanitizer sees what reads beyond. */
		char *copy = malloc(n ? n : 1);
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
	"  <metadata><a:b xmlns:a='urn:a'><![CDATA[<x y=']]></a:b></metadata>\n"
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
	int n = snprintf(buf, size, "%80s", "");

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
		"<@>5ECRET</@>",
		"<a @='5ECRET'/>",
		"<a v='5ECRET' key='@'/>",
		"<a key='@'>5ECRET</a>",
		"<a>@=5ECRET</a>",
		"<a><![CDATA[@ 5ECRET]]></a>",
		"<metadata><a>@ 5ECRET</a></metadata>",
		"<metadata><a><b>@</b><c>5ECRET</c></a></metadata>",
		"<metadata><a><c v='5ECRET'/><b v='@'/></a></metadata>",
	};
	char word[64], free_form[128];

	(void)state;
	for (const struct redact_rule *rule = redact_rules.secrets; *rule->word; rule++) {
		int half = (int)strlen(rule->word) / 2;

		for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
			expect_blanked(forms[i], rule->word);
			(void)snprintf(word, sizeof(word), "%.*s_%s", half, rule->word,
				       rule->word + half);
			(void)snprintf(free_form, sizeof(free_form), "<metadata>%s", forms[i]);
			expect_blanked(free_form, word);
			(void)snprintf(word, sizeof(word), "%s%s%s",
				       rule->match == REDACT_IS ? "" : "my-", rule->word,
				       rule->match == REDACT_CONTAINS ? ".2" : "");
			for (char *c = word; *c; c++)
				*c = (char)(*c >= 'a' && *c <= 'z' ? *c - 0x20 : *c);
			expect_blanked(forms[i], word);
		}
	}
	for (const struct redact_rule *rule = redact_rules.elements; *rule->word; rule++) {
		expect_blanked("<@ value='5ECRET'>5ECRET</@>", rule->word);
		expect_blanked("<x:@>5ECRET</x:@>", rule->word);
	}
	for (const struct redact_rule *rule = redact_rules.free_names; *rule->word; rule++) {
		(void)snprintf(word, sizeof(word), "%s%s", rule->match == REDACT_IS ? "" : "my-",
			       rule->word);
		expect_blanked("<metadata><@>5ECRET</@></metadata>", word);
		expect_blanked("<metadata><a @='5ECRET'/></metadata>", word);
		expect_blanked("<metadata><a name='@' v='5ECRET'/></metadata>", word);
		expect_blanked("<description>the @: 5ECRET</description>", word);
	}
	for (const char *const *b = redact_rules.beginnings; *b; b++) {
		expect_blanked("<metadata><a>@5ECRET</a></metadata>", *b);
		expect_blanked("<title>x: @<![CDATA[5ECRET]]></title>", *b);
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
	n = spell(redact_rules.free_names, spelled, words);
	expect_words(f, ".\\\" free names\n", words, n);
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

/* Places and spellings in which operators, or somebody who is hostile, may write a secret. */
static const char *const hidden[] = {
	"<metadata><n:i xmlns:n='u'><n:adminPass>5ECRET</n:adminPass></n:i></metadata>",
	"<metadata><a>root:5ECRET@host</a></metadata>",
	"<metadata><a>--password 5ECRET</a></metadata>",
	"<metadata><kv><k>password</k><v>5ECRET</v></kv></metadata>",
	"<metadata><item><name>api_key</name><value>5ECRET</value></item></metadata>",
	"<metadata><item><value>5ECRET</value><name>api_key</name></item></metadata>",
	"<metadata><property name='rootpw' value='5ECRET'/></metadata>",
	"<metadata><meta key=\"admin_pass\">5ECRET</meta></metadata>",
	"<metadata><meta label=\"admin_pass\">5ECRET</meta></metadata>",
	"<metadata><meta title=\"password\" content=\"5ECRET\"/></metadata>",
	"<metadata><entry><string>password</string><string>5ECRET</string></entry></metadata>",
	"<metadata><o:vm><o:custom o:name=\"password\" o:type=\"string\">5ECRET</o:custom></o:vm></metadata>",
	"<metadata><x>{\"password\": \"5ECRET\"}</x></metadata>",
	"<metadata><x>{&quot;password&quot;: &quot;5ECRET&quot;}</x></metadata>",
	"<metadata><x>{\"k\":\"v\",\"auth\":{\"user\":\"a\",\"pw\":\"5ECRET\"}}</x></metadata>",
	"<metadata><x>chpasswd: {list: \"root:5ECRET\"}</x></metadata>",
	"<metadata><x>root:$6$salt$5ECRET</x></metadata>",
	"<metadata><x>I2Nsb3VkLWNvbmZpZw5ECRET</x></metadata>",
	"<metadata><x> \n I2Nsb3VkLWNvbmZpZw5ECRET</x></metadata>",
	"<metadata><x>Q29udGVudC1UeXBl5ECRET</x></metadata>",
	"<metadata><x>H4sIAAAAAAAA5ECRET</x></metadata>",
	"<metadata><x>-----BEGIN RSA PRIVATE KEY-----5ECRET</x></metadata>",
	"<metadata><x>key is -----BEGIN RSA PRIVATE KEY-----5ECRET</x></metadata>",
	"<metadata><x><![CDATA[abc -----BEGIN OPENSSH PRIVATE KEY-----5ECRET]]></x></metadata>",
	"<metadata><x>LS0tLS1CRUdJTi5ECRET</x></metadata>",
	"<metadata><x>Authorization: Bearer 5ECRET</x></metadata>",
	"<metadata><x>Authorization: Basic 5ECRET</x></metadata>",
	"<metadata><x>AWS_SECRET_ACCESS_KEY=5ECRET</x></metadata>",
	"<metadata><pin>5ECRET</pin></metadata>",
	"<metadata><otp>5ECRET</otp></metadata>",
	"<metadata><key>5ECRET</key></metadata>",
	"<metadata><a key=\"5ECRET\"/></metadata>",
	"<metadata><sshkey>5ECRET</sshkey></metadata>",
	"<metadata><licenseKey>5ECRET</licenseKey></metadata>",
	"<metadata><productkey>5ECRET</productkey></metadata>",
	"<metadata><hmac>5ECRET</hmac></metadata>",
	"<metadata><auth>5ECRET</auth></metadata>",
	"<metadata><authkey>5ECRET</authkey></metadata>",
	"<metadata><jwt>5ECRET</jwt></metadata>",
	"<metadata><saslpassword>5ECRET</saslpassword></metadata>",
	"<metadata><masterkey>5ECRET</masterkey></metadata>",
	"<metadata><kickstart>5ECRET</kickstart></metadata>",
	"<metadata><preseed>5ECRET</preseed></metadata>",
	"<metadata><unattend>5ECRET</unattend></metadata>",
	"<metadata><customdata>5ECRET</customdata></metadata>",
	"<metadata><injected_files>5ECRET</injected_files></metadata>",
	"<metadata><write_files>5ECRET</write_files></metadata>",
	"<metadata><runcmd>5ECRET</runcmd></metadata>",
	"<metadata><creds>5ECRET</creds></metadata>",
	"<metadata><session_id>5ECRET</session_id></metadata>",
	"<metadata><x>pass: 5ECRET</x></metadata>",
	"<metadata><x>pass&#119;ord=5ECRET</x></metadata>",
	"<metadata><x>pass&#0000119;ord=5ECRET</x></metadata>",
	"<metadata><x>pass&#x0077;ord=5ECRET</x></metadata>",
	"<metadata><x>pass<!-- -->word=5ECRET</x></metadata>",
	"<metadata><x>pass<![CDATA[word]]>=5ECRET</x></metadata>",
	"<metadata><x>pass<?x?>word=5ECRET</x></metadata>",
	"<metadata><x>pass<b/>word=5ECRET</x></metadata>",
	"<metadata><x>password<!-- -->=5ECRET</x></metadata>",
	"<metadata><x>password=<![CDATA[5ECRET]]></x></metadata>",
	"<metadata><x>password=<!-- c -->5ECRET</x></metadata>",
	"<metadata><x>password=<b>5ECRET</b></x></metadata>",
	"<metadata><x>password<b>5ECRET</b></x></metadata>",
	"<metadata><x>password=\"a\" 5ECRET</x></metadata>",
	"<metadata><x>password=a<!-- c -->5ECRET</x></metadata>",
	"<metadata><x>password=a<![CDATA[5ECRET]]></x></metadata>",
	"<metadata><x>password=a<b/>5ECRET</x></metadata>",
	"<metadata><x><![CDATA[password=a]]><![CDATA[5ECRET]]></x></metadata>",
	"<metadata><x>#cloud-config\npassword: x<![CDATA[5ECRET]]></x></metadata>",
	"<metadata><x>#cloud-config<!-- -->\nx: 5ECRET</x></metadata>",
	"<metadata><x><!-- -->#cloud-config\nx: 5ECRET</x></metadata>",
	"<metadata><x>&#10;#cloud-config\nx: 5ECRET</x></metadata>",
	"<metadata><x>&#35;cloud-config\nx: 5ECRET</x></metadata>",
	"<metadata><x>## template: jinja\n#cloud-config\nx: 5ECRET</x></metadata>",
	"<disk><auth username='u'><secret type='ceph' key='5ECRET'/></auth></disk>",
	"<disk><source protocol='rbd' name='pool/image:id=admin:key=5ECRET:auth_supported=cephx'/></disk>",
	"<disk><source protocol='http' name='x' query='a=5ECRET'/></disk>",
	"<disk><source file='json:{\"driver\":\"https\",\"password\":\"5ECRET\"}'/></disk>",
	"<disk><source file='json:{&quot;key-secret&quot;:&quot;5ECRET&quot;}'/></disk>",
	"<disk><source file='nbd:unix:/x:password=5ECRET'/></disk>",
	"<disk><source file='https://u:5ECRET@h/x'/></disk>",
	"<disk><source file='https://h/x?sig=5ECRET'/></disk>",
	"<disk><source file='https://h/x#access=5ECRET'/></disk>",
	"<disk><source protocol='iscsi' name='iqn:u%5ECRET@h'/></disk>",
	"<os><cmdline>x=5ECRET</cmdline></os>",
	"<os><kernel>http://u:5ECRET@h/k</kernel></os>",
	"<os><initrd>https://h/x?tok=5ECRET</initrd></os>",
	"<sysinfo type='smbios'><oemStrings><entry>x=5ECRET</entry></oemStrings></sysinfo>",
	"<sysinfo type='smbios'><system><entry name='serial'>ds=nocloud;s=http://u:5ECRET@h/</entry></system></sysinfo>",
	"<sysinfo type='smbios'><system><entry name='serial'>ds=nocloud-net;password=5ECRET</entry></system></sysinfo>",
	"<sysinfo type='smbios'><chassis><entry name='asset'>token:5ECRET</entry></chassis></sysinfo>",
	"<launchSecurity type='sev-snp'><idBlock>5ECRET</idBlock><idAuth>5ECRET</idAuth><hostData>5ECRET</hostData></launchSecurity>",
	"<graphics type='rdp' username='u' passwd='5ECRET'/>",
	"<tpm><backend type='emulator'><encryption secret='5ECRET'/></backend></tpm>",
	"<filesystem><source name='//h/s' username='u' password='5ECRET'/></filesystem>",
	"<filesystem><driver options='username=u,password=5ECRET'/></filesystem>",
	"<qemu:override><qemu:device alias='x'><qemu:frontend><qemu:property name='password' type='string' value='5ECRET'/></qemu:frontend></qemu:device></qemu:override>",
	"<qemu:override><qemu:device alias='x'><qemu:frontend><qemu:property value='5ECRET' name='password' type='string'/></qemu:frontend></qemu:device></qemu:override>",
	"<xs:commandline><xs:arg value='5ECRET'/></xs:commandline>",
	"<hookData><network><name>n</name><dnsmasq:options><dnsmasq:option value='dhcp-option=x,5ECRET'/></dnsmasq:options></network></hookData>",
	"<hookData><network><dns><txt name='x' value='password=5ECRET'/></dns></network></hookData>",
	"<hookData><network><name>n</name><ip><dhcp><bootp file='http://u:5ECRET@h/x'/></dhcp></ip></network></hookData>",
	"<!DOCTYPE d [<!-- it's -->]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [<!-- it's \"a\" -->]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [<!ENTITY e \"it's\">]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [<!ENTITY % p '5ECRET'>]><domain/>",
	"<!DOCTYPE d [<!ENTITY e \"x' passwd='5ECRET\">]><domain/>",
	"<!DOCTYPE d [<!ATTLIST graphics passwd CDATA '5ECRET'>]><domain/>",
	"<!DOCTYPE d [<!-- > ]> -->]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [<!--- -- ' -->]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [<?pi it's ?>]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [<!ELEMENT a (b)> <!-- ' --> <!-- \" -->]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [%pe;<!-- ' -->]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d SYSTEM \"it's\" [<!-- ' -->]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d PUBLIC '-//\"' \"it's\"><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [<!ENTITY e SYSTEM 'http://u:5ECRET@h/'>]><domain/>",
	"<!DOCTYPE d [<!NOTATION n SYSTEM \"x'y\">]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [ <![INCLUDE[ <!-- ' --> ]]> ]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [<!-- password=5ECRET -->]><domain/>",
	"<!DOCTYPE d [<!-- a -- password=5ECRET -->]><domain/>",
	"<!DOCTYPE d [ ' ]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d ' ><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [ \" ]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [<!ENTITY e ']>'><!-- \" -->]><graphics passwd=\"5ECRET\"/>",
	"<!DOCTYPE d [ <!ENTITY e 'x'> ]]><graphics passwd='5ECRET'/>",
	"<!DOCTYPE d [ [ ]><graphics passwd='5ECRET'/>",
	"<!-- it's --><graphics passwd='5ECRET'/>",
	"<!-- password: 5ECRET -->",
	"<!-- <graphics passwd='5ECRET'/> -->",
	"<!-- --- --><graphics passwd='5ECRET'/>",
	"<!--> --><graphics passwd='5ECRET'/>",
	"<!---> --><graphics passwd='5ECRET'/>",
	"<!-- --!><graphics passwd='5ECRET'/>",
	"<?x ' ?><graphics passwd='5ECRET'/>",
	"<?x passwd='5ECRET' ?>",
	"<?password 5ECRET?>",
	"<?x > ' ?><graphics passwd='5ECRET'/>",
	"<![CDATA[ ' ]]><graphics passwd='5ECRET'/>",
	"<![CDATA[ ]] > ]]]]><graphics passwd='5ECRET'/>",
	"<![cdata[ ' ]]><graphics passwd='5ECRET'/>",
	"<graphics type='vnc' passwd=' x > 5ECRET'/>",
	"<graphics type='vnc' passwd='&lt;5ECRET'/>",
	"<graphics type='vnc' passwd='&apos;5ECRET'/>",
	"<graphics type='vnc' pass&#119;d='5ECRET'/>",
	"<g:passwd>5ECRET</g:passwd>",
	"<graphics type='vnc'\npasswd\n=\n'5ECRET'/>",
	"<passwd>x<passwd/>5ECRET</passwd>",
	"<passwd>x<!-- </passwd> -->5ECRET</passwd>",
	"<passwd>x<?a </passwd> ?>5ECRET</passwd>",
	"<passwd>x<a b='</passwd>'/>5ECRET</passwd>",
	"<passwd>x<a b=\"</passwd>\"/>5ECRET</passwd>",
	"<passwd><![CDATA[</passwd>]]>5ECRET</passwd>",
	"<passwd><!DOCTYPE </passwd>>5ECRET</passwd>",
	"<password value='5ECRET'/>",
	"<cookie value='5ECRET'/>",
	"<cookie name='x' value='5ECRET'/>",
	"<secret value='5ECRET'/>",
	"<description>root password is 5ECRET</description>",
	"<description>root pw 5ECRET</description>",
	"<description>pass 5ECRET</description>",
	"<title>password 5ECRET</title>",
	"<title>pwd=5ECRET</title>",
	"<name>x</name><title>key=5ECRET</title>",
	"<description>pass<b>word</b> 5ECRET</description>",
	"<!DOCTYPE d [<!ENTITY e \"pass\">]><metadata><x>&e;word=5ECRET</x></metadata>",
	"<!DOCTYPE d [<!ENTITY e \"pass\">]><graphics &e;wd='5ECRET'/>",
	"<!DOCTYPE d [<!ENTITY e \">]><graphics passwd='5ECRET'/>\">]><domain/>",
	"<!DOCTYPE d [<!ENTITY e 'x ]><graphics passwd=' 5ECRET'/>",
	"<!DOCTYPE d [ ' ]><graphics passwd=' 5ECRET ' port=' 1 '/>",
	"<!DOCTYPE d ' ><graphics passwd=' 5ECRET ' port=' 1 '/>",
	"<!DOCTYPE d \" ><graphics passwd=\" 5ECRET \" port=\" 1 \"/>",
	"<!DOCTYPE d [<!ENTITY e 'x' ' >]><graphics passwd=' 5ECRET ' port=' 1 '/>",
	"<!DOCTYPE d SYSTEM 'x' ' [ ]><graphics passwd=' 5ECRET ' port=' 1 '/>",
	"<!DOCTYPE d [<!ELEMENT a ' ]><g passwd=' 5ECRET '/>",
	"<!DOCTYPE d [<!-- '--><!-- -- ' -->]><g passwd='5ECRET'/>",
	"<!doctype d [<!-- it's -->]><g passwd='5ECRET'/>",
	"<!DOCTYPE d [<!-- it's ]><g passwd='5ECRET'/>",
	"<!DOCTYPE d [<?x it's ]><g passwd='5ECRET'/>",
	"<!DOCTYPE d [<![CDATA[ it's ]]>]><g passwd='5ECRET'/>",
	"<!DOCTYPE d [<![IGNORE[ ' ]]>]><g passwd='5ECRET'/>",
	"<!DOCTYPE d [<![IGNORE[ <!-- ' ]]>]><g passwd='5ECRET'/><!-- ' -->",
	"<!DOCTYPE d []><!DOCTYPE e [ ' ]><g passwd='5ECRET'/>",
	"<!-- <!DOCTYPE d [ ' --><g passwd='5ECRET'/>",
	"<!DOCTYPE d [ ' ]><g passwd='5ECRET'/>",
	"<!ENTITY x '><g passwd='5ECRET'/>",
	"<!x '><g passwd='5ECRET'/>",
	"<! --><g passwd='5ECRET'/>",
	"<!- ' -><g passwd='5ECRET'/>",
	"<!><g passwd='5ECRET'/>",
	"<![ ' ><g passwd='5ECRET'/>",
	"<a b='<!--'/><g passwd='5ECRET'/>",
	"<a b='<![CDATA['/><g passwd='5ECRET'/>",
	"<a b=\"<?\"/><g passwd='5ECRET'/>",
	"<a b='<!DOCTYPE ['/><g passwd='5ECRET'/>",
	"<a b='&#60;!--'/><g passwd='5ECRET'/>",
	"<a b='>' c='\"'/><g passwd='5ECRET'/>",
	"<a b = '\"' /><g passwd=\"5ECRET\"/>",
	"<a>\"</a><g passwd=\"5ECRET\"/>",
	"<a>]]></a><g passwd=\"5ECRET\"/>",
	"<a>--></a><g passwd=\"5ECRET\"/>",
	"<a>&lt;!--</a><g passwd=\"5ECRET\"/>",
	"<?xml-stylesheet href='<!--'?><g passwd=\"5ECRET\"/>",
	"<g passwd=\"5ECRET",
	"<g passwd=5ECRET",
	"<g passwd= 5ECRET />",
	"<g passwd='' passwd='5ECRET'/>",
	"<g passwd='a'5ECRET/>",
	"<passwd>5ECRET</passwd >",
	"<passwd\n>5ECRET</passwd\n>",
	"<passwd>a</PASSWD>5ECRET</passwd>",
	"<a:passwd xmlns:a='x'>5ECRET</a:passwd>",
	"<a:passwd>x</b:passwd>5ECRET</a:passwd>",
	"<passwd>5ECRET",
	"<passwd><![CDATA[5ECRET]]></passwd>",
	"<passwd><x/>5ECRET</passwd>",
	"<passwd><!--5ECRET--></passwd>",
	"<passwd><?x 5ECRET?></passwd>",
	"<passwd xml:space='preserve'> 5ECRET </passwd>",
	"<metadata><a><b>password</b><c><d><e>5ECRET</e></d></c></a></metadata>",
	"<metadata><a><c><d><e>5ECRET</e></d></c><b>password</b></a></metadata>",
	"<metadata><i k='password'><v>5ECRET</v></i></metadata>",
	"<metadata><i k='password' v='5ECRET'/></metadata>",
	"<metadata><k n='password'/><v>5ECRET</v></metadata>",
	"<metadata><i><v>5ECRET</v><k n='password'/></i></metadata>",
	"<metadata><i><k>password:</k><v>5ECRET</v></i></metadata>",
	"<metadata><i><k>\"password\"</k><v>5ECRET</v></i></metadata>",
	"<metadata><i><k><![CDATA[password]]></k><v>5ECRET</v></i></metadata>",
	"<metadata><i><v><![CDATA[5ECRET]]></v><k><![CDATA[password]]></k></i></metadata>",
	"<metadata><i><k> password </k><v>5ECRET</v></i></metadata>",
	"<metadata><i><k>pass<!-- -->word</k><v>5ECRET</v></i></metadata>",
	"<metadata><i><k>to<!-- -->ken</k><v>5ECRET</v></i></metadata>",
	"<metadata><i><k>to<?x?>ken</k><v>5ECRET</v></i></metadata>",
	"<metadata><i><k>to<![CDATA[ken]]></k><v>5ECRET</v></i></metadata>",
	"<metadata><i>to<b>ken</b>=5ECRET</i></metadata>",
	"<metadata><i><![CDATA[to]]>ken=5ECRET</i></metadata>",
	"<metadata><i><![CDATA[to]]><![CDATA[ken]]>=5ECRET</i></metadata>",
	"<metadata><i>api<!-- -->Key=5ECRET</i></metadata>",
	"<metadata><i>#cloud<!-- -->-config\nx: 5ECRET</i></metadata>",
	"<metadata><i>x: y<!-- password -->5ECRET</i></metadata>",
	"<metadata><!-- password --><i>5ECRET</i></metadata>",
	"<metadata><i><!-- password: --><v>5ECRET</v></i></metadata>",
	"<metadata><i>password =<br/> 5ECRET</i></metadata>",
	"<metadata><i>password &#13;\n= 5ECRET</i></metadata>",
	"<metadata><i a='password&#10;5ECRET'/></metadata>",
	"<description>first line\nadmin password\n5ECRET</description>",
	"<description>API key: 5ECRET</description>",
	"<description>ssh key = 5ECRET</description>",
	"<description>key : 5ECRET</description>",
	"<description>pin: 5ECRET</description>",
	"<description>otp=5ECRET</description>",
	"<description>vnc pw 5ECRET</description>",
	"<description>rootpw: 5ECRET</description>",
	"<description>Passwort: 5ECRET</description>",
	"<description>PASSWORD 5ECRET</description>",
	"<description>PassWord:5ECRET</description>",
	"<description>user/pass: root/5ECRET</description>",
	"<description>credentials root 5ECRET</description>",
	"<description>eyJhbGciOi5ECRET</description>",
	"<description>hash $6$abc$5ECRET</description>",
	"<description>http://h/p#t=5ECRET</description>",
	"<title>http://a:5ECRET@h</title>",
	"<metadata><x href='http://h/?X-Amz-Signature=5ECRET'/></metadata>",
	"<metadata><x href='//u:5ECRET@h/'/></metadata>",
	"<metadata><x>smb://d;u:5ECRET@h/</x></metadata>",
	"<metadata><x>postgres://u:5EC:5ECRET@h/</x></metadata>",
	"<metadata><x>http://u:p?5ECRET@h</x></metadata>",
	"<metadata><x>http://u:p#5ECRET@h</x></metadata>",
	"<metadata><nova:userdata>5ECRET</nova:userdata></metadata>",
	"<metadata><ns0:user-data xmlns:ns0='x'>5ECRET</ns0:user-data></metadata>",
	"<metadata><x user_data='5ECRET'/></metadata>",
	"<metadata><x>user-data: 5ECRET</x></metadata>",
	"<metadata><network-config>password: 5ECRET</network-config></metadata>",
	"<metadata><a><![CDATA[users:\n - name: x\n   plain_text_passwd: 5ECRET\n]]></a></metadata>",
	"<metadata><a><![CDATA[chpasswd:\n  list: |\n    root:5ECRET\n]]></a></metadata>",
	"<metadata><a><![CDATA[write_files:\n - content: 5ECRET\n]]></a></metadata>",
	"<metadata><a><![CDATA[\n\n#cloud-config\nwrite_files:\n - content: 5ECRET\n]]></a></metadata>",
	"<metadata><a>\n  #cloud-config\n<b>5ECRET</b></a></metadata>",
	"<metadata><a><![CDATA[#!/bin/sh\necho 5ECRET]]></a></metadata>",
	"<metadata><a>#!/bin/sh\necho x<b/>5ECRET</a></metadata>",
	"<metadata><a enc='base64'>I2Nsb3VkLWNvbmZpZ5ECRET</a></metadata>",
	"<metadata><a><![CDATA[I2Nsb3VkLWNvbmZpZ5ECRET]]></a></metadata>",
	"<metadata><a v='I2Nsb3VkLWNvbmZpZ5ECRET'/></metadata>",
	"<metadata><a>data:;base64,I2Nsb3VkLWNvbmZpZ5ECRET</a></metadata>",
	"<metadata><a key='5ECRET=='/></metadata>",
	"<metadata><a><key>5ECRET==</key></a></metadata>",
	"<metadata><a><key><![CDATA[5ECRET==]]></key></a></metadata>",
	"<metadata><a><key>abc<!-- -->5ECRET</key></a></metadata>",
	"<metadata><a><key>abc<!-- --> 5ECRET</key></a></metadata>",
	"<metadata><a xmlns:x='password=5ECRET'/></metadata>",
	"<disk><source name='x' password='5ECRET'/></disk>",
	"<disk><source><header name='Authorization'>5ECRET</header></source></disk>",
	"<disk><source><header name='X-Auth-Token' value='5ECRET'/></source></disk>",
	"<graphics type='spice' passwd=\"5ECRET\" connected='keep'/>",
	"<interface><source password='5ECRET'/></interface>",
	"<channel><target name='x'/><source path='unix:x,password=5ECRET'/></channel>",
	"<qemu:commandline><qemu:arg value='-object'/><qemu:arg value='secret,id=s,data=5ECRET'/></qemu:commandline>",
	"<ns0:commandline><ns0:env name='A' value='5ECRET'/><ns0:arg value='5ECRET'/></ns0:commandline>",
	"<os><initenv name='X'><![CDATA[5ECRET]]></initenv></os>",
	"<os><initarg>5EC<!-- -->5ECRET</initarg></os>",
	"<os><INITARG>5ECRET</INITARG></os>",
	"<os><cmdline><![CDATA[5ECRET]]></cmdline></os>",
	"<sysinfo type='fwcfg'><entry name='opt/com.coreos/config'>5ECRET</entry></sysinfo>",
	"<sysinfo type='smbios'><baseBoard><entry name='serial'>io.systemd.credential:x=5ECRET</entry></baseBoard></sysinfo>",
	"<launchSecurity type='sev'><dhCert>5ECRET</dhCert><session>5ECRET</session></launchSecurity>",
	"<launchSecurity type='sev'><DHCERT>5ECRET</DHCERT></launchSecurity>",
	"<metadata><a:conf xmlns:a='u'><a:param name='adminPass'><a:value>5ECRET</a:value></a:param></a:conf></metadata>",
	"<metadata><a><param><name>adminPass</name><value>5ECRET</value></param></a></metadata>",
	"<metadata><a><param name='x'/><adminPass value='5ECRET'/></a></metadata>",
	"<metadata><a adminPass=\"5ECRET\" other=\"x\"/></metadata>",
	"<metadata><a><![CDATA[{\"adminPass\":\"5ECRET\"}]]></a></metadata>",
	"<metadata><a><![CDATA[rootPassword=5ECRET]]></a></metadata>",
	"<metadata><a>rootPassword=5ECRET</a></metadata>",
	"<metadata><a>\n  rootPassword = 5ECRET\n</a></metadata>",
	"<metadata><a>user=x;password=5ECRET;host=y</a></metadata>",
	"<metadata><a>export DB_PASSWORD=\"5ECRET\"</a></metadata>",
	"<metadata><a>DB_PASS='5ECRET'</a></metadata>",
	"<metadata><a>MYSQL_PWD=5ECRET</a></metadata>",
	"<metadata><a>PGPASSWORD=5ECRET psql</a></metadata>",
	"<metadata><a>sshpass -p 5ECRET ssh</a></metadata>",
	"<metadata><a>root:5ECRET | chpasswd</a></metadata>",
	"<metadata><a><v>5ECRET</v><!-- password --></a></metadata>",
	"<metadata><a><token type='bearer'>5ECRET</token></a></metadata>",
	"<metadata><a><api-key>5ECRET</api-key></a></metadata>",
	"<metadata><a><x.api.key>5ECRET</x.api.key></a></metadata>",
	"<metadata><a><APIKEY>5ECRET</APIKEY></a></metadata>",
	"<metadata><a><aws_secret_access_key>5ECRET</aws_secret_access_key></a></metadata>",
	"<metadata><a><private_key>5ECRET</private_key></a></metadata>",
	"<metadata><a><x509_key>5ECRET</x509_key></a></metadata>",
	"<metadata><a><passwordHash>5ECRET</passwordHash></a></metadata>",
	"<metadata><a><p:pwd xmlns:p='x'>5ECRET</p:pwd></a></metadata>",
	"<metadata><a><vncpasswd>5ECRET</vncpasswd></a></metadata>",
	"<metadata><a><clientSecret>5ECRET</clientSecret></a></metadata>",
	"<metadata><a><refreshToken>5ECRET</refreshToken></a></metadata>",
	"<metadata><a><auth user='u' hash='5ECRET'/></a></metadata>",
	"<metadata><a><login user='u' password='5ECRET'/></a></metadata>",
	"<metadata><a><name>password</name>5ECRET</a></metadata>",
	"<metadata><a>5ECRET<name>password</name></a></metadata>",
	"<metadata><dict><key>pw</key><string>5ECRET</string></dict></metadata>",
	"<metadata><array><string>--password</string><string>5ECRET</string></array></metadata>",
	"<metadata><row><cell>Password</cell><cell>5ECRET</cell></row></metadata>",
	"<metadata><a p='password'>5ECRET</a></metadata>",
	"<metadata><a p='Password:' v='5ECRET'/></metadata>",
	"<metadata><a p='the password' v='5ECRET'/></metadata>",
	"<metadata><e><k v='pass'/><k v='5ECRET'/></e></metadata>",
	"<metadata><e><k v='5ECRET'/><k v='pass'/></e></metadata>",
	"<network><metadata><a><password>5ECRET</password></a></metadata></network>",
	"<domainsnapshot><graphics passwd='5ECRET'/></domainsnapshot>",
	"<metadata/><description>password 5ECRET</description>",
	"<description>Admin: admin / Password: 5ECRET / expires</description>",
	"<description>WiFi-Passphrase 5ECRET</description>",
	"<description>Secret = \"5ECRET\"</description>",
	"<description>https://user:5ECRET@git.example.org/x.git</description>",
	"<description>user:5ECRET@db</description>",
	"<description>key=5ECRET</description>",
	"<description>SSH-Key: 5ECRET</description>",
	"<description>license key: 5ECRET</description>",
};

static void test_hidden(void **state)
{
	char buf[512];
	unsigned count;

	(void)state;
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
		(void)snprintf(buf, sizeof(buf), "%s", hidden[i]);
		buf[redact(buf, strlen(buf), &count)] = '\0';
		if (strstr(buf, "5EC") || count == 0)
			fail_msg("%s\n became %s", hidden[i], buf);
	}
}

/* What operators want to read stays, byte by byte. */
static void test_harmless(void **state)
{
	static const char *const harmless[] = {
		"<domain type='kvm' id='3'><name>web</name><uuid>u</uuid><metadata><nova:instance xmlns:nova=\"http://openstack.org/xmlns/libvirt/nova/1.1\"><nova:package version=\"26.2.1\"/><nova:name>web-1</nova:name><nova:creationTime>2023-10-01 10:00:00</nova:creationTime><nova:flavor name=\"m1.small\"><nova:memory>2048</nova:memory><nova:disk>20</nova:disk></nova:flavor><nova:owner><nova:user uuid=\"5f\">admin</nova:user><nova:project uuid=\"a\">demo</nova:project></nova:owner><nova:root type=\"image\" uuid=\"c\"/><nova:ports><nova:port uuid=\"d\"><nova:ip type=\"fixed\" address=\"10.0.0.3\" ipVersion=\"4\"/></nova:port></nova:ports></nova:instance></metadata><memory unit='KiB'>1</memory></domain>",
		"<domain><title>Web server (production), rack 3</title><description>Runs nginx and PHP; contact alice@example.org</description><cpu mode='host-passthrough'/></domain>",
		"<domain><devices><disk type='file'><source file='/var/lib/libvirt/images/token-server.qcow2'/><auth username='u'><secret type='ceph' uuid='x'/></auth></disk><input type='keyboard'/><graphics type='vnc' keymap='de'/></devices></domain>",
		"<metadata><i><m key='os' value='debian'/><tag><key>env</key><value>prod</value></tag></i></metadata>",
		"<metadata><a:x xmlns:a='http://example.org/passwords/1'><a:owner>alice</a:owner></a:x></metadata>",
		"<devices><input type='keyboard'/><graphics type='vnc' keymap='de' sharePolicy='ignore'/></devices>",
		"<interface type='user'><backend type='passt' logFile='/var/log/passt.log'/></interface>",
		"<vcpupin vcpu='0' cpuset='1'/><feature policy='require' name='pdpe1gb'/><address type='pci' bus='0x00'/>",
		"<seclabel type='dynamic' model='dac'><label>+64055:+64055</label></seclabel>",
	};
	char buf[1024];
	unsigned count;

	(void)state;
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
		(void)snprintf(buf, sizeof(buf), "%s", harmless[i]);
		buf[redact(buf, strlen(buf), &count)] = '\0';
		if (strcmp(buf, harmless[i]) != 0 || count != 0)
			fail_msg("%s\n became %s", harmless[i], buf);
	}
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
	static const char *const patterns[] = {"<!--",
					       "<cookie>",
					       "<a b='",
					       "<![CDATA[",
					       "<",
					       "<password><password/>",
					       "<!",
					       "a:",
					       "://",
					       "<password passwd='",
					       "&#0",
					       "token\"",
					       "<a b:c=d",
					       "<metadata>",
					       "a:b@",
					       "<metadata><a>key ",
					       "<metadata>a<!---->",
					       "<metadata><a b='token'/>",
					       "<!DOCTYPE d [<!A '"};
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

/* After the deadline nothing more is let through. */
static void test_deadline(void **state)
{
	const size_t size = 1024 * 1024;
	char *data = malloc(size);
	unsigned count;
	size_t n;

	(void)state;
	for (int in_text = 0; in_text < 2; in_text++) {
		memset(data, in_text ? ' ' : '<', size);
		memcpy(data, "<metadata>", 10);
		for (size_t i = 20; in_text && i < size; i += 2)
			data[i] = 'x';
		n = redact_until(data, size, 1, &count);
		assert_in_range(n, 1, 64 * 1024);
		assert_int_equal(count, 1);
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
		cmocka_unit_test(test_hidden),	   cmocka_unit_test(test_harmless),
		cmocka_unit_test(test_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
