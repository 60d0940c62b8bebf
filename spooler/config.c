/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * config - see config.h.
 *
 * One table holds every key: where it stands, what it may be, what it is by default, where it goes, what it means.
 * Defaults are written in the table as they would be in the file, and go through the same code. The file is read as
 * libyaml's stream of events, two levels deep; nothing is expanded (no anchors, aliases, tags, merges, second
 * document), so a file's size bounds what it can cost. Reading goes on after an error, so that one run tells all.
 *
 * The only file that knows libyaml.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <net/if.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <syslog.h>
#include <yaml.h>

#include "../hook/spool.h"
#include "config.h"
#include "topic.h"
#include "utf8.h"
#include "util.h"

#define ERRORS_MAX 20
#define DEPTH_MAX 16 /* of what is skipped because its key is unknown */
#define LIST_MAX 64
#define STRING_MAX 4096
#define SECRET_MAX (64 * 1024)
#define NAME_MAX_LENGTH 253 /* of a DNS name */

#define SECONDS_PER_YEAR (366ULL * 24 * 3600)

enum type {
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

static const char *const type_names[] = {
	[TYPE_STRING] = "text",
	[TYPE_INTEGER] = "integer",
	[TYPE_DURATION] = "duration",
	[TYPE_SIZE] = "size",
	[TYPE_BOOLEAN] = "true or false",
	[TYPE_CHOICE] = "choice",
	[TYPE_LIST] = "list",
	[TYPE_BROKERS] = "list of URLs",
	[TYPE_FILE] = "file",
	[TYPE_SECRET] = "secret file",
	[TYPE_OUTPUT] = "file",
};

struct choice {
	const char *name;
	unsigned value;
};

static const struct choice versions[] = {{"5", 5}, {"3.1.1", 3}, {}};
static const struct choice qos_levels[] = {{"1", 1}, {"2", 2}, {}};
static const struct choice log_levels[] = {{"err", LOG_ERR},   {"warning", LOG_WARNING}, {"notice", LOG_NOTICE},
					   {"info", LOG_INFO}, {"debug", LOG_DEBUG},     {}};

/* Checks one string (of a list: each). Returns NULL, or what is wrong and what is allowed. */
typedef const char *(*check)(const char *value);
static const char *check_host(const char *value);
static const char *check_client_id(const char *value);
static const char *check_topic(const char *value);
static const char *check_status_topic(const char *value);
static const char *check_pin(const char *value);
static const char *check_tls_version(const char *value);
static const char *check_server_name(const char *value);
static const char *check_glob(const char *value);

static const struct key {
	const char *path; /* "key" or "section.key" */
	enum type type;
	size_t offset; /* in struct config */
	const char *fallback;  /* the default, as it would be in the file; NULL: not set, or as `otherwise` says */
	const char *otherwise; /* what the manual says of the default instead */
	uint64_t min, max;
	const struct choice *choices;
	check check;
	bool none;    /* may be "none" */
	bool token;   /* TYPE_FILE, TYPE_SECRET: may be a pkcs11: URI */
	const char *help;
} keys[] = {
#define TO(member) .offset = offsetof(struct config, member)
	{"host", TYPE_STRING, TO(host), .otherwise = "the machine's host name", .check = check_host,
	 .help = "name of this host in the events' source and in {host} of the topics"},
	{"brokers", TYPE_BROKERS, TO(brokers), .otherwise = "must be given",
	 .help = "mqtts://HOST[:PORT], in order of preference; mqtt:// is without TLS"},

	{"mqtt.version", TYPE_CHOICE, TO(mqtt.version), "5", .choices = versions,
	 .help = "under 3.1.1 a broker may acknowledge what it refuses, and the event is lost"},
	{"mqtt.qos", TYPE_CHOICE, TO(mqtt.qos), "1", .choices = qos_levels,
	 .help = "1: at least once; 2: the broker drops repetitions within a connection. 0 is refused"},
	{"mqtt.client_id", TYPE_STRING, TO(mqtt.client_id), .otherwise = "virtspool-HOST", .check = check_client_id,
	 .help = "must differ between all clients of a broker"},
	{"mqtt.username", TYPE_STRING, TO(mqtt.username), .help = "user name for the broker"},
	{"mqtt.password_file", TYPE_SECRET, TO(mqtt.password_file), .help = "file that holds the password"},
	{"mqtt.window", TYPE_INTEGER, TO(mqtt.window), "100", .min = 1, .max = 65535,
	 .help = "events that may wait for their acknowledgement at a time"},
	{"mqtt.topic", TYPE_STRING, TO(mqtt.topic), "virtspool/v1/{host}/{driver}/{uuid}/{operation}",
	 .check = check_topic, .help = "where an event is published"},
	{"mqtt.status_topic", TYPE_STRING, TO(mqtt.status_topic), .check = check_status_topic, .none = true,
	 .help = "template: where it is told that this host is online, or (the will) offline"},
	{"mqtt.keep_alive", TYPE_DURATION, TO(mqtt.keep_alive_s), "30s", .min = 5, .max = 65535,
	 .help = "a connection that is silent for longer is probed"},
	{"mqtt.connect_timeout", TYPE_DURATION, TO(mqtt.connect_timeout_s), "10s", .min = 1, .max = 600,
	 .help = "for each of: TCP connection, TLS handshake, the broker's CONNACK"},
	{"mqtt.ack_timeout", TYPE_DURATION, TO(mqtt.ack_timeout_s), "30s", .min = 1, .max = 3600,
	 .help = "a broker that acknowledges nothing for so long is left"},
	{"mqtt.retry_min", TYPE_DURATION, TO(mqtt.retry_min_s), "1s", .min = 1, .max = 3600,
	 .help = "first wait between attempts to connect; doubled each time, with jitter"},
	{"mqtt.retry_max", TYPE_DURATION, TO(mqtt.retry_max_s), "60s", .min = 1, .max = 86400,
	 .help = "longest wait between attempts to connect"},

	{"tls.ca_file", TYPE_FILE, TO(tls.ca_file), .otherwise = "the system's trust store",
	 .help = "certificates (PEM) of the authorities that the broker's must come from"},
	{"tls.crl_file", TYPE_FILE, TO(tls.crl_file), .help = "revoked certificates (PEM)"},
	{"tls.certificate_file", TYPE_FILE, TO(tls.certificate_file), .token = true,
	 .help = "our certificate and its chain (PEM), or a pkcs11: URI"},
	{"tls.key_file", TYPE_SECRET, TO(tls.key_file), .token = true,
	 .help = "our certificate's key (PEM), or a pkcs11: URI"},
	{"tls.key_password_file", TYPE_SECRET, TO(tls.key_password_file),
	 .help = "file that holds the password of the key, or the PIN of the token"},
	{"tls.psk_identity", TYPE_STRING, TO(tls.psk_identity),
	 .help = "identity for a pre-shared key, instead of certificates"},
	{"tls.psk_key_file", TYPE_SECRET, TO(tls.psk_key_file),
	 .help = "file that holds the pre-shared key in hexadecimal digits"},
	{"tls.pins", TYPE_LIST, TO(tls.pins), .check = check_pin,
	 .help = "sha256:HEX of the broker's public key, one must match; on top of ca_file, or instead of it"},
	{"tls.minimum_version", TYPE_STRING, TO(tls.minimum_version), "1.2", .check = check_tls_version,
	 .help = "1.2 or 1.3"},
	{"tls.priority", TYPE_STRING, TO(tls.priority), .otherwise = "made from minimum_version",
	 .help = "GnuTLS priority string"},
	{"tls.server_name", TYPE_STRING, TO(tls.server_name), .otherwise = "the host of the broker's URL",
	 .check = check_server_name, .help = "name that the broker's certificate must have"},

	{"events.xml", TYPE_BOOLEAN, TO(events.xml), "false",
	 .help = "publish libvirt's document, secrets blanked, with each event"},
	{"events.metadata", TYPE_LIST, TO(events.metadata),
	 .help = "namespaces (URIs) of <metadata> elements to publish"},
	{"events.drivers", TYPE_LIST, TO(events.drivers), .otherwise = "all", .check = check_glob,
	 .help = "publish these drivers only (glob patterns)"},
	{"events.operations", TYPE_LIST, TO(events.operations), .otherwise = "all", .check = check_glob,
	 .help = "publish these operations only (glob patterns)"},
	{"events.domains", TYPE_LIST, TO(events.domains), .otherwise = "all", .check = check_glob,
	 .help = "publish these domains only (glob patterns for name or UUID)"},
	{"events.skip_drivers", TYPE_LIST, TO(events.skip_drivers), .check = check_glob,
	 .help = "do not publish these drivers"},
	{"events.skip_operations", TYPE_LIST, TO(events.skip_operations), .check = check_glob,
	 .help = "do not publish these operations"},
	{"events.skip_domains", TYPE_LIST, TO(events.skip_domains), .check = check_glob,
	 .help = "do not publish these domains"},

	{"spool.sent_age", TYPE_DURATION, TO(spool.sent_age_s), "7d", .max = 100 * SECONDS_PER_YEAR,
	 .help = "keep delivered events so long, for replay; 0: delete at once"},
	{"spool.sent_size", TYPE_SIZE, TO(spool.sent_size), "1G", .max = INT64_MAX,
	 .help = "keep at most so much of delivered events"},
	{"spool.queue_size", TYPE_SIZE, TO(spool.queue_size), "0", .max = INT64_MAX,
	 .help = "bound of what waits: beyond it the oldest events are dropped and logged. 0: keep everything"},
	{"spool.tmp_age", TYPE_DURATION, TO(spool.tmp_age_s), "1h", .min = 1, .max = SECONDS_PER_YEAR,
	 .help = "remove what killed hooks left in tmp/ after so long"},
	{"spool.stop_timeout", TYPE_DURATION, TO(spool.stop_timeout_s), "5s", .max = 600,
	 .help = "when stopping, wait so long for acknowledgements"},

	{"metrics.file", TYPE_OUTPUT, TO(metrics_file), .none = true, .otherwise = "virtspool.prom in the run directory",
	 .help = "Prometheus text file, for node_exporter's textfile collector"},

	{"log.level", TYPE_CHOICE, TO(log_level), "info", .choices = log_levels,
	 .help = "err, warning, notice, info or debug"},
#undef TO
};

/* Keys that are no keys, but are looked for; what to do instead. */
static const struct {
	const char *name;
	const char *text;
} not_keys[] = {
	{"password", "secrets are not written here; name a file that holds it with mqtt.password_file"},
	{"passwd", "secrets are not written here; name a file that holds it with mqtt.password_file"},
	{"key_password", "secrets are not written here; name a file that holds it with tls.key_password_file"},
	{"psk_key", "secrets are not written here; name a file that holds it with tls.psk_key_file"},
	{"psk", "secrets are not written here; name a file that holds it with tls.psk_key_file"},
	{"insecure", "the broker's certificate is always verified; see tls.ca_file, tls.pins and tls.server_name"},
	{"verify", "the broker's certificate is always verified; see tls.ca_file, tls.pins and tls.server_name"},
	{"retain", "events are never retained"},
	{"clean_session", "a session is never kept: the spool is what survives"},
	{"broker", "the brokers are a list; write brokers: [mqtts://HOST]"},
	{"port", "the port is part of the broker's URL: mqtts://HOST:PORT"},
	{"retention", "see spool.sent_age and spool.sent_size"},
	{"<<", "merge keys are not supported"},
};

struct reader {
	const char *path;
	FILE *errors;
	unsigned n_errors;
	yaml_parser_t parser;
	struct config *config;
	yaml_mark_t seen[ELEMENTSOF(keys)]; /* where a key's value stands; of its section, if it stands nowhere */
	bool given[ELEMENTSOF(keys)];
};

/* --- errors */

#define QUOTED_MAX 72

/* What a file says is quoted in an error as one line that a terminal shows as it is. */
static const char *quoted(const char *s, char buf[static 3 * QUOTED_MAX + 4])
{
	size_t n = strlen(s), cut = n;

	if (n > QUOTED_MAX)
		for (cut = QUOTED_MAX; cut && ((unsigned char)s[cut] & 0xc0) == 0x80; cut--)
			; /* not half a character */
	strcpy(buf + utf8_replace_controls((struct bytes){s, cut}, buf), cut < n ? "..." : "");
	return buf;
}

static void __attribute__((format(printf, 4, 0)))
tell(struct reader *rd, const yaml_mark_t *at, const char *kind, const char *format, va_list ap)
{
	fprintf(rd->errors, "%s:%zu:%zu: %s", rd->path, at->line + 1, at->column + 1, kind);
	vfprintf(rd->errors, format, ap);
	fputc('\n', rd->errors);
}

/* Returns -EINVAL, or -EBADMSG when so much was told that reading on makes no sense. */
static int __attribute__((format(printf, 3, 4))) error(struct reader *rd, const yaml_mark_t *at, const char *format, ...)
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

static void __attribute__((format(printf, 3, 4))) warning(struct reader *rd, const yaml_mark_t *at, const char *format,
							  ...)
{
	va_list ap;

	va_start(ap, format);
	tell(rd, at, "warning: ", format, ap);
	va_end(ap);
}

/* --- the table */

static const char *leaf(const char *path)
{
	const char *dot = strchr(path, '.');

	return dot ? dot + 1 : path;
}

static const struct key *key_find(const char *path)
{
	for (size_t i = 0; i < ELEMENTSOF(keys); i++)
		if (strcmp(keys[i].path, path) == 0)
			return &keys[i];
	return NULL;
}

/* Is there a key "name.…"? */
static bool section_exists(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < ELEMENTSOF(keys); i++)
		if (strncmp(keys[i].path, name, n) == 0 && keys[i].path[n] == '.')
			return true;
	return false;
}

