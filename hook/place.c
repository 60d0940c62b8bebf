/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* place - see place.h. */
#include "hook/place.h"

#include <errno.h>
#include <fcntl.h>

#define TRIES 100 /* if signals interrupt */

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

static int open_directory(int at, const char *path, int flags)
{
	int fd = -1;

	for (int i = 0; i < TRIES && fd < 0; i++) {
		fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
		if (fd < 0 && errno != EINTR)
			break;
	}
	return fd < 0 ? -errno : fd;
}

int place_open_top(const char *path)
{
	return open_directory(AT_FDCWD, path, 0);
}

int place_open_directory(int at, const char *path)
{
	return open_directory(at, path, O_NOFOLLOW);
}

int place_open(int spool_fd, int run_fd, enum place place)
{
	int at = place_table[place].in_run_directory ? run_fd : spool_fd;

	return at < 0 ? at : place_open_directory(at, place_table[place].path);
}
