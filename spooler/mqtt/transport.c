/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * transport - see transport.h. A state machine over one socket: resolve, connect, shake hands,
 * carry bytes, lost.
 *
 * Beyond the header, it promises:
 * - Nothing of the user's goes through before the server is verified. The certificate is judged inside the handshake,
 *   before our own certificate is sent; and once the handshake is through, a session in which that judgement was not
 *   made (and which is not a PSK session with our key) is dropped.
 * - No session is ever resumed: a resumed session skips the verification. Tickets are not asked for and not kept.
 * - Reading is buffered below GnuTLS, a third fewer system calls. GnuTLS may then say "again" with whole records in
 *   the buffer (after a session ticket), hence the loop in tls_read(): nothing but an empty buffer is "again".
 * - After a failed send, reading goes on: the alert that says why lies in the receive queue. In TLS 1.3 a refused
 *   client certificate shows only there, after a handshake that had succeeded on our side.
 * - All calls back come from the loop: what fails inside a call of the user's is seen by that call's result.
 */
#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "spooler/mqtt/resolve.h"
#include "spooler/base/loop.h"
#include "spooler/mqtt/transport-tls.h"
#include "spooler/base/util.h"

#define PULL_BUFFER (32 * 1024) /* two records */
#define NOT_SENT_MAX (128 * 1024)
#define ERROR_SIZE 1024
#define READ_ROUNDS                                                                                \
	64 /* records without application data in one read, before others get their turn */
#define DRAIN_MAX                                                                                  \
	(256 * 1024) /* unread bytes thrown away at close, so that the last words are not reset */

struct transport {
	sd_event *loop;
	transport_changed changed;
	void *userdata;

	char *host;
	char *name; /* to be verified: tls.server_name, or the host */
	uint16_t port;
	bool tls;
	struct credentials *credentials;
	uint64_t timeout_us;

	enum transport_state state;
	enum transport_failure failure;
	char error[ERROR_SIZE];
	char peer[512];
	char protocol[128];

	struct resolve *resolve;
	struct addrinfo *addresses, *address; /* all, and the one that is tried */
	unsigned first_address;
	uint64_t connect_deadline;
	char refusals[ERROR_SIZE - 300]; /* what each address said so far */
	bool answered;			 /* one of them said something else than "refused" */

	int fd;
	sd_event_source *io, *timer, *kick;
	uint32_t io_events;
	bool not_reading; /* the user does not want to read now */

	gnutls_session_t session;
	bool verified;
	char verify_error[ERROR_SIZE - 600];
	char authorities[300]; /* of our certificate, if the server accepts others */
	bool quick_ack;	       /* until the first application data */
	int send_error;	       /* errno of a send that failed; from then on there is only reading */
	size_t pending;	       /* size of a record that GnuTLS holds, half sent */
	bool drained;	       /* the socket was found empty and has not said otherwise since */
	size_t pull_begin, pull_end;
	char pull[PULL_BUFFER];
};

static void connect_next(struct transport *t);
static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata);

/* --- state */

static void quiet(struct transport *t)
{
	t->io = sd_event_source_disable_unref(t->io);
	t->timer = sd_event_source_disable_unref(t->timer);
	t->kick = sd_event_source_disable_unref(t->kick);
	resolve_free(TAKE_PTR(t->resolve));
}

/* From here on nothing happens by itself any more. */
static void __attribute__((format(printf, 3, 4)))
lose(struct transport *t, enum transport_failure failure, const char *format, ...)
{
	va_list ap;

	if (t->state == TRANSPORT_LOST)
		return;
	t->state = TRANSPORT_LOST;
	t->failure = failure;
	va_start(ap, format);
	(void)vsnprintf(t->error, sizeof(t->error), format, ap);
	va_end(ap);
	quiet(t);
}

