/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool drop, virtspool purge - what removes events from the spool.
 *
 * drop takes away what waits or failed: nobody will ever hear of it, so it asks, and each removal goes to the system
 * log, with who and what. purge thins out the archive of what was delivered.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "command.h"
#include "hook/spool.h"
#include "log.h"
#include "select.h"
#include "util.h"

#define SHOWN_MAX 20 /* removals that are also told on stderr */

/* --- who, and the system log */

/* "alice", or "root (logged in as alice)". */
static void who(char *ret, size_t size)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/loginuid", "re");
	const struct passwd *pw = getpwuid(getuid());
	unsigned login = (unsigned)-1;
	int n;

	n = pw ? snprintf(ret, size, "%s", pw->pw_name) : snprintf(ret, size, "uid %u", (unsigned)getuid());
	if (n < 0 || (size_t)n >= size || !f || fscanf(f, "%u", &login) != 1 || login == (unsigned)-1 ||
	    login == getuid())
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

struct drop_arguments {
	struct selection selection;
	bool yes, dry_run, json;
};

enum { OPTION_FROM = 0x2000, OPTION_ALL };

static const struct argp_option drop_options[] = {
	{"from", OPTION_FROM, "PLACE", 0, "new (all that waits), failed, replay or emergency [new and failed]", 1},
	{"all", OPTION_ALL, NULL, 0, "everything that is there", 1},
	{"dry-run", 'n', NULL, 0, "only list what would be removed", 1},
	{"yes", 'y', NULL, 0, "do not ask", 1},
	{"json", 'j', NULL, 0, "with --dry-run: one JSON object a line", 1},
	{0},
};

