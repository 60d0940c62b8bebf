# SPDX-License-Identifier: LGPL-2.1-or-later
"""
etc/brokers/mosquitto.*, started as it is shipped (only paths and the port are ours) and attacked: by another host with a
valid certificate, and by a consumer. What is promised stands in etc/brokers/README.md. RabbitMQ: tests/interop.
"""

import json
import os
import re
import signal
import subprocess

import pytest
from lib import ROOT, Broker, Process, program, wait_until
from lib.intruder import Intruder
from lib.programs import tool

SHIPPED = ROOT / "etc/brokers"
VICTIM = "virtspool/v1/node1/qemu/-/started"
OWN = "virtspool/v1/node2/qemu/-/started"


class Mosquitto(Broker):
    """The shipped files, below what Debian's mosquitto.conf says of the log and the disk."""

    crl = None

    def _write_config(self):
        self._store.mkdir(exist_ok=True)
        text = (SHIPPED / "mosquitto.conf").read_text()
        replaced = {
            "listener 8883": f"listener {self.port} 127.0.0.1",
            "/etc/mosquitto/virtspool/ca.pem": str(self.certs.ca),
            "/etc/mosquitto/virtspool/broker.pem": str(self.certs.pem("broker")),
            "/etc/mosquitto/virtspool/broker.key": str(self.certs.key("broker")),
            "/etc/mosquitto/virtspool/acl": str(self.acl_file),
        }
        if self.crl:
            replaced["#crlfile /etc/mosquitto/virtspool/crl.pem"] = f"crlfile {self.crl}"
        for shipped, ours in replaced.items():
            assert text.count(shipped) == 1, shipped
            text = text.replace(shipped, ours)
        if not self.acl_file.exists():
            self.acl_file.write_text((SHIPPED / "mosquitto.acl").read_text())
        main = f"persistence true\npersistence_location {self._store}/\nlog_dest stderr\nlog_type all\n"
        self._config.write_text(main + ("user root\n" if os.geteuid() == 0 else "") + text)

    @property
    def acl_file(self):
        return self.directory / "virtspool.acl"


@pytest.fixture
def acl(bed):
    """The broker, and node1's virtspoold with a consumer that sees what it tells."""
    for name in ("node1", "node2", "viewer", "stranger"):
        bed.certs.client(name)
    bed.broker = Mosquitto(bed.directory / "broker", bed.certs)
    bed.broker.start()
    bed.consumer = bed.subscriber(topic="virtspool/v1/#")
    bed.daemon = bed.new_daemon(certificate="node1")
    bed.daemon.config["mqtt"]["status_topic"] = "virtspool/v1/{host}/status"
    bed.daemon.start()
    bed.daemon.wait_connected()
    wait_until(lambda: [m for m in bed.consumer.messages if m.topic.endswith("/status")], 15, "node1 is reported online")
    return bed


def told_by_node1(bed):
    """One more event of node1 arrives, behind whatever was forged before; returns the topics that arrived."""
    before = len(bed.consumer.events)
    bed.hook("started", domain="vm1")
    wait_until(lambda: len(bed.consumer.events) > before, 20, "node1's next event")
    assert not bed.consumer.errors, bed.consumer.errors
    return [m.topic for m in bed.consumer.messages]


def untouched(bed):
    """Nothing but node1's own, all of it, on the first connection."""
    topics = told_by_node1(bed)
    assert all(t.startswith("virtspool/v1/node1/") for t in topics), topics
    bed.spool.wait_empty()
    bed.consumer.check_complete(bed.hook.calls)
    assert bed.daemon.output().count("connected to broker") == 1, bed.daemon.output()