static void lose_by_errno(struct transport *t, int error)
{
	if (error == ECONNRESET || error == EPIPE)
		lose(t, TRANSPORT_FAILURE_NETWORK, "%s: the broker has reset the connection%s",
		     t->peer, t->state == TRANSPORT_HANDSHAKING ? " during the TLS handshake" : "");
	else
		lose(t, TRANSPORT_FAILURE_NETWORK, "%s: the connection is lost: %s", t->peer,
		     strerror(error));
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

/* Asks for one more turn of the loop. */
static void kick(struct transport *t)
{
	if (t->kick)
		(void)sd_event_source_set_enabled(t->kick, SD_EVENT_ONESHOT);
}

static int set_deadline(struct transport *t, uint64_t usec)
{
	int r;

	r = sd_event_source_set_time(t->timer, usec);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(t->timer, SD_EVENT_ONESHOT);
}

static uint64_t loop_usec(const struct transport *t)
{
	uint64_t usec = 0;

	(void)sd_event_now(t->loop, CLOCK_MONOTONIC, &usec);
	return usec;
}

/* --- GnuTLS below: pull and push */

static ssize_t tls_pull(gnutls_transport_ptr_t userdata, void *data, size_t size)
{
	struct transport *t = userdata;
	size_t have = t->pull_end - t->pull_begin;
	ssize_t n;

	if (have == 0) {
		if (t->drained) {
			gnutls_transport_set_errno(t->session, EAGAIN);
			return -1;
		}
		n = recv(t->fd, t->pull, sizeof(t->pull), MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EAGAIN)
				t->drained = true;
			gnutls_transport_set_errno(t->session, errno);
			return -1;
		}
		if (n == 0)
			return 0;
		/* A short read has emptied the socket; what comes later wakes the loop. */
		t->drained = (size_t)n < sizeof(t->pull);
		/* A broker with Nagle's algorithm holds its CONNACK after the session tickets
		   until they are acknowledged, 40 ms by default. */
		if (t->quick_ack)
			(void)setsockopt(t->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){1}, sizeof(int));
		t->pull_begin = 0;
		t->pull_end = have = (size_t)n;
	}
	if (size > have)
		size = have;
	memcpy(data, t->pull + t->pull_begin, size);
	t->pull_begin += size;
	return (ssize_t)size;
}

static ssize_t tls_push(gnutls_transport_ptr_t userdata, const giovec_t *iov, int n_iov)
{
	struct transport *t = userdata;
	struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n_iov};
	ssize_t n;

	if (t->send_error) {
		gnutls_transport_set_errno(t->session, EAGAIN);
		return -1;
	}
	n = sendmsg(t->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n >= 0)
		return n;
	if (errno != EAGAIN && errno != EINTR && t->state == TRANSPORT_ESTABLISHED) {
		/* GnuTLS need not know; it shall go on to read. */
		t->send_error = errno;
		errno = EAGAIN;
	}
	gnutls_transport_set_errno(t->session, errno);
	return -1;
}

/* --- what GnuTLS says, in words */

static const char *alert_advice(gnutls_alert_description_t alert)
{
	switch (alert) {
	case GNUTLS_A_CERTIFICATE_REQUIRED:
		return ": it demands a client certificate; set tls.certificate_file and tls.key_file";
	case GNUTLS_A_UNKNOWN_CA:
		return ": it does not know the CA of our client certificate";
	case GNUTLS_A_BAD_CERTIFICATE:
	case GNUTLS_A_UNSUPPORTED_CERTIFICATE:
	case GNUTLS_A_CERTIFICATE_UNKNOWN:
		return ": it refuses our client certificate";
	case GNUTLS_A_CERTIFICATE_EXPIRED:
		return ": it says our client certificate has expired";
	case GNUTLS_A_CERTIFICATE_REVOKED:
		return ": our client certificate is revoked";
	case GNUTLS_A_PROTOCOL_VERSION:
		return ": it does not speak our TLS versions, see tls.minimum_version";
	case GNUTLS_A_UNKNOWN_PSK_IDENTITY:
		return ": it does not know our tls.psk_identity";
	case GNUTLS_A_HANDSHAKE_FAILURE:
	case GNUTLS_A_INSUFFICIENT_SECURITY:
		return ": no common TLS version or cipher, or it demands a client "
		       "certificate or a pre-shared key";
	case GNUTLS_A_NO_APPLICATION_PROTOCOL:
		return ": it does not speak the protocol that tls.alpn names";
	case GNUTLS_A_UNRECOGNIZED_NAME:
		return ": it does not serve this host name (SNI)";
	default:
		return "";
	}
}

