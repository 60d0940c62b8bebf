/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* completeness-file - see completeness-file.h. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>

#include "hook/place.h"
#include "hook/spool.h"
#include "hook/stamp.h"
#include "spooler/base/atomic-file.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/daemon/completeness-file.h"
#include "spooler/spool/dropped.h"
#include "spooler/spool/record-parse.h"
#include "spooler/spool/recordfile.h"

#define FILE_NAME "sequence"
#define FILE_SIZE_MAX (1024 * 1024)
#define READ_MAX 4096 /* records that one search reads; beyond that numbers are in doubt */

/* --- the file */

static void write_gap(FILE *f, const struct gap *g)
{
	char before[37], after[37];

	spool_id_name(&g->before, before);
	spool_id_name(&g->after, after);
	fprintf(f, "gap %" PRIu64 " %" PRIu64 " %s %s %d\n", g->first, g->last, before, after,
		g->state);
}

int completeness_save(struct completeness *c, const char *run_dir,
		      const struct spool_identity *spool, bool clean)
{
	_cleanup_free_ char *text = NULL;
	char id[37];
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int r;

	if (!f)
		return -ENOMEM;
	fprintf(f, "%s\nspool %" PRIu64 " %" PRIu64 "\n", clean ? "clean" : "running",
		spool->device, spool->inode);
	for (size_t i = 0; i < c->n; i++) {
		const struct epoch *e = &c->epochs[i];

		spool_id_name(&e->highest_id, id);
		fprintf(f, "epoch %s %" PRIu64 " %s %" PRIu64 "\n", e->epoch, e->highest, id,
			e->certain_from);
		for (size_t k = 0; k < e->n_gaps; k++)
			write_gap(f, &e->gaps[k]);
	}
	if (fclose(f) == EOF)
		return -ENOMEM;
	r = atomic_file_write(run_dir, FILE_NAME, text, size, 0640);
	if (r == 0)
		c->changed = false;
	return r;
}

static bool read_epoch(struct completeness *c, const char *line)
{
	struct epoch e = {0};
	char id[37];

	if (c->n == COMPLETENESS_EPOCHS ||
	    sscanf(line, "epoch %32[0-9a-f] %" SCNu64 " %36s %" SCNu64, e.epoch, &e.highest, id,
		   &e.certain_from) != 4 ||
	    !spool_id_parse(id, &e.highest_id))
		return false;
	c->epochs[c->n++] = e;
	return true;
}

static bool read_gap(struct completeness *c, const char *line)
{
	char before[37], after[37];
	struct gap g = {0};
	struct epoch *e;
	int state;

	if (c->n == 0 ||
	    sscanf(line, "gap %" SCNu64 " %" SCNu64 " %36s %36s %d", &g.first, &g.last, before,
		   after, &state) != 5 ||
	    !spool_id_parse(before, &g.before) || !spool_id_parse(after, &g.after) ||
	    g.first > g.last || state < GAP_OPEN || state > GAP_UNKNOWN)
		return false;
	e = &c->epochs[c->n - 1];
	if (e->n_gaps == COMPLETENESS_GAPS)
		return false;
	g.state = (enum gap_state)state;
	e->missing += g.state == GAP_LOST ? g.last - g.first + 1 : 0;
	e->unknown += g.state == GAP_UNKNOWN ? g.last - g.first + 1 : 0;
	e->gaps[e->n_gaps++] = g; /* one that is open is due at once */
	return true;
}

static bool read_file(struct completeness *c, char *text, bool *ret_clean,
		      struct spool_identity *ret_spool)
{
	bool good = true;

	for (const char *line; good && (line = strsep(&text, "\n")) && (text || *line);) {
		if (strcmp(line, "clean") == 0)
			*ret_clean = true;
		else if (strncmp(line, "epoch ", 6) == 0)
			good = read_epoch(c, line);
		else if (strncmp(line, "gap ", 4) == 0)
			good = read_gap(c, line);
		else
			good = strcmp(line, "running") == 0 ||
			       sscanf(line, "spool %" SCNu64 " %" SCNu64, &ret_spool->device,
				      &ret_spool->inode) == 2;
	}
	return good && c->n <= COMPLETENESS_EPOCHS;
}

uint64_t completeness_stamped(const char *run_dir, char ret_epoch[static 33])
{
	_cleanup_close_ int fd = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stamp stamp;

	ret_epoch[0] = '\0';
	if (fd < 0 || stamp_peek(fd, SPOOL_STAMP, &stamp) < 0)
		return 0;
	(void)snprintf(ret_epoch, 33, "%s", stamp.epoch);
	return stamp.sequence;
}

