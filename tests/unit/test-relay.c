/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The delivery policy against a client that does what the test says: what each answer does to the
 * event, in which order events go, how lost connections, refusals and poison are told apart. Real
 * queue, real records, real loop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "hook/record.h"
#include "hook/spool.h"
#include "spooler/daemon/delivery.h"
#include "spooler/daemon/denied.h"
#include "spooler/base/backoff.h"
#include "spooler/base/log.h"
#include "spooler/daemon/relay.h"
#include "spooler/base/util.h"
#include "tests/unit/tree.h"

#define PUBLISHED_MAX 512
#define DEADLINE_USEC (5 * USEC_PER_SEC)

/* --- the client that does what the test says */

struct client {
	const struct client_handlers *handlers;
	void *userdata;
	const struct broker *broker;
	bool connected;
};

static struct {
	struct client *client;
	unsigned opened;
	unsigned room;
	unsigned next_address, first_address; /* of the broker's name */
	size_t announced;		      /* maximum packet size; 0: none */
	int error;
	struct {
		int mid;
		char domain[64];
		unsigned sequence;
	} published[PUBLISHED_MAX];
	size_t n_published; /* since the last forget() */
	int last_mid;
} fake;

int client_open(sd_event *loop, const struct client_options *o, const struct client_handlers *h,
		void *userdata, struct client **ret_client)
{
	(void)loop;
	assert_null(fake.client);
	fake.client = calloc(1, sizeof(*fake.client));
	*fake.client = (struct client){.handlers = h, .userdata = userdata, .broker = o->broker};
	fake.opened++;
	fake.first_address = o->first_address;
	*ret_client = fake.client;
	return 0;
}

void client_close(struct client *c)
{
	if (c)
		fake.client = NULL;
	free(c);
}

bool client_connected(const struct client *c)
{
	return c->connected;
}

const char *client_peer(const struct client *c)
{
	return c->broker->url;
}

const char *client_protocol(const struct client *c)
{
	(void)c;
	return "none";
}

struct validity client_peer_validity(const struct client *c)
{
	(void)c;
	return (struct validity){0};
}

unsigned client_room(const struct client *c)
{
	(void)c;
	return fake.room;
}

unsigned client_next_address(const struct client *c)
{
	(void)c;
	return fake.next_address;
}

size_t client_packet_size(const struct client *c, const char *topic, size_t payload_size,
			  const char *content_type)
{
	(void)c;
	(void)topic;
	(void)content_type;
	return payload_size;
}

size_t client_packet_max(const struct client *c)
{
	(void)c;
	return fake.announced ? fake.announced : 268435455;
}

int client_publish(struct client *c, const char *topic, const void *payload, size_t size,
		   const char *content_type, bool retain, int *ret_mid)
{
	const char *name = topic, *sequence = memmem(payload, size, "\"sequence\":\"", 12);

	assert_true(c->connected);
	assert_string_equal(content_type, "application/cloudevents+json");
	if (fake.announced)
		assert_true(size <= fake.announced);
	if (fake.error < 0)
		return fake.error;
	*ret_mid = ++fake.last_mid;
	assert_true(fake.n_published < PUBLISHED_MAX);
	fake.published[fake.n_published].mid = *ret_mid;
	fake.published[fake.n_published].sequence = sequence ? (unsigned)atoi(sequence + 12) : 0;
	(void)snprintf(fake.published[fake.n_published++].domain, 64, "%s", name);
	return 0;
}

/* The monotonic clock, put forward. */
static time_t skipped_s;

int clock_gettime(clockid_t clock, struct timespec *ret)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ret);

	if (clock == CLOCK_MONOTONIC)
		ret->tv_sec += skipped_s;
	return r;
}

static void forget(void)
{
	fake.n_published = 0;
}

/* --- the bed */

struct fixture {
	char top[64], spool[80], run[80];
	sd_event *loop;
	struct queue *queue;
	struct relay *relay;
	unsigned made; /* events */
	/* The time of all of them: holes are waited for only while they are young. */
	uint64_t now_ms;
	bool stopped;
};

static const char *const directories[] = {
	"spool",      "spool/tmp",    "spool/new",     "spool/replay",
	"spool/sent", "spool/failed", "spool/skipped", "run",
};

static void on_changed(void *userdata)
{
	(void)userdata;
}

static void on_archived(uint64_t bytes, void *userdata)
{
	(void)bytes;
	(void)userdata;
}

static const struct relay_handlers handlers = {.changed = on_changed, .archived = on_archived};

static void on_stopped(void *userdata)
{
	((struct fixture *)userdata)->stopped = true;
}

