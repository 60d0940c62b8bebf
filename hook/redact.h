/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * redact - takes secrets out of a document before it reaches the disk.
 *
 * libvirt hands domain XML to `migrate` and `restore` with everything that `virsh dumpxml
 * --security-info` shows. Emptied are the value of each attribute named passwd, password or
 * passphrase, and the content of each element of these names and of <cookie>, whatever their prefix
 * and case. The document need not be well-formed: it may be cut off anywhere, and is scanned, not
 * parsed.
 */
#pragma once

#include <stddef.h>

/* Works in place and never grows. Returns the new size; *ret_count is how many values that were
   not empty went. */
size_t redact(char *data, size_t size, unsigned *ret_count);
