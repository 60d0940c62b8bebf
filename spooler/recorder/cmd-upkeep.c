/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-recorder prune, rebuild - retention by hand, and rebuilding state from the events. */
#include <inttypes.h>

#include "spooler/base/util.h"
#include "spooler/recorder/command.h"
#include "spooler/recorder/store.h"

#define STEP 500
#define BUSY_RETRIES 30

static const struct cloudevent_topics no_topics = {"", NULL};

static int open_store(struct command *c, struct store **ret_store)
{
	_cleanup_free_ char *error = NULL;
	int code, r;
	const char *url = command_store(c, &code);

	if (!url)
		return code;
	r = store_open(url, &no_topics, ret_store, &error);
	return r < 0 ? command_failure(r, error) : COMMAND_OK;
}

/* The recorder writes as well: a step may have to wait for it. */
static int prune(struct store *s, int64_t before, uint64_t *sum)
{
	unsigned busy = 0;
	size_t removed;
	int r;

	do {
		removed = STEP;
		r = store_prune(s, before, STEP, &removed);
		busy = r == -EAGAIN ? busy + 1 : 0;
		if (r >= 0)
			*sum += removed;
	} while ((r >= 0 && removed >= STEP) || (r == -EAGAIN && busy < BUSY_RETRIES));
	return r;
}

int cmd_prune(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"before", OPTION_BEFORE, "TIME", 0,
		 "remove what is older than TIME [now - retention]", 1},
		COMMAND_COMMON,
		{0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Removes old events now, in small steps, as the recorder does by itself every ten minutes. What a guest's "
		       "state rests on stays.",
	};
	struct command c = {0};
	struct store *s = NULL;
	uint64_t sum = 0;
	int code, r;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	code = c.before_us ? COMMAND_OK : command_load(&c);
	if (code == COMMAND_OK && !c.before_us && c.loaded->recorder.retention_s == 0) {
		fprintf(stderr, "retention is 0: everything is kept; give --before TIME\n");
		code = COMMAND_USAGE;
	}
	if (code == COMMAND_OK)
		code = open_store(&c, &s);
	if (code == COMMAND_OK) {
		r = prune(s,
			  c.before_us ? (int64_t)c.before_us
				      : (int64_t)(now_usec(CLOCK_REALTIME) -
						  c.loaded->recorder.retention_s * USEC_PER_SEC),
			  &sum);
		code = r < 0 ? command_failure(r, store_error(s)) : COMMAND_OK;
		printf("%" PRIu64 " events removed\n", sum);
	}
	store_close(s);
	command_release(&c);
	return command_finish(code);
}

static void progress(uint64_t events, void *userdata)
{
	fprintf(stderr, "\r%" PRIu64 " events", events);
}

int cmd_rebuild(int argc, char **argv)
{
	static const struct argp_option options[] = {COMMAND_COMMON, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Rebuilds hosts, guests, operations and holes from the events, in one transaction. A recorder that runs "
		       "meanwhile waits, and loses nothing.",
	};
	struct command c = {0};
	struct store *s = NULL;
	int code, r;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	code = open_store(&c, &s);
	if (code == COMMAND_OK) {
		r = store_rebuild(s, (int64_t)now_usec(CLOCK_REALTIME),
				  isatty(STDERR_FILENO) ? progress : NULL, NULL);
		if (isatty(STDERR_FILENO))
			fputc('\n', stderr);
		code = r < 0 ? command_failure(r, store_error(s)) : COMMAND_OK;
		if (code == COMMAND_OK)
			puts("rebuilt");
	}
	store_close(s);
	command_release(&c);
	return command_finish(code);
}
