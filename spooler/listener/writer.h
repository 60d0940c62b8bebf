/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * writer - puts the listener's records into the spool as the hook puts its own: with a stamp of the
 * same sequence, and with the same way to the disk and the emergency spool (hook/put.h).
 *
 * May be called from any thread. The order of the calls is the order of the stamps.
 */
#pragma once

#include "hook/record.h"
#include "spooler/spool/listener-file.h"

/* Starts the thread that writes to the disk. Negative errno. */
int writer_start(void);

/*
 * Takes the next stamp for r, whose other fields are set, and writes it. Returns when it is
 * durable, within five seconds whatever the disk does. Negative errno if it is lost, which has been
 * logged.
 */
int writer_put(struct record *r);

void writer_count(struct listener_counts *ret_counts);