/* Everything that was stamped until now may have been seen, and taken away, unnoticed by us. */
static void doubt_all(struct completeness *c)
{
	for (size_t i = 0; i < c->n; i++)
		completeness_doubt(c, c->epochs[i].epoch,
				   strcmp(c->epochs[i].epoch, c->start_epoch) == 0
					   ? c->start_sequence
					   : UINT64_MAX);
}

static bool same_spool(const struct spool_identity *a, const struct spool_identity *b)
{
	return a->inode == 0 || b->inode == 0 || (a->device == b->device && a->inode == b->inode);
}

void completeness_load(struct completeness *c, const char *run_dir,
		       const struct spool_identity *spool)
{
	struct spool_identity then = {0};
	_cleanup_close_ int dir_fd = place_open_top(run_dir);
	_cleanup_free_ char *text = NULL;
	bool clean = false;

	*c = (struct completeness){.start_ms = now_usec(CLOCK_REALTIME) / 1000};
	c->start_sequence = completeness_stamped(run_dir, c->start_epoch);
	if (dir_fd < 0 || safe_read(dir_fd, FILE_NAME, FILE_SIZE_MAX, &text, NULL) < 0)
		return;
	if (!read_file(c, text, &clean, &then)) {
		c->n = 0;
		return;
	}
	c->loaded = clean && same_spool(&then, spool);
	if (!c->loaded)
		doubt_all(c);
}

/* --- the search */

struct search {
	struct completeness *c;
	uint64_t now_usec;
	struct record_buffer buffer;
	unsigned n_read;
};

static bool is_due(const struct gap *g, uint64_t now_usec)
{
	return g->state == GAP_OPEN && g->due_usec <= now_usec;
}

/* Is it between the ids around some gap? */
static bool is_candidate(const struct search *s, const struct spool_id *id)
{
	for (size_t i = 0; i < s->c->n; i++)
		for (size_t k = 0; k < s->c->epochs[i].n_gaps; k++) {
			const struct gap *g = &s->c->epochs[i].gaps[k];

			if (is_due(g, s->now_usec) && spool_id_compare(&g->before, id) < 0 &&
			    spool_id_compare(id, &g->after) < 0)
				return true;
		}
	return false;
}

static void in_doubt(struct search *s)
{
	for (size_t i = 0; i < s->c->n; i++)
		for (size_t k = 0; k < s->c->epochs[i].n_gaps; k++)
			if (is_due(&s->c->epochs[i].gaps[k], s->now_usec))
				completeness_doubt(s->c, s->c->epochs[i].epoch,
						   s->c->epochs[i].gaps[k].last);
}

static void found(const char *epoch, uint64_t sequence, void *userdata)
{
	static const struct spool_id none;
	struct search *s = userdata;

	if (!epoch)
		in_doubt(s);
	else if (completeness_peek(s->c, epoch, sequence) == SEEN_LATE)
		(void)completeness_see(s->c, epoch, sequence, &none, s->now_usec, 0);
}

/* A record that cannot be read may be any of those that are missing. */
static void look_into(struct search *s, int dir_fd, const char *name)
{
	struct record record = {0};
	const char *reason;
	size_t size;

	if (s->n_read++ >= READ_MAX ||
	    record_file_read(dir_fd, name, &s->buffer, &size, &reason) < 0 ||
	    record_parse(s->buffer.data, size, &record, &reason) < 0)
		in_doubt(s);
	else
		found(record.stamp.epoch, record.stamp.sequence, s);
}

static void search_place(struct search *s, int spool_fd, int run_fd, enum place p)
{
	int fd = place_open(spool_fd, run_fd, p);
	struct spool_id id;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		if (fd >= 0)
			(void)close(fd);
		if (fd != -ENOENT)
			in_doubt(s);
		return;
	}
	for (const struct dirent *e; (e = readdir(d));)
		if (spool_id_parse(e->d_name, &id) && is_candidate(s, &id))
			look_into(s, dirfd(d), e->d_name);
	(void)closedir(d);
}

void completeness_search(struct completeness *c, const char *spool_dir, const char *run_dir,
			 uint64_t now_usec)
{
	_cleanup_close_ int spool_fd = -1, run_fd = -1;
	struct search s = {.c = c, .now_usec = now_usec};

	spool_fd = place_open_top(spool_dir);
	run_fd = place_open_top(run_dir);
	if (spool_fd < 0 || run_fd < 0)
		in_doubt(&s);
	for (enum place p = 0; p < N_PLACES && spool_fd >= 0 && run_fd >= 0; p++)
		if (place_table[p].kind != PLACE_KIND_SCRATCH)
			search_place(&s, spool_fd, run_fd, p);
	dropped_read(run_dir, found, &s);
	record_buffer_release(&s.buffer);
}
