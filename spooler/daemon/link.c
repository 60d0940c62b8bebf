/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* link - see link.h. */
#include <stdarg.h>

#include "spooler/base/backoff.h"
#include "spooler/base/log.h"
#include "spooler/base/loop.h"
#include "spooler/base/utf8.h"
#include "spooler/base/util.h"
#include "spooler/daemon/link.h"
#include "spooler/daemon/presence.h"
#include "spooler/mqtt/reason.h"

#define LEAVE_USEC (3 * USEC_PER_SEC) /* for the offline report; within the margin of SIGTERM */
/* A connection must have lasted this long before the host is reported online. Like the will's
   delay, this keeps a connection that flaps from reading as one change of the host's status
   after another. */
#define BIRTH_USEC (1500 * 1000)
/* An attempt while no broker listens costs the broker nothing, so it is repeated soon: the hosts of
   a fleet come back soon after their broker, and scattered. If a broker answers and the attempt
   fails, too many hosts may be trying, and the back-off grows to mqtt.retry_max. */
#define NOBODY_USEC (3 * USEC_PER_SEC)
#define MUTE_MAX 2    /* connections lost over the online report before it is left out */
#define QOS2_LOSSES 3 /* connections lost over QoS 2 before that is taken for the reason */

struct link {
	sd_event *loop;
	struct link_handlers handlers;
	void *userdata;
	struct relay_stats *stats;
	const struct completeness *completeness;

	const struct config *config;
	struct credentials *credentials;
	struct signing *signing; /* NULL: reports are not signed */
	size_t certified;	 /* 1 + the broker that has it; 0: none */
	struct client *client;
	struct event will; /* what the broker publishes if the connection ends without a word */

	size_t broker;	       /* index of the one in use or tried */
	size_t brokers_tried;  /* in a row without success */
	unsigned address;      /* of its name, the one to begin with */
	uint64_t backoff_usec; /* 0: the last connection was good */
	bool somebody;	       /* listens at one of the brokers that were tried since the last */
	unsigned mute;	       /* connections in a row that were lost over the online report */
	enum presence_level level;
	bool without_report;   /* the broker refused it, retained or not, */
	bool without_probe;    /* and ended the connection then */
	bool without_will;     /* the broker refused to connect with it, or might have */
	char refusal[256];     /* of that */
	char topic_error[512]; /* for status: what the broker does not take; "": nothing */
	bool *known;	       /* by broker: has connected before */
	struct validity own, authority;
	char *renewal_error;
	uint64_t renewal_refused_usec;
	bool qos2_known;      /* this broker has answered a message of QoS 2 */
	unsigned qos2_losses; /* connections lost with QoS 2 in flight, none of it ever answered */

	/* of this connection */
	bool confirmed, answered;
	unsigned published, unanswered; /* events */
	bool birth_due;			/* the online report waits for room */
	bool report_again;		/* ... for the answer to the one before */
	int presence_mid;		/* of the online or offline report; 0: none */
	uint64_t connected_usec;	/* CLOCK_MONOTONIC */
	uint64_t traffic_usec;		/* CONNACK, or the last publish or answer */
	int probe_mid;			/* 0: none */
	size_t probe_size;
	bool repeating;	       /* the probe is an event, not a report */
	uint64_t refused_usec; /* when a report was refused; 0: none was */

	link_left left;
	struct losses losses;
	sd_event_source *reconnect, *birth, *leave;
};

static int on_leave(sd_event_source *s, uint64_t usec, void *userdata);
static int on_reconnect(sd_event_source *s, uint64_t usec, void *userdata);
static void note_validity(struct link *l);

/* --- helpers */

bool link_connected(const struct link *l)
{
	return l->client && client_connected(l->client);
}

size_t link_broker(const struct link *l)
{
	return l->broker;
}

const char *link_broker_url(const struct link *l)
{
	return l->config ? l->config->brokers[l->broker].url : NULL;
}

