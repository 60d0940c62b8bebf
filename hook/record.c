/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * record - the writer and the parser of what lies in the spool.
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
 *	redacted     how many secrets were blanked in the document, if any
 *	length       bytes of the document: from after the blank line to the end of the file
 *	crc32c       eight digits, always the last line: CRC-32C of the header before this line and of
 *	             the document
 */
#include "hook/record.h"

#include <errno.h>
#include <string.h>

#include "hook/crc32c.h"
#include "hook/text.h"

#define FORMAT "virtspool-record "
#define FORMAT_VERSION "1"
#define CHECKSUM_KEY "crc32c: "
#define CHECKSUM_LINE (sizeof(CHECKSUM_KEY) - 1 + 8 + 1)

static const struct {
	const char *word;
	unsigned flag;
} flag_words[] = {
	{"document-truncated", RECORD_DOCUMENT_TRUNCATED},
	{"arguments-truncated", RECORD_ARGUMENTS_TRUNCATED},
	{"unordered", RECORD_UNORDERED},
	{"told-by-hook", RECORD_TOLD_BY_HOOK},
};
#define N_FLAG_WORDS (sizeof(flag_words) / sizeof(flag_words[0]))

/* --- the calendar: gmtime() and timegm() would read the time zone's file under glibc */

static int64_t days_before_year(int64_t year)
{
	int64_t y = year - 1;

	return y * 365 + y / 4 - y / 100 + y / 400 - 719162; /* 719162 days from year 1 to 1970 */
}

static bool is_leap_year(int64_t year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int days_in_month(int64_t year, int month)
{
	static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return month == 2 && is_leap_year(year) ? 29 : days[month - 1];
}

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
	for (size_t i = 0; i < N_FLAG_WORDS; i++) {
		if (flags & flag_words[i].flag) {
			text_add(t, " ");
			text_add(t, flag_words[i].word);
		}
	}
	text_add(t, "\n");
}

size_t record_format_header(const struct record *r, char *buf, size_t size)
{
	struct text t = {.data = buf, .size = size};

	text_add(&t, FORMAT FORMAT_VERSION "\n");
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

	text_add(&t, CHECKSUM_KEY);
	text_add_hex(&t, crc, 8);
	text_add(&t, "\n\n");
	return t.length;
}

/* --- the parser */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Takes the escapes out of the value where it stands. */
static bool unescape(char *data, size_t size, struct bytes *ret_value)
{
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		if (data[i] == '%') {
			if (size - i < 3 || hex_digit(data[i + 1]) < 0 ||
			    hex_digit(data[i + 2]) < 0)
				return false;
			data[n++] = (char)(hex_digit(data[i + 1]) << 4 | hex_digit(data[i + 2]));
			i += 2;
		} else {
			data[n++] = data[i];
		}
	}
	*ret_value = (struct bytes){data, n};
	return true;
}

static bool parse_number(const char *s, size_t size, uint64_t *ret_n)
{
	uint64_t n = 0;

	if (size == 0 || (size > 1 && s[0] == '0'))
		return false;
	for (size_t i = 0; i < size; i++) {
		if (s[i] < '0' || s[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(s[i] - '0'), &n))
			return false;
	}
	*ret_n = n;
	return true;
}

static bool parse_unsigned(const char *s, size_t size, unsigned *ret_n)
{
	uint64_t n;

	if (!parse_number(s, size, &n) || n > UINT32_MAX)
		return false;
	*ret_n = (unsigned)n;
	return true;
}

static bool parse_hex32(const char *s, uint32_t *ret_n)
{
	uint32_t n = 0;

	for (int i = 0; i < 8; i++) {
		if (hex_digit(s[i]) < 0)
			return false;
		n = n << 4 | (uint32_t)hex_digit(s[i]);
	}
	*ret_n = n;
	return true;
}

/* Digits at s[at..at+width), without check: the shape was checked. */
static int64_t digits(const char *s, int at, int width)
{
	int64_t n = 0;

	for (int i = 0; i < width; i++)
		n = n * 10 + (s[at + i] - '0');
	return n;
}

static bool parse_time(const char *s, size_t size, int64_t *ret_ns)
{
	static const char shape[] = "0000-00-00T00:00:00.000000000Z";

	if (size != sizeof(shape) - 1)
		return false;
	for (size_t i = 0; i < size; i++) {
		if (shape[i] == '0' ? s[i] < '0' || s[i] > '9' : s[i] != shape[i])
			return false;
	}
	int64_t year = digits(s, 0, 4);
	int month = (int)digits(s, 5, 2), day = (int)digits(s, 8, 2);

	if (year < 1678 || year > 2261 || month < 1 || month > 12 || day < 1 ||
	    day > days_in_month(year, month))
		return false;
	int64_t days = days_before_year(year) + day - 1;

	for (int m = 1; m < month; m++)
		days += days_in_month(year, m);
	if (digits(s, 11, 2) > 23 || digits(s, 14, 2) > 59 || digits(s, 17, 2) > 59)
		return false;
	int64_t seconds =
		days * 86400 + digits(s, 11, 2) * 3600 + digits(s, 14, 2) * 60 + digits(s, 17, 2);

	*ret_ns = seconds * 1000000000 + digits(s, 20, 9);
	return true;
}

