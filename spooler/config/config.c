/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * config - see config.h. The keys are in config-keys.c, their values in config-value.c.
 *
 * The file is read as libyaml's stream of events, two levels deep; nothing is expanded (no anchors,
 * aliases, tags, merges, second document), so a file's size bounds what it can cost. Reading goes
 * on after an error, so that one run reports all.
 *
 * Only config*.c know libyaml.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "hook/spool.h"
#include "spooler/config/config-value.h"
#include "spooler/config/topic-template.h"
#include "spooler/base/address.h"
#include "spooler/base/util.h"

#define DEPTH_MAX 16 /* of what is skipped because its key is unknown */
#define LIST_MAX 64
#define STRING_MAX 4096
#define SECRET_MAX (64 * 1024)

static bool has_control(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return true;
	return false;
}

/* --- the stream of events. -EINVAL: reported, and reading can go on; -EBADMSG: reported, and it
   cannot. */

static int next_event(struct config_reader *rd, yaml_event_t *ret)
{
	yaml_parser_t *p = &rd->parser;
	yaml_mark_t *at = &p->problem_mark;

	if (yaml_parser_parse(p, ret))
		return 0;
	if (p->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (p->error == YAML_READER_ERROR)
		at = &p->mark; /* bytes that cannot be decoded have no mark of their own */
	(void)config_error(rd, at, "%s%s%s", p->context ? p->context : "", p->context ? ", " : "",
			   p->problem ? p->problem : "not YAML");
	return -EBADMSG;
}

/* Goes over the value that begins with the event `first`, whatever it is. */
static int skip_value(struct config_reader *rd, const yaml_event_t *first)
{
	unsigned depth =
		first->type == YAML_MAPPING_START_EVENT || first->type == YAML_SEQUENCE_START_EVENT;
	int r;

	while (depth) {
		yaml_event_t e;

		r = next_event(rd, &e);
		if (r < 0)
			return r;
		if (e.type == YAML_MAPPING_START_EVENT || e.type == YAML_SEQUENCE_START_EVENT)
			depth++;
		else if (e.type == YAML_MAPPING_END_EVENT || e.type == YAML_SEQUENCE_END_EVENT)
			depth--;
		if (depth > DEPTH_MAX) {
			(void)config_error(rd, &e.start_mark, "nested too deeply");
			yaml_event_delete(&e);
			return -EBADMSG;
		}
		yaml_event_delete(&e);
	}
	return 0;
}

/* Is it plain, without what YAML could hang on it? */
static int check_plain(struct config_reader *rd, const yaml_event_t *e)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;

	if (e->type == YAML_ALIAS_EVENT)
		return config_error(rd, &e->start_mark,
				    "aliases are not supported; write the value");
	if (e->type == YAML_SCALAR_EVENT) {
		anchor = e->data.scalar.anchor;
		tag = e->data.scalar.tag;
	} else if (e->type == YAML_MAPPING_START_EVENT) {
		anchor = e->data.mapping_start.anchor;
		tag = e->data.mapping_start.tag;
	} else if (e->type == YAML_SEQUENCE_START_EVENT) {
		anchor = e->data.sequence_start.anchor;
		tag = e->data.sequence_start.tag;
	}
	if (anchor || tag)
		return config_error(rd, &e->start_mark, "%s are not supported; write the value",
				    anchor ? "anchors" : "tags");
	return 0;
}

static int read_scalar(struct config_reader *rd, const struct config_key *k, const yaml_event_t *e)
{
	const char *text = (const char *)e->data.scalar.value;

	if (!*text || (e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
		       (strcmp(text, "~") == 0 || strcmp(text, "null") == 0)))
		return config_error(rd, &e->start_mark,
				    "%s has no value; write one, or omit the key for its default",
				    k->path);
	if (e->data.scalar.length != strlen(text) || has_control(text))
		return config_error(rd, &e->start_mark, "%s: control characters are not allowed",
				    k->path);
	if (e->data.scalar.length > STRING_MAX)
		return config_error(rd, &e->start_mark, "%s: is longer than %d bytes", k->path,
				    STRING_MAX);
	return config_set(rd, k, text, &e->start_mark);
}

