/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fields - see fields.h. */
#include <inttypes.h>

#include "spooler/base/fields.h"
#include "spooler/base/json-time.h"
#include "spooler/base/util.h"

static const void *member(const struct field *f, const void *base)
{
	return (const char *)base + f->offset;
}

static uint64_t number(const struct field *f, const void *base)
{
	return f->type == FIELD_BOOL ? *(const bool *)member(f, base)
				     : *(const uint64_t *)member(f, base);
}

/* --- JSON */

static json_t *value_to_json(const struct field *f, const void *base)
{
	const char *text;

	switch (f->type) {
	case FIELD_BOOL:
		return json_boolean(number(f, base));
	case FIELD_TEXT:
		text = *(const char *const *)member(f, base);
		return text ? json_string(text) : json_null();
	case FIELD_TIME:
		return json_time(number(f, base));
	case FIELD_AGE:
		return json_real((double)number(f, base) / 1000);
	default:
		return json_integer((json_int_t)number(f, base));
	}
}

int fields_to_json(const struct field *table, size_t n, const void *base, json_t *object)
{
	for (const struct field *f = table; f < table + n; f++) {
		json_t *section = object;

		if (!f->key)
			continue;
		if (f->section && !(section = json_object_get(object, f->section))) {
			section = json_object();
			if (json_object_set_new(object, f->section, section) < 0)
				return -ENOMEM;
		}
		if (json_object_set_new(section, f->key, value_to_json(f, base)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void value_from_json(const struct field *f, const json_t *value, void *base)
{
	void *to = (char *)base + f->offset;

	switch (f->type) {
	case FIELD_BOOL:
		if (json_is_boolean(value))
			*(bool *)to = json_is_true(value);
		return;
	case FIELD_TEXT:
		if (json_is_string(value))
			*(const char **)to = json_string_value(value);
		return;
	case FIELD_TIME:
		*(uint64_t *)to = json_time_usec(value);
		return;
	case FIELD_AGE:
		if (json_is_number(value) && json_number_value(value) >= 0 &&
		    json_number_value(value) < 1e12)
			*(uint64_t *)to = (uint64_t)(json_number_value(value) * 1000);
		return;
	case FIELD_COUNT:
		if (json_integer_value(value) > 0)
			*(uint64_t *)to = (uint64_t)json_integer_value(value);
		return;
	}
}

void fields_from_json(const struct field *table, size_t n, const json_t *object, void *base)
{
	for (const struct field *f = table; f < table + n; f++) {
		const json_t *section = f->section ? json_object_get(object, f->section) : object;

		if (f->key)
			value_from_json(f, json_object_get(section, f->key), base);
	}
}

/* --- Prometheus */

void metric_head(FILE *f, const char *prefix, const char *name, enum metric_type type,
		 const char *help)
{
	fprintf(f, "# HELP %s_%s %s\n# TYPE %s_%s %s\n", prefix, name, help, prefix, name,
		type == METRIC_COUNTER ? "counter" : "gauge");
}

/* Seconds, from milliseconds. */
static void print_seconds(FILE *f, uint64_t ms)
{
	if (ms % 1000 == 0)
		fprintf(f, "%" PRIu64 "\n", ms / 1000);
	else
		fprintf(f, "%" PRIu64 ".%03u\n", ms / 1000, (unsigned)(ms % 1000));
}

static void print_value(FILE *out, const struct field *f, const void *base)
{
	if (f->type == FIELD_TIME)
		print_seconds(out, number(f, base) / 1000);
	else if (f->type == FIELD_AGE)
		print_seconds(out, number(f, base));
	else
		fprintf(out, "%" PRIu64 "\n", number(f, base));
}

void metric_label(FILE *f, const char *name, const char *value)
{
	fprintf(f, "%s=\"", name);
	for (; *value; value++)
		if (*value == '\n')
			fputs("\\n", f);
		else
			fprintf(f, *value == '\\' || *value == '"' ? "\\%c" : "%c", *value);
	fputc('"', f);
}

static void print_metric(FILE *out, const struct field *f, const void *base,
			 const struct field *label, const char *prefix)
{
	if (f->only_if_set && number(f, base) == 0)
		return;
	fprintf(out, "%s_%s", prefix, f->metric);
	if (f->labels || label)
		fputc('{', out);
	if (label)
		metric_label(out, label->key, *(const char *const *)member(label, base));
	if (f->labels)
		fprintf(out, "%s%s", label ? "," : "", f->labels);
	fputs(f->labels || label ? "} " : " ", out);
	print_value(out, f, base);
}

void fields_of_each_to_metrics(const struct field *table, size_t n, const void *base, size_t count,
			       size_t size, const struct field *label, const char *prefix, FILE *f)
{
	const char *last = "";

	for (const struct field *row = table; row < table + n; row++) {
		if (!row->metric)
			continue;
		if (strcmp(row->metric, last) != 0)
			metric_head(f, prefix, row->metric, row->metric_type, row->help);
		last = row->metric;
		for (size_t i = 0; i < count; i++)
			print_metric(f, row, (const char *)base + i * size, label, prefix);
	}
}

void fields_to_metrics(const struct field *table, size_t n, const void *base, const char *prefix,
		       FILE *f)
{
	fields_of_each_to_metrics(table, n, base, 1, 0, NULL, prefix, f);
}
