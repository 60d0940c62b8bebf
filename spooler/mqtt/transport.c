/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * transport - see transport.h. Joins dial.h, which connects, and tls.h, which shakes hands and
 * encrypts, to one stream of bytes with one state.
 *
 * `changed` is called from the loop only: what fails inside a call of the user's is seen by that
 * call's result.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "spooler/base/loop.h"
#include "spooler/base/util.h"
#include "spooler/mqtt/dial.h"
#include "spooler/mqtt/tls.h"
#include "spooler/mqtt/transport.h"

#define NOT_SENT_MAX (128 * 1024)
/* Unread bytes thrown away at close, so that the last words are not reset. */
#define DRAIN_MAX (256 * 1024)

struct transport {
	sd_event *loop;
	transport_changed changed;
	void *userdata;

	char *host;
	char *name; /* to be verified: tls.server_name, or the host */
	bool encrypted;
	struct credentials *credentials;
	uint64_t timeout_us;

	enum transport_state state;
	struct transport_loss loss;
	char peer[512];
	char protocol[128];

	struct dial *dial;
	struct tls *tls; /* NULL: plain TCP, or not connected yet */
	int fd;
	sd_event_source *io, *timer, *kick;
	uint32_t io_events;
	bool not_reading; /* the user does not want to read now */
	int send_error;	  /* plain TCP: errno of a send that failed; from then on only reading */
};

/* --- state */

static void quiet(struct transport *t)
{
	t->io = sd_event_source_disable_unref(t->io);
	t->timer = sd_event_source_disable_unref(t->timer);
	t->kick = sd_event_source_disable_unref(t->kick);
}

/* From here on nothing happens by itself any more; t->loss says why. */
static void lost(struct transport *t)
{
	t->state = TRANSPORT_LOST;
	quiet(t);
}

static ssize_t lost_by_errno(struct transport *t, int error)
{
	transport_loss_set_errno(&t->loss, t->peer, "", error);
	lost(t);
	return -ECONNRESET;
}

static void set_io_events(struct transport *t, uint32_t events)
{
	if (t->state == TRANSPORT_ESTABLISHED && t->not_reading)
		events &= ~(uint32_t)EPOLLIN;
	if (t->io_events == events || !t->io)
		return;
	t->io_events = events;
	(void)sd_event_source_set_io_events(t->io, events);
}

static uint64_t loop_usec(const struct transport *t)
{
	uint64_t usec = 0;

	(void)sd_event_now(t->loop, CLOCK_MONOTONIC, &usec);
	return usec;
}

/* --- connecting */

static void established(struct transport *t)
{
	t->state = TRANSPORT_ESTABLISHED;
	(void)sd_event_source_set_enabled(t->timer, SD_EVENT_OFF);
	set_io_events(t, EPOLLIN);
	if (t->tls)
		tls_describe(t->tls, t->protocol, sizeof(t->protocol));
	else
		(void)snprintf(t->protocol, sizeof(t->protocol), "plain TCP");
}

static void shake_hands(struct transport *t)
{
	int r;

	r = tls_handshake(t->tls);
	if (r == -EAGAIN)
		set_io_events(t, tls_wants_write(t->tls) ? EPOLLOUT : EPOLLIN);
	else if (r < 0)
		lost(t);
	else
		established(t);
}

static void begin_handshake(struct transport *t)
{
	t->state = TRANSPORT_HANDSHAKING;
	if (tls_new(t->fd, t->credentials, t->name, t->peer, &t->loss, &t->tls) < 0) {
		lost(t);
		return;
	}
	(void)sd_event_source_set_time(t->timer, loop_usec(t) + t->timeout_us);
	(void)sd_event_source_set_enabled(t->timer, SD_EVENT_ONESHOT);
	shake_hands(t);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata);

