/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* place - see place.h. */
#include "hook/place.h"

#include <errno.h>
#include <fcntl.h>

const struct place_info place_table[N_PLACES] = {
	[PLACE_NEW] = {"new", SPOOL_NEW, PLACE_KIND_WAITING, false},
	[PLACE_EMERGENCY] = {"emergency", SPOOL_EMERGENCY "/" SPOOL_NEW, PLACE_KIND_WAITING, true},
	[PLACE_REPLAY] = {"replay", SPOOL_REPLAY, PLACE_KIND_WAITING, false},
	[PLACE_FAILED] = {"failed", SPOOL_FAILED, PLACE_KIND_FAILED, false},
	[PLACE_SENT] = {"sent", SPOOL_SENT, PLACE_KIND_ARCHIVED, false},
	[PLACE_SKIPPED] = {"skipped", SPOOL_SKIPPED, PLACE_KIND_ARCHIVED, false},
	[PLACE_TMP] = {"tmp", SPOOL_TMP, PLACE_KIND_SCRATCH, false},
	[PLACE_EMERGENCY_TMP] = {"emergency-tmp", SPOOL_EMERGENCY "/" SPOOL_TMP, PLACE_KIND_SCRATCH,
				 true},
};

int place_open(int spool_fd, int run_fd, enum place place)
{
	int at = place_table[place].in_run_directory ? run_fd : spool_fd, fd;

	if (at < 0)
		return at;
	fd = openat(at, place_table[place].path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
