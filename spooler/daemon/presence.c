/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* presence - see presence.h. Where the stamp file cannot be read, the message goes out without
   its figures. */
#include <fcntl.h>

#include "hook/spool.h"
#include "hook/stamp.h"
#include "spooler/daemon/presence.h"
#include "spooler/base/util.h"

int presence_build(const struct config *c, bool online, struct event *ret_event)
{
	_cleanup_close_ int run = -1;
	struct stamp stamp;
	bool known;
	int r;

	*ret_event = (struct event){};
	if (!c->mqtt.status_topic)
		return 0;
	run = open(spool_run_directory(), O_PATH | O_DIRECTORY | O_CLOEXEC);
	known = run >= 0 && stamp_peek(run, SPOOL_STAMP, &stamp) >= 0;
	r = event_build_status(c, online, known ? stamp.epoch : NULL, known ? stamp.sequence : 0,
			       ret_event);
	return r < 0 ? r : 1;
}
