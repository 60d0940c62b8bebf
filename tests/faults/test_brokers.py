# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Brokers that misbehave: the table of virtspoold(8), "BROKERS THAT MISBEHAVE", row by row.

Each test counts: every event that the hook accepted, by (host, epoch, sequence) and id, is acknowledged by the
scripted broker, or still lies in the spool, or (refused for what it is) in failed/. When the broker has become a good
one, all is delivered, in order of first arrival, with no second id for an event.
"""

import struct
import time

import pytest
from lib import Behaviour, ScriptedBroker, wait_until
from lib.programs import sanitized
from lib.scripted_broker import (
    CONNACK_CODES,
    CONNACK_CODES_311,
    DISCONNECT,
    DISCONNECT_CODES,
    PUBACK,
    PUBLISH,
    PUBREC,
    packet,
    properties,
    text,
    varint,
)

EVENTS = 5


def begin(bed, behaviour, events=EVENTS, **mqtt):
    """Events in the spool, this broker, a daemon with short time-outs."""
    for n in range(events):
        bed.hook("start", "begin", domain=f"vm{n % 3}")
    broker = bed.scripted_broker(behaviour)
    daemon = bed.new_daemon(brokers=broker)
    daemon.config["mqtt"].update({"ack_timeout": "1s", "connect_timeout": "1s", "keep_alive": "5s", **mqtt})
    daemon.config["log"] = {"level": "debug"}
    return broker, daemon.start()


def said(daemon, words, deadline=20):
    wait_until(lambda: words in daemon.output(), deadline, lambda: f"'{words}' in the log:\n{daemon.output()}")


def check_nothing_lost(bed, broker, total):
    """At any moment: what is neither acknowledged nor in failed/ is in the spool."""
    waiting = set(bed.spool.waiting())  # first: what leaves it meanwhile has been acknowledged before
    done = broker.delivered_ids() | set(bed.spool.failed())
    assert len(waiting | done) == total, (sorted(waiting), sorted(done))


def check_memory(daemon):
    """The largest that it ever was. A sanitizer's shadow is none of ours."""
    if not sanitized("virtspoold"):
        assert daemon.process.memory_kib("VmHWM") < 40 * 1024


def check_all_delivered(bed, broker, total=EVENTS, deadline=30):
    broker.behaviour = Behaviour()
    broker.wait_delivered(total, deadline)
    wait_until(lambda: not bed.spool.waiting(), 10, "the spool is empty")
    assert bed.spool.failed() == {}
    events = broker.events(broker.published)
    ids = {}
    for e in events:
        key = e["source"], e["epoch"], int(e["sequence"])
        assert ids.setdefault(key, e["id"]) == e["id"], "one event, two ids"
    assert sorted(k[2] for k in ids) == list(range(1, total + 1)), "a hole"
    first = list(dict.fromkeys(int(e["sequence"]) for e in events))
    assert first == sorted(first), f"first arrivals out of order: {first}"


# --- behaviours


class NeverAcknowledge(Behaviour):
    def publish(self, c, publish):
        pass


class AcknowledgeLate(Behaviour):
    def publish(self, c, publish):
        c.pause(0.3)
        c.puback(publish)


class AcknowledgeTwice(Behaviour):
    def publish(self, c, publish):
        c.puback(publish)
        c.puback(publish)


class AcknowledgeBackwards(Behaviour):
    """Holds the answers back until nothing more comes, then gives them from the last to the first."""

    def idle(self, c):
        for p in reversed([p for p in c.publishes if p not in c.broker.delivered]):
            c.puback(p)

    def publish(self, c, publish):
        pass


class AcknowledgeUnknown(Behaviour):
    def publish(self, c, publish):
        for mid in (publish.mid + 1000, 65535):
            c.send(packet(PUBACK, struct.pack(">H", mid)))
        c.puback(publish)


class AcknowledgeZero(Behaviour):
    """0 is no packet identifier."""

    def publish(self, c, publish):
        c.send(packet(PUBACK, b"\0\0"))
        c.hang()


class AcknowledgeByWrongPacket(Behaviour):
    """PUBREC where PUBACK belongs."""

    def publish(self, c, publish):
        c.puback(publish, kind=PUBREC)


class AcknowledgeAllButFirst(Behaviour):
    def publish(self, c, publish):
        if publish is not c.publishes[0]:
            c.puback(publish)


class CloseBeforePuback(Behaviour):
    def publish(self, c, publish):
        c.close()