static struct config *make_config(const struct fixture *f, const char *brokers, unsigned window,
				  unsigned retry_s)
{
	struct config *c = NULL;
	char path[128];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/virtspool.yaml", f->top);
	file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file,
		"host: test\nbrokers: %s\nmqtt:\n  window: %u\n  topic: '{name}'\n  status_topic: none\n",
		brokers, window);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(config_load(path, stderr, &c), 0);
	c->mqtt.retry_min_s = c->mqtt.retry_max_s = retry_s;
	return c;
}

static int setup_with(void **state, const char *brokers, unsigned window, unsigned retry_s)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[128];

	*state = f;
	f->now_ms = (uint64_t)time(NULL) * 1000;
	memset(&fake, 0, sizeof(fake));
	fake.room = 1000;
	log_set_level(LOG_EMERG);
	strcpy(f->top, "/tmp/test-relay-XXXXXX");
	if (!mkdtemp(f->top))
		return -1;
	for (size_t i = 0; i < ELEMENTSOF(directories); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", f->top, directories[i]);
		if (mkdir(path, 0700) < 0)
			return -1;
	}
	(void)snprintf(f->spool, sizeof(f->spool), "%s/spool", f->top);
	(void)snprintf(f->run, sizeof(f->run), "%s/run", f->top);
	if (sd_event_new(&f->loop) < 0 || queue_new(f->spool, f->run, &f->queue) < 0 ||
	    relay_new(f->loop, f->queue, &handlers, f, &f->relay) < 0)
		return -1;
	relay_configure(f->relay, make_config(f, brokers, window, retry_s), NULL, NULL);
	return 0;
}

/* Back-offs take no time. */
static int setup(void **state)
{
	return setup_with(state, "['mqtt://localhost']", 4, 0);
}

static int setup_wide(void **state)
{
	return setup_with(state, "['mqtt://localhost']", DENIED_MAX + 1, 1);
}

static int setup_brief(void **state)
{
	return setup_with(state, "['mqtt://localhost']", 4, 1);
}

static int setup_patient(void **state)
{
	return setup_with(state, "['mqtt://localhost']", 4, 4);
}

static int setup_two_brokers(void **state)
{
	return setup_with(state, "['mqtt://first', 'mqtt://second']", 4, 0);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	relay_free(f->relay);
	queue_free(f->queue);
	sd_event_unref(f->loop);
	r = tree_remove(f->top);
	free(f);
	return r;
}

static struct bytes text(const char *s)
{
	return (struct bytes){s, strlen(s)};
}

/* Puts one event of a domain into the spool, with this sequence number and so many arguments'
   bytes. */
static void put_record(struct fixture *f, const char *domain, uint64_t sequence, size_t size)
{
	static char extra[8192];
	struct record r = {
		.stamp = {.sequence = sequence, .ticks = sequence},
		.recorded_ns = 1,
		.driver = text("qemu"),
		.object = text(domain),
		.operation = text("started"),
		.suboperation = text("begin"),
		.extra = {extra, size},
		.argc = 4,
	};
	static char header[RECORD_HEADER_MAX];
	char path[256];
	size_t n;
	FILE *file;

	memset(extra, '-', sizeof(extra));
	(void)snprintf(r.stamp.epoch, sizeof(r.stamp.epoch), "%032d", 1);
	(void)snprintf(r.stamp.id, sizeof(r.stamp.id), "%08x-%04x-7000-8000-%012x",
		       (unsigned)(f->now_ms >> 16), (unsigned)(f->now_ms & 0xffff),
		       (unsigned)sequence);
	n = record_format_header(&r, header, sizeof(header));
	(void)snprintf(path, sizeof(path), "%s/new/%s", f->spool, r.stamp.id);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(header, 1, n, file), n);
	assert_int_equal(fclose(file), 0);
}

static void put_numbered(struct fixture *f, const char *domain, uint64_t sequence)
{
	put_record(f, domain, sequence, 1);
}

static void put(struct fixture *f, const char *domain)
{
	put_numbered(f, domain, ++f->made);
}

static void put_large(struct fixture *f, const char *domain, size_t size)
{
	put_record(f, domain, ++f->made, size);
}

