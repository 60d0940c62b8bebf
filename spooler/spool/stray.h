/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stray - files in the spool's directories that are not events: their name is not an id.
 *
 * An administrator or a broken program put them there. They are shown and can be removed by their
 * name, escaped as in a record: one line of ASCII that can be typed and names this file only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stray {
	unsigned place;	   /* the directory, as the caller numbers them */
	char *name;	   /* as the directory has it: any bytes */
	char *text;	   /* escaped */
	uint64_t size, ms; /* when it was written, since 1970 */
	bool regular;
};

struct stray_list {
	struct stray *entries;
	size_t n, allocated;
};

/* Is this file a stray? NAME.reason beside a failed event is not. */
bool stray_is(int dir_fd, const char *name);
/* Adds it to the list, unless it is gone. -ENOMEM. */
int stray_add(struct stray_list *l, unsigned place, int dir_fd, const char *name);
void stray_sort(struct stray_list *l, bool newest_first);
/* Keeps the first `n` only. */
void stray_cut(struct stray_list *l, size_t n);
void stray_clear(struct stray_list *l);

/* Why it is not an event. */
const char *stray_problem(const struct stray *f);

/* The escaped name, as in stray.text: "a%0Ab.txt"; to be freed. NULL without memory. */
char *stray_escape(const char *name);
/* Back from the escaped form to the name. False for text that is not exactly that form. */
bool stray_unescape(const char *text, char *ret_name, size_t size);
