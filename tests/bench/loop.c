/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop - the drain without a network: reads, extracts and archives the records of a spool, and
 * publishes nothing. What a drain cannot be faster than, with the same code.
 *
 *   loop SPOOLDIR RUNDIR CONFIG
 */
#include <stdio.h>
#include <string.h>

#include "hook/record.h"
#include "spooler/event/event.h"
#include "spooler/daemon/queue.h"
#include "spooler/spool/record-parse.h"

int main(int argc, char **argv)
{
	struct config *c = NULL;
	struct queue *q = NULL;
	struct spool_id e;
	unsigned long n = 0;

	if (argc != 4 || config_load(argv[3], stderr, &c) < 0 ||
	    queue_new(argv[1], argv[2], &q) < 0)
		return 2;
	while (queue_next(q, &e) == 1) {
		const char *reason;
		struct record r;
		struct event event;
		size_t size;
		char *data;

		if (queue_read(q, &e, &data, &size, &reason) < 0 ||
		    record_parse(data, size, &r, &reason) < 0 ||
		    event_build(c, &r, false, &event, &reason) < 0 || queue_done(q, &e, true) < 0)
			return 1;
		event_release(&event);
		n++;
	}
	printf("%lu\n", n);
	queue_free(q);
	config_free(c);
	return 0;
}
