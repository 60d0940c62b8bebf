/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * recorder - the daemon: what the subscription takes goes to ingest, what ingest has committed is
 * acknowledged, and the web server shows it.
 *
 * SIGHUP reloads configuration and certificates; an invalid configuration is refused, and the old
 * one stays in force. SIGTERM stops at once: messages that are not committed come again.
 */
#pragma once

/* Runs until it is stopped; returns an exit code of sysexits.h. */
int recorder_run(const char *config_path);

struct config;
/* Loads the files that a configuration names, as recorder_run() would. Negative errno with a sentence
   in *ret_error (to be freed). */
int recorder_check_files(const struct config *c, char **ret_error);
