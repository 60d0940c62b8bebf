/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* atomic-file - what readers see whole: the old file or the new one, never half of it; here or
   there, never in both. */
#pragma once

#include <stddef.h>

/* Replaces dir/name by the text, atomically: written beside it and renamed. */
int atomic_file_write(const char *dir, const char *name, const char *text, size_t size,
		      unsigned mode);
/* Also synced before it is renamed: a power cut leaves the old file or the new one. */
int atomic_file_write_synced(const char *dir, const char *name, const char *text, size_t size,
			     unsigned mode);
/* Moves a file into another directory of the same file system, under its name: -EEXIST if there
   is one so called. */
int atomic_file_move(int from_fd, const char *name, int to_fd);
