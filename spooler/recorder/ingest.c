/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ingest - see ingest.h. The loop's side and the threads share the mutex, the batches that are
 * handed over (`unread` to the parser, `job` to the store) and the statistics; an eventfd reports
 * that one of them is done. A batch goes round: an empty one comes back for each that is handed over.
 */
#include <pthread.h>
#include <sys/eventfd.h>

#include "spooler/base/backoff.h"
#include "spooler/base/log.h"
#include "spooler/base/loop.h"
#include "spooler/base/memory.h"
#include "spooler/base/util.h"
#include "spooler/recorder/ingest.h"
#include "spooler/recorder/verifiers.h"

#define RETRY_MIN_USEC 100000
#define RETRY_MAX_USEC (5 * USEC_PER_SEC)
#define TREES_MAX 256 /* signed events whose JSON is in memory as a tree, until they are judged */
#define PRUNE_PERIOD_USEC (600 * USEC_PER_SEC)
#define PRUNE_STEP_MIN 16 /* rows, or guests with all their rows */
#define PRUNE_STEP_MAX 512
#define PRUNE_STEP_USEC 20000 /* what a step should take: nothing is stored meanwhile */
/* Between two steps, while there is work: at least this long, and this many times as long as the
   step took. */
#define PRUNE_PAUSE_USEC (USEC_PER_SEC / 4)
#define PRUNE_PAUSE_STEPS 64

/* Messages, and their bytes one after the other. */
struct ingest_batch {
	struct message {
		size_t topic, payload, size; /* offsets into `bytes` */
		uint64_t number;
	} * messages;
	size_t n, allocated;
	char *bytes;
	size_t n_bytes, allocated_bytes;

	/* by the parser: the same messages, as the store takes them */
	struct store_message *ready;
	struct store_parsed *parsed;
	size_t n_parsed, allocated_ready, allocated_parsed;
};

struct ingest {
	/* the loop's */
	sd_event_source *done, *dry;
	struct ingest_handlers handlers;
	void *userdata;
	struct ingest_batch filling;
	bool failing;

	/* the threads' */
	pthread_t parser, thread;
	bool has_parser, has_thread;
	char *url, *events_topic, *status_topic;
	struct cloudevent_topics topics;
	uint64_t retention_usec;
	struct verifiers *verifiers; /* the parser's; NULL: signatures are not looked at */
	store_changed_fn changed;
	void *changed_userdata;
	struct store *store;
	bool was_open;
	uint64_t next_prune, next_step; /* CLOCK_MONOTONIC */
	size_t prune_step;
	bool pruning;

	/* all, under the mutex; a batch without has_... is empty */
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	struct ingest_batch unread, job;
	bool has_unread, has_job, stop;
	struct verifiers *to_fill; /* the job is to load the stored certificates into these */
	uint64_t committed;
	struct verifiers *next_verifiers; /* those to judge with from now on, if has_next */
	bool has_next;
	struct ingest_stats stats;
	int event_fd;
};

/* --- a batch */

static size_t put(struct ingest_batch *b, const void *data, size_t size)
{
	size_t at = b->n_bytes;

	memcpy(b->bytes + at, data, size);
	b->n_bytes += size;
	return at;
}

static int batch_add(struct ingest_batch *b, const char *topic, const void *payload, size_t size,
		     uint64_t number)
{
	size_t n = strlen(topic) + 1;
	int r;

	r = memory_reserve(&b->messages, &b->allocated, b->n + 1, sizeof(*b->messages));
	if (r >= 0)
		r = memory_reserve(&b->bytes, &b->allocated_bytes, b->n_bytes + n + size, 1);
	if (r < 0)
		return r;
	b->messages[b->n] = (struct message){.size = size, .number = number};
	b->messages[b->n].topic = put(b, topic, n);
	b->messages[b->n].payload = put(b, payload, size);
	b->n++;
	return 0;
}

