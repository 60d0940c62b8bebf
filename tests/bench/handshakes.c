/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * handshakes - the limit of a connect storm: connects to a broker over TLS as fast as it can be
 * done, sends an MQTT CONNECT, awaits its CONNACK, and closes.
 *
 *   handshakes COUNT AT-A-TIME PORT CERTIFICATES VERSION     the MQTT version: 5 or 3.1.1
 *
 * Prints the seconds that COUNT connections took.
 */
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static gnutls_certificate_credentials_t credentials;
static unsigned long count, next;
static unsigned port;

/* A CONNECT with a clean start and no client id (MQTT 5 3.1; 3.1.1 has no properties). */
static const unsigned char hello_5[] = {0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 0};
static const unsigned char hello_311[] = {0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 0};
static const unsigned char *hello = hello_5;
static size_t hello_size = sizeof(hello_5);

static int one(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((unsigned short)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), k;
	gnutls_session_t session;
	unsigned char answer[4];

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -1;
	gnutls_init(&session, GNUTLS_CLIENT);
	gnutls_set_default_priority(session);
	gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
	gnutls_session_set_verify_cert(session, "localhost", 0);
	gnutls_transport_set_int(session, fd);
	do
		k = gnutls_handshake(session);
	while (k < 0 && !gnutls_error_is_fatal(k));
	if (k >= 0)
		k = gnutls_record_send(session, hello, hello_size) == (ssize_t)hello_size ? 0 : -1;
	while (k >= 0) { /* a session ticket may come before */
		k = (int)gnutls_record_recv(session, answer, sizeof(answer));
		if (k > 0 || gnutls_error_is_fatal(k))
			break;
		k = 0;
	}
	if (k > 0 && answer[0] != 0x20)
		k = -1;
	gnutls_deinit(session);
	close(fd);
	return k > 0 ? 0 : -1;
}

static void *run(void *unused)
{
	(void)unused;
	while (__atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) < count)
		if (one() < 0) {
			fputs("handshakes: a connection failed\n", stderr);
			exit(1);
		}
	return NULL;
}

int main(int argc, char **argv)
{
	char ca[4096], certificate[4096], key[4096];
	struct timespec begin, end;
	pthread_t threads[64];
	unsigned n;

	if (argc != 6) {
		fputs("usage: handshakes COUNT AT-A-TIME PORT CERTIFICATES VERSION\n", stderr);
		return 2;
	}
	if (strcmp(argv[5], "3.1.1") == 0) {
		hello = hello_311;
		hello_size = sizeof(hello_311);
	}
	count = strtoul(argv[1], NULL, 10);
	n = (unsigned)strtoul(argv[2], NULL, 10);
	port = (unsigned)strtoul(argv[3], NULL, 10);
	n = n > 64 ? 64 : n;
	snprintf(ca, sizeof(ca), "%s/ca.pem", argv[4]);
	snprintf(certificate, sizeof(certificate), "%s/host.pem", argv[4]);
	snprintf(key, sizeof(key), "%s/host.key", argv[4]);
	gnutls_certificate_allocate_credentials(&credentials);
	if (gnutls_certificate_set_x509_trust_file(credentials, ca, GNUTLS_X509_FMT_PEM) < 1 ||
	    gnutls_certificate_set_x509_key_file(credentials, certificate, key,
						 GNUTLS_X509_FMT_PEM) < 0) {
		fputs("handshakes: the certificates cannot be read\n", stderr);
		return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (unsigned i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, run, NULL);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.3f\n",
	       (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	return 0;
}
