/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* packet - see packet.h. */
#include <string.h>

#include "spooler/mqtt/packet.h"

static unsigned length_of_length(size_t n)
{
	return n < 128 ? 1 : n < 16384 ? 2 : n < 2097152 ? 3 : 4;
}

size_t packet_publish_size(bool v5, const char *topic, size_t payload_size,
			   const char *content_type)
{
	size_t properties = v5 && content_type ? 3 + strlen(content_type) : 0;
	size_t n = 2 + strlen(topic) + 2 + payload_size;

	if (v5)
		n += length_of_length(properties) + properties;
	return 1 + length_of_length(n) + n;
}
