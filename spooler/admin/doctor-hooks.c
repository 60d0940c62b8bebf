/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * doctor-hooks - the part of `virtspool doctor` that looks at the hooks as libvirt does: is ours
 * there, may it be executed, does the daemon that runs know it, what is called beside it.
 */
#include <dirent.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "spooler/admin/command.h"
#include "spooler/admin/doctor.h"
#include "spooler/spool/hook-file.h"
#include "spooler/spool/lookup.h"
#include "spooler/base/util.h"

#define SELINUX_BOOLEAN "/sys/fs/selinux/booleans/virt_hooks_unconfined"

/* Who calls a driver's hook: the monolithic daemon, or the modular one; "daemon" is called by
   each. */
static bool calls_hook(const char *comm, const char *driver)
{
	static const char *const modular[][2] = {
		{"qemu", "virtqemud"},	 {"lxc", "virtlxcd"},	      {"libxl", "virtxend"},
		{"bhyve", "virtbhyved"}, {"network", "virtnetworkd"},
	};

	if (strcmp(comm, "libvirtd") == 0)
		return true;
	for (size_t i = 0; i < ELEMENTSOF(modular); i++)
		if (strcmp(modular[i][1], comm) == 0)
			return strcmp(driver, modular[i][0]) == 0 || strcmp(driver, "daemon") == 0;
	return false;
}

/* When a process started, ms since 1970; 0 if that is not known. Field 22 of its stat: clock
   ticks since boot. */
static int64_t process_started_ms(const char *pid)
{
	char path[300], stat_line[1024] = "";
	_cleanup_fclose_ FILE *f = NULL;
	unsigned long long ticks;
	const char *s;

	(void)snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	f = fopen(path, "re");
	if (!f || !fgets(stat_line, sizeof(stat_line), f) || !(s = strrchr(stat_line, ')')))
		return 0;
	if (sscanf(s + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		   &ticks) != 1)
		return 0;
	return (int64_t)command_now_ms() - (int64_t)(now_usec(CLOCK_BOOTTIME) / 1000) +
	       (int64_t)(ticks * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK));
}

/* When the daemon that calls this driver's hook started, ms since 1970; the last of several, 0
   if none is running. */
static int64_t libvirt_started_ms(const char *driver, char name[static 32])
{
	DIR *proc = opendir("/proc");
	const struct dirent *de;
	int64_t last = 0;

	while (proc && (de = readdir(proc))) {
		char path[300], comm[32] = "";
		_cleanup_fclose_ FILE *f = NULL;
		int64_t started;

		if (de->d_name[0] < '1' || de->d_name[0] > '9')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%s/comm", de->d_name);
		f = fopen(path, "re");
		if (!f || !fgets(comm, sizeof(comm), f))
			continue;
		comm[strcspn(comm, "\n")] = 0;
		started = calls_hook(comm, driver) ? process_started_ms(de->d_name) : 0;
		if (started <= last)
			continue;
		last = started;
		strcpy(name, comm);
	}
	if (proc)
		(void)closedir(proc);
	return last;
}

/* Has this driver's hook been called since then? An event in the spool is the proof. */
static bool called_since(const char *driver, int64_t since_ms)
{
	const struct filter f = {.driver = driver, .since_ms = (uint64_t)since_ms};
	struct id_list list = {.newest = true};
	bool called = false;
	struct lookup l;

	if (lookup_open(&l) == 0 && lookup_scan(&l, PLACES_ALL, &f, 256, &list) >= 0)
		for (size_t i = 0; i < list.n && !called; i++) {
			struct found found;

			if (lookup_read(&l, &list.entries[i], 0, &found) < 0)
				continue;
			called = found_matches(&found, &f);
			found_release(&found);
		}
	id_list_clear(&list);
	lookup_release(&l);
	return called;
}

/* libvirt looks for hooks when it starts; one that came later is not called. */
static void check_known(struct doctor *d, const char *path, const char *driver)
{
	char daemon[32] = "";
	int64_t started = libvirt_started_ms(driver, daemon), installed = 0;
	_cleanup_free_ char *how = NULL;
	struct stat st;

	if (started == 0) {
		finding(d, GRADE_WARNING, "hook", NULL,
			"no libvirt daemon that would call '%s' is running now", path);
		return;
	}
	if (stat(path, &st) == 0)
		installed = (int64_t)st.st_ctim.tv_sec * 1000 + st.st_ctim.tv_nsec / 1000000;
	if (installed < started) {
		finding(d, GRADE_OK, "hook", NULL,
			"%s started after '%s' was installed, and knows it", daemon, path);
	} else if (doctor_may_touch_spool(d) && called_since(driver, installed)) {
		finding(d, GRADE_OK, "hook", NULL, "'%s' has been called since it was installed",
			path);
	} else if (asprintf(&how, "systemctl restart %s (guests go on), or reload it", daemon) >=
		   0) {
		finding(d, GRADE_WARNING, "hook", how,
			"'%s' was installed or updated after %s had started, and was not called since: if it was new "
			"then, it is "
			"not known",
			path, daemon);
	}
}

