/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * put - how an event gets from a writer (the hook, virtspool-listen) into the spool, in bounded
 * time:
 *
 *	put_begin(&p, call, high_water);     the clock starts
 *	put_stamp(&p, &record);              its place in the order
 *	n = record_format_header(&record, header, sizeof(header));
 *	put_job_init(&job, &record, header, n);
 *	put_record(&p, &job);                disk, or emergency spool, or nowhere
 *	put_end(&p);
 *
 * One deadline covers everything from put_begin() on, including the writer's own work in between.
 * Whatever hangs, put_record() returns within PUT_MS of put_begin(), provided that the writer's own
 * waits end at p.deadline_ms.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "hook/record.h"
#include "hook/text.h"

#define PUT_MS 4600 /* all in all; five seconds are promised */

/*
 * Calls function(argument), which may hang in the kernel, where it does not hold the caller, and
 * waits at most wait_ms for it. Returns the function's result; -ETIMEDOUT if it still runs, and may
 * go on using its argument; another negative errno if it did not begin.
 */
typedef int (*put_call)(int (*function)(void *argument), void *argument, unsigned wait_ms);

struct put {
	put_call call;
	const char *high_water; /* of this writer: see spool.h */
	long long deadline_ms;	/* of all waits except the emergency spool's (clock.h) */
	long long last_ms;	/* of the emergency spool's */
	int hook_fd;		/* negative errno: cannot be opened */
	enum { PUT_DISK_ANSWERS, PUT_DISK_MAY_ANSWER, PUT_DISK_HANGS } disk;
	/* Why the record is not there; 0: it is, or was not tried. */
	int disk_error, emergency_error;
};

/* The record that the call that may hang works on. */
struct put_job {
	atomic_int state, users;
	void (*release)(struct put_job *j); /* when nothing uses the job any more; may be NULL */
	const char *high_water;
	uint64_t ticks;
	char name[37];
	struct iovec parts[2];
};

enum put_result {
	PUT_SPOOLED,
	PUT_IN_EMERGENCY,
	PUT_LOST,
};

void put_begin(struct put *p, put_call call, const char *high_water);

/* Takes the stamp and the time. Negative errno: the record is marked RECORD_UNORDERED. */
int put_stamp(struct put *p, struct record *r);

/* The header and r->document must stay until j->release is called, or, if that is NULL, until the
   process ends. */
void put_job_init(struct put_job *j, const struct record *r, char *header, size_t header_size);

/* Writes the record durably and returns where it went. p->disk_error and p->emergency_error say why
   it is not on the disk, and why not in the emergency spool. Releases the job. */
enum put_result put_record(struct put *p, struct put_job *j);
void put_end(struct put *p);

/* Adds the line that reports a lost event: which one, and why. */
void put_describe_loss(const struct put *p, const struct record *r, struct text *t);
