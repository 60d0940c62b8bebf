/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * log - one line for each thing that happened.
 *
 * If stderr is the journal (JOURNAL_STREAM names its device and inode, see sd-daemon(3)), a message
 * goes there with fields of its own: `journalctl VIRTSPOOL_UUID=...`. Without the journal's socket
 * it is "<priority>text" on stderr, and "virtspoold: text" where stderr is something else.
 *
 * Unsafe characters are escaped (see terminal.h): nothing that comes from a guest or a broker can
 * forge a line or drive a terminal. errno is left as it was.
 */
#pragma once

#include <stdbool.h>
#include <syslog.h>

/* Lines of a lower priority than this (a syslog level) are dropped. */
void log_set_level(int level);
bool log_is_on(int priority);
void log_set_program(const char *name);

/* Kinds of messages with a MESSAGE_ID; etc/journal/virtspool.catalog explains them. */
enum log_message {
	LOG_MESSAGE_OTHER, /* none */
	LOG_MESSAGE_STARTED,
	LOG_MESSAGE_STOPPED,
	LOG_MESSAGE_CONFIGURED,
	LOG_MESSAGE_CONFIGURATION_REFUSED,
	LOG_MESSAGE_CONNECTED,
	LOG_MESSAGE_CONNECTION_FAILED,
	LOG_MESSAGE_BROKER_BUSY,
	LOG_MESSAGE_EVENT_DELIVERED,
	LOG_MESSAGE_EVENT_REFUSED,
	LOG_MESSAGE_EVENT_FAILED,
	LOG_MESSAGE_EVENT_DROPPED,
	LOG_MESSAGE_EVENTS_LOST,
	LOG_MESSAGE_HEALTH,
	LOG_N_MESSAGES,
};

/* "c0f3...": 32 hexadecimal digits; NULL for LOG_MESSAGE_OTHER. */
const char *log_message_id(enum log_message message);

/* What a message is about, for the journal's fields. NULL and "" are left out. */
struct log_about {
	enum log_message message; /* MESSAGE_ID */
	const char *event;	  /* VIRTSPOOL_EVENT */
	const char *vm;		  /* VIRTSPOOL_VM: name of the domain or network */
	const char *uuid;	  /* VIRTSPOOL_UUID */
	const char *topic;	  /* VIRTSPOOL_TOPIC */
	const char *broker;	  /* VIRTSPOOL_BROKER: its URL */
	const char *reason;	  /* VIRTSPOOL_REASON_CODE: "0x87" */
};

void log_line(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same with fields: log_about(LOG_INFO, &(struct log_about){.event = name}, "event %s ...",
   name) */
void log_about(int priority, const struct log_about *about, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(...) log_line(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
