# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A broker that attacks who connects to it: the daemon, and `virtspool watch`, which takes messages. Nothing crashes (run
it under AddressSanitizer), fills memory, or hangs; each connection ends with a sentence, or goes on.
"""

import os
import random
import struct
import subprocess

import pytest
from lib import Behaviour, Process, program, wait_until
from lib.programs import sanitized
from lib.scripted_broker import CONNACK, PINGRESP, PUBACK, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE
from lib.scripted_broker import packet, properties, text, varint


def probe(bed, broker, *options):
    certs = bed.certs
    command = [program("tests/net/client-probe"), "--ca", certs.ca, "--cert", certs.pem("host"), "--key", certs.key("host")]
    return [*map(str, command), "--connect-timeout", "2", "--ack-timeout", "1", *options, f"localhost:{broker.port}"]


def check_end(done, what):
    """Lost with a sentence, or all well: never a signal or a sanitizer's report."""
    assert done.returncode in (0, 1), (what, done.returncode, done.stdout[-500:], done.stderr[-3000:])
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, (what, done.stderr[-3000:])
    assert done.stdout.startswith(("lost", "connected", "subscribed", "done", "message", "publish")), (what, done.stdout)


# libmosquitto 2.0.11 itself loses some bytes when it meets a malformed list of properties.
NO_LEAK_CHECK = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
ROUNDS = int(os.environ.get("VIRTSPOOL_HOSTILE_ROUNDS", "15"))