unsigned link_room(const struct link *l)
{
	unsigned room = l->client ? client_room(l->client) : 0;

	return l->birth_due && room > 0 ? room - 1 : room; /* one is kept for the online report */
}

size_t link_packet_size(const struct link *l, const char *topic, size_t payload_size)
{
	return client_packet_size(l->client, topic, payload_size, EVENT_CONTENT_TYPE);
}

size_t link_packet_max(const struct link *l)
{
	return client_packet_max(l->client);
}

bool link_can_probe(const struct link *l)
{
	return l->mute < MUTE_MAX && !l->without_probe && l->qos2_losses < QOS2_LOSSES;
}

static bool can_report(const struct link *l)
{
	return link_can_probe(l) && !l->without_report;
}

/* --- presence */

static int publish_report(struct link *l, const struct event *e, bool retain, int *ret_mid)
{
	int k = client_publish(l->client, e->topic, e->payload, e->payload_size, EVENT_CONTENT_TYPE,
			       retain, ret_mid);

	if (k < 0)
		*ret_mid = 0;
	return k;
}

/* Returns whether it is on its way. */
static bool report_presence(struct link *l, enum presence p)
{
	_cleanup_(event_release) struct event e = {0};

	return link_connected(l) && can_report(l) &&
	       presence_build(l->config, l->credentials, l->signing, l->completeness, p, &e) > 0 &&
	       publish_report(l, &e, l->level == PRESENCE_RETAINED, &l->presence_mid) == 0;
}

static void __attribute__((format(printf, 2, 3)))
note_topic_error(struct link *l, const char *format, ...)
{
	char text[sizeof(l->topic_error) / 3];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	l->topic_error[utf8_replace_controls(text, strlen(text), l->topic_error)] = '\0';
	log_warning("broker %s %s", link_broker_url(l), l->topic_error);
}

/* The next reports are not retained. */
static void give_up_retaining(struct link *l, const char *why)
{
	if (l->level != PRESENCE_RETAINED)
		return;
	l->level = PRESENCE_LIVE;
	note_topic_error(l,
			 "does not take retained messages (%s); consumers that come later do not "
			 "see this host's status",
			 why);
}

/* A connection was refused: because of the will? The next attempt shows. */
static void judge_will(struct link *l, unsigned reason_code, const char *text)
{
	if (!l->will.topic && !l->without_will)
		return;
	if (reason_code == 0x9a) { /* Retain not supported */
		give_up_retaining(l, "Retain not supported, 0x9a");
	} else if (presence_will_may_be_refused(reason_code)) {
		l->without_will = !l->without_will;
		(void)snprintf(l->refusal, sizeof(l->refusal), "%s", text);
	}
}

/* Blanks after it, for the whole packet to have this size. */
static int pad(const struct link *l, struct event *e, size_t packet_size)
{
	size_t have = link_packet_size(l, e->topic, e->payload_size), more;
	char *grown;

	if (packet_size <= have)
		return 0;
	more = packet_size - have;
	/* The packet's own length may take more bytes then. */
	while (more > 0 && link_packet_size(l, e->topic, e->payload_size + more) > packet_size)
		more--;
	grown = realloc(e->payload, e->payload_size + more + 1);
	if (!grown)
		return -ENOMEM;
	memset(grown + e->payload_size, ' ', more);
	e->payload = grown;
	e->payload_size += more;
	e->payload[e->payload_size] = '\0';
	return 0;
}

int link_probe(struct link *l, size_t packet_size)
{
	static char default_topic[] = "virtspool/v1/{host}/status";
	_cleanup_(event_release) struct event e = {0};
	struct config c = *l->config;
	int k;

	if (!c.mqtt.status_topic)
		c.mqtt.status_topic = default_topic;
	k = presence_build(&c, l->credentials, l->signing, NULL, PRESENCE_ONLINE, &e);
	if (k > 0)
		k = pad(l, &e, packet_size);
	if (k >= 0)
		k = publish_report(l, &e, false, &l->probe_mid);
	if (k == 0) {
		l->probe_size = link_packet_size(l, e.topic, e.payload_size);
		l->repeating = false;
		l->stats->probes++;
	}
	return k;
}

