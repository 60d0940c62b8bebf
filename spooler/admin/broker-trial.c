/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* broker-trial - see broker-trial.h. */
#include <systemd/sd-event.h>

#include "spooler/admin/broker-trial.h"
#include "spooler/base/util.h"
#include "spooler/event/event.h"
#include "spooler/mqtt/reason.h"

#define OPERATION "probe"
#define DOMAIN "virtspool-doctor"

struct run {
	sd_event *loop;
	struct client *client;
	struct event event;
	struct broker_trial *trial;
};

static void end(struct run *r, enum trial_outcome outcome, unsigned reason_code, char *error)
{
	struct broker_trial *t = r->trial;

	if (t->outcome != TRIAL_PENDING) {
		free(error);
		return;
	}
	t->outcome = outcome;
	t->reason_code = reason_code;
	t->error = error;
	(void)sd_event_exit(r->loop, 0);
}

static void on_connected(struct client *c, void *userdata)
{
	struct run *r = userdata;
	int mid, k = client_publish(c, r->event.topic, r->event.payload, r->event.payload_size,
				    EVENT_CONTENT_TYPE, false, &mid);

	if (k < 0)
		end(r, TRIAL_REFUSED, 0, strdup(strerror(-k)));
}

static void on_acknowledged(struct client *c, int mid, unsigned reason_code, void *userdata)
{
	char *error = NULL;

	if (reason_code < 0x80)
		end(userdata, TRIAL_PASSED, reason_code, NULL);
	else if (asprintf(&error, "%s (0x%02x)", reason_name(reason_code), reason_code) >= 0)
		end(userdata, TRIAL_REFUSED, reason_code, error);
}

static void on_lost(struct client *c, enum client_loss loss, unsigned reason_code, const char *text,
		    void *userdata)
{
	end(userdata, client_connected(c) ? TRIAL_REFUSED : TRIAL_NOT_CONNECTED, reason_code,
	    strdup(text));
}

static int build_probe(const struct config *c, struct event *ret_event)
{
	struct record r = {
		.driver = {"qemu", 4},
		.object = {DOMAIN, strlen(DOMAIN)},
		.operation = {OPERATION, strlen(OPERATION)},
		.suboperation = {"-", 1},
		.extra = {"-", 1},
		.argc = 4,
		.flags = RECORD_UNORDERED,
	};
	const char *reason;

	/* Without a file it is a stamp outside of the host's sequence. */
	(void)stamp_take(-1, "", 0, NULL, NULL, &r.stamp);
	r.recorded_ns = (int64_t)now_usec(CLOCK_REALTIME) * 1000;
	return event_build(c, &r, false, ret_event, &reason);
}

static int run(struct run *r, const struct config *c, struct credentials *credentials,
	       const struct broker *broker)
{
	static const struct client_handlers handlers = {
		.connected = on_connected,
		.acknowledged = on_acknowledged,
		.lost = on_lost,
	};
	_cleanup_free_ char *client_id = NULL;
	struct client_options o = {.config = c, .broker = broker, .credentials = credentials};
	int k = sd_event_new(&r->loop);

	if (k >= 0)
		k = build_probe(c, &r->event);
	if (k >= 0 && asprintf(&client_id, "%s-doctor-%d", c->mqtt.client_id, getpid()) < 0)
		k = -ENOMEM;
	o.client_id = client_id;
	if (k >= 0)
		k = client_open(r->loop, &o, &handlers, r, &r->client);
	if (k >= 0)
		k = sd_event_loop(r->loop);
	client_close(r->client);
	return k;
}

int broker_trial_run(const struct config *c, struct credentials *credentials,
		     const struct broker *broker, struct broker_trial *ret_trial)
{
	struct run r = {.trial = ret_trial};
	int k;

	*ret_trial = (struct broker_trial){0};
	k = run(&r, c, credentials, broker);
	ret_trial->topic = TAKE_PTR(r.event.topic);
	event_release(&r.event);
	sd_event_unref(r.loop);
	return k < 0 ? k : 0;
}

void broker_trial_release(struct broker_trial *t)
{
	free(t->error);
	free(t->topic);
	*t = (struct broker_trial){0};
}

char *broker_trial_remedy(const struct broker_trial *t, const struct config *c,
			  const struct credentials *credentials)
{
	_cleanup_free_ char *name = credentials ? credentials_own_name(credentials) : NULL;
	char *text = NULL;
	int r = 0;

	if (t->outcome == TRIAL_REFUSED && name && !credentials_are_for(credentials, c->host))
		r = asprintf(&text,
			     "our certificate is for '%s', but `host` is '%s': set `host` to the "
			     "certificate's name, or get a certificate for this host",
			     name, c->host);
	else if (t->outcome == TRIAL_REFUSED)
		r = asprintf(&text,
			     "grant this host (%s%s%s) the right to publish %s in the broker's ACL",
			     name ? "certificate '" : "", name ? name : c->host, name ? "'" : "",
			     t->topic ? t->topic : "its topics");
	else if (t->outcome == TRIAL_NOT_CONNECTED)
		r = asprintf(&text, "see the broker's log; does it know this host's certificate, "
				    "password and client id, and does it accept more connections?");
	return r < 0 ? NULL : text;
}
