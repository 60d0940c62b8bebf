/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool watch - a subscriber, for the management node: one line per event as it arrives.
 *
 * Duplicates (the same id) are left out; a hole in (host, epoch, sequence) is told in a line of its
 * own. It stays: when the connection is lost it comes again, with a back-off, and takes up its
 * session, so that with MQTT 5 it misses nothing that the broker could keep meanwhile. Ctrl-C ends
 * it, and the session.
 */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <search.h>
#include <signal.h>
#include <systemd/sd-event.h>

#include "spooler/mqtt/client.h"
#include "spooler/admin/command.h"
#include "spooler/config/config.h"
#include "spooler/base/log.h"
#include "spooler/mqtt/reason.h"
#include "spooler/base/backoff.h"
#include "spooler/spool/sequence.h"
#include "spooler/base/terminal.h"
#include "spooler/event/topic.h"
#include "spooler/base/util.h"

#define SESSION_EXPIRY_S 3600 /* the broker keeps what arrives while we are cut off so long */
#define SEEN_MAX                                                                                   \
	65536 /* ids that are remembered to tell a duplicate; the oldest are forgotten first */

/* One epoch of one host. */
struct follower {
	char *key;
	struct sequence sequence;
};

struct watcher {
	sd_event *loop;
	struct config *config;
	struct credentials *credentials;
	struct client *client;
	sd_event_source *reconnect;
	size_t broker;
	uint64_t backoff_usec;
	char *filter, *client_id;

	bool json, colour, once_connected;
	uint64_t limit, events, duplicates, missing;

	void *followers; /* tsearch() of struct follower */
	void *seen;	 /* tsearch() of ids, each also in the ring */
	char (*ring)[64];
	size_t ring_next;
	int exit_code;
};

struct arguments {
	const char *config, *filter;
	bool json;
	uint64_t limit;
};

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0,
	 "configuration: brokers, mqtt and tls of it are used [" DEFAULT_CONFIG "]", 0},
	{"topic", 't', "FILTER", 0, "topic filter to subscribe to [every host's events]", 0},
	{"json", 'j', NULL, 0, "print each event as it came, one JSON object a line", 0},
	{"count", 'n', "N", 0, "end after N events", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'c':
		a->config = arg;
		return 0;
	case 't':
		a->filter = arg;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case 'n':
		a->limit = command_number(state, "--count", arg, UINT64_MAX);
		return 0;
	default:
		return command_no_arguments(key, arg, state);
	}
}

/* --- what has been seen */