static unsigned count(const struct fixture *f, const char *directory)
{
	char path[256];
	unsigned n = 0;
	DIR *d;

	(void)snprintf(path, sizeof(path), "%s/%s", f->spool, directory);
	d = opendir(path);
	assert_non_null(d);
	for (const struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.' && !strstr(e->d_name, SPOOL_REASON_SUFFIX);
	closedir(d);
	return n;
}

/* Runs the loop until the condition holds; the test fails at the deadline. */
#define run_until(f, condition)                                                                    \
	do {                                                                                       \
		for (uint64_t waited = 0; !(condition); waited += 1000) {                          \
			assert_true(waited < DEADLINE_USEC);                                       \
			assert_true(sd_event_run((f)->loop, 1000) >= 0);                           \
		}                                                                                  \
	} while (0)

/* Runs what is due now, and nothing that takes time. */
static void run_pending(struct fixture *f)
{
	for (int i = 0; i < 20; i++)
		assert_true(sd_event_run(f->loop, 500) >= 0);
}

static void connect_client(struct fixture *f)
{
	run_until(f, fake.client);
	fake.client->connected = true;
	fake.client->handlers->connected(fake.client, fake.client->userdata);
}

static void answer(int mid, unsigned reason_code)
{
	fake.client->handlers->acknowledged(fake.client, mid, reason_code, fake.client->userdata);
}

static void lose_by(enum client_loss loss)
{
	fake.client->handlers->lost(fake.client, loss, 0, "lost", fake.client->userdata);
}

static void lose(void)
{
	lose_by(CLIENT_LOSS_TRANSPORT);
}

static void expect_published(const char *const *domains, size_t n)
{
	for (size_t i = 0; i < n && i < fake.n_published; i++)
		assert_string_equal(fake.published[i].domain, domains[i]);
	assert_int_equal(fake.n_published, n);
}

#define EXPECT_PUBLISHED(...)                                                                      \
	do {                                                                                       \
		const char *const wanted[] = {__VA_ARGS__};                                        \
		expect_published(wanted, ELEMENTSOF(wanted));                                      \
	} while (0)

static struct relay_description describe(const struct fixture *f)
{
	struct relay_description d;

	relay_describe(f->relay, &d);
	return d;
}

/* --- pure parts */

static void test_outcomes(void **state)
{
	static const struct {
		unsigned code;
		enum delivery_outcome outcome;
	} table[] = {
		{0x00, DELIVERY_DELIVERED}, {0x10, DELIVERY_DELIVERED}, {0x80, DELIVERY_BUSY},
		{0x83, DELIVERY_BUSY},	    {0x87, DELIVERY_DENIED},	{0x90, DELIVERY_REJECTED},
		{0x91, DELIVERY_BUSY},	    {0x92, DELIVERY_BUSY},	{0x95, DELIVERY_REJECTED},
		{0x97, DELIVERY_BUSY},	    {0x99, DELIVERY_REJECTED},	{0xc3, DELIVERY_BUSY},
		{0xff, DELIVERY_BUSY},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++)
		assert_int_equal(delivery_outcome(table[i].code, false), table[i].outcome);
	assert_int_equal(delivery_outcome(0x10, true), DELIVERY_DENIED);
	assert_int_equal(delivery_outcome(0x00, true), DELIVERY_DELIVERED);
}

static void test_backoff(void **state)
{
	uint64_t b = 0;

	(void)state;
	for (uint64_t wanted = 1; wanted <= 64; wanted *= 2) {
		b = backoff_next(b, 1, 60);
		assert_int_equal(b, wanted < 60 ? wanted : 60);
	}
	assert_int_equal(backoff_jitter(1000, 0), 1000);
	assert_int_equal(backoff_jitter(1000, UINT32_MAX), 500);
	assert_int_equal(backoff_jitter(0, 12345), 0);
}

/* --- what an answer does */

static void test_delivered(void **state)
{
	struct fixture *f = *state;

	put(f, "a");
	put(f, "b");
	connect_client(f);
	EXPECT_PUBLISHED("a", "b");
	assert_int_equal(count(f, SPOOL_NEW), 2); /* nothing leaves without an answer */
	answer(2, 0x00);
	assert_int_equal(count(f, SPOOL_SENT), 1);
	answer(1, 0x10);
	answer(1, 0x10);  /* twice */
	answer(77, 0x00); /* never published */
	assert_int_equal(count(f, SPOOL_SENT), 2);
	assert_int_equal(count(f, SPOOL_NEW), 0);
	assert_int_equal(describe(f).stats->acknowledged, 2);
}

static void test_window(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 6; i++)
		put(f, "a");
	connect_client(f);
	assert_int_equal(fake.n_published, 4);
	answer(1, 0);
	assert_int_equal(fake.n_published, 5);
	fake.room = 0;
	answer(2, 0);
	assert_int_equal(fake.n_published, 5);
	fake.room = 9;
	fake.client->handlers->writable(fake.client, fake.client->userdata);
	assert_int_equal(fake.n_published, 6);
}

static void test_rejected(void **state)
{
	struct fixture *f = *state;

	put(f, "poison");
	put(f, "b");
	connect_client(f);
	answer(1, 0x99);
	answer(2, 0x00);
	assert_int_equal(count(f, SPOOL_FAILED), 1);
	assert_int_equal(count(f, SPOOL_SENT), 1);
	assert_int_equal(count(f, SPOOL_NEW), 0);
}

/* A limit that is credible: the event can never be delivered. */
static void test_too_large(void **state)
{
	struct fixture *f = *state;

	fake.announced = 4096;
	put_large(f, "large", 5000);
	put(f, "small");
	connect_client(f);
	EXPECT_PUBLISHED("small");
	assert_int_equal(count(f, SPOOL_FAILED), 1);
}

