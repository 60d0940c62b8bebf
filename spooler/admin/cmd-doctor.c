/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool doctor - looks at an installation from the hook to the broker, and says how to mend
 * what it finds.
 *
 * It changes nothing. Each check ends in findings: ok, a warning (works now, but), or bad (events
 * are lost or held up). The exit code is 0 if nothing is bad.
 */
#include <grp.h>
#include <inttypes.h>
#include <jansson.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "spooler/admin/command.h"
#include "spooler/config/config.h"
#include "spooler/admin/doctor.h"
#include "hook/spool.h"
#include "spooler/base/log.h"
#include "spooler/base/safe-read.h"
#include "spooler/spool/lookup.h"
#include "spooler/spool/status-file.h"
#include "spooler/base/terminal.h"
#include "spooler/mqtt/transport.h"
#include "spooler/base/util.h"

#define EXPIRY_S (30 * 24 * 3600)
#define LOW_SPACE_PERCENT 5
#define UNIT "virtspool.service"
#define LISTENER_UNIT "virtspool-listen.service"
#define CLOCK_EARLIEST_S 1767225600 /* 2026-01-01: no clock that is right shows less */
#define AS_ROOT "run this as root"

enum { OPTION_HOOKSDIR = 0x2000 };

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0, "configuration [" DEFAULT_CONFIG "]", 0},
	{"hooksdir", OPTION_HOOKSDIR, "DIR", 0, "libvirt's hooks [" HOOKSDIR "]", 0},
	{"json", 'j', NULL, 0, "one JSON object a line", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct doctor *d = state->input;

	switch (key) {
	case 'c':
		d->config_path = arg;
		return 0;
	case OPTION_HOOKSDIR:
		d->hooksdir = arg;
		return 0;
	case 'j':
		d->json = true;
		return 0;
	default:
		return command_no_arguments(key, arg, state);
	}
}

/* --- findings */

static void print_finding(const struct doctor *d, enum grade grade, const char *check,
			  const char *text, const char *how)
{
	static const char *const names[] = {"ok", "warning", "bad"};
	static const char *const colours[] = {TERMINAL_GREEN, TERMINAL_YELLOW, TERMINAL_RED};

	if (d->json) {
		command_print_json(json_pack("{s:s, s:s, s:s, s:s?}", "check", check, "grade",
					     names[grade], "text", text, "how", how));
		return;
	}
	printf("%s%-8s%s %-13s %s\n", d->colour ? colours[grade] : "", names[grade],
	       d->colour ? TERMINAL_RESET : "", check, text);
	if (how)
		printf("%-22s -> %s\n", "", how);
	(void)fflush(stdout);
}

void finding(struct doctor *d, enum grade grade, const char *check, const char *how,
	     const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, format);
	text = command_text(d->json ? NULL : stdout, format, ap);
	va_end(ap);
	d->warnings += grade == GRADE_WARNING;
	d->bad += grade == GRADE_BAD;
	print_finding(d, grade, check, text ? text : "no memory", how);
}

/* What we were not let look at may be well for the daemon and the hook. */
static bool is_hidden(int error)
{
	return geteuid() != 0 && error == -EACCES;
}

/* --- configuration and certificates */

