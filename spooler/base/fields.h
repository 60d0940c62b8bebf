/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fields - one table says what a struct's members are called in JSON and in Prometheus.
 *
 * A program that reports about itself has one struct of plain values, and one table of struct
 * field. The status file and the metrics are both made from the table, and the status file is read
 * back with it, so a name, a unit or a help text stands in one place only.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The member's C type, and how it is written. */
enum field_type {
	FIELD_COUNT, /* uint64_t: a number */
	FIELD_BOOL,  /* bool: true or false; 1 or 0 */
	FIELD_TEXT,  /* const char *: a string or null; not a metric */
	FIELD_TIME,  /* uint64_t, microseconds since 1970, 0 is never: RFC 3339 or null; seconds */
	FIELD_AGE,   /* uint64_t, milliseconds: seconds in both */
};

enum metric_type {
	METRIC_GAUGE,
	METRIC_COUNTER, /* begins at 0 with the program; its name ends in _total */
};

struct field {
	/* in JSON: an object's name (NULL: the top) and the member in it; key NULL: not in JSON */
	const char *section, *key;
	enum field_type type;
	size_t offset;
	/* in Prometheus: without the prefix; NULL: not a metric */
	const char *metric, *labels; /* labels: cause="refused", or NULL */
	enum metric_type metric_type;
	const char *help;
	bool only_if_set; /* the metric is left out while its value is 0 */
};

/* Adds all members to the object, in the table's order. -ENOMEM. */
int fields_to_json(const struct field *table, size_t n, const void *base, json_t *object);
/*
 * Sets what the object has. A member that is missing, or has another type or a number that is
 * negative, is left as it is: the file may be of another version, or of an intruder. Strings point
 * into the object.
 */
void fields_from_json(const struct field *table, size_t n, const json_t *object, void *base);

/* The lines of one metric's name: # HELP and # TYPE. */
void metric_head(FILE *f, const char *prefix, const char *name, enum metric_type type,
		 const char *help);
/* Writes the metrics of the table, in its order; rows of one name must stand together. */
void fields_to_metrics(const struct field *table, size_t n, const void *base, const char *prefix,
		       FILE *f);
/* The same of `count` structs, `size` bytes apart; each line has the label that the row `label`
   stands for, a FIELD_TEXT: its key, and the struct's member. */
void fields_of_each_to_metrics(const struct field *table, size_t n, const void *base, size_t count,
			       size_t size, const struct field *label, const char *prefix, FILE *f);
/* NAME="VALUE", with backslash, quote and newline escaped. */
void metric_label(FILE *f, const char *name, const char *value);
