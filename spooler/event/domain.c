/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain - see domain.h.
 *
 * libxml2's SAX2 interface with handlers of our own: no tree is built, and the parser is stopped
 * after the last element of interest. In what libvirt writes that is <vcpu>, so of a
 * domain's document the first kilobyte is parsed and the devices are not. (A parser for each
 * document costs 0.5 µs more than one that is kept, and keeps no names of one document for the
 * next.)
 *
 * A document may come from a user who may define domains. Its bounds:
 *  - a document type declaration ends the parsing before its first entity: no bombs, no external
 *    entities;
 *  - depth (DEPTH_MAX), size (DOCUMENT_MAX), namespaces in scope (NAMESPACES_MAX);
 *  - libxml2 compares each attribute of an element with each other one, so an element with a
 *    million of them would take minutes: a long stretch between two "<" that holds many "=" ends
 *    the document, see hostile_attributes();
 *  - texts and metadata are kept up to a size.
 */
#include <libxml/parser.h>
#include <libxml/xmlerror.h>

#include "spooler/base/hex.h"
#include "spooler/event/domain.h"
#include "spooler/base/util.h"

#define DEPTH_MAX 64
#define DOCUMENT_MAX (2 * 1024 * 1024)
#define NAMESPACES_MAX 256
#define TAG_LONG (16 * 1024)
#define ATTRIBUTES_MAX 1024

/* The element whose children are being looked at. */
enum scope {
	SCOPE_NONE,
	SCOPE_ROOT,	/* the document: <domain>, <network>, <hookData> */
	SCOPE_HOOKDATA, /* <network>, <networkport>, <domain> */
	SCOPE_DOMAIN,	/* the event's subject */
	SCOPE_NETWORK,	/* the event's subject */
	SCOPE_METADATA, /* of the subject */
	SCOPE_PORT,	/* <networkport> */
	SCOPE_OWNER,	/* <owner> of a port, or the <domain> beside a <network> */
};

struct element {
	enum scope within;
	const char *name;
	enum scope opens; /* the scope of its children */
	void (*end)(struct domain *d, const char *text,
		    int64_t factor); /* its text is kept for this */
};

struct parse {
	struct domain *domain;
	const struct strings *wanted; /* namespaces of metadata */
	xmlParserCtxtPtr xml;
	const char *reason; /* why it was stopped, if that is an error */
	bool stopped, no_memory;

	int depth;
	int n_namespaces;
	int namespaces[DEPTH_MAX + 1]; /* declared by the element of each depth */
	struct {
		enum scope scope;
		int depth; /* of the element that opened it */
	} scopes[8];	   /* the open ones, the innermost last */
	int n_scopes;

	const struct element *leaf; /* whose text is being kept */
	int leaf_depth;
	int64_t factor; /* of a memory's unit; of <vcpu>, its current= */
	char text[DOMAIN_TEXT_MAX + 1];
	size_t n_text;

	FILE *capture; /* the metadata element that is being written down */
	int capture_depth;
	char *captured;
	size_t n_captured, metadata_size;
	const xmlChar *capture_prefix, *capture_uri;
};

/* --- values */

static void set_text(char **target, const char *text)
{
	free(*target);
	*target = strdup(text); /* absent if there is no memory */
}

static void set_uuid(char target[static UUID_TEXT], const char *text)
{
	unsigned char uuid[16];

	if (uuid_parse(text, uuid))
		uuid_format(uuid, target);
}

/* A decimal number with white space around it, or -1. */
static int64_t number(const char *text, size_t size)
{
	int64_t value = 0;
	size_t i = 0, digits = 0;

	while (i < size && strchr(" \t\r\n", text[i]))
		i++;
	for (; i < size && text[i] >= '0' && text[i] <= '9'; i++, digits++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, text[i] - '0', &value))
			return -1;
	while (i < size && strchr(" \t\r\n", text[i]))
		i++;
	return digits && i == size ? value : -1;
}

/* Bytes of a unit as libvirt knows them; KiB if it is not one. */
static int64_t unit_factor(const char *unit, size_t size)
{
	static const struct {
		const char *name;
		int64_t factor;
	} units[] = {
		{"KiB", 1LL << 10}, {"k", 1LL << 10},	   {"b", 1},	       {"bytes", 1},
		{"KB", 1000},	    {"M", 1LL << 20},	   {"MiB", 1LL << 20}, {"MB", 1000000},
		{"G", 1LL << 30},   {"GiB", 1LL << 30},	   {"GB", 1000000000}, {"T", 1LL << 40},
		{"TiB", 1LL << 40}, {"TB", 1000000000000},
	};

	for (size_t i = 0; i < ELEMENTSOF(units); i++)
		if (strlen(units[i].name) == size && strncmp(units[i].name, unit, size) == 0)
			return units[i].factor;
	return 1024;
}

