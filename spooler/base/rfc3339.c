/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rfc3339 - see rfc3339.h. */
#include <inttypes.h>
#include <stdlib.h>

#include "spooler/base/rfc3339.h"
#include "spooler/base/util.h"

/* Date and time of day with this separator; returns the length, 0 if it cannot be written. */
static size_t write_date(const struct tm *tm, char separator, char ret[static RFC3339_SIZE])
{
	if (!tm || tm->tm_year + 1900LL > 9999 || tm->tm_year + 1900LL < 0)
		return 0;
	return (size_t)snprintf(ret, RFC3339_SIZE, "%04d-%02d-%02d%c%02d:%02d:%02d",
				tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday, separator,
				tm->tm_hour, tm->tm_min, tm->tm_sec);
}

void rfc3339_utc(int64_t seconds, unsigned nsec, unsigned digits, char ret[static RFC3339_SIZE])
{
	time_t t = (time_t)seconds;
	struct tm tm;
	size_t n = write_date(gmtime_r(&t, &tm), 'T', ret);

	if (n == 0) {
		(void)snprintf(ret, RFC3339_SIZE, "@%" PRId64, seconds);
		return;
	}
	if (digits > 0) {
		n += (size_t)snprintf(ret + n, RFC3339_SIZE - n, ".%09u", nsec % 1000000000);
		n -= 9 - (digits < 9 ? digits : 9);
	}
	(void)snprintf(ret + n, RFC3339_SIZE - n, "Z");
}

void rfc3339_offset(uint64_t ms, char ret[static 8])
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm = {0};
	long minutes;

	(void)localtime_r(&t, &tm);
	minutes = labs(tm.tm_gmtoff / 60);
	(void)snprintf(ret, 8, "%c%02ld:%02ld", tm.tm_gmtoff < 0 ? '-' : '+', minutes / 60 % 100,
		       minutes % 60);
}

void rfc3339_local(uint64_t ms, char ret[static RFC3339_SIZE])
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm;
	size_t n = write_date(localtime_r(&t, &tm), ' ', ret);
	char offset[8];

	if (n == 0) {
		(void)snprintf(ret, RFC3339_SIZE, "@%" PRIu64, ms / 1000);
		return;
	}
	rfc3339_offset(ms, offset);
	(void)snprintf(ret + n, RFC3339_SIZE - n, ".%03u%s", (unsigned)(ms % 1000), offset);
}

bool rfc3339_parse_utc(const char *text, uint64_t *ret_usec)
{
	uint64_t usec = 0, unit = USEC_PER_SEC / 10;
	struct tm tm = {0};
	const char *s = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	time_t seconds;

	if (s && *s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++, unit /= 10)
			usec += (uint64_t)(*s - '0') * unit;
	if (!s || strcmp(s, "Z") != 0)
		return false;
	seconds = timegm(&tm);
	if (seconds < 0)
		return false;
	*ret_usec = (uint64_t)seconds * USEC_PER_SEC + usec;
	return true;
}
