# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Clients that no one here wrote understand what is published, events and status: MQTT.js, paho for Python, Go and Java, aiomqtt,
each with the CloudEvents SDK of its language.
"""

import json

import pytest
from brokers import INTEROP, NODE_ENVIRONMENT, NODE_MODULES, need, node
from lib import ROOT, Process, wait_until
from lib.calls import CALLS, what_the_hook_gets
from lib.programs import tool

HERE = ROOT / "tests/interop"
AWKWARD = ["vm1", "a b", "Grüße", "x/y", "$(reboot)", "-", "a\x01b", "%s"]


def files(certs):
    return certs.ca, certs.pem("consumer"), certs.key("consumer")


def javascript(bed):
    need(NODE_MODULES / "cloudevents", "cloudevents")
    return [node(), HERE / "consumer.js", bed.broker.url, *files(bed.certs)]


def python(environment, script):
    def command(bed):
        interpreter = need(INTEROP / environment / "bin/python", environment)
        return [interpreter, HERE / "python" / script, bed.broker.host, bed.broker.port, *files(bed.certs)]

    return command


def go(name):
    return lambda bed: [need(INTEROP / "interop", "paho for Go"), name, bed.broker.url, *files(bed.certs)]


def java(bed):
    library = need(INTEROP / "java/consumer", "paho for Java")
    keys, trusted = bed.directory / "consumer.p12", bed.directory / "ca.p12"
    bed.certs.keystore("consumer", keys)
    bed.certs.truststore(trusted)
    return [tool("java"), "-Xmx128m", "-cp", f"{library}/classes:{library}/*", "Consumer", bed.broker.url, keys, trusted]


CLIENTS = {
    "MQTT.js": javascript,
    "paho-mqtt 1.6": python("paho1", "consumer_paho.py"),
    "paho-mqtt 2": python("paho2", "consumer_paho.py"),
    "aiomqtt": python("aiomqtt", "consumer_aiomqtt.py"),
    "paho Go, MQTT 3.1.1": go("consume3"),
    "paho Go, MQTT 5": go("consume5"),
    "paho Java": java,
}


def corpus(bed):
    """Every kind of event: of the hooks, each call that libvirt documents; of the event API; of the daemon; replayed ones."""
    bed.daemon.config["events"] = {"xml": True}
    bed.daemon.start()
    bed.daemon.wait_connected()
    bed.listener("test:///default").start().wait_listening()
    for driver, calls in CALLS.items():
        name, document = what_the_hook_gets(driver)
        for operation, suboperation, *extra in calls:
            bed.hook(operation, suboperation, *extra, domain=name, driver=driver, document=document)
    for name in AWKWARD:
        bed.hook("started", domain=name)
        bed.hook("release", "end", "from snapshot", domain=name)
    bed.hook("started", document=b"<domain")
    bed.hook.raw(["vm1"])
    bed.spool.wait_empty()
    bed.run("virtspool", "replay", "--from", "sent", "--yes", bed.spool.names("sent")[-1], check=True)
    bed.spool.wait_empty()
    assert bed.daemon.stop() == 0


def comparable(event):
    """SDKs write times in their own way, and extensions that are numbers or booleans as text."""
    return {k: v[:19] if k in ("time", "recordedtime") else str(v).lower() if k == "replayed" else v for k, v in event.items()}


@pytest.mark.parametrize("name", list(CLIENTS))
def test_every_event_is_understood(bed, name):
    bed.broker.start()
    log = bed.directory / "client.log"
    client = Process(CLIENTS[name](bed), log, NODE_ENVIRONMENT, cwd=bed.directory)
    client.wait_output("ready", 60)
    witness = bed.subscriber(topic="virtspool/v1/#")
    corpus(bed)

    def understood():
        return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]

    wait_until(lambda: b"status.offline" in witness.messages[-1].payload, 30, "the daemon's last word")
    wait_until(lambda: len(understood()) >= len(witness.messages) or not client.running, 30, lambda: f"all\n{client.output()[-3000:]}")
    assert client.running, client.output()[-3000:]
    published = [comparable(json.loads(m.payload)) for m in witness.messages]
    assert len(published) > sum(map(len, CALLS.values())) + 2 * len(AWKWARD)
    assert [comparable(e) for e in understood()] == published
    types = {e["type"] for e in published}
    assert types > {f"org.virtspool.{t}" for t in ("status.online", "status.offline", "test.listen.begin", "qemu.release.end")}
    assert any(e.get("replayed") for e in published)
