# SPDX-License-Identifier: LGPL-2.1-or-later
"""
etc/brokers/rabbitmq*, started as it is shipped (only paths and the port are ours) and attacked: by another host with a
valid certificate, and by a consumer. What is promised stands in etc/brokers/README.md. Mosquitto: tests/e2e/test_acl.py.
RabbitMQ takes long to start, so there is one for all, and each attack ends with the question what the consumer saw.
"""

import os
import re
import subprocess

import pytest
from brokers import RabbitMQ
from consumer import subscriber_of
from lib import ROOT, Process, program, wait_until
from lib.intruder import Intruder
from lib.programs import tool

SHIPPED = ROOT / "etc/brokers"
VICTIM = "virtspool/v1/node1/qemu/-/started"
OWN = "virtspool/v1/node2/qemu/-/started"


class Shipped(RabbitMQ):
    def prepare(self):
        super().prepare()
        definitions = self.directory / "definitions.json"
        definitions.write_text((SHIPPED / "rabbitmq-definitions.json").read_text())
        text = (SHIPPED / "rabbitmq.conf").read_text()
        for shipped, ours in {
            "ssl.1 = 8883": f"ssl.1 = 127.0.0.1:{self.port}",
            "/etc/rabbitmq/virtspool/ca.pem": str(self.certs.ca),
            "/etc/rabbitmq/virtspool/broker.pem": str(self.certs.pem("broker")),
            "/etc/rabbitmq/virtspool/broker.key": str(self.certs.key("broker")),
            "/etc/rabbitmq/virtspool/definitions.json": str(definitions),
        }.items():
            assert text.count(shipped) == 1, shipped
            text = text.replace(shipped, ours)
        (self.directory / "rabbitmq.conf").write_text(text + "log.console = true\nlog.file = false\n")


def test_emqx_reads_its_rules():
    """EMQX has no package here. Its rules are Erlang terms, each of a form that its documentation has."""
    erl = tool("erl")
    script = "{ok, T} = file:consult(hd(init:get_plain_arguments())), [io:format(\"~0p~n\", [X]) || X <- T], halt()."
    command = [erl, "-noshell", "-eval", script, "-extra", SHIPPED / "emqx-acl.conf"]
    no_dump = {**os.environ, "ERL_CRASH_DUMP_SECONDS": "0"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=no_dump)
    rules = done.stdout.splitlines()
    who, what, topics = r'{username,{re,"[^"]+"}}', r"(all|publish|subscribe|{publish,\[{retain,(true|false)}\]})", r'\["[^"]+"\]'
    assert len(rules) == 5 and rules[-1] == "{deny,all}", done.stdout + done.stderr
    assert all(re.fullmatch(f"{{(allow|deny),{who},{what},{topics}}}", rule) for rule in rules[:-1]), rules


def told_by_node1(bed):
    before = len(bed.consumer.events)
    bed.hook("started", domain="vm1")
    wait_until(lambda: len(bed.consumer.events) > before, 30, lambda: f"node1's next event\n{bed.daemon.output()}")
    return [m.topic for m in bed.consumer.messages]


def untouched(bed):
    topics = told_by_node1(bed)
    assert all(t.startswith("virtspool/v1/node1/") for t in topics), topics
    bed.spool.wait_empty()
    bed.consumer.check_complete(bed.hook.calls)


def test_the_shipped_files(bed):
    for name in ("node1", "node2", "viewer", "stranger"):
        bed.certs.client(name)
    bed.broker = Shipped(bed.directory / "rabbitmq", bed.certs).start()
    bed.consumer = subscriber_of(bed.broker, topic="virtspool/v1/#", client_id="consumer-1")
    bed.daemon = bed.new_daemon(certificate="node1")
    bed.daemon.config["mqtt"].update(version="3.1.1", status_topic="virtspool/v1/{host}/status")
    bed.daemon.start()
    bed.daemon.wait_connected()
    try:
        for attack in (the_real_programs_work, others_publish, others_read, retained, will, names, takeover, revoked):
            attack(bed)
    finally:
        bed.consumer.stop()
        bed.broker.kill()


def the_real_programs_work(bed):
    bed.hook.start("vm1")
    config = bed.new_daemon("watch", certificate="viewer")
    config.config["mqtt"].update(version="3.1.1", client_id="viewer")
    config.write_config()
    watch = Process([program("virtspool"), "watch", "-c", config.config_file], bed.directory / "watch.log")
    watch.wait_output("watching", 30)
    bed.hook.stop("vm1")
    watch.wait_output("release", 30)
    watch.stop()
    untouched(bed)


