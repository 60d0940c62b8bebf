# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The files of etc/brokers for RabbitMQ, HiveMQ and Artemis, started as they are shipped (only paths and the port are ours)
and attacked: by another host with a valid certificate, and by a consumer. What is promised stands in etc/brokers/README.md.
Mosquitto: tests/e2e/test_acl.py. They take long to start, so there is one for all, and each attack ends with the question
what the consumer saw.
"""

import os
import re
import subprocess

import pytest
from brokers import INTEROP, Artemis, Hivemq, RabbitMQ
from consumer import subscriber_of
from lib import ROOT, Process, program, wait_until
from lib.intruder import Intruder
from lib.programs import tool
from lib.subscriber import unique
from raw import Raw

SHIPPED = ROOT / "etc/brokers"
VICTIM = "virtspool/v1/node1/qemu/-/started"
OWN = "virtspool/v1/node2/qemu/-/started"


def adapted(name, replaced):
    """A shipped file with paths and port of ours."""
    text = (SHIPPED / name).read_text()
    for shipped, ours in replaced.items():
        assert text.count(shipped) == 1, shipped
        text = text.replace(shipped, str(ours))
    return text


class Shipped(RabbitMQ):
    def prepare(self):
        super().prepare()
        definitions = self.directory / "definitions.json"
        definitions.write_text((SHIPPED / "rabbitmq-definitions.json").read_text())
        text = adapted("rabbitmq.conf", {
            "ssl.1 = 8883": f"ssl.1 = 127.0.0.1:{self.port}",
            "/etc/rabbitmq/virtspool/ca.pem": self.certs.ca,
            "/etc/rabbitmq/virtspool/broker.pem": self.certs.pem("broker"),
            "/etc/rabbitmq/virtspool/broker.key": self.certs.key("broker"),
            "/etc/rabbitmq/virtspool/definitions.json": definitions,
        })
        (self.directory / "rabbitmq.conf").write_text(text + "log.console = true\nlog.file = false\n")


class ShippedHivemq(Hivemq):
    """With the extension compiled and installed as README.md says."""

    def prepare(self):
        super().prepare()
        (self.directory / "conf/config.xml").write_text(adapted("hivemq/config.xml", {
            "<port>8883<": f"<port>{self.port}<",
            "0.0.0.0": "127.0.0.1",
            "<path>/etc/hivemq/virtspool/broker.p12<": f"<path>{self.directory}/broker.p12<",
            "<path>/etc/hivemq/virtspool/ca.p12<": f"<path>{self.directory}/ca.p12<",
        }))
        home, classes = self.directory / "extensions/virtspool-rights", self.directory / "classes"
        (classes / "META-INF/services").mkdir(parents=True)
        home.mkdir()
        (classes / "META-INF/services/com.hivemq.extension.sdk.api.ExtensionMain").write_text("VirtspoolRights\n")
        for command in (
            ["javac", "-cp", f"{INTEROP}/java/hivemq/*", "-d", classes, SHIPPED / "hivemq/VirtspoolRights.java"],
            ["jar", "cf", home / "virtspool-rights.jar", "-C", classes, "."],
        ):
            subprocess.run([tool(command[0]), *map(str, command[1:])], check=True, stdin=subprocess.DEVNULL, timeout=300)
        for name in ("hivemq-extension.xml", "rights.properties"):
            (home / name).write_text((SHIPPED / "hivemq" / name).read_text())

    def command(self):
        return self.java(self.directory)

    def revoke(self, name):
        path = self.directory / "extensions/virtspool-rights/rights.properties"
        path.write_text(path.read_text().replace(f"{name} = host", ""))


class ShippedArtemis(Artemis):
    def prepare(self):
        both = self.directory / "broker-all.pem"
        # Java reads keys in PKCS#8 only.
        key = subprocess.run([tool("openssl"), "pkcs8", "-topk8", "-nocrypt", "-in", str(self.certs.key("broker"))], check=True,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60).stdout
        both.write_text(key + self.certs.pem("broker").read_text())
        (self.directory / "broker.xml").write_text(adapted("artemis/broker.xml", {
            "tcp://0.0.0.0:8883": f"tcp://127.0.0.1:{self.port}",
            "/etc/artemis/virtspool/broker-all.pem": both,
            "/etc/artemis/virtspool/ca.pem": self.certs.ca,
        }))
        for name in ("login.config", "cert-users.properties", "cert-roles.properties"):
            (self.directory / name).write_text((SHIPPED / "artemis" / name).read_text())

    def options(self):
        return [f"-Djava.security.auth.login.config={self.directory}/login.config"]

    def command(self):
        return self.java(self.directory / "broker.xml")

    def revoke(self, name):
        path = self.directory / "cert-users.properties"
        path.write_text(path.read_text().replace(f"{name}=CN={name}\n", ""))
        # Artemis looks at the time of change, in whole seconds on some file systems.
        os.utime(path, (path.stat().st_mtime + 5,) * 2)


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
    bed.hook("started", domain="vm1")
    wait_until(lambda: len(unique(list(bed.consumer.events))) >= bed.hook.calls, 30,
               lambda: f"node1's next event\n{bed.daemon.output()}")
    return [m.topic for m in bed.consumer.messages]


def untouched(bed):
    others = [t for t in told_by_node1(bed) if not t.startswith("virtspool/v1/node1/")]
    assert others == []
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
    config.config["mqtt"].update(version=bed.broker.version, client_id="viewer")
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


# --- brokers that speak MQTT 5

STATUS = "virtspool/v1/node1/status"


@pytest.mark.parametrize("kind", [ShippedHivemq, ShippedArtemis])
def test_the_shipped_files_of(bed, kind):
    for name in ("node1", "node2", "viewer", "stranger"):
        bed.certs.client(name)
    bed.broker = kind(bed.directory / "shipped", bed.certs).start()
    bed.consumer = subscriber_of(bed.broker, topic="virtspool/v1/#", client_id="consumer-8c1d9a5e")
    bed.daemon = bed.new_daemon(certificate="node1")
    bed.daemon.start()
    bed.daemon.wait_connected()
    wait_until(lambda: STATUS in seen(bed), 30, "node1 is reported online")
    try:
        for attack in (the_real_programs_work, nobody_publishes, nobody_reads, nobody_retains, no_will, no_names, no_takeover,
                       revoked_rights):
            attack(bed)
    finally:
        bed.consumer.stop()
        bed.broker.kill()


def seen(bed):
    return [m.topic for m in list(bed.consumer.messages)]


def nobody_publishes(bed):
    """As another host, as a consumer, or outside the own name."""
    for who in ("node2", "viewer", "stranger"):
        topics = [VICTIM, STATUS, "virtspool/v1/node1", "virtspool/v1", "other", f"virtspool/v1/{who}x/qemu/-/started",
                  f"virtspool.v1.{who}.x", "virtspool.v1.node1.qemu.-.started", f"virtspool/v1/{who}.node1/x", f"{who}/x"]
        topics += [f"virtspool/v1/{who}/qemu/-/started"] if who != "node2" else []
        for version in (3, 5):
            for topic in topics:
                with Intruder(bed.broker, who, version, client_id=f"{who}-evil") as evil:
                    assert evil.connected == (who != "stranger"), bed.broker.output()[-2000:]
                    if evil.connected:
                        evil.publish(topic)
    untouched(bed)


def nobody_reads(bed):
    for who in ("node2", "stranger"):
        for version in (3, 5):
            for topic in ("#", "virtspool/#", "virtspool/v1/node1/#", "+/+/+/#", VICTIM, "$share/x/virtspool/v1/#", "$SYS/#"):
                with Intruder(bed.broker, who, version, client_id=f"{who}-evil") as evil:
                    if evil.connected:
                        assert not evil.subscribe(topic), topic
                    untouched(bed)
                    assert evil.received == []


def nobody_retains(bed):
    """A host retains its status; HiveMQ can forbid it all else, Artemis cannot."""
    for topic in (STATUS, VICTIM, "other", OWN):
        with Intruder(bed.broker, "node2", client_id="node2-evil") as evil:
            evil.publish(topic, retain=True)
    if isinstance(bed.broker, Artemis):
        wait_until(lambda: OWN in seen(bed), 30, "it is delivered, as any other of node2")
    bed.consumer.messages[:] = [m for m in bed.consumer.messages if m.topic != OWN]
    bed.consumer.errors.clear()
    with Raw(bed.broker, "viewer-late", certificate="viewer") as late:
        assert late.subscribe("virtspool/v1/#") == 1, (late.connack, late.ended)
        untouched(bed)
        assert late.until(lambda: [t for t, *_ in late.messages if t.startswith("virtspool/v1/node1/qemu/")], 30)
    retained = [topic for topic, _, marked in late.messages if marked]
    assert sorted(retained) == sorted([STATUS] + [OWN] * isinstance(bed.broker, Artemis))


def no_will(bed):
    before = seen(bed).count(STATUS)
    for version in (3, 5):
        with Intruder(bed.broker, "node2", version, client_id="node2-evil", will=STATUS) as evil:
            if evil.connected:
                evil.drop()
    untouched(bed)
    assert seen(bed).count(STATUS) == before


def no_names(bed):
    for version in (3, 5):
        with Intruder(bed.broker, "node2", version, client_id="node2-evil", username="node1") as evil:
            if evil.connected:
                evil.publish(VICTIM)
        with Intruder(bed.broker, "stranger", version, client_id="node1-evil", username="node1") as evil:
            assert not evil.connected
    untouched(bed)


def no_takeover(bed):
    """Artemis does not bind a client id to anybody: who knows one can interrupt, and end a session. Nobody reads by it."""
    known = isinstance(bed.broker, Artemis)
    before = bed.daemon.output().count("connected to broker")
    for client_id in ("virtspool-node1", "virtspool-node1", *(() if known else ("consumer-8c1d9a5e", "node1"))):
        for who in ("node2", "viewer"):
            with Intruder(bed.broker, who, client_id=client_id) as evil:
                bed.hook("started", domain="vm1")
                assert evil.connected == known
            assert evil.received == []
    wait_until(lambda: len(bed.consumer.events) >= bed.hook.calls, 60, "all arrive")
    untouched(bed)
    after = bed.daemon.output().count("connected to broker")
    assert (after > before) == known, "as README.md has it"

    with Raw(bed.broker, "viewer-away", certificate="viewer", clean=False) as viewer:
        viewer.subscribe("virtspool/v1/#")
    untouched(bed)
    with Raw(bed.broker, "viewer-away", certificate="node2", clean=False) as evil:
        evil.until(lambda: evil.messages or evil.ended, 5)
    assert evil.messages == []
    with Raw(bed.broker, "viewer-away", certificate="node2") as evil:  # ends the session, if it may
        assert (evil.connack[1] == 0) == known
    with Raw(bed.broker, "viewer-away", certificate="viewer", clean=False) as viewer:
        assert viewer.connack[0] == (not known), "as README.md has it"
        assert viewer.until(lambda: viewer.messages, 3) == (not known)


def revoked_rights(bed):
    """New connections meet what the file says now; Artemis remembers who may for ten seconds."""

    def refused():
        with Intruder(bed.broker, "node2", client_id="node2-evil") as evil:
            return not evil.connected

    with Intruder(bed.broker, "node2", client_id="node2-evil") as evil:
        assert evil.connected
    bed.broker.revoke("node2")
    wait_until(refused, 30, "node2 is not let in any more", interval=0.5)
    untouched(bed)
