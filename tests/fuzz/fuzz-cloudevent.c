/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz-cloudevent - a line as a topic and what follows it as a payload, as a broker hands them to
 * the recorder; and all of it as the memory of a guest. What is taken is within its bounds.
 *
 *	clang -fsanitize=fuzzer,address,undefined: scripts/fuzz
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/base/utf8.h"
#include "spooler/recorder/cloudevent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void check_event(const struct cloudevent *e)
{
	check(e->host[0] && utf8_valid(e->host, strlen(e->host)) && !strpbrk(e->host, "\n\t\033"));
	if (e->kind == CLOUDEVENT_STATUS) {
		check(e->n_lost <= CLOUDEVENT_LOST_MAX);
		return;
	}
	check(e->id[6] >> 4 == 7 && e->sequence > 0 && e->time >= 0);
	check(e->driver && e->operation && strlen(e->operation) <= CLOUDEVENT_TEXT_MAX);
	check(e->call == CALL_NONE || e->has_guest);
}

static void check_memory(const uint8_t *data, size_t size)
{
	unsigned char buf[GUEST_ENCODED_MAX];
	struct operations ops = {};
	struct guest g;

	if (guest_decode(data, size, &g) < 0)
		return;
	for (int call = CALL_NONE; call <= CALL_NAMED; call++) {
		struct guest_event e = {
			.host = call % 3, .time = call, .call = (enum guest_call)call};

		memset(e.id, 0xff, sizeof(e.id));
		guest_fold(&g, &e, &ops);
		check(guest_encode(&g, buf) <= sizeof(buf));
	}
	operations_release(&ops);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct cloudevent_topics topics = {
		"virtspool/v1/{host}/{driver}/{uuid}/{operation}", "virtspool/v1/{host}/status"};
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	size_t n = end ? (size_t)(end - data) : size;
	char *topic = strndup((const char *)data, n);
	struct cloudevent e;
	char why[128] = "";
	int r = cloudevent_parse(&topics, topic, end ? end + 1 : data + size,
				 end ? size - n - 1 : 0, &e, why, sizeof(why));

	check(r == 0 || why[0]);
	if (r == 0) {
		check_event(&e);
		cloudevent_release(&e);
	}
	check_memory(data, size);
	free(topic);
	return 0;
}
