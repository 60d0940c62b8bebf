/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* page - the files of spooler/recorder/page/ and the API's description, as bytes in the program.
   page-data.c is made from them by scripts/embed. */
#pragma once

#include <stddef.h>

struct page_file {
	const char *path; /* of the URL */
	const char *type;
	const char *etag; /* with its quotes */
	const unsigned char *data;
	size_t size;
};

extern const struct page_file page_files[];
extern const size_t page_n_files;

/* The file of this path, or NULL. */
const struct page_file *page_find(const char *path);
