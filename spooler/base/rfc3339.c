/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rfc3339 - see rfc3339.h. */
#include <inttypes.h>
#include <stdlib.h>

#include "spooler/base/rfc3339.h"
#include "spooler/base/util.h"

/* The lowest n digits of a number, and what follows them. printf() takes a microsecond for a time,
   and times come by the thousand. */
static char *put_digits(char *at, unsigned value, unsigned n, char after)
{
	for (unsigned i = n; i > 0; i--, value /= 10)
		at[i - 1] = (char)('0' + value % 10);
	at[n] = after;
	return at + n + 1;
}

/* Date and time of day with this separator; returns the length, 0 if it cannot be written. */
static size_t write_date(const struct tm *tm, char separator, char ret[static RFC3339_SIZE])
{
	char *at = ret;

	if (!tm || tm->tm_year + 1900LL > 9999 || tm->tm_year + 1900LL < 0)
		return 0;
	at = put_digits(at, (unsigned)tm->tm_year + 1900, 4, '-');
	at = put_digits(at, (unsigned)tm->tm_mon + 1, 2, '-');
	at = put_digits(at, (unsigned)tm->tm_mday, 2, separator);
	at = put_digits(at, (unsigned)tm->tm_hour, 2, ':');
	at = put_digits(at, (unsigned)tm->tm_min, 2, ':');
	at = put_digits(at, (unsigned)tm->tm_sec, 2, '\0');
	return (size_t)(at - ret) - 1;
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
		ret[n++] = '.';
		(void)put_digits(ret + n, nsec % 1000000000, 9, '\0');
		n += digits < 9 ? digits : 9;
	}
	strcpy(ret + n, "Z");
}

static void write_offset(const struct tm *tm, char ret[static 8])
{
	unsigned minutes = (unsigned)labs(tm->tm_gmtoff / 60);
	char *at = ret;

	*at++ = tm->tm_gmtoff < 0 ? '-' : '+';
	at = put_digits(at, minutes / 60 % 100, 2, ':');
	(void)put_digits(at, minutes % 60, 2, '\0');
}

void rfc3339_offset(uint64_t ms, char ret[static 8])
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm = {0};

	(void)localtime_r(&t, &tm);
	write_offset(&tm, ret);
}

void rfc3339_local(uint64_t ms, char ret[static RFC3339_SIZE])
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm;
	size_t n = write_date(localtime_r(&t, &tm), ' ', ret);

	if (n == 0) {
		(void)snprintf(ret, RFC3339_SIZE, "@%" PRIu64, ms / 1000);
		return;
	}
	ret[n] = '.';
	(void)put_digits(ret + n + 1, (unsigned)(ms % 1000), 3, '\0');
	write_offset(&tm, ret + n + 4);
}

/* Takes exactly n digits. */
static bool take_digits(const char **s, int n, int *ret)
{
	*ret = 0;
	for (; n > 0; n--, (*s)++) {
		if (**s < '0' || **s > '9')
			return false;
		*ret = 10 * *ret + (**s - '0');
	}
	return true;
}

static bool take(const char **s, char c)
{
	return *(*s)++ == c;
}

/* From 1970-01-01 to a date of the Gregorian calendar: timegm() is slow, and these come by the
   thousand. */
static int64_t days_before(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = y / 400, of_era = y - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719468;
}

/* Date and time of day, without the zone. */
static bool take_time(const char **s, int64_t *ret_usec)
{
	int year, month, day, hour, minute, second;
	int64_t usec = 0, unit = (int64_t)USEC_PER_SEC / 10;

	if (!take_digits(s, 4, &year) || !take(s, '-') || !take_digits(s, 2, &month) ||
	    !take(s, '-') || !take_digits(s, 2, &day) || !take(s, 'T') ||
	    !take_digits(s, 2, &hour) || !take(s, ':') || !take_digits(s, 2, &minute) ||
	    !take(s, ':') || !take_digits(s, 2, &second))
		return false;
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 ||
	    minute > 59 || second > 60)
		return false;
	if (**s == '.')
		for ((*s)++; **s >= '0' && **s <= '9'; (*s)++, unit /= 10)
			usec += unit * (**s - '0');
	*ret_usec = (((days_before(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) *
			    (int64_t)USEC_PER_SEC +
		    usec;
	return true;
}

bool rfc3339_parse_utc(const char *text, int64_t *ret_usec)
{
	int64_t usec;

	if (!take_time(&text, &usec) || strcmp(text, "Z") != 0)
		return false;
	*ret_usec = usec;
	return true;
}

bool rfc3339_parse(const char *text, int64_t *ret_usec)
{
	int sign, hours, minutes;
	int64_t usec;

	if (rfc3339_parse_utc(text, ret_usec))
		return true;
	if (!take_time(&text, &usec) || (*text != '+' && *text != '-'))
		return false;
	sign = *text++ == '+' ? -1 : 1;
	if (!take_digits(&text, 2, &hours) || !take(&text, ':') ||
	    !take_digits(&text, 2, &minutes) || *text)
		return false;
	*ret_usec = usec + (int64_t)sign * (hours * 60 + minutes) * 60 * (int64_t)USEC_PER_SEC;
	return true;
}