static void release_parsed(struct ingest_batch *b)
{
	for (size_t k = 0; k < b->n_parsed; k++)
		store_parsed_release(&b->parsed[k]);
	b->n_parsed = 0;
}

static void batch_release(struct ingest_batch *b)
{
	release_parsed(b);
	free(b->ready);
	free(b->parsed);
	free(b->messages);
	free(b->bytes);
	*b = (struct ingest_batch){};
}

/* Memory that an unusually large event has taken is given back. */
static void batch_clear(struct ingest_batch *b)
{
	release_parsed(b);
	if (b->allocated_bytes > 4 * 1024 * 1024)
		batch_release(b);
	b->n = b->n_bytes = 0;
}

/* --- the threads */

static void wake_loop(struct ingest *i)
{
	uint64_t one = 1;

	(void)!write(i->event_fd, &one, sizeof(one));
}

static void set_error(struct ingest *i, const char *error)
{
	pthread_mutex_lock(&i->mutex);
	if (error && !i->stats.failing_since)
		i->stats.failing_since = now_usec(CLOCK_REALTIME);
	if (!error)
		i->stats.failing_since = 0;
	(void)snprintf(i->stats.error, sizeof(i->stats.error), "%s", error ? error : "");
	pthread_mutex_unlock(&i->mutex);
	wake_loop(i);
}

static bool must_stop(struct ingest *i)
{
	bool stop;

	pthread_mutex_lock(&i->mutex);
	stop = i->stop;
	pthread_mutex_unlock(&i->mutex);
	return stop;
}

/* Sleeps, unless it is to stop. */
static void pause_for(struct ingest *i, uint64_t usec)
{
	uint64_t until = now_usec(CLOCK_MONOTONIC) + usec;
	struct timespec t = {.tv_sec = (time_t)(until / USEC_PER_SEC),
			     .tv_nsec = (long)(until % USEC_PER_SEC) * 1000};

	pthread_mutex_lock(&i->mutex);
	while (!i->stop && pthread_cond_timedwait(&i->wake, &i->mutex, &t) == 0)
		;
	pthread_mutex_unlock(&i->mutex);
}

static int open_store(struct ingest *i, char **ret_error)
{
	int r = (i->was_open ? store_reopen : store_open)(i->url, &i->topics, &i->store, ret_error);

	if (r < 0)
		return r;
	i->was_open = true;
	store_on_change(i->store, i->changed, i->changed_userdata);
	return 0;
}

static int fill(const char *host, const char *certificate, void *userdata)
{
	return verifiers_add(userdata, host, certificate);
}

/* Stores the messages; or, if that is the job, loads the certificates that were stored. A lost or
   broken database is opened again at the next attempt. */
static int try_store(struct ingest *i, const struct store_message *messages, size_t n,
		     struct store_counts *counts)
{
	_cleanup_free_ char *error = NULL;
	int r = 0;

	if (!i->store)
		r = open_store(i, &error);
	if (r < 0) {
		set_error(i, error ? error : "out of memory");
		return r;
	}
	if (i->to_fill)
		r = store_each_certificate(i->store, fill, i->to_fill);
	else
		r = store_apply(i->store, messages, n, (int64_t)now_usec(CLOCK_REALTIME), counts);
	if (r < 0) {
		set_error(i, store_error(i->store));
		if (r != -EAGAIN && r != -ENOSPC) {
			store_close(i->store);
			i->store = NULL;
		}
	}
	return r;
}

static void note_commit(struct ingest *i, const struct store_counts *c, uint64_t number,
			uint64_t took)
{
	struct ingest_stats *s = &i->stats;

	pthread_mutex_lock(&i->mutex);
	s->counts.events += c->events;
	s->counts.duplicates += c->duplicates;
	s->counts.reports += c->reports;
	s->counts.rejects += c->rejects;
	for (size_t k = 0; k < N_VERIFICATIONS; k++)
		s->counts.verifications[k] += c->verifications[k];
	s->batches++;
	s->committed_usec = now_usec(CLOCK_REALTIME);
	s->longest_usec = took > s->longest_usec ? took : s->longest_usec;
	if (number)
		i->committed = number;
	pthread_mutex_unlock(&i->mutex);
}

