/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * states - see states.h. The file is text:
 *
 *	virtspool-listen 1
 *	UUID STATE ID PERSISTENT NAME
 *	...
 *	end COUNT
 *
 * with the numbers of libvirt's states, and the name percent-escaped. Without its last line it is
 * damaged.
 */
#include "spooler/listener/states.h"

#include "hook/place.h"
#include "hook/spool.h"
#include "spooler/base/atomic-file.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/spool/record-parse.h"

#define FIRST_LINE "virtspool-listen 1\n"
#define PREFIX "listen."
#define FILE_SIZE_MAX (64 * 1024 * 1024)

/* --- the list */

static size_t position(const struct states *k, const char *uuid, bool *ret_found)
{
	size_t low = 0, high = k->n;

	*ret_found = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(k->list[middle].uuid, uuid);

		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct domain_state *states_find(struct states *k, const char *uuid)
{
	bool found;
	size_t i = position(k, uuid, &found);

	return found ? &k->list[i] : NULL;
}

struct domain_state *states_put(struct states *k, const char *uuid, const char *name)
{
	_cleanup_free_ char *copy = strdup(name);
	struct domain_state *d;
	bool found;
	size_t i = position(k, uuid, &found);

	if (!copy || strlen(uuid) >= STATES_UUID)
		return NULL;
	if (!found && k->n == k->room) {
		size_t room = k->room ? 2 * k->room : 16;
		struct domain_state *list = realloc(k->list, room * sizeof(*list));

		if (!list)
			return NULL;
		k->list = list;
		k->room = room;
	}
	d = &k->list[i];
	if (found) {
		free(d->name);
	} else {
		memmove(d + 1, d, (k->n++ - i) * sizeof(*d));
		*d = (struct domain_state){.id = -1};
		strcpy(d->uuid, uuid);
	}
	d->name = TAKE_PTR(copy);
	k->changed = true;
	return d;
}

void states_remove(struct states *k, struct domain_state *d)
{
	size_t i = (size_t)(d - k->list);

	free(d->name);
	memmove(d, d + 1, (--k->n - i) * sizeof(*d));
	k->changed = true;
}

void states_release(struct states *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->list[i].name);
	free(k->list);
	free(k->path);
	*k = (struct states){};
}

/* --- the file */

static int path_of(const char *uri, char **ret_path)
{
	_cleanup_free_ char *name = malloc(3 * strlen(uri) + 1);
	size_t n = 0;

	if (!name)
		return -ENOMEM;
	for (; *uri; uri++)
		if (*uri > ' ' && *uri < 0x7f && *uri != '/' && *uri != '%')
			name[n++] = *uri;
		else
			n += (size_t)sprintf(name + n, "%%%02X", (unsigned char)*uri);
	name[n < 200 ? n : 200] = '\0';
	return asprintf(ret_path, "%s/" PREFIX "%s", spool_directory(), name) < 0 ? -ENOMEM : 0;
}

static bool parse_line(struct states *k, char *line)
{
	struct domain_state *d;
	char uuid[STATES_UUID];
	int state, id, persistent, at = 0;
	struct bytes name;

	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "%36[0-9a-f-] %d %d %d%n", uuid, &state, &id, &persistent, &at) != 4 ||
	    line[at] != ' ' || !record_unescape(line + at + 1, strlen(line + at + 1), &name))
		return false;
	line[at + 1 + name.size] = '\0';
	d = states_put(k, uuid, name.data);
	if (!d)
		return false;
	d->state = state;
	d->id = id;
	d->persistent = persistent;
	return true;
}

bool states_parse(struct states *k, FILE *f)
{
	_cleanup_free_ char *line = NULL;
	size_t room = 0, count = 0;

	if (getline(&line, &room, f) < 0 || strcmp(line, FIRST_LINE) != 0)
		return false;
	while (getline(&line, &room, f) > 0) {
		if (sscanf(line, "end %zu\n", &count) == 1)
			return count == k->n;
		if (!parse_line(k, line))
			return false;
	}
	return false;
}

static const char *file_name(const struct states *k)
{
	return strrchr(k->path, '/') + 1;
}

/* Others of the spool's group can put something there. */
static int read_safely(const struct states *k, char **ret_text, size_t *ret_size)
{
	_cleanup_close_ int spool_fd = place_open_top(spool_directory());

	return spool_fd < 0 ? spool_fd
			    : safe_read(spool_fd, file_name(k), FILE_SIZE_MAX, ret_text, ret_size);
}

int states_load(struct states *k, const char *uri)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_fclose_ FILE *f = NULL;
	size_t size;
	bool whole;
	int r;

	*k = (struct states){};
	if (path_of(uri, &k->path) < 0)
		return -ENOMEM;
	r = read_safely(k, &text, &size);
	if (r < 0)
		return r != -ENOENT;
	f = size > 0 ? fmemopen(text, size, "r") : NULL;
	whole = f && states_parse(k, f);
	if (!whole) {
		char *path = TAKE_PTR(k->path);

		states_release(k);
		k->path = path;
	}
	k->changed = false;
	return !whole;
}

int states_print(const struct states *k, FILE *f)
{
	fputs(FIRST_LINE, f);
	for (size_t i = 0; i < k->n; i++) {
		const struct domain_state *d = &k->list[i];
		_cleanup_free_ char *name = record_escape(bytes_of(d->name));

		if (!name)
			return -ENOMEM;
		fprintf(f, "%s %d %d %d %s\n", d->uuid, d->state, d->id, d->persistent, name);
	}
	fprintf(f, "end %zu\n", k->n);
	return fflush(f) != 0 ? -errno : 0;
}

int states_save(struct states *k)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *f;
	int r;

	if (!k->changed)
		return 0;
	f = open_memstream(&text, &size);
	if (!f)
		return -ENOMEM;
	r = states_print(k, f);
	(void)fclose(f);
	if (r == 0)
		r = atomic_file_write_synced(spool_directory(), file_name(k), text, size, 0640);
	if (r == 0)
		k->changed = false;
	return r;
}