/* How many characters are added, removed, replaced or swapped between two short words. */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][64] = {{0}};
	size_t na = strlen(a), nb = strlen(b);

	if (na >= 64 || nb >= 64)
		return UINT_MAX / 2;
	for (size_t j = 0; j <= nb; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned *row = rows[i % 3], *above = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			row[j] = best;
		}
	}
	return rows[na % 3][nb];
}

/* The key that was probably meant, or NULL. A key that stands in another section is near, too. */
static const char *key_nearest(const char *path)
{
	const char *nearest = NULL, *dot = strchr(path, '.');
	unsigned best = strlen(leaf(path)) < 4 ? 2 : strlen(leaf(path)) < 8 ? 3 : 4; /* must be less than this */

	for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
		const char *p = keys[i].path, *l = leaf(p);
		bool same_section = dot && strncmp(path, p, (size_t)(dot - path) + 1) == 0;
		unsigned d = distance(leaf(path), l) + (same_section || (!dot && l == p) ? 0 : 1);

		if (d < best) {
			best = d;
			nearest = p;
		}
		if (!dot && l != p) { /* the section itself? */
			char section[64];

			snprintf(section, sizeof(section), "%.*s", (int)(l - p - 1), p);
			d = distance(path, section);
			if (d < best) {
				best = d;
				nearest = p;
			}
		}
	}
	return nearest;
}

