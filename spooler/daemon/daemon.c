/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * daemon - see daemon.h.
 *
 * SIGHUP reloads configuration and certificates; an invalid configuration is refused, and the old
 * goes on. SIGTERM stops feeding, waits a bounded time for what is in flight, and exits; the rest
 * stays in the spool.
 */
#include <inttypes.h>
#include <signal.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "spooler/daemon/backlog.h"
#include "spooler/daemon/housekeeping.h"
#include "spooler/config/config.h"
#include "spooler/daemon/daemon.h"
#include "spooler/daemon/disk.h"
#include "spooler/daemon/health.h"
#include "spooler/daemon/hook-watch.h"
#include "hook/spool.h"
#include "spooler/base/loop.h"
#include "spooler/base/log.h"
#include "spooler/daemon/metrics.h"
#include "spooler/daemon/queue.h"
#include "spooler/daemon/presence.h"
#include "spooler/daemon/relay.h"
#include "spooler/daemon/running.h"
#include "spooler/daemon/status.h"
#include "spooler/mqtt/transport.h"
#include "spooler/base/util.h"
#include "spooler/daemon/watch.h"
#include "spooler/daemon/write-test.h"

#define METRICS_USEC (15 * USEC_PER_SEC) /* how often an age is brought up to date */
#define IDLE_USEC (3600 * USEC_PER_SEC)
#define STATUS_USEC USEC_PER_SEC /* at most this often, and only when something has changed */
#define STOP_MARGIN_USEC (5 * USEC_PER_SEC) /* beyond spool.stop_timeout, for systemd */

struct daemon {
	sd_event *loop;
	const char *config_path;
	struct disk *disk;
	struct queue *queue;
	struct watch *watch;
	struct relay *relay;
	struct housekeeping *housekeeping;
	struct running *running;
	sd_event_source *status_timer;
	bool status_pending;
	bool connected; /* as last reported */
	bool spool_error_logged;
	uint64_t started_usec;
	struct backlog backlog;
	struct hook_watch *hook_watch;
	struct health health;
	struct write_test *write_test;
	bool write_failed; /* the last write test */
	bool hung;	   /* the disk, since the last write test */
	char write_error[128];
	/* Events from the emergency spool when the disk took writes again. */
	uint64_t emergency_fixed;
	uint64_t reload_refused_usec; /* CLOCK_REALTIME; 0: the last reload was taken */
	char *reload_error;
	char *metrics_file; /* that was written last */
	bool metrics_failed;
};

/* --- what is loaded at start and at SIGHUP */

/* The errors of the configuration go to the log; the first line is *ret_error. */
static int load_config(const char *path, struct config **ret_config, char **ret_error)
{
	_cleanup_free_ char *lines = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&lines, &size);
	int r;

	if (!f)
		return -ENOMEM;
	r = config_load(path, f, ret_config);
	if (fclose(f) == EOF)
		return r < 0 ? r : -ENOMEM;
	fputs(lines, stderr);
	if (r < 0)
		*ret_error = strndup(lines, strcspn(lines, "\n"));
	return r;
}

/* *ret_error, to be freed: one line on what cannot be used, and why. */
static int load(const char *path, struct config **ret_config, struct credentials **ret_credentials,
		struct signer **ret_signer, char **ret_error)
{
	struct config *c = NULL;
	int r;

	*ret_signer = NULL;
	r = load_config(path, &c, ret_error);
	if (r < 0)
		return r;
	r = credentials_load(&c->tls, ret_credentials, ret_error);
	if (r >= 0 && c->events.sign) {
		r = signer_load(c, ret_signer, ret_error);
		if (r < 0)
			credentials_unref(*ret_credentials);
	}
	if (r < 0) {
		log_error("%s", *ret_error ? *ret_error : strerror(-r));
		config_free(c);
		return r;
	}
	*ret_config = c;
	return 0;
}

static int daemon_configure(struct daemon *d)
{
	struct credentials *credentials = NULL;
	struct signer *signer = NULL;
	struct config *c = NULL;
	char *error = NULL;
	int r = load(d->config_path, &c, &credentials, &signer, &error);

	free(d->reload_error);
	d->reload_error = error;
	d->reload_refused_usec = r < 0 ? now_usec(CLOCK_REALTIME) : 0;
	if (r < 0)
		return r;
	log_set_level(c->log_level);
	housekeeping_configure(d->housekeeping, &c->spool);
	relay_configure(d->relay, c, credentials, signer);
	return 0;
}

