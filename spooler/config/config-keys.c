/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* config-keys - see config-keys.h. */
#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <net/if.h>
#include <syslog.h>

#include "spooler/config/config-keys.h"
#include "spooler/config/topic-template.h"
#include "spooler/base/address.h"
#include "spooler/base/util.h"

#define NAME_MAX_LENGTH 253 /* of a DNS name */
#define SECONDS_PER_YEAR (366ULL * 24 * 3600)

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

static const struct config_choice versions[] = {{"5", 5}, {"3.1.1", 3}, {}};
static const struct config_choice qos_levels[] = {{"1", 1}, {"2", 2}, {}};
static const struct config_choice log_levels[] = {{"err", LOG_ERR},	  {"warning", LOG_WARNING},
						  {"notice", LOG_NOTICE}, {"info", LOG_INFO},
						  {"debug", LOG_DEBUG},	  {}};

static const struct config_choice verify_modes[] = {{"off", CONFIG_VERIFY_OFF},
						    {"mark", CONFIG_VERIFY_MARK},
						    {"required", CONFIG_VERIFY_REQUIRED},
						    {}};

static const char *check_host(const char *value);
static const char *check_client_id(const char *value);
static const char *check_topic(const char *value);
static const char *check_status_topic(const char *value);
static const char *check_pin(const char *value);
static const char *check_tls_version(const char *value);
static const char *check_server_name(const char *value);
static const char *check_alpn(const char *value);
static const char *check_glob(const char *value);
static const char *check_store(const char *value);
static const char *check_retention(const char *value);
static const char *check_share(const char *value);
static const char *check_listen(const char *value);

#define SHARED (CONFIG_DAEMON | CONFIG_RECORDER)

