/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * topic-template - the syntax of "virtspool/v1/{host}/{driver}/{uuid}/{operation}". Templates are
 * checked when the configuration is read; spooler/event/topic.h fills them in.
 */
#pragma once

#include <stddef.h>

#define TOPIC_MAX 65535		/* MQTT: a string's length is sent in 16 bits */
#define TOPIC_TEMPLATE_MAX 1024 /* bytes of a template */
#define TOPIC_HOST_MAX 255	/* bytes of {host} */

enum topic_field {
	TOPIC_HOST,
	TOPIC_DRIVER,
	TOPIC_UUID,
	TOPIC_NAME,
	TOPIC_OPERATION,
	TOPIC_SUBOPERATION,
	TOPIC_EPOCH,
	TOPIC_FIELDS,
};
#define TOPIC_ALL_FIELDS ((1U << TOPIC_FIELDS) - 1)

/* The most bytes that a field's value may have before it is percent-encoded. */
size_t topic_field_max(enum topic_field field);

/*
 * The field whose "{" stands before s. Returns its number, with *ret_end after its "}", or -1 if it
 * is not one.
 */
int topic_field_parse(const char *s, const char **ret_end);

/*
 * May this template be used, and does it use only fields in the set `allowed` (bits 1 << enum
 * topic_field)? Returns 0, or -EINVAL with a constant sentence in *ret_why that says what is wrong
 * and what is allowed.
 */
int topic_check(const char *template, unsigned allowed, const char **ret_why);
