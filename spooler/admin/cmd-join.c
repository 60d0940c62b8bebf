/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool join - makes this host report, with a bundle from `virtspool-recorder init`.
 *
 *   1. the bundle is read and checked
 *   2. certificate, key and authority go to the configuration's directory; virtspool.yaml gets
 *   host,
 *      brokers and the files' names, and keeps everything else
 *   3. the hook is installed if it is not, the service is enabled and started, libvirt reloads
 *   4. a probe goes from hook to broker (`virtspool test`)
 *
 * With --sign-only, the host reports already: the bundle's certificate and key become those of
 * events.sign, and everything else stays.
 *
 * Each step can be repeated, so after a failure the same command goes on. What was there is kept
 * beside the new files as NAME.before-join.
 */
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "spooler/admin/command.h"
#include "spooler/spool/hook-file.h"
#include "spooler/base/atomic-file.h"
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/config/config.h"
#include "spooler/mqtt/bundle.h"

#define USER "virtspool"
#define UNIT "virtspool.service"
#define PROBE_SECONDS "15"

extern char **environ;

struct arguments {
	const char *bundle, *config, *hooksdir;
	bool no_start, sign, sign_only;
};

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0, "configuration to edit [" CONFIG_FILE "]", 0},
	{"hooksdir", 'd', "DIR", 0, "libvirt's hooks [" HOOKSDIR "]", 0},
	{"no-start", 'n', NULL, 0, "only install the files", 0},
	{"sign", 's', NULL, 0, "sign events with the bundle's key", 0},
	{"sign-only", 'S', NULL, 0,
	 "use the bundle's key for signatures only; the connection stays as it is", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'c':
		a->config = arg;
		return 0;
	case 'd':
		a->hooksdir = arg;
		return 0;
	case 'n':
		a->no_start = true;
		return 0;
	case 's':
		a->sign = true;
		return 0;
	case 'S':
		a->sign_only = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->bundle)
			argp_error(state, "one bundle only");
		a->bundle = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->bundle)
			argp_error(state, "missing the bundle");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* --- programs */

/* Runs a program and waits. ret_output: what it wrote to stdout, to be freed; NULL: it goes
   where ours does. Returns its exit status or a negative errno. */
