/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * resolve - see resolve.h. One struct is shared by the loop and the thread, counted; what the
 * thread writes (error, list) is read by the loop only after the eventfd has said so, what the loop
 * owns (source, done) the thread never touches.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "spooler/mqtt/resolve.h"
#include "spooler/base/util.h"

#define QUESTIONS_MAX 8		/* open at a time, abandoned ones included */
#define STACK_SIZE (512 * 1024) /* name service modules use large buffers on the stack */

struct resolve {
	atomic_int n_ref;
	char *host;
	char port[8];
	int event_fd;
	int error;
	struct addrinfo *list;

	sd_event_source *source;
	resolve_done done;
	void *userdata;
};

static atomic_int open_questions;

static const struct addrinfo hints = {
	.ai_family = AF_UNSPEC,
	.ai_socktype = SOCK_STREAM,
	.ai_flags = AI_NUMERICSERV,
};

int resolve_numeric(const char *host, uint16_t port, struct addrinfo **ret_list)
{
	struct addrinfo numeric = hints;
	char service[8];

	numeric.ai_flags |= AI_NUMERICHOST;
	(void)snprintf(service, sizeof(service), "%u", port);
	return getaddrinfo(host, service, &numeric, ret_list) == 0 ? 0 : -EINVAL;
}

static void resolve_unref(struct resolve *r)
{
	if (atomic_fetch_sub(&r->n_ref, 1) > 1)
		return;
	if (r->list)
		freeaddrinfo(r->list);
	if (r->event_fd >= 0)
		(void)close(r->event_fd);
	free(r->host);
	free(r);
}

static void *ask(void *userdata)
{
	struct resolve *r = userdata;

	r->error = getaddrinfo(r->host, r->port, &hints, &r->list);
	if (r->error)
		r->list = NULL;
	atomic_fetch_sub(&open_questions, 1);
	(void)eventfd_write(r->event_fd, 1); /* an eventfd at 0 takes a 1 */
	resolve_unref(r);
	return NULL;
}

static int start_thread(struct resolve *r)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int error;

	error = pthread_attr_init(&attr);
	if (error)
		return -error;
	(void)pthread_attr_setstacksize(&attr, STACK_SIZE);
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* Signals are the loop's. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&thread, &attr, ask, r);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)pthread_attr_destroy(&attr);
	return -error;
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct resolve *r = userdata;
	struct addrinfo *list = TAKE_PTR(r->list);

	r->source = sd_event_source_disable_unref(r->source);
	r->done(list, r->error, r->userdata); /* may free r */
	return 0;
}

int resolve_start(sd_event *loop, const char *host, uint16_t port, resolve_done done,
		  void *userdata, struct resolve **ret_resolve)
{
	struct resolve *r;
	int error;

	if (atomic_fetch_add(&open_questions, 1) >= QUESTIONS_MAX) {
		atomic_fetch_sub(&open_questions, 1);
		return -EBUSY;
	}
	r = calloc(1, sizeof(*r));
	if (!r) {
		error = -ENOMEM;
		goto fail;
	}
	r->event_fd = -1;
	atomic_init(&r->n_ref, 1);
	r->done = done;
	r->userdata = userdata;
	(void)snprintf(r->port, sizeof(r->port), "%u", port);
	r->host = strdup(host);
	if (!r->host) {
		error = -ENOMEM;
		goto fail;
	}
	r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->event_fd < 0) {
		error = -errno;
		goto fail;
	}
	error = sd_event_add_io(loop, &r->source, r->event_fd, EPOLLIN, on_answer, r);
	if (error < 0)
		goto fail;
	atomic_fetch_add(&r->n_ref, 1);
	error = start_thread(r);
	if (error < 0) {
		atomic_fetch_sub(&r->n_ref, 1);
		goto fail;
	}
	*ret_resolve = r;
	return 0;
fail:
	atomic_fetch_sub(&open_questions, 1);
	resolve_free(r);
	return error;
}

void resolve_free(struct resolve *r)
{
	if (!r)
		return;
	r->source = sd_event_source_disable_unref(r->source);
	resolve_unref(r);
}
