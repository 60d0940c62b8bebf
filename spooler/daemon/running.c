/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * running - see running.h. The file is JSON:
 *
 *	{"boot": BOOT-ID, "seen": ID, "guests": [{"uuid": UUID, "id": ID, "driver": D, "name": N}]}
 *
 * "seen" is "" before the first record; "id" is that of the guest's last record; driver and name
 * are percent-escaped, as they may be any bytes.
 */
#include "spooler/daemon/running.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <search.h>
#include <signal.h>
#include <sys/wait.h>

#include "hook/place.h"
#include "hook/spool.h"
#include "hook/text.h"
#include "spooler/base/log.h"
#include "spooler/base/loop.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/spool/document-uuid.h"
#include "spooler/spool/domain-document.h"
#include "spooler/spool/record-parse.h"
#include "spooler/spool/recordfile.h"
#include "spooler/spool/spoolid.h"

#define SAVE_USEC (5 * USEC_PER_SEC)  /* the file is at most so much older than the table */
#define RETRY_USEC (5 * USEC_PER_SEC) /* between two attempts at a spool that takes nothing */
#define START_USEC (2 * USEC_PER_SEC) /* for catching up before the daemon is ready */
#define TURN_USEC UINT64_C(20000)     /* for catching up, before others get their turn */
#define FILE_SIZE_MAX (64 * 1024 * 1024)
#define GUESTS_MAX 20000
#define CATCH_UP_MAX 100000 /* ids that are listed at a time */

struct guest {
	char uuid[37]; /* first: the key */
	struct spool_id id;
	struct bytes driver, name; /* in data */
	char data[];
};

struct running {
	sd_event *loop;
	char *spool_dir, *run_dir;
	struct disk *disk;
	char boot[33];
	char file_boot[33]; /* whose guests the table has; "": not known */
	void *root;	    /* tsearch() of struct guest */
	size_t n;
	bool full_logged;
	struct spool_id seen; /* the highest id of all records that were seen, but for reports */

	/* catching up */
	bool loaded, caught_up;
	char epoch[33];	      /* the hooks' now; "": no hook has run since the boot */
	struct spool_id last; /* the last id, of reports too */
	bool boot_passed;     /* what comes now is of this boot */
	struct id_list todo;
	int places[N_PLACES];
	struct record_buffer buffer;
	uint64_t reported;
	int error; /* the last report's, as logged */

	bool save_pending;
	int save_error;
	pid_t pid;
	sd_event_source *turn, *save, *child;
};

/* --- the table */

static int compare_guests(const void *a, const void *b)
{
	return strcmp(((const struct guest *)a)->uuid, ((const struct guest *)b)->uuid);
}

static struct guest *find(const struct running *g, const char *uuid)
{
	struct guest key;
	void *node;

	(void)snprintf(key.uuid, sizeof(key.uuid), "%s", uuid);
	node = g->n ? tfind(&key, (void *const *)&g->root, compare_guests) : NULL;
	return node ? *(struct guest **)node : NULL;
}

static void take_out(struct running *g, struct guest *guest)
{
	(void)tdelete(guest, &g->root, compare_guests);
	free(guest);
	g->n--;
}

static void clear(struct running *g)
{
	tdestroy(g->root, free);
	g->root = NULL;
	g->n = 0;
}

static struct bytes copy_bytes(char *to, struct bytes from)
{
	if (from.size)
		memcpy(to, from.data, from.size);
	return (struct bytes){to, from.size};
}

static void put_in(struct running *g, const char *uuid, const struct spool_id *id,
		   struct bytes driver, struct bytes name)
{
	struct guest *guest;

	if (g->n >= GUESTS_MAX) {
		if (!g->full_logged)
			log_warning(
				"more than %d guests run: the rest is not reported after a boot",
				GUESTS_MAX);
		g->full_logged = true;
		return;
	}
	guest = malloc(sizeof(*guest) + driver.size + name.size);
	if (!guest)
		return;
	(void)snprintf(guest->uuid, sizeof(guest->uuid), "%s", uuid);
	guest->id = *id;
	guest->driver = copy_bytes(guest->data, driver);
	guest->name = copy_bytes(guest->data + driver.size, name);
	if (tsearch(guest, &g->root, compare_guests))
		g->n++;
	else
		free(guest);
}

