/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool list - what is in the spool, a line each.
 *
 * The names of a directory tell order and time, so a million events cost one pass over the names;
 * opened is only what is printed, or must be looked into because a filter asks for its content.
 * Output begins at once and goes line by line.
 */
#include <inttypes.h>

#include "spooler/admin/command.h"
#include "spooler/admin/listing.h"
#include "spooler/spool/lookup.h"
#include "spooler/base/util.h"

#define TERMINAL_LIMIT 100 /* lines for a person who has not said how many */

struct arguments {
	struct filter filter;
	unsigned places;
	uint64_t limit;
	bool json, oldest_first, all;
};

enum { OPTION_OLDEST = 0x2000, OPTION_NEWEST, OPTION_ALL };

static const struct argp_option options[] = {
	{"limit", 'n', "N", 0, "so many [100 on a terminal, otherwise all]", 1},
	{"all", 'a', NULL, 0, "without a limit", 1},
	{"oldest", OPTION_OLDEST, NULL, 0, "the oldest first", 1},
	{"newest", OPTION_NEWEST, NULL, 0, "the newest first [default]", 1},
	{"json", 'j', NULL, 0, "one JSON object a line", 1},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;
	unsigned places;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &a->filter;
		return 0;
	case 'n':
		a->limit = command_number(state, "--limit", arg, UINT64_MAX);
		return 0;
	case 'a':
		a->all = true;
		return 0;
	case OPTION_OLDEST:
		a->oldest_first = true;
		return 0;
	case OPTION_NEWEST:
		a->oldest_first = false;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (!places_parse(arg, &places))
			argp_error(
				state,
				"'%s' is none of new, sent, failed, skipped, replay, emergency, all",
				arg);
		a->places |= places;
		return 0;
	case ARGP_KEY_END:
		if (a->places == 0)
			a->places = PLACES_ALL;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* --- the list */

/*
 * Reads entry i. The daemon moves events while we read: one that was met in new/ and is in sent/
 * now is shown there, unless the scan has met it there as well.
 */
static int read_entry(struct lookup *l, const struct arguments *a, const struct id_list *list,
		      size_t i, unsigned want, struct found *ret_found)
{
	const struct spool_id *id = &list->entries[i];
	struct spool_id moved;
	char name[37];
	int r = lookup_read(l, id, want, ret_found);

	if (r != -ENOENT || (i > 0 && spool_id_compare(id, id - 1) == 0) ||
	    (i + 1 < list->n && spool_id_compare(id, id + 1) == 0))
		return r;
	spool_id_name(id, name);
	return lookup_find(l, a->places, name, &moved) == 1
		       ? lookup_read(l, &moved, want, ret_found)
		       : -ENOENT;
}

/* Events and what is none, as their times have it. */
struct merge {
	const struct id_list *ids;
	const struct stray_list *strays;
	size_t next_id, next_stray;
};

static bool stray_is_next(const struct merge *m)
{
	uint64_t event, stray;

	if (m->next_stray == m->strays->n || m->next_id == m->ids->n)
		return m->next_stray < m->strays->n;
	event = spool_id_ms(&m->ids->entries[m->next_id]);
	stray = m->strays->entries[m->next_stray].ms;
	return m->ids->newest ? stray >= event : stray < event;
}

static void print_next_event(struct lookup *l, const struct arguments *a, struct merge *m,
			     struct listing *listing, struct failures *failures)
{
	size_t i = m->next_id++;
	struct found f;
	int r = read_entry(l, a, m->ids, i, listing_wants(listing), &f);

	if (r < 0 && r != -ENOENT)
		failures_add(failures, &m->ids->entries[i], r);
	if (r < 0)
		return;
	if (found_matches(&f, &a->filter))
		listing_event(listing, &f);
	found_release(&f);
}

static int print_all(struct lookup *l, const struct arguments *a, const struct id_list *ids,
		     uint64_t limit, uint64_t *ret_shown)
{
	struct merge m = {.ids = ids, .strays = &l->strays};
	struct failures failures = {.what = "cannot read"};
	struct listing listing = {.json = a->json};

	if (filter_needs_record(&a->filter))
		stray_clear(&l->strays);
	while (listing.lines < limit && !command_output_ended()) {
		if (stray_is_next(&m))
			listing_stray(&listing, l, &m.strays->entries[m.next_stray++]);
		else if (m.next_id < ids->n)
			print_next_event(l, a, &m, &listing, &failures);
		else
			break;
	}
	*ret_shown = listing.lines;
	(void)fflush(stdout);
	return failures_report(&failures);
}

static int list(struct lookup *l, void *arguments)
{
	struct arguments *a = arguments;
	bool by_default = a->limit == 0 && !a->all && !a->json && isatty(STDOUT_FILENO);
	uint64_t limit = by_default ? TERMINAL_LIMIT : a->limit ? a->limit : UINT64_MAX, shown = 0;
	struct id_list ids = {.newest = !a->oldest_first};
	/* What a filter of content lets pass is not known yet: all names are candidates. A few
	   more than asked for make up for those that move on meanwhile. */
	size_t wanted =
		filter_needs_record(&a->filter) || limit > SIZE_MAX / 8 ? SIZE_MAX / 8 : limit + 64;
	int unreadable = command_check_places(l, a->places),
	    r = lookup_scan(l, a->places, &a->filter, wanted, &ids);

	if (r < 0)
		r = command_failure("cannot read the spool", r);
	else
		r = print_all(l, a, &ids, limit, &shown);
	if (r == COMMAND_OK && by_default && shown == limit && l->seen > shown) {
		(void)fflush(stdout);
		fprintf(stderr, "%" PRIu64 " shown, there are more; see --limit and --all\n",
			shown);
	}
	id_list_clear(&ids);
	return r == COMMAND_OK ? unreadable : r;
}

int cmd_list(int argc, char **argv)
{
	static const struct argp_child children[] = {{&filter_argp, 0, NULL, 0}, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[new|replay|emergency|sent|failed|skipped|all]...",
		.doc = "Lists the events in the spool: those that wait (new), were delivered (sent), could not be "
		       "(failed), or were filtered out (skipped); all of them by default. What lies there and is no "
		       "event is listed as well, by its name.",
		.children = children,
	};
	struct arguments a = {0};

	return command_on_spool(&argp, argc, argv, &a, list);
}
