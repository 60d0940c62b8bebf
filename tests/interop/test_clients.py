# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients that no one here wrote understand what is published: MQTT.js and the CloudEvents SDK for JavaScript."""

import json

from brokers import NODE_ENVIRONMENT, NODE_MODULES, need, node
from lib import ROOT, Process

AWKWARD = ["vm1", "a b", "Grüße", "x/y", "$(reboot)", "-", "a\x01b", "%s"]


def test_mqtt_js_and_the_cloudevents_sdk(bed):
    need(NODE_MODULES / "cloudevents", "cloudevents")
    bed.broker.start()
    bed.daemon.config["events"] = {"xml": True}
    bed.daemon.start()
    certs = bed.certs
    log = bed.directory / "consumer.log"
    n = 2 * len(AWKWARD) + 3
    client = Process(
        [node(), ROOT / "tests/interop/consumer.js", bed.broker.url, certs.ca, certs.pem("consumer"), certs.key("consumer"), n],
        log,
        NODE_ENVIRONMENT,
    )
    client.wait_output("ready", 30)
    for name in AWKWARD:
        bed.hook("started", domain=name)
        bed.hook("release", "end", "from snapshot", domain=name)
    bed.hook("start", "-", "start", domain="-", driver="daemon", document=b"")
    bed.hook("started", document=b"<domain")
    bed.hook.raw(["vm1"])
    assert client.wait(30) == 0, client.output()
    seen = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert len(seen) == n
    assert {s["type"] for s in seen} == {"application/cloudevents+json"}
    assert [int(s["event"]["sequence"]) for s in seen] == list(range(1, n + 1))
    assert seen[1]["event"]["type"] == "org.virtspool.qemu.release.end"
    assert seen[1]["event"]["data"]["reason"] == "from snapshot"
