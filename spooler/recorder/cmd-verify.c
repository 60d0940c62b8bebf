/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool-recorder verify - checks a file that export wrote (cmd-export.c has its format), with
 * nothing but the CA's certificate: each signature, and that no number is missing between the first
 * and the last event of a host's epoch, unless the file says so.
 */
#include <inttypes.h>

#include "spooler/base/memory.h"
#include "spooler/base/terminal.h"
#include "spooler/base/util.h"
#include "spooler/event/signature.h"
#include "spooler/event/topic.h"
#include "spooler/event/verifier.h"
#include "spooler/recorder/command.h"

#define FORMAT 1
#define SOURCE_PREFIX "/virtspool/"

/* The numbers that were seen of one host and epoch, or that a hole explains. */
struct epoch {
	char *name; /* "HOST epoch EPOCH" */
	uint64_t *numbers;
	size_t n, allocated;
};

struct check {
	struct verifier *verifier;
	struct signing_trust *trust;
	struct epoch *epochs;
	size_t n_epochs;
	json_t *index; /* name -> position in epochs */
	uint64_t events, certificates, holes, line;
	uint64_t verifications[N_VERIFICATIONS], faults;
	bool begun, ended;
};

/* One line, whatever the file has in its strings: none of them may look like a result of ours. */
static void __attribute__((format(printf, 2, 0))) say(FILE *f, const char *format, va_list ap)
{
	_cleanup_free_ char *text = NULL, *safe = NULL;
	int n = vasprintf(&text, format, ap);

	if (n < 0)
		text = NULL;
	else
		safe = terminal_text(f, text, (size_t)n);
	fprintf(f, "%s\n", safe ? safe : "out of memory");
}

static void __attribute__((format(printf, 2, 3))) fault(struct check *c, const char *format, ...)
{
	va_list ap;

	c->faults++;
	fprintf(stderr, "line %" PRIu64 ": ", c->line);
	va_start(ap, format);
	say(stderr, format, ap);
	va_end(ap);
}

static void __attribute__((format(printf, 1, 2))) result(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(stdout, format, ap);
	va_end(ap);
}

/* --- completeness */

static struct epoch *epoch_of(struct check *c, const char *host, const char *epoch)
{
	_cleanup_free_ char *name = NULL;
	const json_t *position;
	struct epoch *larger;

	if (asprintf(&name, "%s epoch %s", host, epoch) < 0) {
		name = NULL;
		return NULL;
	}
	position = json_object_get(c->index, name);
	if (position)
		return &c->epochs[json_integer_value(position)];
	larger = reallocarray(c->epochs, c->n_epochs + 1, sizeof(*c->epochs));
	if (!larger ||
	    json_object_set_new(c->index, name, json_integer((json_int_t)c->n_epochs)) < 0)
		return NULL;
	c->epochs = larger;
	c->epochs[c->n_epochs] = (struct epoch){.name = TAKE_PTR(name)};
	return &c->epochs[c->n_epochs++];
}

static int note_number(struct epoch *e, uint64_t number)
{
	if (!e)
		return -ENOMEM;
	if (memory_reserve(&e->numbers, &e->allocated, e->n + 1, sizeof(*e->numbers)) < 0)
		return -ENOMEM;
	e->numbers[e->n++] = number;
	return 0;
}