/* A limit under which nothing could be delivered is the connection's fault: the next broker. */
static void test_absurd_limit(void **state)
{
	struct fixture *f = *state;

	fake.announced = 1;
	put(f, "a");
	put(f, "b");
	connect_client(f);
	assert_null(fake.client);
	assert_int_equal(count(f, SPOOL_NEW), 2);
	fake.announced = 0;
	connect_client(f);
	assert_string_equal(fake.client->broker->url, "mqtt://second");
	EXPECT_PUBLISHED("a", "b");
}

/* A small limit is believed once an event went through under it. */
static void test_small_limit(void **state)
{
	struct fixture *f = *state;

	fake.announced = 1000;
	put_large(f, "large", 2000);
	put(f, "small");
	put(f, "large");
	connect_client(f);
	EXPECT_PUBLISHED("small");
	assert_int_equal(count(f, SPOOL_FAILED), 0);
	answer(1, 0);
	EXPECT_PUBLISHED("small", "large"); /* in the order of its domain */
	assert_int_equal(count(f, SPOOL_FAILED), 1);
}

/* A limit below what the broker has taken before is not believed. */
static void test_limit_below_what_was_taken(void **state)
{
	struct fixture *f = *state;

	put_large(f, "large", 3000);
	connect_client(f);
	answer(1, 0);
	lose();
	fake.announced = 2000;
	put_large(f, "large", 2500);
	connect_client(f);
	assert_null(fake.client);
	assert_int_equal(count(f, SPOOL_NEW), 1);
	assert_int_equal(count(f, SPOOL_FAILED), 0);
}

/* Rights: the domain waits in order, the others go on; granted, everything comes, in order. */
static void test_denied(void **state)
{
	struct fixture *f = *state;

	connect_client(f);
	put(f, "denied");
	relay_wake(f->relay);
	answer(1, 0x87);
	put(f, "denied");
	put(f, "b");
	forget();
	relay_wake(f->relay);
	/* The back-off is over, and what came last does not go before what waits. */
	EXPECT_PUBLISHED("b");
	run_until(f, fake.n_published >= 2); /* the probe */
	EXPECT_PUBLISHED("b", "denied");
	assert_int_equal(count(f, SPOOL_NEW), 3);
	assert_int_equal(fake.published[1].sequence, 1);
	answer(2, 0x00);
	answer(3, 0x00); /* granted */
	run_until(f, fake.n_published == 3);
	answer(4, 0x00);
	assert_int_equal(count(f, SPOOL_SENT), 3);
	assert_int_equal(count(f, SPOOL_FAILED), 0);
	assert_int_equal(describe(f).stats->answers[0x87], 1);
}

/* A broker that denies everything gets a bounded number of attempts, and nothing is lost. */
static void test_denied_for_ever(void **state)
{
	struct fixture *f = *state;
	unsigned answered = 0;

	for (int i = 0; i < 10; i++)
		put(f, "denied");
	connect_client(f);
	for (int i = 0; i < 500; i++) {
		assert_true(sd_event_run(f->loop, 1000) >= 0);
		while (answered < fake.n_published)
			answer(fake.published[answered++].mid, 0x87);
	}
	assert_in_range(
		answered, 2,
		30); /* of 500 turns of the loop; 20 a minute are allowed, and what was in flight */
	assert_int_equal(count(f, SPOOL_NEW), 10);
}

/* As many domains as you like, each denied for the first time. */
static void test_many_domains_denied(void **state)
{
	struct fixture *f = *state;
	unsigned answered = 0;
	char domain[16];

	for (unsigned i = 0; i < 100; i++) {
		(void)snprintf(domain, sizeof(domain), "vm%u", i);
		put(f, domain);
	}
	connect_client(f);
	for (int i = 0; i < 500; i++) {
		assert_true(sd_event_run(f->loop, 1000) >= 0);
		while (answered < fake.n_published)
			answer(fake.published[answered++].mid, 0x87);
	}
	assert_in_range(answered, 2, 30);
	assert_int_equal(count(f, SPOOL_NEW), 100);
}

/* How often was the event of this number published? */
static unsigned n_offered(uint64_t sequence)
{
	unsigned n = 0;

	for (size_t i = 0; i < fake.n_published; i++)
		n += fake.published[i].sequence == sequence;
	return n;
}

/* More domains are denied than can be told apart: what is denied is given again before what
   comes after it. */
