/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* dial - see dial.h. `done` is called from the loop's callbacks only, and last in each. */
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "spooler/base/loop.h"
#include "spooler/base/util.h"
#include "spooler/mqtt/dial.h"
#include "spooler/mqtt/resolve.h"

struct dial {
	sd_event *loop;
	const char *host;
	uint16_t port;
	uint64_t timeout_us;
	unsigned first_address;
	struct transport_loss *loss;
	dial_done done;
	void *userdata;

	struct resolve *resolve;
	struct addrinfo *addresses, *address; /* all, and the one that is tried */
	uint64_t deadline;
	char refusals[700]; /* what each address said so far */
	bool answered;	    /* one of them said something else than "refused" */

	int fd;
	sd_event_source *io, *timer, *kick;
};

static void connect_next(struct dial *d);

static uint64_t loop_usec(const struct dial *d)
{
	uint64_t usec = 0;

	(void)sd_event_now(d->loop, CLOCK_MONOTONIC, &usec);
	return usec;
}

static int set_timer(struct dial *d, uint64_t usec)
{
	int r;

	r = sd_event_source_set_time(d->timer, usec);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(d->timer, SD_EVENT_ONESHOT);
}

static void quiet(struct dial *d)
{
	d->io = sd_event_source_disable_unref(d->io);
	d->timer = sd_event_source_disable_unref(d->timer);
	d->kick = sd_event_source_disable_unref(d->kick);
	resolve_free(TAKE_PTR(d->resolve));
}

static void failed(struct dial *d, enum transport_failure failure, const char *what,
		   const char *why)
{
	quiet(d);
	transport_loss_set(d->loss, failure, "cannot %s '%s': %s", what, d->host, why);
	d->done(-1, NULL, d->userdata);
}