/* Tries until it is done, however long that takes. *ret_usec: what the last attempt took. False: it
   was stopped. */
static bool use_store(struct ingest *i, const struct store_message *messages, size_t n,
		      struct store_counts *counts, uint64_t *ret_usec)
{
	uint64_t backoff = 0;

	for (;;) {
		uint64_t begin = now_usec(CLOCK_MONOTONIC);

		if (try_store(i, messages, n, counts) >= 0) {
			*ret_usec = now_usec(CLOCK_MONOTONIC) - begin;
			if (i->stats.failing_since)
				set_error(i, NULL);
			return true;
		}
		if (must_stop(i))
			return false;
		backoff = backoff_next(backoff, RETRY_MIN_USEC, RETRY_MAX_USEC);
		pause_for(i, backoff_scatter(backoff));
		if (must_stop(i))
			return false;
	}
}

/* Stores at most STORE_BATCH_MAX messages. False: it was stopped. */
static bool apply_chunk(struct ingest *i, const struct ingest_batch *b, size_t from, size_t n)
{
	struct store_counts counts = {};
	uint64_t number = 0, took;

	for (size_t k = from; k < from + n; k++)
		if (b->messages[k].number)
			number = b->messages[k].number;
	if (!use_store(i, &b->ready[from], n, &counts, &took))
		return false;
	note_commit(i, &counts, number, took);
	wake_loop(i); /* so that it is acknowledged at once */
	return true;
}

static void do_job(struct ingest *i)
{
	uint64_t took;

	if (i->to_fill)
		(void)use_store(i, NULL, 0, NULL, &took);
	for (size_t from = 0, n; from < i->job.n; from += n) {
		n = i->job.n - from < STORE_BATCH_MAX ? i->job.n - from : STORE_BATCH_MAX;
		if (!apply_chunk(i, &i->job, from, n))
			break;
	}
	batch_clear(&i->job);
	pthread_mutex_lock(&i->mutex);
	i->to_fill = NULL;
	i->has_job = false;
	pthread_cond_broadcast(&i->wake);
	pthread_mutex_unlock(&i->mutex);
	wake_loop(i);
}

/* When the next step of retention is due; UINT64_MAX: never. */
static uint64_t prune_due(const struct ingest *i)
{
	return i->retention_usec == 0 ? UINT64_MAX : i->pruning ? i->next_step : i->next_prune;
}

/* Steps shrink while they take too long, and grow while they take little time. */
static size_t next_prune_step(size_t step, uint64_t took)
{
	if (took > PRUNE_STEP_USEC && step > PRUNE_STEP_MIN)
		return step / 2;
	return took < PRUNE_STEP_USEC / 4 && step < PRUNE_STEP_MAX ? step * 2 : step;
}

static void prune(struct ingest *i, bool has_work)
{
	uint64_t begin = now_usec(CLOCK_MONOTONIC), now, pause;
	size_t step = i->prune_step, removed = 0;
	int r = -ENOTCONN;

	if (i->store)
		r = store_prune(i->store, (int64_t)(now_usec(CLOCK_REALTIME) - i->retention_usec),
				step, &removed);
	if (r < 0 && r != -EAGAIN)
		log_debug("retention has to wait: %s",
			  i->store ? store_error(i->store) : "no store");
	pthread_mutex_lock(&i->mutex);
	i->stats.pruned += removed;
	pthread_mutex_unlock(&i->mutex);
	now = now_usec(CLOCK_MONOTONIC);
	pause = PRUNE_PAUSE_STEPS * (now - begin);
	i->pruning = r >= 0 && removed >= step;
	i->prune_step = next_prune_step(step, now - begin);
	i->next_step = now + (!has_work ? 0 : pause > PRUNE_PAUSE_USEC ? pause : PRUNE_PAUSE_USEC);
	i->next_prune = now + (r < 0 ? 10 * USEC_PER_SEC : PRUNE_PERIOD_USEC);
}

