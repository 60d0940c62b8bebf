/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* listing - an event as one line on stdout: columns for people, or a JSON object. */
#pragma once

#include <stdbool.h>

#include "lookup.h"

/* Read with LOOKUP_REASON; for JSON with LOOKUP_UUID as well, or it has none. */
void listing_heading(bool colour);
void listing_line(const struct found *f, bool colour);
void listing_json(const struct found *f);
