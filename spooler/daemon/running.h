/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * running - the guests that run on this host, as the records say, and a report of those that a boot
 * of the host has ended: no hook is called for a guest that a power cut, a crash of the host or a
 * reboot takes away.
 *
 * The table is fed by the records that the relay reads, and written to SPOOLDIR/guests, atomically
 * and synced, a few seconds after it has changed: no event costs a system call. At start the file
 * is read, and then every record whose id is above the highest one that the file knows, wherever in
 * the spool it lies. So a kill or a power cut loses nothing that the archive (spool.sent_age)
 * still has.
 *
 * If the file is of an earlier boot, each guest that still runs according to the records before the
 * first one of this boot gets one event, `reconciled` `shutoff` with the reason "host booted". Its
 * id is just above the last one of the earlier boot: it sorts before everything of this one, even
 * if the clock starts in 1970. The event is itself a record, and takes the guest out of the table:
 * a daemon that is killed meanwhile does not report it again. virtspoold must not take stamps, so
 * the event is marked RECORD_UNORDERED.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "hook/record.h"
#include "spooler/daemon/disk.h"

#define RUNNING_FILE "guests"

struct running;

/* `boot` is this boot's id, or "" if it is not known: then nothing is reported. */
int running_new(sd_event *loop, const char *spool_dir, const char *run_dir, struct disk *disk,
		const char *boot, struct running **ret_running);
void running_free(struct running *g); /* NULL is fine */

/*
 * Loads the file and catches up with the records. After a boot this is done at once, so that the
 * reports precede what libvirt does next, for at most two seconds; the rest follows in turns of the
 * loop.
 */
void running_start(struct running *g);

/* The relay has read this record, for the first time or again. */
void running_see(struct running *g, const struct record *r);

/* Writes the file if something has changed, at the daemon's end. */
void running_save(struct running *g);