static void print_keys_of(FILE *f, const char *section)
{
	size_t n = strlen(section);
	const char *separator = "", *last = NULL;

	for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
		const char *p = keys[i].path, *l = leaf(p);

		if (n ? strncmp(p, section, n) != 0 || p[n] != '.' : l != p && last && strncmp(last, p, (size_t)(l - p)) == 0)
			continue;
		if (n || l == p)
			fprintf(f, "%s%s", separator, l);
		else
			fprintf(f, "%s%.*s", separator, (int)(l - p - 1), p);
		separator = ", ";
		last = p;
	}
}

static int unknown_key(struct reader *rd, const yaml_mark_t *at, const char *section, const char *path)
{
	char buf[3 * QUOTED_MAX + 4], *allowed = NULL;
	const char *nearest = key_nearest(path);
	size_t size;
	FILE *f;
	int r;

	for (size_t i = 0; i < ELEMENTSOF(not_keys); i++)
		if (strcmp(not_keys[i].name, leaf(path)) == 0)
			return error(rd, at, "unknown key '%s': %s", quoted(path, buf), not_keys[i].text);
	if (nearest && !strchr(path, '.') && strchr(nearest, '.') &&
	    distance(path, leaf(nearest)) > 1 + distance(path, "") / 3) /* the section was meant */
		return error(rd, at, "unknown key '%s'; did you mean '%.*s'?", quoted(path, buf),
			     (int)(leaf(nearest) - nearest - 1), nearest);
	if (nearest)
		return error(rd, at, "unknown key '%s'; did you mean '%s'?", quoted(path, buf), nearest);
	f = open_memstream(&allowed, &size);
	if (!f)
		return -ENOMEM;
	print_keys_of(f, section);
	(void)fclose(f);
	r = error(rd, at, "unknown key '%s'; allowed here: %s", quoted(path, buf), allowed ? allowed : "");
	free(allowed);
	return r;
}

