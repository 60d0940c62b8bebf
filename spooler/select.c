/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* select - see select.h. */
#include "command.h"
#include "listing.h"
#include "log.h"
#include "select.h"
#include "terminal.h"
#include "util.h"

static bool is_in(const struct id_list *list, const struct spool_id *id)
{
	for (size_t i = 0; i < list->n; i++)
		if (spool_id_compare(&list->entries[i], id) == 0)
			return true;
	return false;
}

static int find_ids(struct lookup *l, const struct selection *s, struct id_list *list)
{
	int code = COMMAND_OK;

	for (int i = 0; i < s->n_ids; i++) {
		struct spool_id id;
		int r = lookup_find(l, s->places, s->ids[i], &id);

		if (r == -EEXIST)
			log_error("'%s' begins several ids; say more of it", s->ids[i]);
		else if (r <= 0)
			log_error("no event there has an id that begins with '%s'", s->ids[i]);
		if (r <= 0)
			code = COMMAND_FAILED;
		else if (!is_in(list, &id) && id_list_add(list, &id, SIZE_MAX / 8) < 0)
			return command_failure("cannot note an id", -ENOMEM);
	}
	id_list_sort(list, SIZE_MAX / 8);
	return code;
}

/* Keeps those whose records match. */
static int look_into(struct lookup *l, const struct filter *f, struct id_list *list)
{
	struct progress progress;
	size_t kept = 0;

	progress_start(&progress, "looking", list->n);
	for (size_t i = 0; i < list->n; i++) {
		struct found found;
		int r = lookup_read(l, &list->entries[i], 0, &found);

		progress_step(&progress);
		if (r == -ENOENT)
			continue;
		if (r < 0) {
			progress_end(&progress);
			return command_failure("cannot read a record", r);
		}
		if (found_matches(&found, f))
			list->entries[kept++] = list->entries[i];
		found_release(&found);
	}
	progress_end(&progress);
	list->n = kept;
	return COMMAND_OK;
}

int selection_find(struct lookup *l, const struct selection *s, struct id_list *list)
{
	bool filtered = !filter_is_empty(&s->filter) || s->all;
	int r;

	if (s->n_ids > 0 && filtered) {
		log_error("either ids or filters, not both");
		return COMMAND_USAGE;
	}
	if (s->n_ids == 0 && !filtered) {
		log_error("which events? ids, filters (--vm, --op, --driver, --since, --until), or --all");
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
	return filter_needs_record(&s->filter) ? look_into(l, &s->filter, list) : COMMAND_OK;
}

int selection_print(struct lookup *l, const struct id_list *list, bool json)
{
	bool colour = terminal_colour(stdout);

	if (list->n > 0 && !json)
		listing_heading(colour);
	for (size_t i = 0; i < list->n && !command_output_ended(); i++) {
		struct found f;
		int r = lookup_read(l, &list->entries[i], LOOKUP_REASON | (json ? LOOKUP_UUID : 0), &f);

		if (r == -ENOENT)
			continue;
		if (r < 0)
			return command_failure("cannot read a record", r);
		if (json)
			listing_json(&f);
		else
			listing_line(&f, colour);
		found_release(&f);
	}
	return COMMAND_OK;
}