static int read_list(struct config_reader *rd, const struct config_key *k)
{
	int r, failed = 0;

	for (unsigned n = 0;; n++) {
		yaml_event_t e;

		r = next_event(rd, &e);
		if (r < 0)
			return r;
		if (e.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&e);
			return failed;
		}
		r = check_plain(rd, &e);
		if (r >= 0 && e.type != YAML_SCALAR_EVENT)
			r = config_error(rd, &e.start_mark, "%s: allowed: a list of plain values",
					 k->path);
		else if (r >= 0 && n >= LIST_MAX)
			r = config_error(rd, &e.start_mark, "%s: more than %d values", k->path,
					 LIST_MAX);
		else if (r >= 0)
			r = read_scalar(rd, k, &e);
		if (r == -EINVAL) {
			failed = r;
			r = skip_value(rd, &e);
		}
		yaml_event_delete(&e);
		if (r < 0)
			return r;
	}
}

/* The value that begins with `e`, for a known key. */
static int read_value(struct config_reader *rd, const struct config_key *k, const yaml_event_t *e)
{
	bool list = k->type == TYPE_LIST || k->type == TYPE_BROKERS;
	char allowed[256];
	int r;

	r = check_plain(rd, e);
	if (r >= 0 && list && e->type == YAML_SEQUENCE_START_EVENT)
		return read_list(rd, k);
	if (r >= 0 && !list && e->type == YAML_SCALAR_EVENT)
		return read_scalar(rd, k, e);
	if (r >= 0)
		r = config_error(rd, &e->start_mark, "%s: wrong type; allowed: %s", k->path,
				 config_key_describe(k, allowed, sizeof(allowed)));
	if (r == -EINVAL && skip_value(rd, e) < 0)
		return -EBADMSG;
	return r;
}

static int unknown_key(struct config_reader *rd, const yaml_mark_t *at, const char *section,
		       const char *path)
{
	char buf[CONFIG_QUOTED_SIZE];
	_cleanup_free_ char *advice = NULL;
	size_t size;
	FILE *f = open_memstream(&advice, &size);

	if (!f)
		return -ENOMEM;
	config_key_advise(f, rd->program, section, path);
	(void)fclose(f);
	return config_error(rd, at, "unknown key '%s'%s", config_quoted(path, buf),
			    advice ? advice : "");
}

static int read_mapping(struct config_reader *rd, const char *section);

/* A key's value; `path` is the key's full path and `at` its place. */
static int read_entry(struct config_reader *rd, const char *section, const char *path,
		      const yaml_mark_t *at, const yaml_event_t *value)
{
	const struct config_key *k = config_key_find(rd->program, path);
	int r;

	if (k && rd->given[k - config_keys]) {
		r = config_error(rd, at, "duplicate key '%s'; first set on line %zu", path,
				 rd->seen[k - config_keys].line + 1);
	} else if (k) {
		rd->given[k - config_keys] = true;
		rd->seen[k - config_keys] = value->start_mark;
		return read_value(rd, k, value);
	} else if (!section && config_section_exists(rd->program, path) &&
		   value->type == YAML_MAPPING_START_EVENT) {
		r = check_plain(rd, value);
		if (r >= 0)
			return read_mapping(rd, path);
	} else if (!section && config_section_exists(rd->program, path)) {
		if (value->type == YAML_SCALAR_EVENT && value->data.scalar.length == 0)
			return 0; /* all that stood below it is commented out */
		r = config_error(rd, &value->start_mark,
				 "%s: wrong type; allowed: a section with keys", path);
	} else {
		r = unknown_key(rd, at, section ? section : "", path);
	}
	if (r == -EINVAL && skip_value(rd, value) < 0)
		return -EBADMSG;
	return r;
}

