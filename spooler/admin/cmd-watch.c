/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool watch - a subscriber, for the management node: one line per event, and per report of a
 * host's status, as it arrives.
 *
 * Repetitions (the same id) are left out; a hole in (host, epoch, sequence) is a line of its own on
 * stderr. When the connection is lost it comes back, with a back-off, and takes up its session, so
 * that with MQTT 5 it misses nothing that the broker could keep meanwhile. When another client has
 * the same identity it ends instead of fighting for it. Ctrl-C ends it, and the session.
 */
#include <argp.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <systemd/sd-event.h>

#include "spooler/admin/arrivals.h"
#include "spooler/admin/broker-options.h"
#include "spooler/admin/command.h"
#include "spooler/base/loop.h"
#include "spooler/base/backoff.h"
#include "spooler/base/log.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"
#include "spooler/config/config.h"
#include "spooler/event/topic.h"
#include "spooler/event/verifier.h"
#include "spooler/mqtt/client.h"
#include "spooler/mqtt/reason.h"

#define SESSION_EXPIRY_S 3600 /* the broker keeps what arrives while we are cut off this long */
#define RECEIVE_MAX 65535     /* some brokers drop what exceeds it */
#define STATUS_TYPE "org.virtspool.status."
/* Connections in a row that end within this time: someone else has our identity. */
#define SHORT_USEC (5 * USEC_PER_SEC)
#define SHORT_MAX 3

struct arguments {
	struct broker_options broker;
	const char *filter, *vm, *operation, *host;
	bool json, verify;
	uint64_t limit;
};

struct watcher {
	sd_event *loop;
	const struct arguments *arguments;
	struct config *config;
	struct credentials *credentials;
	struct client *client;
	sd_event_source *reconnect;
	size_t broker;
	uint64_t backoff_usec, connected_usec;
	unsigned short_connections, granted;
	char *filters[2]; /* of events, and of the hosts' status */
	size_t n_filters;
	char *client_id;

	bool colour, once_connected;
	uint64_t events, duplicates, missing;
	struct arrivals *arrivals;
	struct verifier *verifier; /* NULL: not asked for */
	uint64_t verifications[N_VERIFICATIONS];
	int exit_code;
};

static const struct argp_option options[] = {
	{"topic", 't', "FILTER", 0,
	 "subscribe to this topic filter [events and status of all hosts]", 1},
	{"vm", 'v', "NAME|UUID|GLOB", 0, "only these virtual machines", 1},
	{"op", 'o', "GLOB", 0, "only these operations: start, release, ...; or online, offline", 1},
	{"host", 'H', "HOST|GLOB", 0, "only these hosts", 1},
	{"json", 'j', NULL, 0, "print each event as it came, one JSON object a line", 1},
	{"count", 'n', "N", 0, "end after N events", 1},
	{"verify", 'V', NULL, 0,
	 "verify the events' signatures with the CA in tls.ca_file or --cafile", 1},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &a->broker;
		return 0;
	case 't':
		a->filter = arg;
		return 0;
	case 'v':
		a->vm = arg;
		return 0;
	case 'o':
		a->operation = arg;
		return 0;
	case 'H':
		a->host = arg;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case 'V':
		a->verify = true;
		return 0;
	case 'n':
		a->limit = command_number(state, "--count", arg, UINT64_MAX);
		return 0;
	default:
		return command_no_arguments(key, arg, state);
	}
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

/* --- an event */

