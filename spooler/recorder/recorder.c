/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* recorder - see recorder.h. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "spooler/base/loop.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/config/config.h"
#include "spooler/recorder/http.h"
#include "spooler/recorder/ingest.h"
#include "spooler/recorder/recorder.h"
#include "spooler/recorder/subscription.h"
#include "spooler/recorder/verifiers.h"

#define STOP_PATIENCE_USEC (5 * USEC_PER_SEC) /* for the batch that is being committed */
#define STATUS_USEC (10 * USEC_PER_SEC) /* `systemctl status` is brought up to date this often */

struct recorder {
	sd_event *loop;
	const char *config_path;
	struct config *config;
	struct credentials *credentials;
	struct subscription *subscription;
	struct ingest *ingest;
	sd_event_source *status;
	bool store_failed;
	_Atomic bool connected; /* for the metrics, which are asked from the web server's thread */
	pthread_mutex_t http_lock; /* of `http`: the store's thread reports commits to it */
	struct http *http;
};

/* --- configuration */

/* *ret_verifiers is NULL if signatures are not looked at. */
static int load_verifiers(const struct config *c, struct verifiers **ret_verifiers,
			  char **ret_error)
{
	const char *ca_file =
		c->recorder.verify_ca_file ? c->recorder.verify_ca_file : c->tls.ca_file;

	*ret_verifiers = NULL;
	if (c->recorder.verify == CONFIG_VERIFY_OFF)
		return 0;
	if (ca_file)
		return verifiers_new(ca_file, c->tls.crl_file,
				     c->recorder.verify == CONFIG_VERIFY_REQUIRED, ret_verifiers,
				     ret_error);
	*ret_error =
		strdup("'verify' needs the CA of the hosts' certificates: set verify_ca_file or "
		       "tls.ca_file");
	return -EINVAL;
}

static int load_files(const struct config *c, struct credentials **ret_credentials,
		      struct verifiers **ret_verifiers, char **ret_error)
{
	int r = load_verifiers(c, ret_verifiers, ret_error);

	if (r >= 0)
		r = credentials_load(&c->tls, ret_credentials, ret_error);
	if (r < 0)
		verifiers_free(TAKE_PTR(*ret_verifiers));
	return r;
}

static int load(const char *path, struct config **ret_config, struct credentials **ret_credentials,
		struct verifiers **ret_verifiers)
{
	_cleanup_free_ char *error = NULL;
	struct config *c = NULL;
	int r;

	r = config_load_for(CONFIG_RECORDER, path, stderr, &c);
	if (r < 0)
		return r;
	r = load_files(c, ret_credentials, ret_verifiers, &error);
	if (r < 0) {
		log_error("%s", error ? error : strerror(-r));
		config_free(c);
		return r;
	}
	*ret_config = c;
	return 0;
}

/* --- status */

static void report_status(struct recorder *r)
{
	struct ingest_stats s;

	ingest_stats(r->ingest, &s);
	if (s.failing_since)
		(void)sd_notifyf(0, "STATUS=The store does not take events: %s", s.error);
	else if (!subscription_is_up(r->subscription))
		(void)sd_notifyf(0, "STATUS=Not connected (%s); %" PRIu64 " events recorded",
				 subscription_text(r->subscription), s.counts.events);
	else
		(void)sd_notifyf(
			0,
			"STATUS=Connected to %s; %" PRIu64 " events recorded, %" PRIu64 " rejected",
			subscription_text(r->subscription), s.counts.events, s.counts.rejects);
}

