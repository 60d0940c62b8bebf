/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* config-value - see config-value.h. Defaults go through the same code as what a file says. */
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "spooler/config/config-value.h"
#include "spooler/base/number.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"

#define ERRORS_MAX 20

/* --- errors */

const char *config_quoted(const char *s, char buf[static CONFIG_QUOTED_SIZE])
{
	size_t n = strlen(s), cut = n;

	if (n > CONFIG_QUOTED_MAX)
		for (cut = CONFIG_QUOTED_MAX; cut && ((unsigned char)s[cut] & 0xc0) == 0x80; cut--)
			; /* not half a character */
	strcpy(buf + terminal_escape(NULL, s, cut, buf, CONFIG_QUOTED_SIZE - 3),
	       cut < n ? "..." : "");
	return buf;
}

static void __attribute__((format(printf, 4, 0)))
tell(struct config_reader *rd, const yaml_mark_t *at, const char *kind, const char *format,
     va_list ap)
{
	fprintf(rd->errors, "%s:%zu:%zu: %s", rd->path, at->line + 1, at->column + 1, kind);
	vfprintf(rd->errors, format, ap);
	fputc('\n', rd->errors);
}

int config_error(struct config_reader *rd, const yaml_mark_t *at, const char *format, ...)
{
	va_list ap;

	if (rd->n_errors++ < ERRORS_MAX) {
		va_start(ap, format);
		tell(rd, at, "", format, ap);
		va_end(ap);
		return -EINVAL;
	}
	if (rd->n_errors == ERRORS_MAX + 1)
		fprintf(rd->errors, "%s: too many errors, the rest is not shown\n", rd->path);
	return -EBADMSG;
}

void config_warning(struct config_reader *rd, const yaml_mark_t *at, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	tell(rd, at, "warning: ", format, ap);
	va_end(ap);
}

/* --- from text to values. Each returns 0, or -EINVAL after an error was reported. (Static
   analyzers lose the pointers that are kept through a key's offset, and take them for leaks.) */

static int set_number(struct config_reader *rd, const struct config_key *k, const char *text,
		      const yaml_mark_t *at)
{
	static const uint64_t seconds[] = {1, 60, 3600, 86400, 7 * 86400};
	static const uint64_t bytes[] = {1ULL << 10, 1ULL << 20, 1ULL << 30, 1ULL << 40};
	void *target = (char *)rd->config + k->offset;
	char allowed[256], buf[CONFIG_QUOTED_SIZE];
	const char *why;
	uint64_t value;
	bool good;

	if (k->type == TYPE_DURATION)
		good = number_parse(text, "smhdw", seconds, &value);
	else if (k->type == TYPE_SIZE)
		good = number_parse(text, "KMGT", bytes, &value);
	else
		good = number_parse(text, "", NULL, &value);
	if (!good || value < k->min || value > k->max)
		return config_error(rd, at, "%s: '%s' %s; allowed: %s", k->path,
				    config_quoted(text, buf),
				    good		      ? "is out of range"
				    : k->type == TYPE_INTEGER ? "is not an integer in range"
				    : k->type == TYPE_SIZE    ? "is not a size"
							      : "is not a duration",
				    config_key_describe(k, allowed, sizeof(allowed)));
	why = k->check ? k->check(text) : NULL;
	if (why)
		return config_error(rd, at, "%s: '%s': %s", k->path, config_quoted(text, buf), why);
	if (k->type == TYPE_INTEGER)
		*(unsigned *)target = (unsigned)value;
	else
		*(uint64_t *)target = value;
	return 0;
}

static int set_boolean(struct config_reader *rd, const struct config_key *k, const char *text,
		       const yaml_mark_t *at)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
	char buf[CONFIG_QUOTED_SIZE];

	for (size_t i = 0; i < ELEMENTSOF(words); i++)
		if (strcmp(text, words[i]) == 0) {
			*(bool *)((char *)rd->config + k->offset) = i % 2;
			return 0;
		}
	return config_error(rd, at, "%s: '%s' is neither true nor false", k->path,
			    config_quoted(text, buf));
}