static void test_more_denied_than_remembered(void **state)
{
	struct fixture *f = *state;
	char domain[16];

	for (unsigned i = 0; i <= DENIED_MAX; i++) {
		(void)snprintf(domain, sizeof(domain), "vm%u", i);
		put(f, domain);
	}
	connect_client(f);
	assert_int_equal(fake.n_published, DENIED_MAX + 1);
	for (int mid = 1; mid <= DENIED_MAX + 1; mid++)
		answer(mid, 0x87);
	put(f, domain);
	relay_wake(f->relay);
	run_pending(f);
	/* A pause, which may be over by now; then one at a time. */
	assert_in_range(fake.n_published, DENIED_MAX + 1, DENIED_MAX + 2);
	for (size_t n = DENIED_MAX + 1; n_offered(DENIED_MAX + 1) < 2; n++) {
		run_until(f, fake.n_published > n);
		answer(fake.published[n].mid, 0x87);
	}
	run_pending(f);
	assert_int_equal(n_offered(DENIED_MAX + 1), 2); /* and not again and again */
}

static void test_busy(void **state)
{
	struct fixture *f = *state;

	put(f, "a");
	put(f, "b");
	connect_client(f);
	forget();
	answer(1, 0x97);
	answer(2, 0x97);
	run_until(f, fake.n_published == 2);
	EXPECT_PUBLISHED("a", "b");
	assert_int_equal(count(f, SPOOL_NEW), 2);
}

static void test_busy_pauses(void **state)
{
	struct fixture *f = *state;
	uint64_t begin = now_usec(CLOCK_REALTIME), until;

	put(f, "a");
	connect_client(f);
	forget();
	answer(1, 0x97);
	until = describe(f).paused_until_usec;
	assert_true(until >= begin + USEC_PER_SEC / 4);
	put(f, "b");
	relay_wake(f->relay);
	run_until(f, fake.n_published == 2); /* and goes on by itself */
	assert_true(now_usec(CLOCK_REALTIME) + USEC_PER_SEC / 100 >= until);
	EXPECT_PUBLISHED("a", "b");
}

/* The client cannot take it, for want of memory, say. */
static void test_client_fails(void **state)
{
	struct fixture *f = *state;

	fake.error = -ENOMEM;
	put(f, "a");
	connect_client(f);
	run_pending(f);
	fake.error = 0;
	run_until(f, fake.n_published == 1);
	assert_int_equal(count(f, SPOOL_NEW), 1);
}

/* --- a spool that does not do what it should: as nobody's, for root may do everything */

static void be_nobody(const struct fixture *f)
{
	char path[128];

	(void)chmod(f->top, 0755);
	for (size_t i = 0; i < ELEMENTSOF(directories); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", f->top, directories[i]);
		(void)chmod(path, 0777);
	}
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
}

static void change_mode(const struct fixture *f, const char *path, mode_t mode)
{
	uid_t euid = geteuid();
	char full[256];

	(void)snprintf(full, sizeof(full), "%s/%s", f->spool, path);
	(void)!seteuid(getuid());
	assert_int_equal(chmod(full, mode), 0);
	assert_int_equal(seteuid(euid), 0);
}

static int teardown_nobody(void **state)
{
	return seteuid(getuid()) < 0 ? -1 : teardown(state);
}

/* Nothing goes before an event that cannot be read, as it may be of any domain. */
static void test_unreadable(void **state)
{
	struct fixture *f = *state;
	char path[64];

	put(f, "a");
	put(f, "b");
	(void)snprintf(path, sizeof(path), "new/%08x-%04x-7000-8000-%012x",
		       (unsigned)(f->now_ms >> 16), (unsigned)(f->now_ms & 0xffff), 1U);
	be_nobody(f);
	change_mode(f, path, 0);
	connect_client(f);
	for (int i = 0; i < 5; i++)
		run_pending(f);
	assert_int_equal(fake.n_published, 0);
	assert_int_equal(describe(f).unreadable, 1);
	change_mode(f, path, 0644);
	run_until(f, fake.n_published == 2);
	EXPECT_PUBLISHED("a", "b");
	assert_int_equal(describe(f).unreadable, 0);
}

/* ... for a bounded time; then it is set aside if another can be read. */
static void test_unreadable_for_long(void **state)
{
	struct fixture *f = *state;
	char path[64];

	put(f, "a");
	put(f, "b");
	(void)snprintf(path, sizeof(path), "new/%08x-%04x-7000-8000-%012x",
		       (unsigned)(f->now_ms >> 16), (unsigned)(f->now_ms & 0xffff), 1U);
	be_nobody(f);
	change_mode(f, path, 0);
	connect_client(f);
	run_pending(f);
	assert_int_equal(fake.n_published, 0);
	skipped_s += 60;
	run_until(f, fake.n_published == 1);
	EXPECT_PUBLISHED("b");
	assert_int_equal(count(f, SPOOL_FAILED), 1);
}