class Random(Behaviour):
    """After a good, or nearly good, CONNACK: packets with well-formed headers and bodies of any bytes, and mutations."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def mutate(self, data):
        data = bytearray(data)
        for _ in range(self.random.choice([0, 0, 1, 1, 2, 5])):
            if data:
                data[self.random.randrange(len(data))] = self.random.choice([0, 1, 0x7F, 0x80, 0xFF, self.random.randrange(256)])
        return bytes(data[: self.random.choice([len(data)] * 4 + [self.random.randrange(len(data) + 1)])])

    def one(self):
        r = self.random
        kind = r.choice([2, 3, 3, 3, 4, 4, 5, 6, 7, 9, 11, 13, 14, r.randrange(16)])
        flags = {6: 2, 3: r.choice([0, 1, 2, 3, 4])}.get(kind, 0)
        if kind == PUBLISH:
            body = text("virtspool/v1/x") + (struct.pack(">H", r.randrange(65536)) if flags & 6 else b"")
            body += self.properties() + r.randbytes(r.randrange(200))
        else:
            body = struct.pack(">H", r.randrange(1, 12)) + r.choice([b"", bytes([r.randrange(256)])])
            body += self.properties() if r.random() < 0.5 else b""
        return packet(kind, self.mutate(body), flags)

    def properties(self):
        r = self.random
        body = b"".join(
            r.choice(
                [
                    properties(reason_string="x" * r.randrange(50))[1:],
                    b"\x26" + text("a") + text("b"),
                    bytes([r.randrange(0x30)]) + r.randbytes(r.randrange(6)),
                    properties(receive_maximum=r.randrange(65536))[1:],
                ]
            )
            for _ in range(r.randrange(4))
        )
        return varint(len(body)) + body if r.random() < 0.9 else r.randbytes(3)

    def connect(self, c):
        good = packet(CONNACK, b"\0\0" + self.properties())
        c.send(good if self.random.random() < 0.3 else packet(CONNACK, b"\0\0\0"))
        for _ in range(30):
            c.send(self.one())

    def publish(self, c, publish):
        c.puback(publish)
        c.send(self.one())


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("who", ["publisher", "subscriber"])
def test_random_packets(bed, who, block):
    broker = bed.scripted_broker()
    options = ["--publish", "5"] if who == "publisher" else ["--subscribe", "virtspool/#", "--messages", "5"]
    for seed in range(block * ROUNDS, (block + 1) * ROUNDS):
        for version in ("5", "3"):
            broker.behaviour = Random(f"{who} {seed} {version}")
            command = probe(bed, broker, *options, "--mqtt", version)
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, errors="replace", timeout=30, env=NO_LEAK_CHECK
                )
            except subprocess.TimeoutExpired as e:
                # A subscriber waits for messages that need not come; the publisher has a time-out for everything.
                assert who == "subscriber", (seed, version, e.stdout)
                continue
            check_end(done, (who, seed, version))


class EmptySuback(Behaviour):
    """A SUBACK without any reason code: libmosquitto hands out a list of none (CVE-2024-10525)."""

    def packet(self, c, kind, flags, body):
        if kind == SUBSCRIBE:
            c.send(packet(SUBACK, body[:2] + (b"\0" if c.level == 5 else b"")))
        else:
            super().packet(c, kind, flags, body)


@pytest.mark.parametrize("version", ["5", "3"])
def test_suback_without_code(bed, version):
    broker = bed.scripted_broker(EmptySuback())
    command = probe(bed, broker, "--subscribe", "x", "--publish", "1", "--mqtt", version)
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    check_end(done, version)
    assert "subscribed 128" in done.stdout or "\nlost " in done.stdout, done.stdout


def check_memory(p, name="virtspool"):
    assert sanitized(name) or p.memory_kib("VmHWM") < 40 * 1024


def watch(bed, broker):
    bed.daemon.config["brokers"] = [broker.url]
    bed.daemon.write_config()
    return Process([program("virtspool"), "watch", "-c", bed.daemon.config_file], bed.directory / "watch.log")


class Flood(Behaviour):
    """To a subscriber: publishes of each QoS without end, huge ones, escape sequences, retained ones; then a good event."""

    good = b'{"specversion":"1.0","id":"good","source":"/virtspool/x","type":"t","subject":"the-good-one","epoch":"e","sequence":"1"}'

    def packet(self, c, kind, flags, body):
        super().packet(c, kind, flags, body)
        if kind != SUBSCRIBE:
            return
        evil = [b"", b"\0" * 100, b"{" * 100000, b'{"id":"\x1b]0;owned\x07"}', b"[" * 100000, b'"\xff\xfe"', b"\x1b[2J" * 50]
        evil += [b'{"specversion":"1.0","id":"e","source":"\\u001b[31m","type":"\\r\\n","subject":"\\u202e\\u0000"}']
        for n in range(2000):
            qos = n % 3
            mid = struct.pack(">H", n + 1) if qos else b""
            topic = text("virtspool/v1/[2J")  # libmosquitto refuses control characters in topics
            c.send(packet(PUBLISH, topic + mid + b"\0" + evil[n % len(evil)], qos << 1 | n & 1))
        # Of QoS 2, which was not asked for: libmosquitto would keep each until it is released.
        for n in range(200):
            head = text("virtspool/v1/x") + struct.pack(">H", n + 1) + b"\0"
            c.send(packet(PUBLISH, head + b"x" * 500_000, 4))
        c.send(packet(PUBLISH, text("virtspool/v1/x/y/z/start") + b"\0" + self.good))


def test_watch_under_a_flood(bed):
    broker = bed.scripted_broker(Flood())
    p = watch(bed, broker)
    wait_until(lambda: "the-good-one" in p.output() or not p.running, 30, lambda: p.output()[-2000:])
    assert p.running, p.output()[-2000:]
    assert len(broker.connections) == 1
    output = p.output()
    assert not any(ord(ch) < 0x20 and ch != "\n" for ch in output), "a control character reached the terminal"
    check_memory(p)
    assert p.stop() in (0, 130)


class Endless(Behaviour):
    """After a good CONNACK one packet, without end, as fast as it goes. What comes from the daemon is not read."""

    def __init__(self, one):
        self.block = one * (2**20 // len(one))

    def connect(self, c):
        super().connect(c)
        while not c.broker.stopping.is_set():
            c.send(self.block)


ENDLESS = {
    "publishes": packet(PUBLISH, text("x") + b"\0"),
    "pings' answers": packet(PINGRESP),
    "acknowledgements": packet(PUBACK, b"\xff\xff"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_flood_holds_up_nothing(bed, name):
    """Neither timers nor signals: the PUBACK's time runs out, and SIGTERM ends it."""
    broker = bed.scripted_broker(Endless(ENDLESS[name]), certs=None)
    daemon = bed.new_daemon(brokers=broker)
    daemon.config["mqtt"].update(ack_timeout="1s")
    daemon.start()
    daemon.wait_connected()
    bed.hook("started")
    wait_until(lambda: "no PUBACK within 1 s" in daemon.output(), 10, daemon.output)
    daemon.wait_connected(2)
    check_memory(daemon.process, "virtspoold")
    assert daemon.process.stop(5) == 0
    assert len(bed.spool.waiting()) == 1
    broker.behaviour = Behaviour()
    daemon.start()
    broker.wait_delivered(1)
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    "one, text",
    [
        (packet(PUBREC, b"\xff\xff"), "the broker keeps requesting replies but does not read them"),
        (packet(PUBREL, b"\0\1", 2), "the broker sent an invalid MQTT packet (first byte 0x62)"),
    ],
    ids=["PUBREC", "PUBREL"],
)
def test_answers_without_end(bed, one, text):
    """libmosquitto answers each, and would keep the answers for a broker that does not take them."""
    broker = bed.scripted_broker(Endless(one), certs=None)
    daemon = bed.new_daemon(brokers=broker).start()
    bed.hook("started")
    wait_until(lambda: daemon.output().count(text) >= 2, 20, daemon.output)
    check_memory(daemon.process, "virtspoold")
    broker.behaviour = Behaviour()
    broker.wait_delivered(1)
    assert daemon.stop() == 0