static const struct config *config_of(const struct daemon *d)
{
	struct relay_description rd;

	relay_describe(d->relay, &rd);
	return rd.config;
}

/* --- status */

static void tell_systemd(const struct daemon *d)
{
	uint64_t waiting = queue_length(d->queue, NULL);
	const struct relay_stats *s;
	struct relay_description rd;

	relay_describe(d->relay, &rd);
	s = rd.stats;
	if (rd.connected)
		(void)sd_notifyf(
			0, "STATUS=Connected to %s; %" PRIu64 " delivered, %" PRIu64 " waiting",
			rd.broker, s->acknowledged, waiting);
	else
		(void)sd_notifyf(0,
				 "STATUS=Not connected (%s); %" PRIu64
				 " delivered, events wait in the spool",
				 s->last_error[0] ? s->last_error : "connecting", s->acknowledged);
}

/* Written within a second. */
static void schedule_status(struct daemon *d)
{
	if (d->status_pending)
		return;
	d->status_pending = true;
	(void)sd_event_source_set_time_relative(d->status_timer, STATUS_USEC);
	(void)sd_event_source_set_enabled(d->status_timer, SD_EVENT_ONESHOT);
}

static void on_hooks_changed(void *userdata)
{
	schedule_status(userdata);
}

static void remove_metrics(struct daemon *d)
{
	if (d->metrics_file)
		(void)unlink(d->metrics_file); /* outdated values must not be collected */
	free(TAKE_PTR(d->metrics_file));
}

static void write_metrics(struct daemon *d, const struct status_file *status,
			  const struct verdict *verdict)
{
	const char *path = config_of(d)->metrics_file;
	int r;

	if (d->metrics_file && (!path || strcmp(d->metrics_file, path) != 0))
		remove_metrics(d);
	if (!path)
		return;
	r = metrics_write(path, status, verdict);
	if (r < 0 && !d->metrics_failed)
		log_warning("cannot write metrics to '%s': %s", path, strerror(-r));
	d->metrics_failed = r < 0;
	if (r == 0 && !d->metrics_file)
		d->metrics_file = strdup(path);
}

/* While something waits, its age grows without anything having changed; and once an hour for what
   comes with time, like the end of a certificate. */
static void write_again_later(struct daemon *d, const struct status_file *status, uint64_t usec)
{
	if (usec == 0)
		usec = status->waiting > 0 || status->emergency_error || status->emergency_run > 0
			       ? METRICS_USEC
			       : IDLE_USEC;
	if (d->status_pending)
		return;
	(void)sd_event_source_set_time_relative(d->status_timer, usec);
	(void)sd_event_source_set_enabled(d->status_timer, SD_EVENT_ONESHOT);
}

/* An event came through memory: is it the disk? Asked again until it can be written to. */
static void check_writing(struct daemon *d, bool hangs, struct status_file *status)
{
	if (status->emergency_taken <= d->emergency_fixed)
		status->emergency_run = 0;
	d->hung = d->hung || hangs;
	if ((status->emergency_run > 0 || d->write_failed) && !hangs)
		write_test_start(d->write_test, METRICS_USEC - USEC_PER_SEC);
}

static void on_write_test(void *userdata)
{
	struct daemon *d = userdata;
	int error = write_test_error(d->write_test);
	struct relay_description rd;

	relay_describe(d->relay, &rd);
	/* Else the reason is not known: the hook may lack rights that the daemon has. */
	if (error == 0 && (d->write_failed || d->hung))
		d->emergency_fixed = rd.stats->emergency;
	d->hung = false;
	d->write_failed = error < 0;
	(void)snprintf(d->write_error, sizeof(d->write_error), "%s", strerror(-error));
	schedule_status(d);
}

