/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * calendar - days and years of the Gregorian calendar. gmtime() and timegm() would read the time
 * zone's file under glibc.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* From 1970-01-01 to January 1st of the year. */
static inline int64_t days_before_year(int64_t year)
{
	int64_t y = year - 1;

	return y * 365 + y / 4 - y / 100 + y / 400 - 719162; /* 719162 days from year 1 to 1970 */
}

static inline bool is_leap_year(int64_t year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static inline int days_in_month(int64_t year, int month)
{
	static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return month == 2 && is_leap_year(year) ? 29 : days[month - 1];
}
