/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store - the writing side of the record: messages in, rows out.
 *
 *	store_open(url, ...)			creates or migrates the tables
 *	store_apply(s, messages, n, ...)	one batch, one transaction; after 0 it is on the disk
 *	store_close(s)
 *
 * A batch is applied whole or not at all, and may be applied any number of times: an event that is
 * there (same host and id) changes nothing. State (hosts, epochs, holes, guests, operations) is
 * kept in the same transaction and does not depend on the order in which events arrive: guest.h and
 * coverage.h have the rules. Messages that are not events become rows in `rejects`.
 *
 * Any number of stores may be open on one PostgreSQL, and one for writing on an SQLite file. A
 * store belongs to one thread at a time. Readers use query.h, with a connection of their own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spooler/event/verifier.h"
#include "spooler/recorder/cloudevent.h"

#define STORE_BATCH_MAX 1000	       /* messages of one transaction */
#define STORE_HOSTS_MAX 65536	       /* hosts that are recorded; events of more are rejected */
#define STORE_REJECTS_MAX 10000	       /* rows of `rejects`; the oldest are dropped */
#define STORE_REJECT_PAYLOAD_MAX 4096  /* bytes of a payload that are kept there */
#define STORE_FORGED_PAYLOAD_MAX 32768 /* the same of a forged event: it is evidence */

struct store;

/* A message as it was understood. */
struct store_parsed {
	struct cloudevent event;
	bool good;     /* it is to be stored */
	char why[128]; /* else: why it is a reject */

	/* by verifiers_judge() */
	bool judged; /* counted among the verifications */
	enum verification verification;
	bool learned; /* a report with a certificate that is new */
};

struct store_message {
	const char *topic; /* borrowed, as the payload */
	const void *payload;
	size_t size;
	struct store_parsed *parsed; /* borrowed; NULL: store_apply() parses it */
};

/* Messages of a batch, or of all batches since the store was opened, by what they were. */
struct store_counts {
	uint64_t verifications[N_VERIFICATIONS]; /* of messages that were judged */
	uint64_t events;			 /* new ones */
	uint64_t duplicates;			 /* that were there already */
	uint64_t reports;			 /* of hosts' status */
	uint64_t rejects;
};

/* Returns 0 or a negative errno with a sentence in *ret_error (to be freed) that says which file,
   permission, server or version stands in the way. The templates are borrowed. */
int store_open(const char *url, const struct cloudevent_topics *topics, struct store **ret_store,
	       char **ret_error);
/* The same for a store that was open before. A file that is gone is not created again: it may be on
   a disk that is not mounted now, and the new file would be hidden once it is. */
int store_reopen(const char *url, const struct cloudevent_topics *topics, struct store **ret_store,
		 char **ret_error);
void store_close(struct store *s); /* NULL is fine */

/* Calls fn for each host's certificate that was stored, the oldest first, until it returns a
   negative number. Returns that, 0, or a negative errno as store_apply(). */
int store_each_certificate(struct store *s,
			   int (*fn)(const char *host, const char *certificate, void *userdata),
			   void *userdata);

/*
 * Parses a message, in any thread: half of what storing it costs, and it needs no database. Returns
 * 0 (also for a message that will be a reject) and what is to be released, or -ENOMEM.
 */
int store_parse(const struct cloudevent_topics *topics, const struct store_message *m,
		struct store_parsed *ret_parsed);
void store_parsed_release(struct store_parsed *p);

/*
 * Applies at most STORE_BATCH_MAX messages, received at `now` (us since 1970). Returns 0, or a
 * negative errno as db_run() does, and nothing has changed: the same batch can be applied again,
 * after -ENOTCONN with a store that was opened again. A value that the database refuses becomes a
 * reject and is not a failure.
 */
int store_apply(struct store *s, const struct store_message *messages, size_t n, int64_t now,
		struct store_counts *ret_counts);

/* What a batch has changed: hosts by name, guests by UUID; each once. Valid during the call. */
struct store_change {
	const char *const *hosts;
	size_t n_hosts;
	const unsigned char (*guests)[16];
	size_t n_guests;
};
typedef void (*store_changed_fn)(const struct store_change *change, void *userdata);
/* Calls fn from within store_apply(), after each commit that changed anything. NULL: no more
   calls. */
void store_on_change(struct store *s, store_changed_fn fn, void *userdata);

/* What the last failure was, with the store's name and what to do; never NULL. */
const char *store_error(const struct store *s);

/*
 * Retention: removes one small step of what is older than `before` (us since 1970): at most `limit`
 * events and as many filled holes and rejects, or the operations of at most `limit` guests. Events
 * on which the state of a guest rests stay. Sets *ret_removed to how much went; less than `limit`:
 * nothing is left to remove.
 */
int store_prune(struct store *s, int64_t before, size_t limit, size_t *ret_removed);

/* Rebuilds all state from the events, in one transaction. progress may be NULL. */
int store_rebuild(struct store *s, int64_t now, void (*progress)(uint64_t events, void *userdata),
		  void *userdata);

/* Bytes that the store occupies; 0: unknown. */
uint64_t store_size(struct store *s);
/* From another thread: whatever runs ends with -EAGAIN. */
void store_interrupt(struct store *s);
