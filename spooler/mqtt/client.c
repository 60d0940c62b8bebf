/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client - see client.h. libmosquitto knows no TLS but OpenSSL's, so it speaks in the clear to a
 * unix socket whose other end is ours, and we carry the bytes between that end and the transport
 * ("the bridge", see bridge.h).
 *
 * Neither end of the bridge is watched by the loop: both change only through calls made here. A
 * turn carries bytes from the broker into libmosquitto, calls the user's handlers, lets the user
 * publish, and carries libmosquitto's bytes to the broker. Turns are repeated until nothing moves,
 * within a budget so that other sources get their turn. All that is gathered in one turn goes
 * through in one piece, which is where the speed comes from.
 *
 * One timer is set to the nearest time-out (timeouts.h). inbound.h sees what the broker sends, so
 * that nothing harmful reaches libmosquitto, and takes the messages out of it. Their PUBACKs and the
 * PINGREQs are ours, put between libmosquitto's packets (outbound.h): libmosquitto would
 * acknowledge before its callback, and wait for a PINGRESP while nothing is read.
 *
 * A client is lost once: a first reason is kept, what follows from it is not looked at. Its parts
 * are released when no callback of libmosquitto and no handler is on the stack.
 */
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "spooler/base/loop.h"
#include "spooler/base/util.h"
#include "spooler/mqtt/client.h"
#include "spooler/mqtt/connect.h"
#include "spooler/mqtt/held.h"
#include "spooler/mqtt/publishes.h"
#include "spooler/mqtt/inbound.h"
#include "spooler/mqtt/outbound.h"
#include "spooler/mqtt/packet.h"
#include "spooler/mqtt/reason.h"
#include "spooler/mqtt/timeouts.h"

#define IN_BUFFER (16 * 1024)
#define OUT_BUFFER (64 * 1024)
#define TURNS_MAX 32	  /* before the loop's other sources get their turn, */
#define TURNS_USEC 50000  /* or this time */
#define ANSWERS_MAX 65535 /* owed to the broker: more than there are packet identifiers */
/* Bound of what libmosquitto holds, whatever the window. */
#define IN_FLIGHT_BYTES (4 * 1024 * 1024)
#define WINDOW_QOS2_V3 20 /* see window_of() */
#define HOLD_MESSAGES 4000
#define HOLD_BYTES (16 * 1024 * 1024)
#define FILTERS_MAX 1000

enum client_state {
	OPENING, /* no bridge yet */
	HELLO,	 /* waiting for CONNACK */
	READY,	 /* feeding */
	LOST,
};

struct client {
	sd_event *loop;
	struct client_options options;
	struct client_handlers handlers;
	void *userdata;

	enum client_state state;
	struct transport *transport;
	sd_event_source *kick, *timer;
	bool running, closed; /* a turn is on the stack; the user has closed in it */

	enum client_loss loss;
	unsigned loss_code;
	char loss_text[1400];
	bool loss_reported;
	char peer[512]; /* the transport's, when that is closed */
	unsigned next_address;

	struct mosquitto *mosq;
	int fd;		/* our end of the bridge */
	bool mosq_gone; /* libmosquitto has said goodbye, with: */
	int mosq_code;

	/* From CONNACK. */
	bool connack;
	unsigned connack_code;
	char reason_string[256]; /* the broker's own words for a refusal or a disconnect */
	unsigned window, qos;
	uint32_t packet_max;
	bool can_retain;
	bool connected_reported;

	/* A SUBSCRIBE that waits for its SUBACK, or whose SUBACK the user has not seen yet. */
	char **filters;
	unsigned *granted;
	size_t n_filters;
	bool suback;

	struct publishes publishes;
	bool was_full;	   /* the user has seen no room since `writable` */
	size_t hello_size; /* of the CONNECT */
	char *content_type;
	mosquitto_property *properties; /* of the last publish, kept for the next */

	struct timeouts timeouts;
	uint64_t timer_set; /* 0: off */

	/* Messages that wait for client_commit(); not read on while there are too many. */
	struct held held;
	uint64_t committed;
	bool paused;

	struct inbound inbound;
	struct outbound outbound;
	uint64_t answered; /* of inbound.answers: what libmosquitto has written */
	size_t in_begin, in_end, out_begin, out_end;
	uint8_t codes[UINT16_MAX + 1]; /* see inbound.codes */
	uint8_t in[IN_BUFFER];
	uint8_t out[OUT_BUFFER];
};

