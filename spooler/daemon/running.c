/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* running - see running.h. */
#include "spooler/daemon/running.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "hook/place.h"
#include "hook/spool.h"
#include "spooler/base/atomic-file.h"
#include "spooler/base/log.h"
#include "spooler/base/loop.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/daemon/boot-report.h"
#include "spooler/daemon/running-table.h"
#include "spooler/spool/record-parse.h"
#include "spooler/spool/recordfile.h"
#include "spooler/spool/spoolid.h"

#define SAVE_USEC (5 * USEC_PER_SEC)  /* the file is at most so much older than the table */
#define RETRY_USEC (5 * USEC_PER_SEC) /* between two attempts at a spool that takes nothing */
#define START_USEC (2 * USEC_PER_SEC) /* for catching up before the daemon is ready */
#define TURN_USEC UINT64_C(20000)     /* for catching up, before others get their turn */
#define FILE_SIZE_MAX (64 * 1024 * 1024)
#define CATCH_UP_MAX 100000 /* ids that are listed at a time */

struct running {
	sd_event *loop;
	char *spool_dir, *run_dir;
	struct disk *disk;
	char boot[33];
	struct running_table table; /* of the guests of table.boot, until the boot is passed */

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

/* --- the boot */

static bool same_boot(const struct running *g)
{
	return *g->boot && strcmp(g->boot, g->table.boot) == 0;
}

/* All waiting records are of this boot: the relay shows them to running_see(). */
static bool is_restart(const struct running *g)
{
	return same_boot(g) && !g->boot_passed;
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
	running_table_apply(&g->table, id, r);
	schedule_save(g);
}

void running_see(struct running *g, const struct record *r)
{
	struct spool_id id;

	if ((g->caught_up || is_restart(g)) && spool_id_parse(r->stamp.id, &id))
		apply(g, &id, r);
}

/* --- the file */

static int write_file(const char *spool_dir, const char *text)
{
	return atomic_file_write_synced(spool_dir, RUNNING_FILE, text, strlen(text), 0640);
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
	text = running_table_text(&g->table);
	g->pid = text ? fork() : -1;
	if (g->pid == 0) {
		(void)close_range(0, ~0U, 0);
		_exit(-write_file(g->spool_dir, text));
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
	text = running_table_text(&g->table);
	g->save_pending = false;
	(void)sd_event_source_set_enabled(g->save, SD_EVENT_OFF);
	if (text)
		note_saved(g, -write_file(g->spool_dir, text));
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
	if (r == -ENOENT || (r == 0 && running_table_parse(&g->table, text, size))) {
		g->last = g->table.seen;
		return;
	}
	log_warning("cannot use '%s/" RUNNING_FILE "': %s; guests that a boot of the host ended "
		    "before now are not reported",
		    g->spool_dir, why);
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
	while (*g->boot && *g->table.boot && g->table.n > 0) {
		struct running_guest *guest = running_table_any(&g->table);
		int r = boot_report_put(g->spool_dir, g->boot, &g->table, guest);

		if (r < 0)
			return r;
		running_table_remove(&g->table, guest);
		g->reported++;
		if (now_usec(CLOCK_MONOTONIC) >= until_usec)
			return 1;
	}
	if (g->reported > 0)
		log_notice("the host was booted while %llu guests ran; each is reported as ended",
			   (unsigned long long)g->reported);
	g->reported = 0;
	if (!*g->table.boot) /* nothing is known of an earlier boot */
		running_table_clear(&g->table);
	(void)snprintf(g->table.boot, sizeof(g->table.boot), "%s", g->boot);
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
	running_table_clear(&g->table);
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
