/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * connection - see connection.h.
 *
 * After each connect all domains are compared with what was last recorded of them, and each
 * difference is spooled as a `reconciled` record: the state now, the state before, and the reason
 * if libvirt knows one. Events arrive meanwhile. A comparison therefore counts only if no event
 * arrived while the domains were examined, and if the difference was still there some moments
 * later, because events may be on their way. A domain that cannot be queried stays as it is: a
 * daemon or a domain that cannot be reached is never reported as stopped.
 */
#include "spooler/listener/connection.h"

#include <libvirt/virterror.h>
#include <pthread.h>

#include "hook/text.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/listener/writer.h"
#include "spooler/listener/states.h"
#include "spooler/listener/uri.h"
#include "spooler/listener/correlate.h"
#include "spooler/spool/domain-document.h"

#define SETTLE_MS 300	/* how long a difference must stay to count */
#define ROUNDS_MAX 20	/* of looking at all domains, while events keep coming */
#define SAVE_MS 1000	/* the file is at most so much older than the memory */
#define ALIVE_MS 5000	/* how often the connection is asked whether it is alive */
#define STATE_ABSENT -1 /* of a domain that libvirt does not have, or that was never recorded */

struct connection {
	const char *uri;
	char driver[64];
	const struct connection_options *options;
	void (*changed)(void *);
	void *userdata;

	pthread_t thread;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t wake;
	bool stop, ended;
	virConnectPtr conn; /* whose events count */
	bool lost;
	char lost_why[32];
	uint64_t generation; /* counts lifecycle events */
	struct states states;
	struct connection_stats stats;

	struct subscription subscription; /* the thread's own */
	bool save_error_logged;
};

/* --- small things */

const char *connection_phase_name(enum connection_phase phase)
{
	static const char *const names[] = {
		[CONNECTION_CONNECTING] = "connecting", [CONNECTION_RECONCILING] = "reconciling",
		[CONNECTION_LISTENING] = "listening",	[CONNECTION_WAITING] = "waiting",
		[CONNECTION_STOPPED] = "stopped",
	};

	return names[phase];
}

static void set_phase(struct connection *c, enum connection_phase phase)
{
	(void)pthread_mutex_lock(&c->lock);
	c->stats.phase = phase;
	c->stats.since_usec = now_usec(CLOCK_REALTIME);
	(void)pthread_mutex_unlock(&c->lock);
	c->changed(c->userdata);
}

/* Waits until woken, with the lock held. Returns false when the time is up. */
static bool wait_ms(struct connection *c, unsigned ms)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000L;
	if (until.tv_nsec >= NSEC_PER_SEC) {
		until.tv_sec++;
		until.tv_nsec -= NSEC_PER_SEC;
	}
	return pthread_cond_timedwait(&c->wake, &c->lock, &until) != ETIMEDOUT;
}

/* Waits for this time, or until the connection is over. Returns whether it is. */
static bool pause_ms(struct connection *c, unsigned ms)
{
	bool over;

	(void)pthread_mutex_lock(&c->lock);
	while (!c->stop && !c->lost && wait_ms(c, ms))
		;
	over = c->stop || c->lost;
	(void)pthread_mutex_unlock(&c->lock);
	return over;
}

static const char *libvirt_error(void)
{
	const char *message = virGetLastErrorMessage();

	return message && *message ? message : "no reason was given";
}

/* Once for each reason in a row. */
static void failed(struct connection *c, const char *what, const char *why)
{
	char error[CONNECTION_ERROR_MAX];
	bool is_new;

	(void)snprintf(error, sizeof(error), "%s: %s", what, why);
	(void)pthread_mutex_lock(&c->lock);
	is_new = strcmp(error, c->stats.last_error) != 0;
	memcpy(c->stats.last_error, error, sizeof(error));
	c->stats.attempts_failed++;
	(void)pthread_mutex_unlock(&c->lock);
	if (is_new)
		log_warning("'%s': %s; trying again", c->uri, error);
}

/* --- records */

