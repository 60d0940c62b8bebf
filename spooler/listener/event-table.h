/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * event-table - every domain event that libvirt's API has, and what is recorded of each.
 *
 * It knows the events' ids, arguments and enumerations. Anything that the headers that we
 * were compiled with do not know (an event of a newer library, a new detail of an old event) is
 * passed on by its number.
 */
#pragma once

#include <libvirt/libvirt.h>
#include <stdbool.h>

#include "hook/record.h"

#define EVENT_TABLE_IDS_MAX 64 /* ids that are asked for: more than twice of those that there are */

/* One event, in words. Valid during the call only. */
struct notice {
	char operation[64]; /* lifecycle-suspended, reboot, device-added, ... or event-27 */
	char reason[64];    /* paused, ...; a number that has no word; "" */
	const char *name;   /* the domain's */
	char uuid[VIR_UUID_STRING_BUFLEN];
	int domain_id; /* -1 if it does not run */
	int event_id;  /* enum virDomainEventID */
	/* Of a lifecycle event: enum virDomainEventType and its detail; otherwise -1. */
	int lifecycle, detail;
	unsigned n_details;
	bool truncated;					     /* details were too long or too many */
	char details[RECORD_DETAILS_MAX][RECORD_DETAIL_MAX]; /* "key=value" */
};

typedef void (*event_table_fn)(const struct notice *n, void *userdata);

/* The events that one connection listens to. It must stay where it is while it is registered. */
struct subscription {
	event_table_fn notify;
	void *userdata;
	virConnectPtr conn;
	int callbacks[EVENT_TABLE_IDS_MAX]; /* libvirt's numbers, -1: not registered */
	unsigned n_registered;
};

/*
 * Registers for every event: those that this driver or its daemon does not have are left out, and
 * so are balloon-change unless `balloon` (guests can send it many times a second), and the
 * forerunners of io-error-reason and block-job-2 where these are there. s->notify is called from
 * the thread that runs libvirt's event loop. Returns 0, or -EOPNOTSUPP if there are not even
 * lifecycle events; libvirt's error says why.
 */
int event_table_register(struct subscription *s, virConnectPtr conn, bool balloon);
void event_table_deregister(struct subscription *s);

/* The event's word, or NULL for a number that has none yet. */
const char *event_table_event_name(int event_id);

/* The operation of the hook that reports this transition as well: "started", "stopped", or
   NULL. */
const char *event_table_hook_of(const struct notice *n);

/* A domain's state and its reason (virDomainGetState), in words; numbers where there is no word. */
void event_table_state_word(int state, char *buf, size_t size);
void event_table_state_reason(int state, int reason, char *buf, size_t size);
