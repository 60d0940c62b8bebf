/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lookup - see lookup.h. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "hook/spool.h"
#include "spooler/base/safe-read.h"
#include "spooler/spool/document-uuid.h"
#include "spooler/spool/lookup.h"
#include "spooler/base/util.h"
#include "spooler/spool/record-parse.h"

#define REASON_MAX 4096

bool places_parse(const char *word, unsigned *ret_places)
{
	if (strcmp(word, "new") == 0) {
		*ret_places = PLACES_WAITING;
		return true;
	}
	if (strcmp(word, "all") == 0) {
		*ret_places = PLACES_ALL;
		return true;
	}
	for (enum place p = 0; p < N_PLACES; p++)
		if (PLACES_ALL & PLACE_BIT(p) && strcmp(word, place_table[p].name) == 0) {
			*ret_places = PLACE_BIT(p);
			return true;
		}
	return false;
}

/* --- the directories */

int lookup_open(struct lookup *l)
{
	_cleanup_close_ int spool_fd = place_open_top(spool_directory());
	_cleanup_close_ int run_fd = place_open_top(spool_run_directory());

	*l = (struct lookup){0};
	for (enum place p = 0; p < N_PLACES; p++) {
		int fd = place_open(spool_fd, run_fd, p);

		l->directories[p] = fd < 0 ? -1 : fd;
		l->errors[p] = fd < 0 ? fd : 0;
	}
	/* /run begins empty, and the emergency spool with it */
	if (l->errors[PLACE_EMERGENCY] == -ENOENT)
		l->errors[PLACE_EMERGENCY] = 0;
	return l->errors[PLACE_NEW];
}

void lookup_release(struct lookup *l)
{
	for (size_t i = 0; i < N_PLACES; i++)
		close_fdp(&l->directories[i]);
	record_buffer_release(&l->buffer);
	stray_clear(&l->strays);
}

/* A stream of its own, from the beginning. NULL: it cannot be read. */
static DIR *read_directory(const struct lookup *l, enum place place)
{
	int fd;
	DIR *d;

	if (l->directories[place] < 0)
		return NULL;
	fd = place_open_directory(l->directories[place], ".");
	if (fd < 0)
		return NULL;
	d = fdopendir(fd);
	if (!d)
		(void)close(fd);
	return d;
}

static int scan_place(struct lookup *l, enum place place, const struct filter *f, size_t limit,
		      struct id_list *list)
{
	DIR *d = read_directory(l, place);
	const struct dirent *de;
	struct spool_id id;
	int r = 0;

	if (!d)
		return 0;
	while (r >= 0 && (de = readdir(d))) {
		if (!spool_id_parse(de->d_name, &id)) {
			if (stray_is(dirfd(d), de->d_name))
				r = stray_add(&l->strays, place, dirfd(d), de->d_name);
			continue;
		}
		if (!filter_matches_time(f, spool_id_ms(&id)))
			continue;
		l->seen++;
		id.source = (unsigned char)place;
		r = id_list_add(list, &id, limit);
	}
	(void)closedir(d);
	return r;
}

/* Keeps those that were written within the filter's time. */
static void keep_stray(struct stray_list *list, const struct filter *f)
{
	size_t kept = 0;

	for (size_t i = 0; i < list->n; i++) {
		if (filter_matches_time(f, list->entries[i].ms)) {
			struct stray matches = list->entries[i];

			list->entries[i] = list->entries[kept];
			list->entries[kept++] = matches;
		}
	}
	stray_cut(list, kept);
}

int lookup_scan(struct lookup *l, unsigned among, const struct filter *f, size_t limit,
		struct id_list *list)
{
	int r = 0;

	l->seen = 0;
	stray_clear(&l->strays);
	for (enum place p = 0; p < N_PLACES && r >= 0; p++)
		if (among & PLACE_BIT(p))
			r = scan_place(l, p, f, limit, list);
	if (r < 0)
		return r;
	keep_stray(&l->strays, f);
	stray_sort(&l->strays, list->newest);
	l->seen += l->strays.n;
	id_list_sort(list, limit);
	return 0;
}

/* The size of more is estimated from these: a million stats would take seconds. */
#define SIZED_MAX 65536