static int set_choice(struct config_reader *rd, const struct config_key *k, const char *text,
		      const yaml_mark_t *at)
{
	char allowed[256], buf[CONFIG_QUOTED_SIZE];

	for (const struct config_choice *c = k->choices; c->name; c++)
		if (strcmp(text, c->name) == 0) {
			*(unsigned *)((char *)rd->config + k->offset) = c->value;
			return 0;
		}
	if (strcmp(k->path, "mqtt.qos") == 0 && strcmp(text, "0") == 0)
		return config_error(
			rd, at,
			"%s: 0 is not allowed: without acknowledgements an event could never leave the spool; "
			"allowed: 1 or 2",
			k->path);
	return config_error(rd, at, "%s: '%s' is not one of: %s", k->path, config_quoted(text, buf),
			    config_key_describe(k, allowed, sizeof(allowed)));
}

/* Checks a named file as far as possible now. A file out of reach is not an error here: the program
   that reads the configuration need not be the one that reads the file, and reading shows it. */
static int check_file(struct config_reader *rd, const struct config_key *k, const char *path,
		      const yaml_mark_t *at)
{
	char buf[CONFIG_QUOTED_SIZE];
	const char *fault;
	struct stat st;

	if (stat(path, &st) < 0) {
		if (errno != ENOENT && errno != ENOTDIR)
			return 0;
		return config_error(rd, at, "%s: '%s' does not exist", k->path,
				    config_quoted(path, buf));
	}
	if (S_ISDIR(st.st_mode))
		return config_error(rd, at, "%s: '%s' is a directory; allowed: a file", k->path,
				    config_quoted(path, buf));
	if (k->type != TYPE_SECRET || !S_ISREG(st.st_mode))
		return 0;
	fault = config_secret_fault(st.st_mode);
	return fault ? config_error(rd, at, "%s: '%s' (mode %03o): %s", k->path,
				    config_quoted(path, buf), st.st_mode & 07777, fault)
		     : 0;
}

/* Makes the path absolute where it names a credential of the unit (LoadCredential=). */
static int file_locate(struct config_reader *rd, const struct config_key *k, const char *text,
		       const yaml_mark_t *at, char **ret)
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	char buf[CONFIG_QUOTED_SIZE];
	char *path;

	if (*text != '/' && k->type == TYPE_OUTPUT)
		return config_error(rd, at,
				    "%s: '%s' is relative; allowed: an absolute path, or none",
				    k->path, config_quoted(text, buf));
	if (*text != '/' && !credentials)
		config_warning(
			rd, at,
			"%s: '%s' is a relative path to a systemd credential, and there are no credentials "
			"($CREDENTIALS_DIRECTORY is not set)",
			k->path, config_quoted(text, buf));
	if (*text == '/' || !credentials)
		path = strdup(text);
	else if (asprintf(&path, "%s/%s", credentials, text) < 0)
		path = NULL;
	if (!path)
		return -ENOMEM;
	*ret = path;
	return 0;
}

static int set_file(struct config_reader *rd, const struct config_key *k, const char *text,
		    const yaml_mark_t *at)
{
	_cleanup_free_ char *path = NULL;
	char **target = (char **)((char *)rd->config + k->offset);
	bool token = strncasecmp(text, "pkcs11:", 7) == 0;
	int r;

	if (token && !k->token)
		return config_error(
			rd, at, "%s: a pkcs11: URI is not possible here; allowed: a file", k->path);
	if (token && strstr(text, "pin-value="))
		return config_error(
			rd, at,
			"%s: secrets do not belong here; put the PIN into a file and set tls.key_password_file",
			k->path);
	if (token) {
		path = strdup(text);
		r = path ? 0 : -ENOMEM;
	} else {
		r = file_locate(rd, k, text, at, &path);
		if (r >= 0 && path && *path == '/' && k->type != TYPE_OUTPUT)
			r = check_file(rd, k, path, at);
	}
	if (r < 0)
		return r;
	free(*target);
	*target = TAKE_PTR(path);
	return 0;
}

/* What is refused goes to a log, where a password of a URL has no place. */
static bool may_hold_secret(const char *text)
{
	return strstr(text, "://") && (strchr(text, '@') || strcasestr(text, "password"));
}

static int set_string(struct config_reader *rd, const struct config_key *k, const char *text,
		      const yaml_mark_t *at)
{
	char **target = (char **)((char *)rd->config + k->offset);
	const char *why = k->check ? k->check(text) : NULL;
	char buf[CONFIG_QUOTED_SIZE], *copy;

	if (why && may_hold_secret(text))
		return config_error(rd, at, "%s: %s", k->path, why);
	if (why)
		return config_error(rd, at, "%s: '%s': %s", k->path, config_quoted(text, buf), why);
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*target);
	*target = copy;
	return 0;
}

