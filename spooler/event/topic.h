/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * topic - from a template like "virtspool/v1/{host}/{driver}/{uuid}/{operation}" to an MQTT topic.
 *
 * Pure. A template is checked once, when the configuration is read (topic-template.h);
 * topic_format() of a checked template cannot make a topic that MQTT forbids, whatever the values
 * are (see topic.c).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hook/record.h"
#include "spooler/config/topic-template.h"

/*
 * Fills in the values. An empty value becomes "-"; a value is cut to RECORD_VALUE_MAX bytes.
 * Returns 0 and a string to be freed; -EINVAL for a template that topic_check() would refuse;
 * -ENOMEM.
 */
int topic_format(const char *template, const struct bytes values[TOPIC_FIELDS], char **ret_topic);

/*
 * The filter that matches every topic that the template can make: a level with a field in it
 * becomes `+`. A string to be freed; -ENOMEM.
 */
int topic_filter(const char *template, char **ret_filter);

/* The way back: the host that a topic names, decoded, if the topic is one of the template's. */
bool topic_host(const char *template, const char *topic, char ret_host[static 256]);
/* Percent-decodes a host's name of n bytes; false if it is not UTF-8 without control characters. */
bool topic_decode_host(const char *text, size_t n, char ret_host[static 256]);

/*
 * Percent-encodes (RFC 3986) all but the unreserved characters and those in `also`, as long as it
 * fits in size with the 0 at its end. Returns the length of what was written. 3 * n + 1 bytes
 * always suffice.
 */
size_t percent_encode(struct bytes value, const char *also, char *buf, size_t size);
