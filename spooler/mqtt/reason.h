/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* reason - the names of MQTT's reason codes. */
#pragma once

/* Of MQTT 5 (section 2.4), in the standard's words, e.g. "Not authorized"; never NULL. */
const char *reason_name(unsigned code);
/* Of a CONNACK: also the codes 1 to 5 of MQTT 3.1.1 (section 3.2.2.3). */
const char *reason_connack_name(unsigned code);
