# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients that no one here wrote understand what is published: MQTT.js and the CloudEvents SDK for JavaScript."""

import json

from brokers import NODE_ENVIRONMENT, NODE_MODULES, need, node
from lib import ROOT, Process

AWKWARD = ["vm1", "a b", "Grüße", "x/y", "$(reboot)", "-", "a\x01b", "%s"]


def test_mqtt_js_and_the_cloudevents_sdk(bed):
    """Every kind of event: of the hooks, of the event API, of the daemon itself, and a replayed one."""
    need(NODE_MODULES / "cloudevents", "cloudevents")
    bed.broker.start()
    certs, log = bed.certs, bed.directory / "consumer.log"
    hooks = 2 * len(AWKWARD) + 3
    n = 1 + 2 + hooks + 1
    client = Process(
        [node(), ROOT / "tests/interop/consumer.js", bed.broker.url, certs.ca, certs.pem("consumer"), certs.key("consumer"), n],
        log,
        NODE_ENVIRONMENT,
    )
    client.wait_output("ready", 30)
    bed.daemon.config["events"] = {"xml": True}
    bed.daemon.config["mqtt"]["status_topic"] = "virtspool/v1/{host}/status"
    bed.daemon.start()
    bed.daemon.wait_connected()
    bed.listener("test:///default").start().wait_listening()
    for name in AWKWARD:
        bed.hook("started", domain=name)
        bed.hook("release", "end", "from snapshot", domain=name)
    bed.hook("start", "-", "start", domain="-", driver="daemon", document=b"")
    bed.hook("started", document=b"<domain")
    bed.hook.raw(["vm1"])
    bed.spool.wait_empty()
    bed.run("virtspool", "replay", "--from", "sent", "--yes", bed.spool.names("sent")[-1], check=True)
    assert client.wait(30) == 0, client.output()

    seen = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert {s["type"] for s in seen} == {"application/cloudevents+json"}
    events = [s["event"] for s in seen]
    assert [e["type"] for e in events[:3]] == [f"org.virtspool.{t}" for t in ("status.online", "test.listen.begin", "test.reconciled.running")]
    assert [int(e["sequence"]) for e in events[1:-1]] == list(range(1, hooks + 3))
    assert events[4]["type"] == "org.virtspool.qemu.release.end" and events[4]["data"]["reason"] == "from snapshot"
    assert events[-1] == {**events[-2], "replayed": True}
