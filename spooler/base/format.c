/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* format - see format.h. */
#include <inttypes.h>

#include "spooler/base/format.h"
#include "spooler/base/util.h"

/* An id can hold a year that no calendar has; it is a name that anybody may have made. */
static void format_tm(uint64_t ms, const struct tm *tm, char separator, const char *suffix,
		      char ret[static 32])
{
	if (!tm || tm->tm_year > 9999 - 1900)
		(void)snprintf(ret, 32, "@%" PRIu64, ms / 1000);
	else
		(void)snprintf(ret, 32, "%04u-%02u-%02u%c%02u:%02u:%02u.%03u%s",
			       (unsigned)tm->tm_year % 10000 + 1900, (unsigned)tm->tm_mon % 12 + 1,
			       (unsigned)tm->tm_mday % 32, separator, (unsigned)tm->tm_hour % 24,
			       (unsigned)tm->tm_min % 60, (unsigned)tm->tm_sec % 61,
			       (unsigned)(ms % 1000), suffix);
}

void format_time(uint64_t ms, char ret[static 32])
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;

	format_tm(ms, localtime_r(&seconds, &tm), ' ', "", ret);
}

void format_time_utc(uint64_t ms, char ret[static 32])
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;

	format_tm(ms, gmtime_r(&seconds, &tm), 'T', "Z", ret);
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
