/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * config-value - from the text of a value to where it goes, and the errors that this may take.
 * Internal to config.
 *
 * Errors are reported with their place and counted; -EINVAL means reported, and reading can go on,
 * -EBADMSG means reported, and it cannot.
 */
#pragma once

#include <yaml.h>

#include "spooler/config/config-keys.h"

struct config_reader {
	const char *path;
	FILE *errors;
	unsigned n_errors;
	yaml_parser_t parser;
	struct config *config;
	enum config_program program;
	/* Where a key's value stands; of its section, if it stands nowhere. */
	yaml_mark_t seen[CONFIG_N_KEYS];
	bool given[CONFIG_N_KEYS];
};

/* Reports an error. Returns -EINVAL, or -EBADMSG if there were too many errors to read on. */
int config_error(struct config_reader *rd, const yaml_mark_t *at, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Reports a value that is allowed but hardly meant. */
void config_warning(struct config_reader *rd, const yaml_mark_t *at, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define CONFIG_QUOTED_MAX 72
#define CONFIG_QUOTED_SIZE (4 * CONFIG_QUOTED_MAX + 4)
/* A part of the file, fit for a message: one line, not too long, nothing that drives a
   terminal (see terminal_escape()). Returns buf. */
const char *config_quoted(const char *s, char buf[static CONFIG_QUOTED_SIZE]);

/* Sets the key to what the text says; of a list, adds an item. 0, -EINVAL, -EBADMSG, -ENOMEM. */
int config_set(struct config_reader *rd, const struct config_key *k, const char *text,
	       const yaml_mark_t *at);

/* Writes the key's value as the file would have it. False, and nothing is written: it is not
   set. */
bool config_write_value(FILE *f, const struct config *c, const struct config_key *k);
/* Frees it. */
void config_release_value(struct config *c, const struct config_key *k);
void config_broker_release(struct broker *b);
