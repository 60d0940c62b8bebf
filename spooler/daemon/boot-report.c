/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* boot-report - see boot-report.h. */
#include "spooler/daemon/boot-report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "hook/place.h"
#include "hook/spool.h"
#include "hook/stamp.h"
#include "spooler/base/util.h"
#include "spooler/spool/domain-document.h"
#include "spooler/spool/spoolid.h"

static uint64_t hash_of(const char *s, uint64_t hash)
{
	for (; *s; s++)
		hash = (hash ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
	return hash;
}

/* An id one tick above the last one that was seen. The same again for the same guest and boot. */
static void make_stamp(const char *boot, const struct spool_id *last,
		       const struct running_guest *guest, struct stamp *ret)
{
	uint64_t hash = hash_of(boot, hash_of(guest->uuid, UINT64_C(0xcbf29ce484222325)));
	struct spool_id id;
	char seen[UUID_TEXT];

	spool_id_name(last, seen);
	ret->ticks = stamp_id_ticks(seen) + 1;
	ret->sequence = 1;
	for (unsigned i = 0; i < 6; i++)
		id.id[i] = (unsigned char)(ret->ticks / STAMP_TICKS_PER_MS >> (40 - 8 * i));
	id.id[6] = (unsigned char)(0x70 | (ret->ticks % STAMP_TICKS_PER_MS >> 8));
	id.id[7] = (unsigned char)ret->ticks;
	for (unsigned i = 0; i < 8; i++)
		id.id[8 + i] = (unsigned char)(hash >> (56 - 8 * i));
	id.id[8] = 0x80 | (id.id[8] & 0x3f);
	spool_id_name(&id, ret->id);
	(void)snprintf(ret->epoch, sizeof(ret->epoch), "%016llx%016llx", (unsigned long long)hash,
		       (unsigned long long)hash_of(seen, hash));
}

static int put_record(const char *spool_dir, const struct record *r)
{
	_cleanup_close_ int spool_fd = place_open_top(spool_dir);
	_cleanup_free_ char *header = malloc(RECORD_HEADER_MAX);
	struct iovec parts[2] = {{.iov_base = header}};
	struct spool spool;
	int k;

	if (!header)
		return -ENOMEM;
	parts[0].iov_len = record_format_header(r, header, RECORD_HEADER_MAX);
	parts[1] = (struct iovec){(char *)r->document.data, r->document.size};
	k = spool_fd < 0 ? spool_fd : spool_open(spool_fd, &spool);
	if (k < 0)
		return k;
	spool_discard(&spool, r->stamp.id); /* ours, of a daemon that was killed */
	k = spool_put(&spool, r->stamp.id, parts, 2);
	spool_close(&spool);
	return k;
}

int boot_report_put(const char *spool_dir, const char *boot, const struct running_table *t,
		    const struct running_guest *guest)
{
	_cleanup_free_ char *document =
		domain_document_new(guest->driver, guest->name, guest->uuid, -1);
	struct record r = {
		.driver = guest->driver,
		.object = guest->name,
		.operation = bytes_of("reconciled"),
		.suboperation = bytes_of("shutoff"),
		.extra = bytes_of("host booted"),
		.argc = 4,
		.flags = RECORD_UNORDERED | RECORD_NO_HOOK,
		.origin = bytes_of(BOOT_REPORT_ORIGIN),
		.details = {bytes_of("previous=running")},
		.n_details = 1,
		.recorded_ns = (int64_t)now_usec(CLOCK_REALTIME) * 1000,
	};

	if (!document)
		return -ENOMEM;
	r.document = bytes_of(document);
	make_stamp(boot, &t->seen, guest, &r.stamp);
	return put_record(spool_dir, &r);
}
