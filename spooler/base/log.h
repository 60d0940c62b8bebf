/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * log - one line on stderr for each thing that happened, as journald likes it: "<priority>text"
 * when stderr is the journal (JOURNAL_STREAM), "virtspoold: text" otherwise. Control characters are
 * escaped: nothing that comes from a guest or a broker can forge a line or drive a terminal. errno
 * is left as it was.
 */
#pragma once

#include <syslog.h>

/* Lines of a lower priority than this (a syslog level) are dropped. */
void log_set_level(int level);
void log_set_program(const char *name);

void log_line(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
