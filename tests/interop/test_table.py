# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The table in etc/brokers/README.md, "What each one does", held against the brokers; but for what a refused publish
meets, see tests/e2e/test_acl.py and test_acl.py here.
"""

import json
import re
import socket
import ssl
import subprocess

import pytest
from brokers import ActiveMQ, Aedes, Ejabberd, Mochi, Mosquitto5, Nats, RabbitMQ, daemon_of
from consumer import subscriber_of
from lib import ROOT, wait_until

COLUMNS = {"mosquitto": Mosquitto5, "RabbitMQ": RabbitMQ, "ejabberd": Ejabberd, "ActiveMQ": ActiveMQ, "aedes": Aedes}
COLUMNS |= {"mochi-mqtt": Mochi, "NATS": Nats}
PACKAGES = {"mosquitto": "mosquitto", "RabbitMQ": "rabbitmq-server", "ejabberd": "ejabberd", "ActiveMQ": "activemq"}
TLS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def table():
    """{row: {column: cell}} of the first table, without marks; the header as the row ""."""
    text = (ROOT / "etc/brokers/README.md").read_text().split("\n| |", 1)[1].split("\n\n")[0]
    lines = [[c.strip().replace("*", "").replace("`", "") for c in line.strip("|").split("|")] for line in ("|" + text).splitlines()]
    header = lines[0][-7:]
    names = [h.split()[0] for h in header]
    rows = {line[0]: dict(zip(names, (re.sub(r" \(\d\)$", "", c) for c in line[1:]))) for line in lines[2:]}
    return {"": dict(zip(names, header)), **rows}


def answer(broker, version, tls="1.3", certificate="consumer"):
    """What comes after a CONNECT of this version (4: MQTT 3.1.1); None if nothing does, or TLS says no."""

    def text(s):
        return len(s).to_bytes(2, "big") + s.encode()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(broker.certs.ca)
    context.minimum_version = context.maximum_version = TLS[tls]
    if certificate:
        context.load_cert_chain(broker.certs.pem(certificate), broker.certs.key(certificate))
    body = text("MQTT") + bytes([version, 0x02 | (0xC0 if broker.login else 0)]) + (60).to_bytes(2, "big")
    body += (b"\0" if version == 5 else b"") + text("table") + b"".join(text(s) for s in broker.login or ())
    try:
        with socket.create_connection((broker.host, broker.port), timeout=20) as tcp:
            with context.wrap_socket(tcp, server_hostname=broker.host) as connection:
                connection.sendall(bytes([0x10, len(body)]) + body)
                return connection.recv(4096) or None
    except OSError:
        return None


def receive_maximum(connack):
    """Of a CONNACK of MQTT 5; None if it tells none."""
    properties, i = connack[5 : 5 + connack[4]], 0
    sizes = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
    while i < len(properties):
        name = properties[i]
        size = sizes.get(name) or 2 + int.from_bytes(properties[i + 1 : i + 3], "big")
        if name == 0x21:
            return int.from_bytes(properties[i + 1 : i + 3], "big")
        i += 1 + size
    return None


def says_no_to_5(bed, broker):
    """As the daemon tells it."""
    daemon = daemon_of(bed, broker, "5")
    daemon.start()
    daemon.process.wait_output("localhost (127.0.0.1", 20)
    daemon.stop()
    code = re.search(r"refuses the connection: [^(]*\((0x\w+)\)", daemon.output())
    assert code or "has closed the connection instead of a CONNACK; it may not know MQTT 5" in daemon.output(), daemon.output()
    return f"CONNACK {code[1]}" if code else "closing"


def keeps_a_queue(bed, broker):
    """The broker is killed while something waits for a consumer that is away. Is it there afterwards?"""
    subscriber_of(broker, client_id="away").stop()
    daemon = daemon_of(bed, broker)
    daemon.start()
    bed.hook("started")
    bed.spool.wait_empty()
    if isinstance(broker, Mosquitto5):
        wait_until(lambda: b"started" in broker.saved(), 20, "it is saved")
    broker.kill()
    broker.start()
    consumer = subscriber_of(broker, client_id="away")
    bed.hook("release")  # comes behind what was kept
    wait_until(lambda: "release" in consumer.operations(), 30, "the next event")
    consumer.stop()
    daemon.stop()
    return "started" in consumer.operations()


@pytest.fixture(params=list(COLUMNS))
def column(request, bed):
    broker = COLUMNS[request.param](bed.directory / "other", bed.certs)
    broker.start()
    yield request.param, broker
    broker.kill()


def test_the_table(bed, column):
    name, broker = column
    told = {row: cells[name] for row, cells in table().items()}
    assert answer(broker, 4)[:4] == b"\x20\x02\0\0", "all speak 3.1.1"
    assert told["mqtt.version"] == {"5": "5 (3.1.1 too)", "3.1.1": "3.1.1"}[broker.version]
    if broker.version == "5":
        maximum = receive_maximum(answer(broker, 5))
        assert told["receive maximum (MQTT 5)"] == ("none sent" if maximum is None else str(maximum))
    assert told["refuses MQTT 5 by"] == ("" if broker.version == "5" else says_no_to_5(bed, broker))
    assert told["TLS"] == ", ".join(v for v in TLS if answer(broker, 4, v))
    assert told["can demand a client certificate"] == ("no" if answer(broker, 4, certificate=None) else "yes")
    assert (told["a consumer's queue, broker killed"] != "in memory") == keeps_a_queue(bed, broker)


def test_the_versions():
    told = {name: cell.split()[1] for name, cell in table()[""].items()}
    for name, package in PACKAGES.items():
        done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, timeout=30)
        assert done.returncode != 0 or re.match(r"[0-9.]+", done.stdout)[0] == told[name], name
    modules = (ROOT / "tests/interop/brokers-go/go.mod").read_text()
    for name, module in (("mochi-mqtt", "github.com/mochi-mqtt/server/v2"), ("NATS", "github.com/nats-io/nats-server/v2")):
        assert f"{module} v{told[name]}\n" in modules, name
    wanted = json.loads((ROOT / "tests/interop/package.json").read_text())["dependencies"]
    assert wanted["aedes"] == told["aedes"]
