/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool-recorder init - the first minute: an authority, the recorder's configuration, what the
 * broker needs, and one bundle for each host.
 *
 * Everything lies below one directory:
 *
 *	recorder.yaml, ca.pem, recorder.pem, recorder.key	the recorder's
 *	authority/ca.key	signs; root's alone
 *	authority/hosts		the hosts that have a bundle, one a line
 *	broker/			certificate, key and access list, for etc/brokers' examples
 *	bundles/HOST.bundle	for `virtspool join`
 *
 * A second run makes bundles for more hosts and keeps what is there. An authority, once made, is
 * never replaced.
 */
#include <argp.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "spooler/base/atomic-file.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/config/config.h"
#include "spooler/mqtt/bundle.h"
#include "spooler/recorder/authority.h"
#include "spooler/recorder/command.h"
#include "spooler/recorder/page.h"

#define USER "virtspool-recorder"
#define NAME "recorder" /* the common name of its certificate, which is its user at the broker */
#define FILE_MAX_SIZE (256 * 1024)
#define HOSTS_MAX 10000
#define TOPICS "virtspool/v1/"

enum broker_kind { BROKER_MOSQUITTO, BROKER_RABBITMQ, BROKER_EMQX, N_BROKERS };
static const char *const kind_names[] = {"mosquitto", "rabbitmq", "emqx"};

struct init {
	const char *directory, *store, *ca_certificate, *ca_key;
	const char *brokers[BUNDLE_BROKERS_MAX];
	size_t n_brokers;
	int kind;
	char **hosts; /* new ones */
	size_t n_hosts;
	char **known; /* all that have a bundle, sorted by age */
	size_t n_known;
	struct authority *authority;
	gid_t group;
	bool ask; /* stdin is a terminal */
};

enum { OPTION_INIT_CA = 0x3000, OPTION_INIT_CA_KEY, OPTION_INIT_KIND, OPTION_INIT_STORE };

static const struct argp_option options[] = {
	{"broker", 'b', "URL", 0, "mqtts://HOST[:PORT], as hosts reach it; may be repeated", 0},
	{"broker-kind", OPTION_INIT_KIND, "KIND", 0, "mosquitto, rabbitmq or emqx [mosquitto]", 0},
	{"ca-certificate", OPTION_INIT_CA, "FILE", 0, "use this authority instead of a new one", 0},
	{"ca-key", OPTION_INIT_CA_KEY, "FILE", 0, "its key", 0},
	{"directory", 'd', "DIR", 0, "where everything is put [" CONFIGDIR "]", 0},
	{"store", OPTION_INIT_STORE, "URL", 0,
	 "the store [sqlite:///var/lib/virtspool/recorder.db]", 0},
	{0},
};