static struct record record_of(const struct connection *c, const char *operation,
			       const char *suboperation, const char *reason)
{
	return (struct record){
		.driver = bytes_of(c->driver),
		.origin = bytes_of("api"),
		.object = bytes_of("-"),
		.operation = bytes_of(operation),
		.suboperation = bytes_of(suboperation),
		.extra = bytes_of(reason && *reason ? reason : "-"),
		.argc = 4,
	};
}

static void keep_of_domain(struct connection *c, struct record *r, const char *name,
			   const char *uuid, int id)
{
	_cleanup_free_ char *document =
		domain_document_new(bytes_of(c->driver), bytes_of(name), uuid, id);

	r->object = bytes_of(name);
	if (document)
		r->document = bytes_of(document);
	(void)writer_put(r); /* what it loses it logs */
}

/* Records that it begins to listen, or no longer does: in between no event is missed. */
static void keep_listen(struct connection *c, const char *suboperation, const char *reason)
{
	struct record r = record_of(c, "listen", suboperation, reason);
	char uri[RECORD_DETAIL_MAX];

	r.object = (struct bytes){};
	(void)snprintf(uri, sizeof(uri), "uri=%s", c->uri);
	r.details[r.n_details++] = bytes_of(uri);
	(void)writer_put(&r);
}

/* --- events */

static int state_after(const struct notice *n, int before)
{
	switch (n->lifecycle) {
	case VIR_DOMAIN_EVENT_STARTED:
	case VIR_DOMAIN_EVENT_RESUMED:
		return VIR_DOMAIN_RUNNING;
	case VIR_DOMAIN_EVENT_SUSPENDED:
		return VIR_DOMAIN_PAUSED;
	case VIR_DOMAIN_EVENT_STOPPED:
		return VIR_DOMAIN_SHUTOFF;
	case VIR_DOMAIN_EVENT_SHUTDOWN:
		return VIR_DOMAIN_SHUTDOWN;
	case VIR_DOMAIN_EVENT_PMSUSPENDED:
		return VIR_DOMAIN_PMSUSPENDED;
	case VIR_DOMAIN_EVENT_CRASHED: /* but for a guest that went on with its crash kernel */
		return n->detail == VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED ? before
									 : VIR_DOMAIN_CRASHED;
	case VIR_DOMAIN_EVENT_DEFINED:
		return before == STATE_ABSENT ? VIR_DOMAIN_SHUTOFF : before;
	}
	return before;
}

/* Keeps what the event says of its domain: the last that was recorded. */
static void learn(struct connection *c, const struct notice *n)
{
	struct domain_state *d = states_find(&c->states, n->uuid);
	int state = state_after(n, d ? d->state : STATE_ABSENT);

	if (state == STATE_ABSENT)
		return;
	d = states_put(&c->states, n->uuid, n->name);
	if (!d)
		return;
	d->state = state;
	if (n->lifecycle == VIR_DOMAIN_EVENT_DEFINED)
		d->persistent = true;
	if (n->lifecycle == VIR_DOMAIN_EVENT_UNDEFINED)
		d->persistent = false;
	if (state == VIR_DOMAIN_SHUTOFF)
		d->id = -1;
	else if (n->domain_id >= 0)
		d->id = n->domain_id;
	if (state == VIR_DOMAIN_SHUTOFF && !d->persistent)
		states_remove(&c->states, d);
	c->stats.domains = c->states.n;
}

/* The hook's record comes first, so if there is none libvirt did not run the hook, and this
   record is the one that counts. */
static void correlate(const struct connection *c, const struct notice *n, const char *operation,
		      struct record *r, char transition[static 37])
{
	switch (correlate_take(c->driver, bytes_of(n->name), operation, transition)) {
	case CORRELATE_FOUND:
		r->transition = bytes_of(transition);
		r->flags |= RECORD_TOLD_BY_HOOK;
		break;
	case CORRELATE_UNKNOWN:
		r->flags |= RECORD_TOLD_BY_HOOK;
		break;
	case CORRELATE_NONE:
		r->flags |= RECORD_NO_HOOK;
		break;
	}
}

