/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live - see live.h.
 *
 * A stream without a message is a suspended connection, which costs libmicrohttpd nothing. It does
 * not notice either that such a client is gone; the heartbeat does.
 */
#include <jansson.h>

#include "spooler/base/hex.h"
#include "spooler/base/util.h"
#include "spooler/recorder/live.h"
#include "spooler/recorder/cloudevent.h"

#define PAUSE_USEC (250 * 1000) /* between two messages, at least */
#define PAUSE_PER_STREAM_USEC 1000
#define HEARTBEAT_USEC (15 * USEC_PER_SEC)
#define BLOCK 2048

static const char hello[] = "retry: 2000\nevent: hello\ndata: {}\n\n";
static const char heartbeat[] = ":\n\n";
static const char everything[] =
	"event: change\ndata: {\"hosts\":[],\"guests\":[],\"all\":true}\n\n";

struct message {
	unsigned references;
	size_t size;
	char text[];
};

struct stream {
	struct live *live;
	struct stream *next, *previous;
	struct MHD_Connection *connection;
	struct message *current;
	size_t offset;
	uint64_t serial; /* of the last change that it was given */
	bool suspended;
};

struct live {
	sd_event_source *tick, *beat;
	unsigned limit, n_streams;
	struct stream *streams;
	struct live_change change; /* not sent yet */
	struct message *last;	   /* change number `serial` */
	uint64_t serial, sent_usec;
	bool ended;
	void (*resumed)(void *userdata);
	void (*stalled)(struct MHD_Connection *connection, bool stalled);
	void *userdata;
};

/* --- what changed */

static void add_host(struct live_change *c, const char *host)
{
	for (size_t i = 0; i < c->n_hosts; i++)
		if (strcmp(c->hosts[i], host) == 0)
			return;
	if (c->n_hosts == LIVE_HOSTS_MAX || strlen(host) >= LIVE_HOST_SIZE)
		c->all = true;
	else
		(void)strcpy(c->hosts[c->n_hosts++], host);
}

static void add_guest(struct live_change *c, const unsigned char uuid[16])
{
	for (size_t i = 0; i < c->n_guests; i++)
		if (memcmp(c->guests[i], uuid, 16) == 0)
			return;
	if (c->n_guests == LIVE_GUESTS_MAX)
		c->all = true;
	else
		memcpy(c->guests[c->n_guests++], uuid, 16);
}

void live_change_add(struct live_change *c, const struct store_change *change)
{
	c->any = true;
	for (size_t i = 0; i < change->n_hosts && !c->all; i++)
		add_host(c, change->hosts[i]);
	for (size_t i = 0; i < change->n_guests && !c->all; i++)
		add_guest(c, change->guests[i]);
}

static void merge(struct live_change *to, const struct live_change *from)
{
	to->any = true;
	to->all = to->all || from->all;
	for (size_t i = 0; i < from->n_hosts && !to->all; i++)
		add_host(to, from->hosts[i]);
	for (size_t i = 0; i < from->n_guests && !to->all; i++)
		add_guest(to, from->guests[i]);
}

/* --- messages */

static struct message *message_new(const char *text, size_t size)
{
	struct message *m = malloc(sizeof(*m) + size);

	if (!m)
		return NULL;
	m->references = 1;
	m->size = size;
	memcpy(m->text, text, size);
	return m;
}

static void message_unref(struct message *m)
{
	if (m && --m->references == 0)
		free(m);
}

static struct message *message_of(const struct live_change *c)
{
	json_t *hosts = json_array(), *guests = json_array(), *o;
	_cleanup_free_ char *json = NULL, *text = NULL;
	int n;

	for (size_t i = 0; i < c->n_hosts; i++)
		(void)json_array_append_new(hosts, json_string(c->hosts[i]));
	for (size_t i = 0; i < c->n_guests; i++) {
		char uuid[UUID_TEXT];

		uuid_format(c->guests[i], uuid);
		(void)json_array_append_new(guests, json_string(uuid));
	}
	o = json_pack("{s:o, s:o, s:b}", "hosts", hosts, "guests", guests, "all", c->all);
	json = json_dumps(o, JSON_COMPACT); /* control characters are escaped: one line */
	json_decref(o);
	n = json ? asprintf(&text, "event: change\ndata: %s\n\n", json) : -1;
	if (n < 0)
		return NULL;
	return message_new(text, (size_t)n);
}

/* --- streams */

/* Gives an idle stream something to send. Takes the reference. */
static void give(struct stream *s, struct message *m)
{
	if (!m)
		return;
	s->current = m;
	s->offset = 0;
	if (!s->suspended)
		return;
	s->suspended = false;
	s->live->stalled(s->connection, true);
	MHD_resume_connection(s->connection);
}

