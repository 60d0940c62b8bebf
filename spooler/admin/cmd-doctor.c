/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool doctor - examines an installation from the hook to the broker, and says how to fix
 * what it finds.
 *
 * It changes nothing, but tries what only a trial shows: it writes and removes a file in the spool,
 * and publishes a probe. Each check ends in findings: ok, a warning (works now, but), or bad
 * (events are lost or held up). The exit code is 0 if nothing is bad.
 */
#include <grp.h>
#include <inttypes.h>
#include <jansson.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <sys/wait.h>

#include "spooler/admin/command.h"
#include "spooler/config/config.h"
#include "spooler/admin/doctor.h"
#include "spooler/event/signature.h"
#include "spooler/spool/lookup.h"
#include "spooler/base/terminal.h"
#include "spooler/mqtt/transport.h"
#include "spooler/base/util.h"

#define RENEW "renew it, then systemctl reload virtspool"
#define UNIT DOCTOR_UNIT
#define LISTENER_UNIT "virtspool-listen.service"
#define CLOCK_EARLIEST_S 1767225600 /* 2026-01-01: no clock that is right shows less */

enum { OPTION_HOOKSDIR = 0x2000 };

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0, "configuration [" CONFIG_FILE "]", 0},
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
	char begin[32];

	if (d->json) {
		command_print_json(json_pack("{s:s, s:s, s:s, s:s?}", "check", check, "grade",
					     names[grade], "text", text, "how", how));
		return;
	}
	printf("%s%-8s%s ", d->colour ? colours[grade] : "", names[grade],
	       d->colour ? TERMINAL_RESET : "");
	(void)snprintf(begin, sizeof(begin), "%-13s ", check);
	command_print_wrapped("", begin, text);
	if (how)
		command_print_wrapped("                       ", "-> ", how);
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

bool doctor_is_hidden(int error)
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
		finding(d, r < 0 && !doctor_is_hidden(r) ? GRADE_BAD : GRADE_WARNING,
			"configuration",
			doctor_is_hidden(r) ? DOCTOR_AS_ROOT
			: r < 0		    ? "see virtspool.yaml(5)"
					    : NULL,
			"%s", line);
	if (r < 0)
		return;
	finding(d, GRADE_OK, "configuration", NULL, "'%s' is valid", d->config_path);
	if (d->config->mqtt.version == 3)
		finding(d, GRADE_WARNING, "mqtt",
			"set mqtt.version to 5 if the broker supports it; otherwise watch its log for denied publishes",
			"MQTT 3.1.1: a broker may acknowledge what its ACL refuses, and the event is lost without a trace");
	for (size_t i = 0; i < d->config->n_brokers; i++)
		if (!d->config->brokers[i].tls)
			finding(d, GRADE_WARNING, "mqtt", "use mqtts://",
				"events go to %s without encryption", d->config->brokers[i].url);
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
	if (doctor_is_hidden(r)) {
		finding(d, GRADE_WARNING, "certificates", DOCTOR_AS_ROOT, "%s",
			error ? error : strerror(-r));
		return;
	}
	if (r < 0) {
		finding(d, GRADE_BAD, "certificates",
			"certificate and key must belong together; the user virtspool must be able to read both, and "
			"nobody else the key",
			"%s", error ? error : "no memory");
		return;
	}
	finding(d, GRADE_OK, "certificates", NULL, "readable, and certificate and key match");
	doctor_certificate(d, "our certificate", credentials_own_validity(d->credentials), RENEW);
	doctor_certificate(d, "the authority's certificate",
			   credentials_trust_validity(d->credentials, &d->config->tls), RENEW);
}