static void write_status(struct daemon *d)
{
	struct status_view view = {
		.relay = d->relay,
		.queue = d->queue,
		.housekeeping = d->housekeeping,
		.config_path = d->config_path,
		.started_usec = d->started_usec,
		.disk_hangs = disk_check(d->disk) == DISK_HANGS,
		.reload_refused_usec = d->reload_refused_usec,
		.reload_error = d->reload_error,
		.emergency_error = d->write_failed ? d->write_error : NULL,
	};
	struct status_file status;
	struct verdict verdict;
	uint64_t again;
	int r;

	relay_renew(d->relay);
	status_collect(&view, &status);
	check_writing(d, view.disk_hangs, &status);
	again = backlog_update(&d->backlog, view.disk_hangs, &status);
	if (status.oldest_usec && status.oldest_usec < status.written_usec)
		status.oldest_age_ms = (status.written_usec - status.oldest_usec) / 1000;
	health_judge(&d->health, &status, hook_watch_files(d->hook_watch), &verdict);
	status.health = verdict_health_name(&verdict);
	r = status_file_write(spool_run_directory(), &status);
	if (r < 0)
		log_debug("cannot write '%s/" STATUS_FILE "': %s", spool_run_directory(),
			  strerror(-r));
	write_metrics(d, &status, &verdict);
	write_again_later(d, &status, again);
	tell_systemd(d);
	relay_save(d->relay, false);
	verdict_release(&verdict);
}

static int on_status_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct daemon *d = userdata;

	d->status_pending = false;
	write_status(d);
	return 0;
}

static void on_archived(uint64_t bytes, void *userdata)
{
	struct daemon *d = userdata;

	housekeeping_archived(d->housekeeping, bytes);
}

static void on_read(const struct record *record, void *userdata)
{
	struct daemon *d = userdata;

	running_see(d->running, record);
}

/* The relay has done something. */
static void on_relay_changed(void *userdata)
{
	struct daemon *d = userdata;
	const char *error = queue_error(d->queue);
	struct relay_description rd;

	relay_describe(d->relay, &rd);
	if (error && !d->spool_error_logged)
		log_error("%s; events go to the emergency spool in '%s' until it is fixed", error,
			  spool_run_directory());
	else if (!error && d->spool_error_logged)
		log_notice("the spool '%s' can be read again", spool_directory());
	d->spool_error_logged = error;
	if (rd.connected != d->connected) { /* what people look for first is reported at once */
		d->connected = !d->connected;
		write_status(d);
	}
	schedule_status(d);
}

/* --- what happens from outside */

static void on_spool_changed(void *userdata)
{
	struct daemon *d = userdata;

	relay_wake(d->relay);
	if (queue_emergency_length(d->queue) > 0 || config_of(d)->spool.queue_size > 0)
		housekeeping_spool_changed(d->housekeeping);
}

static void on_disk_answers(void *userdata)
{
	struct daemon *d = userdata;

	relay_wake(d->relay);
	housekeeping_spool_changed(d->housekeeping);
}

static void on_stopped(void *userdata)
{
	struct daemon *d = userdata;

	(void)sd_event_exit(d->loop, EXIT_SUCCESS);
}

static int on_terminate(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct daemon *d = userdata;
	uint64_t patience = config_of(d)->spool.stop_timeout_s * USEC_PER_SEC + STOP_MARGIN_USEC;

	log_info("stopping on signal %s", strsignal((int)si->ssi_signo));
	(void)sd_notifyf(0,
			 "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64
			 "\nSTATUS=Waiting for what is in flight",
			 patience);
	/* libvirtd may just have stopped, and its last events are not seen yet. */
	relay_wake(d->relay);
	relay_stop(d->relay, on_stopped);
	return 0;
}

static int on_hangup(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct daemon *d = userdata;

	(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_usec(CLOCK_MONOTONIC));
	if (daemon_configure(d) < 0)
		log_about(LOG_ERR,
			  &(struct log_about){.message = LOG_MESSAGE_CONFIGURATION_REFUSED},
			  "'%s' is refused; the previous configuration stays in force",
			  d->config_path);
	else
		log_about(LOG_NOTICE, &(struct log_about){.message = LOG_MESSAGE_CONFIGURED},
			  "reloaded configuration and certificates from '%s'", d->config_path);
	write_status(d);
	(void)sd_notify(0, "READY=1");
	return 0;
}

static int on_flush(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct daemon *d = userdata;

	log_info("trying everything that waits now, on signal %s", strsignal((int)si->ssi_signo));
	relay_flush(d->relay);
	return 0;
}

