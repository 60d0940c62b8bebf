/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * event - see event.h. What is published is described in virtspool-events(7) and
 * etc/event.schema.json.
 *
 * Two rules hold for every record, whatever bytes it has:
 *  - The JSON is valid, and every string in it is UTF-8. Invalid UTF-8 is replaced by U+FFFD, and
 *    data.exact has the exact bytes, percent-encoded.
 *  - type, source and topic consist of percent-encoded parts, so that no part can imitate another.
 */
#include <fnmatch.h>
#include <inttypes.h>
#include <jansson.h>
#include <sys/random.h>

#include "spooler/base/hex.h"
#include "spooler/base/json-writer.h"
#include "spooler/event/domain.h"
#include "spooler/event/event.h"
#include "spooler/event/topic.h"
#include "spooler/base/rfc3339.h"
#include "spooler/base/utf8.h"
#include "spooler/base/util.h"

#define TYPE_PREFIX "org.virtspool"
#define SOURCE_PREFIX "/virtspool/"
#define TIME_LATEST_S 253402300799ULL /* 9999-12-31T23:59:59Z, the last that RFC 3339 can write */

struct builder {
	struct json_writer out;
	json_t *attributes; /* the same once more, if the event will be signed */
	json_t *exact;	    /* made when it is needed */
	bool failed;	    /* no memory */
};

/* --- strings and times */

/* libvirt writes "-" for an absent value. */
static bool said(struct bytes b)
{
	return b.size && !bytes_are(b, "-");
}

/* The stamp's time. A forged one beyond the calendar becomes the last that RFC 3339 can write. */
static void time_of_ticks(uint64_t ticks, char buf[static RFC3339_SIZE])
{
	uint64_t ms = ticks / STAMP_TICKS_PER_MS, seconds = ms / 1000;
	uint64_t us = ms % 1000 * 1000 + ticks % STAMP_TICKS_PER_MS * 1000 / STAMP_TICKS_PER_MS;

	rfc3339_utc((int64_t)(seconds < TIME_LATEST_S ? seconds : TIME_LATEST_S),
		    (unsigned)us * 1000, 6, buf);
}

static void time_of_ns(int64_t ns, char buf[static RFC3339_SIZE])
{
	int64_t seconds = ns / NSEC_PER_SEC, rest = ns % NSEC_PER_SEC;

	if (rest < 0) {
		rest += NSEC_PER_SEC;
		seconds--;
	}
	rfc3339_utc(seconds, (unsigned)rest, 6, buf);
}

static void id_random(char buf[static 37])
{
	unsigned char b[16];

	/* It does not fail for so few bytes once the system is up. */
	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		memset(b, 0, sizeof(b));
	b[6] = (b[6] & 0x0f) | 0x40; /* UUID version 4 */
	b[8] = (b[8] & 0x3f) | 0x80;
	uuid_format(b, buf);
}

/* --- building JSON: a failure is noted and checked once at the end */

/* Text of ours, or text that is known to be UTF-8. */
static void put_known(struct builder *b, const char *key, const char *value)
{
	json_writer_text(&b->out, key, value, strlen(value));
}

/* A context attribute of the event, as a string. */
static void put_attribute(struct builder *b, const char *key, const char *value)
{
	put_known(b, key, value);
	if (b->attributes &&
	    json_object_set_new_nocheck(b->attributes, key, json_string_nocheck(value)) < 0)
		b->failed = true;
}

static void put_exact(struct builder *b, const char *key, struct bytes value)
{
	_cleanup_free_ char *encoded = malloc(3 * value.size + 1);

	if (!b->exact)
		b->exact = json_object();
	if (!encoded || !b->exact) {
		b->failed = true;
		return;
	}
	percent_encode(value, "./", encoded, 3 * value.size + 1);
	if (json_object_set_new_nocheck(b->exact, key, json_string_nocheck(encoded)) < 0)
		b->failed = true;
}

/* What is not UTF-8 is replaced; `exact` then has the bytes. */
static void put_text(struct builder *b, const char *key, struct bytes value)
{
	_cleanup_free_ char *replaced = NULL;

	if (utf8_valid(value.data, value.size)) {
		json_writer_text(&b->out, key, value.data, value.size);
		return;
	}
	replaced = malloc(3 * value.size);
	if (!replaced) {
		b->failed = true;
		return;
	}
	json_writer_text(&b->out, key, replaced, utf8_replace(value.data, value.size, replaced));
	put_exact(b, key, value);
}