/* What events are signed with. */
static void check_signing(struct doctor *d)
{
	_cleanup_free_ char *error = NULL;
	struct signer *s = NULL;
	int r;

	if (!d->config || !d->config->events.sign)
		return;
	r = signer_load(d->config, &s, &error);
	if (r < 0) {
		bool hidden = doctor_is_hidden(r);

		finding(d, hidden ? GRADE_WARNING : GRADE_BAD, "signing",
			hidden ? DOCTOR_AS_ROOT : "see events.sign in virtspool.yaml(5)", "%s",
			error ? error : strerror(-r));
		return;
	}
	finding(d, GRADE_OK, "signing", NULL, "events are signed with the key %s",
		signer_key_id(s));
	if (d->config->events.sign_certificate_file)
		doctor_certificate(
			d, "the signing certificate",
			(struct validity){.begin_s = signer_begin(s), .end_s = signer_end(s)},
			RENEW);
	signer_free(s);
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
	check_readable(d, d->config->events.sign_key_file);
	check_readable(d, d->config->events.sign_certificate_file);
	check_readable(d, d->config->mqtt.password_file);
	check_readable(d, d->config_path);
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
	/* The listener is a choice; but who has made it means it. */
	if (systemctl("is-enabled", LISTENER_UNIT) == 0 &&
	    systemctl("is-active", LISTENER_UNIT) != 0)
		finding(d, GRADE_BAD, "daemon",
			"systemctl start " LISTENER_UNIT "; journalctl -u " LISTENER_UNIT,
			LISTENER_UNIT " is enabled and not running");
}

static void check_daemon(struct doctor *d)
{
	(void)doctor_print_verdict(d, "configuration");
	if (!doctor_print_verdict(d, "daemon") && d->facts->status.connected)
		finding(d, GRADE_OK, "daemon", NULL, "virtspoold is running and connected");
	(void)doctor_print_verdict(d, "listener");
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
	if (!doctor_may_touch_spool(d))
		return;
	if (lookup_open(&l) == 0 && lookup_scan(&l, PLACES_ALL, &future, 1, &list) >= 0 &&
	    l.seen > 0)
		finding(d, GRADE_WARNING, "clock",
			"order is kept; the times of new events stay ahead until the clock has caught up, or until a "
			"reboot",
			"%" PRIu64 " spooled events are dated in the future: the clock was ahead",
			l.seen);
	id_list_clear(&list);
	lookup_release(&l);
}

/* --- all of it */

/* What each check prints of the verdict. */
static const char *check_of(enum verdict_kind kind)
{
	switch (kind) {
	case VERDICT_HOOK_MISSING:
	case VERDICT_HOOK_REPLACED:
	case VERDICT_HOOK_NOT_EXECUTABLE:
	case VERDICT_HOOK_OTHER_VERSION:
	case VERDICT_HOOK_TWICE:
	case VERDICT_HOOK_SILENT:
	case VERDICT_SEQUENCE_HOLE:
		return "hook";
	case VERDICT_FLAPPING:
	case VERDICT_NO_SUBSCRIBER:
	case VERDICT_REFUSED:
	case VERDICT_STATUS_TOPIC:
		return "broker";
	case VERDICT_SPOOL_MISSING:
	case VERDICT_SPOOL_HANGS:
	case VERDICT_SPOOL_UNREADABLE:
	case VERDICT_EMERGENCY:
	case VERDICT_LATE:
	case VERDICT_UNREADABLE_RECORDS:
	case VERDICT_FAILED_EVENTS:
	case VERDICT_STRAY_FILES:
		return "spool";
	case VERDICT_CERTIFICATE_EXPIRED:
	case VERDICT_CERTIFICATE_EXPIRES:
		return "certificates";
	case VERDICT_RELOAD_REFUSED:
		return "configuration";
	case VERDICT_LISTENER:
		return "listener";
	default:
		return "daemon";
	}
}

/* These are over, or wait for a person: nothing is wrong with the installation. */
static bool has_happened(enum verdict_kind kind)
{
	return kind == VERDICT_FAILED_EVENTS || kind == VERDICT_STRAY_FILES ||
	       kind == VERDICT_SEQUENCE_HOLE || kind == VERDICT_EMERGENCY;
}

/* It is about something that we may not look at. */
static bool is_about_hidden(const struct doctor *d, enum verdict_kind kind)
{
	return (kind == VERDICT_STATUS_UNREADABLE &&
		doctor_is_hidden(d->facts->of_verdict.status_error)) ||
	       (kind == VERDICT_SPOOL_MISSING &&
		doctor_is_hidden(d->facts->of_verdict.spool_error));
}

static void print_found(struct doctor *d, const struct finding *f)
{
	bool hidden = is_about_hidden(d, f->kind);
	bool warning = f->level == VERDICT_WARNING || has_happened(f->kind) || hidden;

	finding(d, warning ? GRADE_WARNING : GRADE_BAD, check_of(f->kind),
		hidden ? DOCTOR_AS_ROOT : f->remedy, "%s", f->cause ? f->cause : "no memory");
}

