# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The tables in etc/brokers/README.md, "What each one does", held against the brokers: each cell is what a probe here sees, by
MQTT as it is on the wire (raw.py) or with the real daemon. One start of a broker for all its cells.
"""

import json
import re
import subprocess

import pytest
from brokers import ALL, LIMIT, Mosquitto5, daemon_of
from consumer import subscriber_of
from lib import ROOT, Hook, Spool, domain_xml, wait_until
from lib.waiting import PATIENCE
from raw import MAXIMUM_PACKET_SIZE, RECEIVE_MAXIMUM, TLS, Raw

BROKERS = {name: kind for name, kind in ALL.items() if not name.startswith("mosquitto")} | {"mosquitto": Mosquitto5}
PACKAGES = {"mosquitto": "mosquitto", "RabbitMQ": "rabbitmq-server", "ejabberd": "ejabberd", "ActiveMQ": "activemq",
            "NATS (Debian)": "nats-server"}
MARK = "other/mark"


def tables():
    """{broker: {column: cell}} of the tables of that chapter, without marks."""
    text = (ROOT / "etc/brokers/README.md").read_text().split("## What each one does", 1)[1].split("by hand", 1)[0]
    rows = {}
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        lines = [[re.sub(r" \(\d\)$", "", re.sub(r"[*`]", "", c.strip())) for c in line.strip("|\n").split("|")]
                 for line in table.splitlines()]
        for line in lines[2:]:
            rows.setdefault(line[0], {}).update(zip(lines[0][1:], line[1:]))
    return rows


def told(answer):
    """As the tables say it."""
    if isinstance(answer, tuple):
        return f"DISCONNECT 0x{answer[1]:02x}"
    return f"0x{answer:02x}" if isinstance(answer, int) else answer


def levels(broker):
    return (4, 5) if broker.version == "5" else (4,)


# --- connecting

def probe_versions(bed, broker):
    with Raw(broker, "versions", 4) as c:
        assert c.connack[1] == 0, "all speak 3.1.1"
    with Raw(broker, "versions", 5) as c:
        known = bool(c.connack and c.connack[1] == 0)
    assert known == (broker.version == "5")
    return "5 and 3.1.1" if known else "3.1.1"


def probe_refuses_5(bed, broker):
    """As the daemon reports it."""
    if broker.version == "5":
        return ""
    daemon = daemon_of(bed, broker, "5")
    daemon.start()
    wait_until(lambda: re.search(r"CONNACK|refuses the connection", daemon.output()), 30, daemon.output)
    daemon.stop()
    code = re.search(r"refuses the connection: [^(]*\((0x\w+)\)", daemon.output())
    if "no CONNACK within" in daemon.output():
        return "silence"
    assert code or "has closed the connection instead of a CONNACK; it may not know MQTT 5" in daemon.output(), daemon.output()
    return f"CONNACK {code[1]}" if code else "closing"


def probe_receive_maximum(bed, broker):
    if broker.version != "5":
        return ""
    with Raw(broker, "maximum", 5) as c:
        return str(c.connack[2].get(RECEIVE_MAXIMUM, "none sent"))


def probe_tls(bed, broker):
    seen = []
    for version in TLS:
        with Raw(broker, "tls", 4, tls=version) as c:
            seen += [version] if c.connack else []
    return ", ".join(seen)


def probe_certificate(bed, broker):
    with Raw(broker, "none", 4, certificate=None) as c:
        return "no" if c.connack else "yes"


def probe_take_over(bed, broker):
    with Raw(broker, "twice") as first, Raw(broker, "twice") as second:
        assert second.connack and second.connack[1] == 0
        return told(first.ended) if first.until(lambda: first.ended, 5) else "both stay"


# --- publishing

def probe_qos_2(bed, broker):
    with Raw(broker, "qos2-reader") as reader, Raw(broker, "qos2") as c:
        reader.subscribe("other/#", 2)
        if c.publish(MARK, b"2", qos=2) != 0:
            return "no"
        return "yes" if reader.until(lambda: (MARK, b"2", False) in reader.messages, 20) else "lost"


def probe_denied(bed, broker):
    """What a publisher without rights is answered; and nobody reads it."""
    said = {}
    with Raw(broker, "denied-reader") as reader:
        reader.subscribe("other/#")
        reader.subscribe("+/+/+/+/+/denied")
        for level in levels(broker):
            with Raw(broker, f"denied-{level}", level) as c:
                said[level] = told(c.publish("virtspool/v1/x/qemu/y/denied"))
            with Raw(broker, "after") as c:
                c.publish(MARK, b"%d" % level)
            reader.until(lambda n=level: any(m[1] == b"%d" % n for m in reader.messages), 20)
        assert {m[0] for m in reader.messages} == {MARK}
    return said[4] if len(set(said.values())) == 1 else f"{said[5]}; 3.1.1: {said[4]}"


def probe_denied_by_the_daemon(bed, broker):
    """The daemon keeps it where the broker says so; in any case the others go on."""
    spool = Spool(bed.directory / "denied")
    hook = Hook(spool)
    consumer = subscriber_of(broker, topic="virtspool/v1/denied/#")
    daemon = daemon_of(bed, broker, spool=spool, host="denied")
    hook("denied", domain="vm1")
    hook("started", domain="vm2")
    daemon.start()
    wait_until(lambda: consumer.operations() == ["started"], 60, lambda: f"the other event\n{daemon.output()[-3000:]}")
    wait_until(lambda: len(spool.waiting()) < 2, 30, "it is acknowledged")
    with Raw(broker, "again") as c:
        if c.publish("virtspool/v1/x/qemu/y/denied") == "closes":  # then the event is found by trials
            wait_until(spool.failed, 60, daemon.output)
    kept = spool.waiting()
    daemon.stop()
    consumer.stop()
    return "set aside" if spool.failed() else "kept" if kept else "lost"


def probe_limit(bed, broker):
    """A publish above the limit that the broker's configuration sets."""
    with Raw(broker, "limit") as c:
        announced = c.connack[2].get(MAXIMUM_PACKET_SIZE)
        assert announced in (None, LIMIT) or announced > 64 * LIMIT
        if announced == LIMIT:
            return "announces it"
        answer = c.publish(MARK, b"x" * (2 * LIMIT))
        return "has none" if answer in (0, 0x10) else told(answer)