/* The same as a value of a list or an object, which jansson holds. NULL only without memory. */
static json_t *text_new(struct builder *b, const char *key, struct bytes value)
{
	_cleanup_free_ char *replaced = NULL;

	if (utf8_valid(value.data, value.size))
		return json_stringn(value.size ? value.data : "", value.size);
	put_exact(b, key, value);
	replaced = malloc(3 * value.size);
	if (!replaced)
		return NULL;
	return json_stringn(replaced, utf8_replace(value.data, value.size, replaced));
}

static void put_string(struct builder *b, const char *key, const char *value)
{
	if (value && *value)
		put_text(b, key, bytes_of(value));
}

static void put_number(struct builder *b, const char *key, int64_t value)
{
	if (value >= 0)
		json_writer_integer(&b->out, key, value);
}

/* --- the CloudEvents attributes */

/* PREFIX, then "." and the part, percent-encoded, for each part that is present. */
static char *type_new(const struct record *r)
{
	const struct bytes parts[] = {r->driver, r->operation, r->suboperation};
	size_t size = sizeof(TYPE_PREFIX), n;
	char *type;

	for (size_t i = 0; i < ELEMENTSOF(parts); i++)
		size += 3 * parts[i].size + sizeof(".unknown");
	type = malloc(size);
	if (!type)
		return NULL;
	n = (size_t)sprintf(type, TYPE_PREFIX);
	for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
		struct bytes part = parts[i];

		if (!said(part) && i == 2)
			continue;
		if (!said(part))
			part = bytes_of("unknown");
		type[n++] = '.';
		n += percent_encode(part, "", type + n, size - n);
	}
	return type;
}

static char *source_new(const char *host)
{
	size_t size = sizeof(SOURCE_PREFIX) + 3 * strlen(host);
	char *source = malloc(size);

	if (!source)
		return NULL;
	strcpy(source, SOURCE_PREFIX);
	percent_encode(bytes_of(host), ".", source + strlen(SOURCE_PREFIX),
		       size - strlen(SOURCE_PREFIX));
	return source;
}

/* Has the record a domain or network? The daemon hook is called with "-". */
static bool has_subject(const struct record *r)
{
	return r->object.size && !(bytes_are(r->driver, "daemon") && !said(r->object));
}

static void put_attributes(struct builder *b, const struct config *c, const char *id,
			   const char *type)
{
	_cleanup_free_ char *source = source_new(c->host);

	if (c->events.sign)
		b->attributes = json_object();
	if (!source || (c->events.sign && !b->attributes)) {
		b->failed = true;
		return;
	}
	json_writer_open(&b->out, NULL);
	put_attribute(b, "specversion", "1.0");
	put_attribute(b, "id", id);
	put_attribute(b, "source", source);
	put_attribute(b, "type", type);
}

static void put_stamp(struct builder *b, const struct record *r, bool replayed)
{
	char buf[RFC3339_SIZE];

	time_of_ticks(r->stamp.ticks, buf);
	put_attribute(b, "time", buf);
	put_attribute(b, "datacontenttype", "application/json");
	snprintf(buf, sizeof(buf), "%020" PRIu64, r->stamp.sequence); /* sorts as text, too */
	put_attribute(b, "sequence", buf);
	put_attribute(b, "epoch", r->stamp.epoch);
	time_of_ns(r->recorded_ns, buf);
	put_attribute(b, "recordedtime", buf);
	json_writer_boolean(&b->out, "replayed", replayed);
	if (b->attributes &&
	    json_object_set_new_nocheck(b->attributes, "replayed", json_boolean(replayed)) < 0)
		b->failed = true;
}

/* --- data */

/*
 * The same for all events that report one transition: the id of the hook's event that counts. For
 * each start and each end one of the hook's events counts, because only these come exactly once.
 */
static struct bytes transition_of(const struct record *r)
{
	if (r->origin.size)
		return r->transition;
	if (bytes_are(r->driver, "network") || bytes_are(r->driver, "daemon"))
		return (struct bytes){};
	if (bytes_are(r->operation, "started") || bytes_are(r->operation, "stopped"))
		return bytes_of(r->stamp.id);
	return (struct bytes){};
}

static void put_call(struct builder *b, const struct config *c, const struct record *r)
{
	put_string(b, "host", c->host);
	put_text(b, "driver", r->driver);
	put_text(b, "operation", r->operation);
	if (said(r->suboperation))
		put_text(b, "suboperation", r->suboperation);
	if (said(r->extra))
		put_text(b, "reason", r->extra);
	if (has_subject(r))
		put_text(b, "name", r->object);
	if (r->origin.size)
		put_text(b, "origin", r->origin);
	if (r->flags & (RECORD_TOLD_BY_HOOK | RECORD_NO_HOOK))
		json_writer_boolean(&b->out, "authoritative", r->flags & RECORD_NO_HOOK);
	if (transition_of(r).size)
		put_text(b, "transition", transition_of(r));
}

