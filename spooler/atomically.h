/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* atomically - a file that readers see whole: the old one or the new one, never half of it. */
#pragma once

#include <stddef.h>

/* Replaces dir/name by the text, atomically: written beside it and renamed. */
int write_file_atomically(const char *dir, const char *name, const char *text, size_t size, unsigned mode);