static error_t drop_parse(int key, char *arg, struct argp_state *state)
{
	struct drop_arguments *a = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &a->selection.filter;
		return 0;
	case OPTION_FROM:
		if (!places_parse(arg, &a->selection.places) ||
		    a->selection.places & ~(PLACES_WAITING | PLACE_BIT(PLACE_FAILED)))
			argp_error(state,
				   "--from takes new, failed, replay or emergency, not '%s'; see purge for the rest",
				   arg);
		return 0;
	case OPTION_ALL:
		a->selection.all = true;
		return 0;
	case 'n':
		a->dry_run = true;
		return 0;
	case 'y':
		a->yes = true;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case ARGP_KEY_ARGS:
		a->selection.ids = state->argv + state->next;
		a->selection.n_ids = state->argc - state->next;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

struct dropper {
	char who[128];
	bool log_answers;
	uint64_t dropped, gone;
};

/* What is known of it, as one line. */
static char *describe(const struct found *f)
{
	_cleanup_free_ char *driver = printable(f->record.driver), *vm = printable(f->record.object),
			    *operation = printable(f->record.operation);
	char *text;

	if (f->problem || !driver || !vm || !operation)
		return strdup(f->problem ? f->problem : "");
	if (asprintf(&text, "%s %s %s, sequence %" PRIu64 " of epoch %s", driver, vm, operation,
		     f->record.stamp.sequence, f->record.stamp.epoch) < 0)
		return NULL;
	return text;
}

static void tell(const struct dropper *d, const struct found *f)
{
	_cleanup_free_ char *what = describe(f);

	syslog(LOG_NOTICE, "%s dropped event %s from %s/: %s", d->who, f->name, place_name(f->place), what ? what : "");
	if (d->dropped <= SHOWN_MAX || !d->log_answers)
		fprintf(stderr, "dropped %s from %s/: %s\n", f->name, place_name(f->place), what ? what : "");
}

static int drop_one(struct dropper *d, struct lookup *l, const struct spool_id *id)
{
	int fd = l->directories[id->source], r;
	char reason[64];
	struct found f;

	r = lookup_read(l, id, 0, &f);
	if (r == 0 && unlinkat(fd, f.name, 0) < 0)
		r = -errno;
	if (r == -ENOENT) {
		d->gone++;
		return 0;
	}
	if (r < 0)
		return r;
	d->dropped++;
	if (id->source == PLACE_FAILED) {
		(void)snprintf(reason, sizeof(reason), "%s" SPOOL_REASON_SUFFIX, f.name);
		(void)unlinkat(fd, reason, 0);
	}
	tell(d, &f);
	found_release(&f);
	return 0;
}

static int drop_all(struct lookup *l, const struct id_list *list)
{
	struct dropper d = {.log_answers = system_log_answers()};
	struct progress progress;
	int r = 0;

	who(d.who, sizeof(d.who));
	openlog("virtspool", LOG_PID, LOG_DAEMON);
	if (!d.log_answers)
		log_warning("the system log cannot be reached; what is removed is told here only");
	progress_start(&progress, "dropping", list->n);
	for (size_t i = 0; i < list->n && r == 0; i++) {
		r = drop_one(&d, l, &list->entries[i]);
		progress_step(&progress);
	}
	progress_end(&progress);
	syslog(LOG_NOTICE, "%s dropped %" PRIu64 " events", d.who, d.dropped);
	closelog();
	fprintf(stderr, "%" PRIu64 " events dropped", d.dropped);
	if (d.gone > 0)
		fprintf(stderr, "; %" PRIu64 " were no longer there", d.gone);
	fputc('\n', stderr);
	return r < 0 ? command_failure("cannot remove an event", r) : COMMAND_OK;
}

static int drop(struct lookup *l, const struct drop_arguments *a)
{
	struct id_list list = {0};
	int r = selection_find(l, &a->selection, &list);

	if (r != COMMAND_OK) {
		/* said already */
	} else if (a->dry_run) {
		r = selection_print(l, &list, a->json);
		(void)fflush(stdout);
		fprintf(stderr, "%zu events would be dropped\n", list.n);
	} else if (list.n > 0 && !a->yes &&
		   !command_confirm("drop %zu events, which nobody will hear of then", list.n)) {
		r = COMMAND_FAILED;
	} else {
		r = drop_all(l, &list);
	}
	id_list_clear(&list);
	return r;
}

int cmd_drop(int argc, char **argv)
{
	static const struct argp_child children[] = {{&filter_argp, 0, NULL, 0}, {0}};
	static const struct argp argp = {
		.options = drop_options,
		.parser = drop_parse,
		.args_doc = "[ID...]",
		.doc = "Removes events that wait or failed, by id (any unique beginning) or by filters. Each removal "
		       "is "
		       "logged, with who and what.",
		.children = children,
	};
	struct drop_arguments a = {.selection.places = PLACES_WAITING | PLACE_BIT(PLACE_FAILED)};
	struct lookup l;
	int r;

	argp_err_exit_status = COMMAND_USAGE;
	if (argp_parse(&argp, argc, argv, 0, NULL, &a) != 0)
		return COMMAND_USAGE;
	r = command_open_spool(&l);
	if (r != COMMAND_OK)
		return r;
	r = drop(&l, &a);
	lookup_release(&l);
	return command_finish(r);
}

/* --- purge */

struct purge_arguments {
	unsigned places;
	struct filter filter; /* until_ms: older than that */
	bool by_size, by_age, yes, dry_run;
	uint64_t keep_bytes;
};

enum { OPTION_OLDER = 0x3000, OPTION_KEEP };

static const struct argp_option purge_options[] = {
	{"older-than", OPTION_OLDER, "TIME", 0, "remove what is older: 7d, 2026-11-01 ...", 1},
	{"keep", OPTION_KEEP, "SIZE", 0, "keep the newest, so many bytes of them: 500M, 2G", 1},
	{"from", OPTION_FROM, "PLACE", 0, "sent or skipped [sent]", 1},
	{"dry-run", 'n', NULL, 0, "only tell how much would be removed", 1},
	{"yes", 'y', NULL, 0, "do not ask", 1},
	{0},
};

static uint64_t parse_size(const struct argp_state *state, const char *arg)
{
	static const char letters[] = "KMGT";
	char *end = NULL;
	uint64_t n = arg[0] >= '0' && arg[0] <= '9' ? strtoull(arg, &end, 10) : 0;
	const char *letter = end && *end ? strchr(letters, *end & ~0x20) : NULL;
	unsigned shift = letter && *letter ? 10 * (unsigned)(letter - letters + 1) : 0;

	if (shift > 0)
		end++;
	if (shift > 0 && strcmp(end, "iB") == 0)
		end += 2;
	if (!end || *end || n > UINT64_MAX >> shift)
		argp_error(state, "--keep: '%s' is no size; say 500M or 2G", arg);
	return n << shift;
}

static error_t purge_parse(int key, char *arg, struct argp_state *state)
{
	struct purge_arguments *a = state->input;

	switch (key) {
	case OPTION_OLDER:
		if (filter_parse_time(arg, (int64_t)time(NULL), &a->filter.until_ms) < 0)
			argp_error(state, "--older-than: '%s' is no time; say 7d, yesterday or 2026-11-01", arg);
		a->by_age = true;
		return 0;
	case OPTION_KEEP:
		a->keep_bytes = parse_size(state, arg);
		a->by_size = true;
		return 0;
	case OPTION_FROM:
		if (!places_parse(arg, &a->places) || a->places & ~(PLACE_BIT(PLACE_SENT) | PLACE_BIT(PLACE_SKIPPED)))
			argp_error(state, "--from takes sent or skipped, not '%s'; see drop for the rest", arg);
		return 0;
	case 'n':
		a->dry_run = true;
		return 0;
	case 'y':
		a->yes = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s': takes no arguments", arg);
		return 0;
	case ARGP_KEY_END:
		if (!a->by_age && !a->by_size)
			argp_error(state, "say what may go: --older-than TIME, --keep SIZE");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static uint64_t size_of(const struct lookup *l, const struct spool_id *id)
{
	struct stat st;
	char name[37];

	spool_id_name(id, name);
	return fstatat(l->directories[id->source], name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_size : 0;
}

/* The list is newest first; returns where in it those begin that go. *ret_bytes is what they hold. */
static size_t first_to_go(const struct lookup *l, const struct purge_arguments *a, const struct id_list *list,
			  uint64_t *ret_bytes)
{
	uint64_t kept = 0, going = 0;
	size_t first = list->n;

	for (size_t i = 0; i < list->n; i++) {
		uint64_t size = size_of(l, &list->entries[i]);
		bool old = a->by_age && spool_id_ms(&list->entries[i]) < a->filter.until_ms;

		if (first == list->n && (old || (a->by_size && kept + size > a->keep_bytes)))
			first = i;
		if (first == list->n)
			kept += size;
		else
			going += size;
	}
	*ret_bytes = going;
	return first;
}

static int purge_all(const struct lookup *l, const struct id_list *list, size_t first)
{
	struct progress progress;
	uint64_t removed = 0;
	int r = 0;

	progress_start(&progress, "purging", list->n - first);
	for (size_t i = list->n; i > first && r == 0; i--) { /* the oldest first */
		char name[37];

		spool_id_name(&list->entries[i - 1], name);
		if (unlinkat(l->directories[list->entries[i - 1].source], name, 0) == 0)
			removed++;
		else if (errno != ENOENT)
			r = -errno;
		progress_step(&progress);
	}
	progress_end(&progress);
	fprintf(stderr, "%" PRIu64 " events removed\n", removed);
	return r < 0 ? command_failure("cannot remove an event", r) : COMMAND_OK;
}

static int purge(struct lookup *l, const struct purge_arguments *a)
{
	const struct filter everything = {0};
	struct id_list list = {.newest = true};
	int r = lookup_scan(l, a->places, &everything, SIZE_MAX / 8, &list);
	uint64_t bytes;
	size_t first;
	char size[32];

	if (r < 0)
		return command_failure("cannot read the spool", r);
	first = first_to_go(l, a, &list, &bytes);
	format_size(bytes, size);
	if (a->dry_run) {
		printf("%zu events, %s, would be removed\n", list.n - first, size);
		r = COMMAND_OK;
	} else if (first < list.n && !a->yes &&
		   !command_confirm("remove %zu delivered events, %s, from the archive", list.n - first, size)) {
		r = COMMAND_FAILED;
	} else {
		r = purge_all(l, &list, first);
	}
	id_list_clear(&list);
	return r;
}

int cmd_purge(int argc, char **argv)
{
	static const struct argp argp = {
		.options = purge_options,
		.parser = purge_parse,
		.doc = "Removes delivered events from the archive (sent/), by age or size. What spool.sent_age and "
		       "spool.sent_size say is done by the daemon.",
	};
	struct purge_arguments a = {.places = PLACE_BIT(PLACE_SENT)};
	struct lookup l;
	int r;

	argp_err_exit_status = COMMAND_USAGE;
	if (argp_parse(&argp, argc, argv, 0, NULL, &a) != 0)
		return COMMAND_USAGE;
	r = command_open_spool(&l);
	if (r != COMMAND_OK)
		return r;
	r = purge(&l, &a);
	lookup_release(&l);
	return command_finish(r);
}