static void lose_by_tls(struct transport *t, int code)
{
	const char *when = t->state == TRANSPORT_HANDSHAKING ? " during the TLS handshake" : "";
	const char *name;
	gnutls_alert_description_t alert;

	switch (code) {
	case GNUTLS_E_CERTIFICATE_ERROR:
	case GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR:
		lose(t, TRANSPORT_FAILURE_VERIFICATION, "%s: %s", t->peer,
		     t->verify_error[0] ? t->verify_error : "its certificate is refused");
		return;
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		alert = gnutls_alert_get(t->session);
		name = gnutls_alert_get_name(alert);
		if (alert ==
		    GNUTLS_A_USER_CANCELED) { /* Java's goodbye in TLS 1.3, ahead of its close_notify */
			lose(t, TRANSPORT_FAILURE_CLOSED,
			     "%s: the broker has closed the connection%s", t->peer, when);
			return;
		}
		lose(t, TRANSPORT_FAILURE_TLS, "%s: the broker refuses%s (TLS alert %d, '%s')%s%s",
		     t->peer, when, (int)alert, name ? name : "unknown", alert_advice(alert),
		     t->authorities);
		return;
	case GNUTLS_E_PREMATURE_TERMINATION:
		lose(t, TRANSPORT_FAILURE_NETWORK,
		     "%s: the connection was cut%s, without TLS's close_notify", t->peer, when);
		return;
	case GNUTLS_E_PULL_ERROR:
	case GNUTLS_E_PUSH_ERROR:
		lose_by_errno(t, t->send_error ? t->send_error : errno);
		return;
	case GNUTLS_E_UNEXPECTED_PACKET_LENGTH:
	case GNUTLS_E_UNEXPECTED_PACKET:
	case GNUTLS_E_RECORD_OVERFLOW:
		if (t->state == TRANSPORT_HANDSHAKING) {
			lose(t, TRANSPORT_FAILURE_TLS,
			     "%s: the peer does not answer with TLS; is this its plain port?",
			     t->peer);
			return;
		}
		break;
	case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
		lose(t, TRANSPORT_FAILURE_TLS,
		     "%s: the broker wants a TLS version that is not allowed here, or does not "
		     "speak TLS (tls.minimum_version)",
		     t->peer);
		return;
	case GNUTLS_E_DECRYPTION_FAILED:
		if (t->state == TRANSPORT_HANDSHAKING && t->credentials->psk) {
			lose(t, TRANSPORT_FAILURE_VERIFICATION,
			     "%s: the broker does not have our pre-shared key", t->peer);
			return;
		}
		break;
	default:
		break;
	}
	lose(t, TRANSPORT_FAILURE_TLS, "%s: TLS failed%s: %s", t->peer, when,
	     gnutls_strerror(code));
}

/* --- handshake */

static int on_certificate(gnutls_session_t session)
{
	struct transport *t = gnutls_session_get_ptr(session);

	if (verify_server(session, t->credentials, t->name, t->verify_error,
			  sizeof(t->verify_error)) < 0)
		return GNUTLS_E_CERTIFICATE_ERROR;
	t->verified = true;
	return 0;
}

/* Our certificate is sent also if the server does not list its issuer: GnuTLS would send none then,
   and a server may accept more than it lists. */
static int on_certificate_request(gnutls_session_t session, const gnutls_datum_t *accepted,
				  int n_accepted, const gnutls_pk_algorithm_t *algorithms,
				  int n_algorithms, gnutls_pcert_st **ret_certificates,
				  unsigned *ret_n, gnutls_privkey_t *ret_key)
{
	struct transport *t = gnutls_session_get_ptr(session);

	credentials_compare_authorities(t->credentials, accepted, n_accepted, t->authorities,
					sizeof(t->authorities));
	*ret_certificates = t->credentials->own;
	*ret_n = t->credentials->n_own;
	*ret_key = t->credentials->own_key;
	return 0;
}

static bool is_address(const char *name)
{
	struct in6_addr a;

	return inet_pton(AF_INET, name, &a) == 1 || inet_pton(AF_INET6, name, &a) == 1;
}

