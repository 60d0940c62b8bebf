/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stray - what lies in a directory of the spool and does not have an event's id as its name.
 *
 * Nobody but an administrator, or a program gone astray, puts such a thing there. It is shown, and
 * can be removed, under its name, escaped as in a record: one line of ASCII that can be typed and
 * means this file only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stray {
	unsigned place;	   /* the caller's: which directory it was found in */
	char *name;	   /* as the directory has it: any bytes */
	char *text;	   /* escaped */
	uint64_t size, ms; /* when it was written, since 1970 */
	bool regular;
};

struct stray_list {
	struct stray *entries;
	size_t n, allocated;
};

/* Is this name in this directory one of those? The reason that lies beside what has failed
   belongs to that. */
bool stray_is(int dir_fd, const char *name);
/* Notes it, or passes over what is gone. -ENOMEM. */
int stray_add(struct stray_list *l, unsigned place, int dir_fd, const char *name);
void stray_sort(struct stray_list *l, bool newest_first);
/* Keeps the first `n` only. */
void stray_cut(struct stray_list *l, size_t n);
void stray_clear(struct stray_list *l);

/* What is wrong with it, in words. */
const char *stray_problem(const struct stray *f);

/* "what can a%0Ab.txt": as stray.text; to be freed. NULL without memory. */
char *stray_escape(const char *name);
/* From the escaped form, and from no other, back to the name. False if it is none. */
bool stray_unescape(const char *text, char *ret_name, size_t size);