/* --- the boot */

static bool same_boot(const struct running *g)
{
	return *g->boot && strcmp(g->boot, g->file_boot) == 0;
}

/* What waits is of this boot: the relay shows it to running_see(), and nothing else reads it. */
static bool is_restart(const struct running *g)
{
	return same_boot(g) && !g->boot_passed;
}

/* --- what a record says */

enum effect { EFFECT_NONE, EFFECT_RUNS, EFFECT_ENDED };

static bool is_one_of(struct bytes b, const char *const *words)
{
	while (*words && !bytes_are(b, *words))
		words++;
	return *words;
}

static bool is_report(const struct record *r)
{
	return bytes_are(r->origin, "spooler");
}

/* A guest that is being started has resources and perhaps a process, which a boot ends as well. */
static enum effect effect_of(const struct record *r)
{
	static const char *const runs[] = {"started", "prepare", "start",     "restore",
					   "migrate", "attach",	 "reconnect", NULL},
				 *const ended[] = {"stopped", "release", NULL},
				 *const states[] = {"shutoff", "absent", NULL};

	if (bytes_are(r->driver, "network") || bytes_are(r->driver, "daemon"))
		return EFFECT_NONE;
	if (!r->origin.size)
		return is_one_of(r->operation, runs)	? EFFECT_RUNS
		       : is_one_of(r->operation, ended) ? EFFECT_ENDED
							: EFFECT_NONE;
	if (bytes_are(r->operation, "reconciled"))
		return is_one_of(r->suboperation, states) ? EFFECT_ENDED : EFFECT_RUNS;
	if (!(r->flags & RECORD_NO_HOOK)) /* the hook's record counts */
		return EFFECT_NONE;
	return bytes_are(r->operation, "lifecycle-started")   ? EFFECT_RUNS
	       : bytes_are(r->operation, "lifecycle-stopped") ? EFFECT_ENDED
							      : EFFECT_NONE;
}

static void schedule_save(struct running *g)
{
	if (g->save_pending)
		return;
	g->save_pending = true;
	(void)sd_event_source_set_time_relative(g->save, SAVE_USEC);
	(void)sd_event_source_set_enabled(g->save, SD_EVENT_ONESHOT);
}

static void apply(struct running *g, const struct spool_id *id, const struct record *r)
{
	enum effect effect = effect_of(r);
	struct guest *guest;
	char uuid[37];

	if (!is_report(r) && spool_id_compare(id, &g->seen) > 0)
		g->seen = *id;
	schedule_save(g);
	if (effect == EFFECT_NONE)
		return;
	document_uuid(r->document, uuid);
	guest = find(g, uuid);
	if (!*uuid || (guest && spool_id_compare(id, &guest->id) <= 0))
		return;
	if (guest)
		take_out(g, guest);
	if (effect == EFFECT_RUNS)
		put_in(g, uuid, id, r->driver, r->object);
}

void running_see(struct running *g, const struct record *r)
{
	struct spool_id id;

	if ((g->caught_up || is_restart(g)) && spool_id_parse(r->stamp.id, &id))
		apply(g, &id, r);
}

/* --- the file */

static json_t *escaped(struct bytes b)
{
	struct text t = {.data = malloc(3 * b.size + 1), .size = 3 * b.size};
	json_t *s;

	if (!t.data)
		return NULL;
	text_add_escaped(&t, b.data, b.size);
	s = json_stringn(t.data, t.length);
	free(t.data);
	return s;
}

static void add_guest(const void *node, VISIT visit, void *userdata)
{
	const struct guest *guest = *(struct guest *const *)node;
	char id[37];

	if (visit != postorder && visit != leaf)
		return;
	spool_id_name(&guest->id, id);
	(void)json_array_append_new(userdata, json_pack("{s:s, s:s, s:o, s:o}", "uuid", guest->uuid,
							"id", id, "driver", escaped(guest->driver),
							"name", escaped(guest->name)));
}

