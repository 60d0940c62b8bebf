/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* crc32c - the Castagnoli checksum (RFC 3720, appendix B.4) over any number of pieces. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Goes on from crc, which is 0 for the first piece. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);
