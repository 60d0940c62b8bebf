/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The daemon's status file: one table makes JSON and metrics, hostile files are refused or read
   without harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>

#include "spooler/base/safe-read.h"
#include "spooler/base/util.h"
#include "spooler/daemon/metrics.h"
#include "spooler/spool/status-file.h"
#include "tests/unit/tree.h"

/* Each field of the table gets a value of its own, so that two rows at one place are seen. */
static void fill(struct status_file *s)
{
	static char text[256][8];

	for (size_t i = 0; i < status_file_n_fields; i++) {
		const struct field *f = &status_file_fields[i];
		void *to = (char *)s + f->offset;

		assert_true(i < ELEMENTSOF(text) || f->type != FIELD_TEXT);
		if (f->type == FIELD_BOOL)
			*(bool *)to = true;
		else if (f->type == FIELD_TEXT)
			*(const char **)to = text[snprintf(text[i], 8, "t%zu", i) > 0 ? i : 0];
		else
			*(uint64_t *)to = 1000 * (i + 1);
	}
	s->answers[0x00] = 5;
	s->answers[0x87] = 6;
	s->latency_buckets[3] = 7;
	s->latency_sum_usec = 8;
	s->attempts[s->n_attempts++] = (struct status_attempt){
		.id = "0190", .why = "why", .topic = "a/b", .attempts = 2, .next_usec = 3000000};
}

static void comes_back_as_it_was(void **state)
{
	struct status_file *s = calloc(1, sizeof(*s)), *again = calloc(1, sizeof(*again));
	json_t *o, *o2;
	char *text;

	(void)state;
	fill(s);
	o = status_file_to_json(s);
	assert_non_null(o);
	text = json_dumps(o, 0);
	assert_int_equal(status_file_parse(text, strlen(text), again), 0);
	assert_int_equal(again->answers[0x87], 6);
	assert_string_equal(status_file_attempt(again, "0190")->topic, "a/b");
	o2 = status_file_to_json(again);
	assert_true(json_equal(o, o2));
	free(text);
	json_decref(o);
	json_decref(o2);
	status_file_release(again);
	free(s);
	free(again);
}

static void no_name_stands_twice(void **state)
{
	(void)state;
	for (size_t i = 0; i < status_file_n_fields; i++) {
		const struct field *a = &status_file_fields[i];

		assert_true(a->key || a->metric);
		for (size_t k = 0; k < i; k++) {
			const struct field *b = &status_file_fields[k];

			if (a->key && b->key && strcmp(a->key, b->key) == 0 &&
			    strcmp(a->section ?: "", b->section ?: "") == 0)
				fail_msg("%s.%s stands twice", a->section ?: "", a->key);
			if (a->metric && b->metric && strcmp(a->metric, b->metric) == 0 &&
			    (!a->labels || strcmp(a->labels, b->labels) == 0))
				fail_msg("%s stands twice", a->metric);
		}
	}
}

/* Prometheus: a counter's name ends in _total, and only a counter's; rows of one name stand
   together. */
static void metrics_are_well_formed(void **state)
{
	struct status_file *s = calloc(1, sizeof(*s));
	const struct verdict verdict = {0};
	char *text, *line, *rest, seen[4096] = "";

	(void)state;
	fill(s);
	text = metrics_format(s, &verdict);
	assert_non_null(text);
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char name[80], type[16], mark[90];

		if (sscanf(line, "# TYPE %79s %15s", name, type) != 2)
			continue;
		(void)snprintf(mark, sizeof(mark), " %s ", name);
		assert_null(strstr(seen, mark));
		assert_true(strlen(seen) + strlen(mark) < sizeof(seen));
		strcat(seen, mark);
		assert_int_equal(strcmp(type, "counter") == 0,
				 strlen(name) > 6 &&
					 strcmp(name + strlen(name) - 6, "_total") == 0);
	}
	free(text);
	free(s);
}

