/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tls - see tls.h.
 *
 * Reading is buffered below GnuTLS, which spares a third of the system calls. GnuTLS may then say
 * "again" with whole records in the buffer (after a session ticket). Hence the loop in tls_read():
 * only an empty buffer is "again".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "spooler/base/util.h"
#include "spooler/mqtt/credentials-internal.h"
#include "spooler/mqtt/tls.h"
#include "spooler/mqtt/verify.h"

#define PULL_BUFFER (32 * 1024) /* two records */
/* Records without application data in one read, before others get their turn. */
#define READ_ROUNDS 64

struct tls {
	int fd;
	struct credentials *credentials;
	const char *name, *peer;
	struct transport_loss *loss;

	gnutls_session_t session;
	bool established, verified;
	bool lacks_certificate;
	char verify_error[424];
	struct validity peer_validity;
	char authorities[300]; /* of our certificate, if the server accepts others */
	bool quick_ack;	       /* until the first application data */
	int send_error;	       /* errno of a send that failed; from then on there is only reading */
	size_t pending;	       /* size of a record that GnuTLS holds, half sent */
	bool drained;	       /* the socket was found empty and has not said otherwise since */
	size_t pull_begin, pull_end;
	char pull[PULL_BUFFER];
};

/* --- GnuTLS below: pull and push */

static ssize_t tls_pull(gnutls_transport_ptr_t userdata, void *data, size_t size)
{
	struct tls *s = userdata;
	size_t have = s->pull_end - s->pull_begin;
	ssize_t n;

	if (have == 0) {
		if (s->drained) {
			gnutls_transport_set_errno(s->session, EAGAIN);
			return -1;
		}
		n = recv(s->fd, s->pull, sizeof(s->pull), MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EAGAIN)
				s->drained = true;
			gnutls_transport_set_errno(s->session, errno);
			return -1;
		}
		if (n == 0)
			return 0;
		/* A short read has emptied the socket; what comes later wakes the loop. */
		s->drained = (size_t)n < sizeof(s->pull);
		/* A broker with Nagle's algorithm holds its CONNACK after the session tickets
		   until they are acknowledged, 40 ms by default. */
		if (s->quick_ack)
			(void)setsockopt(s->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){1}, sizeof(int));
		s->pull_begin = 0;
		s->pull_end = have = (size_t)n;
	}
	if (size > have)
		size = have;
	memcpy(data, s->pull + s->pull_begin, size);
	s->pull_begin += size;
	return (ssize_t)size;
}

static ssize_t tls_push(gnutls_transport_ptr_t userdata, const giovec_t *iov, int n_iov)
{
	struct tls *s = userdata;
	struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n_iov};
	ssize_t n;

	if (s->send_error) {
		gnutls_transport_set_errno(s->session, EAGAIN);
		return -1;
	}
	n = sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n >= 0)
		return n;
	if (errno != EAGAIN && errno != EINTR && s->established) {
		/* GnuTLS need not know; it shall go on to read. */
		s->send_error = errno;
		errno = EAGAIN;
	}
	gnutls_transport_set_errno(s->session, errno);
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

static void lose_by_alert(struct tls *s, const char *when)
{
	gnutls_alert_description_t alert = gnutls_alert_get(s->session);
	const char *name = gnutls_alert_get_name(alert);

	/* Java's goodbye in TLS 1.3, ahead of its close_notify. */
	if (alert == GNUTLS_A_USER_CANCELED)
		transport_loss_set(s->loss, TRANSPORT_FAILURE_CLOSED,
				   "%s: the broker has closed the connection%s", s->peer, when);
	else
		transport_loss_set(s->loss, TRANSPORT_FAILURE_TLS,
				   "%s: the broker refuses%s (TLS alert %d, '%s')%s%s", s->peer,
				   when, (int)alert, name ? name : "unknown", alert_advice(alert),
				   s->authorities);
}

static void lose_by_tls(struct tls *s, int code)
{
	const char *when = s->established ? "" : " during the TLS handshake";

	switch (code) {
	case GNUTLS_E_CERTIFICATE_ERROR:
	case GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR:
		transport_loss_set(s->loss, TRANSPORT_FAILURE_VERIFICATION, "%s: %s", s->peer,
				   s->verify_error[0] ? s->verify_error
						      : "its certificate is refused");
		return;
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		lose_by_alert(s, when);
		return;
	case GNUTLS_E_PREMATURE_TERMINATION:
		transport_loss_set(s->loss, TRANSPORT_FAILURE_NETWORK,
				   "%s: the connection was cut%s, without TLS's close_notify",
				   s->peer, when);
		return;
	case GNUTLS_E_PULL_ERROR:
	case GNUTLS_E_PUSH_ERROR:
		transport_loss_set_errno(s->loss, s->peer, when,
					 s->send_error ? s->send_error : errno);
		return;
	case GNUTLS_E_UNEXPECTED_PACKET_LENGTH:
	case GNUTLS_E_UNEXPECTED_PACKET:
	case GNUTLS_E_RECORD_OVERFLOW:
		if (!s->established) {
			transport_loss_set(
				s->loss, TRANSPORT_FAILURE_TLS,
				"%s: the peer does not answer with TLS; is this its plain port?",
				s->peer);
			return;
		}
		break;
	case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
		transport_loss_set(
			s->loss, TRANSPORT_FAILURE_TLS,
			"%s: the broker wants a TLS version that is not allowed here, or does not "
			"speak TLS (tls.minimum_version)",
			s->peer);
		return;
	case GNUTLS_E_DECRYPTION_FAILED:
		if (!s->established && s->credentials->psk) {
			transport_loss_set(s->loss, TRANSPORT_FAILURE_VERIFICATION,
					   "%s: the broker does not have our pre-shared key",
					   s->peer);
			return;
		}
		break;
	default:
		break;
	}
	transport_loss_set(s->loss, TRANSPORT_FAILURE_TLS, "%s: TLS failed%s: %s", s->peer, when,
			   gnutls_strerror(code));
}