def publish(bed, certificate, topic, *options):
    """mosquitto_pub, which tells what the PUBACK of MQTT 5 said."""
    certs = bed.certs
    command = [tool("mosquitto_pub"), "-V", "mqttv5", "-h", "localhost", "-p", bed.broker.port, "-q", "1", "-t", topic]
    command += ["-m", "forged", "--cafile", certs.ca, "--cert", certs.pem(certificate), "--key", certs.key(certificate)]
    done = subprocess.run([*map(str, command), *options], capture_output=True, text=True, timeout=30)
    return done.stdout + done.stderr


def test_the_real_programs_work_with_it(acl):
    bed = acl
    bed.hook.start("vm1")
    bed.consumer.wait_for(3)
    config = bed.new_daemon("watch", certificate="viewer")
    config.write_config()
    watch = Process([program("virtspool"), "watch", "-c", config.config_file], bed.directory / "watch.log")
    watch.wait_output("watching")
    bed.hook.stop("vm1")
    watch.wait_output("release")
    untouched(bed)


@pytest.mark.parametrize("who", ["node2", "viewer", "stranger"])
def test_nobody_publishes_as_another_host(acl, who):
    bed = acl
    assert "Not authorized" in publish(bed, who, VICTIM)
    with Intruder(bed.broker, who, version=3) as evil:  # 3.1.1 cannot tell; it counts what arrives
        for topic in (VICTIM, "virtspool/v1/node1/status", "virtspool/v1/node1", "virtspool/v1", f"virtspool/v1/{who}x/qemu/-/started"):
            evil.publish(topic)
    untouched(bed)


@pytest.mark.parametrize("who", ["viewer", "stranger"])
def test_who_is_no_host_writes_nothing_at_all(acl, who):
    bed = acl
    for topic in (f"virtspool/v1/{who}/qemu/-/started", "other", f"{who}/x"):
        assert "Not authorized" in publish(bed, who, topic)
    untouched(bed)


def test_a_user_name_and_a_client_id_are_claims_that_do_not_count(acl):
    bed = acl
    assert "Not authorized" in publish(bed, "node2", VICTIM, "-u", "node1", "-i", "virtspool-node1")
    untouched(bed)


@pytest.mark.parametrize("who", ["node2", "stranger"])
@pytest.mark.parametrize("version", [3, 5])
def test_nobody_but_a_consumer_reads(acl, who, version):
    """Mosquitto's ACL file grants the subscription and then delivers nothing."""
    bed = acl
    with Intruder(bed.broker, who, version) as evil:
        for topic in ("#", "virtspool/#", "virtspool/v1/node1/#", "+/+/+/#", "$share/x/virtspool/#", "$SYS/#"):
            evil.subscribe(topic)
        untouched(bed)
        evil.subscribe("one more answer, behind all that might have come")
        assert evil.received == []


def test_a_host_retains_below_its_own_name_only(acl):
    """mosquitto cannot tell its status from other topics of its own; another host's status stays out of reach."""
    bed = acl
    victim = "virtspool/v1/node1/status"
    with Intruder(bed.broker, "node2") as evil:
        evil.publish("virtspool/v1/node2/status", retain=True)
        for topic in (victim, VICTIM, "virtspool/v1", "other"):
            evil.publish(topic, retain=True)
    with Intruder(bed.broker, "node2", will=victim, will_retained=True) as evil:
        if evil.connected:
            evil.drop()
    with Intruder(bed.broker, "viewer", version=3) as evil:
        evil.publish(victim, retain=True)
    late = bed.subscriber(topic="virtspool/v1/#", certificate="viewer")
    wait_until(lambda: len(late.messages) >= 2, what="what is retained")
    bed.consumer.messages[:] = [m for m in bed.consumer.messages if m.topic != "virtspool/v1/node2/status"]
    bed.consumer.errors.clear()  # that node2's own forged status is no JSON
    untouched(bed)
    retained = {m.topic: m.payload for m in late.messages if m.retain}
    assert set(retained) == {victim, "virtspool/v1/node2/status"}
    assert json.loads(retained[victim])["data"]["status"] == "online"


