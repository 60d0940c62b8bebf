/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* packet - the sizes of the MQTT packets that we count or send ourselves. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define PACKET_PUBACK_SIZE 4
#define PACKET_PINGREQ_SIZE 2
/* MQTT's own limit for what follows the fixed header's length (MQTT 5 section 2.1.4). */
#define PACKET_MAX 268435455U

/* A whole PUBLISH with QoS 1 or 2, as the broker's maximum counts it. content_type may be NULL;
   3.1.1 has none. */
size_t packet_publish_size(bool v5, const char *topic, size_t payload_size,
			   const char *content_type);
