/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * config-keys - the table of the configuration's keys, and what can be said without a file.
 * Internal to config.
 *
 * One table holds every key: where it stands, what it may be, what it is by default, where it goes,
 * what it means. Reading, help, example and manual follow it; a unit test holds the latter two
 * against it.
 */
#pragma once

#include "spooler/config/config.h"

enum config_type {
	TYPE_STRING,
	TYPE_INTEGER,
	TYPE_DURATION,
	TYPE_SIZE,
	TYPE_BOOLEAN,
	TYPE_CHOICE,
	TYPE_LIST,    /* of strings */
	TYPE_BROKERS, /* a list, too */
	TYPE_FILE,    /* must exist */
	TYPE_SECRET,  /* must exist and be closed to others */
	TYPE_OUTPUT,  /* a file that is written */
};

struct config_choice {
	const char *name;
	unsigned value;
};

/* Checks one string (of a list: each). Returns NULL, or what is wrong and what is allowed. */
typedef const char *(*config_check)(const char *value);

struct config_key {
	const char *path; /* "key" or "section.key" */
	enum config_type type;
	size_t offset; /* in struct config */
	/* The default, as it would be in the file; NULL: not set, or as `otherwise` says. */
	const char *fallback;
	const char *otherwise; /* what the manual says of the default instead */
	uint64_t min, max;
	const struct config_choice *choices;
	config_check check;
	bool none;	   /* may be "none" */
	bool token;	   /* TYPE_FILE, TYPE_SECRET: may be a pkcs11: URI */
	unsigned programs; /* enum config_program that know it, as bits; 0: CONFIG_DAEMON */
	const char *help;
};

#define CONFIG_N_KEYS 60
extern const struct config_key config_keys[CONFIG_N_KEYS];

/* Does the program know this key? */
bool config_key_is_known(const struct config_key *k, enum config_program program);
/* The key with this path ("section.key") that the program knows, or NULL. */
const struct config_key *config_key_find(enum config_program program, const char *path);
/* Is there a key "name.…"? */
bool config_section_exists(enum config_program program, const char *name);
/* The path without its section. */
const char *config_key_leaf(const char *path);
/* Writes what to do instead of an unknown key: "; did you mean ...?" and the like. section is ""
   at the top. */
void config_key_advise(FILE *f, enum config_program program, const char *section, const char *path);
/* What a key's value may be, in words. Returns buf. */
const char *config_key_describe(const struct config_key *k, char *buf, size_t size);

bool config_dns_name(const char *s);
/* As it stands in a URL's brackets: perhaps with a zone. */
bool config_ipv6_address(const char *s);
