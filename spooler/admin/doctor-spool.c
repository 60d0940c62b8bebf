/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * doctor-spool - the part of `virtspool doctor` that looks at the spool: whose its directories are,
 * how much room there is, and whether a record can really be written.
 */
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "hook/place.h"
#include "hook/spool.h"
#include "spooler/admin/command.h"
#include "spooler/admin/doctor.h"
#include "spooler/base/deadline.h"
#include "spooler/base/util.h"

#define LOW_SPACE_PERCENT 5
#define WRITE_MS 5000 /* as long as the hook would wait for it */
#define MARKED_MS 800 /* ... and would not, once one has found that the disk hangs */
#define PROBE SPOOL_TMP "/.doctor"

/* --- directories */

static void check_owner(struct doctor *d, const char *path, mode_t mode)
{
	const struct group *gr = getgrnam("virtspool");
	_cleanup_free_ char *how = NULL;
	struct stat st;

	if (stat(path, &st) < 0 && doctor_is_hidden(-errno)) {
		finding(d, GRADE_WARNING, "spool", DOCTOR_AS_ROOT, "cannot examine '%s': %s", path,
			strerror(errno));
		return;
	}
	if (stat(path, &st) < 0 && d->facts->of_verdict.spool_error == -errno &&
	    strcmp(path, spool_directory()) == 0)
		return; /* the verdict has said it */
	if (stat(path, &st) < 0) {
		finding(d, GRADE_BAD, "spool",
			"systemd-tmpfiles --create virtspool.conf; is its file system mounted?",
			"'%s': %s", path, strerror(errno));
		return;
	}
	if (!gr || (st.st_uid == 0 && st.st_gid == gr->gr_gid && (st.st_mode & 07777) == mode))
		return;
	if (asprintf(&how, "chown root:virtspool '%s'; chmod %04o '%s'", path, (unsigned)mode,
		     path) < 0)
		return;
	/* What matters is who can write: the daemon as the group, the hook as root. */
	finding(d, st.st_gid == gr->gr_gid && st.st_mode & S_IWGRP ? GRADE_WARNING : GRADE_BAD,
		"spool", how, "'%s' belongs to %u:%u, mode %04o", path, (unsigned)st.st_uid,
		(unsigned)st.st_gid, (unsigned)st.st_mode & 07777);
}

/* If others can write there, the hook does not trust the stamp: each event gets its own epoch. */
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
			"users other than root can write to '%s'; events are spooled without their order",
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
	if (d->bad + d->warnings == before && d->facts->of_verdict.spool_error == 0)
		finding(d, GRADE_OK, "spool", NULL, "'%s' and its directories are there",
			spool_directory());
}

/* --- room, and a file that is really written */

static void check_space(struct doctor *d)
{
	static const char purge[] = "make room; virtspool purge removes what was delivered";
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
		finding(d, GRADE_BAD, "space", purge, "only %s are left for the spool", size);
	else if (fs.f_files > 0 && fs.f_favail * 100 < fs.f_files * LOW_SPACE_PERCENT)
		finding(d, GRADE_BAD, "space", purge,
			"only %" PRIu64 " inodes are left for the spool", (uint64_t)fs.f_favail);
	else
		finding(d, GRADE_OK, "space", NULL, "%s free", size);
}

/* As a hook does it: into tmp/, synced, moved to another name, the directory synced; and
   removed. */
static int write_probe(void *argument, void *result, uint64_t *progress)
{
	static const char data[4096];
	_cleanup_close_ int spool_fd = place_open_top(spool_directory()), tmp_fd = -1, fd = -1;
	int r = 0;

	tmp_fd = spool_fd < 0 ? spool_fd : place_open_directory(spool_fd, SPOOL_TMP);
	if (tmp_fd < 0)
		return tmp_fd;
	(void)unlinkat(spool_fd, PROBE, 0); /* of a doctor that was killed */
	fd = openat(spool_fd, PROBE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
		r = errno ? -errno : -ENOSPC;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(spool_fd, PROBE, spool_fd, PROBE ".moved") < 0)
		r = -errno;
	if (r == 0 && fsync(tmp_fd) < 0)
		r = -errno;
	(void)unlinkat(spool_fd, PROBE, 0);
	(void)unlinkat(spool_fd, PROBE ".moved", 0);
	return r;
}

static const char *remedy_of(int error)
{
	switch (error) {
	case -EROFS:
		return "look for errors of the disk in the kernel's log; mount -o remount,rw";
	case -ENOSPC:
	case -EDQUOT:
		return "make room or inodes; virtspool purge removes what was delivered";
	case -EACCES:
	case -EPERM:
		return "see the findings on ownership; on NFS, export it with no_root_squash, as the "
		       "hook writes as root";
	case -ETIMEDOUT:
		return "look at the disk or file server; the hook gives up after five seconds";
	default:
		return "look for errors of the disk in the kernel's log";
	}
}

static unsigned write_ms(void)
{
	_cleanup_free_ char *mark = NULL;

	return asprintf(&mark, "%s/" SPOOL_HUNG, spool_run_directory()) >= 0 &&
			       access(mark, F_OK) == 0
		       ? MARKED_MS
		       : WRITE_MS;
}

static void check_writing(struct doctor *d)
{
	char none[1];
	int r;

	if (geteuid() != 0) {
		finding(d, GRADE_WARNING, "spool", DOCTOR_AS_ROOT,
			"only root can try to write to the spool as the hook does");
		return;
	}
	r = deadline_call(write_probe, NULL, none, sizeof(none), write_ms());
	if (r < 0)
		finding(d, GRADE_BAD, "spool", remedy_of(r),
			"cannot write to the spool '%s': %s; new events go through memory",
			spool_directory(), strerror(-r));
	else
		finding(d, GRADE_OK, "spool", NULL, "a file was written, synced and removed");
}

void doctor_spool(struct doctor *d)
{
	bool answers = doctor_may_touch_spool(d);

	/* A fault that is found here is not reported twice. */
	(void)doctor_print_verdict(d, "spool");
	if (!answers) {
		finding(d, GRADE_WARNING, "spool", NULL,
			"not checked: the spool's directories, its space, and whether it can be "
			"written to");
		return;
	}
	check_directories(d);
	check_space(d);
	if (access(spool_directory(), F_OK) == 0)
		check_writing(d);
}
