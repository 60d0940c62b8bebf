/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * foreign - what lies in a directory of the spool and does not have an event's id as its name.
 *
 * Nobody but an administrator, or a program gone astray, puts such a thing there. It is shown, and can be removed,
 * under its name, escaped as in a record: one line of ASCII that can be typed and means this file only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct foreign {
	unsigned place;	   /* the caller's: which directory it was found in */
	char *name;	   /* as the directory has it: any bytes */
	char *text;	   /* escaped */
	uint64_t size, ms; /* when it was written, since 1970 */
	bool regular;
};

struct foreign_list {
	struct foreign *entries;
	size_t n, allocated;
};

/* Is this name in this directory one of those? The reason that lies beside what has failed belongs to that. */
bool foreign_is(int dir_fd, const char *name);
/* Notes it, or passes over what is gone. -ENOMEM. */
int foreign_add(struct foreign_list *l, unsigned place, int dir_fd, const char *name);
void foreign_sort(struct foreign_list *l, bool newest_first);
/* Keeps the first `n` only. */
void foreign_cut(struct foreign_list *l, size_t n);
void foreign_clear(struct foreign_list *l);

/* What is wrong with it, in words. */
const char *foreign_problem(const struct foreign *f);

/* "what can a%0Ab.txt": as foreign.text; to be freed. NULL without memory. */
char *foreign_escape(const char *name);
/* From the escaped form, and from no other, back to the name. False if it is none. */
bool foreign_unescape(const char *text, char *ret_name, size_t size);