static const char *type_describe(const struct key *k, char *buf, size_t size)
{
	static const char *const duration_units[] = {"s", "m", "h", "d"};
	static const unsigned duration_seconds[] = {1, 60, 3600, 86400};
	size_t n = 0;

	switch (k->type) {
	case TYPE_INTEGER:
		snprintf(buf, size, "an integer from %" PRIu64 " to %" PRIu64, k->min, k->max);
		break;
	case TYPE_DURATION: {
		int u = 3;

		while (u > 0 && k->max % duration_seconds[u])
			u--;
		snprintf(buf, size, "a duration from %" PRIu64 "%s to %" PRIu64 "%s, like 30s, 5m, 12h or 7d", k->min,
			 k->min ? "s" : "", k->max / duration_seconds[u], duration_units[u]);
		break;
	}
	case TYPE_SIZE:
		snprintf(buf, size, "a size, like 512M or 1G (K, M, G, T are powers of 1024)");
		break;
	case TYPE_BOOLEAN:
		snprintf(buf, size, "true or false");
		break;
	case TYPE_CHOICE:
		for (const struct choice *c = k->choices; c->name; c++)
			n += (size_t)snprintf(buf + n, size - n, "%s%s", c == k->choices ? "" : c[1].name ? ", " : " or ",
					      c->name);
		break;
	case TYPE_LIST:
		snprintf(buf, size, "a list: [ONE, TWO]");
		break;
	case TYPE_BROKERS:
		snprintf(buf, size, "a list of mqtts://HOST[:PORT] or mqtt://HOST[:PORT]");
		break;
	case TYPE_STRING:
		snprintf(buf, size, "text");
		break;
	case TYPE_FILE:
	case TYPE_SECRET:
	case TYPE_OUTPUT:
		snprintf(buf, size, "a file's absolute path%s", k->none ? ", or none" : "");
		break;
	}
	return buf;
}

void config_print_keys(FILE *f)
{
	char buf[256];

	for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
		const struct key *k = &keys[i];

		fprintf(f, "%s (%s, default: %s)\n    %s", k->path, type_names[k->type],
			k->fallback    ? k->fallback
			: k->otherwise ? k->otherwise
				       : "none",
			k->help);
		if (k->type == TYPE_INTEGER || k->type == TYPE_DURATION || k->type == TYPE_SIZE || k->type == TYPE_CHOICE)
			fprintf(f, "\n    %s", type_describe(k, buf, sizeof(buf)));
		fputc('\n', f);
	}
}

/* --- checks of single values */

static bool has_control(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return true;
	return false;
}

static const char *check_host(const char *value)
{
	return strlen(value) <= TOPIC_HOST_MAX ? NULL : "a host's name has at most 255 bytes";
}

static const char *check_client_id(const char *value)
{
	return strlen(value) <= 1024 ? NULL : "a client id has at most 1024 bytes";
}

static const char *check_topic(const char *value)
{
	const char *why = NULL;

	(void)topic_check(value, TOPIC_ALL_FIELDS, &why);
	return why;
}

static const char *check_status_topic(const char *value)
{
	const char *why = NULL;

	(void)topic_check(value, 1U << TOPIC_HOST, &why);
	return why;
}

static const char *check_pin(const char *value)
{
	size_t digits = 0;

	for (const char *c = value + strlen("sha256:"); strncasecmp(value, "sha256:", 7) == 0 && *c; c++)
		if (isxdigit((unsigned char)*c))
			digits++;
		else if (*c != ':' || digits == 0 || digits % 2)
			digits = SIZE_MAX / 2; /* nonsense */
	if (digits != 64)
		return "a pin is sha256: and 64 hexadecimal digits, the hash of the broker's public key "
		       "(SubjectPublicKeyInfo, DER)";
	return NULL;
}

static const char *check_tls_version(const char *value)
{
	return strcmp(value, "1.2") == 0 || strcmp(value, "1.3") == 0 ? NULL : "allowed: 1.2, 1.3";
}

static bool dns_name(const char *s)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && s[i] != '.' && s[i] != '-' && s[i] != '_')
			return false;
	return n > 0 && n <= NAME_MAX_LENGTH && s[0] != '.' && s[0] != '-';
}