class CutBeforePuback(Behaviour):
    def publish(self, c, publish):
        c.cut()


class ResetBeforePuback(Behaviour):
    def publish(self, c, publish):
        c.reset()


class HalfAPacket(Behaviour):
    def publish(self, c, publish):
        c.send(packet(PUBACK, struct.pack(">H", publish.mid))[:3])
        c.close()


class HalfAPacketThenSilence(Behaviour):
    def publish(self, c, publish):
        c.send(packet(PUBACK, struct.pack(">H", publish.mid))[:3])
        c.hang()


class Garbage(Behaviour):
    def publish(self, c, publish):
        c.send(bytes(range(256)) * 16)
        c.hang()


class GarbageInsteadOfConnack(Behaviour):
    def connect(self, c):
        c.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        c.hang()


class SecondConnack(Behaviour):
    def publish(self, c, publish):
        c.connack()
        c.hang()


class HugePacket(Behaviour):
    """Announces 256 MiB and begins to send it."""

    def publish(self, c, publish):
        c.send(bytes([PUBACK << 4]) + varint(268435455))
        for _ in range(4096):
            c.send(b"x" * 65536)
        c.hang()


class HugePublishUnasked(Behaviour):
    """A publish to somebody who has no subscription: 32 MiB, then the acknowledgement."""

    def publish(self, c, publish):
        body = text("unasked") + struct.pack(">H", 7) + properties()
        c.send(bytes([PUBLISH << 4 | 2]) + varint(len(body) + (32 << 20)) + body)
        for _ in range(512):
            c.send(b"x" * 65536)
        c.puback(publish)


class PublishesUnasked(Behaviour):
    """Of each QoS, retained and not."""

    def publish(self, c, publish):
        for n in range(300):
            qos = n % 3
            mid = struct.pack(">H", n + 1) if qos else b""
            c.send(packet(PUBLISH, text("virtspool/unasked") + mid + properties() + b"x" * 1000, qos << 1 | n & 1))
        c.puback(publish)


class MalformedProperties(Behaviour):
    def publish(self, c, publish):
        c.send(packet(PUBACK, struct.pack(">H", publish.mid) + b"\0" + varint(5) + b"\x1f\xff\xff\0\0"))
        c.hang()


class UnknownProperty(Behaviour):
    """libmosquitto 2.0.11 aborts the process when it meets one."""

    def publish(self, c, publish):
        c.send(packet(PUBACK, struct.pack(">H", publish.mid) + b"\0" + varint(2) + b"\x04\0"))
        c.hang()


class ShortPuback(Behaviour):
    def publish(self, c, publish):
        c.send(packet(PUBACK, b"\0"))
        c.hang()


class StallBeforeTls(Behaviour):
    def accepted(self, c):
        c.hang()


class StallInTls(Behaviour):
    """The ServerHello's record header, and no more."""

    def accepted(self, c):
        c.send(b"\x16\x03\x03\x00\x7a\x02\x00")
        c.hang()


class SilentAfterConnect(Behaviour):
    def connect(self, c):
        c.hang()


class SessionTakenOver(Behaviour):
    def publish(self, c, publish):
        c.disconnect(0x8E)


class ReceiveMaximumOne(Behaviour):
    connack_properties = {"receive_maximum": 1}
    most = 0

    def publish(self, c, publish):
        c.outstanding = getattr(c, "outstanding", 0) + 1
        ReceiveMaximumOne.most = max(ReceiveMaximumOne.most, c.outstanding)
        c.pause(0.05)
        if c.buffer:
            ReceiveMaximumOne.most = 99
        c.outstanding -= 1
        c.puback(publish)


