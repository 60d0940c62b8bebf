/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cloudevent - see cloudevent.h. */
#include <ctype.h>
#include <stdarg.h>

#include "spooler/base/hex.h"
#include "spooler/base/rfc3339.h"
#include "spooler/base/util.h"
#include "spooler/base/utf8.h"
#include "spooler/event/topic.h"
#include "spooler/event/verifiable.h"
#include "spooler/recorder/cloudevent.h"

#define SOURCE_PREFIX "/virtspool/"
#define TYPE_STATUS "org.virtspool.status."
/* More than a host can assign in a lifetime; sums over all hosts and epochs stay within 64 bits. */
#define SEQUENCE_MAX (INT64_C(1) << 40)

/* --- JSON */

struct reader {
	char *why;
	size_t why_size;
};

static int refuse(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int refuse(struct reader *r, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(r->why, r->why_size, format, ap);
	va_end(ap);
	return -EBADMSG;
}

/* A member that is text, or is not there. */
static int optional(struct reader *r, const json_t *o, const char *key, const char **ret)
{
	const json_t *v = json_object_get(o, key);

	*ret = NULL;
	if (!v)
		return 0;
	if (!json_is_string(v))
		return refuse(r, "'%s' is not a string", key);
	if (json_string_length(v) > CLOUDEVENT_TEXT_MAX)
		return refuse(r, "'%s' is longer than %d bytes", key, CLOUDEVENT_TEXT_MAX);
	*ret = json_string_value(v);
	return 0;
}

static int required(struct reader *r, const json_t *o, const char *key, const char **ret)
{
	int q = optional(r, o, key, ret);

	if (q < 0)
		return q;
	if (*ret && **ret)
		return 0;
	(void)refuse(r, "'%s' is missing", key);
	return -EBADMSG;
}

static bool parse_number(const char *text, int64_t *ret)
{
	uint64_t n = 0;

	if (!*text || strlen(text) > 20)
		return false;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text) || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return false;
	}
	*ret = (int64_t)n;
	return n < SEQUENCE_MAX;
}

/* --- what an event says of a guest */

static enum guest_call call_of_hook(const char *operation)
{
	static const struct {
		const char *name;
		enum guest_call call;
	} calls[] = {
		{"prepare", CALL_PREPARE},  {"start", CALL_START},
		{"started", CALL_STARTED},  {"stopped", CALL_STOPPED},
		{"release", CALL_RELEASE},  {"migrate", CALL_MIGRATE},
		{"restore", CALL_RESTORE},  {"reconnect", CALL_RECONNECT},
		{"attach", CALL_RECONNECT},
	};

	for (size_t i = 0; i < ELEMENTSOF(calls); i++)
		if (strcmp(calls[i].name, operation) == 0)
			return calls[i].call;
	return CALL_NONE;
}

static bool moves(const char *reason)
{
	return strcmp(reason, "migrated") == 0 || strcmp(reason, "postcopy") == 0;
}

static enum guest_call call_of_api(const char *operation, const char *reason, bool secondary)
{
	if (strcmp(operation, "lifecycle-started") == 0)
		return secondary || strcmp(reason, "wakeup") == 0 ? CALL_NONE : CALL_STARTED;
	if (strcmp(operation, "lifecycle-stopped") == 0)
		return secondary ? CALL_STOP_REASON : CALL_RELEASE;
	if (strcmp(operation, "lifecycle-suspended") == 0)
		return moves(reason) ? CALL_NONE : CALL_PAUSED;
	if (strcmp(operation, "lifecycle-resumed") == 0)
		return moves(reason) ? CALL_MOVED : CALL_RESUMED;
	if (strcmp(operation, "lifecycle-crashed") == 0)
		return strcmp(reason, "panicked") == 0 ? CALL_CRASHED : CALL_NONE;
	if (strcmp(operation, "lifecycle-defined") == 0)
		return CALL_NAMED;
	return CALL_NONE;
}

/* virtspoold's own events. */
static enum guest_call call_of_spooler(const char *operation, const char *reason)
{
	return strcmp(operation, "reconciled") == 0 && strcmp(reason, "host booted") == 0
		       ? CALL_RELEASE
		       : CALL_NONE;
}

static int read_guest(struct reader *r, const json_t *data, struct cloudevent *e)
{
	bool domain = strcmp(e->driver, "network") != 0 && strcmp(e->driver, "daemon") != 0;
	const char *uuid;
	int q = optional(r, data, domain ? "uuid" : "owner_uuid", &uuid);

	if (q < 0 || !uuid)
		return q;
	if (!uuid_parse(uuid, e->guest))
		return refuse(r, "'%s' is not a UUID", domain ? "uuid" : "owner_uuid");
	e->has_guest = true;
	if (domain &&
	    e->flags & EVENT_SPOOLER) { /* its id is its place, before this boot's events */
		e->call = call_of_spooler(e->operation, e->reason ? e->reason : "");
		return 0;
	}
	if (!domain || e->flags & EVENT_UNORDERED)
		return 0;
	e->call = e->flags & EVENT_API ? call_of_api(e->operation, e->reason ? e->reason : "",
						     e->flags & EVENT_SECONDARY)
				       : call_of_hook(e->operation);
	return 0;
}

