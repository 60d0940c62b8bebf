/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * http - see http.h.
 *
 * libmicrohttpd runs in its external epoll mode on the thread's sd-event loop, so that the live
 * stream's timers, its suspended connections and the requests need no locks between them. Other
 * threads only add to `pending` and wake the loop.
 *
 * libmicrohttpd's time-out starts again with every byte. A client that sends or reads one byte a
 * minute would keep its connection for days, so each connection has a deadline of ours, too.
 */
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "spooler/base/address.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/recorder/access.h"
#include "spooler/recorder/api.h"
#include "spooler/recorder/http.h"
#include "spooler/recorder/live.h"
#include "spooler/recorder/page.h"

#define CONNECTION_MEMORY (12 * 1024) /* bounds a request's line and headers */
#define IDLE_TIMEOUT_S 60
#define REQUEST_TIMEOUT_USEC (10 * USEC_PER_SEC) /* TLS handshake and headers */
#define ANSWER_TIMEOUT_USEC (60 * USEC_PER_SEC)	 /* for reading the answer */
#define SWEEP_USEC USEC_PER_SEC
#define BACKLOG 128

struct peer {
	struct peer *next, *previous;
	struct MHD_Connection *connection;
	uint64_t deadline_usec; /* CLOCK_MONOTONIC; 0: none */
};

struct http {
	pthread_t thread;
	bool running;
	sd_event *loop;
	sd_event_source *io, *timeout, *wake, *sweep;
	int wake_fd, listen_fd;
	struct MHD_Daemon *mhd;
	struct peer *peers;
	struct access *access;
	struct api *api;
	struct live *live;

	pthread_mutex_t lock; /* of what follows */
	bool stop;
	struct live_change pending;
};

/* --- the address */

static int listen_on(const char *text, int *ret_fd, char **ret_error)
{
	struct sockaddr_storage address;
	socklen_t size;
	_cleanup_close_ int fd = -1;
	int r = 0;

	if (!address_parse(text, &address, &size))
		return -EINVAL;
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, BACKLOG) < 0)
		r = -errno;
	if (r < 0) {
		if (asprintf(ret_error, "cannot listen on %s: %s%s", text, strerror(-r),
			     r == -EADDRINUSE ? "; choose another port with http.listen" : "") < 0)
			*ret_error = NULL;
		return r;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* --- connections and their deadlines */

static struct peer *peer_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static void set_deadline(struct MHD_Connection *connection, uint64_t usec)
{
	struct peer *p = peer_of(connection);

	if (p)
		p->deadline_usec = usec ? now_usec(CLOCK_MONOTONIC) + usec : 0;
}

static void on_connection(void *userdata, struct MHD_Connection *connection, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct http *h = userdata;
	struct peer *p = *context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		p = calloc(1, sizeof(*p));
		if (!p)
			return; /* no deadline of ours, but libmicrohttpd's */
		*p = (struct peer){.next = h->peers,
				   .connection = connection,
				   .deadline_usec =
					   now_usec(CLOCK_MONOTONIC) + REQUEST_TIMEOUT_USEC};
		if (p->next)
			p->next->previous = p;
		h->peers = p;
		*context = p;
		(void)sd_event_source_set_enabled(h->sweep, SD_EVENT_ON);
	} else if (p) {
		if (p->next)
			p->next->previous = p->previous;
		if (p->previous)
			p->previous->next = p->next;
		else
			h->peers = p->next;
		free(p);
		*context = NULL;
	}
}