static int find_kind(const char *name)
{
	for (int i = 0; i < N_BROKERS; i++)
		if (strcmp(kind_names[i], name) == 0)
			return i;
	return -1;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct init *x = state->input;

	switch (key) {
	case 'b':
		if (x->n_brokers == BUNDLE_BROKERS_MAX)
			argp_error(state, "too many brokers");
		x->brokers[x->n_brokers++] = arg;
		return 0;
	case 'd':
		x->directory = arg;
		return 0;
	case OPTION_INIT_CA:
		x->ca_certificate = arg;
		return 0;
	case OPTION_INIT_CA_KEY:
		x->ca_key = arg;
		return 0;
	case OPTION_INIT_STORE:
		x->store = arg;
		return 0;
	case OPTION_INIT_KIND:
		x->kind = find_kind(arg);
		if (x->kind < 0)
			argp_error(
				state,
				"'%s' is not a kind of broker; choose mosquitto, rabbitmq or emqx",
				arg);
		return 0;
	case ARGP_KEY_ARGS:
		x->hosts = state->argv + state->next;
		x->n_hosts = (size_t)(state->argc - state->next);
		return 0;
	case ARGP_KEY_END:
		if (!x->ca_certificate != !x->ca_key)
			argp_error(state, "--ca-certificate and --ca-key belong together");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* --- files */

static int failure(const char *what, const char *path, int error)
{
	log_error("cannot %s '%s': %s", what, path, strerror(-error));
	return error == -EACCES || error == -EPERM ? EX_NOPERM : EX_CANTCREAT;
}

/* directory/name; to be freed. */
static char *path_of(const struct init *x, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", x->directory, name) < 0 ? NULL : path;
}

static int make_directory(const struct init *x, const char *name, unsigned mode)
{
	_cleanup_free_ char *path = path_of(x, name);

	if (!path)
		return EX_OSERR;
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return failure("make", path, -errno);
	return EX_OK;
}

static int write_file(const struct init *x, const char *name, const char *text, unsigned mode,
		      gid_t group)
{
	_cleanup_free_ char *path = path_of(x, name), *dir = NULL, *new = NULL, *temporary = NULL;
	const char *base;
	int r;

	if (!path)
		return EX_OSERR;
	base = strrchr(path, '/') + 1;
	dir = strndup(path, (size_t)(base - 1 - path));
	if (!dir || asprintf(&temporary, ".%s.new", base) < 0 ||
	    asprintf(&new, "%s/%s", dir, temporary) < 0)
		return EX_OSERR;
	r = atomic_file_write(dir, temporary, text, strlen(text), 0600);
	if (r < 0)
		return failure("write", path, r);
	/* It belongs to whom it shall before it can be found. */
	if ((geteuid() == 0 && chown(new, 0, group) < 0) || chmod(new, mode) < 0 ||
	    rename(new, path) < 0) {
		r = -errno;
		(void)unlink(new);
		return failure("write", path, r);
	}
	return EX_OK;
}

/* NULL with errno: it cannot be read. */
static char *read_file(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = calloc(1, FILE_MAX_SIZE + 1);
	size_t size = 0;
	ssize_t n = 0;

	while (fd >= 0 && text && size < FILE_MAX_SIZE &&
	       (n = read(fd, text + size, FILE_MAX_SIZE - size)) > 0)
		size += (size_t)n;
	if (fd >= 0 && text && n >= 0)
		return text;
	n = errno;
	free(text);
	errno = (int)n;
	return NULL;
}

static bool exists(const struct init *x, const char *name)
{
	_cleanup_free_ char *path = path_of(x, name);

	return path && access(path, F_OK) == 0;
}

/* A copy of a configuration that is shipped as an example, or NULL. */
static char *example_new(const char *name)
{
	for (size_t i = 0; i < examples_n; i++)
		if (strcmp(examples[i].path, name) == 0)
			return strndup((const char *)examples[i].data, examples[i].size);
	return NULL;
}

/* There is a recorder.yaml that somebody has written, and not only the package. */
static bool is_configured(const struct init *x)
{
	_cleanup_free_ char *path = path_of(x, "recorder.yaml"), *text = NULL, *example = NULL;

	if (!exists(x, "recorder.yaml"))
		return false;
	text = path ? read_file(path) : NULL;
	example = example_new("recorder.yaml");
	return !text || !example || strcmp(text, example) != 0;
}

/* --- questions */

/* An answer from the terminal, or the fallback; to be freed. */
static char *ask(const char *question, const char *fallback)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t n;

	fprintf(stderr, "%s%s%s%s: ", question, fallback ? " [" : "", fallback ? fallback : "",
		fallback ? "]" : "");
	n = getline(&line, &size, stdin);
	if (n > 0 && line[n - 1] == '\n')
		line[--n] = 0;
	if (n > 0)
		return line;
	free(line);
	return fallback ? strdup(fallback) : NULL;
}

static int ask_broker(struct init *x)
{
	_cleanup_free_ char *fallback = NULL;
	char name[256] = "localhost";

	if (x->n_brokers)
		return EX_OK;
	if (!x->ask) {
		log_error(
			"missing --broker mqtts://HOST[:PORT]: the broker's address as hosts reach it");
		return EX_USAGE;
	}
	(void)gethostname(name, sizeof(name) - 1);
	if (asprintf(&fallback, "mqtts://%s:8883", name) < 0)
		return EX_OSERR;
	x->brokers[x->n_brokers++] = ask("The broker, as hosts reach it", fallback);
	return EX_OK;
}

/* --- hosts */

/* Characters that a topic, an access list and a file's name can hold without doubt. */
static const char *check_host(const struct init *x, const char *host)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

	if (!*host || strlen(host) > 64 || strspn(host, plain) != strlen(host) || *host == '.' ||
	    *host == '-')
		return "a host name is at most 64 letters, digits, '-', '_' and '.'";
	if (strcmp(host, NAME) == 0 || strcmp(host, "broker") == 0)
		return "this name is already used by another certificate";
	if (x->kind == BROKER_RABBITMQ && strchr(host, '.'))
		return "RabbitMQ takes a dot in a topic for a slash: use the name without its domain";
	return NULL;
}