/* An address as it stands in a URL's brackets: IPv6, perhaps with a zone. */
static bool ipv6_address(const char *s)
{
	char address[INET6_ADDRSTRLEN];
	struct in6_addr in6;
	size_t n = strcspn(s, "%");

	if (n >= sizeof(address) || (s[n] && (!dns_name(s + n + 1) || strlen(s + n + 1) >= IF_NAMESIZE)))
		return false;
	memcpy(address, s, n);
	address[n] = 0;
	return inet_pton(AF_INET6, address, &in6) == 1;
}

static const char *check_server_name(const char *value)
{
	return dns_name(value) || ipv6_address(value) ? NULL : "allowed: a DNS name or an IP address";
}

static const char *check_glob(const char *value)
{
	return strlen(value) <= 256 ? NULL : "a pattern has at most 256 bytes";
}

/* --- from text to values. Each returns 0, or -EINVAL after an error was told. (Static analyzers lose the pointers that
   are kept through a key's offset, and take them for leaks.) */

/* "%" PRIu64 and a unit; false if it is neither. */
static bool number_parse(const char *s, const char *units, const uint64_t *factors, uint64_t *ret)
{
	uint64_t value = 0, factor = 1;
	const char *unit;

	if (!isdigit((unsigned char)*s))
		return false;
	for (; isdigit((unsigned char)*s); s++)
		if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, (uint64_t)(*s - '0'), &value))
			return false;
	if (*s) {
		unit = strchr(units, *s);
		if (!unit || s[1])
			return false;
		factor = factors[unit - units];
	}
	return !__builtin_mul_overflow(value, factor, ret);
}

static int set_number(struct reader *rd, const struct key *k, const char *text, const yaml_mark_t *at)
{
	static const uint64_t seconds[] = {1, 60, 3600, 86400, 7 * 86400};
	static const uint64_t bytes[] = {1ULL << 10, 1ULL << 20, 1ULL << 30, 1ULL << 40};
	void *target = (char *)rd->config + k->offset;
	char allowed[256], buf[3 * QUOTED_MAX + 4];
	uint64_t value;
	bool good;

	if (k->type == TYPE_DURATION)
		good = number_parse(text, "smhdw", seconds, &value);
	else if (k->type == TYPE_SIZE)
		good = number_parse(text, "KMGT", bytes, &value);
	else
		good = number_parse(text, "", NULL, &value);
	if (!good || value < k->min || value > k->max)
		return error(rd, at, "%s: '%s' %s; allowed: %s", k->path, quoted(text, buf),
			     good                      ? "is out of range"
			     : k->type == TYPE_INTEGER ? "is no integer in range"
			     : k->type == TYPE_SIZE    ? "is no size"
						       : "is no duration",
			     type_describe(k, allowed, sizeof(allowed)));
	if (k->type == TYPE_INTEGER)
		*(unsigned *)target = (unsigned)value;
	else
		*(uint64_t *)target = value;
	return 0;
}

static int set_boolean(struct reader *rd, const struct key *k, const char *text, const yaml_mark_t *at)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
	char buf[3 * QUOTED_MAX + 4];

	for (size_t i = 0; i < ELEMENTSOF(words); i++)
		if (strcmp(text, words[i]) == 0) {
			*(bool *)((char *)rd->config + k->offset) = i % 2;
			return 0;
		}
	return error(rd, at, "%s: '%s' is neither true nor false", k->path, quoted(text, buf));
}

static int set_choice(struct reader *rd, const struct key *k, const char *text, const yaml_mark_t *at)
{
	char allowed[256], buf[3 * QUOTED_MAX + 4];

	for (const struct choice *c = k->choices; c->name; c++)
		if (strcmp(text, c->name) == 0) {
			*(unsigned *)((char *)rd->config + k->offset) = c->value;
			return 0;
		}
	if (k->choices == qos_levels && strcmp(text, "0") == 0)
		return error(rd, at,
			     "%s: 0 is refused: without acknowledgements nobody knows whether an event arrived, and "
			     "none could leave the spool; allowed: 1 or 2",
			     k->path);
	return error(rd, at, "%s: '%s' is not one of: %s", k->path, quoted(text, buf),
		     type_describe(k, allowed, sizeof(allowed)));
}

/* What can be said of a named file now. That it cannot be reached is no error here: the program that reads the
   configuration need not be the one that reads the file, and reading tells. */
static int check_file(struct reader *rd, const struct key *k, const char *path, const yaml_mark_t *at)
{
	char buf[3 * QUOTED_MAX + 4];
	struct stat st;

	if (stat(path, &st) < 0) {
		if (errno != ENOENT && errno != ENOTDIR)
			return 0;
		return error(rd, at, "%s: '%s' does not exist", k->path, quoted(path, buf));
	}
	if (S_ISDIR(st.st_mode))
		return error(rd, at, "%s: '%s' is a directory; allowed: a file", k->path, quoted(path, buf));
	if (k->type != TYPE_SECRET || !S_ISREG(st.st_mode))
		return 0;
	if (st.st_mode & S_IROTH)
		return error(rd, at, "%s: '%s' can be read by others (mode %03o); chmod o-r, at most 0640", k->path,
			     quoted(path, buf), st.st_mode & 07777);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return error(rd, at, "%s: '%s' can be written by others (mode %03o); chmod go-w, at most 0640", k->path,
			     quoted(path, buf), st.st_mode & 07777);
	return 0;
}

