# SPDX-License-Identifier: LGPL-2.1-or-later
"""The status topic: online, offline at the end, and the will where there is no end in good order."""

import json

import pytest

from lib import schema, wait_until

TOPIC = "virtspool/v1/node1/status"


def told(subscriber):
    return [m for m in list(subscriber.messages) if m.topic == TOPIC]


def wait_for(subscriber, *statuses):
    def now():
        return [json.loads(m.payload)["data"]["status"] for m in told(subscriber)]

    wait_until(lambda: now() == list(statuses), 15, lambda: f"{list(statuses)}: {now()}")
    return [json.loads(m.payload) for m in told(subscriber)]


@pytest.fixture
def watched(bed):
    bed.broker.start()
    bed.subscribed = bed.subscriber()
    bed.daemon.config["mqtt"]["status_topic"] = "virtspool/v1/{host}/status"
    return bed


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_online_and_offline(watched, version):
    bed = watched
    bed.daemon.config["mqtt"]["version"] = version
    bed.hook.start("vm1")
    bed.daemon.start()
    (online,) = wait_for(bed.subscribed, "online")
    events = bed.subscribed.wait_for(3)
    assert online["type"] == "org.virtspool.status.online"
    assert online["data"]["host"] == "node1"
    assert online["data"]["epoch"] == events[0]["epoch"] and int(online["data"]["sequence"]) == 3
    bed.hook.stop("vm1")
    bed.subscribed.wait_for(5)
    assert bed.daemon.stop() == 0
    _, offline = wait_for(bed.subscribed, "online", "offline")
    assert offline["type"] == "org.virtspool.status.offline"
    assert int(offline["data"]["sequence"]) == 5
    for event in (online, offline):
        assert schema.errors(event) == []
    bed.subscribed.check_complete(5)


def test_the_will(watched):
    bed = watched
    bed.daemon.start()
    wait_for(bed.subscribed, "online")
    bed.daemon.kill()
    _, will = wait_for(bed.subscribed, "online", "offline")
    assert schema.errors(will) == []
    assert "time" not in will, "nobody knew the time when it was written"
    assert will["id"] != json.loads(told(bed.subscribed)[0].payload)["id"]
    for message in told(bed.subscribed):
        assert message.properties.ContentType == "application/cloudevents+json"
        assert not message.retain
    bed.daemon.start()
    wait_for(bed.subscribed, "online", "offline", "online")


def test_none_by_default(bed):
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.daemon.wait_connected()
    bed.hook("start")
    subscriber.wait_for(1)
    bed.daemon.stop()
    assert [m.topic for m in subscriber.messages if "status" in m.topic] == []