def others_publish(bed):
    for who in ("node2", "viewer", "stranger"):
        topics = (VICTIM, "virtspool/v1/node1/status", "virtspool.v1.node1.qemu/-/started", f"virtspool/v1/{who}/x")
        for topic in (*topics, f"virtspool/v1/{who}x/qemu/-/started"):
            with Intruder(bed.broker, who, 3) as evil:
                assert evil.connected == (who != "stranger")
                if evil.connected:
                    evil.publish(topic)
                    wait_until(lambda: evil.lost, 30, "RabbitMQ ends the connection of who may not")
        if who != "node2":  # below a host's own name it may
            with Intruder(bed.broker, who, 3) as evil:
                if evil.connected:
                    evil.publish(f"virtspool/v1/{who}/qemu/-/started")
    with Intruder(bed.broker, "node2", 3, username="node1") as evil:
        if evil.connected:
            evil.publish(VICTIM)
    # RabbitMQ takes a dot for a slash: this would come from a host named node2.example.
    with Intruder(bed.broker, "node2", 3) as evil:
        evil.publish("virtspool/v1/node2.example/qemu/-/started")
        wait_until(lambda: evil.lost, 30, "RabbitMQ ends the connection of who may not")
    untouched(bed)


def others_read(bed):
    received = []
    for topic in ("#", "virtspool/#", "virtspool/v1/node1/#", VICTIM):
        with Intruder(bed.broker, "node2", 3) as evil:
            assert not evil.subscribe(topic)
            received.append(evil)
    # A consumer's queue belongs to its name.
    with Intruder(bed.broker, "viewer", 3, client_id="consumer-1x") as evil:
        assert not evil.subscribe("virtspool/v1/#")
        received.append(evil)
    untouched(bed)
    assert all(e.received == [] for e in received)


def retained(bed):
    with Intruder(bed.broker, "node2", 3) as evil:
        evil.publish(OWN, retain=True)
    wait_until(lambda: OWN in [m.topic for m in bed.consumer.messages], 30, "it is delivered, as any other of node2")
    bed.consumer.messages.clear()
    bed.consumer.errors.clear()
    with Intruder(bed.broker, "viewer", 3, client_id="viewer-late") as late:
        assert late.subscribe("virtspool/v1/#")
        untouched(bed)
        wait_until(lambda: late.received, 30, "the next event of node1 is seen, too")
        assert OWN not in late.received


def will(bed):
    bed.consumer.messages.clear()
    with Intruder(bed.broker, "node2", 3, will="virtspool/v1/node1/status") as evil:
        if evil.connected:
            evil.drop()
    untouched(bed)
    assert "virtspool/v1/node1/status" not in [m.topic for m in bed.consumer.messages]


def names(bed):
    """A user without a certificate of its own does not exist, and `guest` neither."""
    with Intruder(bed.broker, "host", 3, username="guest") as evil:
        assert not evil.connected


def takeover(bed):
    """RabbitMQ 3 does not bind a client id to anybody. Who knows it can interrupt, and nothing is lost by that."""
    before = bed.daemon.output().count("connected to broker")
    for _ in range(3):
        with Intruder(bed.broker, "node2", 3, client_id="virtspool-node1") as evil:
            bed.hook("started", domain="vm1")
            assert evil.received == []
    wait_until(lambda: len(bed.consumer.events) >= bed.hook.calls, 60, "all arrive")
    untouched(bed)
    assert bed.daemon.output().count("connected to broker") > before, "RabbitMQ binds client ids now: tell it in README.md"
    # Whose client id nobody knows is left alone.
    bed.daemon.stop()
    before = bed.daemon.output().count("connected to broker") + 1
    bed.daemon.config["mqtt"]["client_id"] = "virtspool-node1-8c1d9a5e"
    bed.daemon.start()
    bed.daemon.wait_connected(before, 30)
    with Intruder(bed.broker, "node2", 3, client_id="virtspool-node1"):
        untouched(bed)
    assert bed.daemon.output().count("connected to broker") == before


def revoked(bed):
    """A user that is deleted while its connection stays: it is ended by command, and does not come again."""
    with Intruder(bed.broker, "node2", 3) as evil:
        assert evil.connected
        bed.broker.control("delete_user", "node2")
        bed.broker.control("close_all_user_connections", "node2", "revoked")
        wait_until(lambda: evil.lost, 30, "the connection is ended")
    with Intruder(bed.broker, "node2", 3) as evil:
        assert not evil.connected
    bed.consumer.messages.clear()
    untouched(bed)
