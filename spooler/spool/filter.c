/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* filter - see filter.h. Each parser takes its part off the front of the text; nothing may be
   left at the end. */
#include <ctype.h>
#include <fnmatch.h>
#include <strings.h>

#include "spooler/spool/filter.h"
#include "spooler/base/util.h"

#define SECONDS_PER_DAY 86400
#define UUID_LENGTH 36
#define DURATION_MAX_S (1000ULL * 366 * SECONDS_PER_DAY)

/* --- scanning */

static void skip_blanks(const char **s)
{
	while (**s == ' ' || **s == '\t')
		(*s)++;
}

/* Exactly `width` digits. */
static bool take_digits(const char **s, int width, int *ret)
{
	int n = 0;

	for (int i = 0; i < width; i++) {
		if (!isdigit((unsigned char)(*s)[i]))
			return false;
		n = n * 10 + ((*s)[i] - '0');
	}
	*s += width;
	*ret = n;
	return true;
}

static bool take(const char **s, char c)
{
	if (**s != c)
		return false;
	(*s)++;
	return true;
}

/* A word as a whole: "today", but not "todays". */
static bool take_word(const char **s, const char *word)
{
	size_t n = strlen(word);

	if (strncasecmp(*s, word, n) != 0 || isalpha((unsigned char)(*s)[n]))
		return false;
	*s += n;
	return true;
}

/* --- lengths of time */

static const struct {
	const char *name;
	uint64_t seconds;
} units[] = {
	{"s", 1},
	{"sec", 1},
	{"second", 1},
	{"seconds", 1},
	{"m", 60},
	{"min", 60},
	{"minute", 60},
	{"minutes", 60},
	{"h", 3600},
	{"hour", 3600},
	{"hours", 3600},
	{"d", SECONDS_PER_DAY},
	{"day", SECONDS_PER_DAY},
	{"days", SECONDS_PER_DAY},
	{"w", 7 * SECONDS_PER_DAY},
	{"week", 7 * SECONDS_PER_DAY},
	{"weeks", 7 * SECONDS_PER_DAY},
};

static bool take_unit(const char **s, uint64_t *ret_seconds)
{
	for (size_t i = 0; i < ELEMENTSOF(units); i++)
		if (take_word(s, units[i].name)) {
			*ret_seconds = units[i].seconds;
			return true;
		}
	return false;
}

/* One or more of NUMBER UNIT. */
static bool take_duration(const char **s, uint64_t *ret_s)
{
	uint64_t sum = 0;
	bool any = false;

	while (isdigit((unsigned char)**s)) {
		uint64_t n = 0, unit;

		while (isdigit((unsigned char)**s) && n <= DURATION_MAX_S)
			n = n * 10 + (uint64_t)(*(*s)++ - '0');
		skip_blanks(s);
		if (!take_unit(s, &unit) || n > DURATION_MAX_S / unit)
			return false;
		sum += n * unit;
		if (sum > DURATION_MAX_S)
			return false;
		any = true;
		skip_blanks(s);
	}
	*ret_s = sum;
	return any;
}

/* --- points in time */

struct when {
	struct tm tm;
	unsigned ms;
	bool zoned; /* `offset` counts, and not the local time zone */
	int offset_s;
};

static int days_of(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return month == 2 && leap ? 29 : days[month - 1];
}

static bool take_date(const char **s, struct when *w)
{
	int year, month, day;

	if (!take_digits(s, 4, &year) || !take(s, '-') || !take_digits(s, 2, &month) ||
	    !take(s, '-') || !take_digits(s, 2, &day))
		return false;
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_of(year, month))
		return false;
	w->tm.tm_year = year - 1900;
	w->tm.tm_mon = month - 1;
	w->tm.tm_mday = day;
	return true;
}

static void take_fraction(const char **s, struct when *w)
{
	unsigned scale = 100;

	for (; isdigit((unsigned char)**s); (*s)++) {
		w->ms += scale * (unsigned)(**s - '0');
		scale /= 10;
	}
}

static bool take_clock(const char **s, struct when *w)
{
	int hour, minute, second = 0;

	if (!take_digits(s, 2, &hour) || !take(s, ':') || !take_digits(s, 2, &minute))
		return false;
	if (take(s, ':')) {
		if (!take_digits(s, 2, &second))
			return false;
		if (take(s, '.') || take(s, ','))
			take_fraction(s, w);
	}
	if (hour > 23 || minute > 59 || second > 60)
		return false;
	w->tm.tm_hour = hour;
	w->tm.tm_min = minute;
	w->tm.tm_sec = second;
	return true;
}

/* Z, +01:00, -0500; nothing is local time. */
static bool take_zone(const char **s, struct when *w)
{
	int sign, hours, minutes;

	if (take(s, 'Z') || take(s, 'z') || take_word(s, "UTC")) {
		w->zoned = true;
		return true;
	}
	if (**s != '+' && **s != '-')
		return true;
	sign = *(*s)++ == '+' ? 1 : -1;
	if (!take_digits(s, 2, &hours))
		return false;
	(void)take(s, ':');
	if (!take_digits(s, 2, &minutes) || hours > 15 || minutes > 59)
		return false;
	w->zoned = true;
	w->offset_s = sign * (hours * 3600 + minutes * 60);
	return true;
}

