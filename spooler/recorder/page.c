/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* page - see page.h. */
#include <string.h>

#include "spooler/recorder/page.h"

const struct page_file *page_find(const char *path)
{
	for (size_t i = 0; i < page_files_n; i++)
		if (strcmp(page_files[i].path, path) == 0)
			return &page_files[i];
	return NULL;
}