static void check_configuration(struct doctor *d)
{
	_cleanup_free_ char *errors = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&errors, &size);
	char *line, *rest;
	int r;

	if (!f)
		return;
	r = config_load(d->config_path, f, &d->config);
	(void)fclose(f);
	for (line = strtok_r(errors, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		finding(d, r < 0 && !is_hidden(r) ? GRADE_BAD : GRADE_WARNING, "configuration",
			is_hidden(r) ? AS_ROOT
			: r < 0	     ? "see virtspool.yaml(5)"
				     : NULL,
			"%s", line);
	if (r < 0)
		return;
	finding(d, GRADE_OK, "configuration", NULL, "'%s' is valid", d->config_path);
	if (d->config->mqtt.version == 3)
		finding(d, GRADE_WARNING, "mqtt",
			"set mqtt.version to 5 if the broker can; else watch its log for denied publishes",
			"MQTT 3.1.1: a broker may acknowledge what its ACL refuses, and the event is lost in silence");
	for (size_t i = 0; i < d->config->n_brokers; i++)
		if (!d->config->brokers[i].tls)
			finding(d, GRADE_WARNING, "mqtt", "use mqtts://",
				"events go to %s without encryption", d->config->brokers[i].url);
}

static void check_expiry(struct doctor *d, const char *what, struct validity validity)
{
	int64_t end_s = validity.end_s, left = end_s - (int64_t)time(NULL);
	char age[32], when[32];

	if (end_s == 0)
		return;
	format_age((uint64_t)(left < 0 ? -left : left), age);
	format_time((uint64_t)end_s * 1000, when);
	if (left < 0)
		finding(d, GRADE_BAD, "certificates", "renew it, then `systemctl reload virtspool`",
			"%s has ended %s ago", what, age);
	else if (left <= EXPIRY_S)
		finding(d, GRADE_WARNING, "certificates",
			"renew it, then `systemctl reload virtspool`", "%s ends in %s", what, age);
	else
		finding(d, GRADE_OK, "certificates", NULL, "%s is good until %.10s", what, when);
}

static bool uses_tls(const struct config *c)
{
	for (size_t i = 0; i < c->n_brokers; i++)
		if (c->brokers[i].tls)
			return true;
	return false;
}

static void check_certificates(struct doctor *d)
{
	_cleanup_free_ char *error = NULL;
	int r;

	if (!d->config || !uses_tls(d->config))
		return;
	r = credentials_load(&d->config->tls, &d->credentials, &error);
	if (is_hidden(r)) {
		finding(d, GRADE_WARNING, "certificates", AS_ROOT, "%s",
			error ? error : strerror(-r));
		return;
	}
	if (r < 0) {
		finding(d, GRADE_BAD, "certificates",
			"certificate and key must belong together, and be readable for the user virtspool, the key for "
			"no other",
			"%s", error ? error : "no memory");
		return;
	}
	finding(d, GRADE_OK, "certificates", NULL, "readable, and certificate and key match");
	check_expiry(d, "our certificate", credentials_own_validity(d->credentials));
	check_expiry(d, "the authority's certificate", credentials_trust_validity(&d->config->tls));
}

/* We are root and read everything: could the daemon as well? */
static void check_readable(struct doctor *d, const char *path)
{
	const struct passwd *pw = getpwnam("virtspool");
	bool readable;
	struct stat st;

	if (!path || path[0] != '/' || !pw || stat(path, &st) < 0)
		return;
	readable = st.st_mode & S_IROTH || (st.st_uid == pw->pw_uid && st.st_mode & S_IRUSR) ||
		   (st.st_gid == pw->pw_gid && st.st_mode & S_IRGRP);
	if (!readable)
		finding(d, GRADE_BAD, "certificates",
			"chgrp virtspool FILE; chmod 0640 FILE (or hand it over with LoadCredential= in the unit)",
			"the user virtspool cannot read '%s'", path);
}

static void check_secrets(struct doctor *d)
{
	if (!d->config)
		return;
	check_readable(d, d->config->tls.ca_file);
	check_readable(d, d->config->tls.crl_file);
	check_readable(d, d->config->tls.certificate_file);
	check_readable(d, d->config->tls.key_file);
	check_readable(d, d->config->tls.key_password_file);
	check_readable(d, d->config->tls.psk_key_file);
	check_readable(d, d->config->mqtt.password_file);
	check_readable(d, d->config_path);
}

/* --- brokers */

static void on_transport(struct transport *t, void *userdata)
{
	if (transport_state(t) == TRANSPORT_ESTABLISHED || transport_state(t) == TRANSPORT_LOST)
		(void)sd_event_exit(userdata, 0);
}

static const char *mend_broker(enum transport_failure failure)
{
	switch (failure) {
	case TRANSPORT_FAILURE_VERIFICATION:
		return "tls.ca_file must hold the authority of the broker's certificate, which must have its name and "
		       "be valid";
	case TRANSPORT_FAILURE_TLS:
		return "does the broker speak TLS on this port, and does it accept our certificate? See its log";
	default:
		return "is the broker running, is its port right and open on the way?";
	}
}

static void check_broker(struct doctor *d, const struct broker *b)
{
	struct transport *t = NULL;
	sd_event *loop = NULL;
	int r;

	if (b->tls && !d->credentials)
		return;
	r = sd_event_new(&loop);
	if (r >= 0)
		r = transport_open(loop, b, &d->config->tls, d->credentials,
				   d->config->mqtt.connect_timeout_s, 0, on_transport, loop, &t);
	if (r >= 0)
		r = sd_event_loop(loop);
	if (r < 0) {
		finding(d, GRADE_BAD, "broker", NULL, "cannot try %s: %s", b->url, strerror(-r));
	} else if (transport_state(t) == TRANSPORT_ESTABLISHED) {
		finding(d, GRADE_OK, "broker", NULL, "%s: %s, %s%s", b->url, transport_peer(t),
			transport_protocol(t), b->tls ? ", verified" : "");
		check_expiry(d, "the broker's certificate", transport_peer_validity(t));
	} else {
		finding(d, GRADE_BAD, "broker", mend_broker(transport_failure(t)), "%s: %s", b->url,
			transport_error(t));
	}
	transport_close(t);
	sd_event_unref(loop);
}

static void check_brokers(struct doctor *d)
{
	if (!d->config)
		return;
	for (size_t i = 0; i < d->config->n_brokers; i++)
		check_broker(d, &d->config->brokers[i]);
}

/* --- the spool */

static void check_owner(struct doctor *d, const char *path, mode_t mode)
{
	const struct group *gr = getgrnam("virtspool");
	_cleanup_free_ char *how = NULL;
	struct stat st;

	if (stat(path, &st) < 0 && is_hidden(-errno)) {
		finding(d, GRADE_WARNING, "spool", AS_ROOT, "'%s' cannot be looked at: %s", path,
			strerror(errno));
		return;
	}
	if (stat(path, &st) < 0) {
		finding(d, GRADE_BAD, "spool",
			"systemd-tmpfiles --create virtspool.conf; is its file system mounted?",
			"'%s': %s", path, strerror(errno));
		return;
	}
	if (!gr ||
	    (st.st_uid == 0 && st.st_gid == gr->gr_gid && (st.st_mode & 07777) == mode))
		return;
	if (asprintf(&how, "chown root:virtspool '%s'; chmod %04o '%s'", path, (unsigned)mode, path) <
	    0)
		return;
	/* What matters is who can write: the daemon as the group, the hook as root. */
	finding(d, st.st_gid == gr->gr_gid && st.st_mode & S_IWGRP ? GRADE_WARNING : GRADE_BAD,
		"spool", how, "'%s' belongs to %u:%u, mode %04o", path, (unsigned)st.st_uid,
		(unsigned)st.st_gid, (unsigned)st.st_mode & 07777);
}

/* Where others can write, the hook does not trust the stamp: each event has an epoch of its own. */
static void check_hook_directory(struct doctor *d)
{
	_cleanup_free_ char *path = NULL, *how = NULL;
	struct stat st;

	if (asprintf(&path, "%s/" SPOOL_HOOK, spool_run_directory()) < 0 || lstat(path, &st) < 0)
		return; /* the first hook makes it */
	if (S_ISDIR(st.st_mode) && st.st_uid == 0 && !(st.st_mode & (S_IWGRP | S_IWOTH)))
		return;
	if (asprintf(&how, "rm -r '%s'; systemd-tmpfiles --create virtspool.conf", path) >= 0)
		finding(d, GRADE_BAD, "spool", how,
			"others than root can write to '%s'; events are spooled without their order",
			path);
}

static void check_directories(struct doctor *d)
{
	unsigned before = d->bad + d->warnings;

	if (!getpwnam("virtspool") || !getgrnam("virtspool"))
		finding(d, GRADE_BAD, "spool", "systemd-sysusers virtspool.conf",
			"there is no user and group virtspool");
	check_owner(d, spool_directory(), 03770);
	for (enum place p = 0; p < N_PLACES && access(spool_directory(), F_OK) == 0; p++) {
		_cleanup_free_ char *path = NULL;

		if (!place_table[p].in_run_directory &&
		    asprintf(&path, "%s/%s", spool_directory(), place_table[p].path) >= 0)
			check_owner(d, path, 02770);
	}
	check_owner(d, spool_run_directory(), 01775);
	check_hook_directory(d);
	if (d->bad + d->warnings == before)
		finding(d, GRADE_OK, "spool", NULL, "'%s' and its directories are there",
			spool_directory());
}

static void check_space(struct doctor *d)
{
	struct statvfs fs;
	char size[32];

	if (statvfs(spool_directory(), &fs) < 0)
		return;
	format_size((uint64_t)fs.f_bavail * fs.f_frsize, size);
	if (fs.f_flag & ST_RDONLY)
		finding(d, GRADE_BAD, "space",
			"look for errors of the disk in the kernel's log; mount -o remount,rw",
			"the spool's file system is read-only");
	else if (fs.f_bavail * 100 < fs.f_blocks * LOW_SPACE_PERCENT)
		finding(d, GRADE_BAD, "space",
			"make room; `virtspool purge` thins out what was delivered",
			"only %s are left for the spool", size);
	else if (fs.f_files > 0 && fs.f_favail * 100 < fs.f_files * LOW_SPACE_PERCENT)
		finding(d, GRADE_BAD, "space",
			"make room; `virtspool purge` thins out what was delivered",
			"only %" PRIu64 " inodes are left for the spool", (uint64_t)fs.f_favail);
	else
		finding(d, GRADE_OK, "space", NULL, "%s free", size);
}

static void check_contents(struct doctor *d)
{
	struct place_count emergency, failed;
	struct lookup l;
	char count[48];

	(void)lookup_open(&l); /* what cannot be opened holds nothing */
	(void)lookup_count(&l, PLACE_EMERGENCY, false, &emergency);
	(void)lookup_count(&l, PLACE_FAILED, false, &failed);
	lookup_release(&l);
	format_count(emergency.records, "event", count);
	if (emergency.records > 0)
		finding(d, GRADE_WARNING, "spool", "see the findings on ownership and space",
			"in the emergency spool, because the disk could not take it: %s", count);
	format_count(failed.records, "event", count);
	if (failed.records > 0)
		finding(d, GRADE_WARNING, "spool",
			"`virtspool list failed` tells why; then replay or drop them",
			"%s could not be delivered", count);
	if (failed.strays > 0)
		finding(d, GRADE_WARNING, "spool",
			"`virtspool list failed` tells the names, `virtspool drop` removes it",
			"in failed/ lies what is no event: %" PRIu64, failed.strays);
}

/* --- the daemon */

static int systemctl(const char *verb, const char *unit)
{
	char *argv[] = {(char *)"systemctl", (char *)"--quiet", (char *)verb, (char *)unit, NULL};
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		(void)!freopen("/dev/null", "w", stderr);
		(void)execvp(argv[0], argv);
		_exit(127);
	}
	return pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) ? -1
									     : WEXITSTATUS(status);
}

