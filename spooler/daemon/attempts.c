/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* attempts - see attempts.h. A table without order: it is short, and looked through only when
   something went wrong. */
#include "spooler/daemon/attempts.h"
#include "spooler/base/util.h"

static size_t find(const struct attempts *a, const struct spool_id *e)
{
	size_t i = 0;

	while (i < a->n && spool_id_compare(&a->table[i].entry, e) != 0)
		i++;
	return i;
}

const struct attempt *attempts_find(const struct attempts *a, const struct spool_id *e)
{
	size_t i = find(a, e);

	return i < a->n ? &a->table[i] : NULL;
}

void attempts_note(struct attempts *a, const struct spool_id *e, const char *topic, const char *why)
{
	size_t i = find(a, e);

	for (size_t k = 0; i == ATTEMPTS_MAX && k < ATTEMPTS_MAX; k++)
		if (a->table[k].key == 0) { /* those that others wait for are kept */
			attempts_forget(a, &a->table[k].entry);
			i = a->n;
		}
	if (i == ATTEMPTS_MAX)
		return;
	if (i == a->n)
		a->table[a->n++] = (struct attempt){.entry = *e};
	a->table[i].count++;
	(void)snprintf(a->table[i].why, sizeof(a->table[i].why), "%s", why);
	if (topic)
		(void)snprintf(a->table[i].topic, sizeof(a->table[i].topic), "%s", topic);
	a->table[i].key = a->table[i].next_usec = a->table[i].waiting = 0;
}

void attempts_note_retry(struct attempts *a, const struct spool_id *e, uint64_t key,
			 uint64_t next_usec)
{
	size_t i = find(a, e);

	if (i == a->n)
		return;
	a->table[i].key = key;
	a->table[i].next_usec = next_usec;
}

void attempts_forget(struct attempts *a, const struct spool_id *e)
{
	size_t i = find(a, e);

	if (i < a->n)
		a->table[i] = a->table[--a->n];
}