int link_repeat(struct link *l, const char *topic, const char *payload, size_t size)
{
	int k = client_publish(l->client, topic, payload, size, EVENT_CONTENT_TYPE, false,
			       &l->probe_mid);

	if (k < 0) {
		l->probe_mid = 0;
		return k;
	}
	l->probe_size = link_packet_size(l, topic, size);
	l->repeating = true;
	l->stats->probes++;
	return 0;
}

static void presence_answered(struct link *l, unsigned reason_code)
{
	char why[96];

	l->presence_mid = 0;
	l->mute = 0;
	if (reason_code >= 0x80)
		l->refused_usec = now_usec(CLOCK_MONOTONIC);
	if (reason_code >= 0x80 && l->level == PRESENCE_RETAINED && !l->left) {
		(void)snprintf(why, sizeof(why), "%s, 0x%02x", reason_name(reason_code),
			       reason_code);
		give_up_retaining(l, why);
		(void)report_presence(l, PRESENCE_ONLINE);
	} else if (reason_code < 0x80) {
		l->certified = l->broker + 1;
	} else {
		l->without_report = true;
		note_topic_error(l, "refuses the report on mqtt.status_topic: %s (0x%02x)",
				 reason_name(reason_code), reason_code);
	}
	if (l->left)
		(void)sd_event_source_set_time_relative(l->leave, 0);
	else if (l->report_again)
		link_report(l);
}

static void probe_answered(struct link *l, unsigned reason_code)
{
	bool refused = reason_code >= 0x80;

	l->probe_mid = 0;
	if (!l->repeating)
		l->mute = 0;
	if (refused && !l->repeating)
		l->refused_usec = now_usec(CLOCK_MONOTONIC);
	if (!l->left)
		l->handlers.probed(l->probe_size, refused, l->userdata);
}

/* The connection has lasted: the online report, as soon as there is room for it. */
static void report_birth(struct link *l)
{
	l->birth_due = link_connected(l) && !l->left && client_room(l->client) == 0;
	if (!l->birth_due && !l->left)
		(void)report_presence(l, PRESENCE_ONLINE);
}

void link_report(struct link *l)
{
	int enabled = SD_EVENT_OFF;

	(void)sd_event_source_get_enabled(l->birth, &enabled);
	l->report_again = l->presence_mid != 0;
	if (enabled == SD_EVENT_OFF && !l->report_again)
		report_birth(l);
}

static int on_birth(sd_event_source *s, uint64_t usec, void *userdata)
{
	report_birth(userdata);
	return 0;
}

/* --- the life of a connection */