/* If none can be read, the fault is not theirs. */
static void test_all_unreadable(void **state)
{
	struct fixture *f = *state;
	char path[64];

	for (unsigned i = 1; i <= 3; i++)
		put(f, "a");
	be_nobody(f);
	for (unsigned i = 1; i <= 3; i++) {
		(void)snprintf(path, sizeof(path), "new/%08x-%04x-7000-8000-%012x",
			       (unsigned)(f->now_ms >> 16), (unsigned)(f->now_ms & 0xffff), i);
		change_mode(f, path, 0);
	}
	connect_client(f);
	for (int i = 0; i < 5; i++) {
		skipped_s += 60;
		run_pending(f);
	}
	assert_int_equal(count(f, SPOOL_NEW), 3);
	assert_int_equal(count(f, SPOOL_FAILED), 0);
	assert_in_range(describe(f).unreadable, 1, 3);
}

/* What is delivered and cannot be moved away is not delivered again, and is moved when it can
   be. */
static void test_immovable(void **state)
{
	struct fixture *f = *state;

	put(f, "a");
	be_nobody(f);
	change_mode(f, "new", 0555);
	connect_client(f);
	answer(1, 0);
	for (int i = 0; i < 5; i++) {
		relay_wake(f->relay);
		run_pending(f);
	}
	EXPECT_PUBLISHED("a");
	change_mode(f, "new", 0777);
	run_until(f, count(f, SPOOL_NEW) == 0);
	EXPECT_PUBLISHED("a");
}

/* --- connections */

static void test_reconnect(void **state)
{
	struct fixture *f = *state;

	put(f, "a");
	put(f, "b");
	put(f, "c");
	connect_client(f);
	answer(2, 0);
	forget();
	lose();
	connect_client(f);
	EXPECT_PUBLISHED("a", "c"); /* in order, and only what was not acknowledged */
	assert_int_equal(describe(f).stats->duplicated, 2);
}

/* All the chance that there may be in a back-off, and always the same. */
ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
	(void)flags;
	memset(buffer, 0xff, size);
	return (ssize_t)size;
}

/* A broker that is away is left alone for the back-off, less up to half of it. */
static void test_reconnect_backs_off(void **state)
{
	struct fixture *f = *state;
	uint64_t lost;

	connect_client(f);
	lost = now_usec(CLOCK_MONOTONIC);
	lose();
	run_until(f, fake.client);
	/* The timer counts from when the loop's turn began, a little before. */
	assert_in_range(now_usec(CLOCK_MONOTONIC) - lost, 2 * USEC_PER_SEC - USEC_PER_SEC / 10,
			4 * USEC_PER_SEC - 1);
}

/* The next attempt fails as well; returns after how many seconds the one after it is due. */
static double wait_after(struct fixture *f, enum client_loss loss)
{
	relay_flush(f->relay);
	run_until(f, fake.client);
	lose_by(loss);
	return ((double)describe(f).next_connect_usec - (double)now_usec(CLOCK_REALTIME)) / 1e6;
}

static void test_nobody_listens(void **state)
{
	struct fixture *f = *state;
	struct config *c = make_config(f, "['mqtt://localhost']", 4, 1);
	double last = 0;

	c->mqtt.retry_max_s = 60;
	relay_configure(f->relay, c, NULL, NULL);
	for (int i = 0; i < 8; i++) {
		last = wait_after(f, CLIENT_LOSS_NOBODY);
		assert_true(last < 3.01);
	}
	assert_true(last > 1.4);
	/* Somebody is there, and may be busy. */
	for (int i = 0; i < 6; i++)
		last = wait_after(f, CLIENT_LOSS_TIMEOUT);
	assert_true(last > 29 && last < 60.01);
	assert_true(wait_after(f, CLIENT_LOSS_NOBODY) < 3.01);
}

static void test_brokers_in_order(void **state)
{
	struct fixture *f = *state;
	static const char *const tried[] = {"mqtt://first", "mqtt://second", "mqtt://first",
					    "mqtt://second"};

	for (size_t i = 0; i < ELEMENTSOF(tried); i++) {
		run_until(f, fake.client);
		assert_string_equal(fake.client->broker->url, tried[i]);
		lose();
	}
	connect_client(f); /* the first again, say; then a good connection to it ends */
	put(f, "a");
	relay_wake(f->relay);
	answer(fake.last_mid, 0);
	lose();
	run_until(f, fake.client);
	assert_string_equal(fake.client->broker->url, "mqtt://first");
}

static bool is_report(size_t i)
{
	return strchr(fake.published[i].domain, '/');
}

/* The broker answers all but the bad events, over which it ends the connection. Returns how many
   connections that took. */
