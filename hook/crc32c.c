/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crc32c - the checksum of records and of the stamp file. Eight bytes a step, by eight tables: 2 us
 * for a guest's document of 6 KiB (byte by byte it was 12 us, a fifth of what the daemon spent on
 * an event). The processor's own instruction would need a check with cpuid, which virtual machines
 * trap. The compiler makes the tables: filling them would cost the hook, which lives for some
 * 300 us, 3 us and two pages.
 */
#include "hook/crc32c.h"

#define STEP 8

/* The effect of a byte on the checksum is the exclusive or of its bits' effects: b0 to b7, which
   follow from 0x1edc6f41. */
#define ENTRY(i, b0, b1, b2, b3, b4, b5, b6, b7)                                                   \
	(((i) >> 0 & 1) * b0 ^ ((i) >> 1 & 1) * b1 ^ ((i) >> 2 & 1) * b2 ^ ((i) >> 3 & 1) * b3 ^   \
	 ((i) >> 4 & 1) * b4 ^ ((i) >> 5 & 1) * b5 ^ ((i) >> 6 & 1) * b6 ^ ((i) >> 7 & 1) * b7)
#define ENTRIES4(i, ...)                                                                           \
	ENTRY(i, __VA_ARGS__), ENTRY((i) + 1, __VA_ARGS__), ENTRY((i) + 2, __VA_ARGS__),           \
		ENTRY((i) + 3, __VA_ARGS__)
#define ENTRIES16(i, ...)                                                                          \
	ENTRIES4(i, __VA_ARGS__), ENTRIES4((i) + 4, __VA_ARGS__), ENTRIES4((i) + 8, __VA_ARGS__),  \
		ENTRIES4((i) + 12, __VA_ARGS__)
#define ENTRIES64(i, ...)                                                                          \
	ENTRIES16(i, __VA_ARGS__), ENTRIES16((i) + 16, __VA_ARGS__),                               \
		ENTRIES16((i) + 32, __VA_ARGS__), ENTRIES16((i) + 48, __VA_ARGS__)
#define TABLE(...)                                                                                 \
	{                                                                                          \
		ENTRIES64(0, __VA_ARGS__), ENTRIES64(64, __VA_ARGS__),                             \
			ENTRIES64(128, __VA_ARGS__), ENTRIES64(192, __VA_ARGS__)                   \
	}

static const uint32_t table[STEP][256] = {
	/* [k][b]: what b does when k bytes follow it */
	TABLE(0xf26b8303U, 0xe13b70f7U, 0xc79a971fU, 0x8ad958cfU, 0x105ec76fU, 0x20bd8edeU,
	      0x417b1dbcU, 0x82f63b78U),
	TABLE(0x13a29877U, 0x274530eeU, 0x4e8a61dcU, 0x9d14c3b8U, 0x3fc5f181U, 0x7f8be302U,
	      0xff17c604U, 0xfbc3faf9U),
	TABLE(0xa541927eU, 0x4f6f520dU, 0x9edea41aU, 0x38513ec5U, 0x70a27d8aU, 0xe144fb14U,
	      0xc76580d9U, 0x8b277743U),
	TABLE(0xdd45aab8U, 0xbf672381U, 0x7b2231f3U, 0xf64463e6U, 0xe964b13dU, 0xd725148bU,
	      0xaba65fe7U, 0x52a0c93fU),
	TABLE(0x38116facU, 0x7022df58U, 0xe045beb0U, 0xc5670b91U, 0x8f2261d3U, 0x1ba8b557U,
	      0x37516aaeU, 0x6ea2d55cU),
	TABLE(0xef306b19U, 0xdb8ca0c3U, 0xb2f53777U, 0x6006181fU, 0xc00c303eU, 0x85f4168dU,
	      0x0e045bebU, 0x1c08b7d6U),
	TABLE(0x68032cc8U, 0xd0065990U, 0xa5e0c5d1U, 0x4e2dfd53U, 0x9c5bfaa6U, 0x3d5b83bdU,
	      0x7ab7077aU, 0xf56e0ef4U),
	TABLE(0x493c7d27U, 0x9278fa4eU, 0x211d826dU, 0x423b04daU, 0x847609b4U, 0x0d006599U,
	      0x1a00cb32U, 0x34019664U),
};

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
	const unsigned char *p = data;

	crc = ~crc;
	for (; size >= STEP; size -= STEP, p += STEP)
		crc = table[7][p[0] ^ (crc & 0xff)] ^ table[6][p[1] ^ (crc >> 8 & 0xff)] ^
		      table[5][p[2] ^ (crc >> 16 & 0xff)] ^ table[4][p[3] ^ crc >> 24] ^
		      table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
	for (; size > 0; size--)
		crc = crc >> 8 ^ table[0][(crc ^ *p++) & 0xff];
	return ~crc;
}
