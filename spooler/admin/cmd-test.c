/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool test - sends a test event end to end, and times each leg of the way.
 *
 *   hook    the installed hook is run, as libvirt would run it
 *   spool   its record is found
 *   broker  the daemon has published it and the broker has acknowledged it: it is in sent/
 *   back    it arrives at a subscription of ours, made with the daemon's identity; where the broker
 *   does not let this
 *           identity subscribe, this leg is left out
 *
 * The spool is looked at every few milliseconds; what the kernel noted as the time of a rename is
 * the time that counts.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "spooler/mqtt/client.h"
#include "spooler/admin/broker-trial.h"
#include "spooler/admin/command.h"
#include "spooler/admin/facts.h"
#include "spooler/config/config.h"
#include "hook/spool.h"
#include "spooler/spool/hook-file.h"
#include "spooler/base/log.h"
#include "spooler/spool/lookup.h"
#include "spooler/mqtt/reason.h"
#include "spooler/spool/status-file.h"
#include "spooler/base/terminal.h"
#include "spooler/event/topic.h"
#include "spooler/base/util.h"

#define OPERATION "probe"
#define HOOK_TIMEOUT_MS 10000
#define LOOK_USEC 2000
#define WAY_BACK_USEC (2 * USEC_PER_SEC) /* from the acknowledgement */

extern char **environ;

enum leg { LEG_HOOK, LEG_SPOOL, LEG_BROKER, LEG_BACK, N_LEGS };
enum outcome { PENDING, PASSED, FAILED, LEFT_OUT };

static const char *const leg_names[] = {"hook", "spool", "broker", "back"};
static const char *const outcome_names[] = {"pending", "ok", "FAILED", "left out"};

struct result {
	enum outcome outcome;
	uint64_t usec;
	char *text; /* what was seen */
	char *how;  /* to fix it */
};

struct prober {
	sd_event *loop;
	sd_event_source *timer;
	struct config *config;
	struct credentials *credentials;
	struct client *client;
	struct lookup *lookup;
	char *hook, *filter, *client_id;
	char name[64]; /* fake domain name */

	bool json, begun;
	uint64_t begun_ms, begun_usec, deadline_usec; /* wall clock, then CLOCK_REALTIME in usec */
	struct spool_id id;
	bool found;
	struct result legs[N_LEGS];
};

struct arguments {
	const char *config, *hook, *hooksdir;
	bool json, back;
	uint64_t timeout_s;
};

enum { OPTION_HOOK = 0x2000, OPTION_HOOKSDIR, OPTION_BACK };

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0, "configuration [" CONFIG_FILE "]", 0},
	{"hook", OPTION_HOOK, "FILE", 0, "the hook to run [the one that is installed]", 0},
	{"hooksdir", OPTION_HOOKSDIR, "DIR", 0, "libvirt's hooks [" HOOKSDIR "]", 0},
	{"timeout", 't', "SECONDS", 0, "give up after SECONDS [10]", 0},
	{"back", OPTION_BACK, NULL, 0,
	 "also wait for the event to come back through a subscription; always done with MQTT 3.1.1",
	 0},
	{"json", 'j', NULL, 0, "one JSON object", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'c':
		a->config = arg;
		return 0;
	case OPTION_HOOK:
		a->hook = arg;
		return 0;
	case OPTION_HOOKSDIR:
		a->hooksdir = arg;
		return 0;
	case 't':
		a->timeout_s = command_number(state, "--timeout", arg, 86400);
		return 0;
	case OPTION_BACK:
		a->back = true;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	default:
		return command_no_arguments(key, arg, state);
	}
}

/* --- results */

static void end_leg(struct prober *p, enum leg leg, enum outcome outcome, uint64_t usec,
		    const char *how, const char *format, ...) __attribute__((format(printf, 6, 7)));