static int run(char *const argv[], char **ret_output)
{
	posix_spawn_file_actions_t actions;
	int r, status, fds[2] = {-1, -1};
	pid_t pid;

	if (ret_output && pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (ret_output)
		(void)posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	close_fdp(&fds[1]);
	if (ret_output) {
		size_t size = 0, room = 64 * 1024;
		char *text = calloc(1, room);
		ssize_t n;

		while (r == 0 && text && size < room - 1 &&
		       (n = read(fds[0], text + size, room - 1 - size)) > 0)
			size += (size_t)n;
		*ret_output = text;
		close_fdp(&fds[0]);
	}
	if (r != 0)
		return -r;
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

static bool systemctl(const char *verb, const char *option, const char *unit)
{
	char *argv[] = {(char *)"systemctl", (char *)verb, (char *)option, (char *)unit, NULL};

	return run(argv, NULL) == 0;
}

/* --- files */

static char *directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash > path ? strndup(path, (size_t)(slash - path))
				     : strdup(slash ? "/" : ".");
}

/* Keeps what is there, once: a second run does not take the first's for it. */
static int keep_old(const char *dir, const char *name)
{
	_cleanup_free_ char *path = NULL, *kept = NULL;

	if (asprintf(&path, "%s/%s", dir, name) < 0 ||
	    asprintf(&kept, "%s/%s.before-join", dir, name) < 0)
		return -ENOMEM;
	return link(path, kept) == 0 || errno == ENOENT || errno == EEXIST ? 0 : -errno;
}

/* Writes dir/name for the daemon: its group may read it if others may not. */
static int install_file(const char *dir, const char *name, const char *text, unsigned mode,
			gid_t group)
{
	_cleanup_free_ char *path = NULL, *new = NULL, *file = NULL;
	int r = keep_old(dir, name);

	if (r < 0)
		return r;
	if (asprintf(&file, ".%s.new", name) < 0 || asprintf(&new, "%s/%s", dir, file) < 0 ||
	    asprintf(&path, "%s/%s", dir, name) < 0)
		return -ENOMEM;
	/* Closed to others until it has its owner; only then does it get its name. */
	r = atomic_file_write(dir, file, text, strlen(text), 0600);
	if (r < 0)
		return r;
	if ((geteuid() == 0 && chown(new, 0, group) < 0) || chmod(new, mode) < 0 ||
	    rename(new, path) < 0) {
		r = -errno;
		(void)unlink(new);
	}
	return r;
}

/* --- the configuration, line by line: what stands there stays */

/* Is this the line of a key at this indentation, perhaps commented out? */
static bool is_key(const char *line, const char *indent, const char *key)
{
	size_t n = strlen(indent);

	if (strncmp(line, indent, n) != 0)
		return false;
	line += n;
	line += *line == '#';
	n = strlen(key);
	return strncmp(line, key, n) == 0 && line[n] == ':';
}

static bool is_set(const char *line, const char *indent)
{
	return line[strlen(indent)] != '#';
}

struct edit {
	const char *section; /* NULL: at the top */
	const char *key;
	char *text; /* the new lines, with their newline */
	bool done;
};

/* Does a line go on with the value that began before: an item of a list, or more indented? */
static bool goes_on(const char *line, const char *indent)
{
	size_t n = strlen(indent);

	return strncmp(line, indent, n) == 0 &&
	       (line[n] == ' ' || line[n] == '\t' || line[n] == '-');
}

/* Is the key set further down, within its section? */
static bool is_set_later(const char *text, const struct edit *e)
{
	const char *indent = e->section ? "  " : "";

	for (; *text; text += strcspn(text, "\n"), text += *text == '\n') {
		if (e->section && (*text != ' ' && *text != '#' && *text != '\n'))
			return false;
		if (is_key(text, indent, e->key) && is_set(text, indent))
			return true;
	}
	return false;
}

/* Writes what is due before the next section begins: keys that it did not have, even as
   comments. */
static void end_section(FILE *f, struct edit *edits, size_t n, const char *section)
{
	for (size_t i = 0; i < n; i++)
		if (!edits[i].done && section && edits[i].section &&
		    strcmp(edits[i].section, section) == 0) {
			fputs(edits[i].text, f);
			edits[i].done = true;
		}
}

/* The text with the edits made; to be freed. */
static char *edit_config(const char *text, struct edit *edits, size_t n)
{
	char section[64] = "", *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	while (f && *text) {
		size_t length = strcspn(text, "\n");
		const char *next = text + length + (text[length] == '\n');
		bool top = *text && *text != ' ' && *text != '#' && *text != '\n' && *text != '-';
		struct edit *e = NULL;

		if (top) {
			end_section(f, edits, n, section);
			(void)snprintf(section, sizeof(section), "%.*s", (int)strcspn(text, ":\n"),
				       text);
		}
		for (size_t i = 0; i < n && !e; i++) {
			const char *indent = edits[i].section ? "  " : "";

			if ((!edits[i].section || strcmp(edits[i].section, section) == 0) &&
			    is_key(text, indent, edits[i].key) &&
			    (is_set(text, indent) ||
			     (!edits[i].done && !is_set_later(next, &edits[i]))))
				e = &edits[i];
		}
		if (!e) {
			fprintf(f, "%.*s\n", (int)length, text);
			text = next;
			continue;
		}
		if (!e->done)
			fputs(e->text, f);
		e->done = true;
		if (is_set(text, e->section
					 ? "  "
					 : "")) /* its old value goes, however many lines it has */
			while (*next && goes_on(next, e->section ? "  " : ""))
				next += strcspn(next, "\n"), next += *next == '\n';
		text = next;
	}
	end_section(f, edits, n, section);
	for (size_t i = 0; i < n; i++)
		if (!edits[i].done && !edits[i].section) {
			fputs(edits[i].text, f);
			edits[i].done = true;
		}
	for (size_t i = 0; i < n; i++)
		if (!edits[i].done) {
			fprintf(f, "%s:\n", edits[i].section);
			end_section(f, edits, n, edits[i].section);
		}
	return f && fclose(f) == 0 ? out : NULL;
}

static char *quote(const char *indent, const char *key, const char *directory, const char *value)
{
	char *text;

	if (asprintf(&text, "%s%s: \"%s%s%s\"\n", indent, key, directory ? directory : "",
		     directory ? "/" : "", value) < 0)
		return NULL;
	return text;
}

static char *broker_lines(const struct bundle *b)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	fputs("brokers:\n", f);
	for (size_t i = 0; i < b->n_brokers; i++)
		fprintf(f, "  - %s\n", b->brokers[i]);
	return fclose(f) == 0 ? text : NULL;
}

