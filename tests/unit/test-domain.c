/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is read from libvirt's documents, and that no document, however hostile, does more than
   be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "spooler/event/domain.h"
#include "spooler/spool/document-uuid.h"

#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"
#define UUID2 "11111111-2222-3333-4444-555555555555"

static char *namespaces_list[] = {"http://example.org/a", "urn:b"};
static const struct strings namespaces = {namespaces_list, 2};

/* What a domain tells, in one line. */
static char *describe(const struct domain *d)
{
	char *s;
	size_t size;
	FILE *f = open_memstream(&s, &size);

	if (d->type)
		fprintf(f, "type=%s ", d->type);
	if (d->name)
		fprintf(f, "name=%s ", d->name);
	if (*d->uuid)
		fprintf(f, "uuid=%s ", d->uuid);
	if (d->title)
		fprintf(f, "title=%s ", d->title);
	if (d->id >= 0)
		fprintf(f, "id=%lld ", (long long)d->id);
	if (d->vcpus >= 0 || d->vcpus_max >= 0)
		fprintf(f, "vcpus=%lld/%lld ", (long long)d->vcpus, (long long)d->vcpus_max);
	if (d->memory_kib >= 0 || d->memory_max_kib >= 0)
		fprintf(f, "memory=%lld/%lld ", (long long)d->memory_kib,
			(long long)d->memory_max_kib);
	if (*d->port_uuid)
		fprintf(f, "port=%s ", d->port_uuid);
	if (d->port_mac)
		fprintf(f, "mac=%s ", d->port_mac);
	if (d->owner_name)
		fprintf(f, "owner=%s ", d->owner_name);
	if (*d->owner_uuid)
		fprintf(f, "owner_uuid=%s ", d->owner_uuid);
	for (size_t i = 0; i < d->n_metadata; i++)
		fprintf(f, "%s={%s} ", d->metadata[i].uri, d->metadata[i].xml);
	if (d->metadata_truncated)
		fprintf(f, "metadata_truncated ");
	fclose(f);
	if (size)
		s[size - 1] = 0;
	return s;
}

