/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool purge - removes events from the archive (delivered, or filtered out), by age or
   size. An event that cannot be removed is reported at the end, and the rest is removed nevertheless. */
#include <fcntl.h>
#include <sys/stat.h>

#include "spooler/admin/command.h"
#include "spooler/spool/lookup.h"
#include "spooler/base/number.h"
#include "spooler/base/util.h"

struct arguments {
	unsigned places;
	struct filter filter; /* until_ms: remove what is older */
	bool by_size, by_age, yes, dry_run;
	uint64_t keep_bytes;
};

enum { OPTION_OLDER = 0x2000, OPTION_KEEP, OPTION_FROM };

static const struct argp_option options[] = {
	{"older-than", OPTION_OLDER, "TIME", 0, "remove events older than TIME: 7d, 2026-11-01 ...",
	 1},
	{"keep", OPTION_KEEP, "SIZE", 0, "keep the newest SIZE bytes: 500M, 2G", 1},
	{"from", OPTION_FROM, "PLACE", 0, "sent or skipped [sent]", 1},
	{"dry-run", 'n', NULL, 0, "only show how much would be removed", 1},
	{"yes", 'y', NULL, 0, "do not ask", 1},
	{0},
};

/* 500M, 2g, 1GiB; without a unit bytes. */
static uint64_t parse_size(const struct argp_state *state, const char *arg)
{
	static const char letters[] = "KMGT";
	const char *s = arg, *letter;
	uint64_t n = 0;
	unsigned shift = 0;
	bool good = number_take(&s, &n);

	letter = good && *s ? strchr(letters, *s & ~0x20) : NULL;
	if (letter && *letter) {
		shift = 10 * (unsigned)(letter - letters + 1);
		s += strcmp(s + 1, "iB") == 0 ? 3 : 1;
	}
	if (!good || *s || n > UINT64_MAX >> shift)
		argp_error(state, "--keep: '%s' is not a size below 16 EiB; try 500M or 2G", arg);
	return n << shift;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case OPTION_OLDER:
		if (filter_parse_time(arg, (int64_t)time(NULL), &a->filter.until_ms) < 0)
			argp_error(
				state,
				"--older-than: '%s' is not a time; try 7d, yesterday or 2026-11-01",
				arg);
		a->by_age = true;
		return 0;
	case OPTION_KEEP:
		a->keep_bytes = parse_size(state, arg);
		a->by_size = true;
		return 0;
	case OPTION_FROM:
		if (!places_parse(arg, &a->places) ||
		    a->places & ~(PLACE_BIT(PLACE_SENT) | PLACE_BIT(PLACE_SKIPPED)))
			argp_error(
				state,
				"--from takes sent or skipped, not '%s'; see `virtspool drop` for the rest",
				arg);
		return 0;
	case 'n':
		a->dry_run = true;
		return 0;
	case 'y':
		a->yes = true;
		return 0;
	case ARGP_KEY_END:
		if (!a->by_age && !a->by_size)
			argp_error(state, "give --older-than TIME or --keep SIZE");
		return 0;
	default:
		return command_no_arguments(key, arg, state);
	}
}

static uint64_t size_of(const struct lookup *l, const struct spool_id *id)
{
	struct stat st;
	char name[37];

	spool_id_name(id, name);
	return fstatat(l->directories[id->source], name, &st, AT_SYMLINK_NOFOLLOW) == 0
		       ? spool_bytes_on_disk(&st)
		       : 0;
}

/* The list is newest first: those from the returned index on are to be removed. *ret_bytes is their
   size. */
static size_t first_to_go(const struct lookup *l, const struct arguments *a,
			  const struct id_list *list, uint64_t *ret_bytes)
{
	uint64_t kept = 0, going = 0;
	size_t first = list->n;

	for (size_t i = 0; i < list->n; i++) {
		uint64_t size = size_of(l, &list->entries[i]);
		bool old = a->by_age && spool_id_ms(&list->entries[i]) < a->filter.until_ms;

		if (first == list->n && (old || (a->by_size && kept + size > a->keep_bytes)))
			first = i;
		if (first == list->n)
			kept += size;
		else
			going += size;
	}
	*ret_bytes = going;
	return first;
}

static int purge_all(const struct lookup *l, const struct id_list *list, size_t first)
{
	struct failures failures = {.what = "cannot remove"};
	struct progress progress;
	uint64_t removed = 0;
	char count[48];

	progress_start(&progress, "purging", list->n - first);
	for (size_t i = list->n; i > first; i--) { /* the oldest first */
		const struct spool_id *id = &list->entries[i - 1];
		char name[37];

		spool_id_name(id, name);
		if (unlinkat(l->directories[id->source], name, 0) == 0)
			removed++;
		else if (errno != ENOENT)
			failures_add(&failures, id, -errno);
		progress_step(&progress);
	}
	progress_end(&progress);
	format_count(removed, "event", count);
	fprintf(stderr, "%s removed\n", count);
	return failures_report(&failures);
}

static int purge(struct lookup *l, void *arguments)
{
	const struct filter everything = {0};
	struct id_list list = {.newest = true};
	struct arguments *a = arguments;
	char size[32], count[48];
	uint64_t bytes;
	size_t first;
	int r = command_check_places(l, a->places);

	if (r != COMMAND_OK)
		return r;
	r = lookup_scan(l, a->places, &everything, SIZE_MAX / 8, &list);
	if (r < 0)
		return command_failure("cannot read the spool", r);
	first = first_to_go(l, a, &list, &bytes);
	format_count(list.n - first, "event", count);
	format_size(bytes, size);
	if (a->dry_run) {
		printf("%s (%s) would be removed\n", count, size);
		r = COMMAND_OK;
	} else if (first < list.n && !a->yes &&
		   !command_confirm(
			   "Remove %s (%s) from the archive? They cannot be replayed any more.",
			   count, size)) {
		r = COMMAND_FAILED;
	} else {
		r = purge_all(l, &list, first);
	}
	id_list_clear(&list);
	return r;
}

int cmd_purge(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Removes delivered events from the archive (sent/), by age or size. The daemon enforces "
		       "spool.sent_age and spool.sent_size by itself.",
	};
	struct arguments a = {.places = PLACE_BIT(PLACE_SENT)};

	return command_on_spool(&argp, argc, argv, &a, purge);
}
