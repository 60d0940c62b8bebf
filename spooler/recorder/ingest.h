/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ingest - messages in, acknowledgements out, in three stages with a batch each: the loop fills one,
 * a thread parses the next and has its signatures verified (verifiers.h), and the store's thread
 * commits the one before.
 *
 *	ingest_new(loop, &options, &handlers, userdata, &i);
 *	ingest_add(i, topic, payload, size, number);	for each message; copies it
 *	handlers.committed(number):			all messages up to this one are on the disk
 *
 * A batch is handed over when it has STORE_BATCH_MAX messages and the parser is free; or, if nothing
 * is being parsed or committed, when the loop's other sources have had their turn: then there is no
 * more input, or the client has read for its share of a turn, 50 ms. So batches grow when the store
 * is slow, and the loop never waits for the store.
 *
 * A batch that cannot be committed (locked, full, read-only or lost database) is kept and tried
 * again until it can; nothing after it is committed meanwhile. The caller bounds memory by not
 * taking more messages: see client.h, options.hold.
 *
 * The store's thread applies retention as well, in small steps between batches.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "spooler/recorder/store.h"

struct ingest;
struct verifiers;

struct ingest_options {
	const char *store; /* URL; copied, as the templates */
	struct cloudevent_topics topics;
	uint64_t retention_s;	     /* 0: keep everything */
	struct verifiers *verifiers; /* see ingest_verify() */
	/* From the store's thread, after a commit; may be NULL. */
	store_changed_fn changed;
	void *changed_userdata;
};

struct ingest_handlers {
	/* All messages up to and including this number are on the disk. */
	void (*committed)(uint64_t number, void *userdata);
	/* The store fails (a sentence), or has recovered (NULL). Called at changes only. */
	void (*store_state)(const char *error, void *userdata);
};

struct ingest_stats {
	struct store_counts counts; /* since the start */
	uint64_t batches, pruned;
	uint64_t longest_usec;	 /* of a commit */
	uint64_t committed_usec; /* CLOCK_REALTIME of the last commit; 0: none yet */
	uint64_t waiting;	 /* messages that are not committed */
	uint64_t failing_since;	 /* CLOCK_REALTIME; 0: the store works */
	char error[512];	 /* then: why */
};

/*
 * Opens the store and starts the threads. Returns 0 or a negative errno with a sentence to be freed
 * in *ret_error: a store that cannot be opened for a reason that will pass (server down, database
 * locked) is not a failure; the thread tries again.
 */
int ingest_new(sd_event *loop, const struct ingest_options *o, const struct ingest_handlers *h,
	       void *userdata, struct ingest **ret_ingest, char **ret_error);
/* Waits at most this long for the batch that is being committed. Returns false if the thread is
   still in the store: the process should then exit at once. */
bool ingest_free(struct ingest *i, uint64_t patience_usec); /* NULL is fine */

/* Takes a copy. number: of client.h; 0: it needs no acknowledgement. -ENOMEM. */
int ingest_add(struct ingest *i, const char *topic, const void *payload, size_t size,
	       uint64_t number);
/* The connection is gone: messages that were not handed over come again and are dropped. */
void ingest_drop(struct ingest *i);

/* Judges signatures with these from the next batch on, and owns them; NULL: they are not looked at.
   They learn the certificates that the store has. */
void ingest_verify(struct ingest *i, struct verifiers *verifiers);

/* From any thread. */
void ingest_stats(struct ingest *i, struct ingest_stats *ret_stats);
