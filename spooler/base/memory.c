/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* memory - see memory.h. */
#include <stdint.h>
#include <sys/mman.h>

#include "spooler/base/memory.h"

#define LARGE ((size_t)2 << 20)

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