static void on_event(const struct notice *n, void *userdata)
{
	struct connection *c = userdata;
	const char *hook = event_table_hook_of(n);
	struct record r = record_of(c, n->operation, "event", n->reason);
	char transition[37];

	(void)pthread_mutex_lock(&c->lock);
	for (unsigned i = 0; i < n->n_details; i++)
		r.details[r.n_details++] = bytes_of(n->details[i]);
	if (n->truncated)
		r.flags |= RECORD_ARGUMENTS_TRUNCATED;
	if (hook)
		correlate(c, n, hook, &r, transition);
	keep_of_domain(c, &r, n->name, n->uuid, n->domain_id);
	if (n->lifecycle >= 0) {
		c->generation++;
		learn(c, n);
	}
	c->stats.events[n->event_id]++;
	c->stats.last_event_usec = now_usec(CLOCK_REALTIME);
	(void)pthread_mutex_unlock(&c->lock);
	c->changed(c->userdata);
}

static void on_closed(virConnectPtr conn, int reason, void *userdata)
{
	static const char *const why[] = {"error", "eof", "keepalive", "client"};
	struct connection *c = userdata;

	(void)pthread_mutex_lock(&c->lock);
	if (conn == c->conn && !c->lost) {
		c->lost = true;
		(void)snprintf(c->lost_why, sizeof(c->lost_why), "%s",
			       reason >= 0 && (size_t)reason < ELEMENTSOF(why) ? why[reason]
									       : "unknown");
		(void)pthread_cond_broadcast(&c->wake);
	}
	(void)pthread_mutex_unlock(&c->lock);
}

/* --- reconciling */

struct found {
	char uuid[STATES_UUID];
	char *name;
	int state, reason, id;
	bool persistent;
	bool known; /* its state could be had */
};

struct snapshot {
	struct found *list;
	size_t n;
};

static void snapshot_release(struct snapshot *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->list[i].name);
	free(s->list);
	*s = (struct snapshot){};
}

static void look_at(virDomainPtr domain, bool persistent, struct snapshot *s)
{
	struct found *f = &s->list[s->n];
	virErrorPtr error;

	*f = (struct found){.id = (int)virDomainGetID(domain), .persistent = persistent};
	if (virDomainGetUUIDString(domain, f->uuid) < 0)
		return;
	f->known = virDomainGetState(domain, &f->state, &f->reason, 0) == 0;
	error = virGetLastError();
	if (!f->known && error && error->code == VIR_ERR_NO_DOMAIN)
		return; /* gone since it was listed */
	f->name = strdup(virDomainGetName(domain));
	if (f->name)
		s->n++;
}

static int snapshot_add(struct snapshot *s, virConnectPtr conn, bool persistent)
{
	virDomainPtr *domains = NULL;
	struct found *list;
	int n;

	n = virConnectListAllDomains(conn, &domains,
				     persistent ? VIR_CONNECT_LIST_DOMAINS_PERSISTENT
						: VIR_CONNECT_LIST_DOMAINS_TRANSIENT);
	if (n < 0)
		return -EIO;
	list = realloc(s->list, (s->n + (size_t)n + 1) * sizeof(*list));
	if (list)
		s->list = list;
	for (int i = 0; i < n; i++) {
		if (list)
			look_at(domains[i], persistent, s);
		(void)virDomainFree(domains[i]);
	}
	free(domains);
	return list ? 0 : -ENOMEM;
}

static int snapshot_take(struct snapshot *s, virConnectPtr conn)
{
	int r = snapshot_add(s, conn, true);

	return r < 0 ? r : snapshot_add(s, conn, false);
}

static bool is_active(int state)
{
	return state != VIR_DOMAIN_SHUTOFF && state != STATE_ABSENT;
}

/* The states as they are reported: blocked is running. */
static bool states_differ(int a, int b)
{
	char one[32], two[32];

	if (a == STATE_ABSENT || b == STATE_ABSENT)
		return a != b;
	event_table_state_word(a, one, sizeof(one));
	event_table_state_word(b, two, sizeof(two));
	return strcmp(one, two) != 0;
}