const struct config_key config_keys[CONFIG_N_KEYS] = {
#define TO(member) .offset = offsetof(struct config, member)
	{"host", TYPE_STRING, TO(host), .otherwise = "the machine's host name", .check = check_host,
	 .help = "name of this host in the events' source and in {host} of the topics"},
	{"brokers", TYPE_BROKERS, TO(brokers), .otherwise = "must be given", .programs = SHARED,
	 .help = "mqtts://HOST[:PORT], in order of preference; mqtt:// is without TLS"},

	{"mqtt.version", TYPE_CHOICE, TO(mqtt.version), "5", .choices = versions,
	 .programs = SHARED,
	 .help = "under 3.1.1 a broker may acknowledge what it refuses, and the event is lost"},
	{"mqtt.qos", TYPE_CHOICE, TO(mqtt.qos), "1", .choices = qos_levels,
	 .help = "1: at least once; 2: the broker drops repetitions within a connection. 0 is refused"},
	{"mqtt.client_id", TYPE_STRING, TO(mqtt.client_id), .otherwise = "virtspool-HOST",
	 .check = check_client_id, .help = "must be unique among the clients of a broker"},
	{"mqtt.client_id", TYPE_STRING, TO(mqtt.client_id), .otherwise = "virtspool-recorder-HOST",
	 .check = check_client_id, .programs = CONFIG_RECORDER,
	 .help = "names the session in which the broker keeps events; must be unique"},
	{"mqtt.username", TYPE_STRING, TO(mqtt.username), .programs = SHARED,
	 .help = "user name for the broker"},
	{"mqtt.password_file", TYPE_SECRET, TO(mqtt.password_file), .programs = SHARED,
	 .help = "file with the password"},
	{"mqtt.window", TYPE_INTEGER, TO(mqtt.window), "100", .min = 1, .max = 65535,
	 .help = "maximum number of unacknowledged events"},
	{"mqtt.topic", TYPE_STRING, TO(mqtt.topic),
	 "virtspool/v1/{host}/{driver}/{uuid}/{operation}", .check = check_topic,
	 .programs = SHARED, .help = "where an event is published"},
	{"mqtt.status_topic", TYPE_STRING, TO(mqtt.status_topic), "virtspool/v1/{host}/status",
	 .check = check_status_topic, .none = true, .programs = SHARED,
	 .help = "where the host is reported online or offline, retained; none: nowhere"},
	{"mqtt.will_delay", TYPE_DURATION, TO(mqtt.will_delay_s), "1s", .min = 0, .max = 86400,
	 .help = "after a lost connection the broker waits this long before it reports offline"},
	{"mqtt.require_subscriber", TYPE_BOOLEAN, TO(mqtt.require_subscriber), "false",
	 .help = "keep events while the broker says that nobody has subscribed (MQTT 5)"},
	{"mqtt.keep_alive", TYPE_DURATION, TO(mqtt.keep_alive_s), "30s", .min = 5, .max = 65535,
	 .programs = SHARED, .help = "probe a connection that is silent for this long"},
	{"mqtt.connect_timeout", TYPE_DURATION, TO(mqtt.connect_timeout_s), "10s", .min = 1,
	 .max = 600, .programs = SHARED,
	 .help = "for each of: TCP connection, TLS handshake, the broker's CONNACK"},
	{"mqtt.ack_timeout", TYPE_DURATION, TO(mqtt.ack_timeout_s), "30s", .min = 1, .max = 3600,
	 .help = "end the connection if the broker acknowledges nothing for this long"},
	{"mqtt.retry_min", TYPE_DURATION, TO(mqtt.retry_min_s), "1s", .min = 1, .max = 3600,
	 .programs = SHARED,
	 .help = "first wait between attempts to connect; doubled each time, with jitter"},
	{"mqtt.retry_max", TYPE_DURATION, TO(mqtt.retry_max_s), "60s", .min = 1, .max = 86400,
	 .programs = SHARED, .help = "longest wait between attempts to connect"},

	{"tls.ca_file", TYPE_FILE, TO(tls.ca_file), .otherwise = "the system's trust store",
	 .programs = SHARED,
	 .help = "CA certificates (PEM) that the broker's certificate must chain to"},
	{"tls.crl_file", TYPE_FILE, TO(tls.crl_file), .programs = SHARED,
	 .help = "revoked certificates (PEM)"},
	{"tls.certificate_file", TYPE_FILE, TO(tls.certificate_file), .token = true,
	 .programs = SHARED, .help = "our certificate and its chain (PEM), or a pkcs11: URI"},
	{"tls.key_file", TYPE_SECRET, TO(tls.key_file), .token = true, .programs = SHARED,
	 .help = "our certificate's key (PEM), or a pkcs11: URI"},
	{"tls.key_password_file", TYPE_SECRET, TO(tls.key_password_file), .programs = SHARED,
	 .help = "file with the key's password, or the token's PIN"},
	{"tls.psk_identity", TYPE_STRING, TO(tls.psk_identity), .programs = SHARED,
	 .help = "identity for a pre-shared key, instead of certificates"},
	{"tls.psk_key_file", TYPE_SECRET, TO(tls.psk_key_file), .programs = SHARED,
	 .help = "file with the pre-shared key in hexadecimal digits"},
	{"tls.pins", TYPE_LIST, TO(tls.pins), .check = check_pin, .programs = SHARED,
	 .help = "sha256:HEX of the broker's public key, one must match; with ca_file or instead of it"},
	{"tls.minimum_version", TYPE_STRING, TO(tls.minimum_version), "1.2",
	 .check = check_tls_version, .programs = SHARED, .help = "1.2 or 1.3"},
	{"tls.priority", TYPE_STRING, TO(tls.priority), .otherwise = "as RFC 9325 recommends",
	 .programs = SHARED, .help = "GnuTLS priority string"},
	{"tls.server_name", TYPE_STRING, TO(tls.server_name),
	 .otherwise = "the host of the broker's URL", .check = check_server_name,
	 .programs = SHARED, .help = "name that the broker's certificate must contain"},
	{"tls.alpn", TYPE_STRING, TO(tls.alpn), "mqtt", .check = check_alpn, .none = true,
	 .programs = SHARED, .help = "application protocol to offer (ALPN); none: offer none"},

	{"events.xml", TYPE_BOOLEAN, TO(events.xml), "false",
	 .help = "publish libvirt's document, secrets blanked, with each event"},
	{"events.metadata", TYPE_LIST, TO(events.metadata),
	 .help = "namespaces (URIs) of <metadata> elements to publish"},
	{"events.sign", TYPE_BOOLEAN, TO(events.sign), "false",
	 .help = "sign each event, so that consumers can verify which host sent it"},
	{"events.sign_key_file", TYPE_SECRET, TO(events.sign_key_file), .token = true,
	 .otherwise = "tls.key_file",
	 .help = "key that signs (PEM), ECDSA P-256 or Ed25519, or a pkcs11: URI"},
	{"events.sign_certificate_file", TYPE_FILE, TO(events.sign_certificate_file), .token = true,
	 .otherwise = "tls.certificate_file",
	 .help = "certificate of that key, and its chain (PEM), or a pkcs11: URI"},
	{"events.drivers", TYPE_LIST, TO(events.drivers), .otherwise = "all", .check = check_glob,
	 .help = "publish these drivers only (glob patterns)"},
	{"events.operations", TYPE_LIST, TO(events.operations), .otherwise = "all",
	 .check = check_glob, .help = "publish these operations only (glob patterns)"},
	{"events.domains", TYPE_LIST, TO(events.domains), .otherwise = "all", .check = check_glob,
	 .help = "publish these domains only (glob patterns for name or UUID)"},
	{"events.skip_drivers", TYPE_LIST, TO(events.skip_drivers), .check = check_glob,
	 .help = "do not publish these drivers"},
	{"events.skip_operations", TYPE_LIST, TO(events.skip_operations), .check = check_glob,
	 .help = "do not publish these operations"},
	{"events.skip_domains", TYPE_LIST, TO(events.skip_domains), .check = check_glob,
	 .help = "do not publish these domains"},

	{"spool.sent_age", TYPE_DURATION, TO(spool.sent_age_s), "7d", .max = 100 * SECONDS_PER_YEAR,
	 .help = "keep delivered events for this long, for replay; 0: delete at once"},
	{"spool.sent_size", TYPE_SIZE, TO(spool.sent_size), "1G", .max = INT64_MAX,
	 .help = "keep at most this much of delivered events"},
	{"spool.queue_size", TYPE_SIZE, TO(spool.queue_size), "0", .max = INT64_MAX,
	 .help = "limit for waiting events: beyond it the oldest are dropped and logged. 0: no limit"},
	{"spool.tmp_age", TYPE_DURATION, TO(spool.tmp_age_s), "1h", .min = 1,
	 .max = SECONDS_PER_YEAR,
	 .help = "remove files that killed hooks left in tmp/ after this time"},
	{"spool.stop_timeout", TYPE_DURATION, TO(spool.stop_timeout_s), "5s", .max = 600,
	 .help = "wait at most this long for acknowledgements when stopping"},

	{"metrics.file", TYPE_OUTPUT, TO(metrics_file), .none = true,
	 .otherwise = "virtspool.prom in the run directory",
	 .help = "Prometheus text file, for node_exporter's textfile collector"},

	{"store", TYPE_STRING, TO(recorder.store), "sqlite:///var/lib/virtspool/recorder.db",
	 .check = check_store, .programs = CONFIG_RECORDER,
	 .help = "sqlite:///PATH, or postgresql://[USER@]HOST[:PORT]/DATABASE[?OPTION=VALUE&...]"},
	{"retention", TYPE_DURATION, TO(recorder.retention_s), "90d", .max = 100 * SECONDS_PER_YEAR,
	 .check = check_retention, .programs = CONFIG_RECORDER,
	 .help = "keep events for at most this long; 0: without limit"},
	{"verify", TYPE_CHOICE, TO(recorder.verify), "off", .choices = verify_modes,
	 .programs = CONFIG_RECORDER,
	 .help = "signatures of events: off; mark: note verified ones and reject forged ones; required: take only verified events"},
	{"verify_ca_file", TYPE_FILE, TO(recorder.verify_ca_file), .otherwise = "tls.ca_file",
	 .programs = CONFIG_RECORDER,
	 .help = "CA certificates (PEM) that the hosts' signing certificates must chain to"},
	{"mqtt.share", TYPE_STRING, TO(recorder.share), .check = check_share,
	 .programs = CONFIG_RECORDER,
	 .help = "recorders with the same name share one subscription ($share), and one PostgreSQL"},
	{"mqtt.session_expiry", TYPE_DURATION, TO(recorder.session_expiry_s), "30d", .min = 60,
	 .max = UINT32_MAX - 1, .programs = CONFIG_RECORDER,
	 .help = "ask the broker to keep events for this long while the recorder is away"},

	{"http.listen", TYPE_STRING, TO(http.listen), "127.0.0.1:8480", .check = check_listen,
	 .none = true, .programs = CONFIG_RECORDER,
	 .help = "where the web page, the API and the metrics are served. Any other address than loopback "
		 "needs TLS, and client_ca_file or token_file"},
	{"http.certificate_file", TYPE_FILE, TO(http.certificate_file), .programs = CONFIG_RECORDER,
	 .help = "the web server's certificate with its chain (PEM)"},
	{"http.key_file", TYPE_SECRET, TO(http.key_file), .programs = CONFIG_RECORDER,
	 .help = "its key (PEM)"},
	{"http.client_ca_file", TYPE_FILE, TO(http.client_ca_file), .programs = CONFIG_RECORDER,
	 .help = "clients with a certificate of these authorities (PEM) may read"},
	{"http.token_file", TYPE_SECRET, TO(http.token_file), .programs = CONFIG_RECORDER,
	 .help = "clients that know the token in this file may read: as bearer, or as the password of any user"},
	{"http.connections", TYPE_INTEGER, TO(http.connections), "1200", .min = 12, .max = 100000,
	 .programs = CONFIG_RECORDER,
	 .help = "at most this many clients at a time; five sixths of them may be live streams"},

	{"log.level", TYPE_CHOICE, TO(log_level), "info", .choices = log_levels, .programs = SHARED,
	 .help = "err, warning, notice, info or debug"},
#undef TO
};