static int on_status(sd_event_source *source, uint64_t usec, void *userdata)
{
	report_status(userdata);
	(void)sd_event_source_set_time_relative(source, STATUS_USEC);
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

/* --- what comes and goes */

static void on_message(const struct client_message *m, void *userdata)
{
	struct recorder *r = userdata;

	if (ingest_add(r->ingest, m->topic, m->payload, m->size, m->number) >= 0)
		return;
	/* No later message may be acknowledged before this one. */
	log_error("out of memory for an event of %zu bytes; the broker will send it again",
		  m->size);
	subscription_restart(r->subscription);
}

static void on_subscription(void *userdata)
{
	struct recorder *r = userdata;

	r->connected = subscription_is_up(r->subscription);
	if (!subscription_is_up(r->subscription))
		ingest_drop(r->ingest);
	report_status(r);
}

static void on_committed(uint64_t number, void *userdata)
{
	struct recorder *r = userdata;

	subscription_commit(r->subscription, number);
}

static void on_store_state(const char *error, void *userdata)
{
	struct recorder *r = userdata;

	if (error)
		log_error("the store does not take events, they wait at the broker: %s", error);
	else
		log_notice("the store takes events again");
	report_status(r);
}

/* --- the web server */

#ifdef HAVE_MICROHTTPD
static void write_metric(FILE *f, const char *name, const char *type, const char *help,
			 double value)
{
	fprintf(f,
		"# HELP virtspool_recorder_%s %s\n# TYPE virtspool_recorder_%s %s\nvirtspool_recorder_%s %.15g\n",
		name, help, name, type, name, value);
}

static void write_verifications(FILE *f, const struct store_counts *c)
{
	fputs("# HELP virtspool_recorder_signatures_total Events by the result of verifying their "
	      "signature.\n# TYPE virtspool_recorder_signatures_total counter\n",
	      f);
	for (size_t v = 0; v < N_VERIFICATIONS; v++)
		fprintf(f, "virtspool_recorder_signatures_total{result=\"%s\"} %" PRIu64 "\n",
			verification_name(v), c->verifications[v]);
}

static void write_metrics(FILE *f, void *userdata)
{
	struct recorder *r = userdata;
	struct ingest_stats s;

	ingest_stats(r->ingest, &s);
	write_metric(f, "connected", "gauge", "1: connected to a broker.", r->connected);
	write_metric(f, "events_total", "counter", "Events stored since the start.",
		     (double)s.counts.events);
	write_metric(f, "duplicates_total", "counter", "Events that were stored already.",
		     (double)s.counts.duplicates);
	write_metric(f, "rejects_total", "counter", "Messages that were rejected.",
		     (double)s.counts.rejects);
	write_verifications(f, &s.counts);
	write_metric(f, "commits_total", "counter", "Transactions.", (double)s.batches);
	write_metric(f, "commit_longest_seconds", "gauge", "The longest transaction.",
		     (double)s.longest_usec / 1e6);
	write_metric(f, "waiting_messages", "gauge", "Messages that are not committed yet.",
		     (double)s.waiting);
	write_metric(f, "store_failing", "gauge",
		     "1: the store does not take events; they wait at the broker.",
		     s.failing_since != 0);
}

/* From the store's thread. */
static void on_changed(const struct store_change *change, void *userdata)
{
	struct recorder *r = userdata;

	(void)pthread_mutex_lock(&r->http_lock);
	if (r->http)
		http_changed(change, r->http);
	(void)pthread_mutex_unlock(&r->http_lock);
}

static void stop_http(struct recorder *r)
{
	struct http *h;

	(void)pthread_mutex_lock(&r->http_lock);
	h = r->http;
	r->http = NULL;
	(void)pthread_mutex_unlock(&r->http_lock);
	http_stop(h);
}

static struct http_options http_options_of(const struct config *c)
{
	return (struct http_options){
		.store = c->recorder.store,
		.listen = c->http.listen,
		.certificate_file = c->http.certificate_file,
		.key_file = c->http.key_file,
		.client_ca_file = c->http.client_ca_file,
		.token_file = c->http.token_file,
		.connections = c->http.connections,
	};
}

static int start_http(struct recorder *r)
{
	const struct config_http *c = &r->config->http;
	struct http_options o = http_options_of(r->config);
	_cleanup_free_ char *error = NULL;
	struct http *h;
	int q;

	if (!c->listen)
		return 0;
	o.metrics = write_metrics;
	o.userdata = r;
	q = http_start(&o, &h, &error);
	if (q < 0) {
		log_error("%s; events are recorded without the web server",
			  error ? error : strerror(-q));
		return q;
	}
	log_info("the web page is at %s://%s/", c->certificate_file ? "https" : "http", c->listen);
	(void)pthread_mutex_lock(&r->http_lock);
	r->http = h;
	(void)pthread_mutex_unlock(&r->http_lock);
	return 0;
}

static int check_http(const struct config *c, char **ret_error)
{
	const struct http_options o = http_options_of(c);

	return o.listen ? http_check(&o, ret_error) : 0;
}
#else
static void stop_http(struct recorder *r)
{
}

static int start_http(struct recorder *r)
{
	return 0;
}

static int check_http(const struct config *c, char **ret_error)
{
	return 0;
}
#define on_changed NULL
#endif

/* --- signals */

static int on_terminate(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct recorder *r = userdata;

	log_info("stopping on signal %s", strsignal((int)si->ssi_signo));
	(void)sd_notify(0, "STOPPING=1");
	return sd_event_exit(r->loop, EX_OK);
}

static int on_hangup(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct recorder *r = userdata;
	struct credentials *credentials = NULL;
	struct config *c = NULL;
	struct verifiers *verifiers = NULL;

	(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_usec(CLOCK_MONOTONIC));
	if (load(r->config_path, &c, &credentials, &verifiers) < 0) {
		log_error("'%s' is refused; the previous configuration stays in force",
			  r->config_path);
	} else {
		if (strcmp(c->recorder.store, r->config->recorder.store) != 0 ||
		    c->recorder.retention_s != r->config->recorder.retention_s)
			log_warning("'store' and 'retention' change at the next start only");
		log_set_level(c->log_level);
		subscription_configure(r->subscription, c, credentials);
		ingest_verify(r->ingest, verifiers);
		credentials_unref(r->credentials);
		config_free(r->config);
		r->config = c;
		r->credentials = credentials;
		stop_http(r); /* pages connect again by themselves */
		(void)start_http(r);
		log_notice("loaded configuration and certificates from '%s'", r->config_path);
	}
	(void)sd_notify(0, "READY=1");
	return 0;
}

static int add_signals(struct recorder *r)
{
	static const struct loop_signal signals[] = {
		{SIGTERM, on_terminate}, {SIGINT, on_terminate}, {SIGHUP, on_hangup}};

	return loop_add_signals(r->loop, signals, ELEMENTSOF(signals), r);
}

/* --- start and end */

static int start_ingest(struct recorder *r, struct verifiers *verifiers)
{
	static const struct ingest_handlers handlers = {
		.committed = on_committed,
		.store_state = on_store_state,
	};
	_cleanup_free_ char *error = NULL;
	struct ingest_options o = {
		.store = r->config->recorder.store,
		.topics = {r->config->mqtt.topic, r->config->mqtt.status_topic},
		.retention_s = r->config->recorder.retention_s,
		.verifiers = verifiers,
		.changed = on_changed,
		.changed_userdata = r,
	};
	int q = ingest_new(r->loop, &o, &handlers, r, &r->ingest, &error);

	if (q >= 0)
		return EX_OK;
	log_error("%s", error ? error : strerror(-q));
	return q == -EACCES || q == -EPERM			       ? EX_NOPERM
	       : q == -EPROTO || q == -EPROTONOSUPPORT || q == -EINVAL ? EX_CONFIG
								       : EX_UNAVAILABLE;
}

static int start(struct recorder *r)
{
	static const struct subscription_handlers handlers = {
		.message = on_message,
		.changed = on_subscription,
	};
	struct verifiers *verifiers = NULL;
	int q;

	if (load(r->config_path, &r->config, &r->credentials, &verifiers) < 0)
		return EX_CONFIG;
	log_set_level(r->config->log_level);
	q = sd_event_default(&r->loop);
	if (q >= 0)
		q = add_signals(r);
	if (q >= 0)
		q = sd_event_set_watchdog(r->loop, true);
	if (q >= 0)
		q = sd_event_add_time_relative(r->loop, &r->status, CLOCK_MONOTONIC, STATUS_USEC, 1,
					       on_status, r);
	if (q < 0) {
		log_error("cannot start: %s", strerror(-q));
		return EX_OSERR;
	}
	q = start_ingest(r, verifiers);
	if (q != EX_OK)
		return q;
	(void)start_http(r); /* without it events are recorded all the same */
	q = subscription_new(r->loop, r->config, r->credentials, &handlers, r, &r->subscription);
	if (q < 0) {
		log_error("cannot start: %s", strerror(-q));
		return EX_OSERR;
	}
	return EX_OK;
}

/* The connection first: what is committed afterwards comes again. */
static void stop(struct recorder *r)
{
	subscription_free(r->subscription);
	stop_http(r);
	if (!ingest_free(r->ingest, STOP_PATIENCE_USEC)) {
		log_warning(
			"the store does not answer; the broker will send the unfinished batch again");
		_exit(EX_OK);
	}
	credentials_unref(r->credentials);
	config_free(r->config);
	sd_event_source_disable_unref(r->status);
	sd_event_unref(r->loop);
}

int recorder_run(const char *config_path)
{
	struct recorder r = {.config_path = config_path, .http_lock = PTHREAD_MUTEX_INITIALIZER};
	int q = start(&r);

	if (q == EX_OK) {
		log_info("started, store '%s'", r.config->recorder.store);
		(void)sd_notify(0, "READY=1");
		q = sd_event_loop(r.loop);
		if (q < 0) {
			log_error("the event loop failed: %s", strerror(-q));
			q = EX_SOFTWARE;
		}
		log_info("stopped");
	}
	stop(&r);
	return q;
}

int recorder_check_files(const struct config *c, char **ret_error)
{
	struct credentials *credentials = NULL;
	struct verifiers *verifiers = NULL;
	int r;

	*ret_error = NULL;
	r = load_files(c, &credentials, &verifiers, ret_error);
	if (r >= 0)
		r = check_http(c, ret_error);
	credentials_unref(credentials);
	verifiers_free(verifiers);
	return r;
}
