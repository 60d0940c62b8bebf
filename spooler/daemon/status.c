/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* status - see status.h. */
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <sys/stat.h>

#include "spooler/base/json-time.h"
#include "spooler/daemon/status.h"
#include "spooler/base/util.h"

#define DAEMON_NAME "virtspoold"

static json_t *refused_by_code(const struct relay_stats *s)
{
	json_t *o = json_object();
	char key[8];

	for (unsigned code = 0x80; code < ELEMENTSOF(s->answers); code++)
		if (s->answers[code] > 0) {
			(void)snprintf(key, sizeof(key), "0x%02x", code);
			(void)json_object_set_new(o, key,
						  json_integer((json_int_t)s->answers[code]));
		}
	return o;
}

static uint64_t failed(const struct relay_stats *s)
{
	uint64_t n = 0;

	for (size_t i = 0; i < RELAY_N_FAILURES; i++)
		n += s->failed[i];
	return n;
}

/* Events that were tried without success and wait: what `virtspool show` tells of attempts. */
static json_t *retried(const struct relay_description *d)
{
	json_t *list = json_array();
	char name[37];

	for (size_t i = 0; i < d->n_attempts; i++) {
		const struct attempt *a = &d->attempts[i];

		spool_id_name(&a->entry, name);
		(void)json_array_append_new(list,
					    json_pack("{s:s, s:i, s:s, s:s*, s:o, s:I}", "id", name,
						      "attempts", (int)a->count, "why", a->why,
						      "topic", a->topic[0] ? a->topic : NULL,
						      "next_try", json_time(a->next_usec),
						      "waiting", (json_int_t)a->waiting));
	}
	return list;
}

static json_t *status_json(const struct status_view *v)
{
	const struct archive_counts *a = archive_counts(v->archive);
	const struct relay_stats *s;
	const struct sequence *seq;
	struct relay_description d;

	relay_prune_attempts(v->relay);
	relay_describe(v->relay, &d);
	s = d.stats;
	seq = d.sequence;

	/* clang-format off */
	return json_pack("{s:i, s:s, s:s?, s:s?, s:o,"
			 " s:b, s:s?, s:s?, s:s?, s:o,"
			 " s:I, s:o, s:s?, s:o,"
			 " s:{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o},"
			 " s:I, s:I,"
			 " s:{s:s, s:I, s:I},"
			 " s:o, s:s?, s:o}",
			 "pid", (int)getpid(), "version", PACKAGE_VERSION, "config", v->config_path,
			 "host", d.config ? d.config->host : NULL,
			 "started", json_time(v->started_usec),

			 "connected", d.connected, "broker", d.broker,
			 "peer", d.peer, "protocol", d.protocol,
			 "connected_since", json_time(s->connected_usec),

			 "in_flight", (json_int_t)d.in_flight,
			 "last_delivered", json_time(s->last_delivered_usec), "spool_error", queue_error(v->queue),
			 "retried", retried(&d),

			 "events", "accepted", (json_int_t)s->accepted, "replayed", (json_int_t)s->replayed,
			 "read", (json_int_t)s->read, "published", (json_int_t)s->published,
			 "acknowledged", (json_int_t)s->acknowledged, "duplicated", (json_int_t)s->duplicated,
			 "failed", (json_int_t)failed(s), "skipped", (json_int_t)s->skipped,
			 "denied", (json_int_t)s->denied, "busy", (json_int_t)s->busy,
			 "dropped", (json_int_t)a->dropped, "connects", (json_int_t)s->connects,
			 "connection_losses", (json_int_t)s->connection_losses, "refused", refused_by_code(s),

			 "sent", (json_int_t)a->sent, "sent_bytes", (json_int_t)a->sent_bytes,

			 "sequence", "epoch", seq->epoch, "highest", (json_int_t)seq->highest,
			 "missing", (json_int_t)seq->missing,

			 "last_error_time", json_time(s->last_error_usec),
			 "last_error", s->last_error[0] ? s->last_error : NULL,
			 "written", json_time((uint64_t)time(NULL) * USEC_PER_SEC));
	/* clang-format on */
}

int status_write(const char *run_dir, const struct status_view *v)
{
	_cleanup_free_ char *text = NULL;
	json_t *j = status_json(v);

	if (!j)
		return -ENOMEM;
	text = json_dumps(j, JSON_INDENT(2));
	json_decref(j);
	if (!text)
		return -ENOMEM;
	return atomic_file_write(run_dir, STATUS_FILE, text, strlen(text), 0640);
}

void status_remove(const char *run_dir)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/" STATUS_FILE, run_dir) >= 0)
		(void)unlink(path);
}

/* Is this the daemon, or has somebody else got its number since? */
static bool is_daemon(pid_t pid)
{
	char path[64], name[32] = "";
	_cleanup_fclose_ FILE *f = NULL;

	if (pid <= 0 || (kill(pid, 0) < 0 && errno != EPERM))
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f) /* /proc may hide what belongs to others */
		return true;
	return !fgets(name, sizeof(name), f) ||
	       strncmp(name, DAEMON_NAME, strlen(DAEMON_NAME)) == 0;
}

json_t *status_read(const char *run_dir, int *ret_error)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_fclose_ FILE *f = NULL;
	json_t *status;
	int error = 0;

	if (!ret_error)
		ret_error = &error;
	*ret_error = -ENOMEM;
	if (asprintf(&path, "%s/" STATUS_FILE, run_dir) < 0)
		return NULL;
	f = fopen(path, "re");
	*ret_error = -errno;
	if (!f)
		return NULL;
	status = json_loadf(f, JSON_REJECT_DUPLICATES, NULL);
	*ret_error = -ENOENT;
	if (!status || !is_daemon((pid_t)json_integer_value(json_object_get(status, "pid")))) {
		json_decref(status);
		return NULL;
	}
	*ret_error = 0;
	return status;
}