static bool is_known(const struct init *x, const char *host)
{
	for (size_t i = 0; i < x->n_known; i++)
		if (strcmp(x->known[i], host) == 0)
			return true;
	return false;
}

static int add_known(struct init *x, const char *host)
{
	char **list = reallocarray(x->known, x->n_known + 1, sizeof(*list));

	if (list)
		x->known = list;
	if (!list || x->n_known == HOSTS_MAX || !(list[x->n_known] = strdup(host)))
		return EX_OSERR;
	x->n_known++;
	return EX_OK;
}

static int read_known(struct init *x)
{
	_cleanup_free_ char *path = path_of(x, "authority/hosts"),
			    *text = path ? read_file(path) : NULL;
	char *rest = text;

	for (char *host; rest && (host = strsep(&rest, "\n"));)
		if (*host && add_known(x, host) != EX_OK)
			return EX_OSERR;
	return EX_OK;
}

static int write_known(const struct init *x)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	for (size_t i = 0; f && i < x->n_known; i++)
		fprintf(f, "%s\n", x->known[i]);
	return f && fclose(f) == 0 ? write_file(x, "authority/hosts", text, 0600, 0) : EX_OSERR;
}

/* --- the authority */

static int load_authority(struct init *x, const char *certificate, const char *key)
{
	_cleanup_free_ char *c = read_file(certificate), *k = NULL, *error = NULL;
	int r;

	if (!c)
		return failure("read", certificate, -errno);
	k = read_file(key);
	if (!k)
		return failure("read", key, -errno);
	r = authority_load(c, k, &x->authority, &error);
	explicit_bzero(k, strlen(k));
	if (r < 0)
		log_error("'%s' and '%s': %s", certificate, key, error ? error : strerror(-r));
	return r < 0 ? EX_DATAERR : EX_OK;
}

static int make_authority(struct init *x)
{
	_cleanup_free_ char *name = NULL, *error = NULL;
	char host[65] = "";
	int r;

	(void)gethostname(host, sizeof(host) - 1);
	if (asprintf(&name, "virtspool authority %.40s", host) < 0)
		return EX_OSERR;
	if (authority_new(name, &x->authority, &error) < 0) {
		log_error("%s", error ? error : "out of memory");
		return EX_SOFTWARE;
	}
	r = write_file(x, "authority/ca.key", authority_key(x->authority), 0600, 0);
	if (r == EX_OK)
		r = write_file(x, "authority/ca.pem", authority_certificate(x->authority), 0644, 0);
	if (r == EX_OK)
		printf("authority   %s/authority/ca.key signs; keep a copy where it is safe\n",
		       x->directory);
	return r;
}

static int find_authority(struct init *x)
{
	_cleanup_free_ char *certificate = path_of(x, "authority/ca.pem"),
			    *key = path_of(x, "authority/ca.key");

	if (!certificate || !key)
		return EX_OSERR;
	if (exists(x, "authority/ca.key")) {
		if (x->ca_key) {
			log_error(
				"'%s' is there already; another authority needs another --directory",
				key);
			return EX_USAGE;
		}
		return load_authority(x, certificate, key);
	}
	return x->ca_key ? load_authority(x, x->ca_certificate, x->ca_key) : make_authority(x);
}

