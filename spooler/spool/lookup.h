/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lookup - finds records in the spool's directories, for the admin's tool.
 *
 * It reads only. Names sort by time, so a directory of a million records is one pass over its
 * names, and a file is opened only when it is shown or its content is asked for. The daemon works
 * on the same directories meanwhile: a record that is gone when it is opened has moved on, and is
 * passed over.
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

/* "new" means all that waits, "all" everything, otherwise one of the names. False if it is none
   of them. */
bool places_parse(const char *word, unsigned *ret_places);

struct lookup {
	int directories[N_PLACES]; /* -1: cannot be opened, see errors */
	int errors[N_PLACES];	   /* negative errno */
	struct record_buffer buffer;
	uint64_t seen; /* names that the last scan met in the time asked for */
	struct stray_list
		strays; /* those among them that are none of a record; by their time of writing */
};

/* Opens what can be opened. -EACCES, -ENOENT and so on if the spool itself cannot be. */
int lookup_open(struct lookup *l);
void lookup_release(struct lookup *l);

/*
 * The names in these places within the filter's time, at most `limit` (the newest if list->newest,
 * else the oldest), sorted; each entry's source is its place.
 */
int lookup_scan(struct lookup *l, unsigned among, const struct filter *f, size_t limit,
		struct id_list *list);

/*
 * The one id that begins with `prefix`, a whole id or not. Returns 1; 0 if there is none; -EEXIST
 * if it begins several (one id in two places is one).
 */
int lookup_find(struct lookup *l, unsigned among, const char *prefix, struct spool_id *ret_id);

struct found {
	struct spool_id id;
	char name[37];
	enum place place;
	size_t size;	      /* of the file */
	struct record record; /* zeroed where problem is set */
	const char *problem;  /* why it is no record; NULL if it is one */
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

/* Does the filter, all but its time, match? Looks for the UUID if that is needed and was not
   asked for. */
bool found_matches(struct found *found, const struct filter *f);

/*
 * What has no record's name: the one of these places that `text` (see stray.h) means, added to
 * l->strays. Returns 1; 0 if there is none.
 */
int lookup_find_stray(struct lookup *l, unsigned among, const char *text);
/* Why it failed, as the daemon wrote it, without its newline; to be freed. NULL: it is not in
   failed/, or unknown. */
char *lookup_reason(const struct lookup *l, enum place place, const char *name);
/* Removes what lies under this name, and in failed/ the reason beside it. Negative errno. */
int lookup_remove(const struct lookup *l, enum place place, const char *name);

struct place_count {
	uint64_t records, strays;
	uint64_t bytes;	    /* that they take on disk */
	uint64_t oldest_ms; /* record; 0: none */
	bool estimated;	    /* the bytes: there were too many records to look at each */
};

/* How much is in a place; its size, if asked, costs a stat for each of the first 65536. */
int lookup_count(struct lookup *l, enum place place, bool with_size, struct place_count *ret_count);
