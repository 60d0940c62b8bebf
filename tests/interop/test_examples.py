# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The brokers' examples in etc/brokers, started as they are (but for paths and ports) and attacked from inside: host node1,
with a valid certificate, tries to be node2, to read, to retain, to leave a will; a consumer tries to write.
"""

import os

import pytest
from attacks import Attacker
from brokers import Mosquitto5, RabbitMQ
from consumer import subscriber_of
from lib import ROOT, wait_until

EXAMPLES = ROOT / "etc/brokers"
FORGED = "virtspool/v1/node2/qemu/-/started"


class Mosquitto(Mosquitto5):
    """With the example's lines and none of lib.Broker's."""

    def _write_config(self):
        self._store.mkdir(exist_ok=True)
        (self.directory / "acl").write_text((EXAMPLES / "mosquitto.acl").read_text())
        text = (EXAMPLES / "mosquitto.conf").read_text()
        for old, new in {
            "listener 8883": f"listener {self.port} 127.0.0.1",
            "/etc/mosquitto/virtspool/ca.pem": str(self.certs.ca),
            "/etc/mosquitto/virtspool/broker.pem": str(self.certs.pem("broker")),
            "/etc/mosquitto/virtspool/broker.key": str(self.certs.key("broker")),
            "/etc/mosquitto/virtspool/acl": str(self.directory / "acl"),
            "/var/lib/mosquitto/": f"{self._store}/",
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        self._config.write_text(text + f"log_dest stderr\nlog_type all\n{'user root' if os.geteuid() == 0 else ''}\n")


class Rabbit(RabbitMQ):
    def prepare(self):
        super().prepare()
        text = (EXAMPLES / "rabbitmq.conf").read_text()
        for old, new in {
            "mqtt.listeners.ssl.default = 8883": f"mqtt.listeners.ssl.1 = 127.0.0.1:{self.port}",
            "/etc/rabbitmq/virtspool/ca.pem": str(self.certs.ca),
            "/etc/rabbitmq/virtspool/broker.pem": str(self.certs.pem("broker")),
            "/etc/rabbitmq/virtspool/broker.key": str(self.certs.key("broker")),
            "/etc/rabbitmq/virtspool/definitions.json": str(EXAMPLES / "rabbitmq-definitions.json"),
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        (self.directory / "rabbitmq.conf").write_text(text + "log.console = true\nlog.file = false\n")


KINDS = {"mosquitto": Mosquitto} | ({"RabbitMQ": Rabbit} if os.environ.get("VIRTSPOOL_INTEROP") else {})


@pytest.fixture(params=list(KINDS))
def broker(request, bed):
    for name in ("node1", "node2"):
        bed.certs.client(name)
    broker = KINDS[request.param](bed.directory / "example", bed.certs)
    broker.start()
    yield broker
    broker.kill()


def refused(answers):
    """Did the broker say no, or end the connection? (paho does not show a PUBACK's reason code.)"""
    return any(kind == "disconnect" or getattr(code, "value", 0) >= 0x80 for kind, code in answers)


def test_the_example(bed, broker):
    subscriber = subscriber_of(broker, topic="virtspool/v1/#")
    daemons = [bed.new_daemon(f"daemon-{n}", brokers=broker, certificate=n, host=n) for n in ("node1", "node2")]
    victim = daemons[1]
    victim.config["mqtt"]["version"] = broker.version
    victim.start()
    bed.hook("started")
    subscriber.wait_for(1)
    victim.process.wait_output("connected to broker")
    topics = lambda: {m.topic for m in subscriber.messages}  # noqa: E731
    connections = lambda: victim.output().count("connected to broker")  # noqa: E731

    # Publish as another host, also with a topic that only looks like one's own.
    for topic in (FORGED, "virtspool/v1/node1x/qemu/-/started", "virtspool/v1", "other"):
        attacker = Attacker(broker, "node1")
        attacker.publish(topic)
        attacker.close()
    # Read.
    for topic in ("#", "virtspool/#", "virtspool/v1/node2/#", "+/+/+/+/+/+"):
        attacker = Attacker(broker, "node1")
        attacker.subscribe(topic)
        bed.hook("started")
        subscriber.wait_for(bed.hook.calls)
        assert attacker.messages == [], topic
        attacker.close()
    # A will on another's topic.
    attacker = Attacker(broker, "node1", will=(FORGED, b"will", 1, False))
    attacker.vanish()
    # Another's client id. mosquitto's example gives each its own; RabbitMQ 3.10 has nothing against it, and the daemon
    # comes back (etc/brokers/README.md says so).
    before = connections()
    thief = Attacker(broker, "node1", client_id="virtspool-node2")
    thief.close()
    bed.hook("started")
    bed.spool.wait_empty(30)
    if isinstance(broker, Mosquitto):
        assert connections() == before
    # Retain, on one's own topic.
    attacker = Attacker(broker, "node1")
    answers = attacker.publish("virtspool/v1/node1/qemu/-/poison", retain=True)
    attacker.close()
    if isinstance(broker, Mosquitto):
        assert refused(answers)

    subscriber.wait_for(bed.hook.calls)
    assert {t for t in topics() if not t.startswith("virtspool/v1/node2/qemu/77")} <= {
        "virtspool/v1/node2/status",
        "virtspool/v1/node1/qemu/-/poison",
    }
    assert FORGED not in topics()
    subscriber.stop()

    # A consumer writes. It has the one certificate for consumers, hence, with mosquitto, the one client id.
    attacker = Attacker(broker, "consumer")
    attacker.subscribe("virtspool/v1/#")
    for topic in (FORGED, "virtspool/v1/consumer/qemu/-/started"):
        attacker.publish(topic)
    attacker.close()
    attacker = Attacker(broker, "consumer")
    attacker.subscribe("virtspool/v1/#")
    bed.hook("started")
    wait_until(lambda: any(t.endswith("/started") for t in attacker.messages), 30, "an event arrives")
    assert all(t.startswith("virtspool/v1/node2/qemu/77") for t in attacker.messages if t.endswith("/started"))
    if isinstance(broker, Mosquitto):
        assert not any(t.endswith("/poison") for t in attacker.messages)
    attacker.close()


def test_a_host_that_publishes_as_another_is_refused_visibly(bed, broker):
    daemon = bed.new_daemon(brokers=broker, certificate="node1", host="node2")
    daemon.config["mqtt"]["version"] = broker.version
    subscriber = subscriber_of(broker, topic="virtspool/v1/#")
    daemon.start()
    bed.hook("started")
    daemon.process.wait_output("Not authorized (0x87)" if broker.version == "5" else "connection")
    assert len(bed.spool.waiting()) == 1 and subscriber.events == []
    subscriber.stop()
