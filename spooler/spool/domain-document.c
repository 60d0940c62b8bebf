/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domain-document - see domain-document.h. */
#include "spooler/spool/domain-document.h"

#include "hook/text.h"
#include "spooler/base/util.h"

static void add_xml(struct text *t, struct bytes s)
{
	for (size_t i = 0; i < s.size; i++)
		if (s.data[i] == '<')
			text_add(t, "&lt;");
		else if (s.data[i] == '>')
			text_add(t, "&gt;");
		else if (s.data[i] == '&')
			text_add(t, "&amp;");
		else
			text_add_bytes(t, &s.data[i], 1);
}

char *domain_document_new(struct bytes driver, struct bytes name, const char *uuid, int id)
{
	size_t size = 5 * name.size + driver.size + 256;
	struct text t = {.data = malloc(size), .size = size};

	if (!t.data)
		return NULL;
	text_add(&t, "<domain type='");
	text_add_bytes(&t, driver.data, driver.size);
	if (id >= 0) {
		text_add(&t, "' id='");
		text_add_number(&t, (uint64_t)id, 1);
	}
	text_add(&t, "'>\n  <name>");
	add_xml(&t, name);
	text_add(&t, "</name>\n  <uuid>");
	text_add(&t, uuid);
	text_add(&t, "</uuid>\n</domain>\n");
	text_add_bytes(&t, "", 1);
	return t.data;
}