/* Makes the path absolute where it names a credential of the unit (LoadCredential=). */
static int file_locate(struct reader *rd, const struct key *k, const char *text, const yaml_mark_t *at, char **ret)
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	char buf[3 * QUOTED_MAX + 4];
	char *path;

	if (*text != '/' && k->type == TYPE_OUTPUT)
		return error(rd, at, "%s: '%s' is relative; allowed: an absolute path, or none", k->path,
			     quoted(text, buf));
	if (*text != '/' && !credentials)
		warning(rd, at,
			"%s: '%s' is relative: it is looked for among systemd's credentials, and there are none "
			"($CREDENTIALS_DIRECTORY is not set)",
			k->path, quoted(text, buf));
	if (*text == '/' || !credentials)
		path = strdup(text);
	else if (asprintf(&path, "%s/%s", credentials, text) < 0)
		path = NULL;
	if (!path)
		return -ENOMEM;
	*ret = path;
	return 0;
}

static int set_file(struct reader *rd, const struct key *k, const char *text, const yaml_mark_t *at)
{
	_cleanup_free_ char *path = NULL;
	char **target = (char **)((char *)rd->config + k->offset);
	bool token = strncasecmp(text, "pkcs11:", 7) == 0;
	int r;

	if (token && !k->token)
		return error(rd, at, "%s: a pkcs11: URI is not possible here; allowed: a file", k->path);
	if (token && strstr(text, "pin-value="))
		return error(rd, at,
			     "%s: secrets are not written here; name a file that holds the PIN with tls.key_password_file",
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

static int set_string(struct reader *rd, const struct key *k, const char *text, const yaml_mark_t *at)
{
	char **target = (char **)((char *)rd->config + k->offset);
	const char *why = k->check ? k->check(text) : NULL;
	char buf[3 * QUOTED_MAX + 4], *copy;

	if (why)
		return error(rd, at, "%s: '%s': %s", k->path, quoted(text, buf), why);
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*target);
	*target = copy;
	return 0;
}

static int set_list_item(struct reader *rd, const struct key *k, const char *text, const yaml_mark_t *at)
{
	struct strings *target = (struct strings *)((char *)rd->config + k->offset);
	const char *why = k->check ? k->check(text) : NULL;
	char buf[3 * QUOTED_MAX + 4], **list;

	if (why)
		return error(rd, at, "%s: '%s': %s", k->path, quoted(text, buf), why);
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
			return "a user is not written here; see mqtt.username and mqtt.password_file";
		if (*port && strchr(port + 1, ':'))
			return "an IPv6 address stands in brackets: mqtts://[2001:db8::1]:8883";
	}
	b->host = strndup(s, (size_t)(end - s));
	if (!b->host)
		return "out of memory";
	if (s[-1] == '[' ? !ipv6_address(b->host) : !dns_name(b->host))
		return "allowed: mqtts://HOST[:PORT] or mqtt://HOST[:PORT], where HOST is a DNS name or an IP address";
	b->port = b->tls ? 8883 : 1883;
	if (!*port)
		return NULL;
	if (*port != ':' || !number_parse(port + 1, "", NULL, &value) || value < 1 || value > 65535)
		return "behind the host only :PORT is allowed, from 1 to 65535";
	b->port = (uint16_t)value;
	return NULL;
}

static void broker_release(struct broker *b)
{
	free(b->url);
	free(b->host);
}

static int add_broker(struct reader *rd, const struct key *k, const char *text, const yaml_mark_t *at)
{
	struct config *c = rd->config;
	struct broker b = {}, *list;
	const char *why = NULL;
	char buf[3 * QUOTED_MAX + 4];

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
		broker_release(&b);
		return why ? error(rd, at, "%s: '%s': %s", k->path, quoted(text, buf), why) : -ENOMEM;
	}
	list[c->n_brokers++] = b;
	return 0;
}

/* A scalar for any key; of a list, one item. */
static int set_value(struct reader *rd, const struct key *k, const char *text, const yaml_mark_t *at)
{
	if (k->none && strcmp(text, "none") == 0) {
		free_charp((char **)((char *)rd->config + k->offset));
		*(char **)((char *)rd->config + k->offset) = NULL;
		return 0;
	}
	switch (k->type) {
	case TYPE_STRING:
		return set_string(rd, k, text, at);
	case TYPE_INTEGER:
	case TYPE_DURATION:
	case TYPE_SIZE:
		return set_number(rd, k, text, at);
	case TYPE_BOOLEAN:
		return set_boolean(rd, k, text, at);
	case TYPE_CHOICE:
		return set_choice(rd, k, text, at);
	case TYPE_LIST:
		return set_list_item(rd, k, text, at);
	case TYPE_BROKERS:
		return add_broker(rd, k, text, at);
	case TYPE_FILE:
	case TYPE_SECRET:
	case TYPE_OUTPUT:
		return set_file(rd, k, text, at);
	}
	return -EINVAL;
}

/* --- the stream of events. -EINVAL: told, and reading can go on; -EBADMSG: told, and it cannot. */

