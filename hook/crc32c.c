/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crc32c - the checksum of records and of the stamp file. Eight bytes a step, by eight tables that are filled at the
 * first call: some 3 us then, and 2 us for a guest's document of 6 KiB (byte by byte it was 12 us, a fifth of what the
 * daemon spent on an event). The processor's own instruction would have to be asked for, and cpuid is trapped on
 * virtual machines.
 */
#include "crc32c.h"

#define POLYNOMIAL 0x82f63b78U /* 0x1edc6f41, bits reversed */
#define STEP 8

static uint32_t table[STEP][256]; /* [k][b]: what b does to the checksum when k bytes follow it */

static void fill_tables(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ POLYNOMIAL : c >> 1;
		table[0][i] = c;
	}
	for (int k = 1; k < STEP; k++)
		for (int i = 0; i < 256; i++)
			table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 0xff];
}

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
	const unsigned char *p = data;

	if (!table[0][1])
		fill_tables();
	crc = ~crc;
	for (; size >= STEP; size -= STEP, p += STEP)
		crc = table[7][p[0] ^ (crc & 0xff)] ^ table[6][p[1] ^ (crc >> 8 & 0xff)] ^
		      table[5][p[2] ^ (crc >> 16 & 0xff)] ^ table[4][p[3] ^ crc >> 24] ^ table[3][p[4]] ^
		      table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
	for (; size > 0; size--)
		crc = crc >> 8 ^ table[0][(crc ^ *p++) & 0xff];
	return ~crc;
}
