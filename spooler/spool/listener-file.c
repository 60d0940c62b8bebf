/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* listener-file - see listener-file.h. */
#include <fcntl.h>

#include "spooler/base/fields.h"
#include "spooler/base/process.h"
#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/spool/listener-file.h"

#define LISTENER_NAME "virtspool-liste" /* as much as the kernel keeps of virtspool-listen */

#define AT(m) offsetof(struct listener_file, m)

static const struct field fields[] = {
	{NULL, "pid", FIELD_COUNT, AT(pid), NULL, NULL, 0, NULL, false},
	{"records", "without_hook", FIELD_COUNT, AT(without_hook), NULL, NULL, 0, NULL, false},
	{"records", "last_without_hook", FIELD_TIME, AT(without_hook_usec), NULL, NULL, 0, NULL,
	 false},
};

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
	_cleanup_close_ int dir_fd = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct listener_file l = {0};
	_cleanup_free_ char *text = NULL;
	json_t *o;
	size_t size;
	int r;

	*ret_listener = l;
	if (dir_fd < 0)
		return -errno;
	r = safe_read(dir_fd, LISTENER_FILE, LISTENER_FILE_MAX, &text, &size);
	if (r < 0)
		return r;
	o = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(o)) {
		json_decref(o);
		return -EBADMSG;
	}
	fields_from_json(fields, ELEMENTSOF(fields), o, &l);
	l.listening = all_listening(json_object_get(o, "connections"));
	json_decref(o);
	if (!process_is(l.pid, LISTENER_NAME))
		return -ENOENT;
	*ret_listener = l;
	return 0;
}