/* Text to be freed; NULL without memory. */
static char *table_text(const struct running *g)
{
	static const struct spool_id none;
	json_t *list = json_array(), *o;
	char seen[37] = "", *text;

	if (spool_id_compare(&g->seen, &none) > 0)
		spool_id_name(&g->seen, seen);
	twalk_r(g->root, add_guest, list);
	o = json_pack("{s:s, s:s, s:o}", "boot", g->file_boot, "seen", seen, "guests", list);
	text = o && json_array_size(list) == g->n ? json_dumps(o, JSON_INDENT(1)) : NULL;
	json_decref(o);
	return text;
}

/* 0 or a positive errno. */
static int write_file(const char *spool_dir, const char *text)
{
	char temporary[64];
	_cleanup_close_ int spool_fd = place_open_top(spool_dir), fd = -1;
	size_t size = strlen(text);
	int r = 0;

	if (spool_fd < 0)
		return -spool_fd;
	(void)snprintf(temporary, sizeof(temporary), SPOOL_TMP "/.guests.%ld", (long)getpid());
	fd = openat(spool_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    0640);
	if (fd < 0)
		return errno;
	errno = 0;
	if (write(fd, text, size) != (ssize_t)size)
		r = errno ? errno : ENOSPC;
	else if (fsync(fd) < 0 || renameat(spool_fd, temporary, spool_fd, RUNNING_FILE) < 0)
		r = errno;
	if (r)
		(void)unlinkat(spool_fd, temporary, 0);
	return r;
}

static void note_saved(struct running *g, int error)
{
	if (error && !g->save_error)
		log_warning("cannot write '%s/" RUNNING_FILE
			    "': %s; after a boot of the host, guests "
			    "that it ended may not be reported",
			    g->spool_dir, strerror(error));
	g->save_error = error;
	if (error)
		schedule_save(g);
}

static int on_saved(sd_event_source *s, const siginfo_t *si, void *userdata)
{
	struct running *g = userdata;

	g->child = sd_event_source_disable_unref(g->child);
	note_saved(g, si->si_code == CLD_EXITED ? si->si_status : EIO);
	return 0;
}

/* A child waits for the disk, which may take seconds, and hangs with it. */
static int on_save(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct running *g = userdata;
	_cleanup_free_ char *text = NULL;

	g->save_pending = false;
	if (!g->caught_up) /* the file on disk is what the catching up began with */
		return 0;
	if (g->child || disk_check(g->disk) == DISK_HANGS) {
		schedule_save(g);
		return 0;
	}
	text = table_text(g);
	g->pid = text ? fork() : -1;
	if (g->pid == 0) {
		(void)close_range(0, ~0U, 0);
		_exit(write_file(g->spool_dir, text));
	}
	if (g->pid < 0 || sd_event_add_child(g->loop, &g->child, g->pid, WEXITED, on_saved, g) < 0)
		schedule_save(g);
	return 0;
}

void running_save(struct running *g)
{
	_cleanup_free_ char *text = NULL;

	if (!g->save_pending || !g->caught_up || disk_check(g->disk) == DISK_HANGS)
		return;
	text = table_text(g);
	g->save_pending = false;
	(void)sd_event_source_set_enabled(g->save, SD_EVENT_OFF);
	if (text)
		note_saved(g, write_file(g->spool_dir, text));
}

static bool load_guest(struct running *g, json_t *o)
{
	const char *uuid, *id, *driver, *name;
	struct spool_id parsed;
	struct bytes driver_bytes, name_bytes;
	char *d, *n;
	bool good = true;

	if (json_unpack(o, "{s:s, s:s, s:s, s:s}", "uuid", &uuid, "id", &id, "driver", &driver,
			"name", &name) < 0 ||
	    strlen(uuid) != 36 || !spool_id_parse(id, &parsed) || find(g, uuid))
		return false;
	d = strdup(driver);
	n = strdup(name);
	if (d && n) {
		good = record_unescape(d, strlen(d), &driver_bytes) &&
		       record_unescape(n, strlen(n), &name_bytes);
		if (good)
			put_in(g, uuid, &parsed, driver_bytes, name_bytes);
	}
	free(d);
	free(n);
	return good;
}