/* Issues NAME.pem and NAME.key into a directory, unless they are there. */
static int issue(const struct init *x, const char *directory, const char *name,
		 const char *const *names, size_t n_names, unsigned key_mode, gid_t group)
{
	_cleanup_free_ char *certificate = NULL, *key = NULL, *error = NULL, *c = NULL, *k = NULL;
	int r;

	if (asprintf(&c, "%s%s.pem", directory, name) < 0 ||
	    asprintf(&k, "%s%s.key", directory, name) < 0)
		return EX_OSERR;
	if (exists(x, c) && exists(x, k))
		return EX_OK;
	if (authority_issue(x->authority, name, names, n_names, &certificate, &key, &error) < 0) {
		log_error("%s", error ? error : "out of memory");
		return EX_SOFTWARE;
	}
	r = write_file(x, k, key, key_mode, group);
	explicit_bzero(key, strlen(key));
	return r == EX_OK ? write_file(x, c, certificate, 0644, 0) : r;
}

/* --- the recorder */

static char *config_text(const struct init *x)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	fputs("# virtspool-recorder: keys are documented in recorder.yaml(5). Made by `virtspool-recorder init`.\n",
	      f);
	if (x->store)
		fprintf(f, "store: \"%s\"\n", x->store);
	fputs("\nbrokers:\n", f);
	for (size_t i = 0; i < x->n_brokers; i++)
		fprintf(f, "  - %s\n", x->brokers[i]);
	fprintf(f, "\nmqtt:\n  version: %s\n  client_id: " NAME "\n",
		x->kind == BROKER_RABBITMQ ? "3.1.1" : "5");
	fprintf(f,
		"\ntls:\n  ca_file: \"%s/ca.pem\"\n  certificate_file: \"%s/" NAME
		".pem\"\n  key_file: \"%s/" NAME ".key\"\n",
		x->directory, x->directory, x->directory);
	return fclose(f) == 0 ? text : NULL;
}

static int make_recorder(const struct init *x)
{
	_cleanup_free_ char *text = config_text(x);
	int r = issue(x, "", NAME, NULL, 0, 0640, x->group);

	if (r == EX_OK)
		r = write_file(x, "ca.pem", authority_certificate(x->authority), 0644, 0);
	if (r != EX_OK || is_configured(x))
		return r;
	r = text ? write_file(x, "recorder.yaml", text, 0644, 0) : EX_OSERR;
	if (r == EX_OK)
		printf("recorder    %s/recorder.yaml: broker %s\n", x->directory, x->brokers[0]);
	return r;
}

/* A second run takes the brokers of the first. */
static int read_recorder(struct init *x)
{
	_cleanup_free_ char *path = path_of(x, "recorder.yaml");
	struct config *c = NULL;

	if (!path || !is_configured(x))
		return ask_broker(x);
	if (config_load_for(CONFIG_RECORDER, path, stderr, &c) < 0)
		return EX_CONFIG;
	if (c->mqtt.version == 3)
		x->kind = BROKER_RABBITMQ;
	for (size_t i = 0; i < c->n_brokers && i < BUNDLE_BROKERS_MAX && !x->ca_key; i++)
		x->brokers[i] = strdup(c->brokers[i].url);
	x->n_brokers = c->n_brokers < BUNDLE_BROKERS_MAX ? c->n_brokers : BUNDLE_BROKERS_MAX;
	config_free(c);
	return EX_OK;
}

/* --- the broker: what etc/brokers' examples name */

static void print_mosquitto(const struct init *x, FILE *f)
{
	fputs("# Made by `virtspool-recorder init`. What each certificate's CN may do; who is not listed may do nothing.\n"
	      "user " NAME "\ntopic read " TOPICS "#\n",
	      f);
	for (size_t i = 0; i < x->n_known; i++)
		fprintf(f, "\nuser %s\ntopic write " TOPICS "%s/#\n", x->known[i], x->known[i]);
}