static const char *member(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static bool is_status(const json_t *event)
{
	return strncmp(member(event, "type"), STATUS_TYPE, strlen(STATUS_TYPE)) == 0;
}

static const char *host_of(const json_t *event)
{
	const char *host = member(json_object_get(event, "data"), "host");

	return host[0] ? host : member(event, "source");
}

static bool matches(const char *glob, const char *value)
{
	return !glob || strcmp(glob, value) == 0 || fnmatch(glob, value, 0) == 0;
}

/* Do --vm, --op and --host let it pass? A status has no virtual machine. */
static bool wanted(const struct arguments *a, const json_t *event)
{
	const json_t *data = json_object_get(event, "data");

	if (!matches(a->host, host_of(event)))
		return false;
	if (is_status(event))
		return !a->vm && matches(a->operation, member(data, "status"));
	return matches(a->operation, member(data, "operation")) &&
	       (matches(a->vm, member(data, "name")) || matches(a->vm, member(event, "subject")));
}

static void check_sequence(struct watcher *w, const json_t *event)
{
	const char *source = member(event, "source"), *epoch = member(event, "epoch");
	uint64_t number = strtoull(member(event, "sequence"), NULL, 10), first = 0;

	switch (arrivals_note_number(w->arrivals, source, epoch, number, &first)) {
	case SEQUENCE_HOLE:
		w->missing += number - first;
		warn(w, "HOLE %s: sequence %" PRIu64 " to %" PRIu64 " of epoch %s has not arrived",
		     source, first, number - 1, epoch);
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

static void print_columns(const char *time, const char *host, const char *vm, const char *operation,
			  const char *suboperation, const char *extra, const char *note)
{
	_cleanup_free_ char *line = NULL, *clean = NULL;

	if (asprintf(&line, "%-27.27s  %-20s  %-20s  %-9s %-6s%s%s%s", time, host, vm, operation,
		     suboperation, extra[0] ? "  " : "", extra, note) < 0)
		return;
	clean = terminal_text(stdout, line, strlen(line));
	if (clean)
		puts(clean);
}

static void print_event(const json_t *event, const char *verification)
{
	const json_t *data = json_object_get(event, "data");
	const char *sub = member(data, "suboperation"), *name = member(data, "name");
	const char *replayed =
		json_is_true(json_object_get(event, "replayed")) ? "  (replayed)" : "";
	char note[64];

	(void)snprintf(note, sizeof(note), "%s%s%s", replayed, verification ? "  " : "",
		       verification ? verification : "");

	print_columns(member(event, "time"), host_of(event),
		      name[0] ? name : member(event, "subject"), member(data, "operation"),
		      strcmp(sub, "-") == 0 ? "" : sub, member(data, "reason"), note);
}

/* A will has no time: it arrives when it was published. */
static void print_status(const json_t *event, bool retained)
{
	const json_t *data = json_object_get(event, "data");
	const char *time = member(event, "time");
	char now[32];

	format_time_utc(command_now_ms(), now);
	print_columns(time[0]	 ? time
		      : retained ? "-"
				 : now,
		      host_of(event), "-", member(data, "status"), "", member(data, "reason"),
		      retained ? "  (retained)" : "");
}

static void finish(struct watcher *w, int code)
{
	w->exit_code = code;
	(void)sd_event_exit(w->loop, code);
}

static void show(struct watcher *w, json_t *event, bool retained, const char *verification)
{
	if (w->arguments->json)
		command_print_json(json_incref(event));
	else if (is_status(event))
		print_status(event, retained);
	else
		print_event(event, verification);
	w->events += !is_status(event);
	(void)fflush(stdout);
	if (command_output_ended() || (w->arguments->limit && w->events == w->arguments->limit))
		finish(w, COMMAND_OK);
}

/* --- signatures */

/* An event at another host's topic is a forgery too: the signature does not cover the topic. */
static enum verification verify(struct watcher *w, const struct client_message *m,
				const json_t *event, const char **ret_why)
{
	const char *source = member(event, "source"), *slash = strrchr(source, '/');
	char host[256], name[256];

	if ((topic_host(w->config->mqtt.topic, m->topic, host) ||
	     (w->config->mqtt.status_topic &&
	      topic_host(w->config->mqtt.status_topic, m->topic, host))) &&
	    (!slash || !topic_decode_host(slash + 1, strlen(slash + 1), name) ||
	     strcmp(host, name) != 0)) {
		*ret_why = "the topic is another host's";
		return VERIFICATION_FORGED;
	}
	return verifier_check(w->verifier, event, m->payload, m->size, ret_why);
}

static void learn(struct watcher *w, const json_t *event)
{
	_cleanup_free_ char *why = NULL;

	if (verifier_learn(w->verifier, event, &why) < 0)
		warn(w, "CERTIFICATE of %s is not used: %s", host_of(event),
		     why ? why : "no memory");
}

/* Whether the event counts: a forged one must not take the place of a true one. */
static bool check_signature(struct watcher *w, const struct client_message *m, const json_t *event,
			    const char **ret_verification)
{
	const char *why = NULL;
	enum verification v;

	if (is_status(event))
		learn(w, event);
	v = verify(w, m, event, &why);
	if (is_status(event) && v != VERIFICATION_FORGED)
		return true;
	w->verifications[v]++;
	*ret_verification = verification_name(v);
	if (v == VERIFICATION_FORGED || (v != VERIFICATION_VERIFIED && w->arguments->json))
		warn(w, "%s event %s of %s at %s: %s",
		     v == VERIFICATION_FORGED ? "FORGED" : *ret_verification, member(event, "id"),
		     host_of(event), m->topic, why);
	return v != VERIFICATION_FORGED && (v == VERIFICATION_VERIFIED || !w->arguments->json);
}

static void on_message(struct client *c, const struct client_message *m, void *userdata)
{
	struct watcher *w = userdata;
	json_error_t error;
	json_t *event = json_loadb(m->payload, m->size, JSON_REJECT_DUPLICATES, &error);
	const char *id = member(event, "id"), *source = member(event, "source");
	const char *verification = NULL;

	if (!json_is_object(event) || !id[0] || !source[0]) {
		warn(w, "topic %s: not an event: %s", m->topic,
		     event ? "not a CloudEvent" : error.text);
	} else if (w->verifier && !check_signature(w, m, event, &verification)) {
		/* reported */
	} else if (!arrivals_note_id(w->arrivals, source, id)) {
		w->duplicates++;
	} else {
		if (!json_is_true(json_object_get(event, "replayed")) && member(event, "epoch")[0])
			check_sequence(w, event);
		if (wanted(w->arguments, event))
			show(w, event, m->retain, verification);
	}
	json_decref(event);
}

/* --- the connection */

static void on_connected(struct client *c, void *userdata)
{
	struct watcher *w = userdata;
	int r = client_subscribe(c, (const char *const *)w->filters, w->n_filters);

	w->connected_usec = now_usec(CLOCK_MONOTONIC);
	w->granted = 0;
	if (r < 0) {
		warn(w, "cannot subscribe to '%s': %s", w->filters[0], strerror(-r));
		finish(w, COMMAND_FAILED);
	}
}

static void say_watching(struct watcher *w, const struct client *c, const char *filter)
{
	fprintf(stderr, "watching %s at %s, %s\n", filter, client_peer(c), client_protocol(c));
	if (!w->once_connected && w->config->mqtt.version != 5)
		fprintf(stderr, "MQTT 3.1.1: events that arrive while the connection is lost are "
				"not shown later\n");
	w->once_connected = true;
}

/* One of two filters may be refused. */
static void on_subscribed(struct client *c, const char *filter, unsigned reason_code,
			  void *userdata)
{
	struct watcher *w = userdata;
	bool last = strcmp(filter, w->filters[w->n_filters - 1]) == 0;

	if (reason_code >= 0x80)
		warn(w, "broker %s refuses the subscription to '%s': %s (0x%02x)", client_peer(c),
		     filter, reason_name(reason_code), reason_code);
	else if (w->granted++ == 0)
		say_watching(w, c, filter);
	w->backoff_usec = w->granted > 0 ? 0 : w->backoff_usec;
	if (last && w->granted == 0)
		finish(w, COMMAND_FAILED);
}

/* mosquitto before 2.0.12 closes the older of two connections without a reason code, so short
   connections in a row count as well. */
static bool is_taken_over(struct watcher *w, enum client_loss loss, unsigned reason_code)
{
	bool was_short =
		w->connected_usec > 0 && now_usec(CLOCK_MONOTONIC) - w->connected_usec < SHORT_USEC;

	if (loss == CLIENT_LOSS_DISCONNECT && reason_code == 0x8e)
		return true;
	if (w->connected_usec > 0)
		w->short_connections = was_short ? w->short_connections + 1 : 0;
	return w->short_connections >= SHORT_MAX;
}

static void reconnect(struct watcher *w)
{
	const struct config_mqtt *q = &w->config->mqtt;
	uint64_t delay = 0;

	w->broker = (w->broker + 1) % w->config->n_brokers;
	if (w->broker == 0) {
		w->backoff_usec = backoff_next(w->backoff_usec, q->retry_min_s * USEC_PER_SEC,
					       q->retry_max_s * USEC_PER_SEC);
		delay = backoff_scatter(w->backoff_usec);
	}
	(void)sd_event_source_set_time_relative(w->reconnect, delay);
	(void)sd_event_source_set_enabled(w->reconnect, SD_EVENT_ONESHOT);
}

static void on_lost(struct client *c, enum client_loss loss, unsigned reason_code, const char *text,
		    void *userdata)
{
	struct watcher *w = userdata;

	warn(w, "broker %s: %s", w->config->brokers[w->broker].url, text);
	client_close(TAKE_PTR(w->client));
	if (is_taken_over(w, loss, reason_code)) {
		warn(w,
		     "another client uses this client id (or this certificate or user name, if the "
		     "broker takes the client id from it); use an identity of your own: --id, "
		     "--cert and --key");
		finish(w, COMMAND_FAILED);
		return;
	}
	w->connected_usec = 0;
	reconnect(w);
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
		.receive_max = RECEIVE_MAX,
		.connected_before = w->once_connected,
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

static int set_filters(struct watcher *w, const struct arguments *a)
{
	const struct config_mqtt *q = &w->config->mqtt;

	if (a->filter)
		w->filters[0] = strdup(a->filter);
	else
		(void)topic_filter(q->topic, &w->filters[0]);
	w->n_filters = 1;
	if (!a->filter && q->status_topic && topic_filter(q->status_topic, &w->filters[1]) >= 0)
		w->n_filters = 2;
	return w->filters[0] ? 0 : -ENOMEM;
}

static int load_verifier(struct watcher *w)
{
	_cleanup_free_ char *error = NULL;

	if (!w->config->tls.ca_file) {
		warn(w,
		     "--verify needs the CA of the hosts' certificates: set tls.ca_file or --cafile");
		return COMMAND_USAGE;
	}
	if (verifier_new(w->config->tls.ca_file, w->config->tls.crl_file, &w->verifier, &error) <
	    0) {
		warn(w, "%s", error ? error : "no memory");
		return COMMAND_FAILED;
	}
	return COMMAND_OK;
}

static int load(struct watcher *w, const struct arguments *a)
{
	int r = broker_options_load(&a->broker, &w->config, &w->credentials);

	if (r != COMMAND_OK)
		return r;
	log_set_level(w->config->log_level);
	if (a->broker.client_id)
		w->client_id = strdup(a->broker.client_id);
	else if (asprintf(&w->client_id, "%s-watch-%d", w->config->mqtt.client_id, getpid()) < 0)
		w->client_id = NULL;
	if (a->verify) {
		r = load_verifier(w);
		if (r != COMMAND_OK)
			return r;
	}
	w->arrivals = arrivals_new();
	if (set_filters(w, a) < 0 || !w->client_id || !w->arrivals)
		return command_failure("cannot start", -ENOMEM);
	return COMMAND_OK;
}

static int run(struct watcher *w)
{
	static const struct loop_signal signals[] = {{SIGINT, on_signal}, {SIGTERM, on_signal}};
	int r;

	r = sd_event_default(&w->loop);
	if (r >= 0)
		r = loop_add_signals(w->loop, signals, ELEMENTSOF(signals), w);
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
	arrivals_free(w->arrivals);
	verifier_free(w->verifier);
	free(w->filters[0]);
	free(w->filters[1]);
	free(w->client_id);
}

static void print_verifications(const struct watcher *w)
{
	for (size_t v = 0; v < N_VERIFICATIONS; v++)
		fprintf(stderr, "%s%" PRIu64 " %s", v ? ", " : "", w->verifications[v],
			verification_name(v));
	fputc('\n', stderr);
}

int cmd_watch(int argc, char **argv)
{
	static const struct argp_child children[] = {
		{&broker_options_argp, 0, "Broker and identity:", 2}, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.children = children,
		.doc = "Shows events as they arrive at the broker: time, host, VM, operation, reason; "
		       "and which hosts are online. Repetitions are left out. A hole in a host's "
		       "sequence is reported on stderr.",
	};
	struct arguments a = {0};
	struct watcher w = {.arguments = &a, .exit_code = COMMAND_OK};
	int r;

	if (!command_parse(&argp, argc, argv, &a))
		return COMMAND_USAGE;
	w.colour = terminal_colour(stderr);
	r = load(&w, &a);
	if (r == COMMAND_OK)
		r = run(&w);
	if (w.once_connected)
		fprintf(stderr,
			"%" PRIu64 " events, %" PRIu64 " duplicates left out, %" PRIu64
			" missing\n",
			w.events, w.duplicates, w.missing);
	if (w.verifier && w.once_connected)
		print_verifications(&w);
	release(&w);
	return command_finish(r);
}