static void spool_difference(struct connection *c, const char *uuid, const char *name,
			     const struct domain_state *before, int state, int reason, int id,
			     bool restarted)
{
	char now[32] = "absent", why[64] = "unknown", previous[64] = "previous=unknown",
	     old_name[RECORD_DETAIL_MAX];
	struct record r;

	if (state != STATE_ABSENT) {
		event_table_state_word(state, now, sizeof(now));
		event_table_state_reason(state, reason, why, sizeof(why));
	}
	if (before) {
		strcpy(previous, "previous=");
		event_table_state_word(before->state, previous + strlen(previous),
				       sizeof(previous) - strlen(previous));
	}
	r = record_of(c, "reconciled", now, why);
	r.details[r.n_details++] = bytes_of(previous);
	if (restarted)
		r.details[r.n_details++] = bytes_of("restarted=true");
	if (before && strcmp(before->name, name) != 0) {
		(void)snprintf(old_name, sizeof(old_name), "previous_name=%s", before->name);
		r.details[r.n_details++] = bytes_of(old_name);
	}
	keep_of_domain(c, &r, name, uuid, id);
	c->stats.reconciled++;
}

/* Compares one domain, and spools the difference if `spool`. Returns whether there is one. */
static bool compare(struct connection *c, const struct found *f, bool spool)
{
	struct domain_state *d = states_find(&c->states, f->uuid);
	bool restarted, differs;

	if (d)
		d->seen = true;
	if (!f->known) /* its state cannot be had: no difference, and none is recorded */
		return false;
	restarted = d && is_active(d->state) && is_active(f->state) && d->id >= 0 && f->id >= 0 &&
		    d->id != f->id;
	differs = !d || restarted || states_differ(d->state, f->state) ||
		  strcmp(d->name, f->name) != 0;
	if (!spool)
		return differs;
	if (differs)
		spool_difference(c, f->uuid, f->name, d, f->state, f->reason, f->id, restarted);
	if (differs || d->id != f->id || d->persistent != f->persistent) {
		d = states_put(&c->states, f->uuid, f->name);
		if (d) {
			d->state = f->state;
			d->id = f->id;
			d->persistent = f->persistent;
			d->seen = true;
		}
	}
	return differs;
}

/* A domain that the snapshot does not have is gone: the list was complete, or there is no
   snapshot. */
static size_t compare_all(struct connection *c, const struct snapshot *s, bool spool)
{
	size_t differences = 0;

	for (size_t i = 0; i < c->states.n; i++)
		c->states.list[i].seen = false;
	for (size_t i = 0; i < s->n; i++)
		differences += compare(c, &s->list[i], spool);
	for (size_t i = c->states.n; i-- > 0;) {
		struct domain_state *d = &c->states.list[i];

		if (d->seen)
			continue;
		differences++;
		if (!spool)
			continue;
		spool_difference(c, d->uuid, d->name, d, STATE_ABSENT, 0, -1, false);
		states_remove(&c->states, d);
	}
	c->stats.domains = c->states.n;
	return differences;
}

/* Negative errno if the domains could not be asked for; it is then tried again with the next
   connection. */
static int reconcile(struct connection *c, virConnectPtr conn)
{
	bool settled = false, done = false;

	for (int round = 0; !done; round++) {
		__attribute__((cleanup(snapshot_release))) struct snapshot s = {};
		uint64_t generation;
		size_t differences;
		int r;

		(void)pthread_mutex_lock(&c->lock);
		generation = c->generation;
		(void)pthread_mutex_unlock(&c->lock);
		r = snapshot_take(&s, conn);
		if (r < 0)
			return r;
		(void)pthread_mutex_lock(&c->lock);
		if (c->lost) {
			r = -ENOTCONN;
		} else if (generation == c->generation || round >= ROUNDS_MAX) {
			differences = compare_all(c, &s, false);
			done = settled || differences == 0 || round >= ROUNDS_MAX;
			settled = true;
			if (done)
				(void)compare_all(c, &s, true);
			if (done && differences > 0)
				log_notice(
					"'%s': the state of %zu domains is not as it was last recorded; reconciled",
					c->uri, differences);
		} else {
			settled = false;
		}
		(void)pthread_mutex_unlock(&c->lock);
		if (r < 0)
			return r;
		if (!done && pause_ms(c, SETTLE_MS))
			return -ENOTCONN;
	}
	return 0;
}