static void check_unit(struct doctor *d)
{
	if (access("/run/systemd/system", F_OK) < 0)
		return;
	if (systemctl("is-enabled", UNIT) != 0)
		finding(d, GRADE_WARNING, "daemon", "systemctl enable " UNIT,
			UNIT " is not enabled: it will not run after the next boot");
	if (systemctl("is-active", UNIT) != 0)
		finding(d, GRADE_BAD, "daemon", "systemctl start " UNIT "; journalctl -u " UNIT,
			UNIT " is not running");
	/* The listener is a choice; but who has made it means it. */
	if (systemctl("is-enabled", LISTENER_UNIT) == 0 &&
	    systemctl("is-active", LISTENER_UNIT) != 0)
		finding(d, GRADE_BAD, "daemon",
			"systemctl start " LISTENER_UNIT "; journalctl -u " LISTENER_UNIT,
			LISTENER_UNIT " is enabled and not running");
}

static void check_daemon(struct doctor *d)
{
	struct status_file status;
	int r = status_file_read(spool_run_directory(), &status);

	if (r < 0 && is_hidden(r))
		finding(d, GRADE_WARNING, "daemon", AS_ROOT,
			"the daemon's status cannot be read: %s", strerror(-r));
	else if (r == -ENOENT)
		finding(d, GRADE_BAD, "daemon", "systemctl start " UNIT,
			"virtspoold is not running");
	else if (r < 0)
		finding(d, GRADE_BAD, "daemon", "remove it, then systemctl restart " UNIT,
			"cannot read '%s/" STATUS_FILE "': %s", spool_run_directory(),
			safe_read_error(r));
	else if (!status.connected)
		finding(d, GRADE_BAD, "daemon", "see the findings on the broker",
			"virtspoold is not connected: %s",
			status.last_error ?: "it has just started");
	else
		finding(d, GRADE_OK, "daemon", NULL, "virtspoold is running and connected");
	if (r == 0 && strcmp(status.version ?: "", PACKAGE_VERSION) != 0)
		finding(d, GRADE_WARNING, "daemon", "systemctl restart " UNIT,
			"the running virtspoold is of another version");
	if (status.missing > 0)
		finding(d, GRADE_WARNING, "hook",
			"look for virtspool-hook in the system log of that time",
			"transitions never reached the spool: the hook's sequence has holes");
	status_file_release(&status);
}