/* Keys that do not exist, but are looked for; what to do instead. */
static const struct {
	const char *name;
	const char *text;
} not_keys[] = {
	{"password", "secrets do not belong here; put it into a file and set mqtt.password_file"},
	{"passwd", "secrets do not belong here; put it into a file and set mqtt.password_file"},
	{"key_password",
	 "secrets do not belong here; put it into a file and set tls.key_password_file"},
	{"psk_key", "secrets do not belong here; put it into a file and set tls.psk_key_file"},
	{"psk", "secrets do not belong here; put it into a file and set tls.psk_key_file"},
	{"insecure",
	 "the broker's certificate is always verified; see tls.ca_file, tls.pins and tls.server_name"},
	{"verify",
	 "the broker's certificate is always verified; see tls.ca_file, tls.pins and tls.server_name"},
	{"retain", "events are never retained"},
	{"clean_session", "sessions are never kept: the spool keeps the events"},
	{"broker", "the brokers are a list; write brokers: [mqtts://HOST]"},
	{"port", "the port is part of the broker's URL: mqtts://HOST:PORT"},
	{"retention", "see spool.sent_age and spool.sent_size"},
	{"database", "write store: sqlite:///PATH or store: postgresql://HOST/DATABASE"},
	{"<<", "merge keys are not supported"},
};

