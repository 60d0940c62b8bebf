/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* record-parse - see record-parse.h; hook/record.c describes the format. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hook/calendar.h"
#include "hook/crc32c.h"
#include "hook/text.h"
#include "spooler/base/hex.h"
#include "spooler/spool/record-parse.h"

#define CHECKSUM_LINE (sizeof(RECORD_CHECKSUM_KEY) - 1 + 8 + 1)

char *record_escape(struct bytes b)
{
	struct text t = {.data = malloc(3 * b.size + 1), .size = 3 * b.size};

	if (!t.data)
		return NULL;
	text_add_escaped(&t, b.data, b.size);
	t.data[t.length] = 0;
	return t.data;
}

bool record_unescape(char *data, size_t size, struct bytes *ret_value)
{
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		if (data[i] == '%') {
			int byte = size - i < 3 ? -1 : hex_byte(data + i + 1);

			if (byte < 0)
				return false;
			data[n++] = (char)byte;
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

		for (size_t i = 0; i < RECORD_N_FLAGS; i++) {
			if (n == strlen(record_flag_words[i].word) &&
			    memcmp(s, record_flag_words[i].word, n) == 0)
				flags |= record_flag_words[i].flag;
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
	[KEY_FLAGS] = {"flags", false, "the flags are invalid"},
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
		return record_unescape(value, size, &r->driver);
	case KEY_ARGUMENTS:
		return parse_unsigned(value, size, &r->argc);
	case KEY_OBJECT:
		return record_unescape(value, size, &r->object);
	case KEY_OPERATION:
		return record_unescape(value, size, &r->operation);
	case KEY_SUBOPERATION:
		return record_unescape(value, size, &r->suboperation);
	case KEY_EXTRA:
		return record_unescape(value, size, &r->extra);
	case KEY_ARGUMENT:
		return r->n_arguments < RECORD_ARGUMENTS_MAX &&
		       record_unescape(value, size, &r->arguments[r->n_arguments++]);
	case KEY_ORIGIN:
		return record_unescape(value, size, &r->origin);
	case KEY_TRANSITION:
		return record_unescape(value, size, &r->transition);
	case KEY_DETAIL:
		return r->n_details < RECORD_DETAILS_MAX &&
		       record_unescape(value, size, &r->details[r->n_details++]);
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
	static const char line[] = RECORD_FORMAT RECORD_VERSION "\n";

	if (size >= sizeof(line) - 1 && memcmp(data, line, sizeof(line) - 1) == 0)
		return data + sizeof(line) - 1;
	if (size == 0)
		*ret_reason = "the file is empty";
	else if (size >= sizeof(RECORD_FORMAT) - 1 &&
		 memcmp(data, RECORD_FORMAT, sizeof(RECORD_FORMAT) - 1) == 0)
		*ret_reason = "the record has a version that this program does not know";
	else
		*ret_reason = "this is not a record: its first line is wrong";
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

	if (checksum[-1] != '\n' ||
	    memcmp(checksum, RECORD_CHECKSUM_KEY, sizeof(RECORD_CHECKSUM_KEY) - 1) != 0 ||
	    !parse_hex32(checksum + sizeof(RECORD_CHECKSUM_KEY) - 1, &expected)) {
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
