/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-recorder import-task-log - takes over the database of the recipe task-log, which the
   recorder replaces. May be repeated: events that are there already stay as they are. */
#include <inttypes.h>

#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/recorder/command.h"
#include "spooler/recorder/db.h"
#include "spooler/recorder/store.h"

#define SOURCE_PREFIX "/virtspool/"

struct import {
	struct store *store;
	struct store_message messages[STORE_BATCH_MAX];
	size_t n;
	struct store_counts sum;
	int error;
};

static void release_messages(struct import *i)
{
	for (size_t k = 0; k < i->n; k++) {
		free((char *)i->messages[k].topic);
		free((char *)i->messages[k].payload);
	}
	i->n = 0;
}

static int flush_messages(struct import *i)
{
	struct store_counts c;
	int r = 0;

	for (int attempt = 0; i->n > 0; attempt++) {
		r = store_apply(i->store, i->messages, i->n, (int64_t)now_usec(CLOCK_REALTIME), &c);
		if (r != -EAGAIN || attempt == 30)
			break;
	}
	if (r >= 0 && i->n > 0) {
		i->sum.events += c.events;
		i->sum.duplicates += c.duplicates;
		i->sum.rejects += c.rejects;
	}
	release_messages(i);
	return r;
}

/* The topic stands for the one that the broker had checked when task-log took the event. */
static int on_row(const struct db_value *v, void *userdata)
{
	struct import *i = userdata;
	const char *source = db_string(&v[0]);
	size_t skip = strncmp(source, SOURCE_PREFIX, strlen(SOURCE_PREFIX)) == 0
			      ? strlen(SOURCE_PREFIX)
			      : 0;
	char *topic = NULL, *payload;

	payload = strndup(db_string(&v[1]), v[1].size);
	if (!payload || asprintf(&topic, "import/%s", source + skip) < 0) {
		free(payload);
		return -ENOMEM;
	}
	i->messages[i->n++] =
		(struct store_message){.topic = topic, .payload = payload, .size = strlen(payload)};
	if (i->n < STORE_BATCH_MAX)
		return 0;
	i->error = flush_messages(i);
	return i->error;
}

static int import(struct command *c, const char *url, struct db *from)
{
	static const struct cloudevent_topics topics = {"import/{host}", NULL};
	_cleanup_free_ char *error = NULL;
	struct import i = {.n = 0};
	int r;

	r = store_open(url, &topics, &i.store, &error);
	if (r < 0)
		return command_failure(r, error);
	r = db_query(from, "SELECT source, event FROM events ORDER BY id", "", NULL, on_row, &i);
	if (r >= 0)
		r = i.error = flush_messages(&i);
	release_messages(&i);
	if (r < 0)
		r = command_failure(r, i.error < 0 ? store_error(i.store) : db_error(from));
	printf("%" PRIu64 " events imported, %" PRIu64 " there already, %" PRIu64 " rejected\n",
	       i.sum.events, i.sum.duplicates, i.sum.rejects);
	store_close(i.store);
	return r;
}

int cmd_import_task_log(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"config", 'c', "FILE", 0, "configuration [" CONFIG_RECORDER_FILE "]", 9},
		{"store", OPTION_STORE, "URL", 0,
		 "import into this store instead of the configuration's", 9},
		{0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.args_doc = "FILE",
		.doc = "Takes over the events of FILE, a database of the recipe task-log. It may be repeated.",
	};
	struct command c = {.argument_name = "FILE"};
	_cleanup_free_ char *from_url = NULL, *path = NULL, *error = NULL;
	struct db *from = NULL;
	const char *url;
	int code, r;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	url = command_store(&c, &code);
	path = realpath(c.argument, NULL);
	if (url && !path) {
		log_error("cannot open '%s': %s", c.argument, strerror(errno));
		code = errno == EACCES ? COMMAND_RIGHTS : COMMAND_FAILED;
	}
	if (code == COMMAND_OK && asprintf(&from_url, "sqlite://%s", path) < 0)
		from_url = NULL;
	if (code == COMMAND_OK) {
		r = from_url ? db_open(from_url, DB_READ_ONLY, &from, &error) : -ENOMEM;
		code = r < 0 ? command_failure(r, error) : import(&c, url, from);
	}
	db_close(from);
	command_release(&c);
	return command_finish(code);
}