static void odd_content_does_no_harm(void **state)
{
	static const struct {
		const char *text;
		int r;
	} table[] = {
		{"", -EBADMSG},
		{"null", -EBADMSG},
		{"[]", -EBADMSG},
		{"{\"pid\": 1, \"pid\": 2}", -EBADMSG},
		{"{", -EBADMSG},
		{"{}", 0},
		{"{\"pid\": -5, \"sent\": -1, \"connected\": 1, \"broker\": [1], \"started\": 7}",
		 0},
		{"{\"pid\": \"1\", \"started\": \"x\", \"events\": [], \"sequence\": 3}", 0},
		{"{\"events\": {\"refused\": {\"0x87\": -3, \"0x88\": \"a\"}, \"taken\": 1}}", 0},
		{"{\"retried\": {\"a\": 1}, \"latency\": {\"buckets\": [-1, \"x\"]}}", 0},
		{"{\"retried\": [1, {}, {\"id\": 1, \"why\": 2}], \"losses\": {\"lasted_seconds\": -1e300}}",
		 0},
	};
	static const char negative[] = "{\"pid\": -5, \"sent\": -1, \"connected\": 1}";
	struct status_file *s = calloc(1, sizeof(*s)), empty = {0};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		assert_int_equal(status_file_parse(table[i].text, strlen(table[i].text), s),
				 table[i].r);
		status_file_release(s);
		assert_memory_equal(s, &empty, sizeof(*s));
	}
	assert_int_equal(status_file_parse(negative, strlen(negative), s), 0);
	assert_int_equal(s->pid, 0);
	assert_int_equal(s->sent, 0);
	assert_false(s->connected);
	status_file_release(s);
	free(s);
}

/* --- what lies there instead of a file of ours */

static const char *make_fifo(const char *path)
{
	return mkfifo(path, 0600) == 0 ? "it is not a regular file" : NULL;
}

static const char *make_directory(const char *path)
{
	return mkdir(path, 0700) == 0 ? "it is not a regular file" : NULL;
}

static const char *make_link(const char *path)
{
	return symlink("/etc/hostname", path) == 0 ? "it is a symbolic link" : NULL;
}

static const char *make_dangling_link(const char *path)
{
	return symlink("/nowhere", path) == 0 ? "it is a symbolic link" : NULL;
}

static const char *make_large(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	int r = ftruncate(fd, STATUS_FILE_MAX + 1);

	(void)close(fd);
	return r == 0 ? "it is larger than such a file can be" : NULL;
}

static const char *make_second_name(const char *path)
{
	char other[300];
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	(void)close(fd);
	(void)snprintf(other, sizeof(other), "%s.other", path);
	return link(path, other) == 0 ? "it belongs to another user, or is a hard link" : NULL;
}

static const char *make_deep(const char *path)
{
	FILE *f = fopen(path, "we");

	for (int i = 0; i < 100000; i++)
		fputc('[', f);
	(void)fclose(f);
	return "its content is damaged";
}

static void refuses_what_is_no_status_file(void **state)
{
	static const char *(*const made[])(const char *) = {
		make_fifo,  make_directory,   make_link, make_dangling_link,
		make_large, make_second_name, make_deep,
	};
	struct status_file *s = calloc(1, sizeof(*s));

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(made); i++) {
		char directory[] = "/tmp/test-status-file-XXXXXX", path[64];
		const char *expected;

		assert_non_null(mkdtemp(directory));
		(void)snprintf(path, sizeof(path), "%s/" STATUS_FILE, directory);
		expected = made[i](path);
		assert_non_null(expected);
		assert_string_equal(safe_read_error(status_file_read(directory, s)), expected);
		(void)tree_remove(directory);
	}
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_back_as_it_was),
		cmocka_unit_test(no_name_stands_twice),
		cmocka_unit_test(metrics_are_well_formed),
		cmocka_unit_test(odd_content_does_no_harm),
		cmocka_unit_test(refuses_what_is_no_status_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
