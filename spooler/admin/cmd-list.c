/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool list - the events in the spool, a line each.
 *
 * File names hold order and time, so a million events cost one pass over the names; a file is
 * opened only if its line is printed or a filter needs its content. Output begins at once and goes
 * line by line.
 */
#include <inttypes.h>

#include "spooler/admin/command.h"
#include "spooler/admin/follow.h"
#include "spooler/admin/listing.h"
#include "spooler/admin/pager.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"
#include "spooler/spool/lookup.h"

#define TERMINAL_LIMIT 100 /* events on a terminal without a pager */
#define FOLLOW_LIMIT 10	   /* events that --follow begins with */

struct arguments {
	struct filter filter;
	unsigned places;
	uint64_t limit; /* 0: not given */
	bool json, oldest_first, newest_first, all, follow, no_pager;
};

enum { OPTION_OLDEST = 0x2000, OPTION_NEWEST, OPTION_NO_PAGER };

static const struct argp_option options[] = {
	{"limit", 'n', "N", 0, "show at most N events [100 on a terminal without a pager]", 1},
	{"all", 'a', NULL, 0, "show all events", 1},
	{"oldest", OPTION_OLDEST, NULL, 0, "oldest first", 1},
	{"newest", OPTION_NEWEST, NULL, 0, "newest first [default]", 1},
	{"follow", 'f', NULL, 0, "show the last 10 events, or N, and new ones as they come", 1},
	{"json", 'j', NULL, 0, "one JSON object per line", 1},
	{"no-pager", OPTION_NO_PAGER, NULL, 0, "do not pipe the output into a pager", 1},
	{0},
};

static void add_place(const struct argp_state *state, struct arguments *a, const char *word)
{
	unsigned more;

	if (!places_parse(word, &more))
		argp_error(
			state,
			"unknown place '%s'; choose new, sent, failed, skipped, replay, emergency or all",
			word);
	a->places |= more;
}

static void check(const struct argp_state *state, struct arguments *a)
{
	if (a->follow && a->newest_first)
		argp_error(state, "--follow shows the oldest first; it does not go with --newest");
	if (a->places == 0)
		a->places = PLACES_ALL;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

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
		a->newest_first = false;
		return 0;
	case OPTION_NEWEST:
		a->oldest_first = false;
		a->newest_first = true;
		return 0;
	case 'f':
		a->follow = true;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case OPTION_NO_PAGER:
		a->no_pager = true;
		return 0;
	case ARGP_KEY_ARG:
		add_place(state, a, arg);
		return 0;
	case ARGP_KEY_END:
		check(state, a);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* --- the list */

/*
 * Reads entry i. The daemon moves events while we read: one that the scan saw in new/ and is in
 * sent/ now is shown there, unless the scan saw it there as well.
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

/* Events and strays in the order of their times. */
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
		     uint64_t limit, struct listing *listing)
{
	struct merge m = {.ids = ids, .strays = &l->strays};
	struct failures failures = {.what = "cannot read"};

	if (filter_needs_record(&a->filter))
		stray_clear(&l->strays);
	listing_start(listing, l, ids);
	while (listing->lines < limit && !command_output_ended()) {
		if (stray_is_next(&m))
			listing_stray(listing, l, &m.strays->entries[m.next_stray++]);
		else if (m.next_id < ids->n)
			print_next_event(l, a, &m, listing, &failures);
		else
			break;
	}
	(void)fflush(stdout);
	return failures_report(&failures);
}

static bool any_waits(const struct id_list *ids)
{
	for (size_t i = 0; i < ids->n; i++)
		if (PLACES_WAITING & PLACE_BIT(ids->entries[i].source))
			return true;
	return false;
}

/* For people: what a line of its own says of the list as a whole. */
static void print_notes(const struct waiting *waiting, bool limited, uint64_t shown)
{
	_cleanup_free_ char *summary = waiting ? waiting_summary(waiting) : NULL;
	_cleanup_free_ char *text =
		summary ? terminal_text(stdout, summary, strlen(summary)) : NULL;

	if (text)
		puts(text);
	if (limited)
		printf("%" PRIu64 " shown, there are more; see --limit and --all\n", shown);
}

static int list(struct lookup *l, const struct arguments *a)
{
	bool paged = !a->json && !a->no_pager && pager_open() > 0;
	bool people = !a->json && terminal_is(stdout);
	bool by_default = a->limit == 0 && !a->all && people && !paged;
	uint64_t limit = by_default ? TERMINAL_LIMIT : a->limit ? a->limit : UINT64_MAX;
	struct id_list ids = {.newest = !a->oldest_first};
	/* Before the records are read, a filter of their content may match any name. Some more
	   than the limit make up for those that move on meanwhile. */
	size_t wanted =
		filter_needs_record(&a->filter) || limit > SIZE_MAX / 8 ? SIZE_MAX / 8 : limit + 64;
	struct listing listing = {.json = a->json};
	struct waiting waiting = {0};
	int unreadable = command_check_places(l, a->places),
	    r = lookup_scan(l, a->places, &a->filter, wanted, &ids);

	if (r == 0 && any_waits(&ids)) {
		waiting_load(&waiting, l);
		listing.waiting = &waiting;
	}
	r = r < 0 ? command_failure("cannot read the spool", r)
		  : print_all(l, a, &ids, limit, &listing);
	if (people)
		print_notes(listing.waiting,
			    by_default && listing.lines == limit && l->seen > listing.lines,
			    listing.lines);
	waiting_release(&waiting);
	id_list_clear(&ids);
	return r == COMMAND_OK ? unreadable : r;
}

static int run(struct lookup *l, void *arguments)
{
	const struct arguments *a = arguments;
	struct listing listing = {.json = a->json};

	if (a->follow)
		return follow(l, a->places, &a->filter, &listing,
			      a->all	 ? UINT64_MAX
			      : a->limit ? a->limit
					 : FOLLOW_LIMIT);
	return list(l, a);
}

int cmd_list(int argc, char **argv)
{
	static const struct argp_child children[] = {{&filter_argp, 0, NULL, 0}, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[new|replay|emergency|sent|failed|skipped|all]...",
		.doc = "Lists the events in the spool: those that wait (new), were delivered (sent), cannot be delivered "
		       "(failed), or were filtered out (skipped); by default all of them. Files that are not events are "
		       "listed as well, by their name.",
		.children = children,
	};
	struct arguments a = {0};

	return command_on_spool(&argp, argc, argv, &a, run);
}