static void describe_address(const struct addrinfo *a, char *buf, size_t size)
{
	char host[64] = "?", port[8] = "?";

	(void)getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof(host), port, sizeof(port),
			  NI_NUMERICHOST | NI_NUMERICSERV);
	(void)snprintf(buf, size, a->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* Notes why the current address did not do, and goes on to the next. */
static void address_failed(struct dial *d, int error)
{
	size_t n = strlen(d->refusals);
	char address[80];

	d->io = sd_event_source_disable_unref(d->io);
	close_fdp(&d->fd);
	d->answered |= error != ECONNREFUSED;
	describe_address(d->address, address, sizeof(address));
	(void)snprintf(d->refusals + n, sizeof(d->refusals) - n, "%s%s: %s", n ? "; " : "", address,
		       strerror(error));
	d->address = d->address->ai_next;
	connect_next(d);
}

/* On loopback and a port of the ephemeral range, a socket can connect to itself when nobody
   listens. */
static bool connected_to_itself(int fd)
{
	struct sockaddr_storage here = {0}, there = {0};
	socklen_t n_here = sizeof(here), n_there = sizeof(there);

	return getsockname(fd, (struct sockaddr *)&here, &n_here) == 0 &&
	       getpeername(fd, (struct sockaddr *)&there, &n_there) == 0 && n_here == n_there &&
	       memcmp(&here, &there, n_here) == 0;
}

static int socket_error(int fd)
{
	socklen_t size = sizeof(int);
	int error = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? errno : error;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct dial *d = userdata;
	int error = socket_error(d->fd);
	char address[80];

	if (!error && connected_to_itself(d->fd))
		error = ECONNREFUSED;
	if (error) {
		address_failed(d, error);
		return 0;
	}
	quiet(d);
	describe_address(d->address, address, sizeof(address));
	d->done(TAKE_FD(d->fd), address, d->userdata);
	return 0;
}

/* An address that does not answer must not use up the time of the next ones. */
static uint64_t address_deadline(const struct dial *d)
{
	uint64_t now = loop_usec(d), left = 1;

	for (const struct addrinfo *a = d->address->ai_next; a; a = a->ai_next)
		left++;
	return now >= d->deadline ? now : now + (d->deadline - now) / left;
}

static int connect_begin(struct dial *d)
{
	const struct addrinfo *a = d->address;
	int r;

	d->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (d->fd < 0)
		return -errno;
	/* A numeric loopback connects at once; all the same it is the loop that says so. */
	if (connect(d->fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS)
		return -errno;
	r = sd_event_add_io(d->loop, &d->io, d->fd, EPOLLOUT, on_io, d);
	if (r < 0)
		return r;
	return set_timer(d, address_deadline(d));
}

static void connect_next(struct dial *d)
{
	int r;

	if (!d->address) {
		failed(d, d->answered ? TRANSPORT_FAILURE_NETWORK : TRANSPORT_FAILURE_REFUSED,
		       "connect to", d->refusals);
		return;
	}
	r = connect_begin(d);
	if (r < 0)
		address_failed(d, -r);
}

static void addresses_known(struct dial *d, struct addrinfo *list)
{
	d->addresses = d->address = list;
	for (unsigned skip = d->first_address; skip > 0 && d->address->ai_next; skip--)
		d->address = d->address->ai_next;
	d->deadline = loop_usec(d) + d->timeout_us;
	connect_next(d);
}

static void on_resolved(struct addrinfo *list, int error, void *userdata)
{
	struct dial *d = userdata;

	resolve_free(TAKE_PTR(d->resolve));
	if (list)
		addresses_known(d, list);
	else
		failed(d, TRANSPORT_FAILURE_NETWORK, "resolve", gai_strerror(error));
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct dial *d = userdata;

	if (d->address)
		address_failed(d, ETIMEDOUT);
	else
		failed(d, TRANSPORT_FAILURE_NETWORK, "resolve", "no answer from the name service");
	return 0;
}

static int on_kick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct dial *d = userdata;

	addresses_known(d, d->addresses);
	return 0;
}

static int resolve_begin(struct dial *d)
{
	int r;

	r = resolve_numeric(d->host, d->port, &d->addresses);
	if (r == 0)
		return sd_event_source_set_enabled(d->kick, SD_EVENT_ONESHOT);
	r = resolve_start(d->loop, d->host, d->port, on_resolved, d, &d->resolve);
	/* -EBUSY: too many earlier questions are open. The timer reports that there is no answer.
	   */
	if (r < 0 && r != -EBUSY)
		return r;
	return set_timer(d, loop_usec(d) + d->timeout_us);
}

static int dial_init(struct dial *d)
{
	int r;

	r = loop_add_timer(d->loop, &d->timer, 0, on_timer, d);
	if (r < 0)
		return r;
	r = loop_add_turn(d->loop, &d->kick, on_kick, d);
	if (r < 0)
		return r;
	return resolve_begin(d);
}

int dial_start(sd_event *loop, const char *host, uint16_t port, uint64_t timeout_us,
	       unsigned first_address, struct transport_loss *loss, dial_done done, void *userdata,
	       struct dial **ret_dial)
{
	struct dial *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	*d = (struct dial){
		.loop = sd_event_ref(loop),
		.host = host,
		.port = port,
		.timeout_us = timeout_us,
		.first_address = first_address,
		.loss = loss,
		.done = done,
		.userdata = userdata,
		.fd = -1,
	};
	r = dial_init(d);
	if (r < 0) {
		dial_free(d);
		return r;
	}
	*ret_dial = d;
	return 0;
}

void dial_free(struct dial *d)
{
	if (!d)
		return;
	quiet(d);
	close_fdp(&d->fd);
	if (d->addresses)
		freeaddrinfo(d->addresses);
	sd_event_unref(d->loop);
	free(d);
}

unsigned dial_next_address(const struct dial *d)
{
	const struct addrinfo *a = d->addresses;
	unsigned index = 1;

	if (!d->address || !d->address->ai_next)
		return 0;
	for (; a != d->address; a = a->ai_next)
		index++;
	return index;
}
