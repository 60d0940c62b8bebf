/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verifiers - see verifiers.h.
 *
 * A batch is a round: the threads take messages from `next` on until none is left. `round` and
 * `busy` are under the lock; everything else of a round is written before it begins.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/recorder/verifiers.h"

struct worker {
	struct verifiers *all;
	struct verifier *verifier;
	pthread_t thread;
	bool started;
};

struct verifiers {
	struct worker workers[VERIFIERS_MAX]; /* the first is the caller's */
	size_t n;
	bool required;

	pthread_mutex_t lock;
	pthread_cond_t begin, end;
	unsigned round;
	size_t busy; /* threads that are still in it */
	bool stop;

	const struct store_message *messages;
	size_t n_messages;
	atomic_size_t next;
};

/* All threads read the reports, each for itself; the first one says what it has found. */
static void learn(struct worker *w, const struct store_message *m)
{
	struct store_parsed *p = m->parsed;
	_cleanup_free_ char *why = NULL;
	int r;

	if (p->event.kind != CLOUDEVENT_STATUS)
		return;
	r = verifier_learn(w->verifier, p->event.json, &why);
	if (w != &w->all->workers[0])
		return;
	p->learned = r > 0;
	if (r < 0)
		log_warning("the certificate that %s reports is not used: %s", p->event.host,
			    why ? why : strerror(-r));
}

static void judge(struct worker *w, const struct store_message *m)
{
	struct store_parsed *p = m->parsed;
	const char *why = "it carries no signature";
	enum verification found = VERIFICATION_UNSIGNED;

	if (!p->good)
		return;
	if (p->event.json)
		found = verifier_check(w->verifier, p->event.json, m->payload, m->size, &why);
	p->verification = found;
	p->judged = p->event.kind == CLOUDEVENT_EVENT || found == VERIFICATION_FORGED;
	p->event.flags |= found == VERIFICATION_UNSIGNED   ? EVENT_UNSIGNED
			  : found == VERIFICATION_VERIFIED ? EVENT_SIGNED | EVENT_VERIFIED
							   : EVENT_SIGNED;
	p->good = found == VERIFICATION_VERIFIED ||
		  (found != VERIFICATION_FORGED && !w->all->required);
	if (!p->good)
		(void)snprintf(p->why, sizeof(p->why), "%s: %s", verification_name(found), why);
}

static void take_part(struct worker *w)
{
	struct verifiers *v = w->all;
	size_t i;

	for (i = 0; i < v->n_messages; i++)
		learn(w, &v->messages[i]);
	while ((i = atomic_fetch_add(&v->next, 1)) < v->n_messages)
		judge(w, &v->messages[i]);
}

static void *run(void *userdata)
{
	struct worker *w = userdata;
	struct verifiers *v = w->all;
	unsigned round = 0;

	(void)pthread_mutex_lock(&v->lock);
	for (;;) {
		while (!v->stop && v->round == round)
			(void)pthread_cond_wait(&v->begin, &v->lock);
		if (v->stop)
			break;
		round = v->round;
		(void)pthread_mutex_unlock(&v->lock);
		take_part(w);
		(void)pthread_mutex_lock(&v->lock);
		if (--v->busy == 0)
			(void)pthread_cond_signal(&v->end);
	}
	(void)pthread_mutex_unlock(&v->lock);
	return NULL;
}

static int add_worker(struct verifiers *v, const char *ca_file, const char *crl_file,
		      char **ret_error)
{
	struct worker *w = &v->workers[v->n];
	sigset_t all, before;
	int r;

	w->all = v;
	r = verifier_new(ca_file, crl_file, &w->verifier, ret_error);
	if (r < 0)
		return r;
	if (v->n++ == 0)
		return 0;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&w->thread, NULL, run, w);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	w->started = r == 0;
	return r;
}

int verifiers_new(const char *ca_file, const char *crl_file, bool required,
		  struct verifiers **ret_verifiers, char **ret_error)
{
	struct verifiers *v = calloc(1, sizeof(*v));
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	size_t wanted = processors < 1 ? 1 : (size_t)processors;
	int r = v ? 0 : -ENOMEM;

	*ret_error = NULL;
	if (v) {
		v->required = required;
		v->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
		v->begin = v->end = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	}
	while (r >= 0 && v->n < wanted && v->n < VERIFIERS_MAX)
		r = add_worker(v, ca_file, crl_file, ret_error);
	if (r < 0) {
		verifiers_free(v);
		if (!*ret_error)
			*ret_error = strdup(strerror(-r));
		return r;
	}
	*ret_verifiers = v;
	return 0;
}

void verifiers_free(struct verifiers *v)
{
	if (!v)
		return;
	(void)pthread_mutex_lock(&v->lock);
	v->stop = true;
	(void)pthread_cond_broadcast(&v->begin);
	(void)pthread_mutex_unlock(&v->lock);
	for (size_t i = 0; i < v->n; i++) {
		if (v->workers[i].started)
			(void)pthread_join(v->workers[i].thread, NULL);
		verifier_free(v->workers[i].verifier);
	}
	free(v);
}

int verifiers_add(struct verifiers *v, const char *host, const char *certificate)
{
	int r = 0;

	for (size_t i = 0; i < v->n && r != -ENOMEM; i++) {
		_cleanup_free_ char *why = NULL;

		r = verifier_add(v->workers[i].verifier, host, certificate, &why);
	}
	return r == -ENOMEM ? r : 0;
}

void verifiers_judge(struct verifiers *v, const struct store_message *messages, size_t n)
{
	v->messages = messages;
	v->n_messages = n;
	atomic_store(&v->next, 0);
	(void)pthread_mutex_lock(&v->lock);
	v->busy = v->n - 1;
	v->round++;
	(void)pthread_cond_broadcast(&v->begin);
	(void)pthread_mutex_unlock(&v->lock);
	take_part(&v->workers[0]);
	(void)pthread_mutex_lock(&v->lock);
	while (v->busy > 0)
		(void)pthread_cond_wait(&v->end, &v->lock);
	(void)pthread_mutex_unlock(&v->lock);
}