static int session_start(struct transport *t)
{
	struct credentials *c = t->credentials;
	int r;

	r = gnutls_init(&t->session,
			GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS);
	if (r < 0)
		return r;
	gnutls_session_set_ptr(t->session, t);
	r = gnutls_priority_set(t->session, c->priority);
	if (r < 0)
		return r;
	if (c->psk)
		r = gnutls_credentials_set(t->session, GNUTLS_CRD_PSK, c->psk);
	else
		r = gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, c->certificates);
	if (r < 0)
		return r;
	gnutls_session_set_verify_function(t->session, on_certificate);
	if (c->own_key)
		gnutls_certificate_set_retrieve_function2(c->certificates, on_certificate_request);
	if (!is_address(t->name)) {
		r = gnutls_server_name_set(t->session, GNUTLS_NAME_DNS, t->name, strlen(t->name));
		if (r < 0)
			return r;
	}
	if (c->alpn) {
		const gnutls_datum_t alpn = {.data = (unsigned char *)c->alpn,
					     .size = (unsigned)strlen(c->alpn)};

		r = gnutls_alpn_set_protocols(t->session, &alpn, 1, 0);
		if (r < 0)
			return r;
	}
	gnutls_handshake_set_timeout(t->session, GNUTLS_INDEFINITE_TIMEOUT); /* ours is the timer */
	gnutls_transport_set_ptr(t->session, t);
	gnutls_transport_set_pull_function(t->session, tls_pull);
	gnutls_transport_set_vec_push_function(t->session, tls_push);
	return 0;
}

/* The result of the verification is checked once more where bytes begin to flow. */
static bool session_is_trusted(struct transport *t)
{
	gnutls_credentials_type_t type = gnutls_auth_server_get_type(t->session);
	bool authentic;

	if (gnutls_session_is_resumed(t->session)) {
		lose(t, TRANSPORT_FAILURE_VERIFICATION,
		     "%s: the broker resumed a session that was not offered", t->peer);
		return false;
	}
	if (gnutls_protocol_get_version(t->session) < t->credentials->minimum_version) {
		lose(t, TRANSPORT_FAILURE_TLS,
		     "%s: the broker speaks only %s (tls.minimum_version)", t->peer,
		     gnutls_protocol_get_name(gnutls_protocol_get_version(t->session)));
		return false;
	}
	authentic = t->credentials->psk ? type == GNUTLS_CRD_PSK
					: type == GNUTLS_CRD_CERTIFICATE && t->verified;
	if (!authentic)
		lose(t, TRANSPORT_FAILURE_VERIFICATION, "%s: the broker has not proven who it is",
		     t->peer);
	return authentic;
}

static void established(struct transport *t)
{
	t->state = TRANSPORT_ESTABLISHED;
	(void)sd_event_source_set_enabled(t->timer, SD_EVENT_OFF);
	set_io_events(t, EPOLLIN);
	if (!t->tls) {
		(void)snprintf(t->protocol, sizeof(t->protocol), "plain TCP");
		return;
	}
	(void)snprintf(t->protocol, sizeof(t->protocol), "%s (%s%s)",
		       gnutls_protocol_get_name(gnutls_protocol_get_version(t->session)),
		       t->credentials->psk ? "PSK, " : "",
		       gnutls_cipher_get_name(gnutls_cipher_get(t->session)));
}

static void shake_hands(struct transport *t)
{
	int r;

	do {
		errno = 0;
		r = gnutls_handshake(t->session);
	} while (r == GNUTLS_E_INTERRUPTED || r == GNUTLS_E_WARNING_ALERT_RECEIVED ||
		 r == GNUTLS_E_GOT_APPLICATION_DATA);
	if (r == GNUTLS_E_AGAIN) {
		set_io_events(t, gnutls_record_get_direction(t->session) ? EPOLLOUT : EPOLLIN);
		return;
	}
	if (r < 0) {
		lose_by_tls(t, r);
		/* Tell the broker why, as far as the socket takes it. */
		(void)gnutls_alert_send_appropriate(t->session, r);
		return;
	}
	if (session_is_trusted(t))
		established(t);
}

/* --- connecting */