static unsigned serve(struct fixture *f, unsigned connections)
{
	for (unsigned n = 1; n <= connections; n++) {
		size_t i = 0;

		forget();
		connect_client(f);
		while (fake.client && i < fake.n_published) {
			if (strncmp(fake.published[i].domain, "bad", 3) == 0)
				lose();
			else
				answer(fake.published[i].mid, 0);
			i++;
		}
		if (count(f, SPOOL_NEW) == 0)
			return n;
		if (fake.client)
			lose();
	}
	return connections + 1;
}

static void test_poison(void **state)
{
	struct fixture *f = *state;

	put(f, "a");
	put(f, "bad");
	put(f, "b");
	put(f, "c");
	assert_in_range(serve(f, 6), 3, 6);
	assert_int_equal(count(f, SPOOL_FAILED), 1);
	assert_int_equal(count(f, SPOOL_SENT), 3);
}

static void test_poison_neighbours(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 3; i++)
		put(f, "small");
	for (unsigned i = 0; i < 6; i++)
		put(f, i % 2 ? "bad1" : "bad2");
	for (unsigned i = 0; i < 5; i++)
		put(f, "small");
	assert_in_range(serve(f, 24), 12, 24);
	assert_int_equal(count(f, SPOOL_FAILED), 6);
	assert_int_equal(count(f, SPOOL_SENT), 8);
}

/* The last one has nothing to be compared with but probes. */
static void test_poison_alone(void **state)
{
	struct fixture *f = *state;

	put(f, "bad");
	assert_in_range(serve(f, 6), 3, 6);
	assert_int_equal(count(f, SPOOL_FAILED), 1);
}

/* A broker that ends every connection convicts nobody. */
static void test_bad_broker_is_no_poison(void **state)
{
	struct fixture *f = *state;

	put(f, "a");
	put(f, "b");
	for (int i = 0; i < 40; i++) {
		forget();
		connect_client(f);
		run_pending(f);
		lose();
	}
	assert_int_equal(count(f, SPOOL_NEW), 2);
	assert_int_equal(count(f, SPOOL_FAILED), 0);
}

/* No later event of its domain goes before the suspect, and controls are no events. */
static void test_suspect_keeps_its_place(void **state)
{
	struct fixture *f = *state;

	put(f, "vm");
	put(f, "vm");
	put(f, "other");
	for (int i = 0; i < 2; i++) {
		connect_client(f);
		lose();
	}
	forget();
	connect_client(f);
	for (size_t i = 0, event = 1; i < fake.n_published; i++) {
		if (!is_report(i))
			assert_int_equal(fake.published[i].sequence, event++);
		answer(fake.published[i].mid, 0);
	}
	assert_int_equal(count(f, SPOOL_SENT), 3);
}

/* DISCONNECT with Not authorized: the event is kept, and the others go on. */
static void test_denied_by_disconnect(void **state)
{
	struct fixture *f = *state;
	unsigned connections = 0;

	put(f, "a");
	put(f, "bad");
	put(f, "b");
	put(f, "bad");
	while (count(f, SPOOL_SENT) < 2 && ++connections < 10) {
		forget();
		connect_client(f);
		for (size_t i = 0; fake.client && i < fake.n_published; i++) {
			if (strcmp(fake.published[i].domain, "bad") == 0)
				fake.client->handlers->lost(fake.client, CLIENT_LOSS_DISCONNECT,
							    0x87, "no", fake.client->userdata);
			else
				answer(fake.published[i].mid, 0);
		}
	}
	assert_in_range(connections, 2, 4);
	assert_int_equal(count(f, SPOOL_NEW), 2);
	assert_int_equal(count(f, SPOOL_FAILED), 0);
	relay_prune_attempts(f->relay);
	assert_string_equal(describe(f).attempts[0].topic, "bad");
	assert_int_equal(describe(f).attempts[0].waiting, 1);
}

/* Every address of a name has its turn before the next broker. */
static void test_addresses_in_turn(void **state)
{
	struct fixture *f = *state;

	fake.next_address = 1;
	run_until(f, fake.client);
	lose();
	fake.next_address = 0;
	run_until(f, fake.client);
	assert_int_equal(fake.first_address, 1);
	assert_string_equal(fake.client->broker->url, "mqtt://first");
	lose();
	run_until(f, fake.client);
	assert_int_equal(fake.first_address, 0);
	assert_string_equal(fake.client->broker->url, "mqtt://second");
}

/* Nobody has subscribed: kept, and tried again. */
static void test_require_subscriber(void **state)
{
	struct fixture *f = *state;
	struct config *c = make_config(f, "['mqtt://localhost']", 4, 0);

	c->mqtt.require_subscriber = true;
	relay_configure(f->relay, c, NULL, NULL);
	run_pending(f);
	put(f, "a");
	put(f, "b");
	connect_client(f);
	answer(1, 0x10);
	answer(2, 0x10);
	assert_int_equal(count(f, SPOOL_NEW), 2);
	assert_int_equal(describe(f).unheard.now.events, 0); /* they wait */
	run_until(f, fake.n_published >= 3);
	answer(3, 0x00); /* the first subscriber: the other domain is tried at once */
	run_until(f, fake.n_published >= 4);
	answer(4, 0x00);
	assert_int_equal(count(f, SPOOL_SENT), 2);
	assert_int_equal(describe(f).unheard.before.events, 0);
}

