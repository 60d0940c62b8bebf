/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client-probe - one connection of client.c by hand, for the tests and for a developer: connects,
 * publishes N messages, subscribes, and prints one line for each thing that a handler was told. Not
 * installed.
 *
 *   connected PROTOCOL | ack MID CODE | subscribed CODE | message SIZE TOPIC | lost LOSS CODE TEXT
 *   | done ACKED
 *
 * Exit status: 0 everything asked for was done, 1 lost, 2 cannot begin.
 */
#include <getopt.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "spooler/mqtt/client.h"
#include "spooler/base/util.h"

static struct config arg_config = {
	.mqtt =
		{
			.version = 5,
			.qos = 1,
			.client_id = (char *)"client-probe",
			.window = 100,
			.keep_alive_s = 60,
			.connect_timeout_s = 5,
			.ack_timeout_s = 10,
		},
};
static struct broker arg_broker = {.url = (char *)"", .tls = true};
static const char *arg_topic = "probe", *arg_subscribe, *arg_will;
static unsigned arg_publish, arg_messages, arg_rounds = 1;
static size_t arg_size = 100;
static bool arg_print_acks, arg_hold, arg_quiet, arg_linger;

struct probe {
	sd_event *loop;
	struct credentials *credentials;
	struct client *client;
	char *payload;
	unsigned published, acknowledged, refused, messages;
	unsigned rounds;
	int status;
};

static const char *const loss_names[] = {
	[CLIENT_LOSS_TRANSPORT] = "transport",	 [CLIENT_LOSS_REFUSED] = "refused",
	[CLIENT_LOSS_DISCONNECT] = "disconnect", [CLIENT_LOSS_TIMEOUT] = "timeout",
	[CLIENT_LOSS_PROTOCOL] = "protocol",	 [CLIENT_LOSS_NOBODY] = "nobody",
};

static int begin(struct probe *p);

/* Done once all that was asked for has been answered; then again, or over. */
static void check_done(struct probe *p)
{
	if (arg_hold || p->acknowledged < arg_publish || p->messages < arg_messages)
		return;
	if (!arg_quiet || p->rounds == 1)
		printf("done %u\n", p->acknowledged);
	client_close(TAKE_PTR(p->client));
	p->published = p->acknowledged = p->messages = 0;
	if (--p->rounds > 0 && begin(p) == 0)
		return;
	if (arg_linger && p->status == 0)
		printf("lingering\n"); /* without a connection, to be looked at */
	else
		(void)sd_event_exit(p->loop, p->status);
}

static void feed(struct client *c, void *userdata)
{
	struct probe *p = userdata;
	int r, mid;

	while (p->published < arg_publish && client_room(c) > 0) {
		r = client_publish(c, arg_topic, p->payload, arg_size, "text/plain", false, &mid);
		if (r < 0) {
			printf("publish %s\n", strerror(-r));
			p->status = 1;
			(void)sd_event_exit(p->loop, 1);
			return;
		}
		p->published++;
	}
}

static void on_connected(struct client *c, void *userdata)
{
	struct probe *p = userdata;

	if (!arg_quiet)
		printf("connected %s\n", client_protocol(c));
	if (arg_subscribe)
		(void)client_subscribe(c, &arg_subscribe, 1);
	else
		feed(c, userdata);
	check_done(p);
}

static void on_subscribed(struct client *c, const char *filter, unsigned code, void *userdata)
{
	printf("subscribed %u\n", code);
	feed(c, userdata);
}

static void on_acknowledged(struct client *c, int mid, unsigned code, void *userdata)
{
	struct probe *p = userdata;

	(void)c;
	if (arg_print_acks)
		printf("ack %d %u\n", mid, code);
	p->acknowledged++;
	p->refused += code >= 0x80;
	check_done(p);
}

static void on_message(struct client *c, const struct client_message *m, void *userdata)
{
	struct probe *p = userdata;

	if (!arg_quiet)
		printf("message %zu %s\n", m->size, m->topic);
	p->messages++;
	check_done(p);
}

static void on_lost(struct client *c, enum client_loss loss, unsigned code, const char *text,
		    void *userdata)
{
	struct probe *p = userdata;

	(void)c;
	printf("lost %s %u %s\n", loss_names[loss], code, text);
	client_close(TAKE_PTR(p->client));
	(void)sd_event_exit(p->loop, 1);
}

static int begin(struct probe *p)
{
	const struct client_options o = {
		.config = &arg_config,
		.broker = &arg_broker,
		.credentials = p->credentials,
		.will_topic = arg_will,
		.will_payload = arg_will ? "gone" : NULL,
	};
	const struct client_handlers h = {
		.connected = on_connected,
		.writable = feed,
		.acknowledged = on_acknowledged,
		.message = arg_subscribe ? on_message : NULL,
		.subscribed = on_subscribed,
		.lost = on_lost,
	};
	int r;

	r = client_open(p->loop, &o, &h, p, &p->client);
	if (r < 0) {
		printf("open %s\n", strerror(-r));
		p->status = 2;
	}
	return r;
}