def probe_limit_of_the_daemon(bed, broker):
    """An event whose document is larger goes without it, and the others go on."""
    spool = Spool(bed.directory / "limit")
    hook = Hook(spool)
    consumer = subscriber_of(broker, topic="virtspool/v1/limit/#")
    daemon = daemon_of(bed, broker, spool=spool, host="limit")
    daemon.config["events"] = {"xml": True}
    hook("started", domain="vm1", document=domain_xml("vm1", title="x" * (2 * LIMIT)))
    hook("started", domain="vm2")
    daemon.start()
    wait_until(lambda: len(consumer.events) >= 2, 120, lambda: f"both\n{daemon.output()[-3000:]}")
    spool.wait_empty(30)
    assert spool.failed() == {}
    large = next(e for e in consumer.events if e["data"]["name"] == "vm1")
    daemon.stop()
    consumer.stop()
    return "without it" if large["data"].get("xml_omitted") else "whole"


def probe_nobody(bed, broker):
    if broker.version != "5":
        return ""
    with Raw(broker, "nobody", 5) as c:
        return told(c.publish("nobody/reads/this"))


# --- consumers

def away(broker, topic, level=None):
    """A consumer with a session, away."""
    with Raw(broker, "away", level, clean=False) as c:
        assert c.subscribe(topic) <= 2


def probe_away(bed, broker):
    away(broker, "away/#")
    with Raw(broker, "publisher") as c:
        assert [c.publish("away/x", b"%d" % i) for i in range(50)] == [0] * 50
    with Raw(broker, "away", clean=False) as c:
        kept = c.until(lambda: sum(m[0] == "away/x" for m in c.messages) >= 50, 10)
    order = [int(m[1]) for m in c.messages if m[0] == "away/x"]
    with Raw(broker, "away"):  # ends the session
        pass
    return ("kept" if order == sorted(order) else "out of order") if kept else "lost"


def probe_killed(bed, broker):
    """The broker is killed while something waits for a consumer that is away. Is it there afterwards?"""
    away(broker, "killed/#")
    with Raw(broker, "publisher") as c:
        c.publish("killed/x", b"before")
    if isinstance(broker, Mosquitto5):
        wait_until(lambda: b"before" in broker.saved(), 20, "it is saved")
    broker.kill()
    broker.start()
    with Raw(broker, "away", clean=False) as c:
        c.subscribe("killed/#")
        with Raw(broker, "publisher") as p:
            p.publish("killed/x", b"after")
        assert c.until(lambda: "after" in str(c.messages), 30)
        return "on disk" if ("killed/x", b"before", False) in c.messages else "in memory"