static bool parse_epoch(const char *s, size_t size, char ret_epoch[33])
{
	if (size != 32)
		return false;
	for (size_t i = 0; i < size; i++) {
		if (hex_digit(s[i]) < 0 || (s[i] >= 'A' && s[i] <= 'F'))
			return false;
	}
	memcpy(ret_epoch, s, 32);
	ret_epoch[32] = '\0';
	return true;
}

static bool parse_id(const char *s, size_t size, struct stamp *ret_stamp)
{
	if (size != 36)
		return false;
	memcpy(ret_stamp->id, s, 36);
	ret_stamp->id[36] = '\0';
	if (!stamp_id_valid(ret_stamp->id))
		return false;
	ret_stamp->ticks = stamp_id_ticks(ret_stamp->id);
	return true;
}

static unsigned parse_flags(const char *s, size_t size)
{
	unsigned flags = 0;

	while (size) {
		const char *blank = memchr(s, ' ', size);
		size_t n = blank ? (size_t)(blank - s) : size;

		for (size_t i = 0; i < N_FLAG_WORDS; i++) {
			if (n == strlen(flag_words[i].word) &&
			    memcmp(s, flag_words[i].word, n) == 0)
				flags |= flag_words[i].flag;
		}
		size -= blank ? n + 1 : n;
		s += blank ? n + 1 : n;
	}
	return flags;
}

enum key {
	KEY_ID,
	KEY_EPOCH,
	KEY_SEQUENCE,
	KEY_RECORDED,
	KEY_DRIVER,
	KEY_ARGUMENTS,
	KEY_OBJECT,
	KEY_OPERATION,
	KEY_SUBOPERATION,
	KEY_EXTRA,
	KEY_ARGUMENT,
	KEY_ORIGIN,
	KEY_TRANSITION,
	KEY_DETAIL,
	KEY_FLAGS,
	KEY_REDACTED,
	KEY_LENGTH,
	N_KEYS,
};

static const struct {
	const char *name;
	bool required;
	const char *reason; /* when the value is bad */
} keys[N_KEYS] = {
	[KEY_ID] = {"id", true, "the id is not a UUIDv7"},
	[KEY_EPOCH] = {"epoch", true, "the epoch is not 32 hexadecimal digits"},
	[KEY_SEQUENCE] = {"sequence", true, "the sequence is not a number"},
	[KEY_RECORDED] = {"recorded", true, "the time of recording is not a time"},
	[KEY_DRIVER] = {"driver", true, "the driver is badly escaped"},
	[KEY_ARGUMENTS] = {"arguments", true, "the count of arguments is not a number"},
	[KEY_OBJECT] = {"object", false, "the object is badly escaped"},
	[KEY_OPERATION] = {"operation", false, "the operation is badly escaped"},
	[KEY_SUBOPERATION] = {"suboperation", false, "the sub-operation is badly escaped"},
	[KEY_EXTRA] = {"extra", false, "the extra argument is badly escaped"},
	[KEY_ARGUMENT] = {"argument", false,
			  "there are too many arguments, or one is badly escaped"},
	[KEY_ORIGIN] = {"origin", false, "the origin is badly escaped"},
	[KEY_TRANSITION] = {"transition", false, "the transition is badly escaped"},
	[KEY_DETAIL] = {"detail", false, "there are too many details, or one is badly escaped"},
	[KEY_FLAGS] = {"flags", false, "the flags are bad"},
	[KEY_REDACTED] = {"redacted", false, "the count of secrets is not a number"},
	[KEY_LENGTH] = {"length", true, "the length is not a number"},
};

static bool parse_value(enum key key, char *value, size_t size, struct record *r,
			uint64_t *ret_length)
{
	switch (key) {
	case KEY_ID:
		return parse_id(value, size, &r->stamp);
	case KEY_EPOCH:
		return parse_epoch(value, size, r->stamp.epoch);
	case KEY_SEQUENCE:
		return parse_number(value, size, &r->stamp.sequence) && r->stamp.sequence > 0;
	case KEY_RECORDED:
		return parse_time(value, size, &r->recorded_ns);
	case KEY_DRIVER:
		return unescape(value, size, &r->driver);
	case KEY_ARGUMENTS:
		return parse_unsigned(value, size, &r->argc);
	case KEY_OBJECT:
		return unescape(value, size, &r->object);
	case KEY_OPERATION:
		return unescape(value, size, &r->operation);
	case KEY_SUBOPERATION:
		return unescape(value, size, &r->suboperation);
	case KEY_EXTRA:
		return unescape(value, size, &r->extra);
	case KEY_ARGUMENT:
		return r->n_arguments < RECORD_ARGUMENTS_MAX &&
		       unescape(value, size, &r->arguments[r->n_arguments++]);
	case KEY_ORIGIN:
		return unescape(value, size, &r->origin);
	case KEY_TRANSITION:
		return unescape(value, size, &r->transition);
	case KEY_DETAIL:
		return r->n_details < RECORD_DETAILS_MAX &&
		       unescape(value, size, &r->details[r->n_details++]);
	case KEY_FLAGS:
		r->flags = parse_flags(value, size);
		return true;
	case KEY_REDACTED:
		return parse_unsigned(value, size, &r->redacted);
	case KEY_LENGTH:
		return parse_number(value, size, ret_length);
	case N_KEYS:
		break;
	}
	return false;
}

