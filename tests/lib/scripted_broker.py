# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A broker that does what a test says, in particular what no broker should do. MQTT 5 and 3.1.1, TLS or not, in threads.

    broker = ScriptedBroker(certs).start()
    broker.behaviour = NeverAcknowledge()      # may be changed at any time; for every connection and packet from then on
    daemon = bed.new_daemon(brokers=broker)
    ...
    broker.behaviour = Behaviour()             # from now on a good broker
    broker.wait_delivered(5)

    broker.published     every PUBLISH that came whole, in order (Publish: .event, .topic, .mid, .qos, .connection)
    broker.delivered     those that were answered with success, i.e. that virtspoold may forget
    broker.connections   all there were (Connection: .connect, .publishes, .packets, .tls facts, .closed)

A Behaviour is a class with one method for each thing that can happen; the base class is a good broker. Its methods run
in the connection's thread and may do anything to it: c.send(), c.puback(), c.cut(), c.hang() …
"""

import json
import select
import socket
import ssl
import struct
import threading
import time

from .waiting import wait_until

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 12, 13, 14

# Reason codes that the standard lets a server send (MQTT 5, tables 3-1, 3-4, 3-10).
CONNACK_CODES = [0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99]
CONNACK_CODES += [0x9A, 0x9B, 0x9C, 0x9D, 0x9F]
CONNACK_CODES_311 = [1, 2, 3, 4, 5]
PUBACK_CODES = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]
DISCONNECT_CODES = [0x00, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97]
DISCONNECT_CODES += [0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2]

# Properties of CONNACK and the like: name -> (identifier, encoding).
PROPERTIES = {
    "server_keep_alive": (0x13, ">H"),
    "reason_string": (0x1F, "text"),
    "receive_maximum": (0x21, ">H"),
    "maximum_qos": (0x24, ">B"),
    "maximum_packet_size": (0x27, ">I"),
}


def varint(n):
    out = bytearray()
    while True:
        byte, n = n & 0x7F, n >> 7
        out.append(byte | (0x80 if n else 0))
        if not n:
            return bytes(out)


def text(s):
    data = s.encode() if isinstance(s, str) else s
    return struct.pack(">H", len(data)) + data


def properties(**values):
    body = b""
    for name, value in values.items():
        identifier, form = PROPERTIES[name]
        body += bytes([identifier]) + (text(value) if form == "text" else struct.pack(form, value))
    return varint(len(body)) + body


def packet(kind, body=b"", flags=0):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        piece = self.data[self.at : self.at + n]
        assert len(piece) == n, "short packet"
        self.at += n
        return piece

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self):
        return self.take(self.number(">H"))

    def varint(self):
        value = shift = 0
        while True:
            byte = self.number(">B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def rest(self):
        return self.data[self.at :]


class Connect:
    def __init__(self, body):
        r = Reader(body)
        self.protocol = r.text()
        self.level, self.flags, self.keep_alive = r.number(">B"), r.number(">B"), r.number(">H")
        self.properties = r.take(r.varint()) if self.level == 5 else b""
        self.client_id = r.text().decode()
        self.will = None
        if self.flags & 4:
            if self.level == 5:
                r.take(r.varint())
            self.will = (r.text().decode(), r.text())
        self.username = r.text().decode() if self.flags & 0x80 else None
        self.password = r.text() if self.flags & 0x40 else None


class Publish:
    def __init__(self, connection, flags, body):
        r = Reader(body)
        self.connection = connection
        self.qos, self.retain, self.duplicate = flags >> 1 & 3, bool(flags & 1), bool(flags & 8)
        self.topic = r.text().decode()
        self.mid = r.number(">H") if self.qos else 0
        if connection.level == 5:
            r.take(r.varint())
        self.payload = r.rest()
        self.size = len(packet(PUBLISH, body))
        try:
            self.event = json.loads(self.payload)
        except ValueError:
            self.event = None

    @property
    def key(self):
        return self.event["source"], self.event["epoch"], int(self.event["sequence"])


class Closed(Exception):
    """The connection is over, by either side."""


class Connection:
    def __init__(self, broker, sock):
        self.broker, self.socket, self.raw = broker, sock, sock
        self.level = 5
        self.connect = None
        self.packets, self.publishes = [], []
        self.sni = None
        self.alpn = self.version = self.resumed = self.certificate = None
        self.clean = False  # the peer said DISCONNECT, or close_notify
        self.closed = False
        self.buffer = b""

    # --- for behaviours

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (OSError, ValueError) as e:
            raise Closed from e

    def connack(self, code=0, session_present=0, **values):
        body = bytes([session_present, code])
        self.send(packet(CONNACK, body + (properties(**values) if self.level == 5 else b"")))

    def puback(self, publish, code=0, kind=PUBACK):
        """Answers a publish; success counts as delivered (QoS 2: when the PUBCOMP is sent)."""
        body = struct.pack(">H", publish.mid)
        self.send(packet(kind, body + (bytes([code]) if self.level == 5 and code else b"")))
        if code < 0x80 and kind == PUBACK:
            self.broker.delivered.append(publish)

    def disconnect(self, code=0):
        self.send(packet(DISCONNECT, bytes([code])) if self.level == 5 else b"")
        self.close()

    def close(self):
        """As TLS wants it: close_notify, then FIN."""
        try:
            if isinstance(self.socket, ssl.SSLSocket):
                self.socket.settimeout(1)
                self.socket.unwrap()
        except (OSError, ValueError):
            pass
        self.cut()

    def cut(self):
        """FIN without close_notify: a truncation."""
        try:
            self.raw_shutdown()
        finally:
            raise Closed

    def raw_shutdown(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR) if not isinstance(self.socket, ssl.SSLSocket) else socket.socket.shutdown(
                self.socket, socket.SHUT_RDWR
            )
        except OSError:
            pass

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Closed

    def hang(self):
        """Neither reads nor writes any more, and keeps the connection, until the broker stops."""
        self.broker.stopping.wait()
        raise Closed

    def pause(self, seconds):
        if self.broker.stopping.wait(seconds):
            raise Closed

    # --- reading

    def fill(self, deadline=None):
        while True:
            if self.broker.stopping.is_set():
                raise Closed
            try:
                pending = isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()
                if not pending and not select.select([self.socket], [], [], 0.05)[0]:
                    self.broker.behaviour.idle(self)
                    continue
                data = self.socket.recv(65536)
            except ssl.SSLWantReadError:
                continue
            except (OSError, ValueError) as e:
                raise Closed from e
            if not data:
                self.clean = True
                raise Closed
            self.buffer += data
            if self.broker.pace:
                self.pause(self.broker.pace)
            return

    def take(self, n):
        while len(self.buffer) < n:
            self.fill()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def read_packet(self):
        first = self.take(1)[0]
        length = shift = 0
        while True:
            byte = self.take(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        return first >> 4, first & 15, self.take(length)

    # --- the life of it

    def serve(self):
        behaviour = self.broker.behaviour
        behaviour.accepted(self)
        if self.broker.tls:
            self.shake_hands()
        while True:
            kind, flags, body = self.read_packet()
            self.packets.append(kind)
            self.broker.behaviour.packet(self, kind, flags, body)

    def shake_hands(self):
        self.socket.settimeout(20)
        self.socket = self.broker.context.wrap_socket(self.socket, server_side=True)
        self.alpn, self.version = self.socket.selected_alpn_protocol(), self.socket.version()
        self.resumed, self.certificate = self.socket.session_reused, self.socket.getpeercert()
        self.sni = self.broker.names.pop(self.socket.fileno(), None)


class Behaviour:
    """A good broker."""

    connack_code = 0
    connack_properties = {}

    def accepted(self, c):
        """A TCP connection, before TLS."""

    def packet(self, c, kind, flags, body):
        if kind == CONNECT:
            c.connect = Connect(body)
            c.level = c.connect.level
            self.connect(c)
        elif kind == PUBLISH:
            publish = Publish(c, flags, body)
            c.publishes.append(publish)
            c.broker.published.append(publish)
            self.publish(c, publish)
        elif kind == PUBREL:
            mid = struct.unpack(">H", body[:2])[0]
            c.send(packet(PUBCOMP, body[:2]))
            c.broker.delivered += [p for p in c.publishes if p.mid == mid][-1:]
        elif kind == SUBSCRIBE:
            c.send(packet(SUBACK, body[:2] + (b"\0" if c.level == 5 else b"") + b"\1"))
        elif kind == PINGREQ:
            self.ping(c)
        elif kind == DISCONNECT:
            c.clean = True
            raise Closed

    def connect(self, c):
        values = self.connack_properties if c.level == 5 else {}
        c.connack(self.connack_code, **values)
        if self.connack_code:
            c.close()

    def publish(self, c, publish):
        if publish.qos == 2:
            c.puback(publish, kind=PUBREC)
        elif publish.qos == 1:
            c.puback(publish)

    def ping(self, c):
        c.send(packet(PINGRESP))

    def idle(self, c):
        """Nothing came for a moment."""


class ScriptedBroker:
    def __init__(
        self,
        certs=None,
        behaviour=None,
        tls=True,
        certificate="broker",
        host="127.0.0.1",
        alpn=("mqtt",),
        address="127.0.0.1",
    ):
        self.tls = tls and certs is not None
        self.address = address
        self.certs, self.behaviour = certs, behaviour or Behaviour()
        self.host = "localhost" if self.tls else host
        self.connections, self.published, self.delivered = [], [], []
        self.names = {}
        self.stopping = threading.Event()
        self.pace = 0  # seconds between two reads of at most 16 KiB, with small buffers: a slow line (before start())
        self.errors = []
        self.listener = None
        self.threads = []
        self.port = None
        if self.tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certs.pem(certificate), certs.key(certificate))
            self.context.load_verify_locations(certs.ca)
            self.context.verify_mode = ssl.CERT_OPTIONAL
            self.context.sni_callback = self._on_name
            if alpn:
                self.context.set_alpn_protocols(list(alpn))

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def start(self):
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self.listener = socket.create_server((self.address, self.port or 0), family=family, backlog=64)
        if self.pace:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.port = self.listener.getsockname()[1]
        self._spawn(self._accept)
        return self

    def stop(self):
        self.stopping.set()
        if self.listener:
            self.listener.close()
        for t in list(self.threads):
            t.join(20)
        assert not self.errors, self.errors

    def events(self, publishes=None):
        """CloudEvents of the publishes that are events (not status messages)."""
        return [p.event for p in (self.delivered if publishes is None else publishes) if p.event and "sequence" in p.event]

    def delivered_ids(self):
        return {e["id"] for e in self.events()}

    def wait_delivered(self, n, deadline=20):
        wait_until(
            lambda: len(self.delivered_ids()) >= n,
            deadline,
            lambda: f"{n} events delivered, not {len(self.delivered_ids())} ({len(self.published)} published in "
            f"{len(self.connections)} connections)",
        )

    def wait_connections(self, n, deadline=20):
        wait_until(lambda: len(self.connections) >= n, deadline, lambda: f"{n} connections, not {len(self.connections)}")

    def wait_published(self, n, deadline=20):
        wait_until(lambda: len(self.published) >= n, deadline, lambda: f"{n} publishes, not {len(self.published)}")

    # --- inside

    def _on_name(self, sock, name, context):
        self.names[sock.fileno()] = name

    def _spawn(self, target, *arguments):
        t = threading.Thread(target=target, args=arguments, daemon=True)
        self.threads.append(t)
        t.start()

    def _accept(self):
        while not self.stopping.is_set():
            try:
                if not select.select([self.listener], [], [], 0.1)[0]:
                    continue
                sock, _ = self.listener.accept()
            except (OSError, ValueError):
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            c = Connection(self, sock)
            self.connections.append(c)
            self._spawn(self._serve, c)

    def _serve(self, c):
        try:
            c.serve()
        except (Closed, OSError):
            pass
        except Exception as e:  # noqa: BLE001 - a mistake in a behaviour must fail the test
            self.errors.append(repr(e))
        finally:
            try:
                c.socket.close()
            except OSError:
                pass
            c.closed = time.monotonic()
