# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The status topic: online, offline at the end, and the will where there is no end in good order. Retained, so that a consumer
that comes later knows every host; a daemon that is back at once was never offline.
"""

import base64
import json
import subprocess

import pytest

from lib import Behaviour, schema, wait_until

TOPIC = "virtspool/v1/node1/status"


def told(subscriber):
    return [m for m in list(subscriber.messages) if m.topic == TOPIC]


def wait_for(subscriber, *statuses):
    def now():
        return [json.loads(m.payload)["data"]["status"] for m in told(subscriber)]

    wait_until(lambda: now() == list(statuses), 15, lambda: f"{list(statuses)}: {now()}")
    return [json.loads(m.payload) for m in told(subscriber)]


@pytest.fixture
def watched(bed):
    bed.broker.start()
    bed.subscribed = bed.subscriber()
    return bed


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_online_and_offline(watched, version):
    bed = watched
    bed.daemon.config["mqtt"]["version"] = version
    bed.hook.start("vm1")
    bed.daemon.start()
    (online,) = wait_for(bed.subscribed, "online")
    events = bed.subscribed.wait_for(3)
    assert online["type"] == "org.virtspool.status.online"
    assert online["data"]["host"] == "node1"
    assert online["data"]["epoch"] == events[0]["epoch"] and int(online["data"]["sequence"]) == 3
    assert "reason" not in online["data"]
    bed.hook.stop("vm1")
    bed.subscribed.wait_for(5)
    assert bed.daemon.stop() == 0
    _, offline = wait_for(bed.subscribed, "online", "offline")
    assert offline["type"] == "org.virtspool.status.offline"
    assert int(offline["data"]["sequence"]) == 5 and offline["data"]["reason"] == "stopped"
    for event in (online, offline):
        assert schema.errors(event) == []
    bed.subscribed.check_complete(5)


def test_the_will(watched):
    bed = watched
    bed.daemon.start()
    wait_for(bed.subscribed, "online")
    bed.daemon.kill()
    _, will = wait_for(bed.subscribed, "online", "offline")
    assert schema.errors(will) == []
    assert "time" not in will, "nobody knew the time when it was written"
    assert will["data"]["reason"] == "lost"
    assert will["id"] != json.loads(told(bed.subscribed)[0].payload)["id"]
    for message in told(bed.subscribed):
        assert message.properties.ContentType == "application/cloudevents+json"
        assert not message.retain
    bed.daemon.start()
    wait_for(bed.subscribed, "online", "offline", "online")


def retained(bed):
    """What a consumer that comes now is given: [(status, retain flag)]."""
    late = bed.subscriber()
    wait_until(lambda: told(late), what="the last report is retained")
    return [(json.loads(m.payload)["data"]["status"], bool(m.retain)) for m in told(late)]


def test_who_subscribes_later_knows_the_host(watched):
    bed = watched
    bed.daemon.start()
    wait_for(bed.subscribed, "online")
    assert retained(bed) == [("online", True)]
    bed.daemon.stop()
    wait_for(bed.subscribed, "online", "offline")
    assert retained(bed) == [("offline", True)]
    bed.daemon.start()
    wait_for(bed.subscribed, "online", "offline", "online")
    bed.daemon.kill()
    wait_for(bed.subscribed, "online", "offline", "online", "offline")
    assert retained(bed) == [("offline", True)]


def test_a_daemon_that_is_back_at_once_was_never_offline(watched):
    bed = watched
    bed.daemon.config["mqtt"].update(will_delay="5s")
    bed.daemon.start()
    wait_for(bed.subscribed, "online")
    bed.daemon.kill()
    bed.daemon.start()
    wait_for(bed.subscribed, "online", "online")
    bed.daemon.stop()
    wait_for(bed.subscribed, "online", "online", "offline")


def test_under_3_1_1_the_will_is_immediate(watched):
    bed = watched
    bed.daemon.config["mqtt"].update(version="3.1.1", will_delay="60s")
    bed.daemon.start()
    wait_for(bed.subscribed, "online")
    bed.daemon.kill()
    wait_for(bed.subscribed, "online", "offline")


def test_a_boot_shows_before_any_event(watched):
    """A report always has an epoch: a placeholder until a hook has run, the same in each report, and no event's."""
    bed = watched
    bed.daemon.start()
    (first,) = wait_for(bed.subscribed, "online")
    bed.daemon.restart()
    _, _, again = wait_for(bed.subscribed, "online", "offline", "online")
    bed.hook.start("vm1")
    epoch = bed.subscribed.wait_for(3)[0]["epoch"]
    bed.daemon.stop()
    last = wait_for(bed.subscribed, "online", "offline", "online", "offline")[-1]
    bed.spool.boot()
    bed.daemon.start()
    booted = wait_for(bed.subscribed, "online", "offline", "online", "offline", "online")[-1]
    assert first["data"]["epoch"] == again["data"]["epoch"]
    assert last["data"]["epoch"] == epoch
    assert epoch not in (first["data"]["epoch"], booted["data"]["epoch"])
    assert int(booted["data"]["sequence"]) == 0
    assert first["data"]["boot_id"] == booted["data"]["boot_id"] == boot_id()
    assert schema.errors(booted) == []