/* One header line, without its newline. Returns NULL or what is wrong with it. */
static const char *parse_line(char *line, size_t size, struct record *r, unsigned *seen,
			      uint64_t *ret_length)
{
	char *colon = memchr(line, ':', size);

	if (!colon || colon == line || (size_t)(colon - line) + 2 > size || colon[1] != ' ')
		return "a line of the header is not 'key: value'";
	for (size_t i = 0; i < size; i++) {
		if (line[i] < 0x20 || line[i] > 0x7e)
			return "a byte in the header is not printable ASCII";
	}
	for (int key = 0; key < N_KEYS; key++) {
		if (strlen(keys[key].name) != (size_t)(colon - line) ||
		    memcmp(line, keys[key].name, (size_t)(colon - line)) != 0)
			continue;
		if (*seen & 1U << key && key != KEY_ARGUMENT && key != KEY_DETAIL)
			return "a field of the header stands twice";
		*seen |= 1U << key;
		return parse_value((enum key)key, colon + 2, (size_t)(line + size - colon) - 2, r,
				   ret_length)
			       ? NULL
			       : keys[key].reason;
	}
	return NULL;
}

static const char *parse_fields(char *p, const char *end, struct record *r, uint64_t *ret_length)
{
	unsigned seen = 0;

	while (p < end) {
		char *newline = memchr(p, '\n', (size_t)(end - p));
		const char *reason = parse_line(p, (size_t)(newline - p), r, &seen, ret_length);

		if (reason)
			return reason;
		p = newline + 1;
	}
	for (int key = 0; key < N_KEYS; key++) {
		if (keys[key].required && !(seen & 1U << key))
			return "a field of the header is missing";
	}
	return NULL;
}

/* Where the header begins after its first line, or NULL. */
static char *check_first_line(char *data, size_t size, const char **ret_reason)
{
	static const char line[] = FORMAT FORMAT_VERSION "\n";

	if (size >= sizeof(line) - 1 && memcmp(data, line, sizeof(line) - 1) == 0)
		return data + sizeof(line) - 1;
	if (size == 0)
		*ret_reason = "the file is empty";
	else if (size >= sizeof(FORMAT) - 1 && memcmp(data, FORMAT, sizeof(FORMAT) - 1) == 0)
		*ret_reason = "the record has a version that this program does not know";
	else
		*ret_reason = "this is not a record: its first line is another";
	return NULL;
}

int record_parse(char *data, size_t size, struct record *ret_record, const char **ret_reason)
{
	struct record r = {0};
	uint64_t length = 0;
	uint32_t expected;
	char *fields = check_first_line(data, size, ret_reason);

	if (!fields)
		return -EBADMSG;
	size_t header_max = size < RECORD_HEADER_MAX ? size : RECORD_HEADER_MAX;
	char *end = memmem(fields, header_max - (size_t)(fields - data), "\n\n", 2);

	if (!end || (size_t)(end - fields) < CHECKSUM_LINE) {
		*ret_reason = "the record is cut off: its header has no end";
		return -EBADMSG;
	}
	char *checksum = end + 1 - CHECKSUM_LINE;
	char *document = end + 2;
	size_t document_size = size - (size_t)(document - data);

	if (checksum[-1] != '\n' || memcmp(checksum, CHECKSUM_KEY, sizeof(CHECKSUM_KEY) - 1) != 0 ||
	    !parse_hex32(checksum + sizeof(CHECKSUM_KEY) - 1, &expected)) {
		*ret_reason = "the header does not end with a checksum";
		return -EBADMSG;
	}

	/* The sum first, as parsing changes the header; but a record that is cut off is called
	   that. */
	bool whole = crc32c(crc32c(0, data, (size_t)(checksum - data)), document, document_size) ==
		     expected;
	const char *reason = parse_fields(fields, checksum, &r, &length);

	if (!reason && document_size < length)
		reason = "the record is cut off: its document is shorter than the header says";
	else if (!reason && document_size > length)
		reason = "the document is longer than the header says";
	else if (!whole)
		reason = "the checksum does not match: the record is damaged";
	if (reason) {
		*ret_reason = reason;
		return -EBADMSG;
	}
	r.document = (struct bytes){document, document_size};
	*ret_record = r;
	return 0;
}
