/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* memory - large pieces of it, and lists that grow. */
#pragma once

#include <stddef.h>

/* In pages of 2 MiB, where the kernel has them (transparent huge pages): the first use of each costs
   one fault instead of 512. Zeroed, and for the rest of the process's life; NULL: there is none. */
void *memory_large(size_t size);

/* Makes room for `wanted` items of `size` bytes each in a list that grows; *list is its pointer and *room
   what it has room for, both zero at first. Returns 0, or -ENOMEM with the list as it was. */
int memory_reserve(void *list, size_t *room, size_t wanted, size_t size);