static void print_rabbitmq(const struct init *x, FILE *f)
{
	static const char *const consumer =
		"    {\"user\": \"" NAME
		"\", \"vhost\": \"virtspool\", \"configure\": \"^mqtt-subscription-" NAME "\",\n"
		"     \"write\": \"^mqtt-subscription-" NAME
		"\", \"read\": \"^(mqtt-subscription-" NAME ".*|amq\\\\.topic)$\"}";

	fputs("{\n  \"vhosts\": [{\"name\": \"virtspool\"}],\n  \"users\": [\n", f);
	for (size_t i = 0; i <= x->n_known; i++)
		fprintf(f,
			"    {\"name\": \"%s\", \"password_hash\": \"\", \"hashing_algorithm\": "
			"\"rabbit_password_hashing_sha256\", \"tags\": \"\"}%s\n",
			i < x->n_known ? x->known[i] : NAME, i < x->n_known ? "," : "");
	fputs("  ],\n  \"permissions\": [\n", f);
	for (size_t i = 0; i < x->n_known; i++)
		fprintf(f,
			"    {\"user\": \"%s\", \"vhost\": \"virtspool\", \"configure\": \"^$\", \"write\": "
			"\"^amq\\\\.topic$\", \"read\": \"^$\"},\n",
			x->known[i]);
	fprintf(f, "%s\n  ],\n  \"topic_permissions\": [\n", consumer);
	for (size_t i = 0; i < x->n_known; i++)
		fprintf(f,
			"    {\"user\": \"%s\", \"vhost\": \"virtspool\", \"exchange\": \"amq.topic\", \"read\": \"^$\",\n"
			"     \"write\": \"^virtspool\\\\.v1\\\\.{username}\\\\.(status|[a-z]+\\\\.(-|[0-9a-f-]{36})\\\\.[^.]+)$\"},\n",
			x->known[i]);
	fputs("    {\"user\": \"" NAME
	      "\", \"vhost\": \"virtspool\", \"exchange\": \"amq.topic\", \"write\": \"^$\", "
	      "\"read\": \"^virtspool\\\\.v1\\\\.\"}\n  ],\n"
	      "  \"policies\": [\n    {\"vhost\": \"virtspool\", \"name\": \"bound\", \"pattern\": \"^mqtt-subscription-\", "
	      "\"apply-to\": \"queues\",\n     \"definition\": {\"max-length-bytes\": 1073741824, \"overflow\": "
	      "\"drop-head\"}, \"priority\": 0}\n  ]\n}\n",
	      f);
}

static void print_emqx(const struct init *x, FILE *f)
{
	fputs("%% Made by `virtspool-recorder init`. What each certificate's CN may do: the first rule that fits decides.\n"
	      "{allow, {username, \"" NAME "\"}, subscribe, [\"" TOPICS "#\"]}.\n"
	      "{deny, {username, \"" NAME "\"}, all, [\"#\"]}.\n",
	      f);
	for (size_t i = 0; i < x->n_known; i++)
		fprintf(f,
			"{allow, {username, \"%s\"}, publish, [\"" TOPICS "%s/status\"]}.\n"
			"{allow, {username, \"%s\"}, {publish, [{retain, false}]}, [\"" TOPICS
			"%s/#\"]}.\n",
			x->known[i], x->known[i], x->known[i], x->known[i]);
	fputs("{deny, all}.\n", f);
}

static const struct {
	const char *list; /* the access list's name, in broker/ */
	void (*print)(const struct init *x, FILE *f);
	const char *directory; /* where the example looks for these files */
	const char *group;
	const char *examples[2]; /* of etc/brokers; copies are in broker/ */
	const char *to;		 /* where the broker reads the first */
	const char *activate;	 /* the first time */
	const char *reload;	 /* after hosts were added */
} brokers[] = {
	{"acl",
	 print_mosquitto,
	 "/etc/mosquitto/virtspool",
	 "mosquitto",
	 {"mosquitto.conf"},
	 "/etc/mosquitto/conf.d/virtspool.conf",
	 "systemctl restart mosquitto",
	 "systemctl reload mosquitto"},
	{"definitions.json",
	 print_rabbitmq,
	 "/etc/rabbitmq/virtspool",
	 "rabbitmq",
	 {"rabbitmq.conf"},
	 "/etc/rabbitmq/rabbitmq.conf",
	 "rabbitmq-plugins enable rabbitmq_mqtt && systemctl restart rabbitmq-server",
	 "rabbitmqctl import_definitions /etc/rabbitmq/virtspool/definitions.json"},
	{"acl.conf",
	 print_emqx,
	 "/etc/emqx/virtspool",
	 "emqx",
	 {"emqx.conf", "emqx-base.hocon"},
	 "/etc/emqx/virtspool.conf",
	 "cat /etc/emqx/virtspool.conf >>/etc/emqx/emqx.conf &&\n"
	 "    cat /etc/emqx/virtspool/emqx-base.hocon >>/etc/emqx/base.hocon && systemctl restart emqx",
	 "systemctl restart emqx"},
};

