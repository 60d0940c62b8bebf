/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* select - see select.h. */
#include "spooler/admin/listing.h"
#include "spooler/base/log.h"
#include "spooler/admin/select.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"

/* --- the command line */

enum { OPTION_ALL = 0x2000 };

static const struct argp_option selection_options[] = {
	{"all", OPTION_ALL, NULL, 0, "all events in these places", 1},
	{"dry-run", 'n', NULL, 0, "only list the events", 1},
	{"yes", 'y', NULL, 0, "do not ask", 1},
	{"json", 'j', NULL, 0, "with --dry-run: one JSON object per line", 1},
	{0},
};

void selection_parse_from(struct selection *s, const struct argp_state *state, const char *arg)
{
	unsigned places = 0;

	if (!places_parse(arg, &places) || places & ~s->allowed)
		argp_error(state, "--from does not take '%s' here; see --help", arg);
	s->places = places;
}

static error_t parse_selection(int key, char *arg, struct argp_state *state)
{
	struct selection *s = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &s->filter;
		return 0;
	case OPTION_ALL:
		s->all = true;
		return 0;
	case 'n':
		s->dry_run = true;
		return 0;
	case 'y':
		s->yes = true;
		return 0;
	case 'j':
		s->json = true;
		return 0;
	case ARGP_KEY_ARGS:
		s->ids = state->argv + state->next;
		s->n_ids = state->argc - state->next;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child selection_children[] = {{&filter_argp, 0, NULL, 0}, {0}};
const struct argp selection_argp = {
	.options = selection_options,
	.parser = parse_selection,
	.children = selection_children,
};

/* --- what it selects */
static bool is_in(const struct id_list *list, const struct spool_id *id)
{
	for (size_t i = 0; i < list->n; i++)
		if (spool_id_compare(&list->entries[i], id) == 0)
			return true;
	return false;
}

/* 1: found; 0: said why not. */
static int find_id(struct lookup *l, const struct selection *s, const char *text,
		   struct id_list *list)
{
	struct spool_id id;
	int r = s->strays ? lookup_find_stray(l, s->places, text) : 0;

	if (r != 0)
		return r;
	r = lookup_find(l, s->places, text, &id);
	if (r == 1)
		return is_in(list, &id) || id_list_add(list, &id, SIZE_MAX / 8) == 0 ? 1 : -ENOMEM;
	if (r == -EEXIST)
		log_error("'%s' is ambiguous; give more digits of the id", text);
	else
		log_error("no event has an id that begins with '%s'; see `virtspool list`", text);
	return 0;
}

static int find_ids(struct lookup *l, const struct selection *s, struct id_list *list)
{
	int code = COMMAND_OK;

	for (int i = 0; i < s->n_ids; i++) {
		int r = find_id(l, s, s->ids[i], list);

		if (r < 0)
			return command_failure("cannot remember an id", r);
		if (r == 0)
			code = COMMAND_FAILED;
	}
	id_list_sort(list, SIZE_MAX / 8);
	return code;
}

/* Keeps those whose records match. One that cannot be read does not match, and is reported. */
static int look_into(struct lookup *l, const struct filter *f, struct id_list *list)
{
	struct failures failures = {.what = "cannot read"};
	struct progress progress;
	size_t kept = 0;

	progress_start(&progress, "looking", list->n);
	for (size_t i = 0; i < list->n; i++) {
		struct found found;
		int r = lookup_read(l, &list->entries[i], 0, &found);

		progress_step(&progress);
		if (r < 0 && r != -ENOENT)
			failures_add(&failures, &list->entries[i], r);
		if (r < 0)
			continue;
		if (found_matches(&found, f))
			list->entries[kept++] = list->entries[i];
		found_release(&found);
	}
	progress_end(&progress);
	list->n = kept;
	return failures_report(&failures);
}

int selection_find(struct lookup *l, const struct selection *s, struct id_list *list)
{
	bool filtered = !filter_is_empty(&s->filter) || s->all;
	int r;

	if (s->n_ids > 0 && filtered) {
		log_error("give either ids or filters, not both");
		return COMMAND_USAGE;
	}
	if (s->n_ids == 0 && !filtered) {
		log_error(
			"which events? give ids, filters (--vm, --op, --driver, --since, --until) or --all");
		return COMMAND_USAGE;
	}
	r = command_check_places(l, s->places);
	if (r != COMMAND_OK)
		return r;
	if (s->n_ids > 0)
		return find_ids(l, s, list);
	r = lookup_scan(l, s->places, &s->filter, SIZE_MAX / 8, list);
	if (r < 0)
		return command_failure("cannot read the spool", r);
	if (!s->strays || filter_needs_record(&s->filter))
		stray_clear(&l->strays);
	return filter_needs_record(&s->filter) ? look_into(l, &s->filter, list) : COMMAND_OK;
}

void selection_count(const struct lookup *l, const struct id_list *list, char ret[static 128])
{
	const char *what =
		l->strays.n == 1 ? "file that is not an event" : "files that are not events";
	char events[48];

	format_count(list->n, "event", events);
	if (l->strays.n == 0)
		(void)snprintf(ret, 128, "%s", events);
	else if (list->n == 0)
		(void)snprintf(ret, 128, "%zu %s", l->strays.n, what);
	else
		(void)snprintf(ret, 128, "%s and %zu %s", events, l->strays.n, what);
}

int selection_dry_run(struct lookup *l, const struct selection *s, const struct id_list *list,
		      const char *done)
{
	struct failures failures = {.what = "cannot read"};
	struct listing listing = {.json = s->json};
	char count[128];

	listing_start(&listing, l, list);
	for (size_t i = 0; i < list->n && !command_output_ended(); i++) {
		struct found f;
		int r = lookup_read(l, &list->entries[i], listing_wants(&listing), &f);

		if (r < 0 && r != -ENOENT)
			failures_add(&failures, &list->entries[i], r);
		if (r < 0)
			continue;
		listing_event(&listing, &f);
		found_release(&f);
	}
	for (size_t i = 0; i < l->strays.n && !command_output_ended(); i++)
		listing_stray(&listing, l, &l->strays.entries[i]);
	(void)fflush(stdout);
	selection_count(l, list, count);
	fprintf(stderr, "%s would be %s\n", count, done);
	return failures_report(&failures);
}