static void schedule(sd_event_source *s, uint64_t usec)
{
	(void)sd_event_source_set_time_relative(s, usec);
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void on_connected(struct client *c, void *userdata)
{
	struct link *l = userdata;

	l->stats->connects++;
	l->stats->connected_usec = now_usec(CLOCK_REALTIME);
	l->connected_usec = l->traffic_usec = now_usec(CLOCK_MONOTONIC);
	l->confirmed = l->answered = false;
	l->refused_usec = 0;
	l->published = l->unanswered = 0;
	l->birth_due = false;
	l->known[l->broker] = true;
	l->authority = credentials_trust_validity(l->credentials, &l->config->tls);
	if (l->without_will && l->refusal[0]) {
		note_topic_error(l,
				 "refuses to connect with a will on mqtt.status_topic, and is used "
				 "without a will: %s",
				 l->refusal);
		l->refusal[0] = '\0';
	}
	log_about(
		LOG_NOTICE,
		&(struct log_about){.message = LOG_MESSAGE_CONNECTED, .broker = link_broker_url(l)},
		"connected to broker %s, %s, %s", link_broker_url(l), client_peer(c),
		client_protocol(c));
	/* Consumers must know the certificate before the first event that they verify with it. */
	if (l->signing && l->certified != l->broker + 1)
		report_birth(l);
	else
		schedule(l->birth, BIRTH_USEC);
	l->handlers.connected(l->userdata);
}

static void on_writable(struct client *c, void *userdata)
{
	struct link *l = userdata;

	if (l->birth_due)
		report_birth(l);
	l->handlers.writable(l->userdata);
}

static void on_acknowledged(struct client *c, int mid, unsigned reason_code, void *userdata)
{
	struct link *l = userdata;

	l->answered = true;
	l->traffic_usec = now_usec(CLOCK_MONOTONIC);
	l->qos2_known = true;
	l->qos2_losses = 0;
	if (l->presence_mid != 0 && mid == l->presence_mid) {
		presence_answered(l, reason_code);
	} else if (l->probe_mid != 0 && mid == l->probe_mid) {
		probe_answered(l, reason_code);
	} else {
		l->unanswered -= l->unanswered > 0;
		l->handlers.acknowledged(mid, reason_code, l->userdata);
	}
}

static uint64_t next_backoff(struct link *l)
{
	uint64_t min = l->config->mqtt.retry_min_s * USEC_PER_SEC;
	uint64_t max = l->config->mqtt.retry_max_s * USEC_PER_SEC;

	if (!l->somebody && max > NOBODY_USEC)
		max = min > NOBODY_USEC ? min : NOBODY_USEC;
	l->somebody = false;
	return backoff_next(l->backoff_usec, min, max);
}

/* The next address of the same name, or the next broker, at once; and after a back-off when the
   whole list has failed. */
static void reconnect(struct link *l, unsigned next_address, bool put_off)
{
	uint64_t delay = 0;

	l->address = next_address;
	if (next_address == 0) {
		l->brokers_tried++;
		l->broker = (l->broker + 1) % l->config->n_brokers;
		if (l->config->n_brokers > 1) {
			l->without_report = l->without_probe = l->qos2_known = false;
			l->qos2_losses = 0;
		}
	}
	if (l->brokers_tried >= l->config->n_brokers) {
		l->brokers_tried = 0;
		if (put_off || l->backoff_usec == 0)
			l->backoff_usec = next_backoff(l);
		delay = backoff_scatter(l->backoff_usec);
	}
	schedule(l->reconnect, delay);
}

/* A good connection is gone: begin at the list's top again. */
static void begin_at_top(struct link *l)
{
	l->broker = l->config->n_brokers - 1;
	l->brokers_tried = l->config->n_brokers - 1;
	l->backoff_usec = 0;
}

/* Connections that end with nothing but the online report in flight end over it, unless they end
   without it as well. */
static void judge_report(struct link *l)
{
	/* After an answer a probe is padded, and its loss is judged by its size (poison.h). */
	bool probe_alone = l->probe_mid != 0 && !l->repeating && l->unanswered == 0 && !l->answered;
	bool report_alone = l->presence_mid != 0 && l->probe_mid == 0 && l->unanswered == 0;

	if (l->refused_usec > 0 && l->unanswered == 0 &&
	    now_usec(CLOCK_MONOTONIC) - l->refused_usec <= LINK_PARTING_USEC)
		l->without_probe = true;
	if (l->mute >= MUTE_MAX && l->published == 0 && l->probe_mid == 0)
		l->mute = 0;
	if (!report_alone && !probe_alone)
		return;
	if (++l->mute == 1 && report_alone)
		give_up_retaining(l, "it closed the connection");
	if (l->mute == MUTE_MAX)
		note_topic_error(l, "ends the connection over the online report, and is used "
				    "without reports; see mqtt.status_topic");
}

/* A broker without QoS 2 may close without saying why. Returns whether that is the suspicion. After
   some connections the reports are left out as well: perhaps it is them. */
static bool judge_qos(struct link *l)
{
	static const char text[] = "has answered no message with QoS 2, and ends each connection; "
				   "it seems not to know QoS 2: set mqtt.qos to 1";

	if (l->config->mqtt.qos != 2 || l->qos2_known ||
	    (l->published == 0 && l->presence_mid == 0 && l->probe_mid == 0))
		return false;
	if (++l->qos2_losses == QOS2_LOSSES)
		log_error("broker %s %s", link_broker_url(l), text);
	if (l->qos2_losses >= QOS2_LOSSES)
		stats_note_error(l->stats, "broker %s %s", link_broker_url(l), text);
	return true;
}

static void forget_reports(struct link *l)
{
	l->presence_mid = l->probe_mid = 0;
	l->birth_due = l->report_again = false;
	(void)sd_event_source_set_enabled(l->birth, SD_EVENT_OFF);
}

/* Ends it for the user, and prepares the next. */
static void connection_over(struct link *l, const struct link_loss *loss)
{
	unsigned next_address = client_next_address(l->client);
	uint64_t lasted = now_usec(CLOCK_MONOTONIC) - l->connected_usec;
	bool good = loss->was_connected &&
		    (l->confirmed || lasted >= l->config->mqtt.retry_max_s * USEC_PER_SEC);
	bool progress;

	if (loss->was_connected && !judge_qos(l))
		judge_report(l);
	forget_reports(l);
	l->confirmed = false;
	l->stats->connected_usec = 0;
	client_close(TAKE_PTR(l->client));
	progress = l->handlers.lost(loss, l->userdata);
	if (l->left) {
		schedule(l->leave, 0);
		return;
	}
	if (good) {
		begin_at_top(l);
		next_address = 0;
	}
	reconnect(l, next_address, !good && !progress);
}

static void note_loss(struct link *l, enum client_loss loss_kind, unsigned reason_code)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	const struct loss loss = {
		.at_usec = now,
		.lasted_usec = now - l->connected_usec,
		.silence_usec = now - l->traffic_usec,
		.taken_over = reason_code == 0x8e, /* Session taken over */
		.idle = loss_kind == CLIENT_LOSS_TRANSPORT && l->unanswered == 0 &&
			l->presence_mid == 0 && l->probe_mid == 0,
	};

	l->stats->connection_losses++;
	losses_note(&l->losses, &loss);
}

