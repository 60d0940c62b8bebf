/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stray - see stray.h. */
#include <fcntl.h>
#include <sys/stat.h>

#include "spooler/base/hex.h"
#include "spooler/spool/stray.h"
#include "hook/spool.h"
#include "hook/stamp.h"
#include "spooler/spool/record-parse.h"
#include "spooler/spool/spoolid.h"
#include "spooler/base/util.h"

/* NAME.reason, where there is a NAME. */
static bool is_reason(int dir_fd, const char *name)
{
	size_t n = strlen(name), suffix = strlen(SPOOL_REASON_SUFFIX);
	char of[NAME_MAX + 1];

	if (n <= suffix || n > NAME_MAX || strcmp(name + n - suffix, SPOOL_REASON_SUFFIX) != 0)
		return false;
	memcpy(of, name, n - suffix);
	of[n - suffix] = 0;
	/* Beside an event it may be there before the event is, and after. */
	return stamp_id_valid(of) || faccessat(dir_fd, of, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool stray_is(int dir_fd, const char *name)
{
	return !spool_is_dots(name) && !stamp_id_valid(name) && !is_reason(dir_fd, name);
}

char *stray_escape(const char *name)
{
	return record_escape(bytes_of(name));
}

bool stray_unescape(const char *text, char *ret_name, size_t size)
{
	_cleanup_free_ char *again = NULL;
	size_t n = 0;

	for (const char *s = text; *s; s++) {
		int byte = *s == '%' ? hex_byte(s + 1) : -1;

		if (n + 1 >= size)
			return false;
		ret_name[n++] = byte < 0 ? *s : (char)byte;
		s += byte < 0 ? 0 : 2;
	}
	ret_name[n] = 0;
	again = stray_escape(ret_name);
	return again && strcmp(again, text) == 0;
}

int stray_add(struct stray_list *l, unsigned place, int dir_fd, const char *name)
{
	struct stray f = {.place = place};
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (l->n == l->allocated) {
		size_t wanted = l->allocated ? 2 * l->allocated : 8;
		struct stray *grown = reallocarray(l->entries, wanted, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		l->entries = grown;
		l->allocated = wanted;
	}
	f.name = strdup(name);
	f.text = stray_escape(name);
	f.size = (uint64_t)st.st_size;
	f.ms = (uint64_t)(st.st_mtim.tv_sec > 0 ? st.st_mtim.tv_sec : 0) * 1000 +
	       (uint64_t)st.st_mtim.tv_nsec / 1000000;
	f.regular = S_ISREG(st.st_mode);
	l->entries[l->n++] = f;
	return f.name && f.text ? 0 : -ENOMEM;
}

const char *stray_problem(const struct stray *f)
{
	return f->regular ? "not a record: its name is not an event's id"
			  : "not a record: not a regular file";
}

static int compare_oldest(const void *a, const void *b)
{
	const struct stray *x = a, *y = b;

	return x->ms != y->ms ? (x->ms < y->ms ? -1 : 1) : strcmp(x->name, y->name);
}

static int compare_newest(const void *a, const void *b)
{
	return compare_oldest(b, a);
}

void stray_sort(struct stray_list *l, bool newest_first)
{
	if (l->n > 0)
		qsort(l->entries, l->n, sizeof(*l->entries),
		      newest_first ? compare_newest : compare_oldest);
}

void stray_cut(struct stray_list *l, size_t n)
{
	for (size_t i = n; i < l->n; i++) {
		free(l->entries[i].name);
		free(l->entries[i].text);
	}
	l->n = n;
}

void stray_clear(struct stray_list *l)
{
	stray_cut(l, 0);
	free(l->entries);
	*l = (struct stray_list){0};
}