/* Waits for a job, or until retention is due. Returns whether there is a job. */
static bool wait_for_job(struct ingest *i)
{
	uint64_t due = prune_due(i);
	struct timespec t = {.tv_sec = (time_t)(due / USEC_PER_SEC),
			     .tv_nsec = (long)(due % USEC_PER_SEC) * 1000};
	bool job;
	int error = 0;

	pthread_mutex_lock(&i->mutex);
	while (!i->stop && !i->has_job && error != ETIMEDOUT)
		error = due == UINT64_MAX ? pthread_cond_wait(&i->wake, &i->mutex)
					  : pthread_cond_timedwait(&i->wake, &i->mutex, &t);
	job = i->has_job && !i->stop;
	pthread_mutex_unlock(&i->mutex);
	return job;
}

static void *run(void *userdata)
{
	struct ingest *i = userdata;

	while (!must_stop(i)) {
		bool job = wait_for_job(i);

		if (job)
			do_job(i);
		if (!must_stop(i) && now_usec(CLOCK_MONOTONIC) >= prune_due(i))
			prune(i, job);
	}
	store_close(i->store);
	return NULL;
}

/* Waits until the store's thread has nothing to do. The mutex is held. False: it is to stop. */
static bool store_is_free(struct ingest *i)
{
	while (!i->stop && i->has_job)
		pthread_cond_wait(&i->wake, &i->mutex);
	return !i->stop;
}

/* The configuration was loaded, at start or again. New verifiers know the certificates that were
   stored, and all that was taken before them is stored. */
static void take_verifiers(struct ingest *i)
{
	pthread_mutex_lock(&i->mutex);
	if (i->has_next && store_is_free(i)) {
		verifiers_free(i->verifiers);
		i->verifiers = TAKE_PTR(i->next_verifiers);
		i->has_next = false;
		i->to_fill = i->verifiers;
		i->has_job = i->to_fill != NULL;
		pthread_cond_broadcast(&i->wake);
		(void)store_is_free(i);
	}
	pthread_mutex_unlock(&i->mutex);
}

static int parse(const struct ingest *i, struct ingest_batch *b, size_t end)
{
	int r;

	r = memory_reserve(&b->ready, &b->allocated_ready, b->n, sizeof(*b->ready));
	if (r >= 0)
		r = memory_reserve(&b->parsed, &b->allocated_parsed, b->n, sizeof(*b->parsed));
	for (size_t k = b->n_parsed; r >= 0 && k < end; k++) {
		const struct message *m = &b->messages[k];

		b->ready[k] = (struct store_message){b->bytes + m->topic, b->bytes + m->payload,
						     m->size, &b->parsed[k]};
		r = store_parse(&i->topics, &b->ready[k], &b->parsed[k]);
		b->n_parsed += r >= 0;
	}
	return r;
}

static void parse_and_judge(struct ingest *i, struct ingest_batch *b)
{
	while (b->n_parsed < b->n && !must_stop(i)) {
		size_t from = b->n_parsed, n = b->n - from < TREES_MAX ? b->n - from : TREES_MAX;

		while (parse(i, b, from + n) < 0 && !must_stop(i))
			pause_for(i, RETRY_MIN_USEC); /* for memory */
		if (must_stop(i))
			return;
		if (i->verifiers)
			verifiers_judge(i->verifiers, b->ready + from, n);
		for (size_t k = from; k < from + n; k++)
			if (b->parsed[k].event.kind == CLOUDEVENT_EVENT)
				cloudevent_drop_tree(&b->parsed[k].event);
	}
}

/* Hands the parsed batch to the store's thread, once that is free. */
static void hand_to_store(struct ingest *i)
{
	pthread_mutex_lock(&i->mutex);
	if (store_is_free(i)) {
		struct ingest_batch empty = i->job;

		i->job = i->unread;
		i->unread = empty;
		i->has_job = true;
		i->has_unread = false;
		pthread_cond_broadcast(&i->wake);
	}
	pthread_mutex_unlock(&i->mutex);
	wake_loop(i);
}

