/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lines - see lines.h. */
#include "spooler/recorder/lines.h"

#include <endian.h>

#include "spooler/base/memory.h"
#include "spooler/base/util.h"

/* The key's first bytes decide most comparisons. Of 32 bytes, the most that qsort() moves as they are. */
struct line {
	uint64_t prefix[2];
	size_t at, size; /* of key, NUL and text, in `bytes` */
};

void lines_add(struct lines *l, const char *text, size_t n)
{
	if (l->failed || memory_reserve(&l->bytes, &l->room, l->used + n, 1) < 0) {
		l->failed = true;
		return;
	}
	memcpy(l->bytes + l->used, text, n);
	l->used += n;
}

void lines_begin(struct lines *l, const char *key)
{
	size_t size = strlen(key) + 1;
	struct line *line;

	if (l->failed || memory_reserve(&l->all, &l->most, l->n + 1, sizeof(*line)) < 0) {
		l->failed = true;
		return;
	}
	line = &l->all[l->n++];
	*line = (struct line){.at = l->used};
	memcpy(line->prefix, key, size < sizeof(line->prefix) ? size : sizeof(line->prefix));
	for (size_t i = 0; i < ELEMENTSOF(line->prefix); i++)
		line->prefix[i] = be64toh(line->prefix[i]);
	lines_add(l, key, size);
}

/* No key has a NUL, so key and text are compared as one. */
static int compare(const void *p, const void *q, void *userdata)
{
	const char *bytes = userdata;
	const struct line *a = p, *b = q;
	int order;

	for (size_t i = 0; i < ELEMENTSOF(a->prefix); i++)
		if (a->prefix[i] != b->prefix[i])
			return a->prefix[i] < b->prefix[i] ? -1 : 1;
	order = memcmp(bytes + a->at, bytes + b->at, a->size < b->size ? a->size : b->size);
	return order ? order : (a->size > b->size) - (a->size < b->size);
}

int lines_print(struct lines *l, FILE *f)
{
	if (l->failed)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++)
		l->all[i].size = (i + 1 < l->n ? l->all[i + 1].at : l->used) - l->all[i].at;
	if (l->n > 0)
		qsort_r(l->all, l->n, sizeof(*l->all), compare, l->bytes);
	for (size_t i = 0; i < l->n; i++) {
		const char *line = l->bytes + l->all[i].at;
		size_t key = strlen(line) + 1;

		(void)fwrite(line + key, 1, l->all[i].size - key, f);
	}
	return 0;
}

void lines_release(struct lines *l)
{
	free(l->all);
	free(l->bytes);
	*l = (struct lines){0};
}