static int compare_numbers(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void check_numbers(struct check *c, struct epoch *e)
{
	qsort(e->numbers, e->n, sizeof(*e->numbers), compare_numbers);
	for (size_t i = 1; i < e->n; i++) {
		uint64_t before = e->numbers[i - 1], number = e->numbers[i];

		if (number == before)
			fault(c, "%s: sequence %" PRIu64 " is there more than once", e->name,
			      number);
		if (number > before + 1)
			fault(c,
			      "%s: sequence %" PRIu64 " to %" PRIu64
			      " is missing, and no hole says so",
			      e->name, before + 1, number - 1);
	}
}

/* --- the lines */

static int compare_authority(const char *base64, const char *fingerprint, void *userdata)
{
	return strcmp(base64, userdata) == 0 ? -EEXIST : 0;
}

/* The file's own CA proves nothing: what counts is the one that we were given. */
static int on_authority(struct check *c, const char *base64)
{
	int r = signing_trust_each(c->trust, compare_authority, (void *)base64);

	if (r != -EEXIST && r < 0)
		return r;
	printf("the file's CA certificate is %s\n",
	       r == -EEXIST ? "the trusted one" : "not the trusted one");
	return 0;
}

static int print_authority(const char *base64, const char *fingerprint, void *userdata)
{
	printf("verified with the CA certificate whose SHA-256 is %s\n", fingerprint);
	return 0;
}

static int on_certificate(struct check *c, const json_t *line)
{
	const char *host = json_string_value(json_object_get(line, "host"));
	_cleanup_free_ char *why = NULL;
	int r;

	c->certificates++;
	if (!host)
		return -EBADMSG;
	r = verifier_add(c->verifier, host, json_string_value(json_object_get(line, "certificate")),
			 &why);
	if (r < 0 && r != -ENOMEM)
		fault(c, "the certificate of %s is not used: %s", host, why ? why : "too long");
	return r == -ENOMEM ? r : 0;
}

static int on_event(struct check *c, const json_t *payload)
{
	const char *text = json_string_value(payload), *why = NULL, *source, *epoch, *sequence;
	size_t size = json_string_length(payload);
	json_auto_t *event = text ? json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL) : NULL;
	enum verification v;
	char host[256];

	c->events++;
	if (json_unpack(event, "{s:s, s:s, s:s}", "source", &source, "epoch", &epoch, "sequence",
			&sequence) < 0 ||
	    strncmp(source, SOURCE_PREFIX, strlen(SOURCE_PREFIX)) != 0 ||
	    !topic_decode_host(source + strlen(SOURCE_PREFIX),
			       strlen(source) - strlen(SOURCE_PREFIX), host))
		return -EBADMSG;
	v = verifier_check(c->verifier, event, text, size, &why);
	c->verifications[v]++;
	if (v != VERIFICATION_VERIFIED)
		fault(c, "%s: %s, event %s: %s", host, verification_name(v),
		      json_string_value(json_object_get(event, "id")), why);
	if (v == VERIFICATION_FORGED)
		return 0;
	return note_number(epoch_of(c, host, epoch), strtoull(sequence, NULL, 10));
}

static int on_hole(struct check *c, const json_t *hole)
{
	const char *host, *epoch;
	json_int_t first, last;
	int r = 0;

	c->holes++;
	if (json_unpack((json_t *)hole, "{s:s, s:s, s:I, s:I}", "host", &host, "epoch", &epoch,
			"first", &first, "last", &last) < 0 ||
	    first < 1 || last < first || last - first > 10000000)
		return -EBADMSG;
	result("%s: sequence %lld to %lld of epoch %s did not arrive", host, (long long)first,
	       (long long)last, epoch);
	for (json_int_t n = first; n <= last && r >= 0; n++)
		r = note_number(epoch_of(c, host, epoch), (uint64_t)n);
	return r;
}

static int on_end(struct check *c, const json_t *end)
{
	json_int_t events, certificates, holes;

	if (json_unpack((json_t *)end, "{s:I, s:I, s:I}", "events", &events, "certificates",
			&certificates, "holes", &holes) < 0)
		return -EBADMSG;
	c->ended = true;
	if ((uint64_t)events != c->events || (uint64_t)certificates != c->certificates ||
	    (uint64_t)holes != c->holes)
		fault(c,
		      "the file has %" PRIu64 " events, %" PRIu64 " certificates and %" PRIu64
		      " holes, but says %lld, %lld and %lld",
		      c->events, c->certificates, c->holes, (long long)events,
		      (long long)certificates, (long long)holes);
	return 0;
}

static int on_line(struct check *c, const json_t *line)
{
	const json_t *value;

	if (!c->begun) {
		c->begun = json_integer_value(json_object_get(line, "virtspool-export")) == FORMAT;
		return c->begun ? 0 : -EBADMSG;
	}
	if (c->ended)
		return -EBADMSG;
	if ((value = json_object_get(line, "authority")))
		return json_is_string(value) ? on_authority(c, json_string_value(value)) : -EBADMSG;
	if (json_is_string(json_object_get(line, "certificate")))
		return on_certificate(c, line);
	if ((value = json_object_get(line, "event")))
		return on_event(c, value);
	if ((value = json_object_get(line, "hole")))
		return on_hole(c, value);
	if ((value = json_object_get(line, "end")))
		return on_end(c, value);
	return -EBADMSG;
}

