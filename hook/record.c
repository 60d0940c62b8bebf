/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * record - the writer of what lies in the spool, and the description of its format. The parser is
 * spooler/spool/record-parse.c.
 *
 *	virtspool-record 1
 *	id: 0193a5f2-7c1b-7a3c-9d1e-5b6f0c2d4e8a
 *	epoch: 5b1c0f6e2d7a49c8a3e4f5061728394a
 *	sequence: 17
 *	recorded: 2026-11-21T06:22:35.123456789Z
 *	driver: qemu
 *	arguments: 4
 *	object: web%2Fone
 *	operation: release
 *	suboperation: end
 *	extra: shutdown
 *	flags: document-truncated
 *	redacted: 1
 *	length: 1734
 *	crc32c: 0a1b2c3d
 *
 *	<domain type='kvm' id='4'>...
 *
 * The first line names the format and its version. A reader refuses an unknown version and ignores
 * an unknown field. A header line is "key: value" in printable ASCII and ends with one newline. In
 * the values of driver, object, operation, suboperation, extra, argument, origin, transition and
 * detail, every other byte and '%' are written as %XX, so that each value comes back byte by byte.
 * A field occurs at most once, except `argument` (the fifth and later ones) and `detail`.
 *
 *	id           UUIDv7: the ordered time and the file's name
 *	epoch        32 hexadecimal digits
 *	sequence     place within the epoch, from 1
 *	recorded     the wall clock (UTC) as the hook saw it
 *	driver       qemu, lxc, ...
 *	arguments    how many the hook was given; object, operation, suboperation and extra are the
 *	             first four. An argument that was not given has no line; an empty one has.
 *	origin       api: libvirt's event API reported it, not a hook. Such a record may have:
 *	transition   the id of the hook's record of the same transition
 *	detail       key=value, as often as there are details
 *	flags        words, if any: document-truncated arguments-truncated unordered told-by-hook
 *	             no-hook
 *	redacted     how many secrets were blanked in the document, if any
 *	length       bytes of the document: from after the blank line to the end of the file
 *	crc32c       eight digits, always the last line: CRC-32C of the header before this line and of
 *	             the document
 */
#include "hook/record.h"

#include <string.h>

#include "hook/calendar.h"
#include "hook/crc32c.h"
#include "hook/text.h"

const struct record_flag_word record_flag_words[RECORD_N_FLAGS] = {
	{"document-truncated", RECORD_DOCUMENT_TRUNCATED},
	{"arguments-truncated", RECORD_ARGUMENTS_TRUNCATED},
	{"unordered", RECORD_UNORDERED},
	{"told-by-hook", RECORD_TOLD_BY_HOOK},
	{"no-hook", RECORD_NO_HOOK},
};

static void text_add_time(struct text *t, int64_t ns)
{
	int64_t seconds = ns / 1000000000, fraction = ns % 1000000000;

	if (fraction < 0) {
		fraction += 1000000000;
		seconds--;
	}
	int64_t days = seconds / 86400, rest = seconds % 86400;

	if (rest < 0) {
		rest += 86400;
		days--;
	}
	int64_t year = 1970 + days / 366 - 2;

	while (days_before_year(year + 1) <= days)
		year++;
	days -= days_before_year(year);
	int month = 1;

	while (days >= days_in_month(year, month))
		days -= days_in_month(year, month++);
	text_add_number(t, (uint64_t)year, 4);
	text_add(t, "-");
	text_add_number(t, (uint64_t)month, 2);
	text_add(t, "-");
	text_add_number(t, (uint64_t)days + 1, 2);
	text_add(t, "T");
	text_add_number(t, (uint64_t)rest / 3600, 2);
	text_add(t, ":");
	text_add_number(t, (uint64_t)rest / 60 % 60, 2);
	text_add(t, ":");
	text_add_number(t, (uint64_t)rest % 60, 2);
	text_add(t, ".");
	text_add_number(t, (uint64_t)fraction, 9);
	text_add(t, "Z");
}

/* --- the writer */

static void add_number_line(struct text *t, const char *key, uint64_t value)
{
	text_add(t, key);
	text_add(t, ": ");
	text_add_number(t, value, 1);
	text_add(t, "\n");
}

static void add_value_line(struct text *t, const char *key, struct bytes value)
{
	if (!value.data)
		return;
	text_add(t, key);
	text_add(t, ": ");
	text_add_escaped(t, value.data, value.size);
	text_add(t, "\n");
}

static void add_plain_line(struct text *t, const char *key, const char *value)
{
	add_value_line(t, key, (struct bytes){value, strlen(value)});
}

static void add_flags_line(struct text *t, unsigned flags)
{
	if (!flags)
		return;
	text_add(t, "flags:");
	for (size_t i = 0; i < RECORD_N_FLAGS; i++) {
		if (flags & record_flag_words[i].flag) {
			text_add(t, " ");
			text_add(t, record_flag_words[i].word);
		}
	}
	text_add(t, "\n");
}

size_t record_format_header(const struct record *r, char *buf, size_t size)
{
	struct text t = {.data = buf, .size = size};

	text_add(&t, RECORD_FORMAT RECORD_VERSION "\n");
	add_plain_line(&t, "id", r->stamp.id);
	add_plain_line(&t, "epoch", r->stamp.epoch);
	add_number_line(&t, "sequence", r->stamp.sequence);
	text_add(&t, "recorded: ");
	text_add_time(&t, r->recorded_ns);
	text_add(&t, "\n");
	add_value_line(&t, "driver", r->driver);
	add_number_line(&t, "arguments", r->argc);
	add_value_line(&t, "object", r->object);
	add_value_line(&t, "operation", r->operation);
	add_value_line(&t, "suboperation", r->suboperation);
	add_value_line(&t, "extra", r->extra);
	for (unsigned i = 0; i < r->n_arguments; i++)
		add_value_line(&t, "argument", r->arguments[i]);
	add_value_line(&t, "origin", r->origin);
	add_value_line(&t, "transition", r->transition);
	for (unsigned i = 0; i < r->n_details; i++)
		add_value_line(&t, "detail", r->details[i]);
	add_flags_line(&t, r->flags);
	if (r->redacted)
		add_number_line(&t, "redacted", r->redacted);
	add_number_line(&t, "length", r->document.size);

	uint32_t crc = crc32c(crc32c(0, buf, t.length), r->document.data, r->document.size);

	text_add(&t, RECORD_CHECKSUM_KEY);
	text_add_hex(&t, crc, 8);
	text_add(&t, "\n\n");
	return t.length;
}
