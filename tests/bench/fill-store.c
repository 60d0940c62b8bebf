/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fill-store - puts made-up events into a recorder's store, as fast as it takes them.
 *
 *	fill-store URL [HOSTS [GUESTS [EVENTS [DAYS]]]]
 *
 * Guests start, stop, crash, are saved and migrate, on the hosts host1 ... hostN, within the DAYS
 * before now; each host has a sequence without gaps, except for one hole on each hundredth. The
 * same arguments give the same events but for their time. Prints the rate, of all and of the last 50,000.
 */
#include <inttypes.h>

#include "spooler/base/util.h"
#include "spooler/recorder/store.h"

#define LAST 50000

struct fill {
	struct store *store;
	unsigned n_hosts, n_guests;
	uint64_t *sequences; /* of each host */
	int *places;	     /* of each guest: its host, -1: stopped */
	int64_t now, step;   /* us */
	uint64_t random, made, wanted;
	uint64_t last_begin,
		last_from; /* of the last ones: CLOCK_MONOTONIC, and how many were before */
	struct store_message messages[STORE_BATCH_MAX];
	size_t n;
	uint64_t longest; /* us of a commit */
	struct store_counts counts;
};

static uint64_t chance(struct fill *f, uint64_t below)
{
	f->random ^= f->random << 13;
	f->random ^= f->random >> 7;
	f->random ^= f->random << 17;
	return f->random % below;
}

static void flush_batch(struct fill *f)
{
	uint64_t begin = now_usec(CLOCK_MONOTONIC), took;
	struct store_counts c;

	if (store_apply(f->store, f->messages, f->n, (int64_t)now_usec(CLOCK_REALTIME), &c) < 0) {
		fprintf(stderr, "fill-store: %s\n", store_error(f->store));
		exit(1);
	}
	took = now_usec(CLOCK_MONOTONIC) - begin;
	f->longest = took > f->longest ? took : f->longest;
	f->counts.events += c.events;
	f->counts.duplicates += c.duplicates;
	f->counts.rejects += c.rejects;
	for (size_t i = 0; i < f->n; i++) {
		free((char *)f->messages[i].topic);
		free((char *)f->messages[i].payload);
	}
	f->n = 0;
	if (f->last_begin == 0 && f->made + LAST >= f->wanted) {
		f->last_begin = now_usec(CLOCK_MONOTONIC);
		f->last_from = f->made;
	}
}