static int on_kick(sd_event_source *source, uint64_t usec, void *userdata);
static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

/* --- time */

static uint64_t loop_usec(const struct client *c)
{
	uint64_t usec = 0;

	(void)sd_event_now(c->loop, CLOCK_MONOTONIC, &usec);
	return usec;
}

/* Under load the timer is only ever set earlier; when it comes too early it is set again. That
   spares a system call each turn. With nothing in flight it is set exactly, so that an idle
   daemon is woken by nothing but keep-alives. */
static void set_timer(struct client *c)
{
	uint64_t next = timeouts_next(&c->timeouts, c->publishes.n > 0);

	if (!c->timer || (c->state != HELLO && c->state != READY) || next == UINT64_MAX)
		return;
	if (c->timer_set && c->timer_set <= next &&
	    (c->publishes.n > 0 || next - c->timer_set < USEC_PER_SEC))
		return;
	if (sd_event_source_set_time(c->timer, next) < 0 ||
	    sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT) < 0)
		return;
	c->timer_set = next;
}

static void kick(struct client *c)
{
	if (c->kick && !c->running)
		(void)sd_event_source_set_enabled(c->kick, SD_EVENT_ONESHOT);
}

/* --- losing it */

static void __attribute__((format(printf, 4, 5)))
lose(struct client *c, enum client_loss loss, unsigned code, const char *format, ...)
{
	va_list ap;

	if (c->state == LOST)
		return;
	c->state = LOST;
	c->loss = loss;
	c->loss_code = code;
	va_start(ap, format);
	(void)vsnprintf(c->loss_text, sizeof(c->loss_text), format, ap);
	va_end(ap);
	kick(c);
}

static const char *peer(const struct client *c)
{
	return c->transport ? transport_peer(c->transport) : c->peer;
}

/* A connection that ends without a CONNACK: the likely reason. */
static void lose_in_hello(struct client *c)
{
	const char *error = transport_error(c->transport);
	bool closed = transport_failure(c->transport) == TRANSPORT_FAILURE_CLOSED;
	bool may_not_know = c->options.config->mqtt.version == 5 && !c->options.connected_before;

	if (!closed)
		lose(c, CLIENT_LOSS_TRANSPORT, 0, "%s", error);
	else if (transport_lacks_certificate(c->transport))
		lose(c, CLIENT_LOSS_REFUSED, 0,
		     "%s instead of a CONNACK; it asked for a client certificate (set "
		     "tls.certificate_file and tls.key_file)",
		     error);
	else if (may_not_know)
		lose(c, CLIENT_LOSS_REFUSED, 0,
		     "%s instead of a CONNACK; it may not know MQTT 5 (set mqtt.version to 3.1.1), or "
		     "not take a CONNECT of %zu bytes",
		     error, c->hello_size);
	else
		lose(c, CLIENT_LOSS_REFUSED, 0,
		     "%s instead of a CONNACK; our CONNECT has %zu bytes", error, c->hello_size);
}

static void lose_transport(struct client *c)
{
	if (c->state == HELLO)
		lose_in_hello(c);
	else if (transport_failure(c->transport) == TRANSPORT_FAILURE_REFUSED)
		lose(c, CLIENT_LOSS_NOBODY, 0, "%s", transport_error(c->transport));
	else
		lose(c, CLIENT_LOSS_TRANSPORT, 0, "%s", transport_error(c->transport));
}

/* libmosquitto has ended the connection on its side; find out why. */
static void lose_mosquitto(struct client *c)
{
	const char *words = c->reason_string;

	if (c->connack && c->connack_code)
		lose(c, CLIENT_LOSS_REFUSED, c->connack_code,
		     "%s: the broker refuses the connection: %s (0x%02x)%s%s", peer(c),
		     reason_connack_name(c->connack_code), c->connack_code, *words ? ": " : "",
		     words);
	else if (c->inbound.disconnected)
		lose(c, CLIENT_LOSS_DISCONNECT, c->inbound.disconnect_reason,
		     "%s: the broker ends the connection: %s (0x%02x)%s%s", peer(c),
		     c->inbound.disconnect_reason ? reason_name(c->inbound.disconnect_reason)
						  : "Normal disconnection",
		     c->inbound.disconnect_reason, *words ? ": " : "", words);
	else
		lose(c, CLIENT_LOSS_PROTOCOL, 0, "%s: the broker violates the MQTT protocol (%s)",
		     peer(c), mosquitto_strerror(c->mosq_code));
}