/* "key=value" each. */
static void put_details(struct builder *b, const struct record *r)
{
	json_t *details;

	if (!r->n_details)
		return;
	details = json_object();
	for (unsigned i = 0; i < r->n_details; i++) {
		struct bytes detail = r->details[i], value = {};
		const char *equals = detail.size ? memchr(detail.data, '=', detail.size) : NULL;
		char key[3 * RECORD_DETAIL_MAX + 1],
			exact[sizeof("details.") + 3 * RECORD_DETAIL_MAX];

		if (equals) {
			value = (struct bytes){equals + 1,
					       detail.size - (size_t)(equals + 1 - detail.data)};
			detail.size = (size_t)(equals - detail.data);
		}
		if (detail.size > RECORD_DETAIL_MAX)
			detail.size = RECORD_DETAIL_MAX;
		key[utf8_replace_controls(detail.data, detail.size, key)] = 0;
		snprintf(exact, sizeof(exact), "details.%s", key);
		if (json_object_set_new(details, key, text_new(b, exact, value)) < 0)
			b->failed = true;
	}
	json_writer_tree(&b->out, "details", details);
}

static void put_metadata(struct builder *b, const struct domain *d)
{
	json_t *metadata;

	if (d->metadata_truncated)
		json_writer_boolean(&b->out, "metadata_truncated", true);
	if (!d->n_metadata)
		return;
	metadata = json_object();
	for (size_t i = 0; i < d->n_metadata; i++)
		if (json_object_set_new(metadata, d->metadata[i].uri,
					json_string(d->metadata[i].xml)) < 0)
			b->failed = true;
	json_writer_tree(&b->out, "metadata", metadata);
}

static void put_domain(struct builder *b, const struct domain *d)
{
	put_string(b, "uuid", d->uuid);
	put_string(b, "title", d->title);
	put_string(b, "domain_type", d->type);
	put_number(b, "domain_id", d->id);
	put_number(b, "vcpus", d->vcpus);
	put_number(b, "vcpus_max", d->vcpus_max);
	put_number(b, "memory_kib", d->memory_kib >= 0 ? d->memory_kib : d->memory_max_kib);
	put_number(b, "memory_max_kib", d->memory_max_kib);
	put_string(b, "port_uuid", d->port_uuid);
	put_string(b, "port_mac", d->port_mac);
	put_string(b, "owner_name", d->owner_name);
	put_string(b, "owner_uuid", d->owner_uuid);
	put_metadata(b, d);
}

/* Arguments beyond those that libvirt passes today. */
static void put_arguments(struct builder *b, const struct record *r)
{
	json_t *list;
	char key[32];

	if (r->argc != 4)
		put_number(b, "argument_count", r->argc);
	if (!r->n_arguments)
		return;
	list = json_array();
	for (unsigned i = 0; i < r->n_arguments; i++) {
		snprintf(key, sizeof(key), "arguments.%u", i);
		if (json_array_append_new(list, text_new(b, key, r->arguments[i])) < 0)
			b->failed = true;
	}
	json_writer_tree(&b->out, "arguments", list);
}

static void put_marks(struct builder *b, const struct record *r)
{
	json_t *list;

	if (r->flags & (RECORD_DOCUMENT_TRUNCATED | RECORD_ARGUMENTS_TRUNCATED)) {
		list = json_array();
		if (r->flags & RECORD_DOCUMENT_TRUNCATED &&
		    json_array_append_new(list, json_string("document")) < 0)
			b->failed = true;
		if (r->flags & RECORD_ARGUMENTS_TRUNCATED &&
		    json_array_append_new(list, json_string("arguments")) < 0)
			b->failed = true;
		json_writer_tree(&b->out, "truncated", list);
	}
	if (r->flags & RECORD_UNORDERED)
		json_writer_boolean(&b->out, "unordered", true);
}

static void put_document(struct builder *b, const struct config *c, const struct record *r,
			 struct event *e)
{
	if (!c->events.xml || !r->document.size)
		return;
	e->xml = !e->xml_omitted;
	if (e->xml_omitted) {
		put_string(b, "xml_omitted", "too large");
		return;
	}
	put_text(b, "xml", r->document);
	if (r->redacted)
		put_number(b, "redacted", r->redacted);
}