bool doctor_print_verdict(struct doctor *d, const char *check)
{
	bool any = false;

	for (size_t i = 0; i < d->verdict.n; i++) {
		if (strcmp(check_of(d->verdict.findings[i].kind), check) != 0)
			continue;
		print_found(d, &d->verdict.findings[i]);
		any = true;
	}
	return any;
}

void doctor_certificate(struct doctor *d, const char *whose, struct validity validity,
			const char *how)
{
	struct verdict v = {0};
	char when[32];

	if (validity.end_s <= 0)
		return;
	if (verdict_judge_certificate(now_usec(CLOCK_REALTIME), whose,
				      (uint64_t)validity.begin_s * USEC_PER_SEC,
				      (uint64_t)validity.end_s * USEC_PER_SEC, how, &v)) {
		print_found(d, &v.findings[0]);
	} else {
		format_time((uint64_t)validity.end_s * 1000, when);
		finding(d, GRADE_OK, "certificates", NULL, "%s is valid until %.10s", whose, when);
	}
	verdict_release(&v);
}

bool doctor_may_touch_spool(const struct doctor *d)
{
	return d->facts->of_verdict.spool_error != -ETIMEDOUT;
}

/* The verdict's findings about things that doctor tries by itself are left out: a fault is reported
   once. */
static void drop_own(struct doctor *d)
{
	static const char *const drivers[] = HOOK_DRIVERS;
	struct status_file *s = &d->facts->status;
	bool any = false;

	s->emergency_error = NULL;
	d->facts->of_verdict.write_error = 0;
	s->broker_end_usec = 0;
	/* Of certificates in force, only those that are not the files' any more. */
	if (d->credentials &&
	    (uint64_t)credentials_own_validity(d->credentials).end_s * USEC_PER_SEC ==
		    s->own_end_usec)
		s->own_end_usec = 0;
	if (d->config && d->config->events.sign_certificate_file)
		s->signing_end_usec = 0;
	if (d->config &&
	    (uint64_t)credentials_trust_validity(d->credentials, &d->config->tls).end_s *
			    USEC_PER_SEC ==
		    s->authority_end_usec)
		s->authority_end_usec = 0;
	/* Somebody who asks the doctor expects a hook. */
	for (size_t i = 0; i < ELEMENTSOF(drivers); i++)
		any = any || d->facts->hooks[i].state != HOOK_NOT_INSTALLED;
	if (!any)
		d->facts->hooks[0].state = HOOK_MISSING;
}

static void examine(struct doctor *d)
{
	static void (*const checks[])(struct doctor * d) = {
		check_secrets, doctor_spool,   doctor_hooks, check_unit,
		check_daemon,  doctor_brokers, check_clock,
	};

	facts_collect(d->facts, d->hooksdir, false);
	check_configuration(d);
	check_certificates(d);
	check_signing(d);
	drop_own(d);
	d->facts->of_verdict.host = d->config ? d->config->host : NULL;
	verdict_judge(&d->facts->of_verdict, &d->verdict);
	(void)doctor_print_verdict(d, "certificates"); /* of those in force */
	for (size_t i = 0; i < ELEMENTSOF(checks) && !command_output_ended(); i++)
		checks[i](d);
}

int cmd_doctor(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Examines an installation from the hook to the broker and says how to fix what it finds. "
		       "It writes and removes a file in the spool, and may publish a probe event.\v"
		       "Exit code: 0 if nothing is bad, 1 otherwise.",
	};
	struct doctor d = {.config_path = CONFIG_FILE, .hooksdir = hook_directory()};

	if (!command_parse(&argp, argc, argv, &d))
		return COMMAND_USAGE;
	d.facts = calloc(1, sizeof(*d.facts));
	if (!d.facts)
		return command_failure("cannot examine anything", -ENOMEM);
	d.colour = terminal_colour(stdout);
	(void)signal(SIGPIPE, SIG_IGN);
	if (geteuid() != 0)
		fputs("not run as root: some checks cannot see what root would see\n", stderr);
	examine(&d);
	if (!d.json)
		printf("%u bad, %u warning%s\n", d.bad, d.warnings, d.warnings == 1 ? "" : "s");
	verdict_release(&d.verdict);
	facts_release(d.facts);
	free(d.facts);
	credentials_unref(d.credentials);
	config_free(d.config);
	return command_finish(d.bad > 0 ? COMMAND_FAILED : COMMAND_OK);
}