/* Ends what is overdue. The connection is freed by libmicrohttpd, which sees its end of file. */
static int on_sweep(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct http *h = userdata;
	uint64_t now = now_usec(CLOCK_MONOTONIC);

	for (struct peer *p = h->peers; p; p = p->next) {
		const union MHD_ConnectionInfo *info;

		if (p->deadline_usec == 0 || p->deadline_usec > now)
			continue;
		p->deadline_usec = 0;
		info = MHD_get_connection_info(p->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		if (info)
			(void)shutdown(info->connect_fd, SHUT_RDWR);
	}
	if (!h->peers)
		return 0; /* one shot: nothing wakes an idle server */
	(void)sd_event_source_set_time_relative(s, SWEEP_USEC);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

/* --- answers */

static const char *const security_headers[][2] = {
	{"Content-Security-Policy",
	 "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
	 "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
	 "require-trusted-types-for 'script'; trusted-types 'none'"},
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
};

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
	(void)MHD_add_response_header(response, name, value);
}

static enum MHD_Result send_response(struct MHD_Connection *connection, unsigned status,
				     struct MHD_Response *response)
{
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	for (size_t i = 0; i < ELEMENTSOF(security_headers); i++)
		add_header(response, security_headers[i][0], security_headers[i][1]);
	set_deadline(connection, ANSWER_TIMEOUT_USEC);
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

/* Takes the answer's body. */
static enum MHD_Result send_answer(struct MHD_Connection *connection, struct api_answer *a)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		a->size, a->body ? a->body : (char *)"",
		a->body ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);

	if (!response) {
		free(a->body);
		return MHD_NO;
	}
	add_header(response, "Content-Type", a->type);
	add_header(response, "Cache-Control", "no-store");
	if (a->status == 401)
		add_header(response, "WWW-Authenticate",
			   "Basic realm=\"virtspool\", charset=\"UTF-8\"");
	if (a->status == 405)
		add_header(response, "Allow", "GET, HEAD");
	if (a->status == 503)
		add_header(response, "Retry-After", "5");
	return send_response(connection, a->status, response);
}

static enum MHD_Result send_error(struct MHD_Connection *connection, unsigned status,
				  const char *text)
{
	struct api_answer a;

	api_error(&a, status, "%s", text);
	return send_answer(connection, &a);
}

static enum MHD_Result send_page(struct MHD_Connection *connection, const struct page_file *f)
{
	const char *known =
		MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "If-None-Match");
	bool same = known && strstr(known, f->etag);
	struct MHD_Response *response = MHD_create_response_from_buffer(
		same ? 0 : f->size, (void *)(uintptr_t)f->data, MHD_RESPMEM_PERSISTENT);

	if (!response)
		return MHD_NO;
	add_header(response, "ETag", f->etag);
	add_header(response, "Cache-Control", "no-cache");
	add_header(response, "Content-Type", f->type);
	return send_response(connection, same ? 304 : 200, response);
}

static enum MHD_Result send_live(struct http *h, struct MHD_Connection *connection)
{
	struct MHD_Response *response = live_open(h->live, connection);
	enum MHD_Result result;

	if (!response)
		return send_error(connection, 503, "too many live streams; try again later");
	add_header(response, "Content-Type", "text/event-stream");
	add_header(response, "Cache-Control", "no-store");
	add_header(response, "X-Accel-Buffering", "no"); /* nginx */
	result = send_response(connection, 200, response);
	set_deadline(connection, 0);
	return result;
}

/* --- requests */

struct collected {
	struct api_query *query;
	const char *problem;
};

static enum MHD_Result collect(void *userdata, enum MHD_ValueKind kind, const char *name,
			       const char *value)
{
	struct collected *c = userdata;

	c->problem = api_query_add(c->query, name, value ? value : "");
	return c->problem ? MHD_NO : MHD_YES;
}

static enum MHD_Result route(struct http *h, struct MHD_Connection *connection, const char *url)
{
	const struct page_file *file = page_find(url);
	struct api_query query = {.n = 0};
	struct collected c = {.query = &query};
	struct api_answer answer;

	if (file)
		return send_page(connection, file);
	if (strcmp(url, "/api/v1/live") == 0)
		return send_live(h, connection);
	(void)MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, collect, &c);
	if (c.problem)
		api_error(&answer, 400, "%s", c.problem);
	else
		api_get(h->api, url, &query, &answer);
	api_query_release(&query);
	return send_answer(connection, &answer);
}