static void on_lost(struct client *c, enum client_loss loss, unsigned reason_code, const char *text,
		    void *userdata)
{
	struct link *l = userdata;
	struct link_loss l_loss = {
		.loss = loss,
		.reason_code = reason_code,
		.was_connected = l->stats->connected_usec > 0,
	};
	char code[8] = "";
	const struct log_about about = {
		.message = LOG_MESSAGE_CONNECTION_FAILED,
		.broker = link_broker_url(l),
		.reason = code,
	};

	if (reason_code > 0)
		(void)snprintf(code, sizeof(code), "0x%02x", reason_code & 0xff);
	if (l_loss.was_connected)
		note_loss(l, loss, reason_code);
	else
		losses_doubt(&l->losses);
	if (l->backoff_usec == 0 || l_loss.was_connected) /* the first of a row; then see status */
		log_about(LOG_WARNING, &about, "broker %s: %s", link_broker_url(l), text);
	else
		log_about(LOG_DEBUG, &about, "broker %s: %s", link_broker_url(l), text);
	stats_note_error(l->stats, "broker %s: %s", link_broker_url(l), text);
	l->somebody |= loss != CLIENT_LOSS_NOBODY;
	if (loss == CLIENT_LOSS_REFUSED && !l_loss.was_connected)
		judge_will(l, reason_code, text);
	else if (loss == CLIENT_LOSS_DISCONNECT && reason_code == 0x9a)
		give_up_retaining(l, "Retain not supported, 0x9a");
	connection_over(l, &l_loss);
}

