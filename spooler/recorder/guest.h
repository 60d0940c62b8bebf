/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * guest - what a guest's events say: on which host it is, in which state, and which operations
 * (start, stop, migration) they belong to.
 *
 * Pure. A struct guest is the memory of all events so far; guest_fold() adds the next one in the
 * order of ids, which is that of time (of one host exactly, between hosts as far as their clocks
 * agree: see MIGRATION_SKEW_USEC). The same events in the same order give the same guest and the
 * same operations; store.c sees to the order, whatever the order of arrival. The rules are those of
 * virtspool-events(7), "Types", "Hooks and the event API" and "Migration".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What an event says of a guest. Stored in events.call: never renumber. */
enum guest_call {
	CALL_NONE = 0,
	CALL_RESTORE = 1, /* hooks */
	CALL_MIGRATE = 2,
	CALL_PREPARE = 3,
	CALL_START = 4,
	CALL_STARTED = 5,
	CALL_RECONNECT = 6, /* and attach */
	CALL_STOPPED = 7,
	CALL_RELEASE = 8,
	CALL_PAUSED = 9, /* the event API */
	CALL_RESUMED = 10,
	CALL_MOVED = 11, /* its CPUs run on the destination of a migration */
	CALL_CRASHED = 12,
	CALL_STOP_REASON = 13, /* why it stopped, after the hook's `stopped` */
	CALL_NAMED = 14,       /* defined again, perhaps under another name */
};

enum guest_phase {
	PHASE_STOPPED,
	PHASE_STARTING,
	PHASE_INCOMING, /* a migration to this host is under way */
	PHASE_RUNNING,
	PHASE_PAUSED,
	PHASE_CRASHED, /* the guest has crashed and its process is kept */
};
const char *guest_phase_name(enum guest_phase phase);

enum operation_kind {
	OPERATION_NONE,
	OPERATION_START,
	OPERATION_RESTORE,
	OPERATION_STOP,
	OPERATION_MIGRATION
};
enum operation_outcome { OUTCOME_RUNNING, OUTCOME_SUCCESS, OUTCOME_FAILED, OUTCOME_INCOMPLETE };
const char *operation_kind_name(enum operation_kind kind);
const char *operation_outcome_name(enum operation_outcome outcome);

#define GUEST_PLACES_MAX 4  /* hosts that are remembered of a guest at a time */
#define GUEST_REASON_MAX 48 /* bytes of a reason, with its 0; the rest is cut off */
#define GUEST_ENCODED_MAX 1024

struct guest_event {
	unsigned char id[16], epoch[16];
	int64_t host;
	int64_t time; /* us since 1970 */
	enum guest_call call;
	const char *reason, *name, *driver; /* NULL or "": not said. Borrowed */
};

struct operation {
	unsigned char id[16]; /* of its first event */
	int64_t host;	      /* of that */
	enum operation_kind kind;
	enum operation_outcome outcome;
	int64_t begun, ended; /* 0: has not ended */
	int64_t from, to;     /* hosts of a migration; 0: not known */
	char reason[GUEST_REASON_MAX];
	unsigned char before[GUEST_ENCODED_MAX]; /* the guest before its first event */
	size_t before_size;			 /* 0: it began before what was folded */
};

struct operations {
	struct operation *list;
	size_t n, allocated;
	bool failed; /* no memory */
};

struct guest {
	struct guest_place {
		int64_t host;
		enum guest_phase phase;
		unsigned char last_id[16];    /* its last event here */
		unsigned char arrival_id[16]; /* the first of this run, or of the stop */
		unsigned char epoch[16];
		int64_t since;
		unsigned rank; /* how far its start has come: see guest.c */
		bool released; /* after a stop: nothing more is to come */
		/* The operation under way, or the last stop. */
		struct guest_operation {
			enum operation_kind kind;
			enum operation_outcome outcome;
			unsigned char id[16];
			int64_t begun, ended;
			int64_t from;
			char reason[GUEST_REASON_MAX];
		} operation;
	} places[GUEST_PLACES_MAX];
	unsigned n_places;
	unsigned char last_id[16]; /* of all that was folded; zeros: nothing was */
	int64_t last_host, last_time;
	struct guest_migration {
		int64_t from, to, begun, ended; /* begun 0: there was none */
		enum operation_outcome outcome;
	} migration;		       /* the last one */
	char reason[GUEST_REASON_MAX]; /* the last that was said */

	/* Not part of the memory: of the last event that was folded; NULL: none said it. */
	const char *name, *driver;
};

/* The order of events: by id, then by host. */
int guest_event_compare(const unsigned char *id_a, int64_t host_a, const unsigned char *id_b,
			int64_t host_b);

/* Adds the next event. What it begins, changes or ends is put into `ops`, once per operation. */
void guest_fold(struct guest *g, const struct guest_event *e, struct operations *ops);

/* Puts the place's operation into `ops`, as it stands. */
void guest_report(const struct guest_place *p, struct operations *ops);

/* The hosts that matter: the one where it is (or stopped last), and another that has it; NULL. */
const struct guest_place *guest_place(const struct guest *g);
const struct guest_place *guest_other_place(const struct guest *g);

/* The memory as bytes, and back. An empty memory has no bytes. -EBADMSG: not written by us. */
size_t guest_encode(const struct guest *g, unsigned char buf[static GUEST_ENCODED_MAX]);
int guest_decode(const void *data, size_t size, struct guest *ret_guest);

void operations_release(struct operations *ops);