static enum MHD_Result on_request(void *userdata, struct MHD_Connection *connection,
				  const char *url, const char *method, const char *version,
				  const char *upload, size_t *upload_size, void **context)
{
	static char seen;
	struct http *h = userdata;
	struct access_answer refusal;

	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return send_error(connection, 405, "this server is read-only: GET and HEAD only");
	if (!*context) { /* the headers have come; a body, if any, has not */
		*context = &seen;
		return MHD_YES;
	}
	if (*upload_size) {
		*upload_size = 0; /* a GET has no body; what comes is not kept */
		return MHD_YES;
	}
	if (!access_check(h->access, connection, &refusal))
		return send_error(connection, refusal.status, refusal.text);
	return route(h, connection, url);
}

static void on_completed(void *userdata, struct MHD_Connection *connection, void **context,
			 enum MHD_RequestTerminationCode code)
{
	set_deadline(connection, IDLE_TIMEOUT_S * USEC_PER_SEC);
}

/* Paths and parameters are decoded by api.c, after they have been taken apart. */
static size_t leave_escaped(void *userdata, struct MHD_Connection *connection, char *s)
{
	return strlen(s);
}

static void on_log(void *userdata, const char *format, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void on_log(void *userdata, const char *format, va_list ap)
{
	char text[256];

	(void)vsnprintf(text, sizeof(text), format, ap);
	text[strcspn(text, "\n")] = 0;
	log_debug("http: %s", text);
}

/* --- the loop */

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata);

/* Lets libmicrohttpd work, and asks when it wants to again. */
static void run(struct http *h)
{
	MHD_UNSIGNED_LONG_LONG ms;

	(void)MHD_run(h->mhd);
	if (MHD_get_timeout(h->mhd, &ms) != MHD_YES) {
		(void)sd_event_source_set_enabled(h->timeout, SD_EVENT_OFF);
		return;
	}
	(void)sd_event_source_set_time_relative(h->timeout, ms * 1000);
	(void)sd_event_source_set_enabled(h->timeout, SD_EVENT_ONESHOT);
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata)
{
	run(userdata);
	return 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	run(userdata);
	return 0;
}

/* live has resumed connections. */
static void on_resumed(void *userdata)
{
	struct http *h = userdata;

	(void)sd_event_source_set_time_relative(h->timeout, 0);
	(void)sd_event_source_set_enabled(h->timeout, SD_EVENT_ONESHOT);
}

static void on_stalled(struct MHD_Connection *connection, bool stalled)
{
	set_deadline(connection, stalled ? ANSWER_TIMEOUT_USEC : 0);
}

static int on_wake(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	struct http *h = userdata;
	struct live_change change;
	uint64_t n;
	bool stop;

	(void)!read(fd, &n, sizeof(n));
	(void)pthread_mutex_lock(&h->lock);
	stop = h->stop;
	change = h->pending;
	h->pending.n_hosts = h->pending.n_guests = 0;
	h->pending.all = h->pending.any = false;
	(void)pthread_mutex_unlock(&h->lock);
	if (stop)
		return sd_event_exit(h->loop, 0);
	if (change.any)
		live_changed(h->live, &change);
	return 0;
}

static void *thread_main(void *userdata)
{
	struct http *h = userdata;
	int r;

	(void)pthread_setname_np(pthread_self(), "http");
	r = sd_event_loop(h->loop);
	if (r < 0)
		log_error("the web server's loop failed: %s; it serves no more until a restart",
			  strerror(-r));
	return NULL;
}

static int make_loop(struct http *h)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	int r;

	if (!info)
		return -EIO;
	r = sd_event_add_io(h->loop, &h->io, info->epoll_fd, EPOLLIN, on_io, h);
	if (r >= 0)
		r = sd_event_add_io(h->loop, &h->wake, h->wake_fd, EPOLLIN, on_wake, h);
	if (r >= 0)
		r = sd_event_add_time_relative(h->loop, &h->timeout, CLOCK_MONOTONIC, 0, 1,
					       on_timeout, h);
	return r;
}