static void *run_parser(void *userdata)
{
	struct ingest *i = userdata;

	while (!must_stop(i)) {
		bool work;

		pthread_mutex_lock(&i->mutex);
		while (!i->stop && !i->has_unread)
			pthread_cond_wait(&i->wake, &i->mutex);
		work = i->has_unread;
		pthread_mutex_unlock(&i->mutex);
		if (!work)
			continue;
		take_verifiers(i);
		parse_and_judge(i, &i->unread);
		if (!must_stop(i))
			hand_to_store(i);
	}
	return NULL;
}

/* --- the loop's side */

/* Hands the filling batch over, if the time has come: see ingest.h. */
static void hand_over(struct ingest *i)
{
	if (i->filling.n == 0)
		return;
	pthread_mutex_lock(&i->mutex);
	if (!i->has_unread && (!i->has_job || i->filling.n >= STORE_BATCH_MAX)) {
		struct ingest_batch empty = i->unread;

		i->unread = i->filling;
		i->filling = empty;
		i->has_unread = true;
		pthread_cond_broadcast(&i->wake);
	}
	pthread_mutex_unlock(&i->mutex);
}

/* All that was to be read has been read. */
static int on_dry(sd_event_source *s, uint64_t usec, void *userdata)
{
	hand_over(userdata);
	return 0;
}

static int on_done(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	struct ingest *i = userdata;
	uint64_t value, committed;
	char error[sizeof(i->stats.error)];
	bool failing;

	(void)!read(fd, &value, sizeof(value));
	pthread_mutex_lock(&i->mutex);
	committed = i->committed;
	i->committed = 0;
	failing = i->stats.failing_since != 0;
	memcpy(error, i->stats.error, sizeof(error));
	pthread_mutex_unlock(&i->mutex);
	if (failing != i->failing) {
		i->failing = failing;
		i->handlers.store_state(failing ? error : NULL, i->userdata);
	}
	if (committed)
		i->handlers.committed(committed, i->userdata);
	if (i->filling.n >= STORE_BATCH_MAX)
		hand_over(i);
	else if (i->filling.n > 0)
		(void)sd_event_source_set_enabled(i->dry, SD_EVENT_ONESHOT);
	return 0;
}

int ingest_add(struct ingest *i, const char *topic, const void *payload, size_t size,
	       uint64_t number)
{
	int r;

	r = batch_add(&i->filling, topic, payload, size, number);
	if (r < 0)
		return r;
	if (i->filling.n == STORE_BATCH_MAX)
		hand_over(i);
	else if (i->filling.n == 1)
		(void)sd_event_source_set_enabled(i->dry, SD_EVENT_ONESHOT);
	return 0;
}

void ingest_drop(struct ingest *i)
{
	batch_clear(&i->filling);
}

void ingest_verify(struct ingest *i, struct verifiers *verifiers)
{
	struct verifiers *unused;

	pthread_mutex_lock(&i->mutex);
	unused = i->next_verifiers;
	i->next_verifiers = verifiers;
	i->has_next = true;
	pthread_mutex_unlock(&i->mutex);
	verifiers_free(unused);
}

void ingest_stats(struct ingest *i, struct ingest_stats *ret_stats)
{
	pthread_mutex_lock(&i->mutex);
	*ret_stats = i->stats;
	pthread_mutex_unlock(&i->mutex);
}

/* --- start and end */

/* A reason that passes by itself, or by what an administrator does elsewhere. */
static bool passes(int error)
{
	return error == -EAGAIN || error == -ENOTCONN || error == -ENOSPC || error == -EROFS ||
	       error == -EIO || error == -ENOMEM;
}

