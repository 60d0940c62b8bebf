/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * listener - see listener.h.
 *
 * Threads: the main one has signals, timers and the watchdog (sd-event). One runs libvirt's own
 * event loop (virEventRegisterDefaultImpl); one for each URI makes the calls that can hang; one
 * writes to the disk (writer.c). libvirt's loop is used, not sd-event for both, because connections
 * add their handles from their own threads, for which libvirt's loop is made and sd-event is not.
 */
#include "spooler/listener/listener.h"

#include <libvirt/virterror.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "hook/spool.h"
#include "spooler/base/loop.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/listener/writer.h"
#include "spooler/listener/correlate.h"
#include "spooler/listener/report.h"

/* Status is written at most this often, and only when something has changed. */
#define REPORT_USEC USEC_PER_SEC
/* Status and metrics are written at least this often: their time shows that they are current. */
#define METRICS_USEC (60 * USEC_PER_SEC)
#define BEAT_MS 2000   /* libvirt's event loop shows that it runs */
#define BEAT_LATE_S 60 /* without a beat for this long, systemd's watchdog is no longer fed */
#define STOP_MS 3000   /* for the connections to end */

/* --- libvirt's event loop */

static pthread_t event_thread;
static int beat_timer = -1;
static atomic_bool event_stop;
static atomic_llong last_beat_s;

static long long monotonic_s(void)
{
	return (long long)(now_usec(CLOCK_MONOTONIC) / USEC_PER_SEC);
}

static void on_beat(int timer, void *userdata)
{
	atomic_store(&last_beat_s, monotonic_s());
}

static void *run_events(void *userdata)
{
	while (!atomic_load(&event_stop))
		if (virEventRunDefaultImpl() < 0)
			/* The loop failed; the beat goes on only if that passes. */
			(void)usleep(10000);
	return NULL;
}

/* libvirt would print errors; we log them from its return values. */
static void on_libvirt_error(void *userdata, virErrorPtr error)
{
}

int listener_start_events(void)
{
	virSetErrorFunc(NULL, on_libvirt_error);
	if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
		return -ENOSYS;
	beat_timer = virEventAddTimeout(BEAT_MS, on_beat, NULL, NULL);
	if (beat_timer < 0)
		return -ENOMEM;
	atomic_store(&last_beat_s, monotonic_s());
	return -pthread_create(&event_thread, NULL, run_events, NULL);
}

void listener_stop_events(void)
{
	atomic_store(&event_stop, true);
	virEventUpdateTimeout(beat_timer, 0); /* wakes it */
	(void)pthread_join(event_thread, NULL);
}

/* --- the main loop */

struct listener {
	const struct listener_options *options;
	struct connection *connections[LISTENER_URIS_MAX];
	size_t n_connections;
	sd_event *loop;
	sd_event_source *timer;
	int changed_fd; /* an eventfd that the connections write to */
	uint64_t started_usec, report_due_usec;
	bool dirty, report_error_logged, watchdog;
};

static void on_changed(void *userdata)
{
	struct listener *l = userdata;
	uint64_t one = 1;

	(void)!write(l->changed_fd, &one, sizeof(one));
}

static void notify_systemd(const struct connection_stats *stats, size_t n,
			   const struct listener_counts *records)
{
	size_t listening = 0;

	for (size_t i = 0; i < n; i++)
		listening += stats[i].listening;
	(void)sd_notifyf(0, "STATUS=Listening to %zu of %zu; %" PRIu64 " records, %" PRIu64 " lost",
			 listening, n, records->kept + records->emergency, records->lost);
}

static void write_report(struct listener *l)
{
	struct connection_stats stats[LISTENER_URIS_MAX];
	struct report report = {
		.file.pid = (uint64_t)getpid(),
		.file.version = PACKAGE_VERSION,
		.file.started_usec = l->started_usec,
		.connections = stats,
		.n_connections = l->n_connections,
	};
	int r;

	for (size_t i = 0; i < l->n_connections; i++)
		connection_get_stats(l->connections[i], &stats[i]);
	writer_count(&report.file.records);
	r = report_write(&report, spool_run_directory(), l->options->metrics_file);
	if (r < 0 && !l->report_error_logged)
		log_warning("cannot write status or metrics: %s", strerror(-r));
	l->report_error_logged = r < 0;
	notify_systemd(stats, l->n_connections, &report.file.records);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct listener *l = userdata;
	bool alive = monotonic_s() - atomic_load(&last_beat_s) < BEAT_LATE_S;

	if (l->dirty || usec >= l->report_due_usec) {
		l->dirty = false;
		l->report_due_usec = usec + METRICS_USEC;
		write_report(l);
	}
	if (l->watchdog && !alive) {
		log_error("libvirt's event loop has not run for %d s", BEAT_LATE_S);
		(void)sd_event_set_watchdog(l->loop, false);
		l->watchdog = false;
	}
	(void)sd_event_source_set_time_relative(s, l->watchdog ? 10 * USEC_PER_SEC : METRICS_USEC);
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
	return 0;
}

