/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspool-recorder run, check, forget - what concerns the daemon: it, its configuration, and its
   session at the broker. */
#include <signal.h>
#include <systemd/sd-event.h>

#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/mqtt/client.h"
#include "spooler/recorder/command.h"
#include "spooler/recorder/recorder.h"
#include "spooler/recorder/store.h"

int cmd_run(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"config", 'c', "FILE", 0, "configuration [" CONFIG_RECORDER_FILE "]", 1}, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Records the events of all hosts. SIGHUP reloads configuration and certificates.",
	};
	struct command c = {0};

	return command_parse(&argp, argc, argv, &c) ? recorder_run(c.config) : COMMAND_USAGE;
}

/* --- check */

static int check_store(struct command *c)
{
	const struct cloudevent_topics topics = {c->loaded->mqtt.topic,
						 c->loaded->mqtt.status_topic};
	_cleanup_free_ char *error = NULL;
	struct store *s = NULL;
	int r = store_open(c->loaded->recorder.store, &topics, &s, &error);

	store_close(s);
	return r < 0 ? command_failure(r, error) : COMMAND_OK;
}

int cmd_check(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"config", 'c', "FILE", 0, "configuration [" CONFIG_RECORDER_FILE "]", 1}, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Checks the configuration, the files that it names, and that the store can be opened; creates or migrates "
		       "the store.",
	};
	_cleanup_free_ char *error = NULL;
	struct command c = {0};
	int code, r = 0;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	code = command_load(&c);
	if (code == COMMAND_OK)
		r = recorder_check_files(c.loaded, &error);
	if (r < 0) {
		log_error("%s", error ? error : "out of memory");
		code = r == -EACCES ? COMMAND_RIGHTS : COMMAND_CONFIG;
	}
	if (code == COMMAND_OK)
		code = check_store(&c);
	if (code == COMMAND_OK)
		printf("%s: valid; store %s\n", c.config, c.loaded->recorder.store);
	command_release(&c);
	return command_finish(code);
}

/* --- forget */

struct forgetter {
	sd_event *loop;
	struct client *client;
	int code;
};

/* Connected with a clean start: the session is gone. */
static void on_connected(struct client *c, void *userdata)
{
	struct forgetter *f = userdata;

	f->code = COMMAND_OK;
	(void)sd_event_exit(f->loop, 0);
}

static void on_lost(struct client *c, enum client_loss loss, unsigned reason_code, const char *text,
		    void *userdata)
{
	struct forgetter *f = userdata;

	log_error("%s", text);
	(void)sd_event_exit(f->loop, 0);
}

/* At each broker: a session is there where the recorder was connected. */
static int forget_at(const struct config *config, const struct broker *broker,
		     struct credentials *credentials)
{
	static const struct client_handlers handlers = {.connected = on_connected, .lost = on_lost};
	const struct client_options o = {
		.config = config, .broker = broker, .credentials = credentials};
	struct forgetter f = {.code = COMMAND_UNAVAILABLE};
	int r;

	r = sd_event_new(&f.loop);
	if (r >= 0)
		r = client_open(f.loop, &o, &handlers, &f, &f.client);
	if (r >= 0)
		r = sd_event_loop(f.loop);
	if (r < 0)
		f.code = command_failure(r, NULL);
	client_close(f.client);
	sd_event_unref(f.loop);
	if (f.code == COMMAND_OK)
		printf("session '%s' at %s ended\n", config->mqtt.client_id, broker->url);
	return f.code;
}

static bool agree(const struct command *c)
{
	char answer[8];

	if (c->yes)
		return true;
	fprintf(stderr, "End the session '%s'? The broker drops the events that it keeps for it.",
		c->loaded->mqtt.client_id);
	if (!isatty(STDIN_FILENO)) {
		fputs(" There is no terminal to ask on; give --yes.\n", stderr);
		return false;
	}
	fputs(" [y/N] ", stderr);
	if (fgets(answer, sizeof(answer), stdin) && (*answer == 'y' || *answer == 'Y'))
		return true;
	fputs("nothing done\n", stderr);
	return false;
}

int cmd_forget(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"config", 'c', "FILE", 0, "configuration [" CONFIG_RECORDER_FILE "]", 1},
		{"yes", 'y', NULL, 0, "do not ask", 1},
		{0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Ends the recorder's session at the brokers: they keep no more events for it, and drop those that wait. "
		       "Stop the recorder first. Nothing else ends the session.",
	};
	struct credentials *credentials = NULL;
	_cleanup_free_ char *error = NULL;
	struct command c = {0};
	int code, worst = COMMAND_OK;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	(void)signal(SIGPIPE, SIG_IGN);
	code = command_load(&c);
	if (code == COMMAND_OK && credentials_load(&c.loaded->tls, &credentials, &error) < 0) {
		log_error("%s", error ? error : "out of memory");
		code = COMMAND_CONFIG;
	}
	if (code == COMMAND_OK && !agree(&c))
		code = COMMAND_USAGE;
	for (size_t i = 0; code == COMMAND_OK && i < c.loaded->n_brokers; i++) {
		int one = forget_at(c.loaded, &c.loaded->brokers[i], credentials);

		worst = one != COMMAND_OK ? one : worst;
	}
	credentials_unref(credentials);
	command_release(&c);
	return command_finish(code != COMMAND_OK ? code : worst);
}
