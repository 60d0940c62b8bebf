/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* listener-file - see listener-file.h. */
#include <fcntl.h>

#include "hook/place.h"
#include "spooler/base/fields.h"
#include "spooler/base/process.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/spool/listener-file.h"

#define LISTENER_NAME "virtspool-liste" /* as much as the kernel keeps of virtspool-listen */

#define AT(m) offsetof(struct listener_file, m)

/* clang-format off */
const struct field listener_file_fields[] = {
	{NULL, "pid", FIELD_COUNT, AT(pid), NULL, NULL, 0, NULL, false},
	{NULL, "version", FIELD_TEXT, AT(version), NULL, NULL, 0, NULL, false},
	{NULL, "started", FIELD_TIME, AT(started_usec), "start_time_seconds", NULL, METRIC_GAUGE,
	 "Time at which it started.", false},
	{"records", "kept", FIELD_COUNT, AT(records.kept), "records_total", "to=\"spool\"", METRIC_COUNTER,
	 "Records written, by where they went; lost: nowhere, which leaves a hole in the sequence.", false},
	{"records", "emergency", FIELD_COUNT, AT(records.emergency), "records_total", "to=\"emergency\"",
	 METRIC_COUNTER, NULL, false},
	{"records", "lost", FIELD_COUNT, AT(records.lost), "records_total", "to=\"lost\"", METRIC_COUNTER, NULL, false},
	{"records", "unordered", FIELD_COUNT, AT(records.unordered), "records_unordered_total", NULL, METRIC_COUNTER,
	 "Records for which no stamp could be taken.", false},
	{"records", "without_hook", FIELD_COUNT, AT(records.without_hook), "transitions_without_hook_total", NULL,
	 METRIC_COUNTER, "Starts and ends of domains that a hook should have recorded, and did not.", false},
	{"records", "last_without_hook", FIELD_TIME, AT(records.without_hook_usec), NULL, NULL, 0, NULL, false},
};
/* clang-format on */
const size_t listener_file_n_fields = ELEMENTSOF(listener_file_fields);

static bool all_listening(const json_t *connections)
{
	const json_t *c;
	size_t i;

	json_array_foreach (connections, i, c)
		if (!json_is_true(json_object_get(c, "listening")))
			return false;
	return true;
}

int listener_file_read(const char *run_dir, struct listener_file *ret_listener)
{
	_cleanup_close_ int dir_fd = place_open_top(run_dir);
	struct listener_file l = {0};
	_cleanup_free_ char *text = NULL;
	json_t *o;
	size_t size;
	int r;

	*ret_listener = l;
	if (dir_fd < 0)
		return dir_fd;
	r = safe_read(dir_fd, LISTENER_FILE, LISTENER_FILE_MAX, &text, &size);
	if (r < 0)
		return r;
	o = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(o)) {
		json_decref(o);
		return -EBADMSG;
	}
	fields_from_json(listener_file_fields, listener_file_n_fields, o, &l);
	l.version = NULL; /* it would point into o */
	l.listening = all_listening(json_object_get(o, "connections"));
	json_decref(o);
	if (!process_is(l.pid, LISTENER_NAME))
		return -ENOENT;
	*ret_listener = l;
	return 0;
}
