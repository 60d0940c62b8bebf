/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* source-file - a file of the source tree as text, for tests that compare it with the program.
   Include it after <cmocka.h>. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

/* To be freed. `name` is below the top of the tree. */
static char *file_of_source(const char *name)
{
	const char *srcdir = getenv("srcdir");
	char path[4096], *text = NULL;
	size_t size = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", srcdir ? srcdir : ".", name);
	f = fopen(path, "r");
	if (!f)
		fail_msg("cannot open '%s'", path);
	if (getdelim(&text, &size, 0, f) < 0)
		fail_msg("cannot read '%s'", path);
	fclose(f);
	return text;
}