static int start_thread(struct ingest *i, void *(*fn)(void *), pthread_t *ret_thread, bool *ret_has)
{
	sigset_t all, old;
	int error;

	(void)sigfillset(&all); /* signals are for the loop */
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(ret_thread, NULL, fn, i);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	*ret_has = error == 0;
	return -error;
}

static int ingest_init(struct ingest *i, sd_event *loop, const struct ingest_options *o)
{
	pthread_condattr_t attributes;
	int r;

	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_mutex_init(&i->mutex, NULL);
	(void)pthread_cond_init(&i->wake, &attributes);
	(void)pthread_condattr_destroy(&attributes);
	i->url = strdup(o->store);
	i->events_topic = strdup(o->topics.events);
	i->status_topic = o->topics.status ? strdup(o->topics.status) : NULL;
	i->topics = (struct cloudevent_topics){i->events_topic, i->status_topic};
	i->retention_usec = o->retention_s * USEC_PER_SEC;
	i->prune_step = PRUNE_STEP_MIN;
	i->next_verifiers = o->verifiers;
	i->has_next = true;
	i->changed = o->changed;
	i->changed_userdata = o->changed_userdata;
	i->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!i->url || !i->events_topic || i->event_fd < 0)
		return i->event_fd < 0 ? -errno : -ENOMEM;
	r = sd_event_add_io(loop, &i->done, i->event_fd, EPOLLIN, on_done, i);
	return r < 0 ? r : loop_add_turn(loop, &i->dry, on_dry, i);
}

int ingest_new(sd_event *loop, const struct ingest_options *o, const struct ingest_handlers *h,
	       void *userdata, struct ingest **ret_ingest, char **ret_error)
{
	struct ingest *i = calloc(1, sizeof(*i));
	int r;

	*ret_error = NULL;
	if (!i) {
		verifiers_free(o->verifiers);
		return -ENOMEM;
	}
	i->event_fd = -1;
	i->handlers = *h;
	i->userdata = userdata;
	r = ingest_init(i, loop, o);
	if (r >= 0)
		r = open_store(i, ret_error);
	if (r < 0 && passes(r) && i->url && i->dry) {
		set_error(i, *ret_error ? *ret_error : "out of memory");
		free(*ret_error);
		*ret_error = NULL;
		r = 0;
	}
	if (r >= 0)
		r = start_thread(i, run_parser, &i->parser, &i->has_parser);
	if (r >= 0)
		r = start_thread(i, run, &i->thread, &i->has_thread);
	if (r < 0) {
		(void)ingest_free(i, USEC_PER_SEC);
		return r;
	}
	*ret_ingest = i;
	return 0;
}

static void stop(struct ingest *i)
{
	pthread_mutex_lock(&i->mutex);
	i->stop = true;
	pthread_cond_broadcast(&i->wake);
	pthread_mutex_unlock(&i->mutex);
}

bool ingest_free(struct ingest *i, uint64_t patience_usec)
{
	uint64_t until = now_usec(CLOCK_REALTIME) + patience_usec;
	struct timespec t = {.tv_sec = (time_t)(until / USEC_PER_SEC),
			     .tv_nsec = (long)(until % USEC_PER_SEC) * 1000};

	if (!i)
		return true;
	stop(i);
	if (i->has_parser && pthread_timedjoin_np(i->parser, NULL, &t) != 0)
		return false;
	i->has_parser = false;
	if (i->has_thread && pthread_timedjoin_np(i->thread, NULL, &t) != 0)
		return false;
	if (!i->has_thread)
		store_close(i->store);
	sd_event_source_disable_unref(i->done);
	sd_event_source_disable_unref(i->dry);
	close_fdp(&i->event_fd);
	batch_release(&i->filling);
	batch_release(&i->unread);
	batch_release(&i->job);
	(void)pthread_cond_destroy(&i->wake);
	(void)pthread_mutex_destroy(&i->mutex);
	verifiers_free(i->verifiers);
	verifiers_free(i->next_verifiers);
	free(i->url);
	free(i->events_topic);
	free(i->status_topic);
	free(i);
	return true;
}
