/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool flush - asks the daemon to try everything that waits at once, as `postqueue -f` does.
 *
 * The request is SIGUSR1. The process id comes from the status file, which whoever took over the
 * daemon may have written: the signal goes only to a process that runs as the file's owner, and
 * only to one that handles it.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/syscall.h>

#include "spooler/admin/command.h"
#include "hook/spool.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/spool/status-file.h"

/* The number after NAME: in /proc/PID/status. */
static bool read_field(FILE *f, const char *name, int base, uint64_t *ret)
{
	char line[256];
	size_t n = strlen(name);

	rewind(f);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, name, n) == 0 && line[n] == ':') {
			*ret = strtoull(line + n + 1, NULL, base);
			return true;
		}
	return false;
}

/* Does the process handle the signal, by a handler or a descriptor, instead of dying of it? */
static bool handles(FILE *status, int signal)
{
	uint64_t caught = 0, blocked = 0;

	return read_field(status, "SigCgt", 16, &caught) &&
	       read_field(status, "SigBlk", 16, &blocked) && (caught | blocked) >> (signal - 1) & 1;
}

static bool runs_as_owner(FILE *status, const char *run_dir)
{
	_cleanup_close_ int dir = place_open_top(run_dir);
	uint64_t uid = 0;
	struct stat st;

	return dir >= 0 && fstatat(dir, STATUS_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       read_field(status, "Uid", 10, &uid) && uid == st.st_uid;
}

/* pidfd: between the look into /proc and the signal the process id cannot become another's. */
static int ask(const struct status_file *s)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, (pid_t)s->pid, 0);
	_cleanup_fclose_ FILE *status = NULL;
	char path[64];

	if (fd < 0)
		return command_failure("cannot signal the daemon", -errno);
	(void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/status", s->pid);
	status = fopen(path, "re");
	if (!status)
		return command_failure("cannot look at the daemon", -errno);
	if (!runs_as_owner(status, spool_run_directory())) {
		log_error("process %" PRIu64 " of '%s/" STATUS_FILE
			  "' does not belong to the file's owner; it is not the daemon",
			  s->pid, spool_run_directory());
		return COMMAND_FAILED;
	}
	if (!handles(status, SIGUSR1)) {
		log_error(
			"the running daemon (%s) cannot do this; restart it: systemctl restart virtspool",
			s->version ? s->version : "of another version");
		return COMMAND_FAILED;
	}
	if (syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 0) < 0)
		return command_failure("cannot signal the daemon", -errno);
	return COMMAND_OK;
}

static int flush(void)
{
	struct status_file s;
	int r = status_file_read(spool_run_directory(), &s);
	char count[48];

	if (r == -ENOENT) {
		log_error("the daemon is not running; start it: systemctl start virtspool");
		return COMMAND_UNAVAILABLE;
	}
	if (r < 0)
		return command_failure("cannot read the daemon's status", r);
	r = ask(&s);
	if (r == COMMAND_OK) {
		format_count(s.waiting, "event", count);
		fprintf(stderr, "the daemon tries %s now%s\n", count,
			s.connected ? "" : ", and connects first");
	}
	status_file_release(&s);
	return r;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	return command_no_arguments(key, arg, state);
}

int cmd_flush(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.doc = "Asks the daemon to retry everything that waits now: it connects without waiting for its "
		       "back-off, and publishes refused events again.",
	};

	if (!command_parse(&argp, argc, argv, NULL))
		return COMMAND_USAGE;
	return command_finish(flush());
}
