/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * correlate - see correlate.h.
 *
 * The daemon moves a record on within moments, so it is looked for where it may have gone, too.
 * Only a short while of memory is needed: what is kept is bounded, and forgotten as a whole when
 * there is too much of it.
 */
#include "spooler/listener/correlate.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "hook/place.h"
#include "hook/spool.h"
#include "spooler/base/util.h"
#include "spooler/spool/record-parse.h"

#define DOMAINS_MAX 16384
#define OPERATIONS 2
#define UNKNOWN_USEC (10 * USEC_PER_SEC) /* after records were missed */

static const char *const operations[OPERATIONS] = {"started", "stopped"};

struct domain {
	struct domain *next;
	char ids[OPERATIONS][37]; /* "": none, or taken */
	size_t driver_size, size;
	char name[]; /* driver, then name */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct domain *buckets[1024];
static size_t n_domains;
static uint64_t unknown_until_usec;
static int watch_fd = -1, watch_new = -1, watch_emergency = -1;

static size_t bucket_of(const char *driver, size_t driver_size, struct bytes name)
{
	uint32_t h = 2166136261U; /* FNV-1a */

	for (size_t i = 0; i < driver_size; i++)
		h = (h ^ (unsigned char)driver[i]) * 16777619U;
	for (size_t i = 0; i < name.size; i++)
		h = (h ^ (unsigned char)name.data[i]) * 16777619U;
	return h % ELEMENTSOF(buckets);
}

static void forget_all(void)
{
	for (size_t i = 0; i < ELEMENTSOF(buckets); i++)
		while (buckets[i]) {
			struct domain *d = buckets[i];

			buckets[i] = d->next;
			free(d);
		}
	n_domains = 0;
}

static struct domain *find(struct bytes driver, struct bytes name, bool make)
{
	struct domain **b = &buckets[bucket_of(driver.data, driver.size, name)], *d;

	for (d = *b; d; d = d->next)
		if (d->driver_size == driver.size && d->size == driver.size + name.size &&
		    memcmp(d->name, driver.data, driver.size) == 0 &&
		    (name.size == 0 || memcmp(d->name + driver.size, name.data, name.size) == 0))
			return d;
	if (!make)
		return NULL;
	if (n_domains >= DOMAINS_MAX) {
		forget_all();
		unknown_until_usec = now_usec(CLOCK_MONOTONIC) + UNKNOWN_USEC;
		b = &buckets[bucket_of(driver.data, driver.size, name)];
	}
	d = calloc(1, sizeof(*d) + driver.size + name.size);
	if (!d)
		return NULL;
	d->driver_size = driver.size;
	d->size = driver.size + name.size;
	memcpy(d->name, driver.data, driver.size);
	if (name.size)
		memcpy(d->name + driver.size, name.data, name.size);
	d->next = *b;
	*b = d;
	n_domains++;
	return d;
}

static int operation_index(const char *operation, size_t size)
{
	for (int i = 0; i < OPERATIONS; i++)
		if (strlen(operations[i]) == size && memcmp(operations[i], operation, size) == 0)
			return i;
	return -1;
}

/* --- looking at a record */

static int open_in(enum place place, const char *name)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s/%s",
		     place_table[place].in_run_directory ? spool_run_directory()
							 : spool_directory(),
		     place_table[place].path, name) >= (int)sizeof(path))
		return -1;
	return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* The daemon may have moved it on already. */
static int open_record(bool emergency, const char *name)
{
	int fd = -1;

	for (enum place p = 0; fd < 0 && p < N_PLACES; p++) {
		if (place_table[p].kind != PLACE_KIND_SCRATCH && p != PLACE_REPLAY &&
		    (p != PLACE_EMERGENCY || emergency))
			fd = open_in(p, name);
	}
	return fd;
}

