/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tree - a test's temporary directory tree: removed with everything in it. Include it after the
   headers that define _GNU_SOURCE. */
#pragma once

#include <ftw.h>
#include <stdio.h>

static int tree_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* 0, or nftw()'s error. Links are removed and not followed. */
static int tree_remove(const char *top)
{
	return nftw(top, tree_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
