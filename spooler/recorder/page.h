/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* page - files as bytes in the program, made by scripts/embed: those of spooler/recorder/page/ with
   the API's description (page-data.c), and examples of configurations (examples.c). */
#pragma once

#include <stddef.h>

struct page_file {
	const char *path; /* of the URL, or the file's name */
	const char *type;
	const char *etag; /* with its quotes */
	const unsigned char *data;
	size_t size;
};

extern const struct page_file page_files[];
extern const size_t page_files_n;
extern const struct page_file examples[];
extern const size_t examples_n;

/* The file of this path, or NULL. */
const struct page_file *page_find(const char *path);
