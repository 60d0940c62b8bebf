/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* memory - see memory.h. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "spooler/base/memory.h"

#define LARGE ((size_t)2 << 20)
#define ROOM_FIRST 64

void *memory_large(size_t size)
{
	/* What is not used of it takes addresses only. */
	char *begin = mmap(NULL, size + LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);

	if (begin == MAP_FAILED)
		return NULL;
	begin += -(uintptr_t)begin % LARGE;
	(void)madvise(begin, size, MADV_HUGEPAGE);
	return begin;
}

int memory_reserve(void *list, size_t *room, size_t wanted, size_t size)
{
	size_t n = *room ? *room : ROOM_FIRST;
	void *old, *p;

	if (wanted <= *room)
		return 0;
	while (n < wanted)
		n *= 2;
	memcpy(&old, list, sizeof(old)); /* it may be a pointer to anything */
	p = reallocarray(old, n, size);
	if (!p)
		return -ENOMEM;
	memcpy(list, &p, sizeof(p));
	*room = n;
	return 0;
}
