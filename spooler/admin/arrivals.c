/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* arrivals - see arrivals.h. Two trees of tsearch(); the ids lie in a ring, the oldest is
   replaced. */
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/admin/arrivals.h"
#include "spooler/base/util.h"

#define SEEN_MAX 65536

/* One epoch of one source. */
struct follower {
	char *key;
	struct sequence sequence;
};

struct arrivals {
	void *followers;
	void *seen;
	char (*ring)[64];
	size_t next;
};

static int compare_strings(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int compare_followers(const void *a, const void *b)
{
	return strcmp(((const struct follower *)a)->key, ((const struct follower *)b)->key);
}

static void free_follower(void *p)
{
	struct follower *f = p;

	free(f->key);
	free(f);
}

static void keep_node(void *p)
{
	/* it lies in the ring */
}

struct arrivals *arrivals_new(void)
{
	struct arrivals *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->ring = calloc(SEEN_MAX, sizeof(*a->ring));
	if (!a->ring) {
		free(a);
		return NULL;
	}
	return a;
}

void arrivals_free(struct arrivals *a)
{
	if (!a)
		return;
	tdestroy(a->followers, free_follower);
	tdestroy(a->seen, keep_node);
	free(a->ring);
	free(a);
}

bool arrivals_note_id(struct arrivals *a, const char *source, const char *id)
{
	char *slot = a->ring[a->next], key[64];
	uint64_t h = 0xcbf29ce484222325;

	for (const char *s = source; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3;
	(void)snprintf(key, sizeof(key), "%016" PRIx64 "/%.40s", h, id);
	if (tfind(key, (void *const *)&a->seen, compare_strings))
		return false;
	if (slot[0])
		(void)tdelete(slot, &a->seen, compare_strings);
	(void)snprintf(slot, sizeof(key), "%s", key);
	(void)tsearch(slot, &a->seen, compare_strings); /* without memory a repetition is new */
	a->next = (a->next + 1) % SEEN_MAX;
	return true;
}

static struct sequence *follow(struct arrivals *a, const char *source, const char *epoch)
{
	struct follower *f = calloc(1, sizeof(*f)), **node;

	if (!f || asprintf(&f->key, "%s %s", source, epoch) < 0) {
		free(f);
		return NULL;
	}
	node = tsearch(f, &a->followers, compare_followers);
	if (!node || *node != f)
		free_follower(f);
	return node ? &(*node)->sequence : NULL;
}

enum sequence_meaning arrivals_note_number(struct arrivals *a, const char *source,
					   const char *epoch, uint64_t number, uint64_t *ret_first)
{
	struct sequence *s = follow(a, source, epoch);
	uint64_t before;
	enum sequence_meaning meaning;

	if (!s || number == 0)
		return SEQUENCE_NEXT;
	before = s->highest;
	meaning = sequence_see(s, epoch, number);
	if (meaning == SEQUENCE_HOLE)
		*ret_first = before + 1;
	return meaning;
}