/* The change that a stream has not seen; "all" if there were several. */
static void give_change(struct stream *s)
{
	struct live *l = s->live;

	if (s->current || s->serial == l->serial)
		return;
	if (s->serial + 1 == l->serial && l->last) {
		l->last->references++;
		give(s, l->last);
	} else {
		give(s, message_new(everything, sizeof(everything) - 1));
	}
	s->serial = l->serial;
}

static ssize_t on_read(void *userdata, uint64_t position, char *buf, size_t size)
{
	struct stream *s = userdata;
	size_t n;

	if (s->live->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (!s->current)
		give_change(s);
	if (!s->current) {
		s->suspended = true;
		s->live->stalled(s->connection, false);
		MHD_suspend_connection(s->connection);
		return 0;
	}
	n = s->current->size - s->offset < size ? s->current->size - s->offset : size;
	memcpy(buf, s->current->text + s->offset, n);
	s->offset += n;
	if (s->offset == s->current->size) {
		message_unref(s->current);
		s->current = NULL;
	}
	return (ssize_t)n;
}

static void on_free(void *userdata)
{
	struct stream *s = userdata;

	if (s->next)
		s->next->previous = s->previous;
	if (s->previous)
		s->previous->next = s->next;
	else
		s->live->streams = s->next;
	s->live->n_streams--;
	message_unref(s->current);
	free(s);
}

struct MHD_Response *live_open(struct live *l, struct MHD_Connection *connection)
{
	struct stream *s;
	struct MHD_Response *response;

	if (l->n_streams >= l->limit)
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	*s = (struct stream){.live = l,
			     .next = l->streams,
			     .connection = connection,
			     .current = message_new(hello, sizeof(hello) - 1),
			     .serial = l->serial};
	if (s->next)
		s->next->previous = s;
	l->streams = s;
	l->n_streams++;
	(void)sd_event_source_set_enabled(l->beat, SD_EVENT_ONESHOT);
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_read, s, on_free);
	if (!response)
		on_free(s);
	return response;
}

/* --- the clock */

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct live *l = userdata;

	if (!l->change.any)
		return 0;
	message_unref(l->last);
	l->last = l->n_streams ? message_of(&l->change) : NULL;
	l->serial++;
	l->sent_usec = now_usec(CLOCK_MONOTONIC);
	l->change.n_hosts = l->change.n_guests = 0;
	l->change.any = l->change.all = false;
	for (struct stream *s = l->streams; s; s = s->next)
		if (s->suspended)
			give_change(s);
	l->resumed(l->userdata);
	return 0;
}

void live_changed(struct live *l, const struct live_change *change)
{
	uint64_t pause = PAUSE_USEC + (uint64_t)l->n_streams * PAUSE_PER_STREAM_USEC;
	uint64_t now = now_usec(CLOCK_MONOTONIC), due = l->sent_usec + pause;

	if (!l->n_streams)
		return;
	if (!l->change.any) {
		(void)sd_event_source_set_time(l->tick, due > now ? due : now);
		(void)sd_event_source_set_enabled(l->tick, SD_EVENT_ONESHOT);
	}
	merge(&l->change, change);
}

static int on_beat(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct live *l = userdata;

	for (struct stream *s = l->streams; s; s = s->next)
		if (s->suspended)
			give(s, message_new(heartbeat, sizeof(heartbeat) - 1));
	l->resumed(l->userdata);
	if (!l->streams)
		return 0;
	(void)sd_event_source_set_time_relative(source, HEARTBEAT_USEC);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* --- start and end */

int live_new(sd_event *loop, unsigned connections, void (*resumed)(void *userdata),
	     void (*stalled)(struct MHD_Connection *connection, bool stalled), void *userdata,
	     struct live **ret_live)
{
	struct live *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->limit = connections - connections / 6;
	l->resumed = resumed;
	l->stalled = stalled;
	l->userdata = userdata;
	r = sd_event_add_time_relative(loop, &l->tick, CLOCK_MONOTONIC, 0, 1, on_tick, l);
	if (r >= 0)
		r = sd_event_add_time_relative(loop, &l->beat, CLOCK_MONOTONIC, HEARTBEAT_USEC, 1,
					       on_beat, l);
	if (r >= 0)
		r = sd_event_source_set_enabled(l->tick, SD_EVENT_OFF);
	if (r < 0) {
		live_free(l);
		return r;
	}
	*ret_live = l;
	return 0;
}

void live_end(struct live *l)
{
	if (!l)
		return;
	l->ended = true;
	for (struct stream *s = l->streams; s; s = s->next)
		if (s->suspended) {
			s->suspended = false;
			MHD_resume_connection(s->connection);
		}
}

void live_free(struct live *l)
{
	if (!l)
		return;
	sd_event_source_disable_unref(l->tick);
	sd_event_source_disable_unref(l->beat);
	message_unref(l->last);
	free(l);
}

unsigned live_streams(const struct live *l)
{
	return l->n_streams;
}