static int read_data(struct reader *r, const json_t *data, struct cloudevent *e)
{
	const char *origin;
	int q;

	if ((q = required(r, data, "driver", &e->driver)) < 0 ||
	    (q = required(r, data, "operation", &e->operation)) < 0 ||
	    (q = optional(r, data, "reason", &e->reason)) < 0 ||
	    (q = optional(r, data, "name", &e->name)) < 0 ||
	    (q = optional(r, data, "origin", &origin)) < 0)
		return q;
	if (origin && strcmp(origin, "api") == 0)
		e->flags |= EVENT_API;
	if (origin && strcmp(origin, "spooler") == 0)
		e->flags |= EVENT_SPOOLER;
	if (json_is_false(json_object_get(data, "authoritative")))
		e->flags |= EVENT_SECONDARY;
	if (json_is_true(json_object_get(data, "unordered")))
		e->flags |= EVENT_UNORDERED;
	return read_guest(r, data, e);
}

static int read_event(struct reader *r, const json_t *data, struct cloudevent *e)
{
	const char *id, *time, *epoch, *sequence;
	int q;

	if ((q = required(r, e->json, "id", &id)) < 0 ||
	    (q = required(r, e->json, "time", &time)) < 0 ||
	    (q = required(r, e->json, "epoch", &epoch)) < 0 ||
	    (q = required(r, e->json, "sequence", &sequence)) < 0)
		return q;
	if (!uuid_parse(id, e->id) || e->id[6] >> 4 != 7 || id[strcspn(id, "ABCDEF")])
		return refuse(r, "'id' is not a UUID of version 7");
	if (!rfc3339_parse_utc(time, &e->time))
		return refuse(r, "'time' is not a time in UTC (RFC 3339)");
	if (!hex_parse(epoch, e->epoch, 16))
		return refuse(r, "'epoch' is not 32 hexadecimal digits");
	if (!parse_number(sequence, &e->sequence) || e->sequence == 0)
		return refuse(r, "'sequence' is not a number from 1");
	e->has_epoch = true;
	if (json_is_true(json_object_get(e->json, "replayed")))
		e->flags |= EVENT_REPLAYED;
	return read_data(r, data, e);
}

/* Ranges of numbers: [{"epoch": ..., "first": N, "last": N}, ...]. */
static int read_lost(struct reader *r, const json_t *data, struct cloudevent *e)
{
	const json_t *list = json_object_get(data, "lost"), *item;
	size_t i;

	if (!list)
		return 0;
	if (!json_is_array(list))
		return refuse(r, "'lost' is not a list");
	e->lost = calloc(CLOUDEVENT_LOST_MAX, sizeof(*e->lost));
	if (!e->lost)
		return -ENOMEM;
	json_array_foreach (list, i, item) {
		const char *epoch = json_string_value(json_object_get(item, "epoch"));
		int64_t first = json_integer_value(json_object_get(item, "first")),
			last = json_integer_value(json_object_get(item, "last"));

		if (e->n_lost == CLOUDEVENT_LOST_MAX)
			break;
		if (first < 1 || last < first || last >= SEQUENCE_MAX)
			return refuse(r, "'lost' has a range that is not one");
		if (epoch ? !hex_parse(epoch, e->lost[e->n_lost].epoch, 16) : !e->has_epoch)
			return refuse(r, "'lost' has an epoch that is not 32 hexadecimal digits");
		if (!epoch)
			memcpy(e->lost[e->n_lost].epoch, e->epoch, 16);
		e->lost[e->n_lost].first = first;
		e->lost[e->n_lost++].last = last;
	}
	return 0;
}

static int read_status(struct reader *r, const json_t *data, struct cloudevent *e)
{
	const char *status, *time, *epoch, *sequence;
	int q;

	if ((q = required(r, data, "status", &status)) < 0 ||
	    (q = optional(r, e->json, "time", &time)) < 0 ||
	    (q = optional(r, data, "epoch", &epoch)) < 0 ||
	    (q = optional(r, data, "sequence", &sequence)) < 0 ||
	    (q = optional(r, data, "boot_id", &e->boot)) < 0)
		return q;
	e->kind = CLOUDEVENT_STATUS;
	e->online = strcmp(status, "online") == 0;
	if (!e->online && strcmp(status, "offline") != 0)
		return refuse(r, "'status' is neither online nor offline");
	if (time && !rfc3339_parse_utc(time, &e->time))
		return refuse(r, "'time' is not a time in UTC (RFC 3339)");
	if (epoch && !hex_parse(epoch, e->epoch, 16))
		return refuse(r, "'epoch' is not 32 hexadecimal digits");
	e->has_epoch = epoch != NULL;
	if (sequence && !parse_number(sequence, &e->sequence))
		return refuse(r, "'sequence' is not a number");
	if (e->sequence == 0) /* booted, and nothing has happened since: a placeholder */
		e->has_epoch = false;
	return read_lost(r, data, e);
}

