# SPDX-License-Identifier: LGPL-2.1-or-later
"""mosquitto_sub, as the README's readers have it at hand."""

import json

from lib import Process, schema, wait_until
from lib.programs import tool


def test_mosquitto_sub(bed):
    bed.broker.start()
    certs = bed.certs
    log = bed.directory / "sub.log"
    client = Process(
        [
            *(tool("mosquitto_sub"), "-V", "5", "-h", "localhost", "-p", bed.broker.port, "-q", "1", "-C", "5"),
            *("--cafile", certs.ca, "--cert", certs.pem("consumer"), "--key", certs.key("consumer")),
            *("-t", "virtspool/v1/+/qemu/+/+", "-F", "%t %C %p", "-i", "sub"),
        ],
        log,
    )
    wait_until(lambda: "Received SUBSCRIBE from sub" in bed.broker.output(), what="subscribed")
    bed.daemon.start()
    bed.hook.start()
    bed.hook.stop(extra="crashed")
    assert client.wait(15) == 0, client.output()
    lines = [line.split(" ", 2) for line in log.read_text().splitlines()]
    assert [topic.rsplit("/", 1)[1] for topic, _, _ in lines] == ["prepare", "start", "started", "stopped", "release"]
    assert {kind for _, kind, _ in lines} == {"application/cloudevents+json"}
    assert json.loads(lines[-1][2])["data"]["reason"] == "crashed"
    assert [schema.errors(json.loads(payload)) for _, _, payload in lines] == [[]] * 5