static int compare_strings(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int compare_followers(const void *a, const void *b)
{
	return strcmp(((const struct follower *)a)->key, ((const struct follower *)b)->key);
}

static void free_follower(void *p)
{
	struct follower *f = p;

	free(f->key);
	free(f);
}

static void keep_node(void *p)
{
	(void)p; /* it lies in the ring */
}

/* Is this id new? It is remembered. */
static bool note_id(struct watcher *w, const char *source, const char *id)
{
	char *slot = w->ring[w->ring_next], key[64];
	uint64_t h = 0xcbf29ce484222325;

	for (const char *s = source; *s;
	     s++) /* an id is unique for its source: CloudEvents 1.0, "id" */
		h = (h ^ (unsigned char)*s) * 0x100000001b3;
	(void)snprintf(key, sizeof(key), "%016" PRIx64 "/%.40s", h, id);
	if (tfind(key, (void *const *)&w->seen, compare_strings))
		return false;
	if (slot[0])
		(void)tdelete(slot, &w->seen, compare_strings);
	(void)snprintf(slot, sizeof(key), "%s", key);
	(void)tsearch(slot, &w->seen,
		      compare_strings); /* without memory a duplicate is shown twice */
	w->ring_next = (w->ring_next + 1) % SEEN_MAX;
	return true;
}

static struct sequence *follow(struct watcher *w, const char *source, const char *epoch)
{
	struct follower *f = calloc(1, sizeof(*f)), **node;

	if (!f || asprintf(&f->key, "%s %s", source, epoch) < 0) {
		free(f);
		return NULL;
	}
	node = tsearch(f, &w->followers, compare_followers);
	if (!node || *node != f)
		free_follower(f);
	return node ? &(*node)->sequence : NULL;
}

static void warn(const struct watcher *w, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void warn(const struct watcher *w, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, format);
	text = command_text(stderr, format, ap);
	va_end(ap);
	(void)fflush(stdout);
	fprintf(stderr, "%s%s%s\n", w->colour ? TERMINAL_RED : "", text ? text : "",
		w->colour ? TERMINAL_RESET : "");
}

static void check_sequence(struct watcher *w, const char *source, const char *epoch,
			   const char *text)
{
	struct sequence *s = follow(w, source, epoch);
	uint64_t number = strtoull(text, NULL, 10), before;

	if (!s || number == 0)
		return;
	before = s->highest;
	switch (sequence_see(s, epoch, number)) {
	case SEQUENCE_HOLE:
		w->missing += number - before - 1;
		warn(w, "HOLE %s: sequence %" PRIu64 " to %" PRIu64 " of epoch %s has not arrived",
		     source, before + 1, number - 1, epoch);
		break;
	case SEQUENCE_LATE:
		w->missing--;
		warn(w, "LATE %s: sequence %" PRIu64 " of epoch %s fills a hole", source, number,
		     epoch);
		break;
	default:
		break;
	}
}

/* --- printing */

static const char *member(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static void print_line(const json_t *event)
{
	const json_t *data = json_object_get(event, "data");
	const char *extra = member(data, "reason"), *sub = member(data, "suboperation"),
		   *host = member(data, "host");
	_cleanup_free_ char *line = NULL, *text = NULL;
	bool replayed = json_is_true(json_object_get(event, "replayed"));

	if (asprintf(&line, "%-27.27s  %-20s  %-20s  %-9s %-6s%s%s%s", member(event, "time"),
		     host[0] ? host : member(event, "source"),
		     member(data, "name")[0] ? member(data, "name") : member(event, "subject"),
		     member(data, "operation"), strcmp(sub, "-") == 0 ? "" : sub,
		     extra[0] ? "  " : "", extra, replayed ? "  (replayed)" : "") < 0)
		return;
	text = terminal_text(stdout, line, strlen(line));
	puts(text ? text : "");
}

static void finish(struct watcher *w, int code)
{
	w->exit_code = code;
	(void)sd_event_exit(w->loop, code);
}

static void on_message(struct client *c, const struct client_message *m, void *userdata)
{
	struct watcher *w = userdata;
	json_error_t error;
	json_t *event = json_loadb(m->payload, m->size, JSON_REJECT_DUPLICATES, &error);
	const char *id = member(event, "id"), *source = member(event, "source");

	if (!json_is_object(event) || !id[0] || !source[0]) {
		warn(w, "topic %s: not an event: %s", m->topic,
		     event ? "no CloudEvent" : error.text);
	} else if (!note_id(w, source, id)) {
		w->duplicates++;
	} else {
		if (!json_is_true(json_object_get(event, "replayed")) && member(event, "epoch")[0])
			check_sequence(w, source, member(event, "epoch"),
				       member(event, "sequence"));
		if (w->json) {
			command_print_json(json_incref(event));
		} else {
			print_line(event);
		}
		w->events++;
		(void)fflush(stdout);
		if (command_output_ended())
			finish(w, COMMAND_OK);
		if (w->events == w->limit)
			finish(w, COMMAND_OK);
	}
	json_decref(event);
}

/* --- the connection */

static void on_connected(struct client *c, void *userdata)
{
	struct watcher *w = userdata;
	int r = client_subscribe(c, (const char *const *)&w->filter, 1);

	if (r < 0)
		warn(w, "cannot subscribe to '%s': %s", w->filter, strerror(-r));
}

static void on_subscribed(struct client *c, const char *filter, unsigned reason_code,
			  void *userdata)
{
	struct watcher *w = userdata;

	if (reason_code >= 0x80) {
		warn(w, "broker %s refuses the subscription to '%s': %s (0x%02x)", client_peer(c),
		     filter, reason_name(reason_code), reason_code);
		finish(w, COMMAND_FAILED);
		return;
	}
	w->backoff_usec = 0;
	w->once_connected = true;
	fprintf(stderr, "watching %s at %s, %s\n", w->filter, client_peer(c), client_protocol(c));
}

static void on_lost(struct client *c, enum client_loss loss, unsigned reason_code, const char *text,
		    void *userdata)
{
	struct watcher *w = userdata;
	uint64_t delay = 0;

	warn(w, "broker %s: %s", w->config->brokers[w->broker].url, text);
	client_close(TAKE_PTR(w->client));
	w->broker = (w->broker + 1) % w->config->n_brokers;
	if (w->broker == 0) {
		w->backoff_usec =
			backoff_next(w->backoff_usec, w->config->mqtt.retry_min_s * USEC_PER_SEC,
				     w->config->mqtt.retry_max_s * USEC_PER_SEC);
		delay = w->backoff_usec;
	}
	(void)sd_event_source_set_time_relative(w->reconnect, delay);
	(void)sd_event_source_set_enabled(w->reconnect, SD_EVENT_ONESHOT);
}

static int on_reconnect(sd_event_source *s, uint64_t usec, void *userdata)
{
	static const struct client_handlers handlers = {
		.connected = on_connected,
		.subscribed = on_subscribed,
		.message = on_message,
		.lost = on_lost,
	};
	struct watcher *w = userdata;
	struct client_options o = {
		.config = w->config,
		.broker = &w->config->brokers[w->broker],
		.credentials = w->credentials,
		.client_id = w->client_id,
		.session_expiry_s = SESSION_EXPIRY_S,
		.resume = w->config->mqtt.version == 5,
	};
	int r = client_open(w->loop, &o, &handlers, w, &w->client);

	if (r < 0) {
		warn(w, "cannot begin to connect to broker %s: %s", o.broker->url, strerror(-r));
		finish(w, COMMAND_UNAVAILABLE);
	}
	return 0;
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	finish(userdata, COMMAND_OK);
	return 0;
}

/* --- start and end */

static int load(struct watcher *w, const struct arguments *a)
{
	int r = command_load(a->config, &w->config, &w->credentials);

	if (r != COMMAND_OK)
		return r;
	log_set_level(w->config->log_level);
	if (a->filter)
		w->filter = strdup(a->filter);
	else
		(void)topic_filter(w->config->mqtt.topic, &w->filter);
	if (asprintf(&w->client_id, "%s-watch-%d", w->config->mqtt.client_id, getpid()) < 0)
		w->client_id = NULL;
	w->ring = calloc(SEEN_MAX, sizeof(*w->ring));
	return w->filter && w->client_id && w->ring ? COMMAND_OK : COMMAND_FAILED;
}

static int run(struct watcher *w)
{
	sigset_t mask;
	int r;

	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGTERM);
	(void)sigaddset(&mask, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &mask, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	r = sd_event_default(&w->loop);
	if (r >= 0)
		r = sd_event_add_signal(w->loop, NULL, SIGINT, on_signal, w);
	if (r >= 0)
		r = sd_event_add_signal(w->loop, NULL, SIGTERM, on_signal, w);
	if (r >= 0)
		r = sd_event_add_time_relative(w->loop, &w->reconnect, CLOCK_MONOTONIC, 0, 0,
					       on_reconnect, w);
	if (r >= 0)
		r = sd_event_loop(w->loop);
	if (r < 0)
		log_error("the event loop failed: %s", strerror(-r));
	return r < 0 ? COMMAND_FAILED : w->exit_code;
}

static void release(struct watcher *w)
{
	client_close(w->client);
	credentials_unref(w->credentials);
	config_free(w->config);
	sd_event_source_disable_unref(w->reconnect);
	sd_event_unref(w->loop);
	tdestroy(w->followers, free_follower);
	tdestroy(w->seen, keep_node);
	free(w->ring);
	free(w->filter);
	free(w->client_id);
}

int cmd_watch(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Shows events as they arrive at the broker: time, host, VM, operation, reason. "
		       "Duplicates are left out, and a hole in a host's sequence is told on stderr.",
	};
	struct arguments a = {.config = DEFAULT_CONFIG};
	struct watcher w = {.exit_code = COMMAND_OK};
	int r;

	if (!command_parse(&argp, argc, argv, &a))
		return COMMAND_USAGE;
	w.json = a.json;
	w.limit = a.limit;
	w.colour = terminal_colour(stderr);
	r = load(&w, &a);
	if (r == COMMAND_OK)
		r = run(&w);
	if (w.once_connected)
		fprintf(stderr,
			"%" PRIu64 " events, %" PRIu64 " duplicates left out, %" PRIu64
			" missing\n",
			w.events, w.duplicates, w.missing);
	release(&w);
	return command_finish(r);
}