static int next_event(struct reader *rd, yaml_event_t *ret)
{
	yaml_parser_t *p = &rd->parser;
	yaml_mark_t *at = &p->problem_mark;

	if (yaml_parser_parse(p, ret))
		return 0;
	if (p->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (p->error == YAML_READER_ERROR)
		at = &p->mark; /* what cannot be decoded is no mark's place */
	(void)error(rd, at, "%s%s%s", p->context ? p->context : "", p->context ? ", " : "",
		    p->problem ? p->problem : "not YAML");
	return -EBADMSG;
}

/* Goes over the value that begins with the event `first`, whatever it is. */
static int skip_value(struct reader *rd, const yaml_event_t *first)
{
	unsigned depth = first->type == YAML_MAPPING_START_EVENT || first->type == YAML_SEQUENCE_START_EVENT;
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
			(void)error(rd, &e.start_mark, "nested too deeply");
			yaml_event_delete(&e);
			return -EBADMSG;
		}
		yaml_event_delete(&e);
	}
	return 0;
}

/* Is it plain, without what YAML could hang on it? */
static int check_plain(struct reader *rd, const yaml_event_t *e)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;

	if (e->type == YAML_ALIAS_EVENT)
		return error(rd, &e->start_mark, "aliases are not supported; write the value");
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
		return error(rd, &e->start_mark, "%s are not supported; write the value", anchor ? "anchors" : "tags");
	return 0;
}

static int read_scalar(struct reader *rd, const struct key *k, const yaml_event_t *e)
{
	const char *text = (const char *)e->data.scalar.value;

	if (!*text || (e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && (strcmp(text, "~") == 0 || strcmp(text, "null") == 0)))
		return error(rd, &e->start_mark, "%s has no value; write one, or leave the key away for its default",
			     k->path);
	if (e->data.scalar.length != strlen(text) || has_control(text))
		return error(rd, &e->start_mark, "%s: control characters are not allowed", k->path);
	if (e->data.scalar.length > STRING_MAX)
		return error(rd, &e->start_mark, "%s: longer than %d bytes", k->path, STRING_MAX);
	return set_value(rd, k, text, &e->start_mark);
}

static int read_list(struct reader *rd, const struct key *k)
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
			r = error(rd, &e.start_mark, "%s: allowed: a list of plain values", k->path);
		else if (r >= 0 && n >= LIST_MAX)
			r = error(rd, &e.start_mark, "%s: more than %d values", k->path, LIST_MAX);
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
static int read_value(struct reader *rd, const struct key *k, const yaml_event_t *e)
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
		r = error(rd, &e->start_mark, "%s: wrong type; allowed: %s", k->path,
			  type_describe(k, allowed, sizeof(allowed)));
	if (r == -EINVAL && skip_value(rd, e) < 0)
		return -EBADMSG;
	return r;
}

static int read_mapping(struct reader *rd, const char *section);

/* A key's value; `path` is the key's full path and `at` its place. */
static int read_entry(struct reader *rd, const char *section, const char *path, const yaml_mark_t *at,
		      const yaml_event_t *value)
{
	const struct key *k = key_find(path);
	int r;

	if (k && rd->given[k - keys]) {
		r = error(rd, at, "duplicate key '%s'; it stands in line %zu already", path,
			  rd->seen[k - keys].line + 1);
	} else if (k) {
		rd->given[k - keys] = true;
		rd->seen[k - keys] = value->start_mark;
		return read_value(rd, k, value);
	} else if (!section && section_exists(path) && value->type == YAML_MAPPING_START_EVENT) {
		r = check_plain(rd, value);
		if (r >= 0)
			return read_mapping(rd, path);
	} else if (!section && section_exists(path)) {
		if (value->type == YAML_SCALAR_EVENT && value->data.scalar.length == 0)
			return 0; /* all that stood below it is commented out */
		r = error(rd, &value->start_mark, "%s: wrong type; allowed: a section with keys", path);
	} else {
		r = unknown_key(rd, at, section ? section : "", path);
	}
	if (r == -EINVAL && skip_value(rd, value) < 0)
		return -EBADMSG;
	return r;
}

/* A mapping's entries up to its end; section is NULL at the top. */
static int read_mapping(struct reader *rd, const char *section)
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
			r = error(rd, &key.start_mark, "a key is plain text");
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

static int read_document(struct reader *rd)
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
			 type != YAML_STREAM_END_EVENT && !(type == YAML_SCALAR_EVENT && e.data.scalar.length == 0))
			r = error(rd, &e.start_mark, "not a configuration; allowed: keys with values, like brokers: [...]");
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
static int read_end(struct reader *rd)
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
			r = error(rd, &e.start_mark, "a second document; only one is allowed");
		yaml_event_delete(&e);
		if (r < 0 || type == YAML_STREAM_END_EVENT || type == YAML_NO_EVENT)
			return r;
	}
}

/* --- what concerns more than one key */

static const yaml_mark_t *place(const struct reader *rd, const char *path)
{
	return &rd->seen[key_find(path) - keys];
}

static bool given(const struct reader *rd, const char *path)
{
	return rd->given[key_find(path) - keys];
}

