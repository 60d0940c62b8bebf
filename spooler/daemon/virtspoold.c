/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtspoold - the daemon's command line. Exit codes are sysexits.h's, see virtspoold(8). */
#include <argp.h>
#include <grp.h>
#include <pwd.h>
#include <sysexits.h>

#include "spooler/config/config.h"
#include "spooler/daemon/daemon.h"
#include "spooler/base/log.h"
#include "spooler/event/signature.h"
#include "spooler/mqtt/transport.h"
#include "spooler/base/util.h"

#define KEY_HELP_CONFIG 256 /* no short option */

const char *argp_program_version = "virtspoold " PACKAGE_VERSION;
const char *argp_program_bug_address = "<" PACKAGE_BUGREPORT ">";

struct arguments {
	const char *config;
	bool check;
};

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0, "configuration [" CONFIG_FILE "]", 0},
	{"check-config", 't', NULL, 0, "check the configuration and the files it names, and exit",
	 0},
	{"help-config", KEY_HELP_CONFIG, NULL, 0,
	 "print every key of the configuration with its default, and exit", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'c':
		a->config = arg;
		return 0;
	case 't':
		a->check = true;
		return 0;
	case KEY_HELP_CONFIG:
		config_print_keys(stdout, CONFIG_DAEMON);
		exit(EX_OK);
	case ARGP_KEY_ARG:
		argp_error(state, "'%s': takes no arguments", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

#define USER "virtspool" /* of the unit */

/*
 * Root reads everything, and a key that only root may read would pass; so root judges with the
 * daemon's identity. Returns a word on whose that is, or NULL if it is the caller's own.
 */
static const char *take_identity(void)
{
	const struct passwd *pw;

	if (geteuid() != 0)
		return NULL;
	pw = getpwnam(USER);
	if (!pw)
		return "as root: there is no user " USER;
	if (initgroups(USER, pw->pw_gid) < 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0)
		return "as root: the identity of the user " USER " cannot be taken";
	return "as the user " USER ", as the daemon runs";
}

static int check_files(const char *path)
{
	_cleanup_free_ char *error = NULL;
	struct credentials *credentials = NULL;
	struct signer *signer = NULL;
	struct config *c = NULL;
	int r;

	if (config_load(path, stderr, &c) < 0)
		return EX_CONFIG;
	r = credentials_load(&c->tls, &credentials, &error);
	if (r >= 0 && c->events.sign)
		r = signer_load(c, &signer, &error);
	credentials_unref(credentials);
	signer_free(signer);
	config_free(c);
	if (r < 0) {
		log_error("%s", error ? error : "no memory");
		return EX_CONFIG;
	}
	printf("%s: valid\n", path);
	return EX_OK;
}

static int check_config(const char *path)
{
	const char *identity = take_identity();
	int code = check_files(path);

	if (identity)
		printf("(checked %s)\n", identity);
	return code;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Publishes the events in virtspool's spool over MQTT.\v"
		       "SIGHUP reloads configuration and certificates. See virtspoold(8), virtspool.yaml(5).",
	};
	struct arguments a = {.config = CONFIG_FILE};

	argp_err_exit_status = EX_USAGE;
	if (argp_parse(&argp, argc, argv, 0, NULL, &a) != 0)
		return EX_USAGE;
	return a.check ? check_config(a.config) : daemon_run(a.config);
}
