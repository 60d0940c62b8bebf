/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * boot-report - a record that a guest has ended with the boot before this one: `reconciled`
 * `shutoff` with the reason "host booted".
 *
 * Its id is just above the last one of the earlier boot: it sorts before everything of this one,
 * even if the clock starts in 1970. virtspoold must not take stamps, so the record is marked
 * RECORD_UNORDERED.
 */
#pragma once

#include "hook/record.h"
#include "spooler/daemon/running-table.h"

/* Of the daemon's own reports. */
#define BOOT_REPORT_ORIGIN "spooler"

/*
 * Puts the report for this guest of the table into the spool. `boot` is the id of this boot. Put
 * again for the same guest and boot, it has the same id. Negative errno.
 */
int boot_report_put(const char *spool_dir, const char *boot, const struct running_table *t,
		    const struct running_guest *guest);
