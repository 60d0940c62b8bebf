/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * redact - blanks secrets in a document before it reaches the disk.
 *
 * libvirt passes domain XML to `migrate` and `restore` with everything that `virsh dumpxml
 * --security-info` shows, and operators put secrets into metadata, descriptions, arguments for QEMU
 * and URLs. redact_rules lists what is blanked, and virtspool-hook(8) prints the list. When in
 * doubt, it is treated as a secret.
 *
 * The document need not be well-formed: it may be cut off anywhere, and is scanned, not parsed.
 */
#pragma once

#include <stddef.h>

enum redact_match {
	REDACT_IS,	 /* the whole name */
	REDACT_CONTAINS, /* a part of the name */
	REDACT_ENDS,	 /* the end of the name */
};

/* Names are compared without namespace prefix, '-', '_' and '.', and whatever their case. */
struct redact_rule {
	enum redact_match match;
	const char *word;
};

/* A list ends with an empty word. */
struct redact_rules {
	const struct redact_rule *secrets;    /* names of elements, of attributes, and in texts */
	const struct redact_rule *elements;   /* besides, elements only */
	const struct redact_rule *free_names; /* besides, in free texts */
	const char *const *kept;	      /* attributes that stay in such an element */
	const char *const *naming;     /* attributes whose value names what the element holds */
	const char *const *entries;    /* <entry name='...'> that stay */
	const char *const *free_texts; /* elements in which anything may be written */
	const char *const *beginnings; /* free texts go from where one of these begins */
};

extern const struct redact_rules redact_rules;

/* Works in place and never grows. Returns the new size; *ret_count is how many values that were
   not empty were blanked. */
size_t redact(char *data, size_t size, unsigned *ret_count);

/* The same; what is not done at the deadline (clock.h) goes. */
size_t redact_until(char *data, size_t size, long long deadline_ms, unsigned *ret_count);

/* redact() without looking first whether there may be anything to blank; for tests. */
size_t redact_all(char *data, size_t size, unsigned *ret_count);