/* --- looking it up */

const char *config_key_leaf(const char *path)
{
	const char *dot = strchr(path, '.');

	return dot ? dot + 1 : path;
}

bool config_key_is_known(const struct config_key *k, enum config_program program)
{
	return (k->programs ? k->programs : CONFIG_DAEMON) & program;
}

const struct config_key *config_key_find(enum config_program program, const char *path)
{
	for (size_t i = 0; i < CONFIG_N_KEYS; i++)
		if (config_key_is_known(&config_keys[i], program) &&
		    strcmp(config_keys[i].path, path) == 0)
			return &config_keys[i];
	return NULL;
}

bool config_section_exists(enum config_program program, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < CONFIG_N_KEYS; i++)
		if (config_key_is_known(&config_keys[i], program) &&
		    strncmp(config_keys[i].path, name, n) == 0 && config_keys[i].path[n] == '.')
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
		unsigned *row = rows[i % 3], *above = rows[(i - 1) % 3],
			 *before = rows[(i + 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			row[j] = best;
		}
	}
	return rows[na % 3][nb];
}

/* The key that was probably meant, or NULL. A key that stands in another section is near, too. */
static const char *key_nearest(enum config_program program, const char *path)
{
	const char *nearest = NULL, *dot = strchr(path, '.');
	unsigned best = strlen(config_key_leaf(path)) < 4   ? 2
			: strlen(config_key_leaf(path)) < 8 ? 3
							    : 4; /* must be less than this */

	for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
		const char *p = config_keys[i].path, *l = config_key_leaf(p);
		bool same_section = dot && strncmp(path, p, (size_t)(dot - path) + 1) == 0;
		unsigned d = distance(config_key_leaf(path), l) +
			     (same_section || (!dot && l == p) ? 0 : 1);

		if (!config_key_is_known(&config_keys[i], program))
			continue;
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

static void print_keys_of(FILE *f, enum config_program program, const char *section)
{
	size_t n = strlen(section);
	const char *separator = "", *last = NULL;

	for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
		const char *p = config_keys[i].path, *l = config_key_leaf(p);

		if (!config_key_is_known(&config_keys[i], program))
			continue;
		if (n ? strncmp(p, section, n) != 0 || p[n] != '.'
		      : l != p && last && strncmp(last, p, (size_t)(l - p)) == 0)
			continue;
		if (n || l == p)
			fprintf(f, "%s%s", separator, l);
		else
			fprintf(f, "%s%.*s", separator, (int)(l - p - 1), p);
		separator = ", ";
		last = p;
	}
}