# name: (behaviour, what the log says (None: nothing is wrong and all is delivered while it lasts))
TABLE = {
    "never-acknowledges": (NeverAcknowledge, "no PUBACK within 1 s, 5 messages in flight"),
    "acknowledges-late": (AcknowledgeLate, None),
    "acknowledges-twice": (AcknowledgeTwice, None),
    "acknowledges-out-of-order": (AcknowledgeBackwards, None),
    "acknowledges-unknown-id": (AcknowledgeUnknown, None),
    "acknowledges-id-0": (AcknowledgeZero, "the broker violates the MQTT protocol"),
    "acknowledges-all-but-the-first": (AcknowledgeAllButFirst, "no PUBACK within 1 s, 1 messages in flight"),
    "pubrec-instead-of-puback": (AcknowledgeByWrongPacket, "the broker violates the MQTT protocol"),
    "closes-before-puback": (CloseBeforePuback, "the broker has closed the connection"),
    "cuts-before-puback": (CutBeforePuback, "the connection was cut, without TLS's close_notify"),
    "resets-before-puback": (ResetBeforePuback, "the broker has reset the connection"),
    "half-a-packet": (HalfAPacket, "the broker has closed the connection"),
    "half-a-packet-then-silence": (HalfAPacketThenSilence, "no PUBACK within 1 s"),
    "garbage": (Garbage, "the broker sent an invalid MQTT packet (first byte 0x00)"),
    "garbage-instead-of-connack": (GarbageInsteadOfConnack, "the peer does not speak MQTT (its first byte is 0x48"),
    "second-connack": (SecondConnack, "the broker sent an invalid MQTT packet (first byte 0x20)"),
    "packet-of-256-MiB": (HugePacket, "the broker sent a packet of 268435455 bytes; the limit is"),
    "publishes-unasked": (PublishesUnasked, None),
    "publish-of-32-MiB-unasked": (HugePublishUnasked, None),
    "malformed-properties": (MalformedProperties, "the broker sent malformed properties"),
    "unknown-property": (UnknownProperty, "the broker sent an unknown MQTT property (0x04)"),
    "short-puback": (ShortPuback, "the broker violates the MQTT protocol"),
    "stalls-before-tls": (StallBeforeTls, "the TLS handshake did not finish within 1 s"),
    "stalls-in-tls": (StallInTls, "the TLS handshake did not finish within 1 s"),
    "silent-after-connect": (SilentAfterConnect, "no CONNACK within 1 s"),
    "session-taken-over": (SessionTakenOver, "the broker ends the connection: Session taken over (0x8e)"),
    "receive-maximum-of-1": (ReceiveMaximumOne, None),
}


@pytest.mark.parametrize("name", TABLE)
def test_behaviour(bed, name):
    behaviour, words = TABLE[name]
    # A busy machine must not make a good broker a slow one; and what is found out is not found by a ping.
    patience = {"keep_alive": "10m"} if words else {"ack_timeout": "30s", "connect_timeout": "30s"}
    broker, daemon = begin(bed, behaviour(), **patience)
    if words is None:
        broker.wait_delivered(EVENTS)
        assert len(broker.events(broker.published)) == EVENTS, "nothing was published twice"
        assert len(broker.connections) == 1, "one connection did it"
    else:
        said(daemon, words)
        broker.wait_connections(2)
        check_nothing_lost(bed, broker, EVENTS)
        assert bed.spool.failed() == {}
    check_memory(daemon)
    check_all_delivered(bed, broker)
    assert daemon.stop() == 0


class AcknowledgeAtFirst(Behaviour):
    def publish(self, c, publish):
        if len(c.publishes) <= EVENTS:
            c.puback(publish)


def test_acknowledgement_that_stays_away_later(bed):
    """When no other time-out of the connection is running any more."""
    broker, daemon = begin(bed, AcknowledgeAtFirst(), keep_alive="10m")
    broker.wait_delivered(EVENTS)
    bed.spool.wait_empty()
    start = time.monotonic()
    wait_until(lambda: time.monotonic() > start + 1.5, 5, "connect_timeout is over")
    bed.hook("start", "begin")
    said(daemon, "no PUBACK within 1 s")
    check_all_delivered(bed, broker, EVENTS + 1)


def test_receive_maximum_of_1_is_kept(bed):
    ReceiveMaximumOne.most = 0
    broker, daemon = begin(bed, ReceiveMaximumOne(), events=10)
    check_all_delivered_as_is(bed, broker, 10)
    assert ReceiveMaximumOne.most == 1
    assert daemon.stop() == 0


def check_all_delivered_as_is(bed, broker, total):
    broker.wait_delivered(total, 30)
    wait_until(lambda: not bed.spool.waiting(), 10, "the spool is empty")


@pytest.mark.parametrize("version, qos", [("5", 2), ("3.1.1", 1), ("3.1.1", 2)])
@pytest.mark.parametrize("name", ["never-acknowledges", "closes-before-puback", "acknowledges-late"])
def test_versions_and_qos(bed, name, version, qos):
    behaviour, words = TABLE[name]
    if name == "acknowledges-late" and qos == 2:
        behaviour, words = Behaviour, None
    broker, daemon = begin(bed, behaviour(), version=version, qos=qos)
    if words:
        said(daemon, words)
        broker.wait_connections(2)
        check_nothing_lost(bed, broker, EVENTS)
    check_all_delivered(bed, broker)
    assert all(c.level == (5 if version == "5" else 4) for c in broker.connections if c.connect)
    assert all(p.qos == qos for p in broker.published if p.event)
    assert daemon.stop() == 0


