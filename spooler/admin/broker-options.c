/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* broker-options - see broker-options.h. */
#include <stdio.h>

#include "hook/spool.h"
#include "spooler/admin/broker-options.h"
#include "spooler/admin/command.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/spool/status-file.h"

#define NO_CONFIG "the command line"

enum { CA_FILE = 256, CERT, KEY, PASSWORD_FILE, PROTOCOL_VERSION, FORCE };

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0,
	 "take brokers, mqtt and tls from this configuration [" CONFIG_FILE "]", 0},
	{"broker", 'h', "HOST", 0, "connect to this broker; no configuration is needed then", 0},
	{"port", 'p', "PORT", 0, "[8883 with TLS, otherwise 1883]", 0},
	{"cafile", CA_FILE, "FILE", 0,
	 "use TLS; CA certificates (PEM) that the broker's certificate must chain to", 0},
	{"cert", CERT, "FILE", 0, "use TLS; client certificate (PEM)", 0},
	{"key", KEY, "FILE", 0, "its key (PEM)", 0},
	{"id", 'i', "ID", 0, "client id [a random one]", 0},
	{"username", 'u', "NAME", 0, "user name for the broker", 0},
	{"password-file", PASSWORD_FILE, "FILE", 0, "file with its password", 0},
	{"protocol-version", PROTOCOL_VERSION, "5|3.1.1", 0, "MQTT version [5]", 0},
	{"force", FORCE, NULL, 0, "allow the identity of the virtspoold that runs here", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct broker_options *o = state->input;

	switch (key) {
	case 'c':
		o->config = arg;
		return 0;
	case 'h':
		o->host = arg;
		return 0;
	case 'p':
		o->port = arg;
		return 0;
	case 'i':
		o->client_id = arg;
		return 0;
	case 'u':
		o->username = arg;
		return 0;
	case CA_FILE:
		o->ca_file = arg;
		return 0;
	case CERT:
		o->certificate_file = arg;
		return 0;
	case KEY:
		o->key_file = arg;
		return 0;
	case PASSWORD_FILE:
		o->password_file = arg;
		return 0;
	case PROTOCOL_VERSION:
		if (strcmp(arg, "5") != 0 && strcmp(arg, "3.1.1") != 0)
			argp_error(state, "--protocol-version: '%s' is not 5 or 3.1.1", arg);
		o->version = arg;
		return 0;
	case FORCE:
		o->force = true;
		return 0;
	case ARGP_KEY_END:
		if (o->port && !o->host)
			argp_error(state, "--port needs a broker (-h)");
		if (!o->certificate_file != !o->key_file)
			argp_error(state, "--cert and --key belong together");
		if (o->password_file && !o->username)
			argp_error(state, "--password-file needs --username");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

const struct argp broker_options_argp = {.options = options, .parser = parse};

/* --- the configuration */

/* A value in YAML's double quotes. */
static void put_quoted(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f) {
			fprintf(f, "\\x%02x", (unsigned char)*text);
			continue;
		}
		if (*text == '"' || *text == '\\')
			fputc('\\', f);
		fputc(*text, f);
	}
	fputc('"', f);
}

static void put_key(FILE *f, const char *key, const char *value)
{
	if (!value)
		return;
	fprintf(f, "  %s: ", key);
	put_quoted(f, value);
	fputc('\n', f);
}

static bool uses_tls(const struct broker_options *o)
{
	return o->ca_file || o->certificate_file || (o->port && strcmp(o->port, "8883") == 0);
}

static char *absolute(const char *path)
{
	return path ? realpath(path, NULL) : NULL;
}

/* As the text of a configuration file, so that it is checked like one. */
static int write_config(const struct broker_options *o, FILE *f)
{
	const char *files[][2] = {
		{"ca_file", o->ca_file},
		{"certificate_file", o->certificate_file},
		{"key_file", o->key_file},
	};
	const char *port = o->port ? o->port : uses_tls(o) ? "8883" : "1883";
	_cleanup_free_ char *url = NULL, *password = absolute(o->password_file);

	if (asprintf(&url, strchr(o->host, ':') ? "%s://[%s]:%s" : "%s://%s:%s",
		     uses_tls(o) ? "mqtts" : "mqtt", o->host, port) < 0)
		return -ENOMEM;
	fputs("brokers:\n  - ", f);
	put_quoted(f, url);
	fprintf(f, "\nmqtt:\n  version: %s\n", o->version ? o->version : "5");
	put_key(f, "client_id", o->client_id);
	put_key(f, "username", o->username);
	put_key(f, "password_file", password ? password : o->password_file);
	fputs("tls:\n  minimum_version: 1.2\n", f);
	for (size_t i = 0; i < ELEMENTSOF(files); i++) {
		_cleanup_free_ char *path = absolute(files[i][1]);

		put_key(f, files[i][0], path ? path : files[i][1]);
	}
	return ferror(f) ? -ENOMEM : 0;
}

