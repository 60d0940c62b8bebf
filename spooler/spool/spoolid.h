/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * spoolid - the names in a spool: ids as 16 bytes, and bounded sorted lists of them.
 *
 * A directory may hold a million records. A struct id_list takes one name after the other and keeps
 * the oldest (or the newest) of them in bounded memory: a pass over the directory costs no more
 * than the names it returns.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct spool_id {
	unsigned char id[16];
	unsigned char source; /* the caller's: which directory it was found in */
};

/* From a file's name; false if it is not a record's. source becomes 0. */
bool spool_id_parse(const char *name, struct spool_id *ret_id);
void spool_id_name(const struct spool_id *e, char ret_name[static 37]);
/* The id's time, ms since 1970. */
uint64_t spool_id_ms(const struct spool_id *e);
/* How many characters two names have in common at the front. */
size_t spool_id_common(const struct spool_id *a, const struct spool_id *b);
/* For qsort() and the like: the order of the ids, which is that of the transitions. */
int spool_id_compare(const void *a, const void *b);

/* Space as a limit counts it: a small file takes a whole block. */
uint64_t spool_bytes_on_disk(const struct stat *st);
/* "." and "..", which every directory has. */
bool spool_is_dots(const char *name);

struct id_list {
	struct spool_id *entries;
	size_t n, allocated;
	size_t position; /* the reader's */
	bool partial;	 /* more was added than is kept */
	bool newest;	 /* keep the newest, newest first, instead of the oldest */
};

/* Adds one; when there are twice `limit`, those that cannot be among the `limit` first are
   thrown away. -ENOMEM. */
int id_list_add(struct id_list *l, const struct spool_id *e, size_t limit);
/* Cuts the list to the `limit` first and sorts it. */
void id_list_sort(struct id_list *l, size_t limit);
/* Leaves one of each id in a sorted list. */
void id_list_unique(struct id_list *l);
/* Where this id stands in a sorted list, or would stand. */
size_t id_list_find(const struct id_list *l, const struct spool_id *e);
void id_list_clear(struct id_list *l);
