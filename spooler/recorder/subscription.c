/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* subscription - see subscription.h. */
#include "spooler/base/backoff.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/event/topic.h"
#include "spooler/mqtt/reason.h"
#include "spooler/recorder/store.h"
#include "spooler/recorder/subscription.h"

struct subscription {
	sd_event *loop;
	const struct config *config;
	struct credentials *credentials;
	struct subscription_handlers handlers;
	void *userdata;

	struct client *client;
	sd_event_source *reconnect;
	size_t broker;
	unsigned address; /* of the broker's name */
	uint64_t backoff_usec, connects;
	unsigned refused;     /* filters of this connection */
	unsigned outstanding; /* filters without a SUBACK */
	bool up;
	char text[1600];
};

int subscription_filters(const struct config *c, char **ret_events, char **ret_status)
{
	_cleanup_free_ char *events = NULL, *status = NULL, *shared = NULL;
	int r;

	r = topic_filter(c->mqtt.topic, &events);
	if (r >= 0 && c->mqtt.status_topic)
		r = topic_filter(c->mqtt.status_topic, &status);
	if (r < 0)
		return r;
	if (c->recorder.share) {
		if (asprintf(&shared, "$share/%s/%s", c->recorder.share, events) < 0) {
			shared = NULL;
			return -ENOMEM;
		}
		free(events);
		events = TAKE_PTR(shared);
	}
	*ret_events = TAKE_PTR(events);
	*ret_status = TAKE_PTR(status);
	return 0;
}

static void connect_in(struct subscription *s, uint64_t usec)
{
	(void)sd_event_source_set_time_relative(s->reconnect, usec);
	(void)sd_event_source_set_enabled(s->reconnect, SD_EVENT_ONESHOT);
}

static void set_up(struct subscription *s, bool up)
{
	s->up = up;
	s->handlers.changed(s->userdata);
}

/* The next address of this broker, else the next broker; after the last one, after a while. */
static void try_next(struct subscription *s, unsigned next_address)
{
	const struct config_mqtt *q = &s->config->mqtt;
	uint64_t delay = 0;

	s->address = next_address;
	if (next_address == 0)
		s->broker = (s->broker + 1) % s->config->n_brokers;
	if (next_address == 0 && s->broker == 0) {
		s->backoff_usec = backoff_next(s->backoff_usec, q->retry_min_s * USEC_PER_SEC,
					       q->retry_max_s * USEC_PER_SEC);
		delay = backoff_scatter(s->backoff_usec);
	}
	connect_in(s, delay);
}

/* --- the client's handlers */

static void on_connected(struct client *c, void *userdata)
{
	_cleanup_free_ char *events = NULL, *status = NULL;
	struct subscription *s = userdata;
	const char *filters[2];
	int r;

	/* The hosts' certificates are known before the first event that is verified with them. */
	r = subscription_filters(s->config, &events, &status);
	filters[0] = status ? status : events;
	filters[1] = events;
	s->outstanding = status ? 2 : 1;
	s->refused = 0;
	if (r >= 0)
		r = client_subscribe(c, filters, s->outstanding);
	if (r < 0)
		log_error("cannot subscribe to '%s': %s", events ? events : "", strerror(-r));
}

static void on_subscribed(struct client *c, const char *filter, unsigned reason_code,
			  void *userdata)
{
	struct subscription *s = userdata;

	if (reason_code >= 0x80) {
		log_error(
			"broker %s refuses the subscription to '%s': %s (0x%02x); grant it to user '%s' or the "
			"certificate's name",
			client_peer(c), filter, reason_name(reason_code), reason_code,
			s->config->mqtt.username ? s->config->mqtt.username : "-");
		(void)snprintf(s->text, sizeof(s->text),
			       "broker %s refuses the subscription to '%s': %s", client_peer(c),
			       filter, reason_name(reason_code));
		s->refused++;
	}
	if (--s->outstanding > 0)
		return;
	if (s->refused) { /* rights may be granted: the broker is asked again */
		client_close(TAKE_PTR(s->client));
		s->handlers.changed(s->userdata);
		try_next(s, 0);
		return;
	}
	s->backoff_usec = 0;
	s->connects++;
	(void)snprintf(s->text, sizeof(s->text), "%s", client_peer(c));
	log_info("subscribed to '%s' at broker %s, %s", filter, client_peer(c), client_protocol(c));
	set_up(s, true);
}