static void connect_now(struct link *l)
{
	static const struct client_handlers handlers = {
		.connected = on_connected,
		.writable = on_writable,
		.acknowledged = on_acknowledged,
		.lost = on_lost,
	};
	const struct broker *broker = &l->config->brokers[l->broker];
	struct client_options options = {
		.config = l->config,
		.broker = broker,
		.credentials = l->credentials,
		.first_address = l->address,
		.connected_before = l->known[l->broker],
	};
	int k;

	link_renew(l);
	options.credentials = l->credentials;
	log_debug("connecting to broker %s", broker->url);
	event_release(&l->will);
	if (!l->without_will && presence_build(l->config, l->credentials, l->signing, NULL,
					       PRESENCE_WILL, &l->will) > 0) {
		options.will_retain = l->level == PRESENCE_RETAINED;
		options.will_delay_s = (uint32_t)l->config->mqtt.will_delay_s;
		options.session_expiry_s = options.will_delay_s;
		/* With QoS 2 a session that is taken up may still hold packet identifiers, and the
		   broker would drop new events under them as repetitions. */
		options.resume = options.will_delay_s > 0 && l->config->mqtt.version == 5 &&
				 l->config->mqtt.qos == 1;
		options.will_topic = l->will.topic;
		options.will_payload = l->will.payload;
		options.will_content_type = EVENT_CONTENT_TYPE;
	}
	k = client_open(l->loop, &options, &handlers, l, &l->client);
	if (k < 0) {
		log_error("cannot begin to connect to broker %s: %s", broker->url, strerror(-k));
		stats_note_error(l->stats, "cannot begin to connect to broker %s: %s", broker->url,
				 strerror(-k));
		reconnect(l, 0, true);
	}
}

static int on_reconnect(sd_event_source *s, uint64_t usec, void *userdata)
{
	connect_now(userdata);
	return 0;
}

/* --- certificates */

static void note_validity(struct link *l)
{
	free(TAKE_PTR(l->renewal_error));
	l->renewal_refused_usec = 0;
	l->own = l->credentials ? credentials_own_validity(l->credentials) : (struct validity){0};
	l->authority = credentials_trust_validity(l->credentials, &l->config->tls);
}

void link_renew(struct link *l)
{
	char *error = NULL;
	int r = credentials_renew(&l->config->tls, &l->credentials, &error);

	if (r > 0)
		log_notice(
			"the certificate files were renewed, and are used from the next connection "
			"on");
	if (r > 0 || (r == 0 && l->renewal_error))
		note_validity(l);
	if (r >= 0)
		return;
	if (!error)
		error = strdup(strerror(-r));
	if (!l->renewal_error || !error || strcmp(l->renewal_error, error) != 0) {
		log_error("the certificate files have changed and cannot be used: %s; the old ones "
			  "stay in use",
			  error ? error : "no memory");
		l->renewal_refused_usec = now_usec(CLOCK_REALTIME);
	}
	free(l->renewal_error);
	l->renewal_error = error;
}

/* --- for the user */

void link_start(struct link *l, const struct config *c, struct credentials *credentials,
		struct signing *signing)
{
	l->signing = signing;
	l->certified = 0;
	credentials_unref(l->credentials);
	l->config = c;
	l->credentials = credentials_ref(credentials);
	note_validity(l);
	l->level = PRESENCE_RETAINED;
	l->without_will = l->without_report = l->without_probe = l->qos2_known = false;
	l->refusal[0] = l->topic_error[0] = '\0';
	free(l->known);
	l->known = calloc(c->n_brokers, sizeof(*l->known));
	if (!l->known) { /* as for the window, only at the start could that be */
		log_error("no memory for %zu brokers", c->n_brokers);
		abort();
	}
	l->broker = l->brokers_tried = l->address = 0;
	l->backoff_usec = 0;
	l->mute = l->qos2_losses = 0;
	schedule(l->reconnect, 0);
}

void link_retry_now(struct link *l)
{
	int enabled = SD_EVENT_OFF;

	l->mute = 0;
	(void)sd_event_source_get_enabled(l->reconnect, &enabled);
	if (enabled != SD_EVENT_OFF)
		schedule(l->reconnect, 0);
}

