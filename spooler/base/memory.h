/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* memory - large pieces of it. */
#pragma once

#include <stddef.h>

/* In pages of 2 MiB, where the kernel has them (transparent huge pages): the first use of each costs
   one fault instead of 512. Zeroed, and for the rest of the process's life; NULL: there is none. */
void *memory_large(size_t size);