/* --- libmosquitto's callbacks: they take note, and the turn calls the handlers */

static void keep_reason_string(struct client *c, const mosquitto_property *properties)
{
	char *text = NULL;

	if (!properties ||
	    !mosquitto_property_read_string(properties, MQTT_PROP_REASON_STRING, &text, false) ||
	    !text)
		return;
	(void)snprintf(c->reason_string, sizeof(c->reason_string), "%s", text);
	free(text);
}

static void on_connect(struct mosquitto *m, void *userdata, int code, int flags,
		       const mosquitto_property *properties)
{
	struct client *c = userdata;
	uint16_t receive_max, keep_alive;
	uint8_t qos_max, can_retain;
	uint32_t packet_max;

	c->connack = true;
	c->connack_code = (unsigned)code;
	keep_reason_string(c, properties);
	if (code != 0 || !properties)
		return;
	if (mosquitto_property_read_int16(properties, MQTT_PROP_RECEIVE_MAXIMUM, &receive_max,
					  false) &&
	    receive_max > 0 && receive_max < c->window)
		c->window = receive_max;
	if (mosquitto_property_read_int32(properties, MQTT_PROP_MAXIMUM_PACKET_SIZE, &packet_max,
					  false) &&
	    packet_max > 0)
		c->packet_max = packet_max;
	if (mosquitto_property_read_byte(properties, MQTT_PROP_MAXIMUM_QOS, &qos_max, false) &&
	    qos_max < c->qos)
		c->qos = qos_max;
	if (mosquitto_property_read_byte(properties, MQTT_PROP_RETAIN_AVAILABLE, &can_retain,
					 false))
		c->can_retain = can_retain;
	if (mosquitto_property_read_int16(properties, MQTT_PROP_SERVER_KEEP_ALIVE, &keep_alive,
					  false))
		c->timeouts.keep_alive_us = keep_alive * USEC_PER_SEC;
}

static void on_disconnect(struct mosquitto *m, void *userdata, int code,
			  const mosquitto_property *properties)
{
	struct client *c = userdata;

	if (c->mosq_gone) /* after a DISCONNECT this is called twice */
		return;
	c->mosq_gone = true;
	c->mosq_code = code;
	keep_reason_string(c, properties);
}

static void on_publish(struct mosquitto *m, void *userdata, int mid, int reason_code,
		       const mosquitto_property *properties)
{
	struct client *c = userdata;
	unsigned code = c->codes[(uint16_t)mid] ? c->codes[(uint16_t)mid] : (unsigned)reason_code;

	c->codes[(uint16_t)mid] = 0;
	if (publishes_answer(&c->publishes, mid, code))
		timeouts_oldest(&c->timeouts, c->timeouts.last_in);
}

static void on_subscribe(struct mosquitto *m, void *userdata, int mid, int n, const int *granted,
			 const mosquitto_property *properties)
{
	struct client *c = userdata;

	/* A SUBACK can claim to hold fewer codes than there were filters, or none. */
	for (size_t i = 0; i < c->n_filters; i++)
		c->granted[i] = (int)i < n ? (unsigned)granted[i] : 0x80;
	c->suback = true;
}

/* --- the bridge */

static int open_bridge(struct client *c, char *why, size_t size)
{
	int r;

	r = connect_new(&c->options, c->publishes.size, c, &c->mosq, why, size);
	if (r < 0)
		return r;
	mosquitto_connect_v5_callback_set(c->mosq, on_connect);
	mosquitto_disconnect_v5_callback_set(c->mosq, on_disconnect);
	mosquitto_publish_v5_callback_set(c->mosq, on_publish);
	mosquitto_subscribe_v5_callback_set(c->mosq, on_subscribe);
	return connect_send(c->mosq, &c->options, c->handlers.message != NULL,
			    &c->timeouts.keep_alive_us, &c->fd);
}

static void close_bridge(struct client *c)
{
	if (c->mosq)
		mosquitto_destroy(c->mosq);
	c->mosq = NULL;
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = -1;
}

/* --- messages */

/* The last number given to a message, of any connection: see client_message.number. */
static uint64_t last_number;

static bool is_topic(const struct inbound_message *m)
{
	return mosquitto_validate_utf8(m->topic, (int)m->topic_size) == MOSQ_ERR_SUCCESS &&
	       mosquitto_pub_topic_check2(m->topic, m->topic_size) == MOSQ_ERR_SUCCESS;
}

