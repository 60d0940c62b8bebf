/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * utf8 - is it UTF-8 (RFC 3629), and what to show where it is not.
 *
 * libvirt and guests deliver bytes; MQTT and JSON want UTF-8. Overlong forms, surrogates
 * and what lies beyond U+10FFFF are as invalid as a stray byte, and so is U+0000, which neither
 * MQTT nor many databases take.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool utf8_valid(const char *s, size_t size);

/* The character at the start of s, of which size > 0 bytes are there. Returns its length in
   bytes; 0 if there is no valid one. */
size_t utf8_decode(const char *s, size_t size, uint32_t *ret_c);

/* Copies s into buf with each byte that is not part of a valid character replaced by U+FFFD. buf
   takes up to 3 * size bytes. Returns the length; no 0 is added. */
size_t utf8_replace(const char *s, size_t size, char *buf);

/* The same, and control characters (C0, DEL, C1) and noncharacters are replaced as well: what
   may stand in a line of a log, and in a CloudEvents attribute. */
size_t utf8_replace_controls(const char *s, size_t size, char *buf);