static int64_t kibibytes(const char *text, int64_t factor)
{
	int64_t value = number(text, strlen(text));

	if (value < 0 || __builtin_mul_overflow(value, factor, &value))
		return -1;
	return value / 1024;
}

static void end_name(struct domain *d, const char *text, int64_t factor)
{
	set_text(&d->name, text);
}

static void end_uuid(struct domain *d, const char *text, int64_t factor)
{
	set_uuid(d->uuid, text);
}

static void end_title(struct domain *d, const char *text, int64_t factor)
{
	set_text(&d->title, text);
}

static void end_memory(struct domain *d, const char *text, int64_t factor)
{
	d->memory_max_kib = kibibytes(text, factor);
}

static void end_current_memory(struct domain *d, const char *text, int64_t factor)
{
	d->memory_kib = kibibytes(text, factor);
}

static void end_vcpu(struct domain *d, const char *text, int64_t factor)
{
	d->vcpus_max = number(text, strlen(text));
	d->vcpus = factor >= 0 ? factor : d->vcpus_max;
}

static void end_port_uuid(struct domain *d, const char *text, int64_t factor)
{
	set_uuid(d->port_uuid, text);
}

static void end_owner_name(struct domain *d, const char *text, int64_t factor)
{
	set_text(&d->owner_name, text);
}

static void end_owner_uuid(struct domain *d, const char *text, int64_t factor)
{
	set_uuid(d->owner_uuid, text);
}

static const struct element elements[] = {
	{SCOPE_ROOT, "domain", .opens = SCOPE_DOMAIN},
	{SCOPE_ROOT, "network", .opens = SCOPE_NETWORK},
	{SCOPE_ROOT, "hookData", .opens = SCOPE_HOOKDATA},
	{SCOPE_HOOKDATA, "network", .opens = SCOPE_NETWORK},
	{SCOPE_HOOKDATA, "networkport", .opens = SCOPE_PORT},
	{SCOPE_HOOKDATA, "domain", .opens = SCOPE_OWNER},
	{SCOPE_DOMAIN, "name", .end = end_name},
	{SCOPE_DOMAIN, "uuid", .end = end_uuid},
	{SCOPE_DOMAIN, "title", .end = end_title},
	{SCOPE_DOMAIN, "metadata", .opens = SCOPE_METADATA},
	{SCOPE_DOMAIN, "memory", .end = end_memory},
	{SCOPE_DOMAIN, "currentMemory", .end = end_current_memory},
	{SCOPE_DOMAIN, "vcpu", .end = end_vcpu},
	{SCOPE_NETWORK, "name", .end = end_name},
	{SCOPE_NETWORK, "uuid", .end = end_uuid},
	{SCOPE_NETWORK, "title", .end = end_title},
	{SCOPE_NETWORK, "metadata", .opens = SCOPE_METADATA},
	{SCOPE_PORT, "uuid", .end = end_port_uuid},
	{SCOPE_PORT, "owner", .opens = SCOPE_OWNER},
	{SCOPE_PORT, "mac", .opens = SCOPE_NONE},
	{SCOPE_OWNER, "name", .end = end_owner_name},
	{SCOPE_OWNER, "uuid", .end = end_owner_uuid},
};

/* --- metadata, written down as XML again */

static void put_escaped(FILE *f, const char *s, size_t size, bool attribute)
{
	for (size_t i = 0; i < size; i++)
		switch (s[i]) {
		case '&': /* libxml2 leaves an attribute's as &#38; */
			if (attribute && size - i >= 5 && memcmp(s + i, "&#38;", 5) == 0) {
				fputs("&#38;", f);
				i += 4;
			} else {
				fputs("&amp;", f);
			}
			break;
		case '<':
			fputs("&lt;", f);
			break;
		case '>':
			fputs("&gt;", f);
			break;
		case '\r':
			fputs("&#13;", f);
			break;
		case '"':
		case '\t':
		case '\n':
			if (attribute) {
				fprintf(f, "&#%d;", s[i]);
				break;
			}
			/* fallthrough */
		default:
			fputc(s[i], f);
		}
}