static void describe_address(const struct addrinfo *a, char *buf, size_t size)
{
	char host[64] = "?", port[8] = "?";

	(void)getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof(host), port, sizeof(port),
			  NI_NUMERICHOST | NI_NUMERICSERV);
	(void)snprintf(buf, size, a->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* Notes why the current address did not do, and goes on to the next. */
static void connect_failed(struct transport *t, int error)
{
	size_t n = strlen(t->refusals);
	char address[80];

	t->io = sd_event_source_disable_unref(t->io);
	if (t->fd >= 0)
		(void)close(t->fd);
	t->fd = -1;
	t->answered |= error != ECONNREFUSED;
	describe_address(t->address, address, sizeof(address));
	(void)snprintf(t->refusals + n, sizeof(t->refusals) - n, "%s%s: %s", n ? "; " : "", address,
		       strerror(error));
	t->address = t->address->ai_next;
	connect_next(t);
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

static void connected(struct transport *t)
{
	char address[80];
	int r;

	if (connected_to_itself(t->fd)) {
		connect_failed(t, ECONNREFUSED);
		return;
	}
	describe_address(t->address, address, sizeof(address));
	(void)snprintf(t->peer, sizeof(t->peer), "%s (%s)", t->host, address);
	(void)setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	/* Little is kept in the kernel's buffer: an answer must not wait behind megabytes. */
	(void)setsockopt(t->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){NOT_SENT_MAX}, sizeof(int));
	if (!t->tls) {
		established(t);
		return;
	}
	t->state = TRANSPORT_HANDSHAKING;
	r = session_start(t);
	if (r < 0) {
		lose(t, TRANSPORT_FAILURE_TLS, "%s: cannot begin TLS: %s", t->peer,
		     gnutls_strerror(r));
		return;
	}
	(void)set_deadline(t, loop_usec(t) + t->timeout_us);
	shake_hands(t);
}

/* An address that does not answer must not use up the time of the next ones. */
static uint64_t address_deadline(const struct transport *t)
{
	uint64_t now = loop_usec(t), left = 1;
	const struct addrinfo *a;

	for (a = t->address->ai_next; a; a = a->ai_next)
		left++;
	return now >= t->connect_deadline ? now : now + (t->connect_deadline - now) / left;
}

static int connect_begin(struct transport *t)
{
	const struct addrinfo *a = t->address;
	int r;

	t->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	if (t->fd < 0)
		return -errno;
	/* A numeric loopback connects at once; all the same it is the loop that says so. */
	if (connect(t->fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS)
		return -errno;
	t->io_events = EPOLLOUT;
	r = sd_event_add_io(t->loop, &t->io, t->fd, EPOLLOUT, on_io, t);
	if (r < 0)
		return r;
	return set_deadline(t, address_deadline(t));
}

static void connect_next(struct transport *t)
{
	int r;

	if (!t->address) {
		lose(t, t->answered ? TRANSPORT_FAILURE_NETWORK : TRANSPORT_FAILURE_REFUSED,
		     "cannot connect to '%s': %s", t->host, t->refusals);
		return;
	}
	r = connect_begin(t);
	if (r < 0)
		connect_failed(t, -r);
}

static void addresses_known(struct transport *t, struct addrinfo *list)
{
	unsigned skip = t->first_address;

	t->addresses = t->address = list;
	for (; skip > 0 && t->address->ai_next; skip--)
		t->address = t->address->ai_next;
	t->state = TRANSPORT_CONNECTING;
	t->connect_deadline = loop_usec(t) + t->timeout_us;
	connect_next(t);
}

static void on_resolved(struct addrinfo *list, int error, void *userdata)
{
	struct transport *t = userdata;

	resolve_free(TAKE_PTR(t->resolve));
	if (list)
		addresses_known(t, list);
	else
		lose(t, TRANSPORT_FAILURE_NETWORK, "cannot resolve '%s': %s", t->host,
		     gai_strerror(error));
	t->changed(t, t->userdata);
}

static int socket_error(int fd)
{
	socklen_t size = sizeof(int);
	int error = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? errno : error;
}

static void on_connect_result(struct transport *t)
{
	int error = socket_error(t->fd);

	if (error)
		connect_failed(t, error);
	else
		connected(t);
}

/* --- the loop's callbacks; each ends with `changed`, which may free t */

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct transport *t = userdata;

	t->drained = false;
	switch (t->state) {
	case TRANSPORT_CONNECTING:
		on_connect_result(t);
		break;
	case TRANSPORT_HANDSHAKING:
		shake_hands(t);
		break;
	case TRANSPORT_ESTABLISHED:
		if (revents & EPOLLOUT)
			set_io_events(t, EPOLLIN);
		if (t->not_reading && revents & (EPOLLERR | EPOLLHUP))
			lose_by_errno(t, socket_error(t->fd));
		break;
	default:
		break;
	}
	t->changed(t, t->userdata);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct transport *t = userdata;

	switch (t->state) {
	case TRANSPORT_RESOLVING:
		lose(t, TRANSPORT_FAILURE_NETWORK,
		     "cannot resolve '%s': no answer from the name service", t->host);
		break;
	case TRANSPORT_CONNECTING:
		connect_failed(t, ETIMEDOUT);
		break;
	case TRANSPORT_HANDSHAKING:
		lose(t, TRANSPORT_FAILURE_NETWORK,
		     "%s: the TLS handshake was not done within %llu s", t->peer,
		     (unsigned long long)(t->timeout_us / USEC_PER_SEC));
		break;
	default:
		return 0;
	}
	t->changed(t, t->userdata);
	return 0;
}

static int on_kick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct transport *t = userdata;

	if (t->state == TRANSPORT_RESOLVING && t->addresses)
		addresses_known(t, t->addresses);
	t->changed(t, t->userdata);
	return 0;
}