static int set_list_item(struct config_reader *rd, const struct config_key *k, const char *text,
			 const yaml_mark_t *at)
{
	struct strings *target = (struct strings *)((char *)rd->config + k->offset);
	const char *why = k->check ? k->check(text) : NULL;
	char buf[CONFIG_QUOTED_SIZE], **list;

	if (why)
		return config_error(rd, at, "%s: '%s': %s", k->path, config_quoted(text, buf), why);
	list = reallocarray(target->list, target->n + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	target->list = list;
	list[target->n] = strdup(text);
	if (!list[target->n])
		return -ENOMEM;
	target->n++;
	return 0;
}

/* HOST[:PORT] into b; what is wrong with it otherwise. */
static const char *authority_parse(const char *s, struct broker *b)
{
	const char *end, *port;
	uint64_t value;

	if (*s == '[') {
		end = strchr(++s, ']');
		if (!end)
			return "the ] is missing";
		port = end + 1;
	} else {
		end = port = s + strcspn(s, ":");
		if (strchr(s, '@'))
			return "a user does not belong here; see mqtt.username and mqtt.password_file";
		if (*port && strchr(port + 1, ':'))
			return "put an IPv6 address in brackets: mqtts://[2001:db8::1]:8883";
	}
	b->host = strndup(s, (size_t)(end - s));
	if (!b->host)
		return "out of memory";
	if (s[-1] == '[' ? !config_ipv6_address(b->host) : !config_dns_name(b->host))
		return "allowed: mqtts://HOST[:PORT] or mqtt://HOST[:PORT], where HOST is a DNS name or an IP address";
	b->port = b->tls ? 8883 : 1883;
	if (!*port)
		return NULL;
	if (*port != ':' || !number_parse(port + 1, "", NULL, &value) || value < 1 || value > 65535)
		return "after the host only :PORT is allowed, from 1 to 65535";
	b->port = (uint16_t)value;
	return NULL;
}

void config_broker_release(struct broker *b)
{
	free(b->url);
	free(b->host);
}

static int add_broker(struct config_reader *rd, const struct config_key *k, const char *text,
		      const yaml_mark_t *at)
{
	struct config *c = rd->config;
	struct broker b = {}, *list;
	const char *why = NULL;
	char buf[CONFIG_QUOTED_SIZE];

	if (strncmp(text, "mqtts://", 8) == 0) {
		b.tls = true;
		why = authority_parse(text + 8, &b);
	} else if (strncmp(text, "mqtt://", 7) == 0) {
		why = authority_parse(text + 7, &b);
	} else {
		why = "allowed: mqtts://HOST[:PORT], or mqtt://HOST[:PORT] without TLS";
	}
	b.url = strdup(text);
	list = reallocarray(c->brokers, c->n_brokers + 1, sizeof(*list));
	if (list)
		c->brokers = list;
	if (why || !list || !b.url) {
		config_broker_release(&b);
		return why ? config_error(rd, at, "%s: '%s': %s", k->path, config_quoted(text, buf),
					  why)
			   : -ENOMEM;
	}
	list[c->n_brokers++] = b;
	return 0;
}

/* --- from values to text, as it would be in the file */

/* As a YAML scalar: plain where it cannot be taken for anything else, otherwise in double
   quotes, whose escapes are those of terminal_text(). */
static void write_text(FILE *f, const char *text)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-@=";
	_cleanup_free_ char *safe = NULL, *quoted = NULL;
	size_t n = strlen(text), length = 0;
	const char *s;

	if (n > 0 && text[strspn(text, plain)] == 0 && text[0] != '-' && text[0] != '@' &&
	    text[0] != '=') {
		(void)fputs(text, f);
		return;
	}
	quoted = malloc(2 * n + 1);
	for (s = text; quoted && *s; s++) {
		if (*s == '"' || *s == '\\')
			quoted[length++] = '\\';
		quoted[length++] = *s;
	}
	safe = quoted ? terminal_text(NULL, quoted, length) : NULL;
	fprintf(f, "\"%s\"", safe ? safe : "");
}

static bool write_string(FILE *f, const void *value, const struct config_key *k)
{
	const char *text = *(char *const *)value;

	if (!text && !k->none)
		return false;
	write_text(f, text ? text : "none");
	return true;
}

