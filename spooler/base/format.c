/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* format - see format.h. */
#include <inttypes.h>

#include "spooler/base/format.h"
#include "spooler/base/rfc3339.h"
#include "spooler/base/util.h"

void format_time(uint64_t ms, char ret[static 32])
{
	char text[RFC3339_SIZE];
	size_t n;

	rfc3339_local(ms, text);
	n = strnlen(text, 31);
	memcpy(ret, text, n);
	ret[n] = 0;
}

void format_time_utc(uint64_t ms, char ret[static 32])
{
	char text[RFC3339_SIZE];

	rfc3339_utc((int64_t)(ms / 1000), (unsigned)(ms % 1000) * 1000000, 3, text);
	(void)snprintf(ret, 32, "%.31s", text);
}

void format_count(uint64_t n, const char *noun, char ret[static 48])
{
	(void)snprintf(ret, 48, "%" PRIu64 " %s%s", n, noun, n == 1 ? "" : "s");
}

void format_size(uint64_t bytes, char ret[static 32])
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
	double n = (double)bytes / 1024;
	size_t unit = 0;

	if (bytes < 1024) {
		(void)snprintf(ret, 32, "%" PRIu64 " bytes", bytes);
		return;
	}
	while (n >= 1024 && unit + 1 < ELEMENTSOF(units)) {
		n /= 1024;
		unit++;
	}
	(void)snprintf(ret, 32, "%.1f %s", n, units[unit]);
}

void format_age(uint64_t seconds, char ret[static 32])
{
	uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;

	if (days > 0)
		(void)snprintf(ret, 32, "%" PRIu64 " d %" PRIu64 " h", days, hours % 24);
	else if (hours > 0)
		(void)snprintf(ret, 32, "%" PRIu64 " h %" PRIu64 " min", hours, minutes % 60);
	else if (minutes > 0)
		(void)snprintf(ret, 32, "%" PRIu64 " min %" PRIu64 " s", minutes, seconds % 60);
	else
		(void)snprintf(ret, 32, "%" PRIu64 " s", seconds);
}