static int load_from_options(const struct broker_options *o, struct config **ret_config)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int r = f ? write_config(o, f) : -ENOMEM;

	if (f && fclose(f) != 0)
		r = -ENOMEM;
	if (r < 0)
		return r;
	return config_parse(NO_CONFIG, text, size, stderr, ret_config);
}

static int replace(char **value, const char *given)
{
	char *copy;

	if (!given)
		return 0;
	copy = realpath(given, NULL);
	copy = copy ? copy : strdup(given);
	if (!copy)
		return -ENOMEM;
	free(*value);
	*value = copy;
	return 0;
}

static int replace_all(const struct broker_options *o, struct config *c)
{
	int r = replace(&c->tls.ca_file, o->ca_file);

	if (r >= 0)
		r = replace(&c->tls.certificate_file, o->certificate_file);
	if (r >= 0)
		r = replace(&c->tls.key_file, o->key_file);
	if (r >= 0)
		r = replace(&c->mqtt.password_file, o->password_file);
	if (r >= 0 && o->username) {
		free(c->mqtt.username);
		c->mqtt.username = strdup(o->username);
		r = c->mqtt.username ? 0 : -ENOMEM;
	}
	if (o->version)
		c->mqtt.version = strcmp(o->version, "5") == 0 ? 5 : 3;
	return r;
}

/* --- who it is */

static bool same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/* What a broker could take both for one client. NULL: nothing. */
static const char *shared_identity(const struct broker_options *o, const struct config *ours,
				   const char *our_certificate, const struct config *daemons)
{
	_cleanup_free_ char *error = NULL, *certificate = NULL;
	struct credentials *credentials = NULL;
	const char *what = NULL;

	if (credentials_load(&daemons->tls, &credentials, &error) >= 0)
		certificate = credentials_own_certificate(credentials);
	if (same(our_certificate, certificate) ||
	    (!certificate && same(ours->tls.certificate_file, daemons->tls.certificate_file)))
		what = "certificate";
	else if (same(ours->mqtt.username, daemons->mqtt.username))
		what = "user name";
	else if (same(ours->tls.psk_identity, daemons->tls.psk_identity))
		what = "PSK identity";
	else if (same(o->client_id, daemons->mqtt.client_id))
		what = "client id";
	credentials_unref(credentials);
	return what;
}

static int check_identity(const struct broker_options *o, const struct config *ours,
			  const struct credentials *credentials)
{
	_cleanup_free_ char *certificate = credentials_own_certificate(credentials);
	struct config *daemons = NULL;
	struct status_file status;
	const char *what = NULL;
	char *discarded = NULL;
	size_t size;
	FILE *quiet;

	if (o->force || status_file_read(spool_run_directory(), &status) < 0)
		return COMMAND_OK;
	quiet = open_memstream(&discarded, &size);
	if (quiet && status.config && config_load(status.config, quiet, &daemons) >= 0)
		what = shared_identity(o, ours, certificate, daemons);
	if (what)
		log_error("this is the %s of the virtspoold that runs here; a broker could end its "
			  "connection for this one. Use an identity of your own (--cert and --key, "
			  "--username, --id), or --force",
			  what);
	if (quiet)
		(void)fclose(quiet);
	free(discarded);
	config_free(daemons);
	status_file_release(&status);
	return what ? COMMAND_USAGE : COMMAND_OK;
}

static int load_credentials(const struct config *c, struct credentials **ret_credentials)
{
	_cleanup_free_ char *error = NULL;
	int r = credentials_load(&c->tls, ret_credentials, &error);

	if (r < 0)
		log_error("%s", error ? error : strerror(-r));
	return r >= 0 ? COMMAND_OK : r == -EACCES ? COMMAND_RIGHTS : COMMAND_CONFIG;
}

/* The file, with the options on top. */
static int load_file(const struct broker_options *o, struct config **ret_config,
		     struct credentials **ret_credentials)
{
	struct credentials *credentials;
	int code = command_load(o->config ? o->config : CONFIG_FILE, ret_config, &credentials);

	if (code != COMMAND_OK)
		return code;
	credentials_unref(credentials);
	if (replace_all(o, *ret_config) < 0)
		return command_failure("cannot use the options", -ENOMEM);
	return load_credentials(*ret_config, ret_credentials);
}

int broker_options_load(const struct broker_options *o, struct config **ret_config,
			struct credentials **ret_credentials)
{
	int code;

	if (o->host && load_from_options(o, ret_config) < 0)
		return COMMAND_CONFIG;
	code = o->host ? load_credentials(*ret_config, ret_credentials)
		       : load_file(o, ret_config, ret_credentials);
	return code == COMMAND_OK ? check_identity(o, *ret_config, *ret_credentials) : code;
}
