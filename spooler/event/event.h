/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * event - from a record to what is published: topic and CloudEvents 1.0 payload (structured JSON).
 *
 * Pure: a record and the format in, strings out. domain.c extracts name, uuid, title, vCPUs, memory
 * and listed metadata from the document, topic.c fills in the topic, json-writer.c the JSON. A
 * document that cannot be parsed does not stop an event: the event then has what the hook's
 * arguments say.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "hook/record.h"
#include "spooler/config/config.h"
#include "spooler/event/verifiable.h"

#define EVENT_CONTENT_TYPE "application/cloudevents+json"

struct event {
	char *topic;
	char *payload;
	size_t payload_size;
	char *domain;	    /* name, valid UTF-8, for the log and the filters */
	char uuid[37];	    /* of the domain or network; "" if the document has none */
	bool xml;	    /* the document is in it, as events.xml says */
	bool xml_omitted;   /* it would be, and was left out */
	json_t *attributes; /* the event without its data, if the configuration says events.sign */
};

/* Builds the event. Returns 0; -EBADMSG with a sentence in *ret_reason (static) if nothing valid
   can be made of the record (it belongs into failed/), or -ENOMEM. */
int event_build(const struct config *c, const struct record *r, bool replayed,
		struct event *ret_event, const char **ret_reason);
/* The same without the document, where the broker does not take an event of that size; the member
   xml_omitted of its data says so. */
int event_build_without_xml(const struct config *c, const struct record *r, bool replayed,
			    struct event *ret_event, const char **ret_reason);
void event_release(struct event *e);

/*
 * To sign an event: event_parts() lists what is signed (the parts live as long as the event), and
 * event_attach() puts the signature into the payload. -EBADMSG does not happen to an event of ours;
 * -ENOMEM.
 */
int event_parts(const struct event *e, struct verifiable *ret_parts);
int event_attach(struct event *e, const char *material);

/* Numbers of an epoch, from first to last. */
struct event_range {
	char epoch[33];
	uint64_t first, last;
};

/* What a host reports about itself. Strings that are not known are NULL. */
struct event_status {
	bool online;
	bool will;	     /* published by the broker, at a time that is not known now */
	const char *boot_id; /* 32 lower-case hexadecimal digits */
	const char *epoch;   /* with the highest sequence number in it */
	uint64_t sequence;
	const char *certificate;	/* the host's, base64 of its DER form */
	const struct event_range *lost; /* events that will never come */
	size_t n_lost;
};

/* An event for the status topic. Its topic is NULL if the configuration has no status topic.
   Returns 0 or -ENOMEM. */
int event_build_status(const struct config *c, const struct event_status *s,
		       struct event *ret_event);

/* Do the filters of the configuration let it pass? */
bool event_wanted(const struct config *c, const struct record *r, const struct event *e);