static bool loopback(const char *host)
{
	return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

static void check_together(struct reader *rd)
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
			(void)error(rd, place(rd, rules[i].given), "%s needs %s", rules[i].given, rules[i].needed);
		if (rules[i].excluded && given(rd, rules[i].excluded))
			(void)error(rd, place(rd, rules[i].given),
				    "%s has no meaning with %s: a pre-shared key takes the place of certificates",
				    rules[i].given, rules[i].excluded);
	}
	if (c->mqtt.retry_min_s > c->mqtt.retry_max_s)
		(void)error(rd, place(rd, given(rd, "mqtt.retry_min") ? "mqtt.retry_min" : "mqtt.retry_max"),
			    "mqtt.retry_min (%" PRIu64 "s) is more than mqtt.retry_max (%" PRIu64 "s)",
			    c->mqtt.retry_min_s, c->mqtt.retry_max_s);
	if (!given(rd, "brokers"))
		(void)error(rd, place(rd, "brokers"), "brokers is missing; write brokers: [mqtts://HOST]");
	else if (!c->n_brokers && !rd->n_errors)
		(void)error(rd, place(rd, "brokers"), "brokers is empty; write at least one mqtts://HOST");
	for (size_t i = 0; i < c->n_brokers && c->mqtt.password_file; i++)
		if (!c->brokers[i].tls && !loopback(c->brokers[i].host))
			warning(rd, place(rd, "brokers"), "the password goes to %s without TLS; mqtts:// protects it",
				c->brokers[i].url);
}

/* --- putting it together */

static int set_defaults(struct reader *rd)
{
	static const yaml_mark_t nowhere;
	int r;

	for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
		if (!keys[i].fallback)
			continue;
		r = set_value(rd, &keys[i], keys[i].fallback, &nowhere);
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
static int set_derived(struct reader *rd)
{
	struct config *c = rd->config;

	if (!c->host) {
		char name[TOPIC_HOST_MAX + 1] = "";

		if (gethostname(name, sizeof(name) - 1) < 0 || !*name)
			return error(rd, place(rd, "host"), "the machine has no host name; write host: NAME");
		if (strncmp(name, "localhost", 9) == 0 || *name == '(')
			warning(rd, place(rd, "host"), "the machine's host name is '%s', which does not tell it from others; "
				"write host: NAME", name);
		c->host = strdup(name);
		if (!c->host)
			return -ENOMEM;
	}
	if (!c->mqtt.client_id && asprintf(&c->mqtt.client_id, "virtspool-%s", c->host) < 0) {
		c->mqtt.client_id = NULL;
		return -ENOMEM;
	}
	return 0;
}

static void config_freep(struct config **c)
{
	config_free(*c);
}

static int read_file(struct reader *rd)
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
	return r == -EBADMSG ? -EINVAL : r;
}

int config_parse(const char *name, const char *data, size_t size, FILE *errors, struct config **ret_config)
{
	_cleanup_(config_freep) struct config *c = calloc(1, sizeof(*c));
	struct reader rd = {.path = name, .errors = errors, .config = c};
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

/* Reads at most max bytes of an open file. Returns 0; -EFBIG if there is more; a negative errno. A 0 is appended. */
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
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_free_ char *data = NULL;
	size_t size = 0;
	int r;

	r = fd < 0 ? -errno : read_bounded(fd, CONFIG_SIZE_MAX, &data, &size);
	if (r == -EFBIG) {
		fprintf(errors, "%s: larger than %d KiB; a configuration never is\n", path, CONFIG_SIZE_MAX / 1024);
		return r;
	}
	if (r < 0) {
		fprintf(errors, "%s: cannot be read: %s\n", path, strerror(-r));
		return r;
	}
	return config_parse(path, data, size, errors, ret_config);
}

static void strings_release(struct strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->list[i]);
	free(s->list);
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
		void *target = (char *)c + keys[i].offset;

		switch (keys[i].type) {
		case TYPE_STRING:
		case TYPE_FILE:
		case TYPE_SECRET:
		case TYPE_OUTPUT:
			free(*(char **)target);
			break;
		case TYPE_LIST:
			strings_release(target);
			break;
		default:
			break;
		}
	}
	for (size_t i = 0; i < c->n_brokers; i++)
		broker_release(&c->brokers[i]);
	free(c->brokers);
	free(c);
}

int config_read_secret(const char *path, char **ret_secret, size_t *ret_size, const char **ret_why)
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY"), *why = NULL;
	_cleanup_close_ int dir = -1, fd = -1;
	struct stat st;
	int r;

	if (*path != '/') {
		dir = credentials ? open(credentials, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
		if (dir < 0) {
			*ret_why = "it is relative, and there are no credentials ($CREDENTIALS_DIRECTORY)";
			return -ENOENT;
		}
	}
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		*ret_why = r == -ENOENT ? "it does not exist" : r == -EACCES ? "permission denied" : "it cannot be opened";
		return r;
	}
	if (!S_ISREG(st.st_mode)) {
		*ret_why = "it is not a regular file";
		return -EINVAL;
	}
	if (st.st_mode & S_IROTH)
		why = "it can be read by others; at most mode 0640 is allowed";
	else if (st.st_mode & (S_IWGRP | S_IWOTH))
		why = "it can be written by others; at most mode 0640 is allowed";
	if (why) {
		*ret_why = why;
		return -EPERM;
	}
	r = read_bounded(fd, SECRET_MAX, ret_secret, ret_size);
	if (r < 0) {
		*ret_why = r == -EFBIG ? "it is larger than 64 KiB" : "it cannot be read";
		return r;
	}
	if (*ret_size && (*ret_secret)[*ret_size - 1] == '\n')
		(*ret_secret)[--*ret_size] = 0;
	return 0;
}