def test_a_will_on_anothers_topic_is_not_told(acl):
    bed = acl
    with Intruder(bed.broker, "node2", will="virtspool/v1/node1/status") as evil:
        if evil.connected:
            evil.drop()
    untouched(bed)
    assert [m.topic for m in bed.consumer.messages].count("virtspool/v1/node1/status") == 1, "its own, at the start"


@pytest.mark.parametrize("who", ["node2", "viewer"])
def test_nobody_takes_over_anothers_connection(acl, who):
    bed = acl
    for client_id in ("virtspool-node1", "node1"):
        with Intruder(bed.broker, who, client_id=client_id):
            pass
    untouched(bed)


def test_rights_taken_away_hold_for_a_living_connection(acl):
    """The ACL is read again: the host's events wait, nothing is lost, and nobody else is disturbed."""
    bed = acl
    told_by_node1(bed)
    before = bed.broker.acl_file.read_text()
    bed.broker.acl_file.write_text(before.replace("topic write virtspool/v1/node1/#", ""))
    bed.broker.process.signal(signal.SIGHUP)
    bed.broker.process.wait_output("Reloading config")
    bed.hook("stopped", domain="vm1")
    wait_until(lambda: re.search("[Nn]ot authorized", bed.daemon.output()), 15, "the refusal is seen")
    assert bed.spool.waiting()
    bed.broker.acl_file.write_text(before)
    bed.broker.process.signal(signal.SIGHUP)
    bed.consumer.wait_for(2)
    bed.spool.wait_empty()
    bed.consumer.check_complete(2)


def test_a_consumer_whose_rights_are_taken_away_hears_nothing_more(acl):
    bed = acl
    told_by_node1(bed)
    text = bed.broker.acl_file.read_text()
    bed.broker.acl_file.write_text(text.replace("user consumer", "user another"))
    bed.broker.process.signal(signal.SIGHUP)
    bed.broker.process.wait_output("Reloading config")
    bed.hook("stopped", domain="vm1")
    bed.spool.wait_empty()
    bed.broker.acl_file.write_text(text)
    bed.broker.process.signal(signal.SIGHUP)
    wait_until(lambda: bed.broker.output().count("Reloading config") >= 2, what="the broker reads its ACL")
    bed.hook("release", domain="vm1")
    bed.consumer.wait_for(2)
    assert bed.consumer.operations() == ["started", "release"]


def test_a_revoked_certificate(acl):
    """Nobody comes in with it after a SIGHUP; who is in stays, and is told nothing less until the ACL says so, too."""
    bed = acl
    bed.broker.stop()
    bed.broker.crl = bed.certs.crl("nobody")
    bed.broker.start()
    bed.daemon.wait_connected(2, 30)
    told_by_node1(bed)
    with Intruder(bed.broker, "node2") as evil:
        assert evil.connected
        fresh = bed.certs.crl("gone", "node2")
        bed.broker.crl.write_bytes(fresh.read_bytes())
        bed.broker.process.signal(signal.SIGHUP)
        bed.broker.process.wait_output("Reloading config")
        with Intruder(bed.broker, "node2") as again:
            assert not again.connected
        assert "certificate" in bed.broker.output().partition("Reloading config")[2], bed.broker.output()
        evil.publish(OWN)
        wait_until(lambda: OWN in [m.topic for m in bed.consumer.messages], what="the living connection still works")
        bed.broker.acl_file.write_text(bed.broker.acl_file.read_text().replace("user node2", "user nobody"))
        bed.broker.process.signal(signal.SIGHUP)
        wait_until(lambda: bed.broker.output().count("Reloading config") >= 2, what="the broker reads its ACL")
        bed.consumer.messages.clear()
        bed.consumer.errors.clear()
        evil.publish(OWN)
    assert OWN not in told_by_node1(bed)
    bed.spool.wait_empty()
    bed.consumer.check_complete(bed.hook.calls)