void link_leave(struct link *l, link_left left)
{
	(void)sd_event_source_set_enabled(l->reconnect, SD_EVENT_OFF);
	if (l->left) {
		l->left = left;
		return;
	}
	l->left = left;
	schedule(l->leave, report_presence(l, PRESENCE_OFFLINE) ? LEAVE_USEC : 0);
}

static int on_leave(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct link *l = userdata;
	link_left left = TAKE_PTR(l->left);

	forget_reports(l);
	l->stats->connected_usec = 0;
	if (l->client) {
		client_close(TAKE_PTR(l->client));
		(void)l->handlers.lost(&(struct link_loss){.was_connected = false}, l->userdata);
	}
	left(l->userdata);
	return 0;
}

void link_abandon(struct link *l)
{
	if (l->client && !l->left)
		connection_over(l, &(struct link_loss){.was_connected = false});
}

void link_confirm(struct link *l)
{
	l->confirmed = true;
}

int link_publish(struct link *l, const char *topic, const char *payload, size_t size, int *ret_mid)
{
	int k = client_publish(l->client, topic, payload, size, EVENT_CONTENT_TYPE, false, ret_mid);

	l->published += k == 0;
	l->unanswered += k == 0;
	l->traffic_usec = now_usec(CLOCK_MONOTONIC);
	return k;
}

static uint64_t due(sd_event_source *s)
{
	int enabled = SD_EVENT_OFF;
	uint64_t usec;

	if (sd_event_source_get_enabled(s, &enabled) < 0 || enabled == SD_EVENT_OFF ||
	    sd_event_source_get_time(s, &usec) < 0)
		return 0;
	return now_usec(CLOCK_REALTIME) + usec - now_usec(CLOCK_MONOTONIC);
}

void link_describe(const struct link *l, struct link_description *ret_description)
{
	bool connected = link_connected(l);

	*ret_description = (struct link_description){
		.connected = connected,
		.broker = link_broker_url(l),
		.peer = connected ? client_peer(l->client) : NULL,
		.protocol = connected ? client_protocol(l->client) : NULL,
		.peer_validity = connected ? client_peer_validity(l->client) : (struct validity){0},
		.next_usec = due(l->reconnect),
		.report_refused = !can_report(l),
		.topic_error = l->topic_error[0] ? l->topic_error : NULL,
		.own = l->own,
		.authority = l->authority,
		.renewal_error = l->renewal_error,
		.renewal_refused_usec = l->renewal_refused_usec,
	};
	losses_summarize(&l->losses, now_usec(CLOCK_MONOTONIC), &ret_description->losses);
}

/* --- birth and death */

int link_new(sd_event *loop, struct relay_stats *stats, const struct completeness *completeness,
	     const struct link_handlers *h, void *userdata, struct link **ret_link)
{
	struct link *l = calloc(1, sizeof(*l));
	int k;

	if (!l)
		return -ENOMEM;
	l->loop = sd_event_ref(loop);
	l->stats = stats;
	l->completeness = completeness;
	l->handlers = *h;
	l->userdata = userdata;
	k = loop_add_turn(loop, &l->reconnect, on_reconnect, l);
	if (k >= 0)
		k = loop_add_turn(loop, &l->leave, on_leave, l);
	if (k >= 0)
		k = loop_add_turn(loop, &l->birth, on_birth, l);
	if (k < 0) {
		link_free(l);
		return k;
	}
	*ret_link = l;
	return 0;
}

void link_free(struct link *l)
{
	if (!l)
		return;
	client_close(l->client);
	sd_event_source_disable_unref(l->reconnect);
	sd_event_source_disable_unref(l->leave);
	sd_event_source_disable_unref(l->birth);
	sd_event_unref(l->loop);
	credentials_unref(l->credentials);
	event_release(&l->will);
	free(l->known);
	free(l->renewal_error);
	free(l);
}
