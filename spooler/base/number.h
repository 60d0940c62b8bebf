/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* number - whole numbers of command lines and configurations: digits only, and nothing that does
   not fit is cut to what does. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Takes the digits off the front of *s. False, with *s and *ret untouched: there are none, or the
   number is larger than UINT64_MAX. */
bool number_take(const char **s, uint64_t *ret);

/* A whole text: a number, perhaps followed by one of these units, a character each with its factor.
   False: it is something else, or too large. */
bool number_parse(const char *s, const char *units, const uint64_t *factors, uint64_t *ret);