/* A mapping's entries up to its end; section is NULL at the top. */
static int read_mapping(struct config_reader *rd, const char *section)
{
	int r, failed = 0;

	for (;;) {
		yaml_event_t key, value;
		_cleanup_free_ char *path = NULL;

		r = next_event(rd, &key);
		if (r < 0)
			return r;
		if (key.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&key);
			return failed;
		}
		r = check_plain(rd, &key);
		if (r >= 0 && key.type != YAML_SCALAR_EVENT)
			r = config_error(rd, &key.start_mark, "a key is plain text");
		if (r >= 0 && asprintf(&path, "%s%s%s", section ? section : "", section ? "." : "",
				       (const char *)key.data.scalar.value) < 0) {
			path = NULL;
			r = -ENOMEM;
		}
		if (r == -EINVAL && skip_value(rd, &key) < 0)
			r = -EBADMSG;
		if (r == -EINVAL || r >= 0) {
			int q = next_event(rd, &value);

			if (q < 0)
				r = q;
			else {
				if (r >= 0)
					r = read_entry(rd, section, path, &key.start_mark, &value);
				else if (skip_value(rd, &value) < 0)
					r = -EBADMSG;
				yaml_event_delete(&value);
			}
		}
		yaml_event_delete(&key);
		if (r < 0 && r != -EINVAL)
			return r;
		if (r < 0)
			failed = r;
	}
}

static int read_document(struct config_reader *rd)
{
	int r;

	for (;;) {
		yaml_event_t e;
		yaml_event_type_t type;

		r = next_event(rd, &e);
		if (r < 0)
			return r;
		type = e.type;
		if (type == YAML_MAPPING_START_EVENT)
			r = check_plain(rd, &e);
		else if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT &&
			 type != YAML_STREAM_END_EVENT &&
			 !(type == YAML_SCALAR_EVENT && e.data.scalar.length == 0))
			r = config_error(
				rd, &e.start_mark,
				"not a configuration; expected keys with values, like brokers: [...]");
		yaml_event_delete(&e);
		if (r < 0)
			return -EBADMSG;
		if (type == YAML_MAPPING_START_EVENT)
			return read_mapping(rd, NULL);
		if (type == YAML_STREAM_END_EVENT || type == YAML_SCALAR_EVENT)
			return 0; /* an empty file: what must be given is missed below */
	}
}

/* Behind the document nothing follows. */
static int read_end(struct config_reader *rd)
{
	yaml_event_t e;
	int r;

	for (;;) {
		yaml_event_type_t type;

		r = next_event(rd, &e);
		if (r < 0)
			return r;
		type = e.type;
		if (type == YAML_DOCUMENT_START_EVENT)
			r = config_error(rd, &e.start_mark,
					 "a second document; only one is allowed");
		yaml_event_delete(&e);
		if (r < 0 || type == YAML_STREAM_END_EVENT || type == YAML_NO_EVENT)
			return r;
	}
}

/* --- what concerns more than one key */

/* The beginning, for a key that the program does not know. */
static const yaml_mark_t *place(const struct config_reader *rd, const char *path)
{
	static const yaml_mark_t beginning;
	const struct config_key *k = config_key_find(rd->program, path);

	return k ? &rd->seen[k - config_keys] : &beginning;
}

static bool given(const struct config_reader *rd, const char *path)
{
	return rd->given[config_key_find(rd->program, path) - config_keys];
}

static bool loopback(const char *host)
{
	return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
	       strcmp(host, "::1") == 0;
}