void config_key_advise(FILE *f, enum config_program program, const char *section, const char *path)
{
	const char *nearest = key_nearest(program, path);

	for (size_t i = 0; i < ELEMENTSOF(not_keys); i++)
		if (strcmp(not_keys[i].name, config_key_leaf(path)) == 0) {
			fprintf(f, ": %s", not_keys[i].text);
			return;
		}
	if (nearest && !strchr(path, '.') && strchr(nearest, '.') &&
	    distance(path, config_key_leaf(nearest)) >
		    1 + strlen(path) / 3) { /* the section was meant */
		fprintf(f, "; did you mean '%.*s'?", (int)(config_key_leaf(nearest) - nearest - 1),
			nearest);
	} else if (nearest) {
		fprintf(f, "; did you mean '%s'?", nearest);
	} else {
		fputs("; allowed here: ", f);
		print_keys_of(f, program, section);
	}
}

const char *config_key_describe(const struct config_key *k, char *buf, size_t size)
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
		snprintf(buf, size,
			 "a duration from %" PRIu64 "%s to %" PRIu64 "%s, like 30s, 5m, 12h or 7d",
			 k->min, k->min ? "s" : "", k->max / duration_seconds[u],
			 duration_units[u]);
		break;
	}
	case TYPE_SIZE:
		snprintf(buf, size, "a size, like 512M or 1G (K, M, G, T are powers of 1024)");
		break;
	case TYPE_BOOLEAN:
		snprintf(buf, size, "true or false");
		break;
	case TYPE_CHOICE:
		for (const struct config_choice *c = k->choices; c->name; c++)
			n += (size_t)snprintf(buf + n, size - n, "%s%s",
					      c == k->choices ? ""
					      : c[1].name     ? ", "
							      : " or ",
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

void config_print_keys(FILE *f, enum config_program program)
{
	char buf[256];

	for (size_t i = 0; i < CONFIG_N_KEYS; i++) {
		const struct config_key *k = &config_keys[i];

		if (!config_key_is_known(k, program))
			continue;
		fprintf(f, "%s (%s, default: %s)\n    %s", k->path, type_names[k->type],
			k->fallback    ? k->fallback
			: k->otherwise ? k->otherwise
				       : "none",
			k->help);
		if (k->type == TYPE_INTEGER || k->type == TYPE_DURATION || k->type == TYPE_SIZE ||
		    k->type == TYPE_CHOICE)
			fprintf(f, "\n    %s", config_key_describe(k, buf, sizeof(buf)));
		fputc('\n', f);
	}
}

/* --- checks of single values */

static const char *check_host(const char *value)
{
	return strlen(value) <= TOPIC_HOST_MAX ? NULL : "a host name is at most 255 bytes";
}

static const char *check_client_id(const char *value)
{
	return strlen(value) <= 1024 ? NULL : "a client id is at most 1024 bytes";
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

	for (const char *c = value + strlen("sha256:"); strncasecmp(value, "sha256:", 7) == 0 && *c;
	     c++)
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

bool config_dns_name(const char *s)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	size_t n = strlen(s);

	return n > 0 && n <= NAME_MAX_LENGTH && strspn(s, allowed) == n && s[0] != '.' &&
	       s[0] != '-';
}

/* An address as it stands in a URL's brackets: IPv6, perhaps with a zone. */
bool config_ipv6_address(const char *s)
{
	char address[INET6_ADDRSTRLEN];
	struct in6_addr in6;
	size_t n = strcspn(s, "%");

	if (n >= sizeof(address) ||
	    (s[n] && (!config_dns_name(s + n + 1) || strlen(s + n + 1) >= IF_NAMESIZE)))
		return false;
	memcpy(address, s, n);
	address[n] = 0;
	return inet_pton(AF_INET6, address, &in6) == 1;
}

/* RFC 7301 section 3.1 */
static const char *check_alpn(const char *value)
{
	size_t n = strlen(value);

	return n >= 1 && n <= 255 ? NULL : "a protocol's name has 1 to 255 bytes";
}

static const char *check_server_name(const char *value)
{
	return config_dns_name(value) || config_ipv6_address(value)
		       ? NULL
		       : "allowed: a DNS name or an IP address";
}

static const char *check_glob(const char *value)
{
	return strlen(value) <= 256 ? NULL : "a pattern is at most 256 bytes";
}

static const char *check_store(const char *value)
{
	const char *authority = strstr(value, "://"), *at;

	if (strncmp(value, "sqlite:///", 10) == 0 && value[strlen(value) - 1] != '/')
		return NULL;
	if (strncmp(value, "postgresql://", 13) != 0 && strncmp(value, "postgres://", 11) != 0)
		return "allowed: sqlite:///PATH or postgresql://HOST/DATABASE";
	authority += 3;
	at = memchr(authority, '@', strcspn(authority, "/"));
	if ((at && memchr(authority, ':', (size_t)(at - authority))) || strstr(value, "password="))
		return "secrets do not belong here; name a file with ?passfile=/etc/virtspool/pgpass";
	return NULL;
}

/* Whoever writes 90 means days, and would lose all that is older than 90 seconds. */
static const char *check_retention(const char *value)
{
	return value[strspn(value, "0123456789")] || strcmp(value, "0") == 0
		       ? NULL
		       : "write a unit, as in 90d or 12h";
}

static const char *check_listen(const char *value)
{
	struct sockaddr_storage address;
	socklen_t size;

	return address_parse(value, &address, &size)
		       ? NULL
		       : "expected ADDRESS:PORT, like 127.0.0.1:8480, [::1]:8480 or 0.0.0.0:8480, or none";
}

static const char *check_share(const char *value)
{
	return value[strcspn(value, "/+#")] || strlen(value) > 128
		       ? "a group's name is at most 128 bytes, without / + #"
		       : NULL;
}