int lookup_count(struct lookup *l, enum place place, bool with_size, struct place_count *ret_count)
{
	struct place_count c = {0};
	DIR *d = read_directory(l, place);
	const struct dirent *de;
	struct spool_id id;
	struct stat st;

	while (d && (de = readdir(d))) {
		if (l->progress)
			++*l->progress;
		if (!spool_id_parse(de->d_name, &id)) {
			c.strays += stray_is(dirfd(d), de->d_name);
			continue;
		}
		c.records++;
		if (c.oldest_ms == 0 || spool_id_ms(&id) < c.oldest_ms)
			c.oldest_ms = spool_id_ms(&id);
		if (with_size && c.records <= SIZED_MAX &&
		    fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			c.bytes += spool_bytes_on_disk(&st);
	}
	if (d)
		(void)closedir(d);
	c.estimated = with_size && c.records > SIZED_MAX;
	if (c.estimated)
		c.bytes = (uint64_t)((double)c.bytes / SIZED_MAX * (double)c.records);
	*ret_count = c;
	return l->errors[place];
}

/* --- one id */

static bool same_id(const struct spool_id *a, const struct spool_id *b)
{
	return spool_id_compare(a, b) == 0;
}

/* Goes through a directory for names that begin with prefix. */
static int find_in(struct lookup *l, enum place place, const char *prefix, struct spool_id *id,
		   int found)
{
	DIR *d = read_directory(l, place);
	const struct dirent *de;
	struct spool_id e;

	if (!d)
		return found;
	while (found >= 0 && (de = readdir(d))) {
		if (strncmp(de->d_name, prefix, strlen(prefix)) != 0 ||
		    !spool_id_parse(de->d_name, &e))
			continue;
		e.source = (unsigned char)place;
		if (found == 0) {
			*id = e;
			found = 1;
		} else if (!same_id(id, &e)) {
			found = -EEXIST;
		}
	}
	(void)closedir(d);
	return found;
}

static int find_whole(struct lookup *l, unsigned among, const char *name, struct spool_id *id)
{
	for (enum place p = 0; p < N_PLACES; p++)
		if (among & PLACE_BIT(p) && l->directories[p] >= 0 &&
		    faccessat(l->directories[p], name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
			id->source = (unsigned char)p;
			return 1;
		}
	return 0;
}

int lookup_find(struct lookup *l, unsigned among, const char *prefix, struct spool_id *ret_id)
{
	struct spool_id id = {0};
	int found = 0;

	if (!prefix[0]) /* an unset variable of a script; it would be a prefix of every id */
		return 0;
	if (spool_id_parse(prefix, &id)) {
		found = find_whole(l, among, prefix, &id);
	} else {
		for (enum place p = 0; p < N_PLACES; p++)
			if (among & PLACE_BIT(p))
				found = find_in(l, p, prefix, &id, found);
	}
	if (found == 1)
		*ret_id = id;
	return found;
}

int lookup_find_stray(struct lookup *l, unsigned among, const char *text)
{
	char name[NAME_MAX + 1];

	if (!stray_unescape(text, name, sizeof(name)) || !name[0] || strchr(name, '/'))
		return 0;
	for (enum place p = 0; p < N_PLACES; p++) {
		size_t before = l->strays.n;

		if (!(among & PLACE_BIT(p)) || l->directories[p] < 0 ||
		    !stray_is(l->directories[p], name))
			continue;
		if (stray_add(&l->strays, p, l->directories[p], name) < 0)
			return -ENOMEM;
		if (l->strays.n > before)
			return 1;
	}
	return 0;
}

/* --- short ids */

#define PREFIX_MIN 8

/* The next ids on both sides have the longest prefix in common with `id`. */
static size_t common_with_neighbours(const struct id_list *ids, const struct spool_id *id)
{
	size_t after = id_list_find(ids, id), before = after, most = 0;

	while (after < ids->n && same_id(&ids->entries[after], id))
		after++;
	if (before > 0)
		most = spool_id_common(&ids->entries[before - 1], id);
	if (after < ids->n && spool_id_common(&ids->entries[after], id) > most)
		most = spool_id_common(&ids->entries[after], id);
	return most;
}

size_t lookup_unique_prefix(struct lookup *l, const struct id_list *ids)
{
	size_t common = PREFIX_MIN - 1;

	for (enum place p = 0; p < N_PLACES && ids->n > 0; p++) {
		DIR *d = PLACES_ALL & PLACE_BIT(p) ? read_directory(l, p) : NULL;
		const struct dirent *de;
		struct spool_id id;

		while (d && (de = readdir(d))) {
			size_t n;

			if (!spool_id_parse(de->d_name, &id))
				continue;
			n = common_with_neighbours(ids, &id);
			common = n > common ? n : common;
		}
		if (d)
			(void)closedir(d);
	}
	return common + 1;
}

/* --- reading */

char *lookup_reason(const struct lookup *l, enum place place, const char *name)
{
	char file[NAME_MAX + 1], *text;
	size_t n;

	if (place != PLACE_FAILED || !record_reason_name(name, file) ||
	    safe_read(l->directories[place], file, REASON_MAX, &text, &n) < 0)
		return NULL;
	while (n > 0 && text[n - 1] == '\n')
		text[--n] = 0;
	if (n == 0)
		free(TAKE_PTR(text));
	return text;
}

static void find_uuid(struct found *f)
{
	if (!f->problem)
		document_uuid(f->record.document, f->uuid);
}

int lookup_read(struct lookup *l, const struct spool_id *id, unsigned want, struct found *ret_found)
{
	struct found f = {.id = *id, .place = id->source};
	int r;

	spool_id_name(id, f.name);
	if (l->directories[f.place] < 0)
		return -ENOENT;
	r = record_file_read(l->directories[f.place], f.name, &l->buffer, &f.size, &f.problem);
	if (r < 0 && r != -EBADMSG)
		return r;
	if (r == 0 && !(want & LOOKUP_RAW) &&
	    record_parse(l->buffer.data, f.size, &f.record, &f.problem) == 0)
		f.problem = NULL;
	if (want & LOOKUP_UUID)
		find_uuid(&f);
	if (want & LOOKUP_REASON)
		f.reason = lookup_reason(l, f.place, f.name);
	*ret_found = f;
	return 0;
}

void found_release(struct found *f)
{
	free(f->reason);
	f->reason = NULL;
}

bool found_matches(struct found *found, const struct filter *f)
{
	if (!filter_needs_record(f))
		return true;
	if (found->problem)
		return false;
	if (filter_matches(f, &found->record, found->uuid))
		return true;
	if (!filter_needs_uuid(f) || found->uuid[0])
		return false;
	find_uuid(found);
	return found->uuid[0] && filter_matches(f, &found->record, found->uuid);
}
