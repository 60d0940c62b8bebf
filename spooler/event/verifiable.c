/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* verifiable - see verifiable.h. */
#include "spooler/event/verifiable.h"
#include "spooler/base/util.h"

#define DATA_MARK ",\"data\":"

enum value_type {
	VALUE_TEXT,
	VALUE_TIME,
	VALUE_BOOLEAN,
};

/* The core attributes in the order of the specification; data follows them. */
static const struct {
	const char *name;
	enum value_type type;
} core[VERIFIABLE_CORE - 1] = {
	{"id", VALUE_TEXT},
	{"source", VALUE_TEXT},
	{"specversion", VALUE_TEXT},
	{"type", VALUE_TEXT},
	{"datacontenttype", VALUE_TEXT},
	{"dataschema", VALUE_TEXT},
	{"subject", VALUE_TEXT},
	{"time", VALUE_TIME},
};

/* Our extensions. A value's type is part of what both sides must know. */
static const struct {
	const char *name;
	enum value_type type;
} extensions[] = {
	{"sequence", VALUE_TEXT},
	{"epoch", VALUE_TEXT},
	{"recordedtime", VALUE_TIME},
	{"replayed", VALUE_BOOLEAN},
};

static struct iovec part_of(const char *text, size_t size)
{
	return (struct iovec){(void *)text, size};
}

/* A moment in UTC and whole seconds, whatever its offset and fraction. */
static bool whole_seconds(const char *time, char ret[static RFC3339_SIZE])
{
	int64_t usec;

	if (!rfc3339_parse(time, &usec))
		return false;
	rfc3339_utc(usec / (int64_t)USEC_PER_SEC, 0, 0, ret);
	return true;
}

/* A value in the byte form of its type. An absent one is the empty string. */
static int value_part(const json_t *value, enum value_type type, char *time, struct iovec *ret_part)
{
	*ret_part = part_of("", 0);
	if (!value)
		return 0;
	if (type == VALUE_BOOLEAN) {
		if (!json_is_boolean(value))
			return -EBADMSG;
		*ret_part = json_is_true(value) ? part_of("true", 4) : part_of("false", 5);
		return 0;
	}
	if (!json_is_string(value))
		return -EBADMSG;
	*ret_part = part_of(json_string_value(value), json_string_length(value));
	if (type == VALUE_TIME) {
		if (!whole_seconds(ret_part->iov_base, time))
			return -EBADMSG;
		*ret_part = part_of(time, strlen(time));
	}
	return 0;
}

static int core_parts(const json_t *event, const char *data, size_t size, struct verifiable *v)
{
	for (size_t i = 0; i < ELEMENTSOF(core); i++)
		if (value_part(json_object_get(event, core[i].name), core[i].type, v->times[0],
			       &v->core[i]) < 0)
			return -EBADMSG;
	v->core[ELEMENTSOF(core)] = part_of(data, size);
	return 0;
}

static int add_extension(struct verifiable *v, const json_t *event, size_t known)
{
	v->names[v->n_extensions] = extensions[known].name;
	return value_part(json_object_get(event, extensions[known].name), extensions[known].type,
			  v->times[1], &v->extensions[v->n_extensions++]);
}

int verifiable_parts(const json_t *event, const char *data, size_t size, struct verifiable *ret)
{
	ret->n_extensions = 0;
	for (size_t i = 0; i < ELEMENTSOF(extensions); i++)
		if (json_object_get(event, extensions[i].name) && add_extension(ret, event, i) < 0)
			return -EBADMSG;
	return core_parts(event, data, size, ret);
}

static bool has_name(const struct verifiable *v, const char *name)
{
	for (size_t i = 0; i < v->n_extensions; i++)
		if (strcmp(v->names[i], name) == 0)
			return true;
	return false;
}

int verifiable_parts_listed(const json_t *event, const char *data, size_t size, const json_t *names,
			    struct verifiable *ret)
{
	size_t i, known;
	json_t *name;

	ret->n_extensions = 0;
	json_array_foreach (names, i, name) {
		for (known = 0; known < ELEMENTSOF(extensions); known++)
			if (json_is_string(name) &&
			    strcmp(json_string_value(name), extensions[known].name) == 0)
				break;
		if (known == ELEMENTSOF(extensions) || has_name(ret, extensions[known].name) ||
		    add_extension(ret, event, known) < 0)
			return -EBADMSG;
	}
	return core_parts(event, data, size, ret);
}

static bool is_core(const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(core); i++)
		if (strcmp(name, core[i].name) == 0)
			return true;
	return strcmp(name, "data") == 0 || strcmp(name, VERIFIABLE_MATERIAL) == 0;
}

bool verifiable_lacks_extension(const struct verifiable *v, const json_t *event)
{
	const char *name;
	json_t *value;

	json_object_foreach ((json_t *)event, name, value)
		if (!is_core(name) && !has_name(v, name))
			return true;
	return false;
}

int verifiable_data(const char *payload, size_t size, const char **ret_data, size_t *ret_size)
{
	/* A quote inside a string is escaped, so an attribute's value cannot contain the mark. */
	const char *mark = memmem(payload, size, DATA_MARK, strlen(DATA_MARK));
	const char *end = payload + size;

	/* Blanks may follow it: a report is padded to a size to see whether the broker takes that. */
	while (end > payload && end[-1] == ' ')
		end--;
	if (!mark || end[-1] != '}' || end - 1 <= mark + strlen(DATA_MARK))
		return -EBADMSG;
	*ret_data = mark + strlen(DATA_MARK);
	*ret_size = (size_t)(end - 1 - *ret_data);
	return 0;
}
