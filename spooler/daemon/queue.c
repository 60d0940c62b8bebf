/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * queue - see queue.h.
 *
 * Two snapshots, live and replay, each a sorted array of ids. A scan fills an array of twice the
 * size that is kept and, whenever it is full, throws the younger half away (quickselect), so that a
 * million names cost one pass and 9 MiB. `taken` holds the ids that were given and not yet ended; a
 * scan that meets them again does not give them twice. `held` are those that stay for later,
 * `stuck` those that were delivered but could not be moved away.
 */
#include <dirent.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "spooler/base/atomic-file.h"
#include "spooler/daemon/disk.h"
#include "spooler/spool/stray.h"
#include "hook/spool.h"
#include "hook/stamp.h"
#include "spooler/base/log.h"
#include "spooler/daemon/queue.h"
#include "spooler/spool/recordfile.h"
#include "spooler/base/util.h"

#define COPY_SUFFIX ".copy"   /* in tmp/ */
#define STUCK_TURN_USEC 20000 /* for removing what is stuck, before others get their turn */
#define STRAY_TWINS_MAX 100
#define ARCHIVE_MODE 0770

struct idset {
	void *root; /* tsearch() of queue_entry copies */
	size_t n;
};

struct queue {
	char *spool_dir, *run_dir;
	struct disk *disk;
	bool hangs;		   /* the disk, as of the last scan */
	int directories[N_PLACES]; /* as of the last scan; negative if not there */
	struct id_list live, replay;
	struct idset taken, held;
	struct id_list stuck; /* sorted */
	size_t stuck_max;
	bool blocked; /* there is no room for more of them: the disk's events are not given */
	int stuck_error;
	char *stuck_text;
	uint64_t device, inode; /* of new/, as of the last scan that found it */
	bool changed;
	uint64_t counted[N_PLACES]; /* names seen by the last scan */
	uint64_t ended;		    /* entries that left since */
	uint64_t oldest_ms;
	char *error;
	bool missing; /* that is the error */
	struct record_buffer buffer;
};

/* --- sets of ids */

static bool idset_contains(const struct idset *s, const struct spool_id *e)
{
	return s->n > 0 && tfind(e, (void *const *)&s->root, spool_id_compare);
}

static int idset_add(struct idset *s, const struct spool_id *e)
{
	struct spool_id *copy = malloc(sizeof(*copy));
	void **node;

	if (!copy)
		return -ENOMEM;
	*copy = *e;
	node = tsearch(copy, &s->root, spool_id_compare);
	if (node && *node == copy)
		s->n++;
	else
		free(copy); /* it is there already, or there is no memory */
	return node ? 0 : -ENOMEM;
}

static void idset_remove(struct idset *s, const struct spool_id *e)
{
	void **node = s->n > 0 ? tfind(e, &s->root, spool_id_compare) : NULL;
	void *copy;

	if (!node)
		return;
	copy = *node;
	(void)tdelete(e, &s->root, spool_id_compare);
	free(copy);
	s->n--;
}

static void idset_clear(struct idset *s)
{
	tdestroy(s->root, free);
	s->root = NULL;
	s->n = 0;
}

/* --- events that were delivered and cannot be removed: sorted, because there may be many */