/* --- putting it together */

static void builder_release(struct builder *b)
{
	free(b->out.text);
	json_decref(b->attributes);
	json_decref(b->exact);
}

/* data is the last member, so that its bytes are easy to find (verifiable.h). */
static int builder_finish(struct builder *b, struct event *e)
{
	if (b->exact)
		json_writer_tree(&b->out, "exact", TAKE_PTR(b->exact));
	json_writer_close(&b->out);
	json_writer_close(&b->out);
	if (b->failed || b->out.failed)
		return -ENOMEM;
	e->payload_size = b->out.size;
	e->payload = TAKE_PTR(b->out.text);
	e->attributes = TAKE_PTR(b->attributes);
	return 0;
}

static void domain_releasep(struct domain *d)
{
	domain_release(d);
}

static void event_releasep(struct event *e)
{
	event_release(e);
}

static int topic_of(const struct config *c, const struct record *r, const char *uuid, char **ret)
{
	const struct bytes values[TOPIC_FIELDS] = {
		[TOPIC_HOST] = bytes_of(c->host),
		[TOPIC_DRIVER] = r->driver,
		[TOPIC_UUID] = bytes_of(uuid),
		[TOPIC_NAME] = has_subject(r) ? r->object : (struct bytes){},
		[TOPIC_OPERATION] = r->operation,
		[TOPIC_SUBOPERATION] = r->suboperation,
		[TOPIC_EPOCH] = bytes_of(r->stamp.epoch),
	};

	return topic_format(c->mqtt.topic, values, ret);
}

/* The object's name as a log line shows it. */
static char *name_new(const struct record *r)
{
	size_t size = has_subject(r) ? r->object.size : 0;
	char *name = malloc(3 * size + 1);

	if (name)
		name[utf8_replace_controls(r->object.data, size, name)] = 0;
	return name;
}

static int build(struct builder *b, const struct config *c, const struct record *r, bool replayed,
		 struct event *e)
{
	_cleanup_(domain_releasep) struct domain d = {
		.id = -1, .vcpus = -1, .vcpus_max = -1, .memory_kib = -1, .memory_max_kib = -1};
	_cleanup_free_ char *type = type_new(r);
	const char *why = NULL;
	int q;

	e->domain = name_new(r);
	if (!type || !e->domain)
		return -ENOMEM;
	if (r->document.size &&
	    (q = domain_parse(r->document, &c->events.metadata, &d, &why)) == -ENOMEM)
		return q;
	memcpy(e->uuid, d.uuid, sizeof(e->uuid));

	put_attributes(b, c, r->stamp.id, type);
	if (*e->domain)
		put_attribute(b, "subject", e->domain);
	put_stamp(b, r, replayed);
	json_writer_open(&b->out, "data");
	put_call(b, c, r);
	put_domain(b, &d);
	put_details(b, r);
	put_arguments(b, r);
	put_marks(b, r);
	if (why)
		put_string(b, "document_error", why);
	put_document(b, c, r, e);
	return topic_of(c, r, e->uuid, &e->topic);
}

static int event_new(const struct config *c, const struct record *r, bool replayed,
		     bool without_xml, struct event *ret_event, const char **ret_reason)
{
	_cleanup_(event_releasep) struct event e = {.xml_omitted = without_xml};
	_cleanup_(builder_release) struct builder b = {};
	int k;

	if (!stamp_id_valid(r->stamp.id) || strlen(r->stamp.epoch) != 32 ||
	    strspn(r->stamp.epoch, "0123456789abcdef") != 32) {
		*ret_reason = "its stamp has no valid id and epoch";
		return -EBADMSG;
	}
	k = build(&b, c, r, replayed, &e);
	if (k >= 0)
		k = builder_finish(&b, &e);
	if (k == -EINVAL) {
		*ret_reason = "no topic can be made of it";
		return -EBADMSG;
	}
	if (k < 0)
		return k;
	*ret_event = e;
	e = (struct event){};
	return 0;
}

int event_build(const struct config *c, const struct record *r, bool replayed,
		struct event *ret_event, const char **ret_reason)
{
	return event_new(c, r, replayed, false, ret_event, ret_reason);
}

int event_build_without_xml(const struct config *c, const struct record *r, bool replayed,
			    struct event *ret_event, const char **ret_reason)
{
	return event_new(c, r, replayed, true, ret_event, ret_reason);
}