static void on_message(struct client *c, const struct client_message *m, void *userdata)
{
	struct subscription *s = userdata;

	s->handlers.message(m, s->userdata);
}

static void on_lost(struct client *c, enum client_loss loss, unsigned reason_code, const char *text,
		    void *userdata)
{
	struct subscription *s = userdata;
	bool taken = loss == CLIENT_LOSS_DISCONNECT && reason_code == 0x8e;
	unsigned next = s->up ? 0 : client_next_address(c);

	log_warning(
		"broker %s: %s%s", s->config->brokers[s->broker].url, text,
		taken ? "; another client uses this client id: give each recorder an mqtt.client_id of its own"
		      : "");
	(void)snprintf(s->text, sizeof(s->text), "%s", text);
	client_close(TAKE_PTR(s->client));
	set_up(s, false);
	try_next(s, next);
}

static int on_reconnect(sd_event_source *source, uint64_t usec, void *userdata)
{
	static const struct client_handlers handlers = {
		.connected = on_connected,
		.subscribed = on_subscribed,
		.message = on_message,
		.lost = on_lost,
	};
	struct subscription *s = userdata;
	const struct client_options o = {
		.config = s->config,
		.broker = &s->config->brokers[s->broker],
		.credentials = s->credentials,
		.session_expiry_s = (uint32_t)s->config->recorder.session_expiry_s,
		.resume = true,
		.keep_session = true,
		.hold = true,
		.receive_max = 3 * STORE_BATCH_MAX,
		.first_address = s->address,
	};
	int r = client_open(s->loop, &o, &handlers, s, &s->client);

	if (r < 0) {
		log_error("cannot begin to connect to broker %s: %s", o.broker->url, strerror(-r));
		(void)snprintf(s->text, sizeof(s->text), "cannot begin to connect: %s",
			       strerror(-r));
		try_next(s, 0);
	}
	return 0;
}

/* --- start and end */

int subscription_new(sd_event *loop, const struct config *config, struct credentials *credentials,
		     const struct subscription_handlers *h, void *userdata,
		     struct subscription **ret_subscription)
{
	struct subscription *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->loop = sd_event_ref(loop);
	s->config = config;
	s->credentials = credentials_ref(credentials);
	s->handlers = *h;
	s->userdata = userdata;
	strcpy(s->text, "connecting");
	r = sd_event_add_time_relative(loop, &s->reconnect, CLOCK_MONOTONIC, 0, 1, on_reconnect, s);
	if (r < 0) {
		subscription_free(s);
		return r;
	}
	*ret_subscription = s;
	return 0;
}

void subscription_restart(struct subscription *s)
{
	client_close(TAKE_PTR(s->client));
	set_up(s, false);
	connect_in(s, s->config->mqtt.retry_min_s * USEC_PER_SEC);
}

void subscription_configure(struct subscription *s, const struct config *config,
			    struct credentials *credentials)
{
	client_close(TAKE_PTR(s->client));
	credentials_unref(s->credentials);
	s->config = config;
	s->credentials = credentials_ref(credentials);
	s->broker = s->address = 0;
	s->backoff_usec = 0;
	strcpy(s->text, "connecting");
	set_up(s, false);
	connect_in(s, 0);
}

void subscription_free(struct subscription *s)
{
	if (!s)
		return;
	client_close(s->client);
	credentials_unref(s->credentials);
	sd_event_source_disable_unref(s->reconnect);
	sd_event_unref(s->loop);
	free(s);
}

void subscription_commit(struct subscription *s, uint64_t number)
{
	if (s->client)
		client_commit(s->client, number);
}

bool subscription_is_up(const struct subscription *s)
{
	return s->up;
}

const char *subscription_text(const struct subscription *s)
{
	return s->text;
}

uint64_t subscription_connects(const struct subscription *s)
{
	return s->connects;
}

uint64_t subscription_held(const struct subscription *s)
{
	return s->client ? client_held(s->client) : 0;
}
