/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* poison - see poison.h. */
#include "spooler/base/util.h"
#include "spooler/daemon/poison.h"

enum poison_evidence poison_evidence(bool disconnected, unsigned disconnect_reason)
{
	if (!disconnected)
		return POISON_EVIDENCE_EVENT;
	switch (disconnect_reason) {
	case 0x87: /* Not authorized */
		return POISON_EVIDENCE_RIGHTS;
	case 0x8d: /* Keep Alive timeout */
	case 0x8e: /* Session taken over */
		return POISON_EVIDENCE_NONE;
	case 0x89: /* Server busy */
	case 0x8b: /* Server shutting down */
	case 0x93: /* Receive Maximum exceeded */
	case 0x96: /* Message rate too high */
	case 0x97: /* Quota exceeded */
	case 0x98: /* Administrative action */
	case 0x9c: /* Use another server */
	case 0x9d: /* Server moved */
	case 0x9f: /* Connection rate exceeded */
	case 0xa0: /* Maximum connect time */
		return POISON_EVIDENCE_BROKER;
	default: /* also a code that the standard does not list */
		return POISON_EVIDENCE_EVENT;
	}
}

void poison_connected(struct poison *p, struct poison_sizes *sizes, bool can_probe, bool can_pad)
{
	p->sizes = sizes;
	p->can_probe = can_probe;
	p->can_pad = can_pad;
	p->probing = false;
	p->probing_size = 0;
	p->lonely = false;
	p->answers = 0;
}

bool poison_is_waiting(const struct poison *p, size_t in_flight)
{
	return p->singly && (in_flight > 0 || p->probing);
}

/* Its index; n_suspect_keys if it is not. */
static size_t find_suspect(const struct poison *p, uint64_t key)
{
	size_t i = 0;

	while (i < p->n_suspect_keys && p->suspect_keys[i] != key)
		i++;
	return i;
}

enum poison_advice poison_admit(const struct poison *p, const struct poison_event *e,
				size_t in_flight, size_t *ret_probe_size)
{
	bool controlled = p->answers > 0;

	if (p->sizes->limit > 0 && e->size >= p->sizes->limit)
		return POISON_TOO_LARGE;
	if (!p->singly)
		return POISON_GO;
	if (poison_is_waiting(p, in_flight))
		return POISON_WAIT;
	*ret_probe_size = controlled ? e->size : 0;
	if (p->can_probe && (!controlled || (p->can_pad && e->size > p->sizes->taken)))
		return POISON_PROBE;
	if (!controlled && !p->lonely && find_suspect(p, e->key) < p->n_suspect_keys)
		return POISON_HOLD;
	return POISON_GO;
}

void poison_probing(struct poison *p, size_t size)
{
	p->probing = true;
	p->probing_size = size;
}

void poison_cannot_probe(struct poison *p)
{
	p->can_probe = false;
}

bool poison_release(struct poison *p)
{
	if (p->lonely || !p->singly || p->can_probe || p->answers > 0)
		return false;
	p->lonely = true;
	return true;
}

/* One of those that were unanswered when a connection was lost is answered. */
static void less_doubtful(struct poison *p)
{
	if (p->doubtful > 0 && --p->doubtful == 0)
		p->singly = false;
}

/* One of them is set aside. Its neighbours are as suspect as before: at least one answer more is
   waited for. */
static void set_aside(struct poison *p)
{
	if (p->doubtful > 1)
		p->doubtful--;
}

static void suspect(struct poison *p, const struct poison_event *e)
{
	if (spool_id_compare(&p->suspect, &e->id) != 0)
		p->strikes = 0;
	p->suspect = e->id;
	if (find_suspect(p, e->key) == p->n_suspect_keys && p->n_suspect_keys < POISON_SUSPECTS_MAX)
		p->suspect_keys[p->n_suspect_keys++] = e->key;
}

/* It has been answered, or convicted. */
static void close_case(struct poison *p, const struct poison_event *e)
{
	size_t i = find_suspect(p, e->key);

	if (i < p->n_suspect_keys)
		p->suspect_keys[i] = p->suspect_keys[--p->n_suspect_keys];
	if (spool_id_compare(&p->suspect, &e->id) == 0)
		p->strikes = 0;
}

bool poison_answered(struct poison *p, const struct poison_event *e, size_t size)
{
	bool control = p->singly && !p->can_probe && p->answers == 0;

	p->answers++;
	if (size > p->sizes->taken)
		p->sizes->taken = size;
	if (size >= p->sizes->limit)
		p->sizes->limit = 0; /* disproved */
	if (!e) {
		p->probing = false;
		if (size >= p->probe_size)
			p->probe_strikes = 0;
		return false;
	}
	close_case(p, e);
	less_doubtful(p);
	return control;
}

void poison_delivered(struct poison *p)
{
	p->convicted = 0;
}

static void lost_over_probe(struct poison *p)
{
	if (p->probing_size == 0)
		return;
	if (p->probe_size != p->probing_size)
		p->probe_strikes = 0;
	p->probe_size = p->probing_size;
	p->progress = true;
	if (++p->probe_strikes < POISON_PROBE_STRIKES)
		return;
	p->sizes->limit = p->probing_size;
	p->probe_strikes = 0;
}

static enum poison_verdict lost_over_event(struct poison *p, const struct poison_event *e,
					   enum poison_evidence evidence)
{
	p->singly = true;
	suspect(p, e);
	if (p->answers > 0) {
		p->strikes++;
		p->progress = evidence != POISON_EVIDENCE_BROKER; /* which is given time */
	}
	if (p->strikes < POISON_STRIKES)
		return POISON_INNOCENT;
	close_case(p, e);
	set_aside(p);
	if (evidence == POISON_EVIDENCE_BROKER)
		return POISON_DENIED;
	p->convicted++;
	return POISON_CONVICTED;
}

enum poison_verdict poison_lost(struct poison *p, const struct poison_event *unanswered, size_t n,
				enum poison_evidence evidence)
{
	bool probing = p->probing;

	p->probing = false;
	p->progress = false;
	if (evidence == POISON_EVIDENCE_NONE)
		return POISON_INNOCENT;
	if (n == 0) {
		if (probing && evidence != POISON_EVIDENCE_BROKER)
			lost_over_probe(p);
		else
			p->sizes->limit = 0; /* it may have been restarted, with another limit */
		return POISON_INNOCENT;
	}
	if (p->doubtful > 0 || evidence == POISON_EVIDENCE_RIGHTS)
		p->singly = true;
	p->progress = evidence != POISON_EVIDENCE_BROKER && (!p->singly || n < p->doubtful);
	if (n > p->doubtful)
		p->doubtful = n;
	if (n > 1)
		return POISON_INNOCENT;
	if (evidence == POISON_EVIDENCE_RIGHTS && !probing) {
		set_aside(p);
		return POISON_DENIED;
	}
	return lost_over_event(p, unanswered, evidence);
}

bool poison_progress(const struct poison *p)
{
	return p->progress && p->convicted < POISON_UNPUNISHED;
}

void poison_forget(struct poison *p)
{
	*p = (struct poison){
		.sizes = p->sizes,
		.can_probe = p->can_probe,
		.can_pad = p->can_pad,
		.probing = p->probing,
		.probing_size = p->probing_size,
		.answers = p->answers,
	};
}