/* --- one connection */

static void save(struct connection *c)
{
	int r;

	(void)pthread_mutex_lock(&c->lock);
	r = states_save(&c->states);
	(void)pthread_mutex_unlock(&c->lock);
	if (r < 0 && !c->save_error_logged)
		log_warning(
			"cannot write '%s': %s; after a restart more may be reconciled than has changed",
			c->states.path, strerror(-r));
	c->save_error_logged = r < 0;
}

static void listen_until_lost(struct connection *c, virConnectPtr conn)
{
	unsigned idle_ms = 0;

	for (;;) {
		bool over, dirty;

		(void)pthread_mutex_lock(&c->lock);
		dirty = c->states.changed;
		over = c->stop || c->lost;
		(void)pthread_mutex_unlock(&c->lock);
		if (over)
			break;
		if (pause_ms(c, dirty ? SAVE_MS : ALIVE_MS))
			break;
		if (dirty)
			save(c);
		idle_ms += dirty ? SAVE_MS : ALIVE_MS;
		if (idle_ms >= ALIVE_MS && virConnectIsAlive(conn) == 0)
			on_closed(conn, VIR_CONNECT_CLOSE_REASON_EOF, c);
	}
	save(c);
}

static virConnectPtr open_connection(struct connection *c)
{
	virConnectPtr conn = virConnectOpenReadOnly(c->uri);

	if (!conn) {
		failed(c, "cannot connect", libvirt_error());
		return NULL;
	}
	(void)pthread_mutex_lock(&c->lock);
	c->conn = conn;
	c->lost = false;
	(void)pthread_mutex_unlock(&c->lock);
	(void)virConnectRegisterCloseCallback(conn, on_closed, c,
					      NULL); /* not every driver has a connection to lose */
	if (c->options->keep_alive_s > 0)
		(void)virConnectSetKeepAlive(conn, (int)c->options->keep_alive_s,
					     c->options->keep_alive_count);
	virResetLastError();
	return conn;
}

static void close_connection(struct connection *c, virConnectPtr conn)
{
	(void)pthread_mutex_lock(&c->lock);
	c->conn = NULL;
	(void)pthread_mutex_unlock(&c->lock);
	(void)virConnectUnregisterCloseCallback(conn, on_closed);
	(void)virConnectClose(conn);
	virResetLastError();
}

static void begin_listening(struct connection *c)
{
	(void)pthread_mutex_lock(&c->lock);
	c->stats.connects++;
	c->stats.events_registered = c->subscription.n_registered;
	c->stats.last_error[0] = '\0';
	(void)pthread_mutex_unlock(&c->lock);
	log_info("'%s': listening to %u kinds of events", c->uri, c->subscription.n_registered);
}

static void end_listening(struct connection *c)
{
	char why[32] = "stopped";
	bool stopped;

	(void)pthread_mutex_lock(&c->lock);
	stopped = c->stop && !c->lost;
	if (!stopped) {
		c->stats.losses++;
		memcpy(why, c->lost_why, sizeof(why));
		(void)snprintf(c->stats.last_error, sizeof(c->stats.last_error),
			       "the connection was lost: %s", why);
	}
	c->stats.events_registered = 0;
	(void)pthread_mutex_unlock(&c->lock);
	keep_listen(c, "end", why);
	if (!stopped)
		log_warning("'%s': the connection was lost: %s", c->uri, why);
}

