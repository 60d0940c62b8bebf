/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* number - see number.h. */
#include <string.h>

#include "spooler/base/number.h"

bool number_take(const char **s, uint64_t *ret)
{
	const char *digit = *s;
	uint64_t value = 0;

	for (; *digit >= '0' && *digit <= '9'; digit++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*digit - '0'), &value))
			return false;
	if (digit == *s)
		return false;
	*s = digit;
	*ret = value;
	return true;
}

bool number_parse(const char *s, const char *units, const uint64_t *factors, uint64_t *ret)
{
	uint64_t value, factor = 1;
	const char *unit;

	if (!number_take(&s, &value))
		return false;
	if (*s) {
		unit = strchr(units, *s);
		if (!unit || s[1])
			return false;
		factor = factors[unit - units];
	}
	return !__builtin_mul_overflow(value, factor, ret);
}
