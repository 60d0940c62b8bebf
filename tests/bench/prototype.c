/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * prototype - the least drainer: reads the files of a directory, publishes their bytes as they are
 * with QoS 1 through libmosquitto's own TLS, and unlinks each on its PUBACK. No order, no checks,
 * no reconnect.
 *
 *   prototype DIRECTORY PORT CERTS WINDOW             drains the directory, ends when it is empty
 *   prototype -m COUNT SIZE PORT CERTS WINDOW         publishes COUNT times SIZE bytes from memory:
 *   the broker's limit prototype -l DIRECTORY PORT CERTS WINDOW          live: waits for files with
 *   inotify, until it is killed
 */
#include <dirent.h>
#include <fcntl.h>
#include <mosquitto.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

static char names[65536][64]; /* by message id */
static int in_flight, from_memory;
static long acknowledged;

static void on_publish(struct mosquitto *m, void *userdata, int mid)
{
	(void)m;
	(void)userdata;
	if (!from_memory)
		unlink(names[mid & 0xffff]);
	in_flight--;
	acknowledged++;
}

static int connected;

static void on_connect(struct mosquitto *m, void *userdata, int rc)
{
	(void)m;
	(void)userdata;
	connected = rc == 0;
}

static void turn(struct mosquitto *m, int timeout)
{
	if (mosquitto_loop(m, timeout, 100) != MOSQ_ERR_SUCCESS)
		exit(1);
}

static struct mosquitto *session(const char *port, const char *certs)
{
	char ca[4096], cert[4096], key[4096];
	struct mosquitto *m;

	mosquitto_lib_init();
	m = mosquitto_new("prototype", true, NULL);
	mosquitto_int_option(m, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
	snprintf(ca, sizeof(ca), "%s/ca.pem", certs);
	snprintf(cert, sizeof(cert), "%s/host.pem", certs);
	snprintf(key, sizeof(key), "%s/host.key", certs);
	mosquitto_tls_set(m, ca, NULL, cert, key, NULL);
	mosquitto_publish_callback_set(m, on_publish);
	mosquitto_connect_callback_set(m, on_connect);
	if (mosquitto_connect(m, "localhost", atoi(port), 60) != MOSQ_ERR_SUCCESS)
		exit(1);
	while (!connected)
		turn(m, 1000);
	return m;
}

static void publish(struct mosquitto *m, const char *name, const char *data, int size, int window)
{
	int mid;

	while (in_flight >= window)
		turn(m, 1000);
	if (mosquitto_publish(m, &mid, "virtspool/v1/host/qemu/uuid/started", size, data, 1,
			      false) != MOSQ_ERR_SUCCESS)
		exit(1);
	if (name)
		snprintf(names[mid & 0xffff], sizeof(names[0]), "%s", name);
	in_flight++;
	while (mosquitto_want_write(m))
		turn(m, 0);
}

static void publish_file(struct mosquitto *m, const char *name, int window)
{
	static char data[1 << 20];
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof(data));

	if (fd >= 0)
		close(fd);
	if (n >= 0)
		publish(m, name, data, (int)n, window);
}

static void drain(struct mosquitto *m, int window)
{
	DIR *d = opendir(".");

	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			publish_file(m, e->d_name, window);
	closedir(d);
	while (in_flight > 0)
		turn(m, 1000);
}

static void live(struct mosquitto *m, int window)
{
	int fd = inotify_init1(IN_CLOEXEC);
	char buffer[65536] __attribute__((aligned(8)));

	inotify_add_watch(fd, ".", IN_MOVED_TO);
	for (;;) {
		struct pollfd p[2] = {{fd, POLLIN, 0}, {mosquitto_socket(m), POLLIN, 0}};

		poll(p, 2, 1000);
		if (p[0].revents) {
			ssize_t n = read(fd, buffer, sizeof(buffer));

			for (char *at = buffer; at < buffer + n;) {
				struct inotify_event *e = (struct inotify_event *)at;

				publish_file(m, e->name, window);
				at += sizeof(*e) + e->len;
			}
		}
		turn(m, 0);
	}
}

int main(int argc, char **argv)
{
	if (argc == 7 && strcmp(argv[1], "-m") == 0) {
		struct mosquitto *m = session(argv[4], argv[5]);
		int size = atoi(argv[3]);
		char *data = calloc(1, (size_t)size);

		from_memory = 1;
		for (long i = atol(argv[2]); i > 0; i--)
			publish(m, NULL, data, size, atoi(argv[6]));
		while (in_flight > 0)
			turn(m, 1000);
		free(data);
	} else if (argc == 5 || (argc == 6 && strcmp(argv[1], "-l") == 0)) {
		char **a = argv + (argc == 6);
		struct mosquitto *m = session(a[2], a[3]);

		if (chdir(a[1]) < 0)
			return 2;
		if (argc == 6)
			live(m, atoi(a[4]));
		drain(m, atoi(a[4]));
	} else {
		return 2;
	}
	printf("%ld\n", acknowledged);
	return 0;
}