static void put_lost(struct builder *b, const struct event_status *s)
{
	json_t *list;

	if (!s->n_lost)
		return;
	list = json_array();
	for (size_t i = 0; i < s->n_lost; i++) {
		const struct event_range *range = &s->lost[i];
		json_t *item = json_pack("{sssIsI}", "epoch", range->epoch, "first",
					 (json_int_t)range->first, "last", (json_int_t)range->last);

		if (json_array_append_new(list, item) < 0)
			b->failed = true;
	}
	json_writer_tree(&b->out, "lost", list);
}

int event_build_status(const struct config *c, const struct event_status *s,
		       struct event *ret_event)
{
	_cleanup_(event_releasep) struct event e = {};
	_cleanup_(builder_release) struct builder b = {};
	const struct bytes values[TOPIC_FIELDS] = {[TOPIC_HOST] = bytes_of(c->host)};
	char buf[RFC3339_SIZE];
	struct timespec now;
	int r;

	if (c->mqtt.status_topic) {
		r = topic_format(c->mqtt.status_topic, values, &e.topic);
		if (r < 0)
			return r;
	}
	id_random(buf);
	put_attributes(&b, c, buf,
		       s->online ? TYPE_PREFIX ".status.online" : TYPE_PREFIX ".status.offline");
	if (!s->will) { /* when a will is sent is unknown when it is written */
		(void)clock_gettime(CLOCK_REALTIME, &now);
		rfc3339_utc(now.tv_sec, (unsigned)now.tv_nsec, 6, buf);
		put_attribute(&b, "time", buf);
	}
	put_attribute(&b, "datacontenttype", "application/json");
	json_writer_open(&b.out, "data");
	put_string(&b, "host", c->host);
	put_known(&b, "status", s->online ? "online" : "offline");
	if (!s->online)
		put_known(&b, "reason", s->will ? "lost" : "stopped");
	if (s->boot_id)
		put_known(&b, "boot_id", s->boot_id);
	if (s->epoch) {
		snprintf(buf, sizeof(buf), "%020" PRIu64, s->sequence);
		put_string(&b, "epoch", s->epoch);
		put_known(&b, "sequence", buf);
	}
	if (s->certificate)
		put_known(&b, "certificate", s->certificate);
	put_lost(&b, s);
	e.domain = strdup("");
	r = e.domain ? builder_finish(&b, &e) : -ENOMEM;
	if (r < 0)
		return r;
	*ret_event = e;
	e = (struct event){};
	return 0;
}

void event_release(struct event *e)
{
	free(e->topic);
	free(e->payload);
	json_decref(e->attributes);
	free(e->domain);
	*e = (struct event){};
}

/* --- signing */

int event_parts(const struct event *e, struct verifiable *ret_parts)
{
	const char *data;
	size_t size;
	int r = verifiable_data(e->payload, e->payload_size, &data, &size);

	return r < 0 ? r : verifiable_parts(e->attributes, data, size, ret_parts);
}

int event_attach(struct event *e, const char *material)
{
	char *payload;
	int n = asprintf(&payload, "{\"" VERIFIABLE_MATERIAL "\":\"%s\",%s", material,
			 e->payload + 1);

	if (n < 0)
		return -ENOMEM;
	free(e->payload);
	e->payload = payload;
	e->payload_size = (size_t)n;
	return 0;
}

/* --- filters */

static bool matches(const struct strings *globs, const char *value)
{
	for (size_t i = 0; i < globs->n; i++)
		if (fnmatch(globs->list[i], value, 0) == 0)
			return true;
	return false;
}

/* A driver or an operation; a longer one is nonsense. */
static void word(struct bytes b, char buf[static 256])
{
	size_t n = b.size < 255 ? b.size : 255;

	memcpy(buf, b.size ? b.data : "", n);
	buf[n] = 0;
}

bool event_wanted(const struct config *c, const struct record *r, const struct event *e)
{
	const struct config_events *f = &c->events;
	char driver[256], operation[256];

	word(r->driver, driver);
	word(r->operation, operation);
	if ((f->drivers.n && !matches(&f->drivers, driver)) || matches(&f->skip_drivers, driver))
		return false;
	if ((f->operations.n && !matches(&f->operations, operation)) ||
	    matches(&f->skip_operations, operation))
		return false;
	if (strcmp(driver, "network") == 0 || strcmp(driver, "daemon") == 0)
		return true; /* they have no domain */
	if (f->domains.n && !matches(&f->domains, e->domain) && !matches(&f->domains, e->uuid))
		return false;
	return !matches(&f->skip_domains, e->domain) && !matches(&f->skip_domains, e->uuid);
}
