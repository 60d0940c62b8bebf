/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtspool-recorder export - the record of some time as one file that proves itself: events as
 * they were sent, the certificates that they were signed with, and the holes. cmd-verify.c reads
 * it.
 *
 * One JSON object a line:
 *
 *	{"virtspool-export":1,"created":TIME,"since":TIME,"until":TIME,"hosts":GLOB}
 *	{"authority":BASE64}			a certificate of the CA; base64 of its DER form
 *	{"certificate":BASE64,"host":NAME}
 *	{"event":PAYLOAD}			the payload, byte by byte, as a string
 *	{"hole":{"host":NAME,"epoch":EPOCH,"first":N,"last":N,"state":STATE}}
 *	{"end":{"events":N,"certificates":N,"holes":N}}
 */
#include "spooler/base/log.h"
#include "spooler/base/util.h"
#include "spooler/event/signature.h"
#include "spooler/recorder/command.h"

#define PAGE 1000

struct export
{
	uint64_t events, certificates, holes;
};

static int written(void)
{
	return command_output_ended() ? -EPIPE : 0;
}

static int on_authority(const char *base64, const char *fingerprint, void *userdata)
{
	command_print_json(json_pack("{s:s}", "authority", base64));
	return written();
}

/* Included for the record only: whoever verifies uses a trusted copy of their own. */
static int write_authority(struct command *c)
{
	_cleanup_free_ char *error = NULL;
	struct signing_trust *trust = NULL;
	const char *file = command_ca_file(c);
	int r;

	if (!file) {
		log_warning("the CA's certificate is not in the file: it is not known here; see "
			    "--cafile");
		return 0;
	}
	r = signing_trust_load(file, NULL, &trust, &error);
	if (r < 0) {
		log_error("%s", error ? error : strerror(-r));
		return r;
	}
	r = signing_trust_each(trust, on_authority, NULL);
	signing_trust_free(trust);
	return r;
}

static int on_certificate(const char *host, const char *certificate, void *userdata)
{
	struct export *e = userdata;

	e->certificates++;
	command_print_json(json_pack("{s:s, s:s}", "certificate", certificate, "host", host));
	return written();
}

static int on_event(const struct query_event *event, void *userdata)
{
	struct export *e = userdata;

	e->events++;
	command_print_json(
		json_pack("{s:o}", "event", json_stringn(event->payload, event->payload_size)));
	return written();
}

static int on_hole(const struct query_hole *h, void *userdata)
{
	struct export *e = userdata;

	e->holes++;
	command_print_json(json_pack("{s:{s:s, s:s, s:I, s:I, s:s}}", "hole", "host", h->host,
				     "epoch", h->epoch, "first", (json_int_t)h->first, "last",
				     (json_int_t)h->last, "state",
				     h->lost ? "lost on the host" : "open"));
	return written();
}

/* Page by page, so that no reader holds up the writer. */
static int write_all(struct command *c, struct export *e)
{
	struct query_filter f = c->filter;
	struct query_page page = {.cursor = ""};
	char cursor[QUERY_CURSOR_SIZE];
	int r;

	f.limit = QUERY_LIMIT_MAX;
	f.cursor = NULL;
	r = write_authority(c);
	if (r >= 0)
		r = query_certificates(c->query, &f, on_certificate, e, &page);
	f.limit = PAGE;
	f.oldest_first = true;
	do {
		if (r < 0)
			return r;
		r = query_log(c->query, &f, on_event, e, &page);
		memcpy(cursor, page.cursor, sizeof(cursor));
		f.cursor = cursor;
		command_flush();
	} while (r >= 0 && cursor[0]);
	f.limit = QUERY_LIMIT_MAX;
	f.cursor = NULL;
	f.since = f.until = 0; /* a hole is where it is, whenever it was found */
	return r < 0 ? r : query_holes(c->query, &f, on_hole, e, &page);
}

int cmd_export(int argc, char **argv)
{
	static const struct argp_option options[] = {
		COMMAND_HOST,
		{"from", OPTION_SINCE, "TIME", 0,
		 "newer than TIME: 2h, yesterday, 14:00, 2026-11-21, 2026-11-21T08:00:00Z ...", 2},
		{"since", 0, NULL, OPTION_ALIAS, NULL, 2},
		{"to", OPTION_UNTIL, "TIME", 0, "older than TIME", 2},
		{"until", 0, NULL, OPTION_ALIAS, NULL, 2},
		{"cafile", OPTION_CAFILE, "FILE", 0,
		 "CA certificates (PEM) to include [those that the configuration verifies with]",
		 2},
		COMMAND_COMMON,
		{0}};
	static const struct argp argp = {
		.options = options,
		.parser = command_option,
		.doc = "Writes events as they were sent, their hosts' certificates, the CA's and the holes "
		       "to the standard output. `virtspool-recorder verify` checks such a file, years later, "
		       "with nothing but the CA's certificate.",
	};
	struct export e = {0};
	struct command c = {0};
	int r;

	if (!command_parse(&argp, argc, argv, &c))
		return COMMAND_USAGE;
	r = command_open(&c);
	if (r == COMMAND_OK) {
		command_print_json(json_pack("{s:i, s:o, s:o, s:o, s:s}", "virtspool-export", 1,
					     "created", json_time(now_usec(CLOCK_REALTIME)),
					     "since", json_time((uint64_t)c.filter.since), "until",
					     json_time((uint64_t)c.filter.until), "hosts",
					     c.filter.host ? c.filter.host : "*"));
		r = write_all(&c, &e);
		if (r >= 0)
			command_print_json(json_pack("{s:{s:I, s:I, s:I}}", "end", "events",
						     (json_int_t)e.events, "certificates",
						     (json_int_t)e.certificates, "holes",
						     (json_int_t)e.holes));
		r = r < 0 ? command_failure(r, query_error(c.query)) : COMMAND_OK;
	}
	command_release(&c);
	return command_finish(r);
}
