/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hook-file - see hook-file.h. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "spooler/spool/hook-file.h"
#include "spooler/base/util.h"

#define MARK "virtspool-hook: the mark by which install-hook knows its own"

struct map {
	void *data;
	size_t size;
};

static void map_release(struct map *m)
{
	if (m->data)
		(void)munmap(m->data, m->size);
}

const char *hook_directory(void)
{
	const char *test = secure_getenv("VIRTSPOOL_HOOKSDIR");

	return test && *test ? test : HOOKSDIR;
}

/* Empty files, and what cannot be read, have no data. */
static struct map map_file(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct map m = {0};
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
		return m;
	m.size = (size_t)st.st_size;
	m.data = mmap(NULL, m.size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (m.data == MAP_FAILED)
		m = (struct map){0};
	return m;
}

enum hook_kind hook_kind(const char *path)
{
	_cleanup_(map_release) struct map m = map_file(path);
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == EACCES ? HOOK_UNKNOWN : HOOK_NONE;
	if (!m.data && access(path, R_OK) < 0 && errno == EACCES)
		return HOOK_UNKNOWN;
	return m.data && memmem(m.data, m.size, MARK, strlen(MARK)) ? HOOK_OURS : HOOK_FOREIGN;
}

bool hook_differs(const char *path)
{
	_cleanup_(map_release) struct map x = map_file(path), y = map_file(HOOK_PROGRAM);

	return x.data && y.data && (x.size != y.size || memcmp(x.data, y.data, x.size) != 0);
}

char *hook_installed(const char *hooksdir, const char *driver)
{
	static const char *const patterns[] = {"", ".d/virtspool"};

	for (size_t i = 0; i < ELEMENTSOF(patterns); i++) {
		char *path;

		if (asprintf(&path, "%s/%s%s", hooksdir, driver, patterns[i]) < 0)
			return NULL;
		if (hook_kind(path) == HOOK_OURS)
			return path;
		free(path);
	}
	return NULL;
}

/* --- what libvirt will run */

/* libvirt, which is root, asks as access() does: may anybody execute it? */
static bool is_executable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111);
}

/* Is there a libvirt here whose hooks matter? */
static bool is_expected(const char *hooksdir)
{
	return access(hooksdir, F_OK) == 0 ||
	       (strcmp(hooksdir, HOOKSDIR) == 0 && access("/run/libvirt", F_OK) == 0);
}

static enum hook_state state_of(const char *path, const char *main_path, const char *member)
{
	if (!is_executable(path))
		return HOOK_NOT_EXECUTABLE;
	if (hook_kind(main_path) == HOOK_OURS && hook_kind(member) == HOOK_OURS &&
	    is_executable(member))
		return HOOK_TWICE;
	return hook_differs(path) ? HOOK_OTHER_VERSION : HOOK_RECORDS;
}

static void look_at(const char *hooksdir, struct hook_file *f)
{
	char main_path[sizeof(f->path) - 16], member[sizeof(f->path)];
	bool main_is_ours, member_is_ours;

	(void)snprintf(main_path, sizeof(main_path), "%s/%s", hooksdir, f->driver);
	(void)snprintf(member, sizeof(member), "%s.d/virtspool", main_path);
	main_is_ours = hook_kind(main_path) == HOOK_OURS;
	member_is_ours = hook_kind(member) == HOOK_OURS;
	/* One that runs counts before one that does not. */
	if (member_is_ours && (!main_is_ours || !is_executable(main_path)))
		(void)snprintf(f->path, sizeof(f->path), "%s", member);
	else
		(void)snprintf(f->path, sizeof(f->path), "%s", main_path);
	if (main_is_ours || member_is_ours)
		f->state = state_of(f->path, main_path, member);
	else if (hook_kind(main_path) == HOOK_UNKNOWN || hook_kind(member) == HOOK_UNKNOWN)
		f->state = HOOK_NOT_LOOKED_AT;
	else
		f->state = hook_kind(main_path) == HOOK_FOREIGN ? HOOK_REPLACED : HOOK_MISSING;
}

void hook_files_look(const char *hooksdir, struct hook_file ret_files[static HOOK_N_DRIVERS])
{
	static const char *const drivers[HOOK_N_DRIVERS] = HOOK_DRIVERS;
	bool others = false, expected = is_expected(hooksdir);

	for (size_t i = 0; i < HOOK_N_DRIVERS; i++) {
		ret_files[i] = (struct hook_file){.driver = drivers[i]};
		look_at(hooksdir, &ret_files[i]);
		if (i > 0 && i < HOOK_N_GUEST_DRIVERS)
			others = others || (ret_files[i].state != HOOK_MISSING &&
					    ret_files[i].state != HOOK_REPLACED);
	}
	/* QEMU's is expected unless the host has another kind of guests; the others are a
	   choice. */
	for (size_t i = 0; i < HOOK_N_DRIVERS; i++)
		if ((ret_files[i].state == HOOK_MISSING && (i > 0 || others || !expected)) ||
		    (ret_files[i].state == HOOK_REPLACED && i > 0))
			ret_files[i].state = HOOK_NOT_INSTALLED;
}