def boot_id():
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        return f.read().strip().replace("-", "")


def test_the_certificate_is_reported(watched):
    bed = watched
    bed.daemon.start()
    (online,) = wait_for(bed.subscribed, "online")
    pem = bed.certs.pem("host")
    der = subprocess.run(["certtool", "--certificate-info", "--infile", pem, "--outder"], capture_output=True, check=True)
    assert base64.b64decode(online["data"]["certificate"]) == der.stdout


def test_none(watched):
    bed = watched
    bed.daemon.config["mqtt"]["status_topic"] = "none"
    bed.daemon.start()
    bed.daemon.wait_connected()
    bed.hook("start")
    bed.subscribed.wait_for(1)
    bed.daemon.stop()
    assert told(bed.subscribed) == []


def test_a_connection_that_flaps_changes_nothing(watched):
    """Neither online nor offline: a connection must last before it is reported, and be gone before the end of it is."""
    bed = watched
    bed.daemon.config["mqtt"]["will_delay"] = "5s"
    bed.daemon.start()
    wait_for(bed.subscribed, "online")
    for _ in range(3):
        bed.daemon.kill()
        before = bed.daemon.output().count("connected to broker")
        bed.daemon.start()
        bed.daemon.wait_connected(before + 1)
    wait_for(bed.subscribed, "online", "online")


# --- brokers that do not take all of it


def event_delivered_without(bed, said):
    """The daemon goes on without what the broker refuses, and status says so."""
    bed.daemon.start()
    bed.hook("started")
    bed.spool.wait_empty()
    wait_until(lambda: said in (bed.daemon.status().get("status_topic_error") or ""), 10, bed.daemon.status)
    assert said in bed.run("virtspool", "status").stdout


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_that_cannot_retain(bed, version):
    """mosquitto refuses a retained will with 0x9a, or closes the connection under 3.1.1."""
    bed.broker.options += ["retain_available false"]
    bed.broker.start()
    bed.subscribed = bed.subscriber()
    bed.daemon.config["mqtt"]["version"] = version
    event_delivered_without(bed, "does not take retained messages")
    if version == "5":
        wait_for(bed.subscribed, "online")
        bed.daemon.kill()
        wait_for(bed.subscribed, "online", "offline")


class RefusesWill(Behaviour):
    code = 0x87

    def connect(self, c):
        if c.connect.will:
            if self.code:
                c.connack(self.code)
            c.close()
        c.connack()


class ClosesOnWill(RefusesWill):
    code = 0


@pytest.mark.parametrize("behaviour", [RefusesWill, ClosesOnWill])
def test_a_broker_that_refuses_the_will(bed, behaviour):
    bed.broker = bed.scripted_broker(behaviour())
    event_delivered_without(bed, "refuses to connect with a will on mqtt.status_topic")


class RefusesRetained(Behaviour):
    def publish(self, c, publish):
        if publish.retain:
            return self.refuse(c, publish)
        super().publish(c, publish)

    def refuse(self, c, publish):
        c.puback(publish, 0x87)


class DisconnectsOnRetained(RefusesRetained):
    def refuse(self, c, publish):
        c.disconnect(0x9A)


class CutsOnRetained(RefusesRetained):
    def refuse(self, c, publish):
        c.cut()


@pytest.mark.parametrize("behaviour", [RefusesRetained, DisconnectsOnRetained, CutsOnRetained])
def test_a_broker_that_refuses_a_retained_report(bed, behaviour):
    bed.broker = bed.scripted_broker(behaviour())
    event_delivered_without(bed, "does not take retained messages")
    reports = lambda: [p for p in bed.broker.delivered if p.topic == TOPIC]  # noqa: E731
    wait_until(reports, 15, "a report is taken")
    assert not any(p.retain for p in reports())


def test_a_broker_that_refuses_everyone_is_not_the_will_s_fault(bed):
    class RefusesAll(Behaviour):
        connack_code = 0x87

    bed.broker = bed.scripted_broker(RefusesAll())
    bed.daemon.start()
    bed.broker.wait_connections(4)
    assert bed.daemon.status().get("status_topic_error") is None
    bed.broker.behaviour = Behaviour()
    bed.daemon.wait_connected()