static void format_time(int64_t usec, char *text, size_t size)
{
	time_t t = (time_t)(usec / (int64_t)USEC_PER_SEC);
	char date[32];
	struct tm tm;

	(void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", gmtime_r(&t, &tm));
	(void)snprintf(text, size, "%s.%06dZ", date, (int)(usec % (int64_t)USEC_PER_SEC));
}

static void event(struct fill *f, int host, unsigned guest, const char *operation, const char *sub,
		  const char *reason)
{
	char uuid[64], id[64], time[64], *topic, *payload;
	uint64_t ms = (uint64_t)f->now / 1000;
	int n;

	if (f->made == f->wanted)
		return;
	if (host % 100 == 0 && f->sequences[host] == 10)
		f->sequences[host] += 3; /* a hole */
	f->sequences[host]++;
	format_time(f->now, time, sizeof(time));
	(void)snprintf(uuid, sizeof(uuid), "%08x-edaf-4455-926a-d65c16db1809", guest * 2654435761U);
	(void)snprintf(id, sizeof(id), "%08x-%04x-7%03x-8%03x-%012" PRIx64, (unsigned)(ms >> 16),
		       (unsigned)(ms & 0xffff), (unsigned)(f->now % 1000), host & 0xfff,
		       f->made & 0xffffffffffff);
	if (asprintf(&topic, "virtspool/v1/host%d/qemu/%s/%s", host, uuid, operation) < 0)
		exit(1);
	n = asprintf(
		&payload,
		"{\"specversion\":\"1.0\",\"id\":\"%s\",\"source\":\"/virtspool/host%d\",\"type\":"
		"\"org.virtspool.qemu.%s.%s\",\"subject\":\"guest%u\",\"time\":\"%s\",\"datacontenttype\":"
		"\"application/json\",\"sequence\":\"%020" PRIu64
		"\",\"epoch\":\"%08x5bd1e995%016x\","
		"\"recordedtime\":\"%s\",\"replayed\":false,\"data\":{\"host\":\"host%d\",\"driver\":\"qemu\","
		"\"operation\":\"%s\",\"suboperation\":\"%s\"%s%s%s,\"name\":\"guest%u\",\"uuid\":\"%s\","
		"\"title\":\"a guest that was made up\",\"domain_type\":\"kvm\",\"domain_id\":3,\"vcpus\":2,"
		"\"vcpus_max\":2,\"memory_kib\":2097152,\"memory_max_kib\":4194304}}",
		id, host, operation, sub, guest, time, f->sequences[host], (unsigned)host, host,
		time, host, operation, sub, reason ? ",\"reason\":\"" : "", reason ? reason : "",
		reason ? "\"" : "", guest, uuid);
	if (n < 0)
		exit(1);
	f->messages[f->n++] =
		(struct store_message){.topic = topic, .payload = payload, .size = (size_t)n};
	f->made++;
	f->now += f->step;
	if (f->n == STORE_BATCH_MAX)
		flush_batch(f);
}

static void start(struct fill *f, int host, unsigned guest)
{
	event(f, host, guest, "prepare", "begin", NULL);
	event(f, host, guest, "start", "begin", NULL);
	event(f, host, guest, "started", "begin", NULL);
}

static void stop(struct fill *f, int host, unsigned guest, const char *reason)
{
	event(f, host, guest, "stopped", "end", NULL);
	event(f, host, guest, "release", "end", reason);
}

static void something(struct fill *f)
{
	static const char *const reasons[] = {"shutdown", "destroyed", "crashed", "saved"};
	unsigned guest = (unsigned)chance(f, f->n_guests);
	int host = f->places[guest], to = (int)chance(f, f->n_hosts) + 1;

	if (host < 0) {
		start(f, to, guest);
		f->places[guest] = to;
	} else if (chance(f, 3) > 0 || to == host) {
		stop(f, host, guest, reasons[chance(f, 4)]);
		f->places[guest] = -1;
	} else {
		event(f, to, guest, "migrate", "begin", NULL);
		start(f, to, guest);
		stop(f, host, guest, "migrated");
		f->places[guest] = to;
	}
}

static uint64_t argument(int argc, char **argv, int i, uint64_t fallback)
{
	return argc > i ? strtoull(argv[i], NULL, 10) : fallback;
}

int main(int argc, char **argv)
{
	static const struct cloudevent_topics topics = {
		"virtspool/v1/{host}/{driver}/{uuid}/{operation}", "virtspool/v1/{host}/status"};
	struct fill f = {.random = 88172645463325252};
	uint64_t begin, took, days;
	char *error = NULL;

	if (argc < 2) {
		fputs("usage: fill-store URL [HOSTS [GUESTS [EVENTS [DAYS]]]]\n", stderr);
		return 64;
	}
	f.n_hosts = (unsigned)argument(argc, argv, 2, 1000);
	f.n_guests = (unsigned)argument(argc, argv, 3, 20000);
	f.wanted = argument(argc, argv, 4, 1000000);
	days = argument(argc, argv, 5, 30);
	f.sequences = calloc(f.n_hosts + 1, sizeof(*f.sequences));
	f.places = malloc(f.n_guests * sizeof(*f.places));
	if (!f.sequences || !f.places)
		return 1;
	memset(f.places, 0xff, f.n_guests * sizeof(*f.places));
	f.step = (int64_t)(days * 86400 * USEC_PER_SEC / f.wanted);
	f.now = (int64_t)now_usec(CLOCK_REALTIME) - (int64_t)(days * 86400 * USEC_PER_SEC);
	if (store_open(argv[1], &topics, &f.store, &error) < 0) {
		fprintf(stderr, "fill-store: %s\n", error ? error : "no memory");
		return 1;
	}
	begin = now_usec(CLOCK_MONOTONIC);
	while (f.made < f.wanted)
		something(&f);
	flush_batch(&f);
	took = now_usec(CLOCK_MONOTONIC) - begin;
	printf("%" PRIu64 " events, %" PRIu64 " there already, %" PRIu64
	       " rejected, in %.1f s: %.0f/s, the last %" PRIu64
	       ": %.0f/s, longest batch %.0f ms\n",
	       f.counts.events, f.counts.duplicates, f.counts.rejects, (double)took / 1e6,
	       (double)f.made * 1e6 / (double)took, f.made - f.last_from,
	       (double)(f.made - f.last_from) * 1e6 /
		       (double)(now_usec(CLOCK_MONOTONIC) - f.last_begin),
	       (double)f.longest / 1000);
	store_close(f.store);
	free(f.sequences);
	free(f.places);
	return 0;
}