/* The host that the event names is the one of its topic. */
static int check_host(struct reader *r, const json_t *data, struct cloudevent *e)
{
	const char *source, *host;
	char named[256];
	int q;

	if ((q = required(r, e->json, "source", &source)) < 0 ||
	    (q = optional(r, data, "host", &host)) < 0)
		return q;
	if (strncmp(source, SOURCE_PREFIX, strlen(SOURCE_PREFIX)) != 0 ||
	    !topic_decode_host(source + strlen(SOURCE_PREFIX),
			       strlen(source) - strlen(SOURCE_PREFIX), named))
		return refuse(r, "'source' is not " SOURCE_PREFIX "HOST");
	if (strcmp(named, e->host) != 0)
		return refuse(r, "'source' is of another host than the topic");
	if (host && strcmp(host, e->host) != 0)
		return refuse(r, "'host' is another one than the topic's");
	return 0;
}

static int read_payload(struct reader *r, const void *payload, size_t size, struct cloudevent *e)
{
	const char *version, *type;
	json_error_t error;
	const json_t *data;
	int q;

	if (size > CLOUDEVENT_PAYLOAD_MAX)
		return refuse(r, "longer than %d bytes", CLOUDEVENT_PAYLOAD_MAX);
	e->json = json_loadb(payload, size, JSON_REJECT_DUPLICATES, &error);
	if (!e->json)
		return json_error_code(&error) == json_error_out_of_memory
			       ? -ENOMEM
			       : refuse(r, "not JSON: %s", error.text);
	if (!json_is_object(e->json))
		return refuse(r, "not a CloudEvent: not a JSON object");
	if ((q = required(r, e->json, "specversion", &version)) < 0 ||
	    (q = required(r, e->json, "type", &type)) < 0)
		return q;
	if (strcmp(version, "1.0") != 0)
		return refuse(r, "'specversion' is not 1.0");
	data = json_object_get(e->json, "data");
	if (!json_is_object(data))
		return refuse(r, "'data' is not an object");
	q = check_host(r, data, e);
	if (q < 0)
		return q;
	return strncmp(type, TYPE_STATUS, strlen(TYPE_STATUS)) == 0 ? read_status(r, data, e)
								    : read_event(r, data, e);
}

const char *cloudevent_signature(unsigned flags)
{
	return flags & EVENT_VERIFIED	? "verified"
	       : flags & EVENT_SIGNED	? "unknown"
	       : flags & EVENT_UNSIGNED ? "unsigned"
					: "unchecked";
}

void cloudevent_drop_tree(struct cloudevent *e)
{
	json_decref(e->json);
	e->json = NULL;
}

/* The event's texts in memory of their own, so that its tree can go. */
static int keep_texts(struct cloudevent *e)
{
	const char **texts[] = {&e->driver, &e->operation, &e->reason, &e->name};
	size_t size = 0, n;
	char *to;

	for (size_t i = 0; i < ELEMENTSOF(texts); i++)
		size += *texts[i] ? strlen(*texts[i]) + 1 : 0;
	e->text = to = malloc(size);
	if (!to)
		return -ENOMEM;
	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		if (!*texts[i])
			continue;
		n = strlen(*texts[i]) + 1;
		*texts[i] = memcpy(to, *texts[i], n);
		to += n;
	}
	if (!json_object_get(e->json, VERIFIABLE_MATERIAL))
		cloudevent_drop_tree(e);
	return 0;
}

int cloudevent_parse(const struct cloudevent_topics *topics, const char *topic, const void *payload,
		     size_t size, struct cloudevent *ret_event, char *why, size_t why_size)
{
	struct reader r = {why, why_size};
	struct cloudevent e = {};
	int q;

	if (!topic_host(topics->events, topic, e.host) &&
	    !(topics->status && topic_host(topics->status, topic, e.host)))
		return refuse(&r, "the topic does not fit mqtt.topic or mqtt.status_topic");
	q = read_payload(&r, payload, size, &e);
	if (q >= 0 && e.kind == CLOUDEVENT_EVENT)
		q = keep_texts(&e);
	if (q < 0) {
		cloudevent_release(&e);
		return q;
	}
	*ret_event = e;
	return 0;
}

void cloudevent_release(struct cloudevent *e)
{
	cloudevent_drop_tree(e);
	free(e->lost);
	free(e->text);
	e->lost = NULL;
	e->text = NULL;
}
