/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * json-writer - writes a JSON object into memory, member by member, as it will be sent.
 *
 * jansson builds a tree first and then prints it: that was two fifths of what an event cost the
 * daemon. An event is written once, in order, and never looked at again, so it needs no tree. For
 * everything else, and for the members of an event that are rare, there is jansson.
 *
 * Keys are names of ours: they need no escape. The writer does not look for a key that is written
 * twice. The caller begins with a zeroed struct, frees .text, and looks at .failed once, at the end.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_writer {
	char *text; /* .size bytes and a 0 */
	size_t size, allocated;
	bool failed; /* no memory: what is written is not whole */
};

/* Begins an object: the outermost one (key is NULL), or a member. */
void json_writer_open(struct json_writer *w, const char *key);
/* Ends it. */
void json_writer_close(struct json_writer *w);

/* The text must be valid UTF-8 (utf8_valid()). It is escaped as RFC 8259 section 7 demands, in the
   same way as by jansson. */
void json_writer_text(struct json_writer *w, const char *key, const char *text, size_t size);
void json_writer_integer(struct json_writer *w, const char *key, int64_t value);
void json_writer_boolean(struct json_writer *w, const char *key, bool value);
/* Takes the value over, as json_object_set_new() does: NULL is a failure. */
void json_writer_tree(struct json_writer *w, const char *key, json_t *value);