static char *read_record(int fd, size_t *ret_size)
{
	_cleanup_free_ char *data = NULL;
	struct stat st;
	size_t size = 0;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > RECORD_MAX)
		return NULL;
	data = malloc((size_t)st.st_size + 1);
	while (data && size < (size_t)st.st_size) {
		ssize_t n = read(fd, data + size, (size_t)st.st_size - size);

		if (n <= 0)
			return NULL;
		size += (size_t)n;
	}
	*ret_size = size;
	return TAKE_PTR(data);
}

static void see(bool emergency, const char *name)
{
	_cleanup_free_ char *data = NULL;
	_cleanup_close_ int fd = -1;
	const char *reason;
	struct record r;
	struct domain *d;
	size_t size;
	int i;

	if (!stamp_id_valid(name))
		return;
	fd = open_record(emergency, name);
	data = fd >= 0 ? read_record(fd, &size) : NULL;
	if (!data || record_parse(data, size, &r, &reason) < 0 || r.origin.size ||
	    !r.operation.data)
		return;
	i = operation_index(r.operation.data, r.operation.size);
	if (i < 0)
		return;
	d = find(r.driver, r.object, true);
	if (d && strcmp(d->ids[i], r.stamp.id) < 0)
		memcpy(d->ids[i], r.stamp.id, sizeof(d->ids[i]));
}

/* --- inotify */

static void add_watches(void)
{
	const uint32_t mask = IN_MOVED_TO | IN_ONLYDIR;
	char path[PATH_MAX];

	if (watch_new < 0 &&
	    snprintf(path, sizeof(path), "%s/" SPOOL_NEW, spool_directory()) < (int)sizeof(path))
		watch_new = inotify_add_watch(watch_fd, path, mask);
	if (watch_emergency < 0 && snprintf(path, sizeof(path), "%s/" SPOOL_EMERGENCY "/" SPOOL_NEW,
					    spool_run_directory()) < (int)sizeof(path))
		watch_emergency = inotify_add_watch(watch_fd, path, mask);
}

static void drain(void)
{
	_Alignas(struct inotify_event) char buf[16384];
	ssize_t n;

	while ((n = read(watch_fd, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *e = (const struct inotify_event *)(buf + at);

			at += (ssize_t)(sizeof(*e) + e->len);
			if (e->mask & IN_Q_OVERFLOW) {
				forget_all(); /* what was missed may be newer than what we have */
				unknown_until_usec = now_usec(CLOCK_MONOTONIC) + UNKNOWN_USEC;
			} else if (e->mask & IN_IGNORED) {
				watch_new = e->wd == watch_new ? -1 : watch_new;
				watch_emergency = e->wd == watch_emergency ? -1 : watch_emergency;
			} else if (e->len) {
				see(e->wd == watch_emergency, e->name);
			}
		}
	add_watches(); /* a spool that was not there, or was mounted over */
}

int correlate_start(void)
{
	watch_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (watch_fd < 0)
		return -errno;
	add_watches();
	return watch_fd;
}

void correlate_drain(void)
{
	(void)pthread_mutex_lock(&lock);
	if (watch_fd >= 0)
		drain();
	(void)pthread_mutex_unlock(&lock);
}

/* With the lock held. */
static enum correlation take(struct domain *d, int operation, char ret_id[static 37])
{
	if (d && d->ids[operation][0]) {
		memcpy(ret_id, d->ids[operation], sizeof(d->ids[operation]));
		d->ids[operation][0] = '\0';
		return CORRELATE_FOUND;
	}
	if ((watch_new < 0 && watch_emergency < 0) ||
	    now_usec(CLOCK_MONOTONIC) < unknown_until_usec)
		return CORRELATE_UNKNOWN;
	return CORRELATE_NONE;
}

enum correlation correlate_take(const char *driver, struct bytes domain, const char *operation,
				char ret_id[static 37])
{
	int i = operation_index(operation, strlen(operation));
	enum correlation c = CORRELATE_UNKNOWN;

	(void)pthread_mutex_lock(&lock);
	if (watch_fd >= 0 && i >= 0) {
		drain();
		c = take(find((struct bytes){driver, strlen(driver)}, domain, false), i, ret_id);
	}
	(void)pthread_mutex_unlock(&lock);
	return c;
}