/* Events of guests are confidential. */
static void check_http(struct config_reader *rd)
{
	static const char *const pairs[][2] = {
		{"http.certificate_file", "http.key_file"},
		{"http.key_file", "http.certificate_file"},
		{"http.client_ca_file", "http.certificate_file"},
	};
	const struct config_http *h = &rd->config->http;

	for (size_t i = 0; i < ELEMENTSOF(pairs); i++)
		if (given(rd, pairs[i][0]) && !given(rd, pairs[i][1]))
			(void)config_error(rd, place(rd, pairs[i][0]), "%s needs %s", pairs[i][0],
					   pairs[i][1]);
	if (!given(rd, "http.listen") || !h->listen || address_is_loopback(h->listen))
		return;
	if (!given(rd, "http.certificate_file"))
		(void)config_error(rd, place(rd, "http.listen"),
				   "http.listen is not a loopback address, so it needs TLS: set "
				   "http.certificate_file and http.key_file");
	else if (!given(rd, "http.client_ca_file") && !given(rd, "http.token_file"))
		(void)config_error(
			rd, place(rd, "http.listen"),
			"http.listen is not a loopback address, so clients must be checked: set "
			"http.client_ca_file or http.token_file");
}

static void check_together(struct config_reader *rd)
{
	static const struct {
		const char *given, *needed, *excluded;
	} rules[] = {
		{"tls.certificate_file", .needed = "tls.key_file"},
		{"tls.key_file", .needed = "tls.certificate_file"},
		{"tls.key_password_file", .needed = "tls.key_file"},
		{"tls.psk_identity", .needed = "tls.psk_key_file"},
		{"tls.psk_key_file", .needed = "tls.psk_identity"},
		{"mqtt.password_file", .needed = "mqtt.username"},
		{"tls.certificate_file", .excluded = "tls.psk_identity"},
		{"tls.pins", .excluded = "tls.psk_identity"},
		{"tls.ca_file", .excluded = "tls.psk_identity"},
		{"tls.crl_file", .excluded = "tls.psk_identity"},
	};
	struct config *c = rd->config;

	for (size_t i = 0; i < ELEMENTSOF(rules); i++) {
		if (!given(rd, rules[i].given))
			continue;
		if (rules[i].needed && !given(rd, rules[i].needed))
			(void)config_error(rd, place(rd, rules[i].given), "%s needs %s",
					   rules[i].given, rules[i].needed);
		if (rules[i].excluded && given(rd, rules[i].excluded))
			(void)config_error(
				rd, place(rd, rules[i].given),
				"%s has no effect with %s: a pre-shared key replaces certificates",
				rules[i].given, rules[i].excluded);
	}
	if (rd->program == CONFIG_RECORDER)
		check_http(rd);
	if (c->mqtt.retry_min_s > c->mqtt.retry_max_s)
		(void)config_error(rd,
				   place(rd, given(rd, "mqtt.retry_min") ? "mqtt.retry_min"
									 : "mqtt.retry_max"),
				   "mqtt.retry_min (%" PRIu64
				   "s) is more than mqtt.retry_max (%" PRIu64 "s)",
				   c->mqtt.retry_min_s, c->mqtt.retry_max_s);
	if (!given(rd, "brokers"))
		(void)config_error(rd, place(rd, "brokers"),
				   "brokers is missing; write brokers: [mqtts://HOST]");
	else if (!c->n_brokers && !rd->n_errors)
		(void)config_error(rd, place(rd, "brokers"),
				   "brokers is empty; write at least one mqtts://HOST");
	for (size_t i = 0; i < c->n_brokers && c->mqtt.password_file; i++)
		if (!c->brokers[i].tls && !loopback(c->brokers[i].host))
			config_warning(rd, place(rd, "brokers"),
				       "the password goes to %s without TLS; mqtts:// protects it",
				       c->brokers[i].url);
}

/* --- putting it together */

static int set_defaults(struct config_reader *rd)
{
	static const yaml_mark_t nowhere;
	int r;

	for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
		if (!config_keys[i].fallback)
			continue;
		r = config_set(rd, &config_keys[i], config_keys[i].fallback, &nowhere);
		if (r < 0)
			return r;
	}
	if (asprintf(&rd->config->metrics_file, "%s/virtspool.prom", spool_run_directory()) < 0) {
		rd->config->metrics_file = NULL;
		return -ENOMEM;
	}
	return 0;
}