/* In the largest unit that keeps it whole. */
static void write_unit(FILE *f, uint64_t value, const char *units, const uint64_t *factors,
		       size_t n)
{
	while (n > 0 && (value == 0 || value % factors[n - 1] != 0))
		n--;
	fprintf(f, "%" PRIu64 "%.*s", n > 0 ? value / factors[n - 1] : value, n > 0,
		units + n - (n > 0));
}

static bool write_number(FILE *f, const void *value, const struct config_key *k)
{
	static const uint64_t seconds[] = {1, 60, 3600, 86400};
	static const uint64_t bytes[] = {1ULL << 10, 1ULL << 20, 1ULL << 30, 1ULL << 40};

	if (k->type == TYPE_INTEGER)
		fprintf(f, "%u", *(const unsigned *)value);
	else if (k->type == TYPE_DURATION)
		write_unit(f, *(const uint64_t *)value, "smhd", seconds, ELEMENTSOF(seconds));
	else
		write_unit(f, *(const uint64_t *)value, "KMGT", bytes, ELEMENTSOF(bytes));
	return true;
}

static bool write_boolean(FILE *f, const void *value, const struct config_key *k)
{
	(void)fputs(*(const bool *)value ? "true" : "false", f);
	return true;
}

static bool write_choice(FILE *f, const void *value, const struct config_key *k)
{
	for (const struct config_choice *c = k->choices; c->name; c++)
		if (c->value == *(const unsigned *)value)
			(void)fputs(c->name, f);
	return true;
}

static bool write_list(FILE *f, const void *value, const struct config_key *k)
{
	const struct strings *list = value;

	if (list->n == 0)
		return false;
	(void)fputc('[', f);
	for (size_t i = 0; i < list->n; i++) {
		(void)fputs(i > 0 ? ", " : "", f);
		write_text(f, list->list[i]);
	}
	(void)fputc(']', f);
	return true;
}

static bool write_brokers(FILE *f, const void *value, const struct config_key *k)
{
	const struct config *c = (const void *)((const char *)value - k->offset);

	for (size_t i = 0; i < c->n_brokers; i++) {
		(void)fputs(i > 0 ? ", " : "[", f);
		write_text(f, c->brokers[i].url);
	}
	(void)fputc(']', f);
	return c->n_brokers > 0;
}

/* --- releasing */

static void release_nothing(void *value)
{
}

/* NULL afterwards: keys of two programs may have one target. */
static void release_string(void *value)
{
	free(*(char **)value);
	*(char **)value = NULL;
}

static void release_strings(void *value)
{
	struct strings *s = value;

	for (size_t i = 0; i < s->n; i++)
		free(s->list[i]);
	free(s->list);
	*s = (struct strings){0};
}

/* --- the types */

static const struct {
	int (*set)(struct config_reader *rd, const struct config_key *k, const char *text,
		   const yaml_mark_t *at);
	bool (*write)(FILE *f, const void *value, const struct config_key *k);
	void (*release)(void *value);
} types[] = {
	[TYPE_STRING] = {set_string, write_string, release_string},
	[TYPE_INTEGER] = {set_number, write_number, release_nothing},
	[TYPE_DURATION] = {set_number, write_number, release_nothing},
	[TYPE_SIZE] = {set_number, write_number, release_nothing},
	[TYPE_BOOLEAN] = {set_boolean, write_boolean, release_nothing},
	[TYPE_CHOICE] = {set_choice, write_choice, release_nothing},
	[TYPE_LIST] = {set_list_item, write_list, release_strings},
	[TYPE_BROKERS] = {add_broker, write_brokers, release_nothing}, /* config_free() does */
	[TYPE_FILE] = {set_file, write_string, release_string},
	[TYPE_SECRET] = {set_file, write_string, release_string},
	[TYPE_OUTPUT] = {set_file, write_string, release_string},
};

int config_set(struct config_reader *rd, const struct config_key *k, const char *text,
	       const yaml_mark_t *at)
{
	char **target = (char **)((char *)rd->config + k->offset);

	if (k->none && strcmp(text, "none") == 0) {
		free(*target);
		*target = NULL;
		return 0;
	}
	return types[k->type].set(rd, k, text, at);
}

bool config_write_value(FILE *f, const struct config *c, const struct config_key *k)
{
	return types[k->type].write(f, (const char *)c + k->offset, k);
}

void config_release_value(struct config *c, const struct config_key *k)
{
	types[k->type].release((char *)c + k->offset);
}
