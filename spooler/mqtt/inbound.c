/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* inbound - see inbound.h. A state machine over bytes; what follows the properties is passed on, or
   skipped, in pieces. The body of a message is used where it lies if it has come as a whole, which
   most do, and is copied together otherwise. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spooler/mqtt/inbound.h"

enum {
	CONNACK = 2,
	PUBLISH = 3,
	PUBACK = 4,
	PUBREC = 5,
	PUBCOMP = 7,
	SUBACK = 9,
	UNSUBACK = 11,
	PINGRESP = 13,
	DISCONNECT = 14
};

/* The four flag bits that each packet must have; -1: a server does not send it (to us). */
static const int flags_of[16] = {
	-1,
	-1,
	[CONNACK] = 0,
	[PUBLISH] = 0,
	[PUBACK] = 0,
	[PUBREC] = 0,
	-1, /* PUBREL: of QoS 2, which we take nothing of */
	[PUBCOMP] = 0,
	-1,
	[SUBACK] = 0,
	-1,
	[UNSUBACK] = 0,
	-1,
	[PINGRESP] = 0,
	[DISCONNECT] = 0,
	-1,
};

/* Is this packet a PUBLISH that we want? */
static bool is_message(const struct inbound *i)
{
	return i->type == PUBLISH && !i->skip;
}

static int begin_packet(struct inbound *i, uint8_t byte, char *why, size_t why_size)
{
	uint8_t type = byte >> 4, flags = byte & 15, qos = (flags >> 1) & 3;

	if (!i->connack && byte != CONNACK << 4) {
		(void)snprintf(
			why, why_size,
			"the peer does not speak MQTT (its first byte is 0x%02x, not that of a CONNACK)",
			byte);
		return -EPROTO;
	}
	if ((i->connack && type == CONNACK) || flags_of[type] < 0 ||
	    (type != PUBLISH && flags != flags_of[type]) || (type == PUBLISH && qos == 3) ||
	    (type == DISCONNECT && !i->v5)) {
		(void)snprintf(why, why_size,
			       "the broker sent an invalid MQTT packet (first byte 0x%02x)", byte);
		return -EPROTO;
	}
	i->connack = true;
	i->type = type;
	i->skip = type == PUBLISH && (!i->message || qos == 2);
	i->qos = qos;
	i->retain = flags & 1;
	i->state = INBOUND_LENGTH;
	i->length = 0;
	i->shift = 0;
	return 0;
}

/* How a property's value is written, by its identifier (table 2-4); 0: there is no such
   property. */
enum { NONE, BYTE = 1, TWO_BYTES = 2, FOUR_BYTES = 4, VARINT, STRING, STRING_PAIR };
static const uint8_t property_form[0x2b] = {
	[0x01] = BYTE,	     [0x02] = FOUR_BYTES, [0x03] = STRING,	[0x08] = STRING,
	[0x09] = STRING,     [0x0b] = VARINT,	  [0x11] = FOUR_BYTES,	[0x12] = STRING,
	[0x13] = TWO_BYTES,  [0x15] = STRING,	  [0x16] = STRING,	[0x17] = BYTE,
	[0x18] = FOUR_BYTES, [0x19] = BYTE,	  [0x1a] = STRING,	[0x1c] = STRING,
	[0x1f] = STRING,     [0x21] = TWO_BYTES,  [0x22] = TWO_BYTES,	[0x23] = TWO_BYTES,
	[0x24] = BYTE,	     [0x25] = BYTE,	  [0x26] = STRING_PAIR, [0x27] = FOUR_BYTES,
	[0x28] = BYTE,	     [0x29] = BYTE,	  [0x2a] = BYTE,
};

static int bad_properties(char *why, size_t why_size)
{
	(void)snprintf(why, why_size, "the broker sent malformed properties");
	return -EPROTO;
}

static void begin_part(struct inbound *i, enum inbound_part part, uint32_t length)
{
	i->part = part;
	i->part_left = length;
	i->value = 0;
	i->shift = 0;
}

static void begin_body(struct inbound *i)
{
	i->left = i->length;
	i->state = INBOUND_BODY;
	i->properties_left = 0;
	i->strings = 0;
	if (is_message(i))
		begin_part(i, INBOUND_TOPIC_LENGTH, 2);
	else if (!i->v5 || i->skip || i->type == PINGRESP)
		begin_part(i, INBOUND_REST, 0);
	else /* packet identifier, reason code, flags: what stands first */
		begin_part(i, INBOUND_FIXED,
			   i->type == DISCONNECT					    ? 1
			   : i->type == CONNACK || i->type == SUBACK || i->type == UNSUBACK ? 2
											    : 3);
}