/* The configuration in this text; NULL if it is not valid. Errors are not printed. */
static struct config *parse_quietly(const char *text)
{
	_cleanup_fclose_ FILE *null = fopen("/dev/null", "w");
	struct config *c = NULL;

	if (!null || config_parse("virtspool.yaml", text, strlen(text), null, &c) < 0)
		return NULL;
	return c;
}

/* Does the file say that events are signed with the key that was installed? */
static bool config_signs(const char *text, const struct bundle *b, const char *dir)
{
	_cleanup_free_ char *key = NULL;
	struct config *c = asprintf(&key, "%s/sign.key", dir) < 0 ? NULL : parse_quietly(text);
	bool same;

	if (!c)
		return false;
	same = strcmp(c->host, b->host) == 0 && c->events.sign && c->events.sign_key_file &&
	       strcmp(c->events.sign_key_file, key) == 0;
	config_free(c);
	return same;
}

/* Does the file say what the bundle says? One in another style than ours is not edited. */
static bool config_says(const char *text, const struct bundle *b, const char *dir)
{
	_cleanup_free_ char *key = NULL;
	struct config *c = asprintf(&key, "%s/host.key", dir) < 0 ? NULL : parse_quietly(text);
	bool same;

	if (!c)
		return false;
	same = strcmp(c->host, b->host) == 0 && c->n_brokers == b->n_brokers && c->tls.key_file &&
	       strcmp(c->tls.key_file, key) == 0;
	for (size_t i = 0; i < b->n_brokers && same; i++)
		same = strcmp(c->brokers[i].url, b->brokers[i]) == 0;
	config_free(c);
	return same;
}

static int read_config(const char *path, char **ret_text)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *text = calloc(1, CONFIG_SIZE_MAX + 1);
	size_t size = 0;
	ssize_t n;

	if (!text)
		return -ENOMEM;
	if (fd < 0 && errno != ENOENT)
		return -errno;
	while (fd >= 0 && size < CONFIG_SIZE_MAX &&
	       (n = read(fd, text + size, CONFIG_SIZE_MAX - size)) > 0)
		size += (size_t)n;
	*ret_text = TAKE_PTR(text);
	return 0;
}

/* Whose configuration is it: a key for another host's signatures does not replace what is there. */
static bool is_config_of(const struct arguments *a, const char *host)
{
	_cleanup_free_ char *text = NULL;
	struct config *c = read_config(a->config, &text) < 0 || !text ? NULL : parse_quietly(text);
	bool same;

	if (!c)
		return false;
	same = strcmp(c->host, host) == 0;
	config_free(c);
	return same;
}

/* Makes the edits, frees their texts, and checks that the file then says what it should. */
static int edit_file(const struct arguments *a, const struct bundle *b, const char *dir,
		     struct edit *edits, size_t n)
{
	_cleanup_free_ char *old = NULL, *new = NULL;
	const char *name = strrchr(a->config, '/') ? strrchr(a->config, '/') + 1 : a->config;
	int r = read_config(a->config, &old);

	if (old)
		new = edit_config(old, edits, n);
	for (size_t i = 0; i < n; i++)
		free(edits[i].text);
	if (!new)
		return command_failure("cannot read the configuration", r < 0 ? r : -ENOMEM);
	if (!(a->sign_only ? config_signs : config_says)(new, b, dir)) {
		log_error(
			a->sign_only
				? "cannot edit '%s' automatically: set events.sign, sign_key_file and "
				  "sign_certificate_file as `virtspool join` would, see virtspool(1), and "
				  "check with virtspoold --check-config"
				: "cannot edit '%s' automatically: set host, brokers and the files of tls as "
				  "`virtspool join` would, see virtspool(1), and check with virtspoold "
				  "--check-config",
			a->config);
		return COMMAND_CONFIG;
	}
	r = install_file(dir, name, new, 0644, 0);
	return r < 0 ? command_failure("cannot write the configuration", r) : COMMAND_OK;
}