/* The admin may have edited one that is there. */
static int make_example(const struct init *x, const char *example)
{
	_cleanup_free_ char *name = NULL, *text = example_new(example);

	if (!text || asprintf(&name, "broker/%s", example) < 0)
		return EX_OSERR;
	return exists(x, name) ? EX_OK : write_file(x, name, text, 0644, 0);
}

static int make_broker(const struct init *x)
{
	_cleanup_free_ char *list = NULL, *name = NULL;
	const char *names[BUNDLE_BROKERS_MAX];
	char hosts[BUNDLE_BROKERS_MAX][256];
	size_t size;
	FILE *f = open_memstream(&list, &size);
	int r;

	if (!f)
		return EX_OSERR;
	brokers[x->kind].print(x, f);
	if (fclose(f) != 0 || asprintf(&name, "broker/%s", brokers[x->kind].list) < 0)
		return EX_OSERR;
	for (size_t i = 0; i < x->n_brokers; i++) {
		const char *begin = strstr(x->brokers[i], "://") + 3;
		bool bracket = *begin == '[';

		begin += bracket;
		(void)snprintf(hosts[i], sizeof(hosts[i]), "%.*s",
			       (int)strcspn(begin, bracket ? "]" : ":/"), begin);
		names[i] = hosts[i];
	}
	r = issue(x, "broker/", "broker", names, x->n_brokers, 0600, 0);
	if (r == EX_OK)
		r = write_file(x, "broker/ca.pem", authority_certificate(x->authority), 0644, 0);
	for (size_t i = 0; i < 2 && brokers[x->kind].examples[i] && r == EX_OK; i++)
		r = make_example(x, brokers[x->kind].examples[i]);
	return r == EX_OK ? write_file(x, name, list, 0600, 0) : r;
}

static void print_broker(const struct init *x, bool first)
{
	const char *to = brokers[x->kind].directory, *group = brokers[x->kind].group;

	printf("\nOn the broker's machine (here %s/broker):\n\n", x->directory);
	if (first)
		printf("    install -d -g %s -m 750 %s\n"
		       "    install -g %s -m 640 %s/broker/* %s\n"
		       "    cp %s/broker/%s %s\n    %s\n",
		       group, to, group, x->directory, to, x->directory,
		       brokers[x->kind].examples[0], brokers[x->kind].to,
		       brokers[x->kind].activate);
	else
		printf("    install -g %s -m 640 %s/broker/%s %s\n    %s\n", group, x->directory,
		       brokers[x->kind].list, to, brokers[x->kind].reload);
	if (first)
		printf("\nHere:\n\n    systemctl enable --now virtspool-recorder\n");
}

/* --- bundles */

static int make_bundle(struct init *x, const char *host)
{
	struct bundle b = {.host = (char *)(uintptr_t)host,
			   .n_brokers = x->n_brokers,
			   .mqtt_version = x->kind == BROKER_RABBITMQ ? 3 : 5};
	_cleanup_free_ char *error = NULL, *name = NULL, *text = NULL;
	int r;

	for (size_t i = 0; i < x->n_brokers; i++)
		b.brokers[i] = (char *)(uintptr_t)x->brokers[i];
	if (authority_issue(x->authority, host, NULL, 0, &b.certificate, &b.key, &error) < 0) {
		log_error("%s", error ? error : "out of memory");
		return EX_SOFTWARE;
	}
	b.authorities = (char *)(uintptr_t)authority_certificate(x->authority);
	text = bundle_format(&b);
	r = text && asprintf(&name, "bundles/%s.bundle", host) >= 0
		    ? write_file(x, name, text, 0600, 0)
		    : EX_OSERR;
	if (text)
		explicit_bzero(text, strlen(text));
	explicit_bzero(b.key, strlen(b.key));
	free(b.key);
	free(b.certificate);
	return r == EX_OK && !is_known(x, host) ? add_known(x, host) : r;
}