static size_t stuck_position(const struct queue *q, const struct spool_id *e)
{
	size_t low = 0, high = q->stuck.n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (spool_id_compare(&q->stuck.entries[middle], e) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool stuck_contains(const struct queue *q, const struct spool_id *e)
{
	size_t i = stuck_position(q, e);

	return i < q->stuck.n && spool_id_compare(&q->stuck.entries[i], e) == 0;
}

/* Is there room for one more, if everything that is under way gets stuck as well? */
static void note_blocked(struct queue *q)
{
	if (q->stuck.n > 0 && q->stuck.n + q->taken.n >= q->stuck_max)
		q->blocked = true;
}

static void stuck_add(struct queue *q, const struct spool_id *e, int error)
{
	size_t i = stuck_position(q, e);

	q->stuck_error = error;
	if (i < q->stuck.n && spool_id_compare(&q->stuck.entries[i], e) == 0)
		return;
	if (q->stuck.n == q->stuck_max || id_list_add(&q->stuck, e, q->stuck_max) < 0) {
		q->blocked = true;
		return;
	}
	/* They come nearly in their order: little is moved. */
	memmove(&q->stuck.entries[i + 1], &q->stuck.entries[i],
		(q->stuck.n - 1 - i) * sizeof(*q->stuck.entries));
	q->stuck.entries[i] = *e;
	note_blocked(q);
}

/* --- scanning */

static void set_error(struct queue *q, const char *what, const char *path, int error)
{
	free(q->error);
	q->error = NULL;
	q->missing = error == -ENOENT || error == -ENOTDIR || error == -ETIMEDOUT;
	if (what &&
	    asprintf(&q->error, "cannot %s '%s': %s", what, path,
		     error == -ETIMEDOUT ? "the disk does not answer" : strerror(-error)) < 0)
		q->error = NULL;
}

static void close_directories(struct queue *q)
{
	for (enum place p = 0; p < N_PLACES; p++)
		close_fdp(&q->directories[p]);
}

/* Makes one that somebody has removed. Its set-group-ID bit comes from the spool's own
   directory: the kernel does not take it from the mode, and under the unit's RestrictSUIDSGID=
   it is an error to ask for it. */
static int make_archive(int spool_fd, const char *path)
{
	mode_t mask = umask(0);
	int r = mkdirat(spool_fd, path, ARCHIVE_MODE);

	(void)umask(mask);
	return r;
}

static void open_place(struct queue *q, int spool_fd, int run_fd, enum place p)
{
	q->directories[p] = place_open(spool_fd, run_fd, p);
	if (q->directories[p] == -ENOENT && place_table[p].kind != PLACE_KIND_WAITING &&
	    !place_table[p].in_run_directory && q->directories[PLACE_NEW] >= 0 &&
	    make_archive(spool_fd, place_table[p].path) == 0)
		q->directories[p] = place_open(spool_fd, run_fd, p);
}

static void note_identity(struct queue *q)
{
	struct stat st;

	if (q->directories[PLACE_NEW] < 0 || fstat(q->directories[PLACE_NEW], &st) < 0)
		return;
	q->device = st.st_dev;
	q->inode = st.st_ino;
}

/* Opens all directories again. The descriptor of a missing one stays negative. */
static void open_directories(struct queue *q)
{
	_cleanup_close_ int spool_fd = -1, run_fd = -1;

	close_directories(q);
	q->hangs = disk_check(q->disk) == DISK_HANGS;
	set_error(q, NULL, NULL, 0);
	run_fd = place_open_top(q->run_dir);
	if (run_fd < 0 && run_fd != -ENOENT)
		set_error(q, "open the run directory", q->run_dir, run_fd);
	spool_fd = q->hangs ? -ETIMEDOUT : place_open_top(q->spool_dir);
	for (enum place p = 0; p < N_PLACES; p++)
		open_place(q, spool_fd, run_fd, p);
	note_identity(q);
	if (spool_fd < 0)
		set_error(q, "open the spool", q->spool_dir, spool_fd);
	else if (q->directories[PLACE_NEW] < 0)
		set_error(q, "open new/ in the spool", q->spool_dir, q->directories[PLACE_NEW]);
}

static int write_reason(int failed_fd, const char *name, const char *reason)
{
	char file[NAME_MAX + sizeof(SPOOL_REASON_SUFFIX)];
	_cleanup_close_ int fd = -1;
	size_t n = strlen(reason);

	if (snprintf(file, sizeof(file), "%s" SPOOL_REASON_SUFFIX, name) > NAME_MAX)
		return -ENAMETOOLONG;
	fd = openat(failed_fd, file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
	if (fd < 0)
		return -errno;
	if (write(fd, reason, n) != (ssize_t)n || write(fd, "\n", 1) != 1)
		return errno ? -errno : -EIO;
	return 0;
}

/* Moves what is called `name` from a source into another directory of the spool, without
   replacing anything. */
static int move_name(struct queue *q, int from_fd, const char *name, enum place to,
		     const char *reason)
{
	int to_fd = q->directories[to], r;

	if (to_fd < 0)
		return -ENOTDIR;
	if (reason)
		(void)write_reason(to_fd, name,
				   reason); /* the move matters more than its explanation */
	r = atomic_file_move(from_fd, name, to_fd);
	if (r == -EEXIST && stamp_id_valid(name) && /* the same id: the same record, again */
	    renameat(from_fd, name, to_fd, name) == 0)
		r = 0;
	return r;
}

/* Under another name, where one like it lies in failed/ already: NAME.1, NAME.2 ... */
static int move_stray(struct queue *q, int fd, const char *name, const char *reason)
{
	int to_fd = q->directories[PLACE_FAILED];
	int r = move_name(q, fd, name, PLACE_FAILED, reason);
	char other[NAME_MAX + 1];

	for (int i = 1; r == -EEXIST && i <= STRAY_TWINS_MAX; i++) {
		(void)snprintf(other, sizeof(other), "%.*s.%d",
			       (int)(NAME_MAX - sizeof(SPOOL_REASON_SUFFIX) - 4), name, i);
		if (faccessat(to_fd, other, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		(void)write_reason(to_fd, other, reason);
		r = renameat(fd, name, to_fd, other) < 0 ? -errno : 0;
	}
	return r;
}

static void refuse_stray(struct queue *q, int fd, const char *name)
{
	_cleanup_free_ char *text = stray_escape(name);
	int r = move_stray(q, fd, name, "not a record: its name is not an event's id");

	if (r == 0)
		log_warning("file '%s' moved to failed/: its name is not an event's id",
			    text ? text : "?");
}

static int scan_source(struct queue *q, enum place source, struct id_list *s)
{
	_cleanup_close_ int fd = -1;
	struct spool_id e;
	struct dirent *de;
	int r = 0;
	DIR *d;

	q->counted[source] = 0;
	if (q->directories[source] < 0 && q->directories[source] != -ENOENT && !q->error)
		set_error(q, "open", place_table[source].path, q->directories[source]);
	if (q->directories[source] < 0)
		return 0;
	fd = place_open_directory(q->directories[source], ".");
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		set_error(q, "open", place_table[source].path, fd < 0 ? fd : -errno);
		return 0;
	}
	TAKE_FD(fd);
	while (r >= 0 && (errno = 0, de = readdir(d))) {
		if (spool_is_dots(de->d_name))
			continue;
		if (!spool_id_parse(de->d_name, &e)) {
			refuse_stray(q, dirfd(d), de->d_name);
			continue;
		}
		e.source = (unsigned char)source;
		if (q->stuck.n > 0 && stuck_contains(q, &e))
			continue;
		q->counted[source]++;
		if (q->blocked && source != PLACE_EMERGENCY)
			continue;
		r = id_list_add(s, &e, QUEUE_SNAPSHOT_MAX);
	}
	if (r >= 0 && errno != 0)
		set_error(q, "read", place_table[source].path, -errno);
	(void)closedir(d);
	return r;
}

static int queue_scan(struct queue *q)
{
	int r;

	q->changed = false;
	q->ended = 0;
	id_list_clear(&q->live);
	id_list_clear(&q->replay);
	open_directories(q);
	r = scan_source(q, PLACE_NEW, &q->live);
	if (r >= 0)
		r = scan_source(q, PLACE_EMERGENCY, &q->live);
	if (r >= 0)
		r = scan_source(q, PLACE_REPLAY, &q->replay);
	id_list_sort(&q->live, QUEUE_SNAPSHOT_MAX);
	if (q->counted[PLACE_EMERGENCY] > 0)
		id_list_unique(&q->live);
	id_list_sort(&q->replay, QUEUE_SNAPSHOT_MAX);
	q->oldest_ms = q->live.n > 0 ? spool_id_ms(&q->live.entries[0]) : 0;
	return r;
}

static bool next_of(struct queue *q, struct id_list *s, struct spool_id *ret_entry)
{
	while (s->position < s->n) {
		const struct spool_id *e = &s->entries[s->position++];

		note_blocked(q);
		if (stuck_contains(q, e) || (q->blocked && e->source != PLACE_EMERGENCY))
			continue;
		if (!idset_contains(&q->taken, e) && !idset_contains(&q->held, e)) {
			*ret_entry = *e;
			return true;
		}
	}
	return false;
}

/* Live entries first; a replay only when a scan has shown that nothing live is left. */
static int find_next(struct queue *q, struct spool_id *ret_entry)
{
	if ((disk_check(q->disk) == DISK_HANGS) != q->hangs)
		queue_rescan(q); /* what was seen on it cannot be given now, or can */
	for (int scans = 0; scans < 2; scans++) {
		/* Is the live snapshot all there is? */
		bool known = !q->changed && !q->live.partial;
		int r;

		if (next_of(q, &q->live, ret_entry))
			return 1;
		if (known && next_of(q, &q->replay, ret_entry))
			return 1;
		if (known && !q->replay.partial)
			return 0;
		if (scans == 0 && (r = queue_scan(q)) < 0)
			return r;
	}
	return 0;
}

int queue_next(struct queue *q, struct spool_id *ret_entry)
{
	int r = find_next(q, ret_entry);

	if (r == 0 && q->taken.n == 0)
		close_directories(q);
	return r <= 0 ? r : idset_add(&q->taken, ret_entry) < 0 ? -ENOMEM : 1;
}

/* --- the queue */

int queue_new(const char *spool_dir, const char *run_dir, struct queue **ret_queue)
{
	struct queue *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	for (enum place p = 0; p < N_PLACES; p++)
		q->directories[p] = -1;
	q->changed = true;
	q->stuck_max = QUEUE_STUCK_MAX;
	q->spool_dir = strdup(spool_dir);
	q->run_dir = strdup(run_dir);
	if (!q->spool_dir || !q->run_dir) {
		queue_free(q);
		return -ENOMEM;
	}
	*ret_queue = q;
	return 0;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	close_directories(q);
	id_list_clear(&q->live);
	id_list_clear(&q->replay);
	idset_clear(&q->taken);
	idset_clear(&q->held);
	id_list_clear(&q->stuck);
	free(q->stuck_text);
	free(q->spool_dir);
	free(q->run_dir);
	free(q->error);
	record_buffer_release(&q->buffer);
	free(q);
}

void queue_use_disk(struct queue *q, struct disk *disk)
{
	q->disk = disk;
}

enum disk_state queue_check_disk(struct queue *q)
{
	return disk_check(q->disk);
}

void queue_set_stuck_max(struct queue *q, size_t n)
{
	q->stuck_max = n;
}

void queue_changed(struct queue *q)
{
	q->changed = true;
}

void queue_rescan(struct queue *q)
{
	id_list_clear(&q->live);
	id_list_clear(&q->replay);
	q->changed = true;
	if (q->taken.n == 0)
		close_directories(q);
}

int queue_read(struct queue *q, const struct spool_id *e, char **ret_data, size_t *ret_size,
	       const char **ret_reason)
{
	char name[37];
	int r;

	spool_id_name(e, name);
	r = record_file_read(q->directories[e->source], name, &q->buffer, ret_size, ret_reason);
	if (r == 0)
		*ret_data = q->buffer.data;
	return r;
}

bool queue_has(const struct queue *q, const struct spool_id *e)
{
	/* The directories may be closed: nothing is held while idle. */
	_cleanup_free_ char *path = NULL;
	char name[37];

	if (e->source != PLACE_EMERGENCY && disk_check(q->disk) == DISK_HANGS)
		return true;
	spool_id_name(e, name);
	if (asprintf(&path, "%s/%s/%s",
		     place_table[e->source].in_run_directory ? q->run_dir : q->spool_dir,
		     place_table[e->source].path, name) < 0)
		return true;
	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

static void entry_ended(struct queue *q, const struct spool_id *e, bool gone)
{
	idset_remove(&q->taken, e);
	if (gone)
		q->ended++;
}

static int write_all(int fd, const char *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, data + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

/* From tmpfs to disk there is no rename: a copy in tmp/, which is moved when it is whole. The
   name is not the event's: the hook that went to the emergency spool may still be hanging in a
   write to that. */
static int copy_to(struct queue *q, const struct spool_id *e, const char *name, enum place to)
{
	int to_fd = q->directories[to], tmp_fd = q->directories[PLACE_TMP], r;
	_cleanup_close_ int fd = -1;
	char copy[37 + sizeof(COPY_SUFFIX)];
	const char *reason;
	char *data = NULL;
	size_t size = 0;

	if (to_fd < 0 || tmp_fd < 0)
		return -ENOTDIR;
	r = queue_read(q, e, &data, &size, &reason);
	if (r < 0)
		return r;
	(void)snprintf(copy, sizeof(copy), "%s" COPY_SUFFIX, name);
	(void)unlinkat(tmp_fd, copy, 0); /* ours, of a daemon that was killed */
	fd = openat(tmp_fd, copy, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
	if (fd < 0)
		return -errno;
	r = write_all(fd, data, size);
	if (r == 0 && fsync(fd) < 0) /* or a power cut leaves a name without its content */
		r = -errno;
	if (r == 0 && renameat(tmp_fd, copy, to_fd, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(tmp_fd, copy, 0);
	return r;
}

/* A hook may have given the disk up while that was about to take the event: then it is in both
   places, and one event. */
static void remove_twin(struct queue *q, const struct spool_id *e, const char *name)
{
	enum place other = e->source == PLACE_NEW ? PLACE_EMERGENCY : PLACE_NEW;

	if (e->source != PLACE_REPLAY && q->counted[PLACE_EMERGENCY] > 0 &&
	    q->directories[other] >= 0 && unlinkat(q->directories[other], name, 0) == 0)
		q->ended++;
}

static int archive(struct queue *q, const struct spool_id *e, enum place to, bool keep)
{
	int fd = q->directories[e->source], r = 0;
	bool hangs = disk_check(q->disk) == DISK_HANGS;
	char name[37];

	spool_id_name(e, name);
	keep = keep && !hangs;
	if (keep && e->source == PLACE_EMERGENCY)
		(void)copy_to(q, e, name,
			      to); /* delivered in any case; the archive is a convenience */
	if (keep && e->source != PLACE_EMERGENCY)
		r = move_name(q, fd, name, to, NULL);
	if (hangs && e->source != PLACE_EMERGENCY)
		r = -ETIMEDOUT;
	else if (!keep || e->source == PLACE_EMERGENCY || r < 0)
		r = unlinkat(fd, name, 0) < 0 ? -errno : 0;
	entry_ended(q, e, true);
	if (r < 0 && r != -ENOENT)
		stuck_add(q, e, r);
	else
		r = 0;
	if (!hangs)
		remove_twin(q, e, name);
	return r;
}

int queue_done(struct queue *q, const struct spool_id *e, bool keep)
{
	return archive(q, e, PLACE_SENT, keep);
}

void queue_gone(struct queue *q, const struct spool_id *e)
{
	q->changed = true; /* believed when the next scan does not see it either */
	entry_ended(q, e, true);
}

int queue_skip(struct queue *q, const struct spool_id *e, bool keep)
{
	return archive(q, e, PLACE_SKIPPED, keep);
}

/* Never removes what could not be kept: an entry that cannot be moved to failed/ stays, held. */
int queue_fail(struct queue *q, const struct spool_id *e, const char *reason)
{
	char name[37];
	int r;

	if (disk_check(q->disk) == DISK_HANGS) {
		(void)queue_hold(q, e);
		return -ETIMEDOUT;
	}
	spool_id_name(e, name);
	r = move_name(q, q->directories[e->source], name, PLACE_FAILED, reason);
	if (r == -EXDEV) {
		r = copy_to(q, e, name, PLACE_FAILED);
		if (r == 0 && unlinkat(q->directories[e->source], name, 0) < 0)
			r = -errno;
	}
	if (r < 0 && faccessat(q->directories[e->source], name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		(void)queue_hold(q, e);
		return r;
	}
	entry_ended(q, e, true);
	return 0;
}

int queue_hold(struct queue *q, const struct spool_id *e)
{
	int r = q->held.n < QUEUE_HELD_MAX ? idset_add(&q->held, e) : -ENOSPC;

	entry_ended(q, e, false);
	return r;
}

void queue_release_held(struct queue *q)
{
	idset_clear(&q->held);
	queue_rescan(q); /* they may lie anywhere */
}

size_t queue_held(const struct queue *q)
{
	return q->held.n;
}

/* The snapshot is sorted: go back to the entry's place. Those after it that have ended
   meanwhile are gone from the directory, and those still taken are passed over. */
void queue_put_back(struct queue *q, const struct spool_id *e)
{
	struct id_list *s = e->source == PLACE_REPLAY ? &q->replay : &q->live;
	const struct spool_id *found = NULL;

	entry_ended(q, e, false);
	if (s->n > 0)
		found = bsearch(e, s->entries, s->n, sizeof(*s->entries), spool_id_compare);
	if (!found)
		q->changed = true; /* a later scan has replaced the snapshot it came from */
	else if ((size_t)(found - s->entries) < s->position)
		s->position = (size_t)(found - s->entries);
}

uint64_t queue_length(const struct queue *q, uint64_t *ret_oldest_ms)
{
	uint64_t n = 0;

	for (enum place i = 0; i < N_PLACES; i++)
		n += q->counted[i];
	n = n > q->ended ? n - q->ended : 0;
	if (ret_oldest_ms) {
		const struct id_list *s = &q->live;

		*ret_oldest_ms = n == 0		      ? 0
				 : s->position < s->n ? spool_id_ms(&s->entries[s->position])
						      : q->oldest_ms;
	}
	return n;
}

const char *queue_spool_dir(const struct queue *q)
{
	return q->spool_dir;
}

const char *queue_run_dir(const struct queue *q)
{
	return q->run_dir;
}

void queue_identity(const struct queue *q, uint64_t *ret_device, uint64_t *ret_inode)
{
	*ret_device = q->device;
	*ret_inode = q->inode;
}

uint64_t queue_emergency_length(const struct queue *q)
{
	return q->counted[PLACE_EMERGENCY];
}

/* --- events that are stuck */

bool queue_is_stuck(const struct queue *q)
{
	return q->stuck.n > 0;
}

int queue_remove_stuck(struct queue *q)
{
	_cleanup_close_ int spool_fd = -1, run_fd = -1, fd = -1;
	uint64_t until = now_usec(CLOCK_MONOTONIC) + STUCK_TURN_USEC;
	unsigned char source = N_PLACES;
	char name[37];

	if (q->stuck.n == 0)
		return 0;
	run_fd = place_open_top(q->run_dir);
	spool_fd = disk_check(q->disk) == DISK_HANGS ? -ETIMEDOUT : place_open_top(q->spool_dir);
	while (q->stuck.n > 0 && now_usec(CLOCK_MONOTONIC) < until) {
		const struct spool_id *e = &q->stuck.entries[q->stuck.n - 1];

		if (e->source != source) {
			source = e->source;
			close_fdp(&fd);
			fd = place_open(spool_fd, run_fd, source);
		}
		spool_id_name(e, name);
		if (fd < 0)
			return fd;
		if (unlinkat(fd, name, 0) < 0 && errno != ENOENT)
			return -errno;
		q->stuck.n--;
		q->blocked = false;
	}
	q->changed = true;
	return q->stuck.n > 0;
}

const char *queue_error(struct queue *q)
{
	if (q->error || q->stuck.n == 0)
		return q->error;
	free(q->stuck_text);
	if (asprintf(&q->stuck_text, "cannot remove %zu delivered events from '%s': %s%s",
		     q->stuck.n, q->spool_dir, strerror(-q->stuck_error),
		     q->blocked ? "; no more events are taken from there until it can" : "") < 0)
		q->stuck_text = NULL;
	return q->stuck_text;
}

bool queue_is_blind(const struct queue *q)
{
	return q->error;
}

bool queue_is_missing(const struct queue *q)
{
	return q->error && q->missing;
}
