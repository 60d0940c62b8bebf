/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * record - one event as it lies in the spool: a text header, a blank line, the document as received
 * (redacted).
 *
 * record.c describes the format, and virtspool-spool(5) documents it for users. Values in the
 * header are percent-escaped, so that no byte of a guest's name can forge a line. The checksum
 * (CRC-32C) covers the header before it and the document after it, so a torn record is recognised.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "hook/stamp.h"

/* Bytes of header that a record can have: every kept byte escaped. */
#define RECORD_HEADER_MAX (512 * 1024)
/* Bytes of document that the hook keeps; more is cut off and marked. */
#define RECORD_DOCUMENT_MAX (8 * 1024 * 1024)
#define RECORD_MAX (RECORD_HEADER_MAX + RECORD_DOCUMENT_MAX)
/* Bytes of one argument that the hook keeps; more is cut off and marked. */
#define RECORD_VALUE_MAX 4096
/* Arguments beyond object, operation, sub-operation and extra that are kept. */
#define RECORD_ARGUMENTS_MAX 16
#define RECORD_DETAILS_MAX 64  /* details that a record can have */
#define RECORD_DETAIL_MAX 1024 /* bytes of one detail, "key=value" */

#define RECORD_FORMAT "virtspool-record " /* the first line, before the version */
#define RECORD_VERSION "1"
#define RECORD_CHECKSUM_KEY "crc32c: "
#define RECORD_N_FLAGS 5

struct bytes {
	const char *data;
	size_t size;
};

static inline struct bytes bytes_of(const char *text)
{
	return (struct bytes){text, strlen(text)};
}

static inline bool bytes_are(struct bytes b, const char *text)
{
	return b.size == strlen(text) && memcmp(b.data, text, b.size) == 0;
}

enum record_flags {
	/* the document was longer than kept, or stdin did not end in time */
	RECORD_DOCUMENT_TRUNCATED = 1 << 0,
	/* an argument was longer, or there were more, than is kept */
	RECORD_ARGUMENTS_TRUNCATED = 1 << 1,
	/* the stamp is of a private epoch: see stamp_take() */
	RECORD_UNORDERED = 1 << 2,
	/* of virtspool-listen: a hook reported this transition, too, and its record counts */
	RECORD_TOLD_BY_HOOK = 1 << 3,
	/* of virtspool-listen: a hook should have reported this transition, and did not */
	RECORD_NO_HOOK = 1 << 4,
};

struct record_flag_word {
	const char *word;
	unsigned flag;
};

extern const struct record_flag_word record_flag_words[RECORD_N_FLAGS];

struct record {
	struct stamp stamp;
	/* The wall clock as it stood, ns since 1970; the stamp's time is the ordered one. */
	int64_t recorded_ns;
	/* qemu, lxc, libxl, bhyve, network, daemon, or what the hook was installed as. */
	struct bytes driver;
	struct bytes object;	   /* argv[1]: a domain's or network's name, any bytes */
	struct bytes operation;	   /* argv[2] */
	struct bytes suboperation; /* argv[3] */
	struct bytes extra;	   /* argv[4]: since libvirt 10.5.0 why a domain was released */
	struct bytes arguments[RECORD_ARGUMENTS_MAX]; /* argv[5] and so on */
	unsigned n_arguments;
	unsigned argc;	   /* arguments that the hook was given after its name, kept or not */
	unsigned flags;	   /* enum record_flags */
	unsigned redacted; /* secrets that were blanked in the document */
	struct bytes document;

	/* Of virtspool-listen only; the hook leaves them out. */
	struct bytes origin; /* "api": reported by libvirt's event API; nothing: by a hook */
	/* The id of the hook's record of the same transition, if it is known. */
	struct bytes transition;
	struct bytes details[RECORD_DETAILS_MAX]; /* each "key=value" */
	unsigned n_details;
};

/*
 * Writes everything that precedes the document, the blank line included, into buf
 * (RECORD_HEADER_MAX bytes always suffice). The checksum is over the header and r->document, so the
 * document must be complete and redacted. Returns the length.
 */
size_t record_format_header(const struct record *r, char *buf, size_t size);