static int make_daemon(struct http *h, const struct http_options *o)
{
	struct MHD_OptionItem options[16];
	size_t n = 0;
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;

#define ADD(...) (options[n++] = (struct MHD_OptionItem){__VA_ARGS__})
	ADD(MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, h); /* first, so that it sees all */
	ADD(MHD_OPTION_LISTEN_SOCKET, h->listen_fd, NULL);
	ADD(MHD_OPTION_CONNECTION_LIMIT, o->connections, NULL);
	ADD(MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, NULL);
	ADD(MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, NULL);
	ADD(MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, h);
	ADD(MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, h);
	ADD(MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)leave_escaped, h);
	ADD(MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL);
	n += access_options(h->access, options + n, &flags);
	ADD(MHD_OPTION_END, 0, NULL);
#undef ADD
	h->mhd = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_ARRAY, options,
				  MHD_OPTION_END);
	return h->mhd ? 0 : -EIO;
}

static int prepare(struct http *h, const struct http_options *o, char **ret_error)
{
	int r = access_new(o, &h->access, ret_error);

	if (r >= 0)
		r = api_new(o, &h->api, ret_error);
	if (r >= 0)
		r = listen_on(o->listen, &h->listen_fd, ret_error);
	if (r < 0)
		return r;
	h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = h->wake_fd < 0 ? -errno : sd_event_new(&h->loop);
	if (r >= 0)
		r = sd_event_add_time_relative(h->loop, &h->sweep, CLOCK_MONOTONIC, SWEEP_USEC, 1,
					       on_sweep, h);
	if (r >= 0)
		r = live_new(h->loop, o->connections, on_resumed, on_stalled, h, &h->live);
	if (r >= 0)
		r = make_daemon(h, o);
	if (r >= 0)
		r = make_loop(h);
	if (r < 0 && asprintf(ret_error, "cannot start the web server on %s: %s", o->listen,
			      strerror(-r)) < 0)
		*ret_error = NULL;
	return r;
}

/* Signals belong to the main thread. */
static int start_thread(struct http *h)
{
	sigset_t all, before;
	int r;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&h->thread, NULL, thread_main, h);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	h->running = r == 0;
	return -r;
}

int http_start(const struct http_options *o, struct http **ret_http, char **ret_error)
{
	struct http *h = calloc(1, sizeof(*h));
	int r;

	*ret_error = NULL;
	if (!h)
		return -ENOMEM;
	h->wake_fd = h->listen_fd = -1;
	(void)pthread_mutex_init(&h->lock, NULL);
	r = prepare(h, o, ret_error);
	if (r >= 0)
		r = start_thread(h);
	if (r < 0) {
		http_stop(h);
		return r;
	}
	*ret_http = h;
	return 0;
}

int http_check(const struct http_options *o, char **ret_error)
{
	struct access *a = NULL;
	int r;

	*ret_error = NULL;
	r = access_new(o, &a, ret_error);
	access_free(a);
	return r;
}

void http_stop(struct http *h)
{
	if (!h)
		return;
	if (h->running) {
		(void)pthread_mutex_lock(&h->lock);
		h->stop = true;
		(void)pthread_mutex_unlock(&h->lock);
		(void)!write(h->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
		(void)pthread_join(h->thread, NULL);
	}
	live_end(h->live);
	if (h->mhd) {
		MHD_stop_daemon(h->mhd);
		h->listen_fd = -1; /* closed with it */
	}
	sd_event_source_disable_unref(h->io);
	sd_event_source_disable_unref(h->timeout);
	sd_event_source_disable_unref(h->wake);
	sd_event_source_disable_unref(h->sweep);
	live_free(h->live);
	api_free(h->api);
	access_free(h->access);
	sd_event_unref(h->loop);
	close_fdp(&h->wake_fd);
	close_fdp(&h->listen_fd);
	(void)pthread_mutex_destroy(&h->lock);
	free(h);
}

void http_changed(const struct store_change *change, void *userdata)
{
	struct http *h = userdata;

	(void)pthread_mutex_lock(&h->lock);
	live_change_add(&h->pending, change);
	(void)pthread_mutex_unlock(&h->lock);
	(void)!write(h->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
}