static void connected(struct transport *t)
{
	int r;

	(void)setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	/* Little is kept in the kernel's buffer: an answer must not wait behind megabytes. */
	(void)setsockopt(t->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){NOT_SENT_MAX}, sizeof(int));
	t->io_events = EPOLLIN;
	r = sd_event_add_io(t->loop, &t->io, t->fd, t->io_events, on_io, t);
	if (r < 0)
		(void)lost_by_errno(t, -r);
	else if (t->encrypted)
		begin_handshake(t);
	else
		established(t);
}

static void on_dialled(int fd, const char *address, void *userdata)
{
	struct transport *t = userdata;

	if (fd < 0) {
		lost(t);
	} else {
		t->fd = fd;
		(void)snprintf(t->peer, sizeof(t->peer), "%s (%s)", t->host, address);
		connected(t);
	}
	t->changed(t, t->userdata);
}

/* --- the loop's callbacks; each ends with `changed`, which may free t */

static int socket_error(int fd)
{
	socklen_t size = sizeof(int);
	int error = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? errno : error;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct transport *t = userdata;

	if (t->tls)
		tls_wake(t->tls);
	if (t->state == TRANSPORT_HANDSHAKING) {
		shake_hands(t);
	} else {
		if (revents & EPOLLOUT)
			set_io_events(t, EPOLLIN);
		if (t->not_reading && revents & (EPOLLERR | EPOLLHUP))
			(void)lost_by_errno(t, socket_error(t->fd));
	}
	t->changed(t, t->userdata);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct transport *t = userdata;

	transport_loss_set(&t->loss, TRANSPORT_FAILURE_NETWORK,
			   "%s: the TLS handshake did not finish within %llu s", t->peer,
			   (unsigned long long)(t->timeout_us / USEC_PER_SEC));
	lost(t);
	t->changed(t, t->userdata);
	return 0;
}

static int on_kick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct transport *t = userdata;

	t->changed(t, t->userdata);
	return 0;
}

/* --- opening and closing */

/* Certificates write a fully qualified name without the dot at its end. */
static void remove_last_dot(char *name)
{
	size_t n = strlen(name);

	if (n > 1 && name[n - 1] == '.')
		name[n - 1] = '\0';
}

static int transport_init(struct transport *t, const struct broker *broker,
			  const struct config_tls *tls, unsigned first_address)
{
	int r;

	t->host = strdup(broker->host);
	t->name = strdup(tls && tls->server_name ? tls->server_name : broker->host);
	if (!t->host || !t->name)
		return -ENOMEM;
	remove_last_dot(t->name);
	(void)snprintf(t->peer, sizeof(t->peer), "%s (port %u)", t->host, broker->port);
	r = loop_add_timer(t->loop, &t->timer, 0, on_timer, t);
	if (r < 0)
		return r;
	r = loop_add_turn(t->loop, &t->kick, on_kick, t);
	if (r < 0)
		return r;
	return dial_start(t->loop, t->host, broker->port, t->timeout_us, first_address, &t->loss,
			  on_dialled, t, &t->dial);
}

int transport_open(sd_event *loop, const struct broker *broker, const struct config_tls *tls,
		   struct credentials *credentials, uint64_t timeout_s, unsigned first_address,
		   transport_changed changed, void *userdata, struct transport **ret_transport)
{
	struct transport *t;
	int r;

	if (broker->tls && !credentials)
		return -EINVAL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->fd = -1;
	t->loop = sd_event_ref(loop);
	t->changed = changed;
	t->userdata = userdata;
	t->encrypted = broker->tls;
	t->credentials = broker->tls ? credentials_ref(credentials) : NULL;
	t->timeout_us = timeout_s * USEC_PER_SEC;
	r = transport_init(t, broker, tls, first_address);
	if (r < 0) {
		transport_close(t);
		return r;
	}
	*ret_transport = t;
	return 0;
}

/* Bytes that lie unread when a socket is closed turn the FIN into a reset, which may destroy what
   we sent last. */
static void drain(int fd)
{
	char unread[16 * 1024];
	size_t drained = 0;
	ssize_t n;

	(void)shutdown(fd, SHUT_WR);
	do {
		n = recv(fd, unread, sizeof(unread), MSG_DONTWAIT);
		drained += n > 0 ? (size_t)n : 0;
	} while (n > 0 && drained < DRAIN_MAX);
}