/* --- opening and closing */

static int resolve_begin(struct transport *t)
{
	int r;

	r = resolve_numeric(t->host, t->port, &t->addresses);
	if (r == 0) {
		kick(t);
		return 0;
	}
	r = resolve_start(t->loop, t->host, t->port, on_resolved, t, &t->resolve);
	if (r < 0 &&
	    r != -EBUSY) /* too many earlier questions without an answer: there will be none to this one either */
		return r;
	return set_deadline(t, loop_usec(t) + t->timeout_us);
}

static int transport_init(struct transport *t, const struct broker *broker,
			  const struct config_tls *tls)
{
	size_t n;
	int r;

	t->host = strdup(broker->host);
	t->name = strdup(tls && tls->server_name ? tls->server_name : broker->host);
	if (!t->host || !t->name)
		return -ENOMEM;
	n = strlen(t->name);
	if (n > 1 &&
	    t->name[n - 1] ==
		    '.') /* of a fully qualified name, which certificates write without it */
		t->name[n - 1] = '\0';
	(void)snprintf(t->peer, sizeof(t->peer), "%s (port %u)", t->host, t->port);
	r = sd_event_add_time(t->loop, &t->timer, CLOCK_MONOTONIC, 0, 0, on_timer, t);
	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(t->timer, SD_EVENT_OFF);
	if (r < 0)
		return r;
	r = loop_add_turn(t->loop, &t->kick, on_kick, t);
	if (r < 0)
		return r;
	return resolve_begin(t);
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
	t->port = broker->port;
	t->tls = broker->tls;
	t->credentials = broker->tls ? credentials_ref(credentials) : NULL;
	t->timeout_us = timeout_s * USEC_PER_SEC;
	t->first_address = first_address;
	t->quick_ack = true;
	r = transport_init(t, broker, tls);
	if (r < 0) {
		transport_close(t);
		return r;
	}
	*ret_transport = t;
	return 0;
}

/* Bytes that lie unread when a socket is closed turn the FIN into a reset, which may destroy
   what we sent last. */
static void close_socket(struct transport *t)
{
	size_t drained = 0;
	ssize_t n;

	if (t->fd < 0)
		return;
	if (t->state == TRANSPORT_ESTABLISHED) {
		(void)shutdown(t->fd, SHUT_WR);
		do {
			n = recv(t->fd, t->pull, sizeof(t->pull), MSG_DONTWAIT);
			drained += n > 0 ? (size_t)n : 0;
		} while (n > 0 && drained < DRAIN_MAX);
	}
	(void)close(t->fd);
	t->fd = -1;
}

void transport_close(struct transport *t)
{
	if (!t)
		return;
	quiet(t);
	if (t->session && t->state == TRANSPORT_ESTABLISHED && !t->send_error)
		(void)gnutls_bye(t->session, GNUTLS_SHUT_WR);
	close_socket(t);
	if (t->session)
		gnutls_deinit(t->session);
	if (t->addresses)
		freeaddrinfo(t->addresses);
	credentials_unref(t->credentials);
	explicit_bzero(t->pull, sizeof(t->pull));
	free(t->host);
	free(t->name);
	sd_event_unref(t->loop);
	free(t);
}

/* --- carrying bytes */