/* --- start and end */

static int add_signals(struct daemon *d)
{
	static const struct loop_signal signals[] = {
		{SIGTERM, on_terminate}, {SIGINT, on_terminate}, {SIGHUP, on_hangup},
		{SIGUSR1, on_flush},	 {SIGCHLD, NULL}, /* for disk.h and write-test.h */
	};

	return loop_add_signals(d->loop, signals, ELEMENTSOF(signals), d);
}

/* Without a boot id nothing is reported after a boot. */
static int running_init(struct daemon *d, const char *spool_dir, const char *run_dir)
{
	char text[SD_ID128_STRING_MAX] = "";
	sd_id128_t boot;

	if (presence_boot_id(&boot) >= 0)
		(void)sd_id128_to_string(boot, text);
	return running_new(d->loop, spool_dir, run_dir, d->disk, text, &d->running);
}

static int daemon_init(struct daemon *d)
{
	static const struct relay_handlers handlers = {
		.changed = on_relay_changed,
		.read = on_read,
		.archived = on_archived,
	};
	const char *spool_dir = spool_directory(), *run_dir = spool_run_directory();
	int r;

	d->started_usec = now_usec(CLOCK_REALTIME);
	r = sd_event_default(&d->loop);
	if (r >= 0)
		r = add_signals(d);
	if (r >= 0)
		r = sd_event_add_time_relative(d->loop, &d->status_timer, CLOCK_MONOTONIC, 0, 0,
					       on_status_timer, d);
	if (r >= 0)
		r = sd_event_source_set_enabled(d->status_timer, SD_EVENT_OFF);
	if (r >= 0)
		r = disk_new(d->loop, spool_dir, run_dir, on_disk_answers, d, &d->disk);
	if (r >= 0)
		r = queue_new(spool_dir, run_dir, &d->queue);
	if (r >= 0)
		queue_use_disk(d->queue, d->disk);
	if (r >= 0)
		r = relay_new(d->loop, d->queue, &handlers, d, &d->relay);
	if (r >= 0)
		r = housekeeping_new(d->loop, spool_dir, run_dir, d->disk, &d->housekeeping);
	if (r >= 0)
		r = running_init(d, spool_dir, run_dir);
	if (r >= 0)
		r = watch_new(d->loop, spool_dir, run_dir, d->disk, on_spool_changed, d, &d->watch);
	if (r >= 0)
		r = hook_watch_new(d->loop, hook_directory(), on_hooks_changed, d, &d->hook_watch);
	if (r >= 0)
		r = write_test_new(d->loop, spool_dir, on_write_test, d, &d->write_test);
	if (r >= 0)
		r = sd_event_set_watchdog(d->loop, true);
	return r;
}

static void daemon_release(struct daemon *d)
{
	watch_free(d->watch);
	hook_watch_free(d->hook_watch);
	write_test_free(d->write_test);
	relay_free(d->relay);
	housekeeping_free(d->housekeeping);
	running_free(d->running);
	queue_free(d->queue);
	disk_free(d->disk);
	sd_event_source_disable_unref(d->status_timer);
	sd_event_unref(d->loop);
	free(d->reload_error);
}

int daemon_run(const char *config_path)
{
	struct daemon d = {.config_path = config_path};
	int r = daemon_init(&d);

	if (r < 0) {
		log_error("cannot start: %s", strerror(-r));
		r = EX_OSERR;
	} else if (daemon_configure(&d) < 0) {
		r = EX_CONFIG;
	} else {
		running_start(d.running);
		write_status(&d); /* whoever learns that it is ready can ask for more at once */
		(void)sd_notify(0, "READY=1");
		log_about(LOG_INFO, &(struct log_about){.message = LOG_MESSAGE_STARTED},
			  "started, spool '%s'", spool_directory());
		r = sd_event_loop(d.loop);
		if (r < 0) {
			log_error("the event loop failed: %s", strerror(-r));
			r = EX_SOFTWARE;
		}
		relay_save(d.relay, true);
		running_save(d.running);
		status_file_remove(spool_run_directory());
		remove_metrics(&d);
		log_about(LOG_INFO, &(struct log_about){.message = LOG_MESSAGE_STOPPED}, "stopped");
	}
	daemon_release(&d);
	return r;
}
