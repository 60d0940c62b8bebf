/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lines - lines that come in any order and are printed in the order of a key.
 *
 *	struct lines l = {0};
 *
 *	lines_begin(&l, name);		each line: its key,
 *	lines_add(&l, text, n);		and its text, in as many pieces as the caller likes
 *	r = lines_print(&l, stdout);
 *	lines_release(&l);
 *
 * Keys, and lines with the same key, are ordered by their bytes. All lines are in memory until they
 * are released.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct line;

struct lines {
	/* lines.c's; zero at first */
	char *bytes; /* of each line its key, a NUL and its text */
	size_t used, room;
	struct line *all;
	size_t n, most;
	bool failed; /* there was no memory */
};

/* If there is no memory, both remember it, and all later calls do nothing. */
void lines_begin(struct lines *l, const char *key);
void lines_add(struct lines *l, const char *text, size_t n);
/* Prints all lines. Returns 0, or -ENOMEM without having printed; the stream keeps what else failed. */
int lines_print(struct lines *l, FILE *f);
void lines_release(struct lines *l);
