/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-domain - any bytes as a domain's document. What is read from it is UTF-8 and bounded, and
 * metadata is well-formed XML by itself.
 *
 *	clang -fsanitize=fuzzer,address,undefined: scripts/fuzz
 */
#include <libxml/parser.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/event/domain.h"
#include "spooler/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void check_text(const char *s)
{
	if (!s)
		return;
	check(strlen(s) <= DOMAIN_TEXT_MAX);
	check(utf8_valid(s, strlen(s)));
}

static void check_uuid(const char *s)
{
	check(*s == 0 || (strlen(s) == 36 && strspn(s, "0123456789abcdef-") == 36));
}

static void check_metadata(const struct domain_metadata *m)
{
	xmlDocPtr document =
		xmlReadMemory(m->xml, (int)strlen(m->xml), NULL, NULL,
			      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);

	check(utf8_valid(m->xml, strlen(m->xml)));
	check(document != NULL);
	check(strcmp((const char *)xmlDocGetRootElement(document)->ns->href, m->uri) == 0);
	xmlFreeDoc(document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *list[] = {"urn:x", "http://libosinfo.org/xmlns/libvirt/domain/1.0"};
	static const struct strings namespaces = {list, 2};
	struct domain d;
	const char *why = NULL;
	size_t metadata = 0;
	int r;

	r = domain_parse((struct bytes){(const char *)data, size}, &namespaces, &d, &why);
	check(r == 0 || why);
	check_text(d.type);
	check_text(d.name);
	check_text(d.title);
	check_text(d.owner_name);
	check_text(d.port_mac);
	check_uuid(d.uuid);
	check_uuid(d.port_uuid);
	check_uuid(d.owner_uuid);
	check(d.id >= -1 && d.vcpus >= -1 && d.vcpus_max >= -1 && d.memory_kib >= -1 &&
	      d.memory_max_kib >= -1);
	for (size_t i = 0; i < d.n_metadata; i++) {
		metadata += strlen(d.metadata[i].xml);
		check_metadata(&d.metadata[i]);
	}
	check(metadata <= DOMAIN_METADATA_MAX);
	domain_release(&d);
	return 0;
}