static void put_name(FILE *f, const xmlChar *prefix, const xmlChar *local)
{
	fprintf(f, "%s%s%s", prefix ? (const char *)prefix : "", prefix ? ":" : "",
		(const char *)local);
}

static void put_namespace(FILE *f, const xmlChar *prefix, const xmlChar *uri)
{
	fprintf(f, " xmlns%s%s=\"", prefix ? ":" : "", prefix ? (const char *)prefix : "");
	put_escaped(f, (const char *)uri, uri ? strlen((const char *)uri) : 0, true);
	fputc('"', f);
}

/* Declares a prefix that may have been declared further out than what is written down. */
static void put_prefix(struct parse *p, const xmlChar *prefix, const xmlChar *uri, int n,
		       const xmlChar **declared)
{
	if (!uri || (prefix && strcmp((const char *)prefix, "xml") == 0))
		return;
	if (p->depth != p->capture_depth && xmlStrEqual(prefix, p->capture_prefix) &&
	    xmlStrEqual(uri, p->capture_uri))
		return;
	for (int i = 0; i < n; i++)
		if (xmlStrEqual(prefix, declared[2 * i]))
			return;
	put_namespace(p->capture, prefix, uri);
}

static void capture_start(struct parse *p, const xmlChar *local, const xmlChar *prefix,
			  const xmlChar *uri, int n_namespaces, const xmlChar **namespaces,
			  int n_attributes, const xmlChar **attributes)
{
	FILE *f = p->capture;

	fputc('<', f);
	put_name(f, prefix, local);
	for (int i = 0; i < n_namespaces; i++)
		put_namespace(f, namespaces[2 * i], namespaces[2 * i + 1]);
	put_prefix(p, prefix, uri, n_namespaces, namespaces);
	for (int i = 0; i < n_attributes; i++) {
		const xmlChar **a = attributes + 5 * i;

		if (a[1] && (!prefix || !xmlStrEqual(a[1], prefix)))
			put_prefix(p, a[1], a[2], n_namespaces, namespaces);
		fputc(' ', f);
		put_name(f, a[1], a[0]);
		fputs("=\"", f);
		put_escaped(f, (const char *)a[3], (size_t)(a[4] - a[3]), true);
		fputc('"', f);
	}
	fputc('>', f);
}

static const char *listed(const struct strings *namespaces, const xmlChar *uri)
{
	for (size_t i = 0; uri && namespaces && i < namespaces->n; i++)
		if (strcmp(namespaces->list[i], (const char *)uri) == 0)
			return namespaces->list[i];
	return NULL;
}

static void capture_begin(struct parse *p, const xmlChar *prefix, const xmlChar *uri)
{
	p->capture = open_memstream(&p->captured, &p->n_captured);
	if (!p->capture) {
		p->no_memory = true;
		return;
	}
	p->capture_depth = p->depth;
	p->capture_prefix = prefix;
	p->capture_uri = uri;
}

/* Closes what was written down, and keeps it if it is whole and fits. */
static void capture_end(struct parse *p, bool keep)
{
	struct domain *d = p->domain;
	struct domain_metadata *list;
	bool fits;

	fits = fclose(p->capture) == 0 && p->n_captured <= DOMAIN_METADATA_MAX - p->metadata_size;
	p->capture = NULL;
	if (keep && !fits)
		d->metadata_truncated = true;
	list = keep && fits ? reallocarray(d->metadata, d->n_metadata + 1, sizeof(*list)) : NULL;
	if (list) {
		d->metadata = list;
		list[d->n_metadata].uri = strdup(listed(p->wanted, p->capture_uri));
		list[d->n_metadata].xml = TAKE_PTR(p->captured);
		if (list[d->n_metadata++].uri)
			p->metadata_size += p->n_captured;
		else
			p->no_memory = true;
	}
	free(p->captured);
	p->captured = NULL;
}

/* An element that is too large is dropped before its end. */
static void capture_bound(struct parse *p)
{
	if (ftell(p->capture) <= DOMAIN_METADATA_MAX)
		return;
	p->domain->metadata_truncated = true;
	capture_end(p, false);
}

/* --- the parser's handlers */

static void stop(struct parse *p, const char *reason)
{
	p->stopped = true;
	p->reason = reason;
	xmlStopParser(p->xml);
}