class HugePublish(Behaviour):
    """A publish to a subscriber that claims 256 MiB."""

    def packet(self, c, kind, flags, body):
        super().packet(c, kind, flags, body)
        if kind == SUBSCRIBE:
            c.send(bytes([PUBLISH << 4]) + varint(268435455) + text("virtspool/v1/x"))
            c.hang()


MALFORMED = {
    "wildcard": (packet(PUBLISH, text("virtspool/#") + b"\0"), "a message with an invalid topic"),
    "zero": (packet(PUBLISH, text("a\0b") + b"\0"), "a message with an invalid topic"),
    "not UTF-8": (packet(PUBLISH, b"\0\2a\xff" + b"\0"), "a message with an invalid topic"),
    "no topic": (packet(PUBLISH, text("") + b"\0"), "a message without a topic"),
    "no properties": (packet(PUBLISH, text("a")), "a message that ends too early"),
    "identifier 0": (packet(PUBLISH, text("a") + b"\0\0\0", 2), "a message without a packet identifier"),
    "empty": (packet(PUBLISH), "a message that ends too early"),
}


class MalformedPublish(Behaviour):
    def __init__(self, message):
        self.message = message

    def packet(self, c, kind, flags, body):
        super().packet(c, kind, flags, body)
        if kind == SUBSCRIBE:
            c.send(self.message)


@pytest.mark.parametrize("name", MALFORMED)
def test_watch_and_a_malformed_publish(bed, name):
    message, why = MALFORMED[name]
    broker = bed.scripted_broker(MalformedPublish(message))
    p = watch(bed, broker)
    p.wait_output(f"the broker sent {why}")
    p.stop()


def test_watch_and_a_publish_of_256_mib(bed):
    broker = bed.scripted_broker(HugePublish())
    p = watch(bed, broker)
    p.wait_output("the broker sent a packet of 268435455 bytes; the limit is")
    check_memory(p)
    p.stop()