/* --- order and holes */

static void test_settling(void **state)
{
	struct fixture *f = *state;

	f->now_ms += 60000; /* young for as long as the test takes */
	put_numbered(f, "one", 1);
	connect_client(f);
	answer(1, 0);
	put_numbered(f, "three", 3);
	relay_wake(f->relay);
	EXPECT_PUBLISHED("one"); /* two may still come */
	put_numbered(f, "two", 2);
	relay_wake(f->relay);
	EXPECT_PUBLISHED("one", "two", "three");
	assert_int_equal(describe(f).sequence->missing, 0);
	put_numbered(f, "six", 6);
	relay_wake(f->relay);
	run_until(f, fake.n_published == 4); /* it does not wait for ever */
	assert_int_equal(describe(f).sequence->missing, 0);
	skipped_s += 10; /* longer than a hook may take */
	run_until(f, describe(f).sequence->missing == 2);
}

/* What is missing before an event that is old itself does not come any more. */
static void test_old_holes(void **state)
{
	struct fixture *f = *state;

	f->now_ms -= 10000;
	for (uint64_t sequence = 1; sequence <= 7; sequence += 2)
		put_numbered(f, "odd", sequence);
	connect_client(f);
	assert_int_equal(fake.n_published, 4);
	run_until(f, describe(f).sequence->missing == 3);
}

/* --- stop and reload */

static void test_stop_waits(void **state)
{
	struct fixture *f = *state;

	put(f, "a");
	connect_client(f);
	relay_stop(f->relay, on_stopped);
	put(f, "b");
	relay_wake(f->relay);
	run_pending(f);
	assert_false(f->stopped);
	EXPECT_PUBLISHED("a");
	answer(1, 0);
	run_until(f, f->stopped);
	assert_int_equal(count(f, SPOOL_SENT), 1);
	assert_int_equal(count(f, SPOOL_NEW), 1);
}

static void test_reload_waits(void **state)
{
	struct fixture *f = *state;

	put(f, "a");
	connect_client(f);
	relay_configure(f->relay, make_config(f, "['mqtt://other']", 4, 0), NULL, NULL);
	put(f, "b");
	relay_wake(f->relay);
	run_pending(f);
	EXPECT_PUBLISHED("a"); /* or it would have to wait for ever */
	assert_string_equal(fake.client->broker->url, "mqtt://localhost");
	answer(1, 0);
	run_until(f, fake.client && strcmp(fake.client->broker->url, "mqtt://other") == 0);
	connect_client(f);
	EXPECT_PUBLISHED("a", "b");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_backoff),
		TEST(test_delivered),
		TEST(test_window),
		TEST(test_rejected),
		TEST(test_too_large),
		cmocka_unit_test_setup_teardown(test_absurd_limit, setup_two_brokers, teardown),
		TEST(test_small_limit),
		TEST(test_limit_below_what_was_taken),
		TEST(test_denied),
		TEST(test_denied_for_ever),
		cmocka_unit_test_setup_teardown(test_more_denied_than_remembered, setup_wide,
						teardown),
		TEST(test_many_domains_denied),
		TEST(test_busy),
		cmocka_unit_test_setup_teardown(test_busy_pauses, setup_brief, teardown),
		TEST(test_client_fails),
		cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown_nobody),
		cmocka_unit_test_setup_teardown(test_unreadable_for_long, setup, teardown_nobody),
		cmocka_unit_test_setup_teardown(test_all_unreadable, setup, teardown_nobody),
		cmocka_unit_test_setup_teardown(test_immovable, setup_brief, teardown_nobody),
		TEST(test_reconnect),
		cmocka_unit_test_setup_teardown(test_reconnect_backs_off, setup_patient, teardown),
		TEST(test_nobody_listens),
		cmocka_unit_test_setup_teardown(test_brokers_in_order, setup_two_brokers, teardown),
		TEST(test_poison),
		TEST(test_poison_neighbours),
		TEST(test_poison_alone),
		TEST(test_suspect_keeps_its_place),
		TEST(test_bad_broker_is_no_poison),
		cmocka_unit_test_setup_teardown(test_denied_by_disconnect, setup_brief, teardown),
		cmocka_unit_test_setup_teardown(test_addresses_in_turn, setup_two_brokers,
						teardown),
		TEST(test_require_subscriber),
		TEST(test_settling),
		TEST(test_old_holes),
		TEST(test_stop_waits),
		TEST(test_reload_waits),
	};

	return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