void transport_close(struct transport *t)
{
	if (!t)
		return;
	quiet(t);
	dial_free(t->dial);
	if (t->tls && t->state == TRANSPORT_ESTABLISHED)
		tls_bye(t->tls);
	if (t->state == TRANSPORT_ESTABLISHED)
		drain(t->fd);
	close_fdp(&t->fd);
	tls_free(t->tls);
	credentials_unref(t->credentials);
	free(t->host);
	free(t->name);
	sd_event_unref(t->loop);
	free(t);
}

/* --- carrying bytes */

void transport_set_reading(struct transport *t, bool reading)
{
	t->not_reading = !reading;
	if (t->state == TRANSPORT_ESTABLISHED)
		set_io_events(t, EPOLLIN | (t->io_events & EPOLLOUT));
}

static ssize_t plain_read(struct transport *t, void *buf, size_t size)
{
	ssize_t n;

	n = recv(t->fd, buf, size, MSG_DONTWAIT);
	if (n > 0)
		return n;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n < 0)
		return lost_by_errno(t, errno);
	transport_loss_set(&t->loss, TRANSPORT_FAILURE_CLOSED,
			   "%s: the broker has closed the connection", t->peer);
	return -ECONNRESET;
}

ssize_t transport_read(struct transport *t, void *buf, size_t size)
{
	ssize_t n;

	if (t->state == TRANSPORT_LOST)
		return -ECONNRESET;
	if (t->state != TRANSPORT_ESTABLISHED)
		return -EAGAIN;
	n = t->tls ? tls_read(t->tls, buf, size) : plain_read(t, buf, size);
	if (n == -ECONNRESET)
		lost(t);
	if (n != -EINTR)
		return n;
	(void)sd_event_source_set_enabled(t->kick, SD_EVENT_ONESHOT);
	return -EAGAIN;
}

static ssize_t plain_write(struct transport *t, const char *buf, size_t size)
{
	ssize_t n;

	if (t->send_error)
		return -EAGAIN;
	n = send(t->fd, buf, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n >= 0)
		return n;
	if (errno != EAGAIN && errno != EINTR)
		t->send_error = errno; /* what the broker said last can still be read */
	return -EAGAIN;
}

ssize_t transport_write(struct transport *t, const void *buf, size_t size)
{
	size_t done = 0;
	ssize_t n = 0;

	if (t->state == TRANSPORT_LOST)
		return -ECONNRESET;
	if (t->state != TRANSPORT_ESTABLISHED)
		return -EAGAIN;
	while (done < size) {
		n = t->tls ? tls_write(t->tls, (const char *)buf + done, size - done)
			   : plain_write(t, (const char *)buf + done, size - done);
		if (n < 0)
			break;
		done += (size_t)n;
	}
	if (n == -ECONNRESET)
		lost(t);
	if (n == -EAGAIN && !(t->tls ? tls_send_failed(t->tls) : t->send_error != 0))
		set_io_events(t, EPOLLIN | EPOLLOUT);
	return done ? (ssize_t)done : n;
}

/* --- getters */

enum transport_state transport_state(const struct transport *t)
{
	return t->state;
}

enum transport_failure transport_failure(const struct transport *t)
{
	return t->loss.failure;
}

const char *transport_error(const struct transport *t)
{
	return t->loss.text;
}

const char *transport_peer(const struct transport *t)
{
	return t->peer;
}

unsigned transport_next_address(const struct transport *t)
{
	return t->dial ? dial_next_address(t->dial) : 0;
}

const char *transport_protocol(const struct transport *t)
{
	return t->protocol;
}

bool transport_lacks_certificate(const struct transport *t)
{
	return t->tls && tls_lacks_certificate(t->tls);
}

struct validity transport_peer_validity(const struct transport *t)
{
	return t->tls ? tls_peer_validity(t->tls) : (struct validity){0};
}
