/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* spoolid - see spoolid.h. */
#include "hook/stamp.h"
#include "spooler/base/hex.h"
#include "spooler/spool/spoolid.h"
#include "spooler/base/util.h"

#define ID_SIZE 16

bool spool_id_parse(const char *name, struct spool_id *ret_id)
{
	if (!stamp_id_valid(name) || !uuid_parse(name, ret_id->id))
		return false;
	ret_id->source = 0;
	return true;
}

void spool_id_name(const struct spool_id *e, char ret_name[static 37])
{
	uuid_format(e->id, ret_name);
}

uint64_t spool_id_ms(const struct spool_id *e)
{
	uint64_t ms = 0;

	for (size_t i = 0; i < 6; i++)
		ms = ms << 8 | e->id[i];
	return ms;
}

int spool_id_compare(const void *a, const void *b)
{
	return memcmp(((const struct spool_id *)a)->id, ((const struct spool_id *)b)->id, ID_SIZE);
}

static unsigned nibble(const struct spool_id *e, size_t i)
{
	return i % 2 ? e->id[i / 2] & 15 : e->id[i / 2] >> 4;
}

size_t spool_id_common(const struct spool_id *a, const struct spool_id *b)
{
	size_t n = 0;

	while (n < 2 * ID_SIZE && nibble(a, n) == nibble(b, n))
		n++;
	return n + (n >= 8) + (n >= 12) + (n >= 16) + (n >= 20); /* the dashes */
}

static int compare_newest(const void *a, const void *b)
{
	return spool_id_compare(b, a);
}

static int compare(bool newest, const struct spool_id *a, const struct spool_id *b)
{
	return newest ? spool_id_compare(b, a) : spool_id_compare(a, b);
}

uint64_t spool_bytes_on_disk(const struct stat *st)
{
	return (uint64_t)st->st_blocks * 512;
}

bool spool_is_dots(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

size_t id_list_find(const struct id_list *l, const struct spool_id *e)
{
	size_t low = 0, high = l->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare(l->newest, &l->entries[middle], e) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void id_list_clear(struct id_list *s)
{
	free(s->entries);
	*s = (struct id_list){.newest = s->newest};
}

static void swap_entries(struct spool_id *a, struct spool_id *b)
{
	struct spool_id t = *a;

	*a = *b;
	*b = t;
}

/* Orders the array so that the k first ids stand in its first k places (quickselect, median of
   three). */
static void select_first(struct spool_id *a, size_t n, size_t k, bool newest)
{
	while (n > 1) {
		struct spool_id *mid = a + n / 2, *last = a + n - 1, pivot;
		size_t i = 0, j = n - 1;

		if (compare(newest, mid, a) < 0)
			swap_entries(mid, a);
		if (compare(newest, last, a) < 0)
			swap_entries(last, a);
		if (compare(newest, last, mid) < 0)
			swap_entries(last, mid);
		pivot = *mid;
		for (;;) {
			while (compare(newest, a + i, &pivot) < 0)
				i++;
			while (compare(newest, a + j, &pivot) > 0)
				j--;
			if (i >= j)
				break;
			swap_entries(a + i++, a + j--);
		}
		if (k <= j + 1) {
			if (n == j + 1) /* all equal: cannot be, ids are unique; never loop on it */
				return;
			n = j + 1;
		} else {
			a += j + 1;
			n -= j + 1;
			k -= j + 1;
		}
	}
}

int id_list_add(struct id_list *s, const struct spool_id *e, size_t limit)
{
	if (s->n == 2 * limit) {
		select_first(s->entries, s->n, limit, s->newest);
		s->n = limit; /* and one more, from which the end will see that it is not all */
	}
	if (s->n == s->allocated) {
		size_t wanted = s->allocated ? 2 * s->allocated : 64;
		struct spool_id *grown;

		if (wanted > 2 * limit)
			wanted = 2 * limit;
		grown = reallocarray(s->entries, wanted, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		s->entries = grown;
		s->allocated = wanted;
	}
	s->entries[s->n++] = *e;
	return 0;
}

void id_list_sort(struct id_list *s, size_t limit)
{
	if (s->n > limit) {
		select_first(s->entries, s->n, limit, s->newest);
		s->n = limit;
		s->partial = true;
	}
	if (s->n > 0)
		qsort(s->entries, s->n, sizeof(*s->entries),
		      s->newest ? compare_newest : spool_id_compare);
}

void id_list_unique(struct id_list *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		if (n == 0 || spool_id_compare(&s->entries[i], &s->entries[n - 1]) != 0)
			s->entries[n++] = s->entries[i];
	s->n = n;
}
