/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-recorder hosts - every host that was heard of: online, when it was last heard of,
   and how complete its events are. */
#include "spooler/base/util.h"
#include "spooler/recorder/command.h"

struct output {
	const struct command *command;
	uint64_t shown;
};

static const char *state_of(const struct query_host *h)
{
	return h->online < 0 ? "unknown" : h->online ? "online" : "offline";
}

static void print_json(const struct query_host *h)
{
	command_print_json(json_pack(
		"{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I}", "host", h->name, "state",
		state_of(h), "status_time", json_time((uint64_t)h->status_time), "last_seen",
		json_time((uint64_t)h->seen), "last_event", json_time((uint64_t)h->last_time),
		"epoch", command_json_text(h->epoch), "boot", command_json_text(h->boot),
		"sequence", (json_int_t)h->sequence, "missing", (json_int_t)h->missing, "behind",
		(json_int_t)h->behind, "guests", (json_int_t)h->guests));
}

static int on_host(const struct query_host *h, void *userdata)
{
	struct output *o = userdata;
	char seen[32], counts[96];

	if (o->command->json) {
		print_json(h);
	} else {
		if (o->shown == 0)
			command_header(
				"HOST                     STATE   LAST HEARD           GUESTS MISSING BEHIND");
		command_format_time(h->seen, false, seen);
		(void)snprintf(counts, sizeof(counts), "%6lld %7lld %6lld", (long long)h->guests,
			       (long long)h->missing, (long long)h->behind);
		command_cell(h->name, 24);
		command_cell(state_of(h), 7);
		command_cell(seen, 20);
		puts(counts);
	}
	o->shown++;
	return command_output_ended() ? -EPIPE : 0;
}

int cmd_hosts(int argc, char **argv)
{
	static const struct argp_option options[] = {
		COMMAND_JSON, COMMAND_LIMIT, COMMAND_HOST, COMMAND_COMMON, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Shows every host: whether it is online, when it was last heard of, how many guests it has, and how "
		       "many of its events are missing or still on their way (behind).",
	};
	struct command c = {0};
	struct output o = {.command = &c};
	struct query_page page = {.cursor = ""};
	int r;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	r = command_open(&c);
	if (r == COMMAND_OK) {
		c.filter.limit = command_limit(&c);
		r = query_hosts(c.query, &c.filter, on_host, &o, &page);
		r = command_footer(&c, r, o.shown, page.cursor[0], "no host has reported yet");
	}
	command_release(&c);
	return command_finish(r);
}