static int write_signing(const struct arguments *a, const struct bundle *b, const char *dir)
{
	struct edit edits[] = {
		{"events", "sign", strdup("  sign: true\n"), false},
		{"events", "sign_key_file", quote("  ", "sign_key_file", dir, "sign.key"), false},
		{"events", "sign_certificate_file",
		 quote("  ", "sign_certificate_file", dir, "sign.pem"), false},
	};

	return edit_file(a, b, dir, edits, ELEMENTSOF(edits));
}

static int write_config(const struct arguments *a, const struct bundle *b, const char *dir)
{
	struct edit edits[] = {
		{NULL, "host", quote("", "host", NULL, b->host), false},
		{NULL, "brokers", broker_lines(b), false},
		{"mqtt", "version",
		 strdup(b->mqtt_version == 3 ? "  version: 3.1.1\n" : "  version: 5\n"), false},
		{"tls", "ca_file", quote("  ", "ca_file", dir, "ca.pem"), false},
		{"tls", "certificate_file", quote("  ", "certificate_file", dir, "host.pem"),
		 false},
		{"tls", "key_file", quote("  ", "key_file", dir, "host.key"), false},
		{"events", "sign", strdup("  sign: true\n"), false},
	};

	return edit_file(a, b, dir, edits, ELEMENTSOF(edits) - !a->sign);
}

/* Certificate and key of the bundle as NAME.pem and NAME.key, the latter for the daemon's group. */
static int install_pair(const struct bundle *b, const char *dir, const char *name, gid_t group)
{
	_cleanup_free_ char *pem = NULL, *key = NULL;
	int r;

	if (asprintf(&pem, "%s.pem", name) < 0 || asprintf(&key, "%s.key", name) < 0)
		return -ENOMEM;
	r = install_file(dir, pem, b->certificate, 0644, 0);
	return r < 0 ? r : install_file(dir, key, b->key, 0640, group);
}

static int install_files(const struct arguments *a, const struct bundle *b)
{
	_cleanup_free_ char *dir = directory_of(a->config);
	const struct passwd *user = getpwnam(USER);
	gid_t group = user ? user->pw_gid : getegid();
	int r = -ENOMEM;

	if (geteuid() == 0 && !user) {
		log_error("there is no user '" USER
			  "': install the package, or run `make install` as root");
		return COMMAND_FAILED;
	}
	if (a->sign_only && !is_config_of(a, b->host)) {
		log_error(
			"'%s' is not a configuration of the bundle's host, '%s'; --sign-only is for a "
			"host that reports already",
			a->config, b->host);
		return COMMAND_CONFIG;
	}
	if (dir && a->sign_only)
		r = install_pair(b, dir, "sign", group);
	else if (dir)
		r = install_file(dir, "ca.pem", b->authorities, 0644, 0);
	if (r >= 0 && !a->sign_only)
		r = install_pair(b, dir, "host", group);
	if (r < 0)
		return command_failure("cannot install the certificate", r);
	printf("installed   %s/%s\n", dir,
	       a->sign_only ? "sign.pem, sign.key" : "host.pem, host.key, ca.pem");
	r = a->sign_only ? write_signing(a, b, dir) : write_config(a, b, dir);
	if (r == COMMAND_OK && a->sign_only)
		printf("configured  %s: events of host %s are signed\n", a->config, b->host);
	else if (r == COMMAND_OK)
		printf("configured  %s: host %s, broker %s%s\n", a->config, b->host, b->brokers[0],
		       a->sign ? ", events are signed" : "");
	return r;
}

/* --- hook, service, libvirt */

static int install_hook(const struct arguments *a)
{
	_cleanup_free_ char *hook = hook_installed(a->hooksdir, "qemu");
	char *argv[] = {(char *)"virtspool hooks", (char *)"install", (char *)"--hooksdir",
			(char *)a->hooksdir, NULL};

	return hook ? COMMAND_OK : cmd_hooks(4, argv);
}