static void on_message(const struct inbound_message *m, void *userdata)
{
	struct client *c = userdata;
	struct client_message to_user = {
		.topic = m->topic,
		.payload = m->payload,
		.size = m->size,
		.qos = m->qos,
		.packet_id = m->packet_id,
		.retain = m->retain,
	};
	uint64_t number = m->qos > 0 ? ++last_number : 0;

	if (c->closed || c->state != READY)
		return;
	if (!is_topic(m)) {
		lose(c, CLIENT_LOSS_PROTOCOL, 0,
		     "%s: the broker sent a message with an invalid topic", peer(c));
		return;
	}
	if (number && held_add(&c->held, m->packet_id, number, (uint32_t)m->size) < 0) {
		lose(c, CLIENT_LOSS_PROTOCOL, 0, "%s: no memory for a message", peer(c));
		return;
	}
	to_user.number = c->options.hold ? number : 0;
	c->handlers.message(c, &to_user, c->userdata);
	if (number && !c->options.hold)
		client_commit(c, number);
}

/* --- a turn: from the broker */

/* Is so much held that nothing more may be read? */
static bool must_pause(const struct client *c)
{
	size_t messages = c->options.hold_messages ? c->options.hold_messages : HOLD_MESSAGES;
	uint64_t bytes = c->options.hold_bytes ? c->options.hold_bytes : HOLD_BYTES;

	return c->held.n >= messages || c->held.bytes >= bytes;
}

static void set_paused(struct client *c, bool paused)
{
	if (c->paused == paused)
		return;
	c->paused = paused;
	transport_set_reading(c->transport, !paused);
	timeouts_pause(&c->timeouts, paused, loop_usec(c));
}

/* Calls the user's handler for messages, and fills the buffer with what libmosquitto shall see.
   Returns whether anything came. */
static bool read_transport(struct client *c)
{
	bool any = false;
	uint64_t packets;
	size_t taken = 0;
	char why[200];
	ssize_t n;

	/* Also what is left out takes its time. Until libmosquitto has judged the CONNACK, and the
	   user knows, no byte is read that could be a message's. */
	while (c->in_end < sizeof(c->in) && taken < sizeof(c->in) &&
	       (c->state == READY || c->inbound.packets == 0)) {
		n = transport_read(c->transport, c->in + c->in_end,
				   c->state == READY ? sizeof(c->in) - c->in_end : 1);
		if (n <= 0)
			break;
		any = true;
		taken += (size_t)n;
		packets = c->inbound.packets;
		n = inbound_filter(&c->inbound, c->in + c->in_end, (size_t)n, why, sizeof(why));
		/* Bytes that never become a packet are not a sign of life, unless a long one may be
		   on its way. */
		if (c->inbound.packets != packets || c->inbound.message)
			timeouts_received(&c->timeouts, loop_usec(c));
		if (n < 0) {
			lose(c, CLIENT_LOSS_PROTOCOL, 0, "%s: %s", peer(c), why);
			break;
		}
		c->in_end += (size_t)n;
	}
	return any;
}

static void call_mosquitto(struct client *c, int (*call)(struct mosquitto *, int))
{
	int code;

	errno = 0; /* libmosquitto looks at it also after a call that succeeded */
	code = call(c->mosq, 1);
	if (code != MOSQ_ERR_SUCCESS && !c->mosq_gone) {
		c->mosq_gone = true;
		c->mosq_code = code;
	}
}

/* Lets libmosquitto take all that lies in the bridge; there is room for as many
   answers as are in flight. */
static void read_mosquitto(struct client *c)
{
	int waiting;

	while (!c->mosq_gone && !c->closed) {
		waiting = 0;
		if (ioctl(mosquitto_socket(c->mosq), FIONREAD, &waiting) < 0 || waiting == 0)
			break;
		call_mosquitto(c, mosquitto_loop_read);
	}
}