/* --- handshake */

static int on_certificate(gnutls_session_t session)
{
	struct tls *s = gnutls_session_get_ptr(session);

	if (verify_server(session, s->credentials, s->name, s->verify_error,
			  sizeof(s->verify_error)) < 0)
		return GNUTLS_E_CERTIFICATE_ERROR;
	s->verified = true;
	verify_describe(session, s->credentials, &s->peer_validity, &s->credentials->authority);
	return 0;
}

/* Our certificate is sent also if the server does not list its issuer: GnuTLS would send none then,
   and a server may accept more than it lists. */
static int on_certificate_request(gnutls_session_t session, const gnutls_datum_t *accepted,
				  int n_accepted, const gnutls_pk_algorithm_t *algorithms,
				  int n_algorithms, gnutls_pcert_st **ret_certificates,
				  unsigned *ret_n, gnutls_privkey_t *ret_key)
{
	struct tls *s = gnutls_session_get_ptr(session);

	s->lacks_certificate = !s->credentials->own_key;
	if (s->lacks_certificate) {
		*ret_n = 0;
		return 0;
	}
	credentials_compare_authorities(s->credentials, accepted, n_accepted, s->authorities,
					sizeof(s->authorities));
	*ret_certificates = s->credentials->own;
	*ret_n = s->credentials->n_own;
	*ret_key = s->credentials->own_key;
	return 0;
}

static bool is_address(const char *name)
{
	struct in6_addr a;

	return inet_pton(AF_INET, name, &a) == 1 || inet_pton(AF_INET6, name, &a) == 1;
}

static int session_start(struct tls *s)
{
	struct credentials *c = s->credentials;
	int r;

	r = gnutls_init(&s->session,
			GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS);
	if (r < 0)
		return r;
	gnutls_session_set_ptr(s->session, s);
	r = gnutls_priority_set(s->session, c->priority);
	if (r < 0)
		return r;
	if (c->psk)
		r = gnutls_credentials_set(s->session, GNUTLS_CRD_PSK, c->psk);
	else
		r = gnutls_credentials_set(s->session, GNUTLS_CRD_CERTIFICATE, c->certificates);
	if (r < 0)
		return r;
	gnutls_session_set_verify_function(s->session, on_certificate);
	if (c->certificates && !c->from_token)
		gnutls_certificate_set_retrieve_function2(c->certificates, on_certificate_request);
	if (!is_address(s->name)) {
		r = gnutls_server_name_set(s->session, GNUTLS_NAME_DNS, s->name, strlen(s->name));
		if (r < 0)
			return r;
	}
	if (c->alpn) {
		const gnutls_datum_t alpn = {.data = (unsigned char *)c->alpn,
					     .size = (unsigned)strlen(c->alpn)};

		r = gnutls_alpn_set_protocols(s->session, &alpn, 1, 0);
		if (r < 0)
			return r;
	}
	gnutls_handshake_set_timeout(s->session, GNUTLS_INDEFINITE_TIMEOUT); /* ours is the timer */
	gnutls_transport_set_ptr(s->session, s);
	gnutls_transport_set_pull_function(s->session, tls_pull);
	gnutls_transport_set_vec_push_function(s->session, tls_push);
	return 0;
}

/* The result of the verification is checked once more where bytes begin to flow. */
static bool session_is_trusted(struct tls *s)
{
	gnutls_credentials_type_t type = gnutls_auth_server_get_type(s->session);
	bool authentic;

	if (gnutls_session_is_resumed(s->session)) {
		transport_loss_set(s->loss, TRANSPORT_FAILURE_VERIFICATION,
				   "%s: the broker resumed a session that was not offered",
				   s->peer);
		return false;
	}
	if (gnutls_protocol_get_version(s->session) < s->credentials->minimum_version) {
		transport_loss_set(
			s->loss, TRANSPORT_FAILURE_TLS,
			"%s: the broker speaks only %s (tls.minimum_version)", s->peer,
			gnutls_protocol_get_name(gnutls_protocol_get_version(s->session)));
		return false;
	}
	authentic = s->credentials->psk ? type == GNUTLS_CRD_PSK
					: type == GNUTLS_CRD_CERTIFICATE && s->verified;
	if (!authentic)
		transport_loss_set(s->loss, TRANSPORT_FAILURE_VERIFICATION,
				   "%s: the broker has not authenticated itself", s->peer);
	return authentic;
}