/* The topic moves over its length, which makes room for its end. */
static int give_message(struct inbound *i, char *why, size_t why_size)
{
	const uint8_t *id = i->body + 2 + i->topic_size;
	struct inbound_message m = {
		.topic = (const char *)i->body,
		.topic_size = i->topic_size,
		.payload = i->body + i->length - i->payload_size,
		.size = i->payload_size,
		.qos = i->qos,
		.packet_id = i->qos ? (uint16_t)(id[0] << 8 | id[1]) : 0,
		.retain = i->retain,
	};

	if (i->qos && m.packet_id == 0) {
		(void)snprintf(why, why_size,
			       "the broker sent a message without a packet identifier");
		return -EPROTO;
	}
	memmove(i->body, i->body + 2, i->topic_size);
	i->body[i->topic_size] = '\0';
	i->message(&m, i->userdata);
	inbound_release(i);
	return 0;
}

static int end_packet(struct inbound *i, char *why, size_t why_size)
{
	if (is_message(i) && i->part != INBOUND_REST) {
		(void)snprintf(why, why_size, "the broker sent a message that ends too early");
		return -EPROTO;
	}
	if (is_message(i) && give_message(i, why, why_size) < 0)
		return -EPROTO;
	if (i->type == DISCONNECT)
		i->disconnected = true;
	i->answers += i->type == PUBREC;
	i->packets++;
	i->state = INBOUND_TYPE;
	return 0;
}

static int take_length(struct inbound *i, uint8_t byte, char *why, size_t why_size)
{
	uint32_t max = is_message(i) ? i->publish_max : INBOUND_CONTROL_MAX;

	if (i->shift == 21 && byte & 0x80) {
		(void)snprintf(why, why_size, "the broker sent a malformed packet length");
		return -EPROTO;
	}
	i->length |= (uint32_t)(byte & 0x7f) << i->shift;
	i->shift += 7;
	if (byte & 0x80)
		return 0;
	/* A skipped packet takes no memory, whatever its length. */
	if (!i->skip && i->length > max) {
		(void)snprintf(why, why_size,
			       "the broker sent a packet of %u bytes; the limit is %u", i->length,
			       max);
		return -EPROTO;
	}
	begin_body(i);
	return i->left == 0 ? end_packet(i, why, why_size) : 0;
}

/* Behind a value: its second string, the next property, or the end of them. */
static void next_property(struct inbound *i)
{
	if (i->strings > 0)
		begin_part(i, INBOUND_STRING_LENGTH, 2);
	else if (i->properties_left > 0)
		begin_part(i, INBOUND_IDENTIFIER, 1);
	else
		begin_part(i, INBOUND_REST, 0);
}

/* A run of bytes that does not matter: a fixed part, a string, a number. */
static int begin_run(struct inbound *i, enum inbound_part part, uint32_t length, char *why,
		     size_t why_size)
{
	/* less this byte */
	uint32_t room = part == INBOUND_VALUE ? i->properties_left : i->left - 1;

	if (length > room)
		return bad_properties(why, why_size);
	begin_part(i, part, length);
	if (length == 0)
		next_property(i);
	return 0;
}

/* The topic, and with QoS 1 the packet identifier. We allow no topic aliases, so there must be a
   topic (MQTT 5 section 3.3.2.1). */
static int begin_topic(struct inbound *i, char *why, size_t why_size)
{
	if (i->value == 0) {
		(void)snprintf(why, why_size, "the broker sent a message without a topic");
		return -EPROTO;
	}
	i->topic_size = i->value;
	return begin_run(i, INBOUND_FIXED, i->value + (i->qos ? 2 : 0), why, why_size);
}

static int take_identifier(struct inbound *i, uint8_t byte, char *why, size_t why_size)
{
	uint8_t form = byte < sizeof(property_form) ? property_form[byte] : NONE;

	switch (form) {
	case NONE:
		(void)snprintf(why, why_size, "the broker sent an unknown MQTT property (0x%02x)",
			       byte);
		return -EPROTO;
	case VARINT:
		begin_part(i, INBOUND_VARINT, 0);
		return 0;
	case STRING:
	case STRING_PAIR:
		i->strings = form == STRING ? 1 : 2;
		begin_part(i, INBOUND_STRING_LENGTH, 2);
		return 0;
	default:
		return begin_run(i, INBOUND_VALUE, form, why, why_size);
	}
}

/* One byte of a part that matters. i->left still counts it; i->properties_left does not. */
static int take_byte(struct inbound *i, uint8_t byte, char *why, size_t why_size)
{
	switch (i->part) {
	case INBOUND_TOPIC_LENGTH:
	case INBOUND_STRING_LENGTH:
		i->value = i->value << 8 | byte;
		if (--i->part_left > 0)
			return 0;
		if (i->part == INBOUND_TOPIC_LENGTH)
			return begin_topic(i, why, why_size);
		i->strings--;
		return begin_run(i, INBOUND_VALUE, i->value, why, why_size);
	case INBOUND_PROPERTIES_LENGTH:
	case INBOUND_VARINT:
		if (i->shift == 21 && byte & 0x80)
			return bad_properties(why, why_size);
		i->value |= (uint32_t)(byte & 0x7f) << i->shift;
		i->shift += 7;
		if (byte & 0x80)
			return 0;
		if (i->part == INBOUND_PROPERTIES_LENGTH) {
			if (i->value > i->left - 1)
				return bad_properties(why, why_size);
			i->properties_left = i->value;
		}
		next_property(i);
		return 0;
	case INBOUND_IDENTIFIER:
		return take_identifier(i, byte, why, why_size);
	default:
		return 0;
	}
}