static int when_to_ms(struct when *w, uint64_t *ret_ms)
{
	time_t t;

	w->tm.tm_isdst = -1;
	t = w->zoned ? timegm(&w->tm) - w->offset_s : mktime(&w->tm);
	if (t < 0)
		return -EINVAL;
	*ret_ms = (uint64_t)t * 1000 + w->ms;
	return 0;
}

/* 00:00 of the day that is `days_before` days before today. */
static void when_day(struct when *w, int64_t now_s, int days_before)
{
	time_t now = (time_t)now_s;
	struct tm tm;

	if (!localtime_r(&now, &tm))
		return;
	w->tm.tm_year = tm.tm_year;
	w->tm.tm_mon = tm.tm_mon;
	w->tm.tm_mday = tm.tm_mday - days_before;
}

static bool take_calendar(const char **s, int64_t now_s, struct when *w)
{
	if (take_word(s, "today")) {
		when_day(w, now_s, 0);
	} else if (take_word(s, "yesterday")) {
		when_day(w, now_s, 1);
	} else if (isdigit((unsigned char)(*s)[0]) && isdigit((unsigned char)(*s)[1]) &&
		   (*s)[2] == ':') {
		when_day(w, now_s, 0);
		return take_clock(s, w) && take_zone(s, w);
	} else if (!take_date(s, w)) {
		return false;
	}
	if (!take(s, 'T') && !take(s, 't'))
		skip_blanks(s);
	if (!**s)
		return true;
	return take_clock(s, w) && take_zone(s, w);
}

static int parse_ago(const char *s, int64_t now_s, uint64_t *ret_ms)
{
	uint64_t seconds;

	if (!take_duration(&s, &seconds))
		return -EINVAL;
	(void)take_word(&s, "ago");
	skip_blanks(&s);
	if (*s)
		return -EINVAL;
	*ret_ms = (uint64_t)now_s > seconds ? ((uint64_t)now_s - seconds) * 1000 : 1;
	return 0;
}

static int parse_epoch_seconds(const char *s, uint64_t *ret_ms)
{
	uint64_t n = 0;
	int digits = 0;

	for (; isdigit((unsigned char)*s); s++, digits++)
		n = digits < 12 ? n * 10 + (uint64_t)(*s - '0') : n;
	if (*s || digits < 1 || digits > 12)
		return -EINVAL;
	*ret_ms = n * 1000;
	return 0;
}

int filter_parse_time(const char *text, int64_t now_s, uint64_t *ret_ms)
{
	struct when w = {0};
	const char *s = text;

	skip_blanks(&s);
	if (take(&s, '@'))
		return parse_epoch_seconds(s, ret_ms);
	if (take_word(&s, "now")) {
		skip_blanks(&s);
		if (*s || now_s < 0)
			return -EINVAL;
		*ret_ms = (uint64_t)now_s * 1000;
		return 0;
	}
	if (take_calendar(&s, now_s, &w)) {
		skip_blanks(&s);
		return *s ? -EINVAL : when_to_ms(&w, ret_ms);
	}
	skip_blanks(&text);
	return parse_ago(text, now_s, ret_ms);
}

/* --- matching */

bool filter_matches_time(const struct filter *f, uint64_t ms)
{
	return ms >= f->since_ms && (f->until_ms == 0 || ms < f->until_ms);
}

bool filter_needs_record(const struct filter *f)
{
	return f->vm || f->operation || f->driver;
}

bool filter_is_empty(const struct filter *f)
{
	return !filter_needs_record(f) && f->since_ms == 0 && f->until_ms == 0;
}

bool filter_needs_uuid(const struct filter *f)
{
	if (!f->vm || f->vm[strspn(f->vm, "0123456789abcdefABCDEF-*?[]!^")])
		return false;
	return strpbrk(f->vm, "*?[") || strlen(f->vm) == UUID_LENGTH;
}

/* A glob matches itself as well, because a guest may be called "a[1]". */
static bool glob_matches(const char *glob, const char *value, int flags)
{
	return strcmp(glob, value) == 0 || fnmatch(glob, value, flags) == 0;
}

static bool glob_matches_bytes(const char *glob, struct bytes b)
{
	char value[RECORD_VALUE_MAX + 1];
	size_t n = b.size < RECORD_VALUE_MAX ? b.size : RECORD_VALUE_MAX;

	if (n > 0)
		memcpy(value, b.data, n);
	value[n] = 0;
	return glob_matches(glob, value, 0);
}

bool filter_matches(const struct filter *f, const struct record *r, const char *uuid)
{
	if (f->driver && !glob_matches_bytes(f->driver, r->driver))
		return false;
	if (f->operation && !glob_matches_bytes(f->operation, r->operation))
		return false;
	if (!f->vm || glob_matches_bytes(f->vm, r->object))
		return true;
	return uuid[0] && glob_matches(f->vm, uuid, FNM_CASEFOLD);
}
