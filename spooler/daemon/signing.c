/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * signing - see signing.h.
 *
 * One list holds the jobs, oldest first: the first ones are done, then comes the one that the
 * thread works on (`at`), then those that wait. The lock guards the list and `done`; a job's event
 * belongs to the thread while it is `at`. `signer_lock` keeps signing_sign() and the thread apart.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "spooler/base/util.h"
#include "spooler/daemon/signing.h"

#define SIGNING_WAKE 32 /* the loop is woken once for up to this many, while more wait */

struct signing {
	struct signer *signer;
	void (*ready)(void *userdata);
	void *userdata;
	sd_event_source *source;
	int event_fd;

	pthread_t thread;
	bool started, stop;
	pthread_mutex_t lock, signer_lock;
	pthread_cond_t more, finished;
	struct signing_job *first, *last, *at;
	size_t n, bytes;
};

static int sign(struct signing *s, struct event *e)
{
	_cleanup_free_ char *material = NULL;
	struct verifiable parts;
	int r = event_parts(e, &parts);

	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&s->signer_lock);
	r = signer_sign(s->signer, &parts, &material);
	(void)pthread_mutex_unlock(&s->signer_lock);
	return r < 0 ? r : event_attach(e, material);
}

/* --- the thread */

static void wake_loop(const struct signing *s)
{
	const uint64_t one = 1;

	(void)!write(s->event_fd, &one, sizeof(one));
}

static struct signing_job *first_unsigned(const struct signing *s)
{
	struct signing_job *j = s->first;

	while (j && j->done)
		j = j->next;
	return j;
}

static void *thread_main(void *userdata)
{
	struct signing *s = userdata;
	unsigned unreported = 0;
	int error;

	(void)pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		s->at = first_unsigned(s);
		if (!s->at) {
			(void)pthread_cond_wait(&s->more, &s->lock);
			continue;
		}
		(void)pthread_mutex_unlock(&s->lock);
		error = sign(s, &s->at->event);
		(void)pthread_mutex_lock(&s->lock);
		s->at->error = error;
		s->at->done = true;
		s->at = NULL;
		(void)pthread_cond_broadcast(&s->finished);
		if (++unreported < SIGNING_WAKE && first_unsigned(s))
			continue;
		unreported = 0;
		wake_loop(s);
	}
	(void)pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* --- the loop's side */

static int on_signed(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct signing *s = userdata;
	uint64_t count;

	(void)!read(fd, &count, sizeof(count));
	s->ready(s->userdata);
	return 0;
}

static int start_thread(struct signing *s)
{
	sigset_t all, before;
	int r;

	/* Signals are the loop's. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&s->thread, NULL, thread_main, s);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	s->started = r == 0;
	return -r;
}

int signing_new(sd_event *loop, struct signer *signer, void (*ready)(void *userdata),
		void *userdata, struct signing **ret_signing)
{
	struct signing *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		signer_free(signer);
		return -ENOMEM;
	}
	*s = (struct signing){
		.signer = signer,
		.ready = ready,
		.userdata = userdata,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.signer_lock = PTHREAD_MUTEX_INITIALIZER,
		.more = PTHREAD_COND_INITIALIZER,
		.finished = PTHREAD_COND_INITIALIZER,
	};
	s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = s->event_fd < 0 ? -errno
			    : sd_event_add_io(loop, &s->source, s->event_fd, EPOLLIN, on_signed, s);
	if (r >= 0)
		r = start_thread(s);
	if (r < 0) {
		signing_free(s);
		return r;
	}
	*ret_signing = s;
	return 0;
}

void signing_free(struct signing *s)
{
	if (!s)
		return;
	if (s->started) {
		(void)pthread_mutex_lock(&s->lock);
		s->stop = true;
		(void)pthread_cond_signal(&s->more);
		(void)pthread_mutex_unlock(&s->lock);
		(void)pthread_join(s->thread, NULL);
	}
	sd_event_source_disable_unref(s->source);
	close_fdp(&s->event_fd);
	signer_free(s->signer);
	free(s);
}

void signing_put(struct signing *s, struct signing_job *job)
{
	job->done = false;
	job->error = 0;
	job->next = NULL;
	job->size = job->event.payload_size; /* a signature makes it larger */
	(void)pthread_mutex_lock(&s->lock);
	if (s->last)
		s->last->next = job;
	else
		s->first = job;
	s->last = job;
	s->n++;
	s->bytes += job->size;
	(void)pthread_cond_signal(&s->more);
	(void)pthread_mutex_unlock(&s->lock);
}

bool signing_is_full(const struct signing *s)
{
	return s->n >= SIGNING_EVENTS || s->bytes >= SIGNING_BYTES;
}

bool signing_is_empty(const struct signing *s)
{
	return s->n == 0;
}

struct signing_job *signing_peek(struct signing *s)
{
	struct signing_job *job;

	(void)pthread_mutex_lock(&s->lock);
	job = s->first && s->first->done ? s->first : NULL;
	(void)pthread_mutex_unlock(&s->lock);
	return job;
}

static struct signing_job *take_first(struct signing *s)
{
	struct signing_job *job = s->first;

	if (!job)
		return NULL;
	s->first = job->next;
	if (!s->first)
		s->last = NULL;
	s->n--;
	s->bytes -= job->size;
	return job;
}

struct signing_job *signing_take(struct signing *s)
{
	struct signing_job *job;

	(void)pthread_mutex_lock(&s->lock);
	job = s->first && s->first->done ? take_first(s) : NULL;
	(void)pthread_mutex_unlock(&s->lock);
	return job;
}

struct signing_job *signing_drop(struct signing *s)
{
	struct signing_job *job;

	(void)pthread_mutex_lock(&s->lock);
	while (s->first && s->first == s->at)
		(void)pthread_cond_wait(&s->finished, &s->lock);
	job = take_first(s);
	(void)pthread_mutex_unlock(&s->lock);
	return job;
}

int signing_sign(struct signing *s, struct event *e)
{
	return sign(s, e);
}

const struct signer *signing_signer(const struct signing *s)
{
	return s->signer;
}

const char *signing_certificate(const struct signing *s)
{
	return signer_certificate(s->signer);
}