/* The defaults that come from the machine and from other keys. */
static int set_derived(struct config_reader *rd)
{
	struct config *c = rd->config;

	if (!c->host) {
		char name[TOPIC_HOST_MAX + 1] = "";

		if (gethostname(name, sizeof(name) - 1) < 0 || !*name)
			return config_error(rd, place(rd, "host"),
					    "the machine has no host name; write host: NAME");
		if (strncmp(name, "localhost", 9) == 0 || *name == '(')
			config_warning(
				rd, place(rd, "host"),
				"the machine's host name is '%s', which is not unique; write %s",
				name,
				rd->program == CONFIG_RECORDER ? "mqtt.client_id" : "host: NAME");
		c->host = strdup(name);
		if (!c->host)
			return -ENOMEM;
	}
	if (!c->mqtt.client_id &&
	    asprintf(&c->mqtt.client_id, "virtspool-%s%s",
		     rd->program == CONFIG_RECORDER ? "recorder-" : "", c->host) < 0) {
		c->mqtt.client_id = NULL;
		return -ENOMEM;
	}
	return 0;
}

static void config_freep(struct config **c)
{
	config_free(*c);
}

static int read_file(struct config_reader *rd)
{
	int r;

	r = set_defaults(rd);
	if (r < 0)
		return r;
	r = read_document(rd);
	if (r >= 0)
		r = read_end(rd);
	if (r >= 0 || r == -EINVAL) {
		check_together(rd);
		if (r >= 0)
			r = rd->n_errors ? -EINVAL : set_derived(rd);
	}
	for (size_t i = 0; i < CONFIG_N_KEYS; i++)
		rd->config->given |= (uint64_t)rd->given[i] << i;
	return r == -EBADMSG ? -EINVAL : r;
}

int config_parse(const char *name, const char *data, size_t size, FILE *errors,
		 struct config **ret_config)
{
	return config_parse_for(CONFIG_DAEMON, name, data, size, errors, ret_config);
}

int config_parse_for(enum config_program program, const char *name, const char *data, size_t size,
		     FILE *errors, struct config **ret_config)
{
	_cleanup_(config_freep) struct config *c = calloc(1, sizeof(*c));
	struct config_reader rd = {.path = name, .errors = errors, .config = c, .program = program};
	int r;

	if (!c || !yaml_parser_initialize(&rd.parser)) {
		fprintf(errors, "%s: out of memory\n", name);
		return -ENOMEM;
	}
	yaml_parser_set_input_string(&rd.parser, (const unsigned char *)data, size);
	r = read_file(&rd);
	yaml_parser_delete(&rd.parser);
	if (r == -ENOMEM)
		fprintf(errors, "%s: out of memory\n", name);
	if (r < 0)
		return r;
	*ret_config = TAKE_PTR(c);
	return 0;
}

/* Reads at most max bytes of an open file. Returns 0; -EFBIG if there is more; a negative errno.
   A 0 is appended. */
static int read_bounded(int fd, size_t max, char **ret, size_t *ret_size)
{
	_cleanup_free_ char *buf = malloc(max + 1);
	size_t n = 0;

	if (!buf)
		return -ENOMEM;
	while (n <= max) {
		ssize_t got = read(fd, buf + n, max + 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 || (got == 0 && n <= max)) {
			int r = got < 0 ? -errno : 0;

			if (r < 0) {
				explicit_bzero(buf, n);
				return r;
			}
			buf[n] = 0;
			*ret = TAKE_PTR(buf);
			*ret_size = n;
			return 0;
		}
		n += (size_t)got;
	}
	explicit_bzero(buf, n);
	return -EFBIG;
}

int config_load(const char *path, FILE *errors, struct config **ret_config)
{
	return config_load_for(CONFIG_DAEMON, path, errors, ret_config);
}