static const xmlChar **attribute(int n, const xmlChar **attributes, const char *name)
{
	for (int i = 0; i < n; i++)
		if (!attributes[5 * i + 1] && strcmp((const char *)attributes[5 * i], name) == 0)
			return attributes + 5 * i;
	return NULL;
}

static enum scope scope_now(const struct parse *p)
{
	int depth = p->n_scopes ? p->scopes[p->n_scopes - 1].depth : 0;

	if (depth != p->depth - 1)
		return SCOPE_NONE;
	return p->n_scopes ? p->scopes[p->n_scopes - 1].scope : SCOPE_ROOT;
}

static const struct element *element_find(enum scope within, const xmlChar *local,
					  const xmlChar *uri)
{
	if (within == SCOPE_NONE || uri)
		return NULL;
	for (size_t i = 0; i < ELEMENTSOF(elements); i++)
		if (elements[i].within == within &&
		    strcmp(elements[i].name, (const char *)local) == 0)
			return &elements[i];
	return NULL;
}

static void root_attributes(struct domain *d, int n, const xmlChar **attributes)
{
	const xmlChar **type = attribute(n, attributes, "type"),
		      **id = attribute(n, attributes, "id");

	if (type && type[4] - type[3] < 64)
		d->type = strndup((const char *)type[3], (size_t)(type[4] - type[3]));
	if (id)
		d->id = number((const char *)id[3], (size_t)(id[4] - id[3]));
}

static void leaf_begin(struct parse *p, const struct element *e, int n, const xmlChar **attributes)
{
	const xmlChar **a;

	p->leaf = e;
	p->leaf_depth = p->depth;
	p->n_text = 0;
	if (e->end == end_vcpu) {
		a = attribute(n, attributes, "current");
		p->factor = a ? number((const char *)a[3], (size_t)(a[4] - a[3])) : -1;
	} else {
		a = attribute(n, attributes, "unit");
		p->factor = a ? unit_factor((const char *)a[3], (size_t)(a[4] - a[3])) : 1024;
	}
}

static void on_start(void *userdata, const xmlChar *local, const xmlChar *prefix,
		     const xmlChar *uri, int n_namespaces, const xmlChar **namespaces,
		     int n_attributes, int n_defaulted, const xmlChar **attributes)
{
	struct parse *p = userdata;
	const struct element *e;
	enum scope scope;

	if (p->stopped)
		return;
	if (++p->depth > DEPTH_MAX)
		return stop(p, "elements are nested too deeply");
	p->namespaces[p->depth] = n_namespaces;
	p->n_namespaces += n_namespaces;
	if (p->n_namespaces > NAMESPACES_MAX)
		return stop(p, "it declares too many namespaces");

	scope = scope_now(p);
	if (!p->capture && scope == SCOPE_METADATA && listed(p->wanted, uri))
		capture_begin(p, prefix, uri);
	if (p->capture) {
		capture_start(p, local, prefix, uri, n_namespaces, namespaces, n_attributes,
			      attributes);
		return capture_bound(p);
	}

	e = element_find(scope, local, uri);
	if (!e && scope == SCOPE_ROOT)
		return stop(p, "it is neither a domain nor a network");
	if (!e)
		return;
	if (e->end)
		return leaf_begin(p, e, n_attributes, attributes);
	if (scope == SCOPE_ROOT && e->opens == SCOPE_DOMAIN)
		root_attributes(p->domain, n_attributes, attributes);
	if (scope == SCOPE_PORT && e->opens == SCOPE_NONE) { /* <mac address=''/> */
		const xmlChar **a = attribute(n_attributes, attributes, "address");

		if (a && !p->domain->port_mac && a[4] - a[3] < 64)
			p->domain->port_mac = strndup((const char *)a[3], (size_t)(a[4] - a[3]));
		return;
	}
	p->scopes[p->n_scopes].scope = e->opens;
	p->scopes[p->n_scopes++].depth = p->depth;
}

static void on_end(void *userdata, const xmlChar *local, const xmlChar *prefix, const xmlChar *uri)
{
	struct parse *p = userdata;
	struct domain *d = p->domain;

	if (p->stopped)
		return;
	if (p->capture) {
		fputs("</", p->capture);
		put_name(p->capture, prefix, local);
		fputc('>', p->capture);
		if (p->depth == p->capture_depth)
			capture_end(p, true);
	}
	if (p->leaf && p->depth == p->leaf_depth) {
		bool last = p->leaf->end == end_vcpu;

		p->text[p->n_text] = 0;
		p->leaf->end(d, p->text, p->factor);
		p->leaf = NULL;
		if (last && d->name && *d->uuid && d->memory_max_kib >= 0)
			stop(p, NULL); /* libvirt writes nothing of interest after <vcpu> */
	}
	if (p->n_scopes && p->scopes[p->n_scopes - 1].depth == p->depth)
		p->n_scopes--;
	p->n_namespaces -= p->namespaces[p->depth];
	p->depth--;
}