# --- refusals

DELIVERED, FAILED, STAYS = "delivered", "failed", "stays"
PUBACK_MEANING = {
    0x00: DELIVERED,
    0x10: DELIVERED,
    0x80: STAYS,
    0x83: STAYS,
    0x87: STAYS,
    0x90: FAILED,
    0x91: STAYS,
    0x97: STAYS,
    0x99: FAILED,
    0xC3: STAYS,  # one that no standard knows
}


class CloseInsteadOfConnack(Behaviour):
    def connect(self, c):
        c.close()


def test_closed_instead_of_a_connack(bed):
    """Whether the broker knows MQTT 5 is in question until it has accepted us, and not afterwards."""
    broker = bed.scripted_broker(CloseInsteadOfConnack())
    daemon = bed.new_daemon(brokers=broker)
    daemon.config["mqtt"].update(retry_min="1s", retry_max="1s")
    daemon.start()
    unknown, known = "instead of a CONNACK; it may not know MQTT 5", "instead of a CONNACK; our CONNECT has"
    wait_until(lambda: unknown in daemon.output(), 15, daemon.output)
    assert known not in daemon.output()
    broker.behaviour = Behaviour()
    wait_until(lambda: daemon.status()["connected"], 15, daemon.output)
    asked = daemon.output().count(unknown)
    broker.behaviour = CloseInsteadOfConnack()
    broker.connections[-1].raw_shutdown()
    wait_until(lambda: known in daemon.output(), 15, daemon.output)
    assert daemon.output().count(unknown) == asked
    assert daemon.stop() == 0


class Refuse(Behaviour):
    """Each event of the domain vm1 is answered with this code; others are taken."""

    def __init__(self, code, kind=PUBACK):
        self.code, self.kind = code, kind
        self.refused = []

    def publish(self, c, publish):
        if publish.event and publish.event.get("subject", "").find("vm1") >= 0:
            self.refused.append(time.monotonic())
            c.puback(publish, self.code, self.kind)
        elif publish.qos == 2:
            c.puback(publish, kind=PUBREC)
        else:
            c.puback(publish)


@pytest.mark.parametrize("code", PUBACK_MEANING, ids=lambda c: f"0x{c:02x}")
@pytest.mark.parametrize("qos", [1, 2])
def test_puback_code(bed, code, qos):
    if qos == 2 and code < 0x80:
        pytest.skip("a PUBREC that succeeds is no refusal")
    behaviour = Refuse(code, PUBACK if qos == 1 else PUBREC)
    broker, daemon = begin(bed, behaviour, qos=qos)  # vm0 vm1 vm2 vm0 vm1
    meaning = PUBACK_MEANING[code]
    if meaning == DELIVERED:
        check_all_delivered(bed, broker)
    elif meaning == FAILED:
        wait_until(lambda: not bed.spool.waiting(), 15, "the spool is empty")
        failed = bed.spool.failed()
        assert len(failed) == 2 and len(broker.delivered_ids()) == 3
        assert all(f"(0x{code:02x})" in reason for reason in failed.values())
        assert len(behaviour.refused) == 2, "each was offered once"
    else:
        said(daemon, f"(0x{code:02x})")
        wait_until(lambda: len(behaviour.refused) >= 3, 20, "it is tried again")
        check_nothing_lost(bed, broker, EVENTS)
        assert bed.spool.failed() == {}
        if code == 0x87:
            broker.wait_delivered(3)  # those of the other domains
        span = behaviour.refused[-1] - behaviour.refused[0]
        assert len(behaviour.refused) <= 5 + 4 * span, "it does not spin"
        broker.behaviour = Behaviour()
        broker.wait_delivered(EVENTS)
        wait_until(lambda: not bed.spool.waiting(), 10, "the spool is empty")
    assert len(broker.connections) == 1, "no refusal of an event ends the connection"
    assert daemon.stop() == 0


def connack_sequence(codes):
    """Refuses one connection after the other, each with the next code; then takes everything."""

    class Sequence(Behaviour):
        left = list(codes)

        def connect(self, c):
            if self.left:
                code = self.left.pop(0)
                c.connack(code, **({"reason_string": f"reason {code}"} if c.level == 5 else {}))
                c.close()
            c.connack()

    return Sequence()


