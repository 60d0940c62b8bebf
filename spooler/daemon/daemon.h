/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* daemon - virtspoold's event loop: it joins watch, queue, relay and housekeeping, and answers
   signals and systemd. */
#pragma once

/* Runs until SIGTERM or SIGINT. Returns the process's exit code. */
int daemon_run(const char *config_path);
