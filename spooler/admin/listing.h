/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* listing - what is in the spool, a line each on stdout: columns for people, or a JSON object. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "spooler/spool/lookup.h"

struct listing {
	bool json;
	bool colour;	/* its own */
	uint64_t lines; /* so far, without the heading */
};

/* What lookup_read() must be asked for. */
unsigned listing_wants(const struct listing *g);
void listing_event(struct listing *g, const struct found *f);
void listing_stray(struct listing *g, const struct lookup *l, const struct stray *f);

/* The objects; they are the caller's. */
json_t *listing_event_json(const struct found *f);
json_t *listing_stray_json(const struct lookup *l, const struct stray *f);
