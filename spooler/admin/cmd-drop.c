/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool drop - removes events that wait or failed, and files that are not events.
 *
 * They will never be published, so it asks first, and each removal goes to the system log, with who
 * and what.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "hook/spool.h"
#include "spooler/admin/command.h"
#include "spooler/base/log.h"
#include "spooler/admin/select.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"
#include "spooler/spool/dropped.h"

#define SHOWN_MAX 20 /* removals that stderr shows as well */

/* --- who, and the system log */

/* "alice", or "root (logged in as alice)". */
static void who(char *ret, size_t size)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/loginuid", "re");
	const struct passwd *pw = getpwuid(getuid());
	unsigned login = (unsigned)-1;
	int n;

	n = pw ? snprintf(ret, size, "%s", pw->pw_name)
	       : snprintf(ret, size, "uid %u", (unsigned)getuid());
	if (n < 0 || (size_t)n >= size || !f || fscanf(f, "%u", &login) != 1 ||
	    login == (unsigned)-1 || login == getuid())
		return;
	pw = getpwuid(login);
	if (pw)
		(void)snprintf(ret + n, size - (size_t)n, " (logged in as %s)", pw->pw_name);
	else
		(void)snprintf(ret + n, size - (size_t)n, " (logged in as uid %u)", login);
}

static bool system_log_answers(void)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};

	return fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
}

/* --- drop */

enum { OPTION_FROM = 0x3000 };

static const struct argp_option options[] = {
	{"from", OPTION_FROM, "PLACE", 0,
	 "new (all that wait), failed, replay or emergency [new and failed]", 1},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = state->input;
		return 0;
	case OPTION_FROM:
		selection_parse_from(state->input, state, arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

struct dropper {
	char who[128];
	bool log_answers;
	uint64_t dropped, gone;
	struct failures failures;
};

/* The event in one line; to be freed. */
static char *describe(const struct found *f)
{
	_cleanup_free_ char *driver = terminal_text(stderr, f->record.driver.data,
						    f->record.driver.size),
			    *vm = terminal_text(stderr, f->record.object.data,
						f->record.object.size),
			    *operation = terminal_text(stderr, f->record.operation.data,
						       f->record.operation.size);
	char *text;

	if (f->problem || !driver || !vm || !operation)
		return strdup(f->problem ? f->problem : "");
	if (asprintf(&text, "%s %s %s, sequence %" PRIu64 " of epoch %s", driver, vm, operation,
		     f->record.stamp.sequence, f->record.stamp.epoch) < 0)
		return NULL;
	return text;
}

/* Removes a file or an empty directory, and in failed/ the reason beside it. Negative errno. */
static int remove_file(const struct lookup *l, enum place place, const char *name)
{
	char reason[NAME_MAX + 1];
	int fd = l->directories[place];

	if (unlinkat(fd, name, 0) < 0) {
		if (errno != EISDIR)
			return -errno;
		if (unlinkat(fd, name, AT_REMOVEDIR) < 0)
			return -errno;
	}
	if (place == PLACE_FAILED && record_reason_name(name, reason))
		(void)unlinkat(fd, reason, 0);
	return 0;
}

/* kind: "event", "file" */
static void report(struct dropper *d, const char *kind, const char *name, enum place place,
		   const char *what)
{
	d->dropped++;
	syslog(LOG_NOTICE, "%s dropped %s %s from %s/: %s", d->who, kind, name,
	       place_table[place].name, what ? what : "");
	if (d->dropped <= SHOWN_MAX || !d->log_answers)
		fprintf(stderr, "dropped %s from %s/: %s\n", name, place_table[place].name,
			what ? what : "");
}

static void drop_event(struct dropper *d, struct lookup *l, const struct spool_id *id)
{
	_cleanup_free_ char *what = NULL;
	struct found f;
	int r = lookup_read(l, id, 0, &f);

	if (r == 0) {
		what = describe(&f);
		/* The daemon may not have seen it, and would report it as lost. */
		(void)dropped_note(spool_run_directory(), l->directories[f.place], f.name);
		r = remove_file(l, f.place, f.name);
	}
	if (r == 0)
		report(d, "event", f.name, f.place, what);
	else if (r == -ENOENT)
		d->gone++;
	else
		failures_add(&d->failures, id, r);
}

static int drop_stray(struct dropper *d, const struct lookup *l, const struct stray *f)
{
	_cleanup_free_ char *what = NULL;
	int r = remove_file(l, f->place, f->name);

	if (r == 0) {
		report(d, "file", f->text, f->place, stray_problem(f));
		return COMMAND_OK;
	}
	if (r == -ENOENT) {
		d->gone++;
		return COMMAND_OK;
	}
	if (asprintf(&what, "cannot remove '%s' in %s/", f->text, place_table[f->place].name) < 0)
		return COMMAND_FAILED;
	return command_failure(what, r);
}

/* One that cannot be removed does not keep the others. */
static int drop_all(struct lookup *l, const struct id_list *list)
{
	struct dropper d = {.log_answers = system_log_answers(), .failures.what = "cannot remove"};
	int code = COMMAND_OK, one;
	struct progress progress;

	who(d.who, sizeof(d.who));
	openlog("virtspool", LOG_PID, LOG_DAEMON);
	if (!d.log_answers)
		log_warning("cannot reach the system log; removals are listed here only");
	progress_start(&progress, "dropping", list->n);
	for (size_t i = 0; i < list->n; i++) {
		drop_event(&d, l, &list->entries[i]);
		progress_step(&progress);
	}
	progress_end(&progress);
	for (size_t i = 0; i < l->strays.n; i++) {
		one = drop_stray(&d, l, &l->strays.entries[i]);
		code = one == COMMAND_OK ? code : one;
	}
	syslog(LOG_NOTICE, "%s dropped %" PRIu64 " in total", d.who, d.dropped);
	closelog();
	fprintf(stderr, "%" PRIu64 " dropped", d.dropped);
	if (d.gone > 0)
		fprintf(stderr, "; %" PRIu64 " were no longer there", d.gone);
	fputc('\n', stderr);
	one = failures_report(&d.failures);
	return one == COMMAND_OK ? code : one;
}

static int drop(struct lookup *l, void *arguments)
{
	const struct selection *s = arguments;
	struct id_list list = {0};
	int r = selection_find(l, s, &list);
	char count[128];

	selection_count(l, &list, count);
	if (r != COMMAND_OK)
		; /* reported already */
	else if (s->dry_run)
		r = selection_dry_run(l, s, &list, "dropped");
	else if (list.n + l->strays.n == 0)
		fputs("nothing to drop\n", stderr);
	else if (!s->yes &&
		 !command_confirm("Drop %s? They will never be published; consumers see a hole.",
				  count))
		r = COMMAND_FAILED;
	else
		r = drop_all(l, &list);
	id_list_clear(&list);
	return r;
}

int cmd_drop(int argc, char **argv)
{
	static const struct argp_child children[] = {{&selection_argp, 0, NULL, 0}, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[ID|FILE...]",
		.doc = "Removes waiting or failed events, by id (any unique prefix) or by filters, and files that are "
		       "not events, by the name that `virtspool list` shows. Each removal is written to the "
		       "system log, with the user and the event.",
		.children = children,
	};
	const unsigned undelivered = PLACES_WAITING | PLACE_BIT(PLACE_FAILED);
	struct selection s = {.places = undelivered, .allowed = undelivered, .strays = true};

	return command_on_spool(&argp, argc, argv, &s, drop);
}