static int make_bundles(struct init *x)
{
	int r = EX_OK;

	for (size_t i = 0; i < x->n_hosts && r == EX_OK; i++) {
		const char *why = check_host(x, x->hosts[i]);

		if (why) {
			log_error("'%s': %s", x->hosts[i], why);
			return EX_USAGE;
		}
	}
	for (size_t i = 0; i < x->n_hosts && r == EX_OK; i++)
		r = make_bundle(x, x->hosts[i]);
	return r == EX_OK ? write_known(x) : r;
}

static void print_hosts(const struct init *x)
{
	if (x->n_hosts)
		printf("\nFor each host, its bundle and then one command on it. A bundle holds a key: copy it by ssh, and remove "
		       "it.\n\n");
	for (size_t i = 0; i < x->n_hosts; i++)
		printf("    scp %s/bundles/%s.bundle root@%s: && ssh root@%s virtspool join %s.bundle\n",
		       x->directory, x->hosts[i], x->hosts[i], x->hosts[i], x->hosts[i]);
	if (!x->n_hosts)
		printf("\nFor each host: virtspool-recorder init HOST\n");
}

/* --- all of it */

static int check_brokers(const struct init *x)
{
	for (size_t i = 0; i < x->n_brokers; i++)
		if (!x->brokers[i] || strncmp(x->brokers[i], "mqtts://", 8) != 0 ||
		    !x->brokers[i][8] || strpbrk(x->brokers[i], " \t\"'#\\")) {
			log_error("'%s' is not a broker's address; expected mqtts://HOST[:PORT]",
				  x->brokers[i] ? x->brokers[i] : "");
			return EX_USAGE;
		}
	return EX_OK;
}

/* Words of an answer. */
static int ask_hosts(struct init *x)
{
	char *line = NULL, *word;

	if (x->n_hosts || !x->ask)
		return EX_OK;
	line = ask("Names of the hosts that will report, separated by blanks", NULL);
	x->hosts = calloc(HOSTS_MAX, sizeof(*x->hosts));
	while (x->hosts && line && (word = strsep(&line, " \t,")) && x->n_hosts < HOSTS_MAX)
		if (*word)
			x->hosts[x->n_hosts++] = word;
	return x->hosts ? EX_OK : EX_OSERR;
}

static int make_all(struct init *x)
{
	bool first = !is_configured(x);
	int r = read_recorder(x);

	if (r == EX_OK)
		r = check_brokers(x);
	if (r == EX_OK)
		r = ask_hosts(x);
	if (r == EX_OK)
		r = make_directory(x, "", 0755);
	if (r == EX_OK)
		r = make_directory(x, "authority", 0700);
	if (r == EX_OK)
		r = make_directory(x, "broker", 0700);
	if (r == EX_OK)
		r = make_directory(x, "bundles", 0700);
	if (r == EX_OK)
		r = read_known(x);
	if (r == EX_OK)
		r = find_authority(x);
	if (r == EX_OK)
		r = make_recorder(x);
	if (r == EX_OK)
		r = make_bundles(x);
	if (r == EX_OK)
		r = make_broker(x);
	if (r != EX_OK)
		return r;
	print_broker(x, first);
	print_hosts(x);
	return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
}

int cmd_init(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[HOST...]",
		.doc = "Makes a certificate authority, the recorder's configuration, what the broker needs, and a bundle "
		       "for each HOST. Without --broker or HOST it asks.\v"
		       "Run it again to add hosts: what is there is kept.",
	};
	struct init x = {.directory = CONFIGDIR, .ask = isatty(STDIN_FILENO)};
	const struct passwd *user = getpwnam(USER);
	int r;

	if (argp_parse(&argp, argc, argv, 0, NULL, &x) != 0)
		return EX_USAGE;
	x.group = user ? user->pw_gid : 0;
	if (geteuid() == 0 && !user)
		log_warning("there is no user '" USER "': after installing the package, chgrp " USER
			    " %s/" NAME ".key",
			    x.directory);
	r = make_all(&x);
	for (size_t i = 0; i < x.n_known; i++)
		free(x.known[i]);
	free(x.known);
	authority_free(x.authority);
	return r;
}