@pytest.mark.parametrize("version, codes", [("5", [*CONNACK_CODES, 0xC3]), ("3.1.1", CONNACK_CODES_311)])
def test_connack_codes(bed, version, codes):
    broker, daemon = begin(bed, connack_sequence(codes), version=version)
    wait_until(lambda: not broker.behaviour.left, 60, "all codes were used")
    broker.wait_delivered(EVENTS)
    log = daemon.output()
    for code in codes:
        assert "the broker refuses the connection: " in log and f"(0x{code:02x})" in log
        assert version != "5" or f": reason {code}" in log, "the broker's own words"
    assert not any(c.publishes for c in broker.connections[: len(codes)])
    assert bed.spool.failed() == {}
    assert daemon.stop() == 0


def test_disconnect_codes(bed):
    """The broker hangs up after each first event, each time for another reason."""

    class Sequence(Behaviour):
        left = list(DISCONNECT_CODES)

        def publish(self, c, publish):
            if self.left and not publish.topic.endswith("/status"):
                c.puback(publish)
                c.disconnect(self.left.pop(0))
            super().publish(c, publish)

    total = len(DISCONNECT_CODES) + 3
    broker, daemon = begin(bed, Sequence(), events=total)
    broker.wait_delivered(total, 90)
    wait_until(lambda: not bed.spool.waiting(), 10, "the spool is empty")
    for code in DISCONNECT_CODES:
        assert "the broker ends the connection: " in daemon.output() and f"(0x{code:02x})" in daemon.output()
    assert daemon.stop() == 0


# --- limits that the broker names


class SmallPackets(Behaviour):
    connack_properties = {"maximum_packet_size": 1400}


def test_maximum_packet_size(bed):
    """What is larger goes to failed/ and is never sent; what fits, and what comes after, is delivered."""
    for name in ("small", "x" * 1500, "after"):
        bed.hook("start", "begin", domain=name, document=b"")
    broker, daemon = begin(bed, SmallPackets(), events=0)
    broker.wait_delivered(2)
    wait_until(lambda: not bed.spool.waiting(), 10, "the spool is empty")
    failed = bed.spool.failed()
    assert list(failed.values()) and all("larger than" in r for r in failed.values()) and len(failed) == 1
    assert all(p.size <= 1400 for p in broker.published)
    assert daemon.stop() == 0


@pytest.mark.parametrize("slack, fits", [(0, True), (-1, False)])
def test_maximum_packet_size_to_the_byte(bed, slack, fits):
    """libmosquitto 2.0.11 aborts when it is given a packet of one byte too many: we count as it does."""
    broker, daemon = begin(bed, Behaviour(), events=1)
    broker.wait_delivered(1)
    assert daemon.stop() == 0
    (size,) = [p.size for p in broker.published if p.event and "sequence" in p.event]

    class Limit(Behaviour):
        connack_properties = {"maximum_packet_size": size + slack}

    bed.hook("start", "begin", domain="vm0")
    bed.hook("start", "begin", domain="v", document=b"")  # smaller: it shows that the limit makes sense
    other = bed.scripted_broker(Limit())
    second = bed.new_daemon("second", brokers=other)
    second.start()
    wait_until(lambda: not bed.spool.waiting(), 10, "the spool is empty")
    sizes = [p.size for p in other.published if p.event and "sequence" in p.event]
    assert len(sizes) == 1 + fits and len(bed.spool.failed()) == (not fits), (size, sizes, bed.spool.failed())
    assert second.stop() == 0


class OnlyQosZero(Behaviour):
    connack_properties = {"maximum_qos": 0}


def test_broker_that_knows_no_qos_1(bed):
    broker, daemon = begin(bed, OnlyQosZero())
    said(daemon, "the broker does not support QoS 1, without which events could be lost")
    assert not broker.published
    check_all_delivered(bed, broker)
    assert daemon.stop() == 0


class QosOne(Behaviour):
    connack_properties = {"maximum_qos": 1}


def test_broker_that_knows_no_qos_2(bed):
    broker, daemon = begin(bed, QosOne(), qos=2)
    broker.wait_delivered(EVENTS)
    assert {p.qos for p in broker.published} == {1}
    assert daemon.stop() == 0


# --- silence


class SilentAfterDelivery(Behaviour):
    """Half-open: the peer is there for the kernel, and does nothing any more."""

    def ping(self, c):
        c.hang()