static void on_text(void *userdata, const xmlChar *text, int size)
{
	struct parse *p = userdata;
	size_t n = (size_t)size;

	if (p->stopped)
		return;
	if (p->capture) {
		put_escaped(p->capture, (const char *)text, n, false);
		return capture_bound(p);
	}
	if (!p->leaf || p->depth != p->leaf_depth)
		return;
	if (n > DOMAIN_TEXT_MAX - p->n_text) {
		n = DOMAIN_TEXT_MAX - p->n_text;
		while (n && (text[n] & 0xc0) == 0x80)
			n--; /* not half a character */
	}
	memcpy(p->text + p->n_text, text, n);
	p->n_text += n;
}

static void on_doctype(void *userdata, const xmlChar *name, const xmlChar *external,
		       const xmlChar *system)
{
	stop(userdata, "it has a document type declaration");
}

static void on_error(void *userdata, xmlErrorPtr e)
{
	(void)e; /* the return value says it; nothing is printed */
}

/* --- putting it together */

/*
 * How much of the document may be given to the parser: up to an element with more attributes than
 * any has. A "<" cannot stand in an attribute's value, so the "=" up to the next one are no fewer
 * than the attributes.
 */
static size_t hostile_attributes(const char *s, size_t size)
{
	const char *end = s + size, *tag = memchr(s, '<', size);

	while (tag) {
		const char *next =
			tag + 1 < end ? memchr(tag + 1, '<', (size_t)(end - tag - 1)) : NULL;
		const char *stretch_end = next ? next : end;

		if (stretch_end - tag > TAG_LONG) {
			size_t n = 0;

			for (const char *c = tag; (c = memchr(c, '=', (size_t)(stretch_end - c)));
			     c++)
				if (++n > ATTRIBUTES_MAX)
					return (size_t)(tag - s);
		}
		tag = next;
	}
	return size;
}

static const xmlSAXHandler handlers = {
	.initialized = XML_SAX2_MAGIC,
	.internalSubset = on_doctype,
	.startElementNs = on_start,
	.endElementNs = on_end,
	.characters = on_text,
	.ignorableWhitespace = on_text,
	.cdataBlock = on_text,
	.serror = on_error,
};

int domain_parse(struct bytes document, const struct strings *namespaces, struct domain *ret_domain,
		 const char **ret_reason)
{
	struct parse p = {.domain = ret_domain, .wanted = namespaces};
	size_t size = document.size < DOCUMENT_MAX ? document.size : DOCUMENT_MAX;

	*ret_domain = (struct domain){
		.id = -1, .vcpus = -1, .vcpus_max = -1, .memory_kib = -1, .memory_max_kib = -1};
	if (size > TAG_LONG)
		size = hostile_attributes(document.data, size);
	if (!size) {
		*ret_reason = "it is empty";
		return -EBADMSG;
	}
	p.xml = xmlNewParserCtxt();
	if (!p.xml)
		return -ENOMEM;
	*p.xml->sax = handlers;
	p.xml->userData = &p;
	xmlFreeDoc(xmlCtxtReadMemory(p.xml, document.data, (int)size, NULL, NULL,
				     XML_PARSE_NONET | XML_PARSE_IGNORE_ENC));
	if (p.capture)
		capture_end(&p, false);
	if (!p.stopped && !p.xml->wellFormed)
		p.reason = size < document.size
				   ? "it is larger, or has more attributes, than is parsed"
				   : "it is not well-formed XML";
	xmlFreeParserCtxt(p.xml);
	if (p.no_memory)
		return -ENOMEM;
	if (!p.reason)
		return 0;
	*ret_reason = p.reason;
	return -EBADMSG;
}

void domain_release(struct domain *d)
{
	free(d->type);
	free(d->name);
	free(d->title);
	free(d->owner_name);
	free(d->port_mac);
	for (size_t i = 0; i < d->n_metadata; i++) {
		free(d->metadata[i].uri);
		free(d->metadata[i].xml);
	}
	free(d->metadata);
	*d = (struct domain){};
}
