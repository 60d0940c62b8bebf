/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cloudevent - from a message to the columns of a row: topic and CloudEvents JSON in, struct out.
 *
 * Pure. A message is hostile until it has been looked at: types, lengths, and above all that the
 * host that the event names is the one that the topic names, since it is the topic to which the
 * broker binds a host's certificate.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spooler/recorder/guest.h"

#define CLOUDEVENT_PAYLOAD_MAX (24 * 1024 * 1024) /* a whole document, escaped as JSON */
#define CLOUDEVENT_TEXT_MAX 4096		  /* bytes of a name, an operation, a reason */
#define CLOUDEVENT_LOST_MAX 64			  /* ranges that a status report says are lost */

/* Stored in events.flags: never renumber. */
enum event_flags {
	EVENT_API = 1 << 0,	  /* of libvirt's event API, by virtspool-listen */
	EVENT_SECONDARY = 1 << 1, /* a hook reports this transition as well, and its event counts */
	EVENT_REPLAYED = 1 << 2,
	EVENT_UNORDERED = 1 << 3, /* its epoch is its own */
	EVENT_SIGNED = 1 << 4,	  /* it carries a signature */
	EVENT_VERIFIED = 1 << 5,  /* which was its host's, when it arrived */
	EVENT_UNSIGNED = 1 << 6,  /* it carried none, when signatures were looked at */
	EVENT_SPOOLER = 1 << 7,	  /* of virtspoold itself */
};

/* verified, unsigned, unknown (no certificate of its host had the key), unchecked (signatures were
   not looked at) */
const char *cloudevent_signature(unsigned flags);

enum cloudevent_kind { CLOUDEVENT_EVENT, CLOUDEVENT_STATUS };

struct cloudevent {
	enum cloudevent_kind kind;
	char host[256];
	int64_t time; /* us since 1970; of a status report 0 if it has none (a will) */
	bool has_epoch;
	unsigned char epoch[16];
	int64_t sequence;

	/* of an event */
	unsigned char id[16];
	unsigned flags;
	enum guest_call call;
	bool has_guest;
	unsigned char guest[16];
	const char *driver, *operation, *reason, *name; /* NULL: not said */

	/* of a status report */
	bool online;
	const char *boot;
	struct cloudevent_range {
		unsigned char epoch[16];
		int64_t first, last;
	} * lost; /* that never reached the host's spool, as it says */
	size_t n_lost;

	/* Only of a status report, and of a signed event until cloudevent_drop_tree(): the tree is
	   many times as large as what is needed of it. */
	json_t *json;
	char *text; /* of an event: where its texts are */
};

struct cloudevent_topics {
	const char *events, *status; /* templates, see spooler/event/topic.h; status may be NULL */
};

/*
 * Returns 0 and an event to be released; -EBADMSG with a sentence in `why` that says what is wrong;
 * -ENOMEM.
 */
int cloudevent_parse(const struct cloudevent_topics *topics, const char *topic, const void *payload,
		     size_t size, struct cloudevent *ret_event, char *why, size_t why_size);
void cloudevent_release(struct cloudevent *e);
/* Releases the tree of an event, whose signature has been looked at. */
void cloudevent_drop_tree(struct cloudevent *e);
