/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verifiable - which bytes of an event are signed: the CloudEvents verifiability extension
 * (cloudevents/extensions/verifiability.md), for those who sign and those who verify.
 *
 * The core parts are, in this order: id, source, specversion, type, datacontenttype, dataschema,
 * subject, time and data; an absent one is empty. The extension parts are the values of the listed
 * extensions. A time counts in UTC and whole seconds. The specification leaves open which bytes of
 * JSON data count: here they are the bytes as sent. data is the last member of the object, so they
 * begin after the first ,"data": and end before the last }, which blanks may follow.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "spooler/base/rfc3339.h"

#define VERIFIABLE_MATERIAL "dssematerial" /* the attribute that carries the signature */
#define VERIFIABLE_CORE 9
#define VERIFIABLE_EXTENSIONS 8

struct verifiable {
	struct iovec core[VERIFIABLE_CORE];
	const char *names[VERIFIABLE_EXTENSIONS]; /* static */
	struct iovec extensions[VERIFIABLE_EXTENSIONS];
	size_t n_extensions;
	char times[2][RFC3339_SIZE]; /* of time and recordedtime; parts point here */
};

/*
 * The parts of an event whose data is these bytes, with all extensions that it has signed. They
 * point into `event`, `data` and *ret itself. -EBADMSG if an attribute has a type that it must not
 * have.
 */
int verifiable_parts(const json_t *event, const char *data, size_t size, struct verifiable *ret);

/*
 * The same with the extensions that a signature lists, a JSON array of names, as a consumer needs
 * it. -EBADMSG also if the list is not allowed (a repetition, a core attribute, dssematerial) or
 * names an extension whose type is not known.
 */
int verifiable_parts_listed(const json_t *event, const char *data, size_t size, const json_t *names,
			    struct verifiable *ret);

/* Does the event have an extension that is not among the parts? */
bool verifiable_lacks_extension(const struct verifiable *v, const json_t *event);

/* Where the data lies in a payload: 0, or -EBADMSG. */
int verifiable_data(const char *payload, size_t size, const char **ret_data, size_t *ret_size);
