/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* process - see process.h. */
#include <signal.h>

#include "spooler/base/process.h"
#include "spooler/base/util.h"

bool process_is(uint64_t pid, const char *name)
{
	char path[64], comm[32] = "";
	_cleanup_fclose_ FILE *f = NULL;

	if (pid == 0 || pid > INT_MAX || (kill((pid_t)pid, 0) < 0 && errno != EPERM))
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f) /* /proc may hide what belongs to others */
		return true;
	return !fgets(comm, sizeof(comm), f) || strncmp(comm, name, strlen(name)) == 0;
}
