/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lookup - finds records in the spool's directories, for the admin's tool. It only reads.
 *
 * Names sort by time, so a directory of a million records is one pass over its names, and a file is
 * opened only when it is shown or a filter needs its content. The daemon works on the same
 * directories meanwhile: a record that is gone when it is opened has moved on, and is skipped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hook/place.h"
#include "hook/record.h"
#include "spooler/spool/filter.h"
#include "spooler/spool/stray.h"
#include "spooler/spool/recordfile.h"
#include "spooler/spool/spoolid.h"

/* Sets of places. */
#define PLACE_BIT(place) (1U << (place))
#define PLACES_WAITING (PLACE_BIT(PLACE_NEW) | PLACE_BIT(PLACE_EMERGENCY) | PLACE_BIT(PLACE_REPLAY))
#define PLACES_ALL                                                                                 \
	(PLACES_WAITING | PLACE_BIT(PLACE_FAILED) | PLACE_BIT(PLACE_SENT) |                        \
	 PLACE_BIT(PLACE_SKIPPED)) /* that hold records */

/* "new" means every place of waiting events, "all" every place; otherwise it is one place's
   name. False for any other word. */
bool places_parse(const char *word, unsigned *ret_places);

struct lookup {
	int directories[N_PLACES]; /* -1: cannot be opened, see errors */
	int errors[N_PLACES];	   /* negative errno */
	struct record_buffer buffer;
	uint64_t seen;		  /* names within the filter's time in the last scan */
	struct stray_list strays; /* files that are not events in the last scan, by their time */
	uint64_t *progress; /* counted up with each name that lookup_count() reads; NULL: not */
};

/* Opens every directory that can be opened. -EACCES, -ENOENT and the like if new/ cannot be. */
int lookup_open(struct lookup *l);
void lookup_release(struct lookup *l);

/*
 * The names in these places within the filter's time, at most `limit` (the newest if list->newest,
 * else the oldest), sorted; each entry's source is its place.
 */
int lookup_scan(struct lookup *l, unsigned among, const struct filter *f, size_t limit,
		struct id_list *list);

/*
 * The only id with this prefix, which may be the whole id. Returns 1; 0 if there is none; -EEXIST
 * if there are several (one id in two places counts as one).
 */
int lookup_find(struct lookup *l, unsigned among, const char *prefix, struct spool_id *ret_id);

/* How many characters of its name make each of these ids unique (sorted, as lookup_scan() leaves
   them) from every other one in the spool. At least 8. One pass over all names. */
size_t lookup_unique_prefix(struct lookup *l, const struct id_list *ids);

struct found {
	struct spool_id id;
	char name[37];
	enum place place;
	size_t size;	      /* of the file */
	struct record record; /* zeroed where problem is set */
	const char *problem;  /* why it is not a record; NULL if it is one */
	char *reason;  /* failed/: why, as the daemon wrote it, without its newline; else NULL */
	char uuid[37]; /* of the domain; "" if not asked for */
};

enum lookup_want {
	LOOKUP_UUID = 1 << 0,	/* costs a look into the document */
	LOOKUP_REASON = 1 << 1, /* costs a second file, in failed/ only */
	LOOKUP_RAW = 1 << 2,	/* do not parse: the buffer holds the file as it is */
};

/* Reads it into the lookup's buffer, valid until the next call. -ENOENT: gone. */
int lookup_read(struct lookup *l, const struct spool_id *id, unsigned want,
		struct found *ret_found);
void found_release(struct found *f);

/* Does the filter match, its time aside? Looks for the UUID if the filter needs it. */
bool found_matches(struct found *found, const struct filter *f);

/*
 * A file that is not an event, by its escaped name (see stray.h); it is added to l->strays. Returns
 * 1; 0 if there is none.
 */
int lookup_find_stray(struct lookup *l, unsigned among, const char *text);
/* Why it failed, as the daemon wrote it, without its newline; to be freed. NULL: the place is not
   failed/, or the reason is unknown. */
char *lookup_reason(const struct lookup *l, enum place place, const char *name);

struct place_count {
	uint64_t records, strays;
	uint64_t bytes;	    /* that they take on disk */
	uint64_t oldest_ms; /* record; 0: none */
	bool estimated;	    /* the bytes, from a part of the records */
};

/* How much is in a place; its size, if asked, costs a stat for each of the first 65536. */
int lookup_count(struct lookup *l, enum place place, bool with_size, struct place_count *ret_count);