static int read_lines(struct check *c, FILE *f)
{
	_cleanup_free_ char *text = NULL;
	size_t allocated = 0;
	ssize_t n;
	int r = 0;

	while (r >= 0 && (n = getline(&text, &allocated, f)) > 0) {
		json_auto_t *line = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL);

		c->line++;
		r = line ? on_line(c, line) : -EBADMSG;
		if (r == -EBADMSG && !c->begun)
			return r;
		if (r == -EBADMSG) {
			fault(c, "not a line of such a file");
			r = 0;
		}
	}
	return r < 0 ? r : ferror(f) ? -EIO : 0;
}

/* --- the result */

static int report(struct check *c, const char *name)
{
	for (size_t i = 0; i < c->n_epochs; i++)
		check_numbers(c, &c->epochs[i]);
	if (!c->ended)
		fault(c, "the file has no end: it was cut off");
	for (size_t v = 0; v < N_VERIFICATIONS; v++)
		printf("%" PRIu64 " %s%s", c->verifications[v], verification_name(v),
		       v + 1 < N_VERIFICATIONS ? ", " : "\n");
	printf(c->faults ? "%s: %" PRIu64 " faults\n"
			 : "%s: every event is verified, none is missing\n",
	       name, c->faults);
	return c->faults ? COMMAND_FAILED : COMMAND_OK;
}

static void check_release(struct check *c)
{
	for (size_t i = 0; i < c->n_epochs; i++) {
		free(c->epochs[i].name);
		free(c->epochs[i].numbers);
	}
	free(c->epochs);
	json_decref(c->index);
	verifier_free(c->verifier);
	signing_trust_free(c->trust);
}

static int check_file(const struct command *command, const char *ca_file)
{
	_cleanup_fclose_ FILE *f = fopen(command->argument, "re");
	struct check c = {.index = json_object()};
	_cleanup_free_ char *error = NULL;
	int r;

	if (!f) {
		fprintf(stderr, "virtspool-recorder: cannot open '%s': %s\n", command->argument,
			strerror(errno));
		return COMMAND_FAILED;
	}
	if (verifier_new(ca_file, command->crl_file, &c.verifier, &error) < 0 ||
	    signing_trust_load(ca_file, NULL, &c.trust, &error) < 0) {
		check_release(&c);
		return command_failure(-EINVAL, error);
	}
	(void)signing_trust_each(c.trust, print_authority, NULL);
	r = read_lines(&c, f);
	if (r == -EBADMSG) {
		fprintf(stderr,
			"virtspool-recorder: '%s' is not a file that `virtspool-recorder export` "
			"wrote\n",
			command->argument);
		r = COMMAND_FAILED;
	} else if (r < 0) {
		r = command_failure(r, strerror(-r));
	} else {
		r = report(&c, command->argument);
	}
	check_release(&c);
	return r;
}

int cmd_verify(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"cafile", OPTION_CAFILE, "FILE", 0,
		 "CA certificates (PEM) that the hosts' signing certificates must chain to [those that "
		 "the configuration verifies with]",
		 1},
		{"crlfile", OPTION_CRLFILE, "FILE", 0,
		 "revocation lists (PEM): events from the date of a revocation on are forged", 1},
		{"config", 'c', "FILE", 0, "configuration [" CONFIG_RECORDER_FILE "]", 9},
		{0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.args_doc = "FILE",
		.doc = "Verifies a file of `virtspool-recorder export`: that each event was signed by the "
		       "host that it names, with a certificate of this CA that was valid then, and that "
		       "no event is missing in between. Exit status 1 if anything is wrong.",
	};
	struct command c = {.argument_name = "FILE"};
	const char *ca_file;
	int r;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	ca_file = command_ca_file(&c);
	if (ca_file)
		r = check_file(&c, ca_file);
	else
		r = COMMAND_USAGE;
	if (!ca_file)
		fputs("virtspool-recorder: verify needs the CA: --cafile FILE\n", stderr);
	command_release(&c);
	return command_finish(r);
}