int config_load_for(enum config_program program, const char *path, FILE *errors,
		    struct config **ret_config)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_free_ char *data = NULL;
	size_t size = 0;
	int r;

	r = fd < 0 ? -errno : read_bounded(fd, CONFIG_SIZE_MAX, &data, &size);
	if (r == -EFBIG) {
		fprintf(errors, "%s: larger than %d KiB, too large for a configuration\n", path,
			CONFIG_SIZE_MAX / 1024);
		return r;
	}
	if (r < 0) {
		fprintf(errors, "%s: cannot be read: %s\n", path, strerror(-r));
		return r;
	}
	return config_parse_for(program, path, data, size, errors, ret_config);
}

/* --- printing */

#define COMMENT_COLUMN 36

_Static_assert(CONFIG_N_KEYS <= 64, "struct config has a bit for each key");

/* "key: value", or a comment if there is no value. Returns the length. */
static size_t print_key(FILE *f, const struct config *c, const struct config_key *k)
{
	_cleanup_free_ char *text = NULL;
	const char *indent = strchr(k->path, '.') ? "  " : "";
	size_t size = 0;
	FILE *m = open_memstream(&text, &size);
	bool set = m && config_write_value(m, c, k);

	if (m)
		(void)fclose(m);
	return (size_t)fprintf(f, "%s%s%s:%s%s", indent, set ? "" : "#", config_key_leaf(k->path),
			       set ? " " : "", set ? text : "");
}

void config_print(FILE *f, const struct config *c)
{
	const char *section = "";
	size_t n = 0;

	for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
		const struct config_key *k = &config_keys[i];
		size_t length = (size_t)(config_key_leaf(k->path) - k->path);
		const char *otherwise = k->otherwise ? k->otherwise : "not set";

		if (!config_key_is_known(k, CONFIG_DAEMON))
			continue;
		if (length > 0 && (length != n || strncmp(section, k->path, length) != 0))
			fprintf(f, "%.*s:\n", (int)length - 1, k->path);
		section = k->path;
		n = length;
		length = print_key(f, c, k);
		if (!(c->given >> i & 1))
			fprintf(f, "%*s# default%s%s",
				length < COMMENT_COLUMN ? (int)(COMMENT_COLUMN - length) : 1, "",
				k->fallback ? "" : ": ", k->fallback ? "" : otherwise);
		(void)fputc('\n', f);
	}
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < CONFIG_N_KEYS; i++)
		config_release_value(c, &config_keys[i]);
	for (size_t i = 0; i < c->n_brokers; i++)
		config_broker_release(&c->brokers[i]);
	free(c->brokers);
	free(c);
}

const char *config_secret_fault(unsigned mode)
{
	if (mode & S_IROTH)
		return "it can be read by others; chmod o-r, at most 0640";
	if (mode & (S_IWGRP | S_IWOTH))
		return "it can be written by others; chmod go-w, at most 0640";
	return NULL;
}

int config_read_secret(const char *path, char **ret_secret, size_t *ret_size, const char **ret_why)
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	_cleanup_close_ int dir = -1, fd = -1;
	struct stat st;
	int r;

	if (*path != '/') {
		dir = credentials ? open(credentials, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
		if (dir < 0) {
			*ret_why =
				"it is a relative path, and there is no credentials directory ($CREDENTIALS_DIRECTORY)";
			return -ENOENT;
		}
	}
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		*ret_why = r == -ENOENT	  ? "it does not exist"
			   : r == -EACCES ? "permission denied"
					  : "it cannot be opened";
		return r;
	}
	if (!S_ISREG(st.st_mode)) {
		*ret_why = "it is not a regular file";
		return -EINVAL;
	}
	*ret_why = config_secret_fault(st.st_mode);
	if (*ret_why)
		return -EPERM;
	r = read_bounded(fd, SECRET_MAX, ret_secret, ret_size);
	if (r < 0) {
		*ret_why = r == -EFBIG ? "it is larger than 64 KiB" : "it cannot be read";
		return r;
	}
	if (*ret_size && (*ret_secret)[*ret_size - 1] == '\n')
		(*ret_secret)[--*ret_size] = 0;
	return 0;
}