def test_half_open_is_found_by_keep_alive(bed):
    broker, daemon = begin(bed, SilentAfterDelivery())
    broker.wait_delivered(EVENTS)
    said(daemon, "no answer to the keep-alive ping within 1 s", deadline=15)
    broker.behaviour = Behaviour()
    bed.hook("stopped", "end")
    broker.wait_delivered(EVENTS + 1)
    assert daemon.stop() == 0


def test_keep_alive_of_the_broker(bed):
    """Server Keep Alive overrides ours."""

    class Ordered(Behaviour):
        connack_properties = {"server_keep_alive": 2}
        pings = 0

        def ping(self, c):
            Ordered.pings += 1
            super().ping(c)

    broker, daemon = begin(bed, Ordered(), keep_alive="60s")
    broker.wait_delivered(EVENTS)
    wait_until(lambda: Ordered.pings >= 3, 15, "pings at the broker's pace")
    assert len(broker.connections) == 1
    assert daemon.stop() == 0


class DripFeed(Behaviour):
    """A packet that never ends, one byte now and then: no sign of life."""

    def idle(self, c):
        if c.broker.delivered and c.connect:
            c.send(bytes([PUBACK << 4]) + varint(100000) if not hasattr(c, "begun") else b"\0")
            c.begun = True


def test_packet_that_never_ends(bed):
    broker, daemon = begin(bed, DripFeed())
    broker.wait_delivered(EVENTS)
    said(daemon, "no answer to the keep-alive ping", deadline=20)
    broker.behaviour = Behaviour()
    assert daemon.stop() == 0


def test_sigterm_waits_for_what_is_in_flight(bed):
    """A broker that answers late: nothing that was published is left in the spool, to be published once more."""
    broker, daemon = begin(bed, AcknowledgeLate(), ack_timeout="30s")
    broker.wait_published(1)
    assert daemon.stop() == 0
    published = {e["id"] for e in broker.events(broker.published)}
    assert published and published == broker.delivered_ids()
    assert not published & set(bed.spool.waiting())
    check_nothing_lost(bed, broker, EVENTS)


def test_sigterm_says_goodbye(bed):
    broker, daemon = begin(bed, Behaviour())
    broker.wait_delivered(EVENTS)
    assert daemon.stop() == 0
    wait_until(lambda: all(c.closed for c in broker.connections), 5, "closed")
    assert broker.connections[-1].packets[-1] == DISCONNECT


def test_large_event_on_a_slow_line(bed):
    """It takes much longer than ack_timeout and keep_alive allow for an answer; as long as it moves, that is no failure."""
    document = b"<domain type='qemu'><name>vm0</name><description>" + b"x" * 4_000_000 + b"</description></domain>"
    bed.hook("start", "begin", domain="vm0", document=document)
    broker = ScriptedBroker(bed.certs)
    broker.pace = 0.04
    bed._closing.append(broker.stop)
    broker.start()
    daemon = bed.new_daemon(brokers=broker)
    daemon.config["mqtt"].update(ack_timeout="2s", connect_timeout="2s", keep_alive="5s")
    daemon.config["events"] = {"xml": True}
    began = time.monotonic()
    daemon.start()
    wait_until(lambda: not bed.spool.waiting(), 60, lambda: daemon.output())
    assert time.monotonic() - began > 7, "not as slow as it should be"
    assert len(broker.connections) == 1 and len(broker.events(broker.published)) == 1
    assert daemon.stop() == 0


class HardlyReads(Behaviour):
    """Takes a byte now and then, and so keeps a large event under way."""

    def connect(self, c):
        super().connect(c)
        while c.socket.recv(1):
            c.pause(0.2)


def test_broker_that_hardly_reads(bed):
    document = b"<domain type='qemu'><name>vm0</name><description>" + b"x" * 7_000_000 + b"</description></domain>"
    bed.hook("start", "begin", domain="vm0", document=document)
    broker = ScriptedBroker(bed.certs, HardlyReads(), tls=False)
    bed._closing.append(broker.stop)
    daemon = bed.new_daemon(brokers=broker.start())
    daemon.config["mqtt"].update(ack_timeout="2s", connect_timeout="2s", keep_alive="60s")
    daemon.config["events"] = {"xml": True}
    daemon.start()
    said(daemon, "no PUBACK within 2 s")
    assert bed.spool.waiting() and not bed.spool.failed()
    broker.behaviour = Behaviour()
    broker.wait_delivered(1)
    assert daemon.stop() == 0
