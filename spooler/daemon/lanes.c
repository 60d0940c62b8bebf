/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lanes - see lanes.h. Two domains whose hashes are the same share a lane: one waits with the
   other, no more. */
#include "spooler/daemon/lanes.h"
#include "spooler/base/util.h"

static uint64_t fnv1a(uint64_t hash, const char *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ (unsigned char)data[i]) * 0x100000001b3;
	return hash;
}

uint64_t lane_key(const struct record *record)
{
	uint64_t hash = fnv1a(0xcbf29ce484222325, record->driver.data, record->driver.size);

	hash = fnv1a(hash, "/", 1);
	return fnv1a(hash, record->object.data, record->object.size);
}

struct lane *lanes_find(struct lanes *l, uint64_t key)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->closed[i].key == key)
			return &l->closed[i];
	return NULL;
}

struct lane *lanes_close(struct lanes *l, uint64_t key)
{
	if (l->n == LANES_MAX)
		return NULL;
	l->closed[l->n] = (struct lane){.key = key};
	return &l->closed[l->n++];
}

void lanes_open(struct lanes *l, struct lane *lane)
{
	*lane = l->closed[--l->n];
	for (size_t i = 0; i < l->n; i++)
		l->closed[i].retry_usec = 0;
	l->denials = 0;
}

bool lanes_may_be_denied(struct lanes *l, uint64_t now_usec)
{
	uint64_t leaked = (now_usec - l->denials_usec) / LANES_DENIAL_USEC;

	l->denials = leaked >= l->denials ? 0 : l->denials - (unsigned)leaked;
	l->denials_usec = l->denials == 0 ? now_usec : l->denials_usec + leaked * LANES_DENIAL_USEC;
	return l->denials < LANES_DENIALS_PER_MINUTE;
}

void lanes_count_denial(struct lanes *l)
{
	l->denials++;
}

void lanes_forget_probes(struct lanes *l)
{
	for (size_t i = 0; i < l->n; i++)
		l->closed[i].probing = false;
}

void lanes_forget_waiting(struct lanes *l)
{
	for (size_t i = 0; i < l->n; i++)
		l->closed[i].waiting = false;
}

uint64_t lanes_next_retry(const struct lanes *l, uint64_t now_usec)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; i < l->n; i++) {
		const struct lane *lane = &l->closed[i];

		if (lane->retry_usec > now_usec)
			first = lane->retry_usec < first ? lane->retry_usec : first;
		else if (lane->waiting && !lane->probing)
			return now_usec;
	}
	return first;
}
