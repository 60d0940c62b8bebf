# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events over which the broker ends the connection: each is found and set aside in bounded time, the others pass."""

import time

import pytest

from lib import Behaviour, ScriptedBroker, wait_until
from lib.documents import domain_uuid
from lib.namespaces import Namespaces


def is_bad(publish):
    return bool(publish.event) and publish.event.get("subject", "").startswith("bad")


class ClosesOver(Behaviour):
    """Ends the connection over each event of the domains bad..."""

    def publish(self, c, publish):
        if is_bad(publish):
            c.cut()
        super().publish(c, publish)


class ClosesOverAnything(Behaviour):
    def publish(self, c, publish):
        c.cut()


class RightsByDisconnect(Behaviour):
    """As EMQX with deny_action = disconnect."""

    def publish(self, c, publish):
        if is_bad(publish):
            c.disconnect(0x87)
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


def test_rights_that_end_the_connection(bed):
    broker = bed.scripted_broker(RightsByDisconnect())
    for name in ("good1", "bad", "good2", "bad"):
        bed.hook("started", domain=name)
    daemon = start(bed, broker)
    broker.wait_delivered(2)
    wait_until(lambda: daemon.status().get("retried"), 10, "the status names the event")
    assert not bed.spool.failed() and len(bed.spool.waiting()) == 2
    (retried,) = [r for r in daemon.status()["retried"] if "0x87" in r["why"]]
    assert domain_uuid("bad") in retried["topic"]
    broker.behaviour = Behaviour()
    broker.wait_delivered(4)
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


class Unavailable(Behaviour):
    connack_code = 0x88


class Closes(Behaviour):
    def accepted(self, c):
        c.cut()


@pytest.mark.parametrize("first", [Closes, Unavailable])
def test_second_address(bed, first):
    """The first address of the name takes TCP and is no broker: the second has its turn at once."""
    box = Namespaces(bed.directory, mount=True, network=True)
    hosts = bed.directory / "hosts"
    hosts.write_text("127.0.0.1 broker.test\n127.0.0.2 broker.test\n")
    box.run("mount", "--bind", hosts, "/etc/hosts")
    certificate = bed.certs.server("two.broker.test", "broker.test")
    with box.inside_network():
        good = bed.scripted_broker(certificate=certificate, address="127.0.0.2")
        bad = ScriptedBroker(bed.certs, first(), certificate=certificate, address="127.0.0.1")
        bad.port = good.port
        bad.start()
    bed._closing.append(bad.stop)
    bed.hook("start", "begin")
    daemon = bed.new_daemon(brokers=[])
    daemon.prefix = box.prefix
    daemon.config["brokers"] = [f"mqtts://broker.test:{good.port}"]
    daemon.start()
    good.wait_delivered(1)
    assert daemon.stop() == 0


@pytest.mark.parametrize("qos", [1, 2])
def test_offline_report(bed, qos):
    """DISCONNECT cancels the will: it follows the answer to the offline report, the whole of it."""
    broker = bed.scripted_broker()
    daemon = bed.new_daemon(brokers=broker)
    daemon.config["mqtt"]["qos"] = qos
    daemon.start()
    broker.wait_connections(1)
    wait_until(lambda: broker.published, 10, "the online report")
    assert daemon.stop() == 0
    assert [p.event["type"].rpartition(".")[2] for p in broker.delivered] == ["online", "offline"]


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