/* "HOST:PORT" or "[ADDRESS]:PORT". */
static int parse_broker(char *s)
{
	char *colon = strrchr(s, ':');

	if (!colon)
		return -EINVAL;
	*colon = '\0';
	arg_broker.port = (uint16_t)atoi(colon + 1);
	arg_broker.host = s;
	if (s[0] == '[' && colon[-1] == ']') {
		colon[-1] = '\0';
		arg_broker.host = s + 1;
	}
	return 0;
}

static int parse_arguments(int argc, char **argv)
{
	struct config_tls *t = &arg_config.tls;
	struct config_mqtt *q = &arg_config.mqtt;
	enum { PLAIN = 256, ACKS, HOLD, QUIET, LINGER, PIN, NUMBER };
	static char *pins[8];
	const struct {
		const char *name;
		char **text;
		uint64_t *seconds;
		unsigned *number;
	} values[] = {
		{.name = "ca", .text = &t->ca_file},
		{.name = "crl", .text = &t->crl_file},
		{.name = "cert", .text = &t->certificate_file},
		{.name = "key", .text = &t->key_file},
		{.name = "key-password", .text = &t->key_password_file},
		{.name = "psk-identity", .text = &t->psk_identity},
		{.name = "psk-key", .text = &t->psk_key_file},
		{.name = "minimum-version", .text = &t->minimum_version},
		{.name = "priority", .text = &t->priority},
		{.name = "server-name", .text = &t->server_name},
		{.name = "username", .text = &q->username},
		{.name = "password", .text = &q->password_file},
		{.name = "client-id", .text = &q->client_id},
		{.name = "topic", .text = (char **)&arg_topic},
		{.name = "subscribe", .text = (char **)&arg_subscribe},
		{.name = "will", .text = (char **)&arg_will},
		{.name = "keep-alive", .seconds = &q->keep_alive_s},
		{.name = "connect-timeout", .seconds = &q->connect_timeout_s},
		{.name = "ack-timeout", .seconds = &q->ack_timeout_s},
		{.name = "mqtt", .number = &q->version},
		{.name = "qos", .number = &q->qos},
		{.name = "window", .number = &q->window},
		{.name = "publish", .number = &arg_publish},
		{.name = "messages", .number = &arg_messages},
		{.name = "rounds", .number = &arg_rounds},
		{.name = "size", .seconds = &arg_size},
	};
	struct option options[ELEMENTSOF(values) + 7] = {0};
	size_t i;
	int o;

	for (i = 0; i < ELEMENTSOF(values); i++)
		options[i] =
			(struct option){values[i].name, required_argument, NULL, NUMBER + (int)i};
	options[i++] = (struct option){"plain", no_argument, NULL, PLAIN};
	options[i++] = (struct option){"acks", no_argument, NULL, ACKS};
	options[i++] = (struct option){"hold", no_argument, NULL, HOLD};
	options[i++] = (struct option){"quiet", no_argument, NULL, QUIET};
	options[i++] = (struct option){"linger", no_argument, NULL, LINGER};
	options[i++] = (struct option){"pin", required_argument, NULL, PIN};
	t->pins.list = pins;
	while ((o = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (o == PLAIN)
			arg_broker.tls = false;
		else if (o == ACKS)
			arg_print_acks = true;
		else if (o == HOLD)
			arg_hold = true;
		else if (o == QUIET)
			arg_quiet = true;
		else if (o == LINGER)
			arg_linger = true;
		else if (o == PIN && t->pins.n < ELEMENTSOF(pins))
			pins[t->pins.n++] = optarg;
		else if (o >= NUMBER && values[o - NUMBER].text)
			*values[o - NUMBER].text = optarg;
		else if (o >= NUMBER && values[o - NUMBER].seconds)
			*values[o - NUMBER].seconds = strtoull(optarg, NULL, 10);
		else if (o >= NUMBER)
			*values[o - NUMBER].number = (unsigned)strtoul(optarg, NULL, 10);
		else
			return -EINVAL;
	}
	return optind == argc - 1 ? parse_broker(argv[optind]) : -EINVAL;
}

int main(int argc, char **argv)
{
	struct probe p = {0};
	_cleanup_free_ char *error = NULL;
	sigset_t terminate;
	int r;

	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (parse_arguments(argc, argv) < 0) {
		fprintf(stderr, "usage: client-probe [OPTION...] HOST:PORT\n");
		return 2;
	}
	if (arg_broker.tls && credentials_load(&arg_config.tls, &p.credentials, &error) < 0) {
		printf("credentials %s\n", error);
		return 2;
	}
	(void)sigemptyset(&terminate);
	(void)sigaddset(&terminate, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &terminate, NULL);
	if (sd_event_new(&p.loop) < 0 || sd_event_add_signal(p.loop, NULL, SIGTERM, NULL, NULL) < 0)
		return 2;
	p.rounds = arg_rounds;
	p.payload = malloc(arg_size + 1);
	if (!p.payload)
		return 2;
	memset(p.payload, 'x', arg_size);
	r = begin(&p);
	if (r == 0)
		r = sd_event_loop(p.loop);
	client_close(p.client);
	credentials_unref(p.credentials);
	free(p.payload);
	sd_event_unref(p.loop);
	return r < 0 ? 2 : r;
}
