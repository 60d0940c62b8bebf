/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * consumer-probe - a consumer that stores what arrives, for the tests of client.h's hold. Not
 * installed.
 *
 *   consumer-probe [OPTION...] CONFIG STORE FILTER...
 *
 * STORE is a file, or a database's URL if it begins so: then each payload is a row of the table `raw`, and no more is done
 * with it (what scripts/bench compares the recorder with).
 *
 *   --no-hold     acknowledge each message as it arrives, as a control
 *   --batch N     append messages to STORE, one a line, once N have arrived [100],
 *   --delay MS    or this long after the first of a batch [50]
 *   --max N       hold at most N messages [4000]
 *   --receive N   receive maximum [1000]
 *
 * The session is kept at exit. SIGUSR1: the store takes nothing; SIGUSR2: it does again. Prints
 * connected | subscribed CODE FILTER | stored N | held N | lost CODE TEXT.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>

#include "spooler/base/util.h"
#include "spooler/mqtt/client.h"
#ifdef WITH_RECORDER
#include "spooler/recorder/db.h"
#endif

#define LINE_MAX_SIZE 4096

static unsigned arg_batch = 100, arg_max = 4000, arg_receive = 1000;
static uint64_t arg_delay_ms = 50;
static bool arg_no_hold;
static const char *const *arg_filters;
static size_t arg_n_filters;

struct consumer {
	sd_event *loop;
	struct config *config;
	struct credentials *credentials;
	struct client *client;
	sd_event_source *flush, *reconnect;
	char *batch; /* lines that are in memory only */
	size_t batch_size, batch_n;
	uint64_t last, stored;
	bool stuck;
	int fd;
	struct db *db; /* NULL: a file */
};

#ifdef WITH_RECORDER
static bool is_database(const char *store)
{
	return strstr(store, "://") != NULL;
}

static int open_database(const char *url, struct db **ret_db)
{
	_cleanup_free_ char *error = NULL;
	int r = db_open(url, 0, ret_db, &error);

	if (r >= 0)
		r = db_execute(*ret_db, "CREATE TABLE raw (payload TEXT)");
	if (error)
		fprintf(stderr, "%s\n", error);
	return r;
}

static int write_rows(struct consumer *x)
{
	static const struct db_statement insert = {"{copy: raw (payload)}", "t"};
	_cleanup_(free_memory) struct db_value *rows = calloc(x->batch_n, sizeof(*rows));
	char *line = x->batch, *end;
	size_t n = 0;
	int r;

	if (!rows)
		return -ENOMEM;
	for (; n < x->batch_n && (end = memchr(line, '\n', LINE_MAX_SIZE)); line = end + 1)
		rows[n++] = db_text_n(line, (size_t)(end - line));
	r = db_begin(x->db);
	if (r >= 0)
		r = db_run(x->db, &insert, rows, n, NULL, NULL);
	return r < 0 ? r : db_commit(x->db);
}

static void close_database(struct db *db)
{
	db_close(db);
}
#else
static bool is_database(const char *store)
{
	return false;
}

static int open_database(const char *url, struct db **ret_db)
{
	return -EPROTONOSUPPORT;
}

static int write_rows(struct consumer *x)
{
	return -EPROTONOSUPPORT;
}

static void close_database(struct db *db)
{
}
#endif

static int store_batch(struct consumer *x)
{
	if (x->db)
		return write_rows(x);
	return write(x->fd, x->batch, x->batch_size) == (ssize_t)x->batch_size ? 0 : -EIO;
}

/* "Commits": what is in the file survives a SIGKILL. */
static int on_flush(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct consumer *x = userdata;

	if (x->stuck) {
		printf("held %zu\n", client_held(x->client));
		return 0;
	}
	if (x->batch_n == 0)
		return 0;
	if (store_batch(x) < 0)
		return sd_event_exit(x->loop, 1);
	x->stored += x->batch_n;
	printf("stored %llu\n", (unsigned long long)x->stored);
	x->batch_size = x->batch_n = 0;
	if (x->client)
		client_commit(x->client, x->last);
	return 0;
}

static void on_message(struct client *c, const struct client_message *m, void *userdata)
{
	struct consumer *x = userdata;
	size_t n = m->size < LINE_MAX_SIZE - 1 ? m->size : LINE_MAX_SIZE - 1;

	x->batch = realloc(x->batch, x->batch_size + LINE_MAX_SIZE);
	if (!x->batch)
		abort();
	memcpy(x->batch + x->batch_size, m->payload, n);
	x->batch[x->batch_size + n] = '\n';
	x->batch_size += n + 1;
	if (m->number)
		x->last = m->number;
	if (++x->batch_n == 1)
		(void)sd_event_source_set_time_relative(x->flush, arg_delay_ms * 1000);
	if (x->batch_n == 1 || x->batch_n % arg_batch == 0) {
		if (x->batch_n >= arg_batch)
			(void)sd_event_source_set_time_relative(x->flush, 0);
		(void)sd_event_source_set_enabled(x->flush, SD_EVENT_ONESHOT);
	}
}

