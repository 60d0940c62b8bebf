/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* record-parse - reads what hook/record.c wrote. */
#pragma once

#include <stddef.h>

#include "hook/record.h"

/*
 * Parses a whole record. data is changed in place (values are unescaped) and must outlive
 * ret_record, which points into it. Unknown header fields are ignored; an unknown version is not.
 * Returns 0, or -EBADMSG with *ret_reason set to a constant sentence that says what is wrong.
 */
int record_parse(char *data, size_t size, struct record *ret_record, const char **ret_reason);

/* As text_add_escaped(), as text to be freed; NULL without memory. */
char *record_escape(struct bytes b);
/* Takes the escapes of text_add_escaped() out, in place: *ret_value points into data. False if one
   is not whole. */
bool record_unescape(char *data, size_t size, struct bytes *ret_value);