static bool is_on(const char *path)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	int c = f ? fgetc(f) : EOF;

	return c == 'Y' || c == '1';
}

/* A link's target is executed: its own path and label must allow it. */
static void check_confinement(struct doctor *d, const char *path)
{
	static const char profiled[] = "/etc/libvirt/hooks/";
	_cleanup_free_ char *real = realpath(path, NULL);
	char label[256] = "";

	if (!real)
		return;
	if (is_on("/sys/module/apparmor/parameters/enabled") &&
	    strncmp(real, profiled, strlen(profiled)) != 0)
		finding(d, GRADE_WARNING, "hook",
			"install it below /etc/libvirt/hooks, as a file and not as a link",
			"AppArmor is on, and libvirtd's profile runs hooks below /etc/libvirt/hooks only, not '%s'",
			real);
	if (is_on("/sys/fs/selinux/enforce") &&
	    getxattr(real, "security.selinux", label, sizeof(label) - 1) > 0 &&
	    !strstr(label, "virt_hook"))
		finding(d, GRADE_WARNING, "hook", "restorecon -R /etc/libvirt/hooks",
			"SELinux is on, and '%s' has the label %s, which libvirt may not run", real,
			label);
}

static void check_hook_file(struct doctor *d, const char *path, const char *driver, bool records)
{
	unsigned before = d->bad;
	struct stat st;

	if (lstat(path, &st) < 0)
		return;
	if (st.st_uid != 0)
		finding(d, GRADE_BAD, "hook", "chown root:root FILE",
			"'%s' belongs to uid %u, and runs as root", path, (unsigned)st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		finding(d, GRADE_BAD, "hook", "chmod 0755 FILE",
			"'%s' can be written by others, and runs as root", path);
	if (d->bad == before && records)
		finding(d, GRADE_OK, "hook", NULL, "'%s' records the events of %s", path, driver);
	check_confinement(d, path);
	check_known(d, path, driver);
}

/* libvirt runs regular files that may be executed, and nothing else that lies there. */
static bool is_run(int directory, const char *name)
{
	struct stat st;

	return fstatat(directory, name, &st, 0) == 0 && S_ISREG(st.st_mode) &&
	       faccessat(directory, name, X_OK, 0) == 0;
}

/* Others beside ours: each one that fails makes libvirt's operation fail. */
static void check_members(struct doctor *d, const char *driver)
{
	_cleanup_free_ char *directory = NULL;
	const struct dirent *de;
	DIR *members;

	if (asprintf(&directory, "%s/%s.d", d->hooksdir, driver) < 0)
		return;
	members = opendir(directory);
	while (members && (de = readdir(members)))
		if (strcmp(de->d_name, "virtspool") != 0 && is_run(dirfd(members), de->d_name))
			finding(d, GRADE_WARNING, "hook",
				"if it is a leftover, remove it or make it not executable",
				"libvirt also runs '%s/%s', and an operation fails if that fails",
				directory, de->d_name);
	if (members)
		(void)closedir(members);
}

static void check_driver(struct doctor *d, const struct hook_file *h)
{
	switch (h->state) {
	case HOOK_MISSING:
	case HOOK_REPLACED:
	case HOOK_NOT_INSTALLED:
		return;
	case HOOK_NOT_LOOKED_AT:
		finding(d, GRADE_WARNING, "hook", DOCTOR_AS_ROOT, "'%s' cannot be read", h->path);
		return;
	default:
		check_hook_file(d, h->path, h->driver, h->state != HOOK_NOT_EXECUTABLE);
		check_members(d, h->driver);
		return;
	}
}

void doctor_hooks(struct doctor *d)
{
	(void)doctor_print_verdict(d, "hook");
	for (size_t i = 0; i < HOOK_N_DRIVERS; i++)
		check_driver(d, &d->facts->hooks[i]);
	if (is_on("/sys/fs/selinux/enforce") && access(SELINUX_BOOLEAN, F_OK) == 0 &&
	    !is_on(SELINUX_BOOLEAN))
		finding(d, GRADE_WARNING, "hook",
			"setsebool -P virt_hooks_unconfined on, see virtspool-hook(8)",
			"SELinux is on, and its boolean virt_hooks_unconfined is off: libvirt's modular daemons run no "
			"hooks");
}