static bool from_broker(struct client *c)
{
	bool moved;
	ssize_t n;

	set_paused(c, must_pause(c));
	moved = !c->paused && read_transport(c);
	while (c->in_begin < c->in_end && !c->mosq_gone && !c->closed && c->state != LOST) {
		n = send(c->fd, c->in + c->in_begin, c->in_end - c->in_begin,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			break; /* the rest waits for the next turn */
		c->in_begin += (size_t)n;
		read_mosquitto(c);
	}
	if (c->in_begin == c->in_end)
		c->in_begin = c->in_end = 0;
	return moved;
}

/* --- a turn: to the broker */

static void put_packet(struct client *c, const uint8_t *packet, size_t size)
{
	memcpy(c->out + c->out_end, packet, size);
	c->out_end += size;
}

/* Our own packets, which may only stand between two of libmosquitto's. */
static void put_own_packets(struct client *c)
{
	uint16_t id;

	if (!c->connack || !outbound_is_between(&c->outbound))
		return;
	while (sizeof(c->out) - c->out_end >= PACKET_PUBACK_SIZE + PACKET_PINGREQ_SIZE &&
	       held_take(&c->held, c->committed, &id))
		put_packet(c, (uint8_t[]){0x40, 2, (uint8_t)(id >> 8), (uint8_t)id},
			   PACKET_PUBACK_SIZE);
	if (c->timeouts.ping_wanted && sizeof(c->out) - c->out_end >= PACKET_PINGREQ_SIZE) {
		put_packet(c, (uint8_t[]){0xc0, 0}, PACKET_PINGREQ_SIZE);
		c->timeouts.ping_wanted = false;
	}
}

/* Fills the buffer with what libmosquitto has written. */
static void read_bridge(struct client *c)
{
	ssize_t n;

	while (c->out_end < sizeof(c->out)) {
		n = recv(c->fd, c->out + c->out_end, sizeof(c->out) - c->out_end, MSG_DONTWAIT);
		if (n <= 0)
			break;
		outbound_pass(&c->outbound, c->out + c->out_end, (size_t)n);
		c->out_end += (size_t)n;
	}
}

static bool to_broker(struct client *c)
{
	size_t moved = 0;
	ssize_t n;

	for (;;) {
		if (c->mosq && !c->mosq_gone && mosquitto_want_write(c->mosq))
			call_mosquitto(c, mosquitto_loop_write);
		if (c->mosq && !c->mosq_gone && !mosquitto_want_write(c->mosq))
			c->answered = c->inbound.answers;
		if (c->out_begin == c->out_end)
			c->out_begin = c->out_end = 0;
		read_bridge(c);
		put_own_packets(c);
		if (c->out_begin == c->out_end)
			break;
		n = transport_write(c->transport, c->out + c->out_begin, c->out_end - c->out_begin);
		if (n <= 0)
			break;
		c->out_begin += (size_t)n;
		timeouts_sent(&c->timeouts, loop_usec(c));
		moved += (size_t)n;
		c->hello_size += c->state == HELLO ? (size_t)n : 0;
	}
	if (moved > 0 && c->out_begin < c->out_end)
		timeouts_sent_part(&c->timeouts, moved);
	return moved > 0;
}

/* --- a turn: calling the handlers */

static void report_answers(struct client *c)
{
	const struct publishes_answer *a = c->publishes.answers;

	for (unsigned i = 0; i < c->publishes.n_answers && !c->closed; i++)
		if (c->handlers.acknowledged)
			c->handlers.acknowledged(c, a[i].mid, a[i].reason_code, c->userdata);
	c->publishes.n_answers = 0;
}

static void check_connack(struct client *c)
{
	if (!c->connack || c->connected_reported || c->mosq_gone)
		return;
	if (c->connack_code) {
		lose_mosquitto(c);
		return;
	}
	if (c->qos == 0) {
		lose(c, CLIENT_LOSS_REFUSED, 0x9b,
		     "%s: the broker does not support QoS 1, without which events could be lost",
		     peer(c));
		return;
	}
	c->state = READY;
	timeouts_connected(&c->timeouts);
	c->connected_reported = true;
	c->was_full = false;
	if (c->handlers.connected)
		c->handlers.connected(c, c->userdata);
}

static void free_filters(struct client *c)
{
	for (size_t i = 0; i < c->n_filters; i++)
		free(c->filters[i]);
	free(c->filters);
	free(c->granted);
	c->filters = NULL;
	c->granted = NULL;
	c->n_filters = 0;
}

/* A handler may subscribe again only after the last filter's call. */
static void report_subscribed(struct client *c)
{
	if (!c->suback)
		return;
	for (size_t i = 0; i < c->n_filters && !c->closed; i++)
		if (c->handlers.subscribed)
			c->handlers.subscribed(c, c->filters[i], c->granted[i], c->userdata);
	c->suback = false;
	free_filters(c);
}

static void report(struct client *c)
{
	bool answered = c->publishes.n_answers > 0;

	check_connack(c);
	report_answers(c);
	report_subscribed(c);
	if (c->closed || c->state != READY || !(answered || c->was_full) || client_room(c) == 0)
		return;
	c->was_full = false;
	if (c->handlers.writable)
		c->handlers.writable(c, c->userdata);
}

static void report_loss(struct client *c)
{
	if (c->state != LOST || c->loss_reported || c->closed)
		return;
	c->loss_reported = true;
	c->kick = sd_event_source_disable_unref(c->kick);
	c->timer = sd_event_source_disable_unref(c->timer);
	close_bridge(c);
	(void)snprintf(c->peer, sizeof(c->peer), "%s", peer(c));
	c->next_address = transport_next_address(c->transport);
	transport_close(TAKE_PTR(c->transport));
	if (c->handlers.lost)
		c->handlers.lost(c, c->loss, c->loss_code, c->loss_text, c->userdata);
}

/* --- turns */

static void begin_hello(struct client *c)
{
	char why[512] = "";
	int r;

	timeouts_hello(&c->timeouts, loop_usec(c));
	c->state = HELLO;
	r = open_bridge(c, why, sizeof(why));
	if (r < 0 && why[0])
		lose(c, CLIENT_LOSS_TRANSPORT, 0, "%s", why);
	else if (r < 0)
		lose(c, CLIENT_LOSS_TRANSPORT, 0,
		     "%s: cannot set up the connection inside this process: %s", peer(c),
		     strerror(-r));
}

/* Returns whether anything moved. */
static bool turn(struct client *c)
{
	bool moved;

	moved = from_broker(c);
	report(c);
	if (c->closed || c->state == LOST)
		return false;
	moved |= to_broker(c);
	if (c->mosq_gone)
		lose_mosquitto(c);
	else if (transport_state(c->transport) == TRANSPORT_LOST)
		lose_transport(c);
	else if (c->inbound.answers - c->answered > ANSWERS_MAX)
		lose(c, CLIENT_LOSS_PROTOCOL, 0,
		     "%s: the broker keeps requesting replies but does not read them", peer(c));
	return moved && c->state != LOST;
}

static void client_free(struct client *c)
{
	if (c->state == READY && c->transport)
		(void)to_broker(c); /* what is committed, and the DISCONNECT */
	close_bridge(c);
	transport_close(c->transport);
	c->kick = sd_event_source_disable_unref(c->kick);
	c->timer = sd_event_source_disable_unref(c->timer);
	mosquitto_property_free_all(&c->properties);
	credentials_unref(c->options.credentials);
	free_filters(c);
	held_release(&c->held);
	inbound_release(&c->inbound);
	free(c->content_type);
	publishes_release(&c->publishes);
	sd_event_unref(c->loop);
	free(c);
}

/* From the loop only. The last thing done with c, which may be gone afterwards. */
static void run(struct client *c)
{
	uint64_t until = now_usec(CLOCK_MONOTONIC) + TURNS_USEC;
	unsigned turns;
	bool more;

	c->running = true;
	if (c->state == OPENING && transport_state(c->transport) == TRANSPORT_LOST)
		lose_transport(c);
	if (c->state == OPENING && transport_state(c->transport) == TRANSPORT_ESTABLISHED)
		begin_hello(c);
	more = c->state == HELLO || c->state == READY;
	for (turns = 0; more && turns < TURNS_MAX && now_usec(CLOCK_MONOTONIC) < until; turns++)
		more = turn(c);
	report_loss(c);
	c->running = false;
	if (c->closed) {
		client_free(c);
		return;
	}
	if (more)
		kick(c);
	set_timer(c);
}

static void on_transport(struct transport *t, void *userdata)
{
	run(userdata);
}

static int on_kick(sd_event_source *source, uint64_t usec, void *userdata)
{
	run(userdata);
	return 0;
}

static void lose_by_timeout(struct client *c, enum timeout timeout)
{
	const struct timeouts *t = &c->timeouts;

	if (timeout == TIMEOUT_CONNACK)
		lose(c, CLIENT_LOSS_TIMEOUT, 0, "%s: no CONNACK within %llu s", peer(c),
		     (unsigned long long)(t->connack_us / USEC_PER_SEC));
	else if (timeout == TIMEOUT_PUBACK)
		lose(c, CLIENT_LOSS_TIMEOUT, 0,
		     "%s: no PUBACK within %llu s, %u messages in flight", peer(c),
		     (unsigned long long)(t->puback_us / USEC_PER_SEC), c->publishes.n);
	else
		lose(c, CLIENT_LOSS_TIMEOUT, 0,
		     "%s: no answer to the keep-alive ping within %llu s", peer(c),
		     (unsigned long long)(t->pingresp_us / USEC_PER_SEC));
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct client *c = userdata;
	enum timeout timeout = TIMEOUT_NONE;

	c->timer_set = 0;
	if (c->state == HELLO || c->state == READY)
		timeout = timeouts_check(&c->timeouts, c->publishes.n > 0, loop_usec(c));
	if (timeout != TIMEOUT_NONE)
		lose_by_timeout(c, timeout);
	run(c);
	return 0;
}

/* --- opening and closing */

/* Under 3.1.1 a broker cannot say how much it takes at a time. mosquitto ends the connection,
   and would for ever, when more than its max_inflight_messages (default: 20) of QoS 2 are under
   way; with QoS 1 it does not mind. */
static unsigned window_of(const struct config_mqtt *q)
{
	unsigned most = q->version == 3 && q->qos == 2 ? WINDOW_QOS2_V3 : 65535;

	return q->window < 1 ? 1 : q->window > most ? most : q->window;
}

static int client_init(struct client *c)
{
	const struct config_mqtt *q = &c->options.config->mqtt;
	int r;

	c->window = window_of(q);
	c->qos = q->qos == 2 ? 2 : 1;
	c->packet_max = PACKET_MAX;
	c->can_retain = true;
	c->timeouts.connack_us = q->connect_timeout_s * USEC_PER_SEC;
	c->timeouts.puback_us = q->ack_timeout_s * USEC_PER_SEC;
	c->timeouts.pingresp_us =
		(q->connect_timeout_s < q->keep_alive_s ? q->connect_timeout_s : q->keep_alive_s) *
		USEC_PER_SEC;
	c->inbound.message = c->handlers.message ? on_message : NULL;
	c->inbound.userdata = c;
	c->inbound.publish_max = CONNECT_MESSAGE_MAX;
	c->inbound.v5 = q->version == 5;
	c->inbound.codes = c->codes;
	r = publishes_init(&c->publishes, c->window);
	if (r < 0)
		return r;
	r = loop_add_turn(c->loop, &c->kick, on_kick, c);
	if (r < 0)
		return r;
	r = loop_add_timer(c->loop, &c->timer, 0, on_timer, c);
	if (r < 0)
		return r;
	return transport_open(c->loop, c->options.broker, &c->options.config->tls,
			      c->options.credentials, q->connect_timeout_s,
			      c->options.first_address, on_transport, c, &c->transport);
}

int client_open(sd_event *loop, const struct client_options *o, const struct client_handlers *h,
		void *userdata, struct client **ret_client)
{
	struct client *c;
	int r;

	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->fd = -1;
	c->loop = sd_event_ref(loop);
	c->options = *o;
	(void)credentials_ref(o->credentials);
	c->handlers = *h;
	c->userdata = userdata;
	r = client_init(c);
	if (r < 0) {
		client_free(c);
		return r;
	}
	*ret_client = c;
	return 0;
}

/* DISCONNECT. Unless it is kept, the session that was to outlive a lost connection ends here. */
static void say_goodbye(struct client *c)
{
	mosquitto_property *properties = NULL;

	if (c->options.session_expiry_s && !c->options.keep_session &&
	    c->options.config->mqtt.version == 5)
		(void)mosquitto_property_add_int32(&properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL,
						   0);
	(void)mosquitto_disconnect_v5(c->mosq, 0, properties);
	mosquitto_property_free_all(&properties);
}

void client_close(struct client *c)
{
	if (!c || c->closed)
		return;
	if (c->state == READY && !c->mosq_gone)
		say_goodbye(c);
	c->closed = true;
	c->handlers = (struct client_handlers){0};
	if (!c->running)
		client_free(c);
}

/* --- publishing */

bool client_connected(const struct client *c)
{
	return c->state == READY;
}

const char *client_peer(const struct client *c)
{
	return peer(c);
}

const char *client_protocol(const struct client *c)
{
	return c->transport ? transport_protocol(c->transport) : "";
}

struct validity client_peer_validity(const struct client *c)
{
	return c->transport ? transport_peer_validity(c->transport) : (struct validity){0};
}

unsigned client_next_address(const struct client *c)
{
	return c->transport ? transport_next_address(c->transport) : c->next_address;
}

bool client_can_retain(const struct client *c)
{
	return c->can_retain;
}

unsigned client_room(const struct client *c)
{
	if (c->state != READY || c->mosq_gone || c->closed)
		return 0;
	if (c->publishes.bytes >= IN_FLIGHT_BYTES || mosquitto_want_write(c->mosq))
		return 0;
	return publishes_room(&c->publishes, c->window);
}

/* The same content type comes with every event: its property is made once. */
static int set_content_type(struct client *c, const char *content_type)
{
	if (c->content_type && strcmp(c->content_type, content_type) == 0)
		return 0;
	mosquitto_property_free_all(&c->properties);
	free(c->content_type);
	c->content_type = strdup(content_type);
	if (!c->content_type)
		return -ENOMEM;
	return connect_errno(mosquitto_property_add_string(&c->properties, MQTT_PROP_CONTENT_TYPE,
							   content_type));
}

size_t client_packet_size(const struct client *c, const char *topic, size_t payload_size,
			  const char *content_type)
{
	return packet_publish_size(c->inbound.v5, topic, payload_size, content_type);
}

size_t client_packet_max(const struct client *c)
{
	return c->packet_max;
}

int client_publish(struct client *c, const char *topic, const void *payload, size_t size,
		   const char *content_type, bool retain, int *ret_mid)
{
	size_t whole;
	int r, mid;

	if (c->state != READY || c->mosq_gone)
		return -ENOTCONN;
	/* An empty content type crashes libmosquitto 2.0.11. */
	content_type = c->inbound.v5 && content_type && content_type[0] ? content_type : NULL;
	if (strlen(topic) > UINT16_MAX || mosquitto_pub_topic_check(topic) != MOSQ_ERR_SUCCESS)
		return -EINVAL;
	/* Also the packet that is larger than the broker takes: libmosquitto 2.0.11 aborts. */
	whole = packet_publish_size(c->inbound.v5, topic, size, content_type);
	if (whole > c->packet_max || size > INT32_MAX)
		return -EMSGSIZE;
	if (client_room(c) == 0) {
		c->was_full = true;
		return -EAGAIN;
	}
	if (content_type) {
		r = set_content_type(c, content_type);
		if (r < 0)
			return r;
	}
	errno = 0;
	r = connect_errno(mosquitto_publish_v5(c->mosq, &mid, topic, (int)size, payload,
					       (int)c->qos, retain && c->can_retain,
					       content_type ? c->properties : NULL));
	if (r == -ENOTCONN)
		lose(c, CLIENT_LOSS_PROTOCOL, 0, "%s: the connection inside this process is gone",
		     peer(c));
	/* libmosquitto may keep the message all the same, under an id of its own. */
	else if (r < 0 && r != -EINVAL && r != -EMSGSIZE)
		lose(c, CLIENT_LOSS_PROTOCOL, 0, "%s: libmosquitto cannot take an event: %s",
		     peer(c), strerror(-r));
	if (r < 0)
		return r;
	if (publishes_add(&c->publishes, mid, size))
		timeouts_oldest(&c->timeouts, loop_usec(c));
	if (client_room(c) == 0)
		c->was_full = true;
	*ret_mid = mid;
	kick(c);
	return 0;
}

static int copy_filters(struct client *c, const char *const *filters, size_t n)
{
	c->filters = calloc(n, sizeof(*c->filters));
	c->granted = calloc(n, sizeof(*c->granted));
	if (!c->filters || !c->granted)
		return -ENOMEM;
	for (; c->n_filters < n; c->n_filters++) {
		c->filters[c->n_filters] = strdup(filters[c->n_filters]);
		if (!c->filters[c->n_filters])
			return -ENOMEM;
	}
	return 0;
}

int client_subscribe(struct client *c, const char *const *filters, size_t n)
{
	int r;

	if (c->state != READY || c->mosq_gone)
		return -ENOTCONN;
	if (c->n_filters > 0)
		return -EALREADY;
	if (n == 0 || n > FILTERS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (mosquitto_sub_topic_check(filters[i]) != MOSQ_ERR_SUCCESS)
			return -EINVAL;
	r = copy_filters(c, filters, n);
	if (r >= 0)
		r = connect_errno(mosquitto_subscribe_multiple(c->mosq, NULL, (int)n, c->filters, 1,
							       0, NULL));
	if (r < 0)
		free_filters(c);
	kick(c);
	return r;
}

void client_commit(struct client *c, uint64_t number)
{
	if (c->closed || number <= c->committed)
		return;
	c->committed = number;
	kick(c);
}

size_t client_held(const struct client *c)
{
	return c->held.n;
}
