/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* denied - see denied.h. Two domains whose hashes are the same share a key: the one waits with the
   other, no more. */
#include "spooler/base/util.h"
#include "spooler/daemon/denied.h"

static uint64_t fnv1a(uint64_t hash, const char *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ (unsigned char)data[i]) * 0x100000001b3;
	return hash;
}

uint64_t ordering_key(const struct record *record)
{
	uint64_t hash = fnv1a(0xcbf29ce484222325, record->driver.data, record->driver.size);

	hash = fnv1a(hash, "/", 1);
	return fnv1a(hash, record->object.data, record->object.size);
}

struct denied_key *denied_find(const struct denied *d, uint64_t key)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->keys[i].key == key)
			return (struct denied_key *)&d->keys[i];
	return NULL;
}

struct denied_key *denied_add(struct denied *d, uint64_t key)
{
	if (d->n == DENIED_MAX)
		return NULL;
	d->keys[d->n] = (struct denied_key){.key = key};
	return &d->keys[d->n++];
}

void denied_remove(struct denied *d, struct denied_key *k)
{
	*k = d->keys[--d->n];
	denied_retry_all(d);
}

void denied_retry_soon(struct denied *d)
{
	for (size_t i = 0; i < d->n; i++)
		d->keys[i].retry_usec = 0;
}

void denied_retry_all(struct denied *d)
{
	denied_retry_soon(d);
	d->attempts = 0;
}

bool denied_last_is_due(const struct denied *d, uint64_t now_usec)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->keys[i].ends_connection && d->keys[i].waiting > 0 && !d->keys[i].trying &&
		    d->keys[i].retry_usec <= now_usec)
			return true;
	return false;
}

bool denied_may_try(struct denied *d, uint64_t now_usec)
{
	uint64_t leaked = (now_usec - d->attempts_usec) / DENIED_USEC;

	d->attempts = leaked >= d->attempts ? 0 : d->attempts - (unsigned)leaked;
	d->attempts_usec = d->attempts == 0 ? now_usec : d->attempts_usec + leaked * DENIED_USEC;
	return d->attempts < DENIED_PER_MINUTE;
}

void denied_count_attempt(struct denied *d)
{
	if (d->attempts < DENIED_PER_MINUTE) /* a longer row of refusals is not paid for later */
		d->attempts++;
}

void denied_forget_attempts(struct denied *d)
{
	for (size_t i = 0; i < d->n; i++)
		d->keys[i].trying = false;
}

uint64_t denied_waiting(const struct denied_key *k)
{
	return k->waiting > k->known ? k->waiting : k->known;
}

void denied_forget_waiting(struct denied *d)
{
	for (size_t i = 0; i < d->n; i++) {
		struct denied_key *k = &d->keys[i];

		if (k->waiting > 0)
			k->known = k->waiting;
		k->waiting = 0;
	}
}

uint64_t denied_next_retry(const struct denied *d, uint64_t now_usec)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; i < d->n; i++) {
		const struct denied_key *k = &d->keys[i];

		if (k->retry_usec > now_usec)
			first = k->retry_usec < first ? k->retry_usec : first;
		else if (k->waiting > 0 && !k->trying)
			return now_usec;
	}
	return first;
}
