/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* presence - see presence.h. Values that cannot be read are left out of the report. */
#include <fcntl.h>
#include <sys/stat.h>

#include "hook/spool.h"
#include "hook/stamp.h"
#include "spooler/base/util.h"
#include "spooler/daemon/presence.h"
#include "spooler/spool/dropped.h"

/* Under the unit /proc shows processes only: the boot id comes in the environment. */
int presence_boot_id(sd_id128_t *ret_id)
{
	const char *text = getenv("VIRTSPOOL_BOOT_ID");

	return text ? sd_id128_from_string(text, ret_id) : sd_id128_get_boot(ret_id);
}

/* Made of the boot and of the run directory, which is new at each boot. */
static int placeholder(const sd_id128_t *boot, int run, char ret_epoch[SD_ID128_STRING_MAX])
{
	struct statx st = {0};
	sd_id128_t id = *boot;

	if (run >= 0 && statx(run, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) < 0)
		return -errno;
	id.qwords[0] ^= st.stx_ino * 0x9e3779b97f4a7c15;
	id.qwords[1] ^= ((uint64_t)st.stx_btime.tv_sec * 1000000000 + st.stx_btime.tv_nsec) *
			0xbf58476d1ce4e5b9;
	id.bytes[0] ^= 0xff; /* it is not the boot id even where nothing else is known */
	(void)sd_id128_to_string(id, ret_epoch);
	return 0;
}

/* --- what will never come */

struct lost {
	struct event_range list[PRESENCE_LOST_MAX]; /* the last ones */
	size_t n;
};

static void add_lost(struct lost *l, const char *epoch, uint64_t first, uint64_t last)
{
	struct event_range *end = l->n ? &l->list[l->n - 1] : NULL;

	if (end && strcmp(end->epoch, epoch) == 0 && end->last + 1 == first) {
		end->last = last;
		return;
	}
	if (l->n == PRESENCE_LOST_MAX) {
		memmove(&l->list[0], &l->list[1], (l->n - 1) * sizeof(l->list[0]));
		l->n--;
	}
	end = &l->list[l->n++];
	*end = (struct event_range){.first = first, .last = last};
	(void)snprintf(end->epoch, sizeof(end->epoch), "%s", epoch);
}

static void add_dropped(const char *epoch, uint64_t sequence, void *userdata)
{
	if (epoch)
		add_lost(userdata, epoch, sequence, sequence);
}

static void collect_lost(struct lost *l, const struct completeness *c)
{
	dropped_read(spool_run_directory(), add_dropped, l);
	for (size_t i = 0; i < c->n; i++)
		for (size_t k = 0; k < c->epochs[i].n_gaps; k++) {
			const struct gap *g = &c->epochs[i].gaps[k];

			if (g->state == GAP_LOST)
				add_lost(l, c->epochs[i].epoch, g->first, g->last);
		}
}

int presence_build(const struct config *c, const struct credentials *credentials,
		   struct signing *signing, const struct completeness *completeness,
		   enum presence p, struct event *ret_event)
{
	struct lost lost = {.n = 0};
	char boot_id[SD_ID128_STRING_MAX], epoch[SD_ID128_STRING_MAX];
	_cleanup_free_ char *certificate = NULL;
	_cleanup_close_ int run = -1;
	struct event_status s = {
		.online = p == PRESENCE_ONLINE,
		.will = p == PRESENCE_WILL,
	};
	struct stamp stamp;
	sd_id128_t boot;
	int r;

	*ret_event = (struct event){};
	if (!c->mqtt.status_topic)
		return 0;
	if (!signing)
		certificate = credentials_own_certificate(credentials);
	s.certificate = signing ? signing_certificate(signing) : certificate;
	run = open(spool_run_directory(), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (presence_boot_id(&boot) >= 0) {
		s.boot_id = sd_id128_to_string(boot, boot_id);
		if (placeholder(&boot, run, epoch) >= 0)
			s.epoch = epoch;
	}
	if (run >= 0 && stamp_peek(run, SPOOL_STAMP, &stamp) >= 0) {
		s.epoch = stamp.epoch;
		s.sequence = stamp.sequence;
	}
	if (completeness && p != PRESENCE_WILL)
		collect_lost(&lost, completeness);
	s.lost = lost.list;
	s.n_lost = lost.n;
	r = event_build_status(c, &s, ret_event);
	if (r >= 0 && signing)
		r = signing_sign(signing, ret_event);
	if (r < 0)
		event_release(ret_event);
	return r < 0 ? r : 1;
}

bool presence_will_may_be_refused(unsigned reason_code)
{
	static const uint8_t codes[] = {
		0x00, 0x05 /* 3.1.1: not authorized */,
		0x80, 0x81,
		0x82, 0x83,
		0x87, 0x90,
		0x95, 0x99,
		0x9b,
	};

	return reason_code <= UINT8_MAX && memchr(codes, (int)reason_code, sizeof(codes)) != NULL;
}
