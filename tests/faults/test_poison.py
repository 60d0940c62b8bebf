# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events over which the broker ends the connection: each is found and set aside in bounded time, the others pass."""

import time

import pytest

from lib import Behaviour, ScriptedBroker, wait_until
from lib.documents import domain_uuid
from lib.namespaces import Namespaces
from lib.scripted_broker import PUBREL


def is_bad(publish):
    return bool(publish.event) and publish.event.get("subject", "").startswith("bad")


class ClosesOver(Behaviour):
    """Ends the connection over each event of the domains bad..."""

    def publish(self, c, publish):
        if is_bad(publish):
            c.cut()
        super().publish(c, publish)


class ClosesOverReports(ClosesOver):
    """... and over the report on mqtt.status_topic, so that no probe can be compared with."""

    def publish(self, c, publish):
        if publish.topic.endswith("/status"):
            c.cut()
        super().publish(c, publish)


class ClosesOverAnything(Behaviour):
    def publish(self, c, publish):
        c.cut()


class EndsOver(Behaviour):
    """Ends the connection with a reason, as EMQX with deny_action = disconnect."""

    def __init__(self, code):
        self.code = code

    def publish(self, c, publish):
        if is_bad(publish):
            c.disconnect(self.code)
        super().publish(c, publish)


def start(bed, broker, **mqtt):
    daemon = bed.new_daemon(brokers=broker)
    daemon.config["mqtt"].update(retry_min="1s", retry_max="1s", **mqtt)
    daemon.start()
    return daemon


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("bad, good", [(1, 6), (2, 6), (6, 6), (3, 0)])
def test_events_that_end_the_connection(bed, version, bad, good):
    broker = bed.scripted_broker(ClosesOver())
    for i in range(good // 2):
        bed.hook("started", domain=f"good{i}")
    for i in range(bad):
        bed.hook("started", domain=f"bad{i % 2}")  # neighbours, of equal and of different domains
    for i in range(good // 2):
        bed.hook("started", domain=f"good{i}")
    daemon = start(bed, broker, version=version)
    wait_until(lambda: not bed.spool.waiting(), 30, lambda: f"set aside, delivered:\n{daemon.output()}")
    reasons = bed.spool.failed()
    assert len(reasons) == bad and len(broker.events()) == good
    assert all("ended the connection each time it was given this event" in r for r in reasons.values())
    assert all(("it may refuse the topic" in r) == (version == "3.1.1") for r in reasons.values())
    assert len(broker.connections) <= 3 * bad + 3, "what virtspoold(8) says"
    assert daemon.stop() == 0


@pytest.mark.parametrize("order", ["bggb"])
def test_a_broker_that_takes_no_reports(bed, order):
    """What it took last is given once more, as the control; the last bad one is set aside as well."""
    broker = bed.scripted_broker(ClosesOverReports())
    for name in order:
        bed.hook("started", domain={"b": "bad", "g": "good"}[name])
    daemon = start(bed, broker)
    wait_until(lambda: not bed.spool.waiting(), 30, lambda: f"set aside, delivered:\n{daemon.output()}")
    assert len(bed.spool.failed()) == 2 and len(broker.delivered_ids()) == 2
    assert len(broker.connections) <= 5 * 2 + 5
    broker.behaviour = ClosesOverAnything()  # from now on it takes nothing, also not what it took before
    seen = len(broker.connections)
    bed.hook("started", domain="good")
    bed.hook("stopped", domain="good")
    broker.wait_connections(seen + 9, 30)
    assert len(bed.spool.waiting()) == 2 and len(bed.spool.failed()) == 2
    assert daemon.stop() == 0


def test_a_broker_that_takes_nothing_empties_no_spool(bed):
    broker = bed.scripted_broker(ClosesOverAnything())
    for i in range(5):
        bed.hook("started", domain=f"vm{i}")
    daemon = start(bed, broker)
    broker.wait_connections(9, 30)
    assert len(bed.spool.waiting()) == 5 and not bed.spool.failed()
    broker.behaviour = Behaviour()
    broker.wait_delivered(5)
    assert daemon.stop() == 0


@pytest.mark.parametrize("code", [0x87, 0x97])
def test_reasons_that_end_the_connection(bed, code):
    """Not authorized; or quota exceeded, again and again over one event: it waits, the others go on."""
    broker = bed.scripted_broker(EndsOver(code))
    for name in ("good1", "bad", "good2", "bad"):
        bed.hook("started", domain=name)
    daemon = start(bed, broker)
    broker.wait_delivered(2)

    def retried():
        return [r for r in daemon.status().get("retried") or [] if f"0x{code:02x}" in r["why"]]

    wait_until(retried, 20, lambda: f"the status names the event: {daemon.status()}")
    assert not bed.spool.failed()
    bed.spool.wait_count(2)
    assert domain_uuid("bad") in retried()[0]["topic"]
    broker.behaviour = Behaviour()
    broker.wait_delivered(4)
    assert daemon.stop() == 0


def test_one_of_sixty_ends_the_connection_over_its_rights(bed):
    """Answers die with the connection, so the events in flight are given singly; few connections do, and none is set aside."""
    broker = bed.scripted_broker(EndsOver(0x87))
    for i in range(60):
        bed.hook("started", domain="bad" if i == 30 else f"good{i}")
    daemon = start(bed, broker)
    started = time.monotonic()
    broker.wait_delivered(59)
    print(f"the others took {time.monotonic() - started:.1f} s, {len(broker.connections)} connections")
    assert len(broker.connections) <= 5
    assert not bed.spool.failed()
    bed.spool.wait_count(1)
    broker.behaviour = Behaviour()
    broker.wait_delivered(60)
    assert daemon.stop() == 0


@pytest.mark.parametrize("xml", [True, False])
def test_sizes_that_end_the_connection(bed, xml):
    """mosquitto under MQTT 3.1.1 closes over what exceeds max_packet_size: the size is found once, not each event."""
    bed.broker.options += ["max_packet_size 4096"]
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.config["mqtt"].update(version="3.1.1", retry_min="1s", retry_max="1s")
    bed.daemon.config.setdefault("events", {})["xml"] = xml
    for i in range(12):
        text = f"<description>{'x' * 6000}</description>" if i % 2 else ""
        if xml:
            document = f"<domain><name>vm{i}</name><uuid>{domain_uuid(f'vm{i}')}</uuid>{text}</domain>".encode()
            bed.hook("started", domain=f"vm{i}", document=document)
        else:
            bed.hook("started", "begin", "y" * 6000 if i % 2 else "-", domain=f"vm{i}")
    bed.daemon.start()
    wait_until(lambda: not bed.spool.waiting(), 30, lambda: f"the spool is empty:\n{bed.daemon.output()}")
    failed = bed.spool.failed()
    if xml:
        events = subscriber.wait_for(12)
        assert sum(e["data"].get("xml_omitted") == "too large" for e in events) == 6 and not failed
    else:
        subscriber.wait_for(6)
        assert len(failed) == 6 and all("bytes" in r and "larger than the broker takes" in r for r in failed.values())
    assert bed.daemon.output().count("connected to broker") <= 6


def refuses(code):
    class Refuses(Behaviour):
        connack_code = code

    return Refuses


class Closes(Behaviour):
    def accepted(self, c):
        c.cut()


class Silent(Behaviour):
    def accepted(self, c):
        c.hang()


class NoConnack(Behaviour):
    def connect(self, c):
        c.hang()


class ClosesAfterConnack(Behaviour):
    def publish(self, c, publish):
        c.cut()


FIRST = {
    "closes": Closes,
    "silent": Silent,
    "no-connack": NoConnack,
    "unavailable": refuses(0x88),
    "quota": refuses(0x97),
    "closes-after-connack": ClosesAfterConnack,
}


@pytest.mark.parametrize("first", FIRST)
def test_second_address(bed, first):
    """The first address of the name takes TCP and is no broker: the second has its turn at once."""
    box = Namespaces(bed.directory, mount=True, network=True)
    hosts = bed.directory / "hosts"
    hosts.write_text("127.0.0.1 broker.test\n127.0.0.2 broker.test\n")
    box.run("mount", "--bind", hosts, "/etc/hosts")
    certificate = bed.certs.server("two.broker.test", "broker.test")
    with box.inside_network():
        good = bed.scripted_broker(certificate=certificate, address="127.0.0.2")
        bad = ScriptedBroker(bed.certs, FIRST[first](), certificate=certificate, address="127.0.0.1")
        bad.port = good.port
        bad.start()
    bed._closing.append(bad.stop)
    bed.hook("start", "begin")
    daemon = bed.new_daemon(brokers=[])
    daemon.prefix = box.prefix
    daemon.config["brokers"] = [f"mqtts://broker.test:{good.port}"]
    daemon.config["mqtt"].update(connect_timeout="1s")
    daemon.start()
    good.wait_delivered(1)
    assert len(bad.connections) <= 2, "it has its turn at once"
    assert daemon.stop() == 0


class SlowHandshake(Behaviour):
    def packet(self, c, kind, flags, body):
        if kind == PUBREL:
            c.pause(0.5)
        super().packet(c, kind, flags, body)


@pytest.mark.parametrize("end", ["stop", "another broker", "another topic"])
@pytest.mark.parametrize("qos", [1, 2])
def test_offline_report(bed, qos, end):
    """DISCONNECT cancels the will: it follows the answer to the offline report, the whole of it."""
    broker = bed.scripted_broker(SlowHandshake())
    daemon = bed.new_daemon(brokers=broker)
    daemon.config["mqtt"]["qos"] = qos
    daemon.start()
    wait_until(lambda: broker.delivered, 10, "the online report")
    topic = broker.delivered[0].topic
    if end == "another broker":
        daemon.brokers = [bed.scripted_broker()]
        daemon.reload()
    elif end == "another topic":
        daemon.config["mqtt"]["status_topic"] = "elsewhere/{host}"
        daemon.reload()

    def reports():
        return [p.event["type"].rpartition(".")[2] for p in broker.delivered if p.topic == topic]

    if end != "stop":
        wait_until(lambda: len(reports()) >= 2, 10, lambda: f"offline: {reports()}\n{daemon.output()}")
    assert daemon.stop() == 0
    assert reports() == ["online", "offline"]


class ClosesOverQos2(Behaviour):
    """As NATS 2.9."""

    def publish(self, c, publish):
        if publish.qos == 2:
            c.cut()
        super().publish(c, publish)


class AnswersAsQos1(Behaviour):
    """As RabbitMQ 3.10."""

    def publish(self, c, publish):
        c.puback(publish)


@pytest.mark.parametrize("behaviour", [ClosesOverQos2, AnswersAsQos1])
def test_a_broker_without_qos_2(bed, behaviour):
    broker = bed.scripted_broker(behaviour())
    bed.hook("started")
    daemon = start(bed, broker, version="3.1.1", qos=2)
    said = "seems not to know QoS 2: set mqtt.qos to 1"
    wait_until(lambda: said in (daemon.status().get("last_error") or ""), 20, lambda: f"{daemon.status()}\n{daemon.output()}")
    seen = len(broker.connections)
    broker.wait_connections(seen + 4)
    assert daemon.output().count(said) == 1, "once"
    assert said in bed.run("virtspool", "status").stdout
    assert not daemon.status()["status_topic_error"] and bed.spool.waiting() and not bed.spool.failed()
    daemon.config["mqtt"]["qos"] = 1
    daemon.reload()
    bed.spool.wait_empty()
    assert daemon.stop() == 0


def test_no_false_losses(bed):
    """One domain is denied, others are delivered and not kept, and the daemon is restarted."""
    bed.broker.acl = ["user host", "topic write virtspool/v1/#", f"topic deny virtspool/v1/+/qemu/{domain_uuid('denied')}/#"]
    bed.broker.start()
    bed.daemon.config.setdefault("spool", {})["sent_age"] = "0s"
    bed.daemon.start()
    for _ in range(3):
        bed.hook("started", domain="denied")
        bed.hook("started", domain="vm1")
    wait_until(lambda: len(bed.spool.names("new")) == 3, 10, "three are denied")
    for stop in (bed.daemon.stop, bed.daemon.kill):
        wait_until(lambda: bed.daemon.status()["sequence"]["highest"] == 6, 10, "all were seen")
        stop()
        bed.daemon.start()
        wait_until(lambda: bed.daemon.status().get("retried"), 10, "tried again")
    time.sleep(11)  # longer than a gap is waited for
    assert bed.daemon.status()["sequence"]["missing"] == 0, bed.daemon.output()
    assert "never reached the spool" not in bed.daemon.output()


@pytest.mark.parametrize("limit", [1, 300])
def test_a_limit_that_nothing_fits_in(bed, limit):
    """It is the connection's fault: nothing is moved to failed/, status names it, and the next broker is tried."""

    class Limited(Behaviour):
        connack_properties = {"maximum_packet_size": limit}

    first, second = bed.scripted_broker(Limited()), bed.scripted_broker(refuses(0x88)())
    for i in range(5):
        bed.hook("started", domain=f"vm{i}")
    daemon = start(bed, [first, second])
    first.wait_connections(3)
    second.wait_connections(2)
    words = f"announces a maximum packet size of {limit} bytes, which no event here fits in"
    wait_until(lambda: words in daemon.output(), 10, daemon.output)
    assert len(bed.spool.waiting()) == 5 and not bed.spool.failed() and not first.published
    second.behaviour = Behaviour()
    second.wait_delivered(5)
    first.behaviour, second.behaviour = Behaviour(), Limited()
    bed.hook("started", domain="vm0")
    bed.spool.wait_empty()
    for c in second.connections:
        c.raw_shutdown()
    bed.hook("stopped", domain="vm0")  # whatever the second says now: it has taken larger ones
    bed.spool.wait_empty()
    assert not bed.spool.failed()
    assert daemon.stop() == 0