static void reads(void **state)
{
	static const struct {
		const char *document, *expected;
		const char *why; /* part of the reason; NULL: no error */
	} table[] = {
		{"<domain type='kvm' id='7'><name>web</name><uuid>" UUID
		 "</uuid><title>A &amp; B</title>"
		 "<memory unit='KiB'>2048</memory><currentMemory unit='KiB'>1024</currentMemory>"
		 "<vcpu placement='static' current='2'>4</vcpu><os/></domain>",
		 "type=kvm name=web uuid=" UUID " title=A & B id=7 vcpus=2/4 memory=1024/2048",
		 NULL},
		/* behind <vcpu> nothing is read */
		{"<domain><name>n</name><uuid>" UUID "</uuid><memory>1</memory><vcpu>1</vcpu><junk",
		 "name=n uuid=" UUID " vcpus=1/1 memory=-1/1", NULL},
		/* unless something is missing */
		{"<domain><vcpu>1</vcpu><name>n</name><memory>1</memory><uuid>" UUID
		 "</uuid></domain>",
		 "name=n uuid=" UUID " vcpus=1/1 memory=-1/1", NULL},
		{"<?xml version='1.0' encoding='UTF-8'?>\n<!-- c --><domain><name>n</name></domain>\n",
		 "name=n", NULL},
		{"<domain/>", "", NULL},
		/* names */
		{"<domain><name>gr\303\274n &lt;&#x26;&gt; /+#$</name></domain>",
		 "name=gr\303\274n <&> /+#$", NULL},
		{"<domain><name><![CDATA[a<b]]></name></domain>", "name=a<b", NULL},
		{"<domain><name>a<b>c</b>d</name></domain>", "name=ad", NULL},
		{"<domain><name/><title></title></domain>", "name= title=", NULL},
		{"<domain><x:name xmlns:x='urn:x'>other</x:name></domain>", "", NULL},
		{"<domain xmlns='urn:x'><name>other</name></domain>", "", "neither"},
		/* only at their place */
		{"<domain><devices><name>x</name><uuid>" UUID
		 "</uuid><vcpu>9</vcpu></devices></domain>",
		 "", NULL},
		/* numbers and units */
		{"<domain><memory unit='b'>4096</memory></domain>", "memory=-1/4", NULL},
		{"<domain><memory unit='KB'>1024</memory></domain>", "memory=-1/1000", NULL},
		{"<domain><memory unit='M'>3</memory></domain>", "memory=-1/3072", NULL},
		{"<domain><memory unit='GiB'> 1 </memory></domain>", "memory=-1/1048576", NULL},
		{"<domain><memory unit='TB'>1</memory></domain>", "memory=-1/976562500", NULL},
		{"<domain><memory unit='parsec'>1</memory></domain>", "memory=-1/1", NULL},
		{"<domain><memory unit='TiB'>99999999999999</memory></domain>", "", NULL},
		{"<domain><memory>99999999999999999999</memory></domain>", "", NULL},
		{"<domain><memory>-1</memory><vcpu>two</vcpu></domain>", "", NULL},
		{"<domain id='-1'><vcpu current='x'>3</vcpu></domain>", "vcpus=3/3", NULL},
		/* uuids */
		{"<domain><uuid>C7A5FDBD-EDAF-9455-926A-D65C16DB1809</uuid></domain>", "uuid=" UUID,
		 NULL},
		{"<domain><uuid>../../../etc/passwd</uuid></domain>", "", NULL},
		{"<domain><uuid>c7a5fdbdedaf9455926ad65c16db1809</uuid></domain>", "", NULL},
		{"<domain><uuid>c7a5fdbd-edaf-9455-926a-d65c16db180g</uuid></domain>", "", NULL},
		{"<domain><!-- <uuid>" UUID2 "</uuid> --><name><![CDATA[<uuid>" UUID2
		 "</uuid>]]></name><title a='>' b=\"&lt;uuid>\"/><x/><uuid>" UUID
		 "</uuid></domain>",
		 "name=<uuid>" UUID2 "</uuid> uuid=" UUID " title=", NULL},
		{"<domain><uuid/><metadata><domain><uuid>" UUID2
		 "</uuid></domain></metadata></domain>",
		 "", NULL},
		/* networks */
		{"<network><name>default</name><uuid>" UUID
		 "</uuid><domain name='example.org'/></network>",
		 "name=default uuid=" UUID, NULL},
		{"<hookData>\n  <network connections='1'><name>default</name><uuid>" UUID
		 "</uuid></network>\n"
		 "<networkport><uuid>" UUID2 "</uuid><owner><name>web</name><uuid>" UUID
		 "</uuid></owner>"
		 "<mac address='52:54:00:00:00:01'/></networkport></hookData>",
		 "name=default uuid=" UUID " port=" UUID2
		 " mac=52:54:00:00:00:01 owner=web owner_uuid=" UUID,
		 NULL},
		{"<hookData><interface type='network'><mac address='x'/></interface><network><name>n</name></network>"
		 "<domain type='kvm' id='2'><name>web</name><uuid>" UUID
		 "</uuid></domain></hookData>",
		 "name=n owner=web owner_uuid=" UUID, NULL},
		/* metadata */
		{"<domain><metadata><a:x xmlns:a='http://example.org/a' n='1'><a:y>t</a:y></a:x>"
		 "<c:z xmlns:c='urn:c'/></metadata></domain>",
		 "http://example.org/a={<a:x xmlns:a=\"http://example.org/a\" n=\"1\"><a:y>t</a:y></a:x>}",
		 NULL},
		{"<domain><metadata><x xmlns='urn:b'/><y xmlns='http://example.org/a'>1</y></metadata></domain>",
		 "urn:b={<x xmlns=\"urn:b\"></x>} http://example.org/a={<y xmlns=\"http://example.org/a\">1</y>}",
		 NULL},
		{"<domain xmlns:b='urn:b' xmlns:c='urn:c'><metadata><b:x b:y='1' "
		 "c:z='2'><c:w/><b:v/></b:x></metadata></domain>",
		 "urn:b={<b:x xmlns:b=\"urn:b\" b:y=\"1\" xmlns:c=\"urn:c\" c:z=\"2\"><c:w "
		 "xmlns:c=\"urn:c\"></c:w><b:v></b:v></b:x>}",
		 NULL},
		{"<domain><metadata><b:x xmlns:b='urn:b' "
		 "a='&lt;&amp;&quot;&#9;&#10;&gt;'>&lt;&amp;&gt;&#13;\"</b:x></metadata></domain>",
		 "urn:b={<b:x xmlns:b=\"urn:b\" a=\"&lt;&#38;&#34;&#9;&#10;&gt;\">&lt;&amp;&gt;&#13;\"</b:x>}",
		 NULL},
		{"<domain><devices><b:x xmlns:b='urn:b'/></devices></domain>", "", NULL},
		{"<domain><metadata><b:x xmlns:b='urn:b'><unclosed", "", "well-formed"},
		/* what is none */
		{"", "", "empty"},
		{"x", "", "well-formed"},
		{"<capabilities/>", "", "neither"},
		{"<domain><name>n</name>", "name=n", "well-formed"},
		{"<domain><name>n</title></domain>", "", "well-formed"},
		{"<domain><name>\377</name></domain>", "", "well-formed"},
		{"<domain><name>a&b;c</name></domain>", "", "well-formed"},
		{"<domain><name>a\001</name></domain>", "", "well-formed"},
		/* declared encodings are libvirt's: UTF-8 */
		{"<?xml version='1.0' encoding='ISO-8859-1'?><domain><name>\303\274</name></domain>",
		 "name=\303\274", NULL},
		/* entities */
		{"<!DOCTYPE domain><domain/>", "", "document type"},
		{"<!DOCTYPE d [<!ENTITY a 'x'>]><domain><name>&a;</name></domain>", "",
		 "document type"},
		{"<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain><name>&a;</name></domain>",
		 "", "document type"},
		{"<!DOCTYPE d SYSTEM 'http://127.0.0.1:1/d.dtd'><domain><name>n</name></domain>",
		 "", "document type"},
		{"<!DOCTYPE d [<!ENTITY % p SYSTEM 'file:///dev/zero'> %p;]><domain/>", "",
		 "document type"},
		{"<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>"
		 "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;'>]><domain><name>&c;</name></domain>",
		 "", "document type"},
		{"<domain xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='file:///etc/passwd'/></domain>",
		 "", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct bytes document = {table[i].document, strlen(table[i].document)};
		const char *why = NULL;
		struct domain d;
		int r = domain_parse(document, &namespaces, &d, &why);
		char *text = describe(&d), uuid[37];

		document_uuid(document, uuid);
		if (r == 0 && strcmp(uuid, d.uuid) != 0)
			fail_msg("'%s'\n  has the uuid '%s', not '%s'", table[i].document, d.uuid,
				 uuid);
		if ((r < 0) != (table[i].why != NULL) || strcmp(text, table[i].expected) != 0 ||
		    (r < 0 && !strstr(why, table[i].why)))
			fail_msg("'%s'\n  gives    '%s' (%d, %s)\n  instead of '%s'",
				 table[i].document, text, r, why ? why : "", table[i].expected);
		free(text);
		domain_release(&d);
	}
}

/* HEAD, then n times PART (with its number, if it has a %), then TAIL. */
static char *repeat(const char *head, const char *part, int n, const char *tail, size_t *ret_size)
{
	char *s;
	FILE *f = open_memstream(&s, ret_size);

	fputs(head, f);
	for (int i = 0; i < n; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
		fprintf(f, part, i);
#pragma GCC diagnostic pop
	}
	fputs(tail, f);
	fclose(f);
	return s;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Large and hostile: each ends quickly, and what stood before the hostile part is there. */
static void survives(void **state)
{
	static const struct {
		const char *name, *head, *part;
		int n;
		const char *tail, *why;
	} table[] = {
		{"nested elements", "<domain><name>n</name>", "<a>", 100000, "", "nested"},
		{"nested elements that end", "<domain><name>n</name><devices>", "<a></a>", 200000,
		 "</devices></domain>", NULL},
		{"nested names", "<domain><name>n</name>", "<name>", 100000, "", "nested"},
		{"attributes", "<domain><name>n</name><x", " a%d=''", 500000, "/></domain>",
		 "attributes"},
		{"attributes with >", "<domain><name>n</name><x", " a%d='>'", 500000, "/></domain>",
		 "attributes"},
		{"elements with many attributes", "<domain><name>n</name>",
		 "<x a='' b='' c='' d='' e='' f='' g='' h='' i='' j='' k='' l='' m='' n='' o='' p='' q='' r='' s='' "
		 "t=''/>",
		 60000, "</domain>", "larger"},
		{"namespaces", "<domain><name>n</name><x", " xmlns:a%d='u'", 1000, "/></domain>",
		 "namespaces"},
		{"many namespaces", "<domain><name>n</name><x", " xmlns:a%d='u'", 500000,
		 "/></domain>", "attributes"},
		{"a huge attribute", "<domain><name>n</name><x a='", "aaaaaaaaaa", 190000,
		 "'/></domain>", NULL},
		{"a huge attribute of =", "<domain><name>n</name><x a='", "==========", 190000,
		 "'/></domain>", "attributes"},
		{"a huge name", "<domain><name>", "aaaaaaaaaa", 190000, "</name></domain>", NULL},
		{"a huge comment", "<domain><name>n</name><!--", "aaaaaaaaaa", 190000,
		 "--></domain>", NULL},
		{"a huge tag", "<domain><name>n</name><", "aaaaaaaaaa", 190000, "/></domain>",
		 "well-formed"},
		{"many comments", "<domain><name>n</name>", "<!---->", 250000, "</domain>", NULL},
		{"many names", "<domain><name>n</name>", "<a%d/>", 200000, "</domain>", NULL},
		{"more than is read", "<domain><name>n</name><x>", "aaaaaaaaaa", 800000,
		 "</x></domain>", "larger"},
		{"metadata", "<domain><name>n</name><metadata><x xmlns='urn:b'>",
		 "<y a='&quot;&quot;&quot;&quot;'/>", 60000, "</x></metadata></domain>", NULL},
		{"many metadata", "<domain><name>n</name><metadata>",
		 "<x xmlns='urn:b'>aaaaaaaaaaaaaa</x>", 40000, "</metadata></domain>", NULL},
		{"entities", "<domain><name>n</name><title>", "&lt;", 400000, "</title></domain>",
		 NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t size;
		char *s = repeat(table[i].head, table[i].part, table[i].n, table[i].tail, &size);
		const char *why = NULL;
		double start = seconds(), took;
		struct domain d;
		size_t kept = 0;
		int r = domain_parse((struct bytes){s, size}, &namespaces, &d, &why);

		took = seconds() - start;
		if ((r < 0) != (table[i].why != NULL) || (r < 0 && !strstr(why, table[i].why)) ||
		    !d.name)
			fail_msg("%s: %d, %s, name %s", table[i].name, r, why ? why : "",
				 d.name ? d.name : "(none)");
		if (took > 5) /* with a sanitizer and a busy machine; some 10 ms without */
			fail_msg("%s: took %.1f s", table[i].name, took);
		assert_true(strlen(d.name) <= DOMAIN_TEXT_MAX);
		assert_true(!d.title || strlen(d.title) <= DOMAIN_TEXT_MAX);
		for (size_t j = 0; j < d.n_metadata; j++)
			kept += strlen(d.metadata[j].xml);
		assert_true(kept <= DOMAIN_METADATA_MAX);
		assert_int_equal(d.metadata_truncated, strstr(table[i].name, "metadata") != NULL);
		domain_release(&d);
		free(s);
	}
}

/* A text is cut at a character's end. */
static void cuts_texts(void **state)
{
	struct domain d;
	const char *why;

	(void)state;
	for (int shift = 0; shift < 3; shift++) {
		char head[32];
		size_t size;
		char *s;

		snprintf(head, sizeof(head), "<domain><title>%.*s", shift, "aa");
		s = repeat(head, "\342\202\254", 3000, "</title></domain>", &size);
		assert_int_equal(domain_parse((struct bytes){s, size}, NULL, &d, &why), 0);
		assert_int_equal((strlen(d.title) - (size_t)shift) % 3, 0);
		assert_in_range(strlen(d.title), DOMAIN_TEXT_MAX - 2, DOMAIN_TEXT_MAX);
		domain_release(&d);
		free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads),
		cmocka_unit_test(survives),
		cmocka_unit_test(cuts_texts),
	};

	return cmocka_run_group_tests_name("domain", tests, NULL, NULL);
}
