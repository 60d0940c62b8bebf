# SPDX-License-Identifier: LGPL-2.1-or-later
"""
One MQTT connection, packet by packet: for what clients hide. No threads: it reads while it waits.

    with Raw(broker, "id", level=5, clean=False, will=("topic", delay)) as c:
        c.connack          (session present, code, {property: value}), or None: no CONNACK came
        c.publish("a/b", b"x", qos=1)      how it was answered: a reason code, "closes", or ("disconnect", code)
        c.subscribe("a/#")                 the same
        c.messages         [(topic, payload, retained)], acknowledged as they come
        c.until(lambda: c.messages, 5)     reads until it is true; False: it was not within 5 s (times PATIENCE)
        c.ended            None, "closes", or ("disconnect", code)
        c.drop()           the end of TCP, without DISCONNECT
"""

import select
import socket
import ssl
import struct
import time

from lib.scripted_broker import (CONNACK, CONNECT, DISCONNECT, PINGREQ, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK,
                                 SUBSCRIBE, Reader, packet, text, varint)
from lib.waiting import PATIENCE

TLS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
FORMS = {0x11: ">I", 0x13: ">H", 0x21: ">H", 0x22: ">H", 0x24: ">B", 0x25: ">B", 0x27: ">I", 0x28: ">B", 0x29: ">B", 0x2A: ">B"}
SESSION_EXPIRY, RECEIVE_MAXIMUM, MAXIMUM_QOS, MAXIMUM_PACKET_SIZE = 0x11, 0x21, 0x24, 0x27


def parsed(data):
    """{property: value} of a CONNACK."""
    r, values = Reader(data), {}
    while r.rest():
        name = r.number(">B")
        if name == 0x26:
            r.text()
        values[name] = r.number(FORMS[name]) if name in FORMS else r.text()
    return values


class Raw:
    def __init__(self, broker, client_id, level=None, certificate="consumer", clean=True, will=None, tls="1.3"):
        self.broker, self.level = broker, level or (5 if broker.version == "5" else 4)
        self.messages, self.answers, self.connack, self.ended = [], {}, None, None
        self.mid, self.buffer, self.socket = 0, b"", None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(broker.certs.ca)
        context.minimum_version = context.maximum_version = TLS[tls]
        if certificate:
            context.load_cert_chain(broker.certs.pem(certificate), broker.certs.key(certificate))
        try:
            tcp = socket.create_connection((broker.host, broker.port), timeout=20)
            try:
                self.socket = context.wrap_socket(tcp, server_hostname=broker.host)
            except OSError:
                tcp.close()
                raise
            self._send(packet(CONNECT, self._connect(client_id, clean, will)))
            self.until(lambda: self.connack, 20)
        except OSError:
            self.ended = "closes"

    def _connect(self, client_id, clean, will):
        login = self.broker.login
        flags = (2 if clean else 0) | (0xC0 if login else 0) | (0x0C if will else 0)
        body = text("MQTT") + bytes([self.level, flags]) + struct.pack(">H", 600)
        if self.level == 5:
            kept = b"" if clean and not (will and will[1]) else struct.pack(">BI", SESSION_EXPIRY, 3600)
            body += varint(len(kept)) + kept
        body += text(client_id)
        if will:
            topic, delay = will
            if self.level == 5:
                body += (varint(5) + struct.pack(">BI", 0x18, delay)) if delay else b"\0"
            body += text(topic) + text("will")
        return body + b"".join(text(s) for s in login or ())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.ended:
            self._send(packet(DISCONNECT))
        if self.socket:
            self.socket.close()

    def drop(self):
        socket.socket.shutdown(self.socket, socket.SHUT_RDWR)
        self.ended = "dropped"

    def publish(self, topic, payload=b"x", qos=1, retain=False):
        self.mid += 1
        body = text(topic) + struct.pack(">H", self.mid) + (b"\0" if self.level == 5 else b"") + payload
        self._send(packet(PUBLISH, body, qos << 1 | retain))
        return self._answer(PUBACK if qos == 1 else PUBCOMP)

    def subscribe(self, topic, qos=1):
        self.mid += 1
        body = struct.pack(">H", self.mid) + (b"\0" if self.level == 5 else b"") + text(topic) + bytes([qos])
        self._send(packet(SUBSCRIBE, body, 2))
        return self._answer(SUBACK)

    def until(self, condition, deadline):
        end = time.monotonic() + deadline * PATIENCE
        while not condition():
            if self.ended or time.monotonic() > end:
                return bool(condition())
            self._read()
        return True

    def _answer(self, kind):
        """Of the last packet; an answer of another kind is its name: RabbitMQ's PUBACK to QoS 2."""
        keys = [(k, self.mid) for k in {kind, PUBACK, PUBREC}]
        if not self.until(lambda: any(k in self.answers for k in keys), 20):
            return self.ended or "silent"
        found = next(k for k in keys if k in self.answers)
        return self.answers[found] if found[0] == kind or self.answers[found] >= 0x80 else "another packet"

    def _send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            self._over("closes")

    def _over(self, how):
        # A DISCONNECT that lies there already says more than the end of TCP.
        self.ended = self.ended or how

    def _read(self):
        try:
            if not self.socket.pending() and not select.select([self.socket], [], [], 0.1)[0]:
                return
            data = self.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._over("closes")
        self.buffer += data
        while (one := self._cut()):
            self._take(*one)

    def _cut(self):
        """(kind, flags, body) from the buffer, or None."""
        r = Reader(self.buffer)
        try:
            first, length = r.number(">B"), r.varint()
            body = r.take(length)
        except AssertionError:
            return None
        self.buffer = r.rest()
        return first >> 4, first & 15, body

    def _take(self, kind, flags, body):
        if kind == CONNACK:
            r = Reader(body[2:])
            self.connack = (body[0] & 1, body[1], parsed(r.take(r.varint())) if self.level == 5 and body[2:] else {})
        elif kind == PUBLISH:
            self._message(flags, body)
        elif kind == PUBREL:
            self._send(packet(PUBCOMP, body[:2]))
        elif kind == PUBREC and (len(body) < 3 or body[2] < 0x80):
            self._send(packet(PUBREL, body[:2], 2))
        elif kind == DISCONNECT:
            self._over(("disconnect", body[0] if body else 0))
        elif kind in (PUBACK, PUBREC, PUBCOMP):
            self.answers[kind, struct.unpack(">H", body[:2])[0]] = body[2] if len(body) > 2 else 0
        elif kind == SUBACK:
            self.answers[kind, struct.unpack(">H", body[:2])[0]] = body[-1]
        else:
            assert kind != PINGREQ

    def _message(self, flags, body):
        r = Reader(body)
        topic, qos = r.text().decode(), flags >> 1 & 3
        mid = r.take(2) if qos else b""
        if self.level == 5:
            r.take(r.varint())
        self.messages.append((topic, r.rest(), bool(flags & 1)))
        if qos:
            self._send(packet(PUBACK if qos == 1 else PUBREC, mid))
