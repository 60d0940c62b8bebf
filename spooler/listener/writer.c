/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * writer - see writer.h.
 *
 * A file system that hangs must not hold the thread that receives libvirt's events: it would lose
 * the connection. So a thread of its own touches the disk. While that hangs, other records go to
 * the emergency spool at once.
 */
#include "spooler/listener/writer.h"

#include <pthread.h>

#include "hook/put.h"
#include "hook/spool.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"

#define LOSS_LOG_S 10 /* a line about losses is logged at most this often */

/* A record on its way to the disk. */
struct job {
	struct put_job put; /* first: released by its address */
	char data[];
};

/* A call that the thread makes for us. */
struct call {
	int (*function)(void *argument);
	void *argument;
	uint64_t number; /* 0: none */
	int result;
};

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER; /* one record at a time */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* of the call */
static pthread_cond_t changed;
static struct call call;
static uint64_t last_number;
static struct listener_counts counts;

/* --- the thread */

static void *run_calls(void *userdata)
{
	(void)pthread_mutex_lock(&lock);
	for (;;) {
		struct call c = call;

		if (!c.number) {
			(void)pthread_cond_wait(&changed, &lock);
			continue;
		}
		(void)pthread_mutex_unlock(&lock);
		c.result = c.function(c.argument);
		(void)pthread_mutex_lock(&lock);
		call = (struct call){.result = c.result};
		(void)pthread_cond_broadcast(&changed);
	}
	return userdata;
}

int writer_start(void)
{
	pthread_condattr_t monotonic;
	pthread_t thread;
	int r;

	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&changed, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	r = pthread_create(&thread, NULL, run_calls, NULL);
	if (r != 0)
		return -r;
	(void)pthread_detach(thread);
	return 0;
}

static struct timespec time_in_ms(unsigned ms)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000L;
	if (t.tv_nsec >= NSEC_PER_SEC) {
		t.tv_sec++;
		t.tv_nsec -= NSEC_PER_SEC;
	}
	return t;
}

/* See put_call. -EBUSY: the thread hangs over an earlier call. */
static int call_in_thread(int (*function)(void *argument), void *argument, unsigned wait_ms)
{
	struct timespec until = time_in_ms(wait_ms);
	int r = -EBUSY;

	(void)pthread_mutex_lock(&lock);
	if (!call.number) {
		uint64_t number = ++last_number;

		call = (struct call){function, argument, number, 0};
		(void)pthread_cond_broadcast(&changed);
		r = 0;
		while (call.number == number && r == 0)
			r = -pthread_cond_timedwait(&changed, &lock, &until);
		r = call.number == number ? -ETIMEDOUT : call.result;
	}
	(void)pthread_mutex_unlock(&lock);
	return r;
}

/* --- records */

static void job_free(struct put_job *j)
{
	free(j);
}

static struct job *job_new(const struct record *r)
{
	static char header[RECORD_HEADER_MAX];
	size_t n = record_format_header(r, header, sizeof(header));
	struct job *j = malloc(sizeof(*j) + n + r->document.size);
	struct record copy = *r;

	if (!j)
		return NULL;
	memcpy(j->data, header, n);
	if (r->document.size)
		memcpy(j->data + n, r->document.data, r->document.size);
	copy.document.data = j->data + n;
	put_job_init(&j->put, &copy, j->data, n);
	j->put.release = job_free;
	return j;
}

static void take_stamp(struct put *p, struct record *r)
{
	static bool logged;
	int k = put_stamp(p, r);

	if (k < 0) {
		counts.unordered++;
		if (!logged)
			log_warning("cannot take a stamp from '%s/" SPOOL_STAMP
				    "': %s; events are spooled without their order",
				    spool_run_directory(), strerror(-k));
	}
	logged = k < 0;
}

static void log_loss(const struct put *p, const struct record *r)
{
	static uint64_t last_usec, unlogged;
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	char line[4096];
	struct text t = {.data = line, .size = sizeof(line)};

	if (last_usec && now - last_usec < LOSS_LOG_S * USEC_PER_SEC) {
		unlogged++;
		return;
	}
	put_describe_loss(p, r, &t);
	log_error("%.*s; %llu more since the last such line", (int)t.length, line,
		  (unsigned long long)unlogged);
	last_usec = now;
	unlogged = 0;
}

static int count(const struct put *p, const struct record *r, enum put_result result)
{
	switch (result) {
	case PUT_SPOOLED:
		counts.kept++;
		return 0;
	case PUT_IN_EMERGENCY:
		counts.emergency++;
		return 0;
	default:
		counts.lost++;
		log_loss(p, r);
		return p->emergency_error;
	}
}

int writer_put(struct record *r)
{
	enum put_result result = PUT_LOST;
	struct put p;
	struct job *j;
	int k;

	(void)pthread_mutex_lock(&order);
	if (r->flags & RECORD_NO_HOOK) {
		counts.without_hook++;
		counts.without_hook_usec = now_usec(CLOCK_REALTIME);
	}
	put_begin(&p, call_in_thread, SPOOL_HIGH_WATER_LISTEN);
	take_stamp(&p, r);
	j = job_new(r);
	if (j)
		result = put_record(&p, &j->put);
	else
		p.disk_error = p.emergency_error = -ENOMEM;
	k = count(&p, r, result);
	put_end(&p);
	(void)pthread_mutex_unlock(&order);
	return k;
}

void writer_count(struct listener_counts *ret_counts)
{
	(void)pthread_mutex_lock(&order);
	*ret_counts = counts;
	(void)pthread_mutex_unlock(&order);
}