/* The first end of a leg counts. */
static void end_leg(struct prober *p, enum leg leg, enum outcome outcome, uint64_t usec,
		    const char *how, const char *format, ...)
{
	struct result *r = &p->legs[leg];
	va_list ap;

	if (r->outcome != PENDING)
		return;
	r->outcome = outcome;
	r->usec = usec;
	r->how = how ? strdup(how) : NULL;
	va_start(ap, format);
	r->text = command_text(p->json ? NULL : stdout, format, ap);
	va_end(ap);
}

static bool is_over(const struct prober *p)
{
	for (size_t i = 0; i < N_LEGS; i++)
		if (p->legs[i].outcome == PENDING)
			return false;
	return true;
}

static void finish_if_over(struct prober *p)
{
	if (is_over(p))
		(void)sd_event_exit(p->loop, 0);
}

static void fail_rest(struct prober *p)
{
	for (size_t i = 0; i < N_LEGS; i++)
		end_leg(p, i, LEFT_OUT, 0, NULL, "not reached");
}

/* --- the hook */

/* Runs it with the probe's arguments and nothing on stdin. Returns its exit status, or negative
   errno. */
static int run_hook(const struct prober *p)
{
	char *argv[] = {p->hook,     (char *)p->name, (char *)OPERATION,
			(char *)"-", (char *)"-",     NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	struct pollfd pfd = {.events = POLLIN};
	_cleanup_close_ int fd = -1;
	int r, status = 0;
	sigset_t none;
	pid_t pid;

	(void)sigemptyset(&none);
	(void)posix_spawnattr_init(&attributes);
	(void)posix_spawnattr_setsigmask(&attributes, &none);
	(void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	r = posix_spawn(&pid, p->hook, &actions, &attributes, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attributes);
	if (r != 0)
		return -r;
	fd = pidfd_open(pid, 0);
	pfd.fd = fd;
	if (fd >= 0 && poll(&pfd, 1, HOOK_TIMEOUT_MS) == 0)
		(void)kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -ETIMEDOUT;
}

static int on_look(sd_event_source *s, uint64_t usec, void *userdata);

static void begin(struct prober *p)
{
	uint64_t took;
	int r;

	if (p->begun)
		return;
	p->begun = true;
	p->begun_usec = now_usec(CLOCK_REALTIME);
	p->begun_ms = p->begun_usec / 1000;
	r = run_hook(p);
	took = now_usec(CLOCK_REALTIME) - p->begun_usec;
	if (r == 0)
		end_leg(p, LEG_HOOK, PASSED, took, NULL, "%s", p->hook);
	else if (r < 0)
		end_leg(p, LEG_HOOK, FAILED, took, "install it with `virtspool hooks install`",
			"cannot run %s: %s", p->hook, strerror(-r));
	else
		end_leg(p, LEG_HOOK, FAILED, took,
			"install it again with `virtspool hooks install`", "%s exited with %d",
			p->hook, r);
	if (r != 0)
		fail_rest(p);
	(void)sd_event_source_set_time_relative(p->timer, 0);
	(void)sd_event_source_set_enabled(p->timer, SD_EVENT_ONESHOT);
}

/* --- the spool */

static bool is_probe(const struct prober *p, const struct found *f)
{
	const struct bytes *object = &f->record.object;

	return !f->problem && object->size == strlen(p->name) &&
	       memcmp(object->data, p->name, object->size) == 0;
}

static void look_for_record(struct prober *p)
{
	/* The stamp's clock may be ahead of the wall clock, never behind the newest id: hence
	   only a lower bound. */
	const struct filter since = {.since_ms = p->begun_ms};
	struct id_list list = {.newest = true};

	if (lookup_scan(p->lookup, PLACES_ALL, &since, 4096, &list) < 0)
		return;
	for (size_t i = 0; i < list.n && !p->found; i++) {
		struct found f;

		if (lookup_read(p->lookup, &list.entries[i], 0, &f) < 0)
			continue;
		if (is_probe(p, &f)) {
			p->found = true;
			p->id = f.id;
			end_leg(p, LEG_SPOOL, f.place == PLACE_EMERGENCY ? FAILED : PASSED,
				now_usec(CLOCK_REALTIME) - p->begun_usec,
				f.place == PLACE_EMERGENCY
					? "see `virtspool doctor` for the spool's directories and space"
					: NULL,
				f.place == PLACE_EMERGENCY ? "%s is in the emergency spool" : "%s",
				f.name);
		}
		found_release(&f);
	}
	id_list_clear(&list);
}

/* When it came into a place: a rename changes nothing else of a file. 0: it is not there. */
static uint64_t time_in(const struct prober *p, enum place place)
{
	struct stat st;
	char name[37];

	spool_id_name(&p->id, name);
	if (p->lookup->directories[place] < 0 ||
	    fstatat(p->lookup->directories[place], name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return (uint64_t)st.st_ctim.tv_sec * USEC_PER_SEC + (uint64_t)st.st_ctim.tv_nsec / 1000;
}

static bool is_waiting(const struct prober *p)
{
	return time_in(p, PLACE_NEW) || time_in(p, PLACE_EMERGENCY);
}

static void look_where_it_is(struct prober *p)
{
	uint64_t at = time_in(p, PLACE_SENT), spooled = p->legs[LEG_SPOOL].usec;

	if (at) /* noted by a clock that ticks every few milliseconds: not before it was spooled */
		end_leg(p, LEG_BROKER, PASSED,
			at > p->begun_usec + spooled ? at - p->begun_usec : spooled, NULL,
			"acknowledged, in sent/");
	else if (time_in(p, PLACE_SKIPPED))
		end_leg(p, LEG_BROKER, FAILED, 0,
			"let operation `" OPERATION
			"` pass in the section events of the configuration",
			"the configuration filters it out");
	else if (time_in(p, PLACE_FAILED))
		end_leg(p, LEG_BROKER, FAILED, 0, "see `virtspool list failed`",
			"the broker cannot take it");
	else if (p->config->spool.sent_age_s == 0 && !is_waiting(p) && !time_in(p, PLACE_SENT))
		end_leg(p, LEG_BROKER, PASSED, now_usec(CLOCK_REALTIME) - p->begun_usec, NULL,
			"acknowledged, and not kept (spool.sent_age)");
	if (p->legs[LEG_BROKER].outcome == FAILED)
		end_leg(p, LEG_BACK, LEFT_OUT, 0, NULL, "not reached");
}

/* The finding of the verdict that explains why a leg was not passed; NULL: none does. */
static const struct finding *explains(const struct verdict *v, enum leg leg)
{
	static const enum verdict_kind of_spool[] = {
		VERDICT_SPOOL_HANGS,
		VERDICT_SPOOL_MISSING,
		VERDICT_SPOOL_UNREADABLE,
		VERDICT_EMERGENCY,
	};
	static const enum verdict_kind of_broker[] = {
		VERDICT_DAEMON_DOWN,   VERDICT_STATUS_UNREADABLE,  VERDICT_DISCONNECTED,
		VERDICT_REFUSED,       VERDICT_SPOOL_UNREADABLE,   VERDICT_FLAPPING,
		VERDICT_NO_SUBSCRIBER, VERDICT_UNREADABLE_RECORDS, VERDICT_LATE,
	};
	const enum verdict_kind *kinds = leg == LEG_SPOOL ? of_spool : of_broker;
	size_t n = leg == LEG_SPOOL ? ELEMENTSOF(of_spool) : ELEMENTSOF(of_broker);
	const struct finding *f = NULL;

	for (size_t i = 0; i < n && !f; i++)
		f = verdict_find(v, kinds[i]);
	return f;
}

/* A refusal often has its reason in the names. */
static char *remedy_of(const struct prober *p, const struct finding *f)
{
	const struct broker_trial refused = {.outcome = TRIAL_REFUSED, .topic = f->object};

	if (f->kind == VERDICT_REFUSED && p->credentials &&
	    !credentials_are_for(p->credentials, p->config->host))
		return broker_trial_remedy(&refused, p->config, p->credentials);
	return f->remedy ? strdup(f->remedy) : NULL;
}

/* The time is up: which leg timed out, and why? */
static void blame(struct prober *p)
{
	enum leg leg = p->found ? LEG_BROKER : LEG_SPOOL;
	struct facts *facts = calloc(1, sizeof(*facts));
	struct verdict v = {0};
	const struct finding *f = NULL;

	if (facts) {
		facts_collect(facts, hook_directory(), false);
		verdict_judge(&facts->of_verdict, &v);
		f = explains(&v, leg);
	}
	if (f) {
		_cleanup_free_ char *how = remedy_of(p, f);

		end_leg(p, leg, FAILED, 0, how, "%s", f->cause);
	} else if (leg == LEG_SPOOL) {
		end_leg(p, leg, FAILED, 0,
			"run virtspool doctor; which user runs the hook, and can it write to the spool?",
			"no record has appeared in '%s'", spool_directory());
	} else {
		end_leg(p, leg, FAILED, 0, "see virtspool status, and virtspool show with its id",
			"the broker has not acknowledged it%s%s",
			facts && facts->status.last_error ? ": " : "",
			facts && facts->status.last_error ? facts->status.last_error : "");
	}
	fail_rest(p);
	verdict_release(&v);
	if (facts)
		facts_release(facts);
	free(facts);
}

/*
 * Acknowledged, but it does not come back. With MQTT 5 an acknowledgement means that it was not
 * refused, and many brokers grant a subscription to what may not be read, and then send nothing.
 * With 3.1.1 it may have been dropped.
 */
static void blame_way_back(struct prober *p)
{
	if (p->config->mqtt.version == 5)
		end_leg(p, LEG_BACK, LEFT_OUT, 0, NULL,
			"nothing arrived on %s; the broker's ACL probably does not let us read it",
			p->filter);
	else
		end_leg(p, LEG_BACK, FAILED, 0,
			"MQTT 3.1.1 cannot report a refusal: check this host's ACL for the topic, or set "
			"mqtt.version to 5",
			"acknowledged, but nothing arrived on %s", p->filter);
}

static int on_look(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct prober *p = userdata;

	if (!p->found && p->legs[LEG_SPOOL].outcome == PENDING)
		look_for_record(p);
	if (p->found)
		look_where_it_is(p);
	if (p->legs[LEG_BROKER].outcome == PASSED &&
	    now_usec(CLOCK_REALTIME) - p->begun_usec > p->legs[LEG_BROKER].usec + WAY_BACK_USEC)
		blame_way_back(p);
	else if (now_usec(CLOCK_REALTIME) - p->begun_usec > p->deadline_usec)
		blame(p);
	finish_if_over(p);
	(void)sd_event_source_set_time_relative(s, LOOK_USEC);
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
	return 0;
}

/* --- the subscription */

static void on_connected(struct client *c, void *userdata)
{
	struct prober *p = userdata;

	if (client_subscribe(c, (const char *const *)&p->filter, 1) < 0) {
		end_leg(p, LEG_BACK, LEFT_OUT, 0, NULL, "cannot subscribe to %s", p->filter);
		begin(p);
	}
}

static void on_subscribed(struct client *c, const char *filter, unsigned reason_code,
			  void *userdata)
{
	struct prober *p = userdata;

	if (reason_code >= 0x80)
		end_leg(p, LEG_BACK, LEFT_OUT, 0, NULL,
			"the broker does not let us subscribe to %s: %s (0x%02x)", filter,
			reason_name(reason_code), reason_code);
	begin(p);
}

static void on_message(struct client *c, const struct client_message *m, void *userdata)
{
	struct prober *p = userdata;
	json_t *event = json_loadb(m->payload, m->size, 0, NULL);
	const char *name =
		json_string_value(json_object_get(json_object_get(event, "data"), "name"));
	uint64_t took = now_usec(CLOCK_REALTIME) - p->begun_usec;

	if (name && strcmp(name, p->name) == 0)
		end_leg(p, LEG_BACK, PASSED, took, NULL, "%s", m->topic);
	json_decref(event);
	finish_if_over(p);
}

static void on_lost(struct client *c, enum client_loss loss, unsigned reason_code, const char *text,
		    void *userdata)
{
	struct prober *p = userdata;

	end_leg(p, LEG_BACK, LEFT_OUT, 0, NULL, "no subscription: %s", text);
	client_close(TAKE_PTR(p->client));
	begin(p);
}

static int subscribe(struct prober *p)
{
	static const struct client_handlers handlers = {
		.connected = on_connected,
		.subscribed = on_subscribed,
		.message = on_message,
		.lost = on_lost,
	};
	struct client_options o = {
		.config = p->config,
		.broker = &p->config->brokers[0],
		.credentials = p->credentials,
		.client_id = p->client_id,
	};
	struct status_file status;

	(void)status_file_read(spool_run_directory(), &status);
	for (size_t i = 0; i < p->config->n_brokers; i++) /* the one that the daemon uses */
		if (strcmp(p->config->brokers[i].url, status.broker ?: "") == 0)
			o.broker = &p->config->brokers[i];
	status_file_release(&status);
	return client_open(p->loop, &o, &handlers, p, &p->client);
}

/* --- the result */

static void print_people(const struct prober *p)
{
	bool colour = terminal_colour(stdout);

	for (size_t i = 0; i < N_LEGS; i++) {
		const struct result *r = &p->legs[i];
		const char *on = !colour		? ""
				 : r->outcome == PASSED ? TERMINAL_GREEN
				 : r->outcome == FAILED ? TERMINAL_RED
							: TERMINAL_YELLOW;

		printf("%-7s %s%-8s%s ", leg_names[i], on, outcome_names[r->outcome],
		       *on ? TERMINAL_RESET : "");
		if (r->outcome == PASSED)
			printf("%8.1f ms  %s\n", (double)r->usec / 1000, r->text ? r->text : "");
		else
			printf("%s\n", r->text ? r->text : "");
		if (r->how)
			printf("%-16s -> %s\n", "", r->how);
	}
}

static void print_json(const struct prober *p)
{
	json_t *o = json_object();

	for (size_t i = 0; i < N_LEGS; i++) {
		const struct result *r = &p->legs[i];
		json_t *leg = json_object();

		(void)json_object_set_new(
			leg, "ok",
			r->outcome == LEFT_OUT ? json_null() : json_boolean(r->outcome == PASSED));
		if (r->outcome == PASSED)
			(void)json_object_set_new(leg, "milliseconds",
						  json_real((double)r->usec / 1000));
		(void)json_object_set_new(leg, "text", json_string(r->text ? r->text : ""));
		if (r->how)
			(void)json_object_set_new(leg, "how", json_string(r->how));
		(void)json_object_set_new(o, leg_names[i], leg);
	}
	command_print_json(o);
}

static int exit_code(const struct prober *p)
{
	for (size_t i = 0; i < N_LEGS; i++)
		if (p->legs[i].outcome == FAILED || p->legs[i].outcome == PENDING)
			return COMMAND_FAILED;
	return p->legs[LEG_BROKER].outcome == PASSED ? COMMAND_OK : COMMAND_FAILED;
}

/* --- start and end */

static char *find_hook(const struct arguments *a)
{
	static const char *const drivers[] = HOOK_DRIVERS;
	char *path = NULL;

	if (a->hook)
		return strdup(a->hook);
	for (size_t i = 0; i < ELEMENTSOF(drivers) && !path; i++)
		path = hook_installed(a->hooksdir, drivers[i]);
	return path;
}

/* The topic of the probe, or, if the template asks for more than is known before, all that it
   can make. */
static char *probe_filter(const struct prober *p)
{
	const char *slash = strrchr(p->hook, '/'), *template = p->config->mqtt.topic;
	char *filter = NULL, driver[64];
	struct bytes values[TOPIC_FIELDS] = {
		[TOPIC_HOST] = {p->config->host, strlen(p->config->host)},
		[TOPIC_NAME] = {p->name, strlen(p->name)},
		[TOPIC_OPERATION] = {OPERATION, strlen(OPERATION)},
		[TOPIC_SUBOPERATION] = {"-", 1},
	};

	(void)snprintf(driver, sizeof(driver), "%s", slash ? slash + 1 : p->hook);
	values[TOPIC_DRIVER] = (struct bytes){driver, strlen(driver)};
	if (strstr(template, "{epoch}") ||
	    (slash && slash > p->hook + 2 && strncmp(slash - 2, ".d", 2) == 0))
		(void)topic_filter(template, &filter);
	else
		(void)topic_format(template, values, &filter);
	return filter;
}

static int prepare(struct prober *p, const struct arguments *a)
{
	int r = command_load(a->config, &p->config, &p->credentials);

	if (r != COMMAND_OK)
		return r;
	command_take_daemons_host(p->config, a->config);
	p->hook = find_hook(a);
	if (!p->hook) {
		log_error("no hook of ours is installed in '%s'; `virtspool hooks install` does it",
			  a->hooksdir);
		return COMMAND_FAILED;
	}
	p->deadline_usec = a->timeout_s * USEC_PER_SEC;
	(void)snprintf(p->name, sizeof(p->name), "virtspool-probe-%d-%" PRIu64, getpid(),
		       now_usec(CLOCK_REALTIME));
	p->filter = probe_filter(p);
	if (!p->filter ||
	    asprintf(&p->client_id, "%s-test-%d", p->config->mqtt.client_id, getpid()) < 0)
		return COMMAND_FAILED;
	(void)signal(SIGPIPE, SIG_IGN);
	r = sd_event_default(&p->loop);
	if (r >= 0)
		r = sd_event_add_time_relative(p->loop, &p->timer, CLOCK_MONOTONIC, 0, 1, on_look,
					       p);
	if (r >= 0)
		r = sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
	return r < 0 ? command_failure("cannot make an event loop", r) : COMMAND_OK;
}

/*
 * The subscription has this host's identity, and a broker that takes client ids from certificates
 * ends the daemon's connection over it. MQTT 5 needs none: the acknowledgement says whether the
 * event was taken. With MQTT 3.1.1 it says nothing.
 */
static void start(struct prober *p, bool back)
{
	int r = 0;

	if (!back && p->config->mqtt.version == 5)
		end_leg(p, LEG_BACK, LEFT_OUT, 0, NULL,
			"the acknowledgement says that the broker took it; --back also waits for the event");
	else if ((r = subscribe(p)) < 0)
		end_leg(p, LEG_BACK, LEFT_OUT, 0, NULL, "no subscription: %s", strerror(-r));
	if (!p->client)
		begin(p);
}

static int run(struct prober *p, const struct arguments *a)
{
	int r = prepare(p, a);

	if (r != COMMAND_OK)
		return r;
	start(p, a->back);
	r = sd_event_loop(p->loop);
	if (r < 0)
		return command_failure("the event loop failed", r);
	if (a->json)
		print_json(p);
	else
		print_people(p);
	return exit_code(p);
}

static void release(struct prober *p)
{
	client_close(p->client);
	credentials_unref(p->credentials);
	config_free(p->config);
	sd_event_source_disable_unref(p->timer);
	sd_event_unref(p->loop);
	for (size_t i = 0; i < N_LEGS; i++) {
		free(p->legs[i].text);
		free(p->legs[i].how);
	}
	free(p->hook);
	free(p->filter);
	free(p->client_id);
}

static int probe(struct lookup *l, void *arguments)
{
	const struct arguments *a = arguments;
	struct prober p = {.lookup = l, .json = a->json};
	int r = run(&p, a);

	release(&p);
	return r;
}

int cmd_test(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Sends a test event through hook, spool, daemon and broker, and with --back back through a "
		       "subscription, and times each leg from the start. It is an event with the operation \"" OPERATION
		       "\".",
	};
	struct arguments a = {.config = CONFIG_FILE, .hooksdir = HOOKSDIR, .timeout_s = 10};

	return command_on_spool(&argp, argc, argv, &a, probe);
}