/* libvirt looks for hooks when it starts or reloads. A daemon that does not run needs no reload. */
static void reload_libvirt(void)
{
	static const char *const units[] = {"libvirtd.service", "virtqemud.service",
					    "virtlxcd.service", "virtxend.service"};

	for (size_t i = 0; i < ELEMENTSOF(units); i++)
		if (systemctl("is-active", "--quiet", units[i])) {
			if (systemctl("reload", "--quiet", units[i]))
				printf("reloaded    %s, which now calls the hook\n", units[i]);
			else
				log_warning(
					"cannot reload %s: reload it, or guests' changes are not seen",
					units[i]);
		}
}

static int start(const struct arguments *a)
{
	int r = install_hook(a);

	if (r != COMMAND_OK)
		return r;
	if (!systemctl("enable", "--quiet", UNIT) || !systemctl("restart", "--quiet", UNIT)) {
		log_error("cannot start " UNIT "; journalctl -u " UNIT " has the reason");
		return COMMAND_FAILED;
	}
	printf("started     " UNIT ", also at boot\n");
	reload_libvirt();
	return COMMAND_OK;
}

/* --- the probe */

/* One line for the first leg that failed. */
static int judge(const struct bundle *b, const char *output)
{
	static const char *const legs[] = {"hook", "spool", "broker", "back"};
	json_t *o = json_loads(output ? output : "", 0, NULL);
	int code = COMMAND_OK;

	for (size_t i = 0; i < ELEMENTSOF(legs) && code == COMMAND_OK; i++) {
		const json_t *leg = json_object_get(o, legs[i]), *ok = json_object_get(leg, "ok");
		const char *text = json_string_value(json_object_get(leg, "text")),
			   *how = json_string_value(json_object_get(leg, "how"));

		if (!json_is_false(ok) && o)
			continue;
		log_error("%s is installed, but the probe failed at '%s': %s%s%s", b->host, legs[i],
			  text ? text : "`virtspool test` gave no answer", how ? "; " : "",
			  how ? how : "");
		code = COMMAND_FAILED;
	}
	json_decref(o);
	return code;
}

static int probe(const struct arguments *a, const struct bundle *b)
{
	char *argv[] = {(char *)"/proc/self/exe", (char *)"test",
			(char *)"--json",	  (char *)"--config",
			(char *)a->config,	  (char *)"--hooksdir",
			(char *)a->hooksdir,	  (char *)"--timeout",
			(char *)PROBE_SECONDS,	  NULL};
	_cleanup_free_ char *output = NULL;
	int r = run(argv, &output);

	if (r < 0)
		return command_failure("cannot run the probe", r);
	r = r == COMMAND_OK ? COMMAND_OK : judge(b, output);
	if (r == COMMAND_OK)
		printf("proved      a probe went from the hook to %s, and was acknowledged\n\n%s reports. Remove the "
		       "bundle, it holds the key: rm %s\n",
		       b->brokers[0], b->host, a->bundle);
	return r;
}

int cmd_join(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "BUNDLE",
		.doc = "Makes this host report to the management node, with a bundle from `virtspool-recorder init`.\v"
		       "Installs certificate, key and authority, sets host, brokers and tls in the configuration, installs "
		       "the hook, enables and starts the service, has libvirt reload, and sends a probe. What was there is "
		       "kept as FILE.before-join. Repeating it does no harm. With --sign-only, a host that reports already "
		       "gets a key for signatures beside the one of its connection, which may be RSA.",
	};
	struct arguments a = {.config = CONFIG_FILE, .hooksdir = HOOKSDIR};
	struct bundle b = {.n_brokers = 0};
	_cleanup_free_ char *error = NULL;
	int r;

	if (!command_parse(&argp, argc, argv, &a))
		return COMMAND_USAGE;
	r = bundle_read(a.bundle, &b, &error);
	if (r < 0) {
		log_error("%s", error ? error : strerror(-r));
		return r == -EACCES ? COMMAND_RIGHTS : COMMAND_FAILED;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	r = install_files(&a, &b);
	if (r == COMMAND_OK && !a.no_start)
		r = start(&a);
	if (r == COMMAND_OK && !a.no_start)
		r = probe(&a, &b);
	bundle_release(&b);
	return command_finish(r);
}