def probe_retained(bed, broker):
    """A host's status, for a consumer that comes later and subscribes with a wildcard."""
    daemon = daemon_of(bed, broker, spool=Spool(bed.directory / "retained"), host="retained")
    daemon.start()
    daemon.wait_connected(1, 30)
    # Its answer was there when another publisher's comes after it.
    with Raw(broker, "live") as c:
        c.subscribe("virtspool/v1/retained/status")
        c.until(lambda: c.messages, 3 / PATIENCE)
    with Raw(broker, "late") as c:
        c.subscribe("virtspool/v1/+/status")
        c.subscribe("other/#")
        with Raw(broker, "publisher") as p:
            p.publish(MARK)
        c.until(lambda: "mark" in str(c.messages) and "retained" in str(c.messages), 3 / PATIENCE)
    daemon.stop()
    marks = [m[2] for m in c.messages if m[0] == "virtspool/v1/retained/status"]
    return ("yes" if marks[0] else "not marked") if marks else "no"


def probe_will_delay(bed, broker):
    """A will that may wait for a second must not be there at once. Whoever ignores the delay publishes it at the cut."""
    if broker.version != "5":
        return ""
    with Raw(broker, "will-reader", 5) as reader:
        reader.subscribe("will/#")
        with Raw(broker, "will-now", 5, will=("will/now", 0)) as c:
            c.drop()
        with Raw(broker, "will-late", 5, will=("will/late", 30)) as c:
            c.drop()
        with Raw(broker, "will-now", 5, will=("will/then", 0)) as c:
            c.drop()
        assert reader.until(lambda: "will/then" in str(reader.messages), 20), "a will without a delay"
        return "ignored" if "will/late" in str(reader.messages) else "kept"


def probe_shared(bed, broker):
    """Two share a subscription: each message comes once."""
    with Raw(broker, "share-1") as one, Raw(broker, "share-2") as two:
        said = [c.subscribe("$share/recorders/shared/#") for c in (one, two)]
        if not all(isinstance(s, int) and s <= 2 for s in said):
            return "no"
        with Raw(broker, "publisher") as p:
            for i in range(20):
                p.publish("shared/x", b"%d" % i)

        def got():
            two.until(lambda: False, 0.05 / PATIENCE)
            return sorted(int(m[1]) for m in one.messages + two.messages if m[0] == "shared/x")

        one.until(lambda: len(got()) >= 20, 5 / PATIENCE)
        return "yes" if got() == list(range(20)) else "no"


PROBES = {
    "MQTT": probe_versions,
    "refuses MQTT 5 by": probe_refuses_5,
    "receive maximum": probe_receive_maximum,
    "TLS": probe_tls,
    "demands a certificate": probe_certificate,
    "same client id": probe_take_over,
    "QoS 2": probe_qos_2,
    "without rights": probe_denied,
    "such an event": probe_denied_by_the_daemon,
    "above its limit": probe_limit,
    "such a document": probe_limit_of_the_daemon,
    "nobody subscribed": probe_nobody,
    "consumer away": probe_away,
    "retained status": probe_retained,
    "will delay": probe_will_delay,
    "$share": probe_shared,
    "queue, broker killed": probe_killed,  # the last: the broker is another one then
}


@pytest.mark.parametrize("name", list(BROKERS))
def test_the_tables(bed, name):
    broker = BROKERS[name](bed.directory / "other", bed.certs)
    broker.start()
    try:
        seen = {}
        for column, probe in PROBES.items():
            seen[column] = probe(bed, broker)
            print(f"{name}: {column}: {seen[column]}", flush=True)
    finally:
        broker.kill()
    said = next(cells for row, cells in tables().items() if row.rpartition(" ")[0] == name)
    assert said.keys() == seen.keys()
    # A broker that answers and closes at once may be seen to do either.
    assert {column: value for column, value in seen.items() if value not in said[column].split(", or ")} == {}


def test_the_versions():
    """Of the packages, where they are installed, and of what the lock files name."""
    here = ROOT / "tests/interop"
    versions = {row.rpartition(" ")[0]: row.rpartition(" ")[2] for row in tables()}
    assert set(versions) == set(BROKERS)
    for name, package in PACKAGES.items():
        done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, timeout=30)
        assert done.returncode != 0 or re.match(r"[0-9.]+", done.stdout)[0] == versions[name], name
    modules = (here / "go/go.mod").read_text()
    for name, module in (("mochi-mqtt", "github.com/mochi-mqtt/server/v2"), ("NATS", "github.com/nats-io/nats-server/v2")):
        assert f"{module} v{versions[name]}\n" in modules, name
    assert json.loads((here / "package.json").read_text())["dependencies"]["aedes"] == versions["aedes"]
    assert f"amqtt=={versions['amqtt']}\n" in (here / "python/amqtt.txt").read_text()
    pom = (here / "java/pom.xml").read_text()
    for name, artifact in (("HiveMQ", "hivemq-community-edition-embedded"), ("Artemis", "artemis-server"),
                           ("Moquette", "moquette-broker")):
        assert f"<artifactId>{artifact}</artifactId>\n          <version>{versions[name]}</version>" in pom, name