static ssize_t tls_read(struct transport *t, void *buf, size_t size)
{
	ssize_t n;
	int i;

	for (i = 0; i < READ_ROUNDS; i++) {
		errno = 0;
		n = gnutls_record_recv(t->session, buf, size);
		if (n > 0) {
			t->quick_ack = false;
			return n;
		}
		switch (n) {
		case 0:
			lose(t, TRANSPORT_FAILURE_CLOSED,
			     "%s: the broker has closed the connection", t->peer);
			return -ECONNRESET;
		case GNUTLS_E_AGAIN:
			/* Whatever is still buffered is worth another try; what is in the socket
			   wakes the loop. */
			if (t->pull_begin == t->pull_end)
				return -EAGAIN;
			break;
		case GNUTLS_E_INTERRUPTED:
		case GNUTLS_E_WARNING_ALERT_RECEIVED:
			break;
		case GNUTLS_E_REHANDSHAKE: /* TLS 1.2; a new handshake could bring a new peer */
			(void)gnutls_alert_send(t->session, GNUTLS_AL_WARNING,
						GNUTLS_A_NO_RENEGOTIATION);
			break;
		default:
			lose_by_tls(t, (int)n);
			return -ECONNRESET;
		}
	}
	kick(t);
	return -EAGAIN;
}

static ssize_t plain_read(struct transport *t, void *buf, size_t size)
{
	ssize_t n;

	n = recv(t->fd, buf, size, MSG_DONTWAIT);
	if (n > 0)
		return n;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n == 0)
		lose(t, TRANSPORT_FAILURE_CLOSED, "%s: the broker has closed the connection",
		     t->peer);
	else
		lose_by_errno(t, errno);
	return -ECONNRESET;
}

void transport_set_reading(struct transport *t, bool reading)
{
	t->not_reading = !reading;
	if (t->state == TRANSPORT_ESTABLISHED)
		set_io_events(t, EPOLLIN | (t->io_events & EPOLLOUT));
}

ssize_t transport_read(struct transport *t, void *buf, size_t size)
{
	if (t->state == TRANSPORT_LOST)
		return -ECONNRESET;
	if (t->state != TRANSPORT_ESTABLISHED)
		return -EAGAIN;
	return t->tls ? tls_read(t, buf, size) : plain_read(t, buf, size);
}

/* One record, or what is left of one. */
static ssize_t tls_write(struct transport *t, const char *buf, size_t size)
{
	ssize_t n;

	/* GnuTLS has encrypted the bytes of a send that said "again"; it wants to be asked for
	   the same ones. */
	if (t->pending)
		size = t->pending;
	t->pending = size;
	do {
		errno = 0;
		n = gnutls_record_send(t->session, buf, size);
	} while (n == GNUTLS_E_INTERRUPTED);
	if (n == GNUTLS_E_AGAIN)
		return -EAGAIN;
	t->pending = 0;
	if (n < 0) {
		lose_by_tls(t, (int)n);
		return -ECONNRESET;
	}
	return n;
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
		n = t->tls ? tls_write(t, (const char *)buf + done, size - done)
			   : plain_write(t, (const char *)buf + done, size - done);
		if (n < 0)
			break;
		done += (size_t)n;
	}
	if (n == -EAGAIN && !t->send_error)
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
	return t->failure;
}

const char *transport_error(const struct transport *t)
{
	return t->error;
}

const char *transport_peer(const struct transport *t)
{
	return t->peer;
}

unsigned transport_next_address(const struct transport *t)
{
	const struct addrinfo *a = t->addresses;
	unsigned index = 1;

	if (!t->address || !t->address->ai_next)
		return 0;
	for (; a != t->address; a = a->ai_next)
		index++;
	return index;
}

const char *transport_protocol(const struct transport *t)
{
	return t->protocol;
}

struct validity transport_peer_validity(const struct transport *t)
{
	struct validity v = {0};
	gnutls_x509_crt_t certificate;
	const gnutls_datum_t *chain;
	unsigned n = 0;

	chain = t->session ? gnutls_certificate_get_peers(t->session, &n) : NULL;
	if (!chain || n == 0 || gnutls_x509_crt_init(&certificate) < 0)
		return v;
	if (gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) >= 0)
		v = certificate_validity(certificate);
	gnutls_x509_crt_deinit(certificate);
	return v;
}