/* Connects, and returns when that has ended. Returns whether it was connected. */
static bool session(struct connection *c)
{
	virConnectPtr conn;

	set_phase(c, CONNECTION_CONNECTING);
	conn = open_connection(c);
	if (!conn)
		return false;
	if (event_table_register(&c->subscription, conn, c->options->balloon) < 0) {
		failed(c, "cannot listen to events", libvirt_error());
		close_connection(c, conn);
		return false;
	}
	keep_listen(c, "begin", NULL);
	begin_listening(c);
	set_phase(c, CONNECTION_RECONCILING);
	if (reconcile(c, conn) == 0) {
		set_phase(c, CONNECTION_LISTENING);
		listen_until_lost(c, conn);
	} else {
		if (!pause_ms(c, 0)) /* it answers, but not this: start over */
			failed(c, "cannot list the domains", libvirt_error());
		on_closed(conn, VIR_CONNECT_CLOSE_REASON_ERROR, c);
	}
	end_listening(c);
	event_table_deregister(&c->subscription);
	close_connection(c, conn);
	return true;
}

static void wait_before_retry(struct connection *c, unsigned *retry_s)
{
	unsigned ms = *retry_s * 1000 / 2 +
		      (unsigned)(random() % (long)(*retry_s * 500 + 1)); /* with jitter */

	set_phase(c, CONNECTION_WAITING);
	(void)pthread_mutex_lock(&c->lock);
	c->lost = false;
	(void)pthread_mutex_unlock(&c->lock);
	(void)pause_ms(c, ms);
	*retry_s = *retry_s * 2 < c->options->retry_max_s ? *retry_s * 2 : c->options->retry_max_s;
}

static bool is_stopped(struct connection *c)
{
	bool stopped;

	(void)pthread_mutex_lock(&c->lock);
	stopped = c->stop;
	(void)pthread_mutex_unlock(&c->lock);
	return stopped;
}

static void *run(void *userdata)
{
	struct connection *c = userdata;
	unsigned retry_s = c->options->retry_min_s;

	while (!is_stopped(c)) {
		if (session(c))
			retry_s = c->options->retry_min_s;
		if (!is_stopped(c))
			wait_before_retry(c, &retry_s);
	}
	set_phase(c, CONNECTION_STOPPED);
	(void)pthread_mutex_lock(&c->lock);
	c->ended = true;
	(void)pthread_cond_broadcast(&c->wake);
	(void)pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* --- making and ending it */

static int init_thread(struct connection *c)
{
	pthread_condattr_t monotonic;

	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&c->wake, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	return -pthread_create(&c->thread, NULL, run, c);
}

int connection_new(const char *uri, const struct connection_options *options,
		   void (*changed)(void *), void *userdata, struct connection **ret_connection)
{
	struct connection *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->uri = uri;
	c->options = options;
	c->changed = changed;
	c->userdata = userdata;
	c->subscription.notify = on_event;
	c->subscription.userdata = c;
	r = uri_driver(uri, c->driver, sizeof(c->driver));
	if (r == 0)
		r = states_load(&c->states, uri);
	if (r > 0)
		log_warning(
			"'%s' is damaged: changes since then are unknown; reporting every domain again",
			c->states.path);
	c->stats.uri = c->uri;
	c->stats.driver = c->driver;
	c->stats.domains = c->states.n;
	if (r >= 0)
		r = init_thread(c);
	if (r < 0) {
		states_release(&c->states);
		free(c);
		return r;
	}
	*ret_connection = c;
	return 0;
}

bool connection_stop(struct connection *c, unsigned wait)
{
	bool ended;

	(void)pthread_mutex_lock(&c->lock);
	c->stop = true;
	(void)pthread_cond_broadcast(&c->wake);
	while (!c->ended && wait_ms(c, wait))
		;
	ended = c->ended;
	(void)pthread_mutex_unlock(&c->lock);
	if (!ended)
		return false;
	(void)pthread_join(c->thread, NULL);
	states_release(&c->states);
	(void)pthread_cond_destroy(&c->wake);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
	return true;
}

void connection_get_stats(struct connection *c, struct connection_stats *ret_stats)
{
	(void)pthread_mutex_lock(&c->lock);
	*ret_stats = c->stats;
	(void)pthread_mutex_unlock(&c->lock);
	ret_stats->listening = ret_stats->phase == CONNECTION_LISTENING ||
			       ret_stats->phase == CONNECTION_RECONCILING;
}