static void check_clock(struct doctor *d)
{
	struct timex t = {0};
	const struct filter future = {.since_ms = command_now_ms() + 60 * 1000};
	struct id_list list = {.newest = true};
	struct lookup l;

	if (time(NULL) < CLOCK_EARLIEST_S)
		finding(d, GRADE_BAD, "clock", "set the clock: chronyd, systemd-timesyncd",
			"the clock shows a time in the past");
	else if (adjtimex(&t) == TIME_ERROR || t.status & STA_UNSYNC)
		finding(d, GRADE_WARNING, "clock", "run chronyd or systemd-timesyncd",
			"the clock is not synchronised");
	else
		finding(d, GRADE_OK, "clock", NULL, "synchronised");
	if (lookup_open(&l) == 0 && lookup_scan(&l, PLACES_ALL, &future, 1, &list) >= 0 &&
	    l.seen > 0)
		finding(d, GRADE_WARNING, "clock",
			"order is kept; the times of new events stay ahead until the clock has caught up, or until a "
			"reboot",
			"%" PRIu64 " events in the spool are of the future: the clock was ahead",
			l.seen);
	id_list_clear(&list);
	lookup_release(&l);
}

int cmd_doctor(int argc, char **argv)
{
	static void (*const checks[])(struct doctor * d) = {
		check_configuration, check_certificates, check_secrets, check_directories,
		check_space,	     check_contents,	 doctor_hooks,	check_unit,
		check_daemon,	     check_brokers,	 check_clock,
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Checks an installation and tells how to mend what it finds. Exit code: 0 if nothing is bad, 1 "
		       "otherwise.",
	};
	struct doctor d = {.config_path = DEFAULT_CONFIG, .hooksdir = HOOKSDIR};

	if (!command_parse(&argp, argc, argv, &d))
		return COMMAND_USAGE;
	d.colour = terminal_colour(stdout);
	(void)signal(SIGPIPE, SIG_IGN);
	if (geteuid() != 0)
		fputs("not run as root: some checks will say what root would see otherwise\n",
		      stderr);
	for (size_t i = 0; i < ELEMENTSOF(checks) && !command_output_ended(); i++)
		checks[i](&d);
	if (!d.json)
		printf("%u bad, %u warnings\n", d.bad, d.warnings);
	credentials_unref(d.credentials);
	config_free(d.config);
	return command_finish(d.bad > 0 ? COMMAND_FAILED : COMMAND_OK);
}
