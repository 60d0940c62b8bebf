/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* doctor-broker - the part of `virtspool doctor` that connects to each broker: TCP and TLS, then
   MQTT and the publish of a probe. */
#include <systemd/sd-event.h>

#include "spooler/admin/broker-trial.h"
#include "spooler/admin/doctor.h"
#include "spooler/base/util.h"

static void on_transport(struct transport *t, void *userdata)
{
	if (transport_state(t) == TRANSPORT_ESTABLISHED || transport_state(t) == TRANSPORT_LOST)
		(void)sd_event_exit(userdata, 0);
}

static const char *remedy_of(enum transport_failure failure)
{
	switch (failure) {
	case TRANSPORT_FAILURE_VERIFICATION:
		return "tls.ca_file must hold the authority of the broker's certificate, which must "
		       "have the broker's name and be valid";
	case TRANSPORT_FAILURE_TLS:
		return "does the broker speak TLS on this port, and does it accept our certificate? "
		       "See its log";
	default:
		return "is the broker running, and is its port right and not blocked by a firewall?";
	}
}

/* The daemon has just shown it: it is connected there, and the broker has taken events. */
static bool daemon_shows_it(const struct doctor *d, const struct broker *b)
{
	const struct status_file *s = &d->facts->status;

	return s->connected && s->broker && strcmp(s->broker, b->url) == 0 && s->n_attempts == 0 &&
	       s->last_delivered_usec > s->connected_since_usec && d->config->mqtt.version == 5;
}

static void try_mqtt(struct doctor *d, const struct broker *b, const char *peer,
		     const char *protocol)
{
	_cleanup_free_ char *how = NULL;
	struct broker_trial t = {0};
	int r = 0;

	if (daemon_shows_it(d, b)) {
		finding(d, GRADE_OK, "broker", NULL,
			"%s: %s, %s%s; the daemon is connected, and its events are taken", b->url,
			peer, protocol, b->tls ? ", verified" : "");
		return;
	}
	r = broker_trial_run(d->config, d->credentials, b, &t);
	how = broker_trial_remedy(&t, d->config, d->credentials);
	if (r < 0)
		finding(d, GRADE_BAD, "broker", NULL, "cannot try %s: %s", b->url, strerror(-r));
	else if (t.outcome == TRIAL_NOT_CONNECTED)
		finding(d, GRADE_BAD, "broker", how, "%s: %s", b->url, t.error);
	else if (t.outcome == TRIAL_REFUSED)
		finding(d, GRADE_BAD, "broker", how,
			"%s does not take events of this host on topic %s: %s", b->url, t.topic,
			t.error);
	else if (d->config->mqtt.version == 3)
		finding(d, GRADE_OK, "broker", NULL,
			"%s: %s, %s%s; whether it takes events cannot be seen with MQTT 3.1.1",
			b->url, peer, protocol, b->tls ? ", verified" : "");
	else
		finding(d, GRADE_OK, "broker", NULL, "%s: %s, %s%s; it takes events on %s", b->url,
			peer, protocol, b->tls ? ", verified" : "", t.topic);
	broker_trial_release(&t);
}

static void check_broker(struct doctor *d, const struct broker *b)
{
	_cleanup_free_ char *peer = NULL, *protocol = NULL;
	struct transport *t = NULL;
	sd_event *loop = NULL;
	int r;

	if (b->tls && !d->credentials)
		return;
	r = sd_event_new(&loop);
	if (r >= 0)
		r = transport_open(loop, b, &d->config->tls, d->credentials,
				   d->config->mqtt.connect_timeout_s, 0, on_transport, loop, &t);
	if (r >= 0)
		r = sd_event_loop(loop);
	if (r < 0) {
		finding(d, GRADE_BAD, "broker", NULL, "cannot try %s: %s", b->url, strerror(-r));
	} else if (transport_state(t) == TRANSPORT_ESTABLISHED) {
		doctor_certificate(d, "the broker's certificate", transport_peer_validity(t),
				   "renew it on the broker");
		peer = strdup(transport_peer(t));
		protocol = strdup(transport_protocol(t));
	} else {
		finding(d, GRADE_BAD, "broker", remedy_of(transport_failure(t)), "%s: %s", b->url,
			transport_error(t));
	}
	transport_close(t);
	sd_event_unref(loop);
	if (peer && protocol)
		try_mqtt(d, b, peer, protocol);
}

/* Brokers that bind topics to the certificate's name take nothing of a host with another one. With
   MQTT 5 the broker's answer says it; without an answer only this does. */
static void check_names(struct doctor *d)
{
	_cleanup_free_ char *name = d->credentials ? credentials_own_name(d->credentials) : NULL;

	if (name && d->config->mqtt.version == 3 &&
	    !credentials_are_for(d->credentials, d->config->host))
		finding(d, GRADE_WARNING, "certificates",
			"set `host` to the certificate's name, or get a certificate for this host",
			"our certificate is for '%s', but `host` is '%s': a broker that binds topics to "
			"names drops every event, and MQTT 3.1.1 cannot report it",
			name, d->config->host);
}

void doctor_brokers(struct doctor *d)
{
	(void)doctor_print_verdict(d, "broker");
	if (!d->config)
		return;
	check_names(d);
	for (size_t i = 0; i < d->config->n_brokers; i++)
		check_broker(d, &d->config->brokers[i]);
}