int tls_handshake(struct tls *s)
{
	int r;

	do {
		errno = 0;
		r = gnutls_handshake(s->session);
	} while (r == GNUTLS_E_INTERRUPTED || r == GNUTLS_E_WARNING_ALERT_RECEIVED ||
		 r == GNUTLS_E_GOT_APPLICATION_DATA);
	if (r == GNUTLS_E_AGAIN)
		return -EAGAIN;
	if (r < 0) {
		lose_by_tls(s, r);
		/* Tell the broker why, as far as the socket takes it. */
		(void)gnutls_alert_send_appropriate(s->session, r);
		return -ECONNRESET;
	}
	if (!session_is_trusted(s))
		return -ECONNRESET;
	s->established = true;
	return 0;
}

bool tls_wants_write(const struct tls *s)
{
	return gnutls_record_get_direction(s->session);
}

void tls_wake(struct tls *s)
{
	s->drained = false;
}

int tls_new(int fd, struct credentials *c, const char *name, const char *peer,
	    struct transport_loss *loss, struct tls **ret_tls)
{
	struct tls *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		transport_loss_set_errno(loss, peer, "", ENOMEM);
		return -ENOMEM;
	}
	s->fd = fd;
	s->credentials = c;
	s->name = name;
	s->peer = peer;
	s->loss = loss;
	s->quick_ack = true;
	r = session_start(s);
	if (r < 0) {
		transport_loss_set(loss, TRANSPORT_FAILURE_TLS, "%s: cannot begin TLS: %s", peer,
				   gnutls_strerror(r));
		tls_free(s);
		return -EIO;
	}
	*ret_tls = s;
	return 0;
}

void tls_bye(struct tls *s)
{
	if (!s->send_error)
		(void)gnutls_bye(s->session, GNUTLS_SHUT_WR);
}

void tls_free(struct tls *s)
{
	if (!s)
		return;
	if (s->session)
		gnutls_deinit(s->session);
	explicit_bzero(s->pull, sizeof(s->pull));
	free(s);
}

/* --- carrying bytes */

ssize_t tls_read(struct tls *s, void *buf, size_t size)
{
	ssize_t n;
	int i;

	for (i = 0; i < READ_ROUNDS; i++) {
		errno = 0;
		n = gnutls_record_recv(s->session, buf, size);
		if (n > 0) {
			s->quick_ack = false;
			return n;
		}
		switch (n) {
		case 0:
			transport_loss_set(s->loss, TRANSPORT_FAILURE_CLOSED,
					   "%s: the broker has closed the connection", s->peer);
			return -ECONNRESET;
		case GNUTLS_E_AGAIN:
			/* Buffered bytes are worth another try; bytes in the socket wake the
			   loop. */
			if (s->pull_begin == s->pull_end)
				return -EAGAIN;
			break;
		case GNUTLS_E_INTERRUPTED:
		case GNUTLS_E_WARNING_ALERT_RECEIVED:
			break;
		case GNUTLS_E_REHANDSHAKE: /* TLS 1.2; a new handshake could bring a new peer */
			(void)gnutls_alert_send(s->session, GNUTLS_AL_WARNING,
						GNUTLS_A_NO_RENEGOTIATION);
			break;
		default:
			lose_by_tls(s, (int)n);
			return -ECONNRESET;
		}
	}
	return -EINTR;
}

/* One record, or what is left of one. */
ssize_t tls_write(struct tls *s, const void *buf, size_t size)
{
	ssize_t n;

	/* GnuTLS has encrypted the bytes of a send that said "again"; it wants to be asked for
	   the same ones. */
	if (s->pending)
		size = s->pending;
	s->pending = size;
	do {
		errno = 0;
		n = gnutls_record_send(s->session, buf, size);
	} while (n == GNUTLS_E_INTERRUPTED);
	if (n == GNUTLS_E_AGAIN)
		return -EAGAIN;
	s->pending = 0;
	if (n < 0) {
		lose_by_tls(s, (int)n);
		return -ECONNRESET;
	}
	return n;
}

bool tls_send_failed(const struct tls *s)
{
	return s->send_error;
}

/* --- what it is */

void tls_describe(const struct tls *s, char *buf, size_t size)
{
	(void)snprintf(buf, size, "%s (%s%s)",
		       gnutls_protocol_get_name(gnutls_protocol_get_version(s->session)),
		       s->credentials->psk ? "PSK, " : "",
		       gnutls_cipher_get_name(gnutls_cipher_get(s->session)));
}

bool tls_lacks_certificate(const struct tls *s)
{
	return s->lacks_certificate;
}

struct validity tls_peer_validity(const struct tls *s)
{
	return s->peer_validity;
}