/* Is this a code that an acknowledgement may have? MQTT 5 tables 3-4, 3-5 and 3-7. */
static bool is_listed(uint8_t type, uint8_t code)
{
	static const uint8_t listed[] = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99};

	if (type == PUBCOMP)
		return code == 0x00 || code == 0x92;
	return memchr(listed, code, sizeof(listed)) != NULL;
}

/* The first bytes of an acknowledgement: packet identifier and reason code. */
static void take_acknowledgement(struct inbound *i, uint8_t *bytes, uint32_t n)
{
	for (uint32_t at = i->length - i->left; at < 3 && n > 0; at++, bytes++, n--) {
		if (at < 2) {
			i->packet_id = (uint16_t)(i->packet_id << 8 | *bytes);
		} else if (!is_listed(i->type, *bytes)) {
			if (i->codes)
				i->codes[i->packet_id] = *bytes;
			*bytes = *bytes >= 0x80 ? 0x80 : 0x00;
		}
	}
}

/* The first n bytes from here on are there: all of the body, or its first piece. */
static int begin_message(struct inbound *i, uint8_t *bytes, size_t n, char *why, size_t why_size)
{
	if (n >= i->length) {
		i->body = bytes;
		return 0;
	}
	i->body = i->copy = malloc(i->length);
	if (i->copy)
		return 0;
	(void)snprintf(why, why_size, "no memory for a message of %u bytes", i->length);
	return -ENOMEM;
}

/* Takes what can be taken in one step from n bytes of the body. Returns how many. */
static ssize_t take_body(struct inbound *i, uint8_t *bytes, size_t n, char *why, size_t why_size)
{
	bool in_properties = i->part >= INBOUND_IDENTIFIER && i->part < INBOUND_REST;
	bool is_run = i->part == INBOUND_FIXED || i->part == INBOUND_VALUE;
	uint32_t piece = i->part == INBOUND_REST ? i->left : is_run ? i->part_left : 1;
	bool was_rest = i->part == INBOUND_REST;
	int r = 0;

	if (i->type == DISCONNECT && i->left == i->length)
		i->disconnect_reason = bytes[0];
	if (is_message(i) && i->left == i->length) {
		r = begin_message(i, bytes, n, why, why_size);
		if (r < 0)
			return r;
	}
	piece = piece < i->left ? piece : i->left;
	piece = piece < n ? piece : (uint32_t)n;
	if (in_properties && piece > i->properties_left)
		return bad_properties(why, why_size);
	i->properties_left -= in_properties ? piece : 0;
	if (i->v5 && (i->type == PUBACK || i->type == PUBREC || i->type == PUBCOMP))
		take_acknowledgement(i, bytes, piece);
	if (i->copy)
		memcpy(i->copy + (i->length - i->left), bytes, piece);
	if (is_run) {
		i->part_left -= piece;
		if (i->part_left == 0 && i->part == INBOUND_FIXED)
			begin_part(i, i->v5 ? INBOUND_PROPERTIES_LENGTH : INBOUND_REST, 0);
		else if (i->part_left == 0)
			next_property(i);
	} else {
		r = take_byte(i, bytes[0], why, why_size);
		if (r < 0)
			return r;
	}
	i->left -= piece;
	if (!was_rest && i->part == INBOUND_REST)
		i->payload_size = i->left;
	if (i->left == 0) {
		r = end_packet(i, why, why_size);
		if (r < 0)
			return r;
	}
	return piece;
}

ssize_t inbound_filter(struct inbound *i, uint8_t *buf, size_t n, char *why, size_t why_size)
{
	size_t in = 0, out = 0;
	ssize_t piece;

	while (in < n) {
		if (i->state == INBOUND_BODY)
			piece = take_body(i, buf + in, n - in, why, why_size);
		else if (i->state == INBOUND_TYPE)
			piece = begin_packet(i, buf[in], why, why_size) < 0 ? -EPROTO : 1;
		else
			piece = take_length(i, buf[in], why, why_size) < 0 ? -EPROTO : 1;
		if (piece < 0)
			return piece;
		/* The type is still that of this packet, also after its last byte. */
		if (i->type != PUBLISH) {
			if (out != in)
				memmove(buf + out, buf + in, (size_t)piece);
			out += (size_t)piece;
		}
		in += (size_t)piece;
	}
	return (ssize_t)out;
}

void inbound_release(struct inbound *i)
{
	free(i->copy);
	i->copy = i->body = NULL;
}
