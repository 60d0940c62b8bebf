/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hookfile - see hookfile.h. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "spooler/admin/hookfile.h"
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
		return HOOK_NONE;
	return m.data && memmem(m.data, m.size, MARK, strlen(MARK)) ? HOOK_OURS : HOOK_FOREIGN;
}

bool files_equal(const char *a, const char *b)
{
	_cleanup_(map_release) struct map x = map_file(a), y = map_file(b);

	return x.data && y.data && x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
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