static int on_change(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct listener *l = userdata;
	uint64_t n;

	(void)!read(fd, &n, sizeof(n));
	if (!l->dirty)
		(void)sd_event_source_set_time_relative(l->timer, REPORT_USEC);
	l->dirty = true;
	return 0;
}

static int on_spool(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	correlate_drain();
	return 0;
}

static int on_terminate(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct listener *l = userdata;

	log_info("stopping on signal %s", strsignal((int)si->ssi_signo));
	(void)sd_notify(0, "STOPPING=1");
	(void)sd_event_exit(l->loop, EXIT_SUCCESS);
	return 0;
}

static int add_signals(struct listener *l)
{
	static const struct loop_signal signals[] = {{SIGTERM, on_terminate},
						     {SIGINT, on_terminate}};

	return loop_add_signals(l->loop, signals, ELEMENTSOF(signals), l);
}

static int add_sources(struct listener *l)
{
	int r, fd = correlate_start();

	if (fd < 0)
		return fd;
	r = sd_event_add_io(l->loop, NULL, fd, EPOLLIN, on_spool, l);
	if (r < 0)
		return r;
	l->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->changed_fd < 0)
		return -errno;
	r = sd_event_add_io(l->loop, NULL, l->changed_fd, EPOLLIN, on_change, l);
	if (r < 0)
		return r;
	r = sd_event_add_time_relative(l->loop, &l->timer, CLOCK_MONOTONIC, REPORT_USEC, 0,
				       on_timer, l);
	if (r < 0)
		return r;
	r = sd_event_set_watchdog(l->loop, true);
	l->watchdog = r > 0;
	return r;
}

/* Signals first: the threads inherit that they are blocked. */
static int listener_init(struct listener *l)
{
	int r;

	l->started_usec = now_usec(CLOCK_REALTIME);
	srandom((unsigned)l->started_usec ^ (unsigned)getpid());
	r = sd_event_default(&l->loop);
	if (r >= 0)
		r = add_signals(l);
	if (r >= 0)
		r = add_sources(l);
	if (r >= 0)
		r = writer_start();
	if (r >= 0)
		r = listener_start_events();
	return r;
}

static int connect_all(struct listener *l)
{
	for (size_t i = 0; i < l->options->n_uris; i++) {
		int r = connection_new(l->options->uris[i], &l->options->connection, on_changed, l,
				       &l->connections[l->n_connections]);

		if (r < 0)
			return r;
		l->n_connections++;
	}
	return 0;
}

/* A connection that hangs in a call of libvirt's ends with the process. */
static bool disconnect_all(struct listener *l)
{
	bool all = true;

	for (size_t i = 0; i < l->n_connections; i++)
		all = connection_stop(l->connections[i], STOP_MS) && all;
	l->n_connections = 0;
	return all;
}

int listener_run(const struct listener_options *o)
{
	struct listener l = {.options = o, .changed_fd = -1};
	int r = listener_init(&l);

	if (r >= 0)
		r = connect_all(&l);
	if (r < 0) {
		log_error("cannot start: %s", strerror(-r));
		return EX_OSERR;
	}
	(void)sd_notify(0, "READY=1");
	log_info("started, spool '%s'", spool_directory());
	r = sd_event_loop(l.loop);
	if (r < 0) {
		log_error("the event loop failed: %s", strerror(-r));
		r = EX_SOFTWARE;
	}
	if (!disconnect_all(&l)) {
		log_warning("a libvirt connection did not close in time; abandoning it at exit");
		report_remove(spool_run_directory());
		_exit(r);
	}
	listener_stop_events();
	report_remove(spool_run_directory());
	log_info("stopped");
	sd_event_source_unref(l.timer);
	sd_event_unref(l.loop);
	(void)close(l.changed_fd);
	return r;
}