static bool load_table(struct running *g, const char *text, size_t size)
{
	json_t *o = json_loadb(text, size, 0, NULL), *list, *guest;
	const char *boot, *seen;
	bool good = json_unpack(o, "{s:s, s:s, s:o}", "boot", &boot, "seen", &seen, "guests",
				&list) == 0 &&
		    strlen(boot) < sizeof(g->file_boot) &&
		    (!*seen || spool_id_parse(seen, &g->seen)) && json_is_array(list);
	size_t i;

	if (good) {
		(void)snprintf(g->file_boot, sizeof(g->file_boot), "%s", boot);
		json_array_foreach (list, i, guest)
			good = good && load_guest(g, guest);
	}
	json_decref(o);
	return good;
}

static void load(struct running *g)
{
	_cleanup_close_ int spool_fd = place_open_top(g->spool_dir);
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r = spool_fd < 0 ? spool_fd
			     : safe_read(spool_fd, RUNNING_FILE, FILE_SIZE_MAX, &text, &size);
	const char *why = r < 0 ? safe_read_error(r) : "it is damaged";

	g->loaded = true;
	if (r == -ENOENT || (r == 0 && load_table(g, text, size))) {
		g->last = g->seen;
		return;
	}
	log_warning("cannot use '%s/" RUNNING_FILE "': %s; guests that a boot of the host ended "
		    "before now are not reported",
		    g->spool_dir, why);
	clear(g);
	g->file_boot[0] = '\0';
	g->seen = (struct spool_id){0};
}

/* --- reports */

