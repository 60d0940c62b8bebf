/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool purge - thins out the archive of what was delivered, or filtered out, by age or
   size. */
#include <fcntl.h>
#include <sys/stat.h>

#include "spooler/admin/command.h"
#include "spooler/spool/lookup.h"
#include "spooler/base/util.h"

struct arguments {
	unsigned places;
	struct filter filter; /* until_ms: older than that */
	bool by_size, by_age, yes, dry_run;
	uint64_t keep_bytes;
};

enum { OPTION_OLDER = 0x2000, OPTION_KEEP, OPTION_FROM };

static const struct argp_option options[] = {
	{"older-than", OPTION_OLDER, "TIME", 0, "remove what is older: 7d, 2026-11-01 ...", 1},
	{"keep", OPTION_KEEP, "SIZE", 0, "keep the newest, so many bytes of them: 500M, 2G", 1},
	{"from", OPTION_FROM, "PLACE", 0, "sent or skipped [sent]", 1},
	{"dry-run", 'n', NULL, 0, "only tell how much would be removed", 1},
	{"yes", 'y', NULL, 0, "do not ask", 1},
	{0},
};

static uint64_t parse_size(const struct argp_state *state, const char *arg)
{
	static const char letters[] = "KMGT";
	char *end = NULL;
	uint64_t n = arg[0] >= '0' && arg[0] <= '9' ? strtoull(arg, &end, 10) : 0;
	const char *letter = end && *end ? strchr(letters, *end & ~0x20) : NULL;
	unsigned shift = letter && *letter ? 10 * (unsigned)(letter - letters + 1) : 0;

	if (shift > 0)
		end++;
	if (shift > 0 && strcmp(end, "iB") == 0)
		end += 2;
	if (!end || *end || n > UINT64_MAX >> shift)
		argp_error(state, "--keep: '%s' is no size; say 500M or 2G", arg);
	return n << shift;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case OPTION_OLDER:
		if (filter_parse_time(arg, (int64_t)time(NULL), &a->filter.until_ms) < 0)
			argp_error(state,
				   "--older-than: '%s' is no time; say 7d, yesterday or 2026-11-01",
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
			argp_error(state,
				   "--from takes sent or skipped, not '%s'; see drop for the rest",
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
			argp_error(state, "say what may go: --older-than TIME, --keep SIZE");
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

/* The list is newest first; returns where in it those begin that go. *ret_bytes is what they
   hold. */
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
	struct progress progress;
	uint64_t removed = 0;
	char count[48];
	size_t i;
	int r = 0;

	progress_start(&progress, "purging", list->n - first);
	for (i = list->n; i > first; i--) { /* the oldest first */
		char name[37];

		spool_id_name(&list->entries[i - 1], name);
		if (unlinkat(l->directories[list->entries[i - 1].source], name, 0) == 0)
			removed++;
		else if (errno != ENOENT) {
			r = -errno;
			break;
		}
		progress_step(&progress);
	}
	progress_end(&progress);
	format_count(removed, "event", count);
	fprintf(stderr, "%s removed\n", count);
	return i > first ? command_event_failure("cannot remove", &list->entries[i - 1], r)
			 : COMMAND_OK;
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
		printf("%s, %s, would be removed\n", count, size);
		r = COMMAND_OK;
	} else if (first < list.n && !a->yes &&
		   !command_confirm("remove %s, %s, from the archive", count, size)) {
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
		.doc = "Removes delivered events from the archive (sent/), by age or size. What spool.sent_age and "
		       "spool.sent_size say is done by the daemon.",
	};
	struct arguments a = {.places = PLACE_BIT(PLACE_SENT)};

	return command_on_spool(&argp, argc, argv, &a, purge);
}
