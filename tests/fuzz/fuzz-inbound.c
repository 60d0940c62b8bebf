/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-inbound - a byte that says who we are, then what a broker sends. However the bytes are cut
 * into pieces, the same bytes and messages come out; and what has come out goes through once more as it
 * is.
 *
 *	clang -fsanitize=fuzzer,address,undefined: scripts/fuzz
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/mqtt/inbound.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static uint64_t mix(uint64_t sum, const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) /* FNV-1a */
		sum = (sum ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3;
	return sum;
}

/* Adds the message to a sum. Each byte is read. */
static void on_message(const struct inbound_message *m, void *userdata)
{
	uint64_t *sum = userdata;

	check(m->topic_size > 0 && m->topic[m->topic_size] == '\0');
	check(m->qos <= 1 && (m->qos == 1) == (m->packet_id > 0));
	*sum = mix(*sum, m->topic, m->topic_size + 1);
	*sum = mix(*sum, m->payload, m->size);
	*sum = mix(*sum, &m->packet_id, sizeof(m->packet_id));
	*sum = mix(*sum, &m->retain, sizeof(m->retain));
}

static struct inbound begin(uint8_t who, uint64_t *sum)
{
	*sum = 0xcbf29ce484222325;
	return (struct inbound){.message = who & 1 ? on_message : NULL,
				.userdata = sum,
				.v5 = who & 2,
				.publish_max = 4096};
}

/* Returns what inbound_filter() does of the whole, given in pieces of `step` bytes. */
static ssize_t filter(struct inbound *i, uint8_t *out, const uint8_t *in, size_t n, size_t step)
{
	size_t kept = 0, piece;
	char why[128] = "";
	ssize_t r;

	for (size_t done = 0; done < n; done += piece) {
		piece = n - done < step ? n - done : step;
		memcpy(out + kept, in + done, piece);
		r = inbound_filter(i, out + kept, piece, why, sizeof(why));
		if (r < 0) {
			check(r == -EPROTO && *why);
			return r;
		}
		check((size_t)r <= piece);
		kept += (size_t)r;
	}
	return (ssize_t)kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t codes[UINT16_MAX + 1];
	struct inbound whole, pieces, again;
	uint64_t of_whole, of_pieces, of_again;
	uint8_t *a, *b;
	ssize_t n;

	if (size == 0)
		return 0;
	a = malloc(size);
	b = malloc(size);
	if (!a || !b)
		abort();
	whole = begin(data[0], &of_whole);
	pieces = begin(data[0], &of_pieces);
	again = begin(data[0], &of_again);
	whole.codes = codes;
	n = filter(&whole, a, data + 1, size - 1, size);
	check(filter(&pieces, b, data + 1, size - 1, 1 + (data[0] >> 4)) == n);
	check(of_whole == of_pieces);
	if (n >= 0) {
		check(memcmp(a, b, (size_t)n) == 0);
		check(whole.packets == pieces.packets);
		check(whole.disconnected == pieces.disconnected &&
		      whole.disconnect_reason == pieces.disconnect_reason);
		check(filter(&again, b, a, (size_t)n, size) == n);
		check(again.packets <= whole.packets);
		check(memcmp(a, b, (size_t)n) == 0);
	}
	inbound_release(&whole);
	inbound_release(&pieces);
	inbound_release(&again);
	free(a);
	free(b);
	return 0;
}