static uint64_t hash_of(const char *s, uint64_t hash)
{
	for (; *s; s++)
		hash = (hash ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
	return hash;
}

/* An id one tick above the last one that was seen. The same again for the same guest and boot. */
static void report_stamp(const struct running *g, const struct guest *guest, struct stamp *ret)
{
	uint64_t hash = hash_of(g->boot, hash_of(guest->uuid, UINT64_C(0xcbf29ce484222325)));
	struct spool_id id;
	char seen[37];

	spool_id_name(&g->seen, seen);
	ret->ticks = stamp_id_ticks(seen) + 1;
	ret->sequence = 1;
	for (unsigned i = 0; i < 6; i++)
		id.id[i] = (unsigned char)(ret->ticks / STAMP_TICKS_PER_MS >> (40 - 8 * i));
	id.id[6] = (unsigned char)(0x70 | (ret->ticks % STAMP_TICKS_PER_MS >> 8));
	id.id[7] = (unsigned char)ret->ticks;
	for (unsigned i = 0; i < 8; i++)
		id.id[8 + i] = (unsigned char)(hash >> (56 - 8 * i));
	id.id[8] = 0x80 | (id.id[8] & 0x3f);
	spool_id_name(&id, ret->id);
	(void)snprintf(ret->epoch, sizeof(ret->epoch), "%016llx%016llx", (unsigned long long)hash,
		       (unsigned long long)hash_of(seen, hash));
}

static int write_record(struct running *g, const struct record *r)
{
	_cleanup_close_ int spool_fd = place_open_top(g->spool_dir);
	_cleanup_free_ char *header = malloc(RECORD_HEADER_MAX);
	struct iovec parts[2] = {{.iov_base = header}};
	struct spool spool;
	int k;

	if (!header)
		return -ENOMEM;
	parts[0].iov_len = record_format_header(r, header, RECORD_HEADER_MAX);
	parts[1] = (struct iovec){(char *)r->document.data, r->document.size};
	k = spool_fd < 0 ? spool_fd : spool_open(spool_fd, &spool);
	if (k < 0)
		return k;
	spool_discard(&spool, r->stamp.id); /* ours, of a daemon that was killed */
	k = spool_put(&spool, r->stamp.id, parts, 2);
	spool_close(&spool);
	return k;
}

static int report(struct running *g, const struct guest *guest)
{
	_cleanup_free_ char *document =
		domain_document_new(guest->driver, guest->name, guest->uuid, -1);
	struct record r = {
		.driver = guest->driver,
		.object = guest->name,
		.operation = bytes_of("reconciled"),
		.suboperation = bytes_of("shutoff"),
		.extra = bytes_of("host booted"),
		.argc = 4,
		.flags = RECORD_UNORDERED | RECORD_NO_HOOK,
		.origin = bytes_of("spooler"),
		.details = {bytes_of("previous=running")},
		.n_details = 1,
		.recorded_ns = (int64_t)now_usec(CLOCK_REALTIME) * 1000,
	};

	if (!document)
		return -ENOMEM;
	r.document = bytes_of(document);
	report_stamp(g, guest, &r.stamp);
	return write_record(g, &r);
}

/* --- catching up */

static void close_places(struct running *g)
{
	for (enum place p = 0; p < N_PLACES; p++)
		close_fdp(&g->places[p]);
}

static void list_place(struct running *g, enum place p)
{
	int fd = g->places[p] < 0 ? -1 : place_open_directory(g->places[p], ".");
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct spool_id id;

	if (!d) {
		close_fdp(&fd);
		return;
	}
	for (const struct dirent *e; (e = readdir(d));)
		if (spool_id_parse(e->d_name, &id) && spool_id_compare(&id, &g->last) > 0) {
			id.source = (unsigned char)p;
			(void)id_list_add(&g->todo, &id, CATCH_UP_MAX);
		}
	(void)closedir(d);
}

/* Lists the records above the last one. */
static void list_records(struct running *g)
{
	_cleanup_close_ int spool_fd = place_open_top(g->spool_dir),
			    run_fd = place_open_top(g->run_dir);
	struct stamp stamp;

	id_list_clear(&g->todo);
	close_places(g);
	g->epoch[0] = '\0';
	if (run_fd >= 0 && stamp_peek(run_fd, SPOOL_STAMP, &stamp) >= 0)
		memcpy(g->epoch, stamp.epoch, sizeof(g->epoch));
	for (enum place p = 0; p < N_PLACES; p++) {
		if (place_table[p].kind == PLACE_KIND_SCRATCH || p == PLACE_REPLAY)
			continue;
		if (is_restart(g) && place_table[p].kind == PLACE_KIND_WAITING)
			continue;
		g->places[p] = place_open(spool_fd, run_fd, p);
		list_place(g, p);
	}
	id_list_sort(&g->todo, CATCH_UP_MAX);
	id_list_unique(&g->todo);
}

/* The relay may have moved it since it was listed. */
static int read_record(struct running *g, const struct spool_id *id, struct record *ret)
{
	const char *reason;
	char name[37];
	size_t size;
	int r;

	spool_id_name(id, name);
	r = record_file_read(g->places[id->source], name, &g->buffer, &size, &reason);
	for (enum place p = 0; r == -ENOENT && p < N_PLACES; p++)
		if (g->places[p] >= 0)
			r = record_file_read(g->places[p], name, &g->buffer, &size, &reason);
	return r < 0 ? r : record_parse(g->buffer.data, size, ret, &reason);
}

/* Negative errno: the spool does not take a report. 1: there are more; 0: done. */
static int pass_boot(struct running *g, uint64_t until_usec)
{
	while (*g->boot && *g->file_boot && g->n > 0) {
		struct guest *guest = *(struct guest **)g->root;
		int r = report(g, guest);

		if (r < 0)
			return r;
		take_out(g, guest);
		g->reported++;
		if (now_usec(CLOCK_MONOTONIC) >= until_usec)
			return 1;
	}
	if (g->reported > 0)
		log_notice("the host was booted while %llu guests ran; each is reported as ended",
			   (unsigned long long)g->reported);
	g->reported = 0;
	if (!*g->file_boot) /* nothing is known of an earlier boot */
		clear(g);
	(void)snprintf(g->file_boot, sizeof(g->file_boot), "%s", g->boot);
	g->boot_passed = true;
	return 0;
}

static void caught_up(struct running *g)
{
	g->caught_up = true;
	id_list_clear(&g->todo);
	close_places(g);
	record_buffer_release(&g->buffer);
	schedule_save(g);
	if (g->boot_passed) /* from now on the file is of this boot */
		running_save(g);
}

/* As pass_boot(). */
static int catch_up(struct running *g, uint64_t until_usec)
{
	while (now_usec(CLOCK_MONOTONIC) < until_usec) {
		const struct spool_id *id;
		struct record record = {0};
		int r;

		if (g->todo.position == g->todo.n) {
			list_records(g);
			if (g->todo.n == 0) {
				r = g->boot_passed || same_boot(g) ? 0 : pass_boot(g, until_usec);
				if (r == 0)
					caught_up(g);
				return r;
			}
		}
		id = &g->todo.entries[g->todo.position];
		if (read_record(g, id, &record) == 0) {
			if (!g->boot_passed && !same_boot(g) &&
			    strcmp(record.stamp.epoch, g->epoch) == 0) {
				r = pass_boot(g, until_usec);
				if (r != 0)
					return r;
			}
			apply(g, id, &record);
		}
		g->last = *id;
		g->todo.position++;
	}
	return 1;
}

static void take_turn(struct running *g, uint64_t usec)
{
	int r = -ETIMEDOUT;

	if (disk_check(g->disk) != DISK_HANGS) {
		if (!g->loaded)
			load(g);
		r = catch_up(g, now_usec(CLOCK_MONOTONIC) + (same_boot(g) ? TURN_USEC : usec));
	}
	if (r < 0 && r != g->error)
		log_warning(
			"cannot report in '%s' the guests that a boot of the host ended: %s; trying "
			"again",
			g->spool_dir, strerror(-r));
	g->error = r;
	if (g->caught_up)
		return;
	(void)sd_event_source_set_time_relative(g->turn, r < 0 ? RETRY_USEC : 0);
	(void)sd_event_source_set_enabled(g->turn, SD_EVENT_ONESHOT);
}

static int on_turn(sd_event_source *s, uint64_t usec, void *userdata)
{
	take_turn(userdata, TURN_USEC);
	return 0;
}

void running_start(struct running *g)
{
	take_turn(g, START_USEC);
}

/* --- making and ending it */

int running_new(sd_event *loop, const char *spool_dir, const char *run_dir, struct disk *disk,
		const char *boot, struct running **ret_running)
{
	struct running *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return -ENOMEM;
	for (enum place p = 0; p < N_PLACES; p++)
		g->places[p] = -1;
	g->loop = sd_event_ref(loop);
	g->disk = disk;
	g->spool_dir = strdup(spool_dir);
	g->run_dir = strdup(run_dir);
	(void)snprintf(g->boot, sizeof(g->boot), "%s", boot);
	r = g->spool_dir && g->run_dir ? loop_add_timer(g->loop, &g->turn, 0, on_turn, g) : -ENOMEM;
	if (r >= 0)
		r = loop_add_timer(g->loop, &g->save, 0, on_save, g);
	if (r < 0) {
		running_free(g);
		return r;
	}
	*ret_running = g;
	return 0;
}

void running_free(struct running *g)
{
	if (!g)
		return;
	clear(g);
	id_list_clear(&g->todo);
	close_places(g);
	record_buffer_release(&g->buffer);
	sd_event_source_disable_unref(g->turn);
	sd_event_source_disable_unref(g->save);
	sd_event_source_disable_unref(g->child); /* what it writes is good */
	sd_event_unref(g->loop);
	free(g->spool_dir);
	free(g->run_dir);
	free(g);
}