static void on_connected(struct client *c, void *userdata)
{
	printf("connected\n");
	(void)client_subscribe(c, arg_filters, arg_n_filters);
}

static void on_subscribed(struct client *c, const char *filter, unsigned code, void *userdata)
{
	printf("subscribed %u %s\n", code, filter);
}

static void on_lost(struct client *c, enum client_loss loss, unsigned code, const char *text,
		    void *userdata)
{
	struct consumer *x = userdata;

	printf("lost %u %s\n", code, text);
	client_close(TAKE_PTR(x->client));
	(void)sd_event_source_set_time_relative(x->reconnect, 100 * 1000);
	(void)sd_event_source_set_enabled(x->reconnect, SD_EVENT_ONESHOT);
}

static int on_reconnect(sd_event_source *s, uint64_t usec, void *userdata)
{
	static const struct client_handlers handlers = {
		.connected = on_connected,
		.subscribed = on_subscribed,
		.message = on_message,
		.lost = on_lost,
	};
	struct consumer *x = userdata;
	const struct client_options o = {
		.config = x->config,
		.broker = &x->config->brokers[0],
		.credentials = x->credentials,
		.session_expiry_s = 3600,
		.resume = true,
		.keep_session = true,
		.hold = !arg_no_hold,
		.hold_messages = arg_max,
		.receive_max = (uint16_t)arg_receive,
	};

	if (client_open(x->loop, &o, &handlers, x, &x->client) < 0)
		return sd_event_exit(x->loop, 1);
	return 0;
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct consumer *x = userdata;

	x->stuck = si->ssi_signo == SIGUSR1;
	return on_flush(NULL, 0, x);
}

static int begin(struct consumer *x)
{
	sigset_t mask;
	int r;

	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGTERM);
	(void)sigaddset(&mask, SIGUSR1);
	(void)sigaddset(&mask, SIGUSR2);
	(void)sigprocmask(SIG_BLOCK, &mask, NULL);
	r = sd_event_new(&x->loop);
	if (r >= 0)
		r = sd_event_add_signal(x->loop, NULL, SIGTERM, NULL, NULL);
	if (r >= 0)
		r = sd_event_add_signal(x->loop, NULL, SIGUSR1, on_signal, x);
	if (r >= 0)
		r = sd_event_add_signal(x->loop, NULL, SIGUSR2, on_signal, x);
	if (r >= 0)
		r = sd_event_add_time_relative(x->loop, &x->flush, CLOCK_MONOTONIC, 0, 1, on_flush,
					       x);
	if (r >= 0)
		r = sd_event_add_time_relative(x->loop, &x->reconnect, CLOCK_MONOTONIC, 0, 1,
					       on_reconnect, x);
	return r;
}

static int parse_arguments(int argc, char **argv)
{
	static const struct option options[] = {
		{"no-hold", no_argument, NULL, 'h'},	   {"batch", required_argument, NULL, 'b'},
		{"delay", required_argument, NULL, 'd'},   {"max", required_argument, NULL, 'm'},
		{"receive", required_argument, NULL, 'r'}, {0},
	};
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		unsigned value = optarg ? (unsigned)strtoul(optarg, NULL, 10) : 0;

		if (o == 'h')
			arg_no_hold = true;
		else if (o == 'b')
			arg_batch = value;
		else if (o == 'd')
			arg_delay_ms = value;
		else if (o == 'm')
			arg_max = value;
		else if (o == 'r')
			arg_receive = value;
		else
			return -EINVAL;
	}
	return argc - optind >= 3 ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	_cleanup_free_ char *error = NULL;
	struct consumer x = {.fd = -1};
	int r;

	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (parse_arguments(argc, argv) < 0) {
		fprintf(stderr, "usage: consumer-probe [OPTION...] CONFIG STORE FILTER...\n");
		return 2;
	}
	arg_filters = (const char *const *)argv + optind + 2;
	arg_n_filters = (size_t)(argc - optind - 2);
	if (is_database(argv[optind + 1]))
		r = open_database(argv[optind + 1], &x.db);
	else
		r = x.fd = open(argv[optind + 1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (r < 0 || config_load(argv[optind], stderr, &x.config) < 0 ||
	    credentials_load(&x.config->tls, &x.credentials, &error) < 0) {
		fprintf(stderr, "cannot begin: %s\n", error ? error : strerror(errno));
		return 2;
	}
	r = begin(&x);
	if (r >= 0)
		r = sd_event_loop(x.loop);
	client_close(x.client);
	credentials_unref(x.credentials);
	config_free(x.config);
	free(x.batch);
	close_fdp(&x.fd);
	close_database(x.db);
	sd_event_source_disable_unref(x.flush);
	sd_event_source_disable_unref(x.reconnect);
	sd_event_unref(x.loop);
	return r < 0 ? 2 : r;
}
