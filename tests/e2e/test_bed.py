# SPDX-License-Identifier: LGPL-2.1-or-later
"""The test bed tests itself: what every other test relies on."""

import ast
import collections
import json
import re
import ssl
from pathlib import Path

import pytest

from lib import Process, wait_until
from lib import process as processes
from lib.subscriber import disorder, holes, unique


def cloud_event(sequence, epoch="e1", source="/h", **more):
    event = {"specversion": "1.0", "id": f"{source}-{epoch}-{sequence}", "source": source, "epoch": epoch}
    return {**event, "sequence": str(sequence), "data": {}, **more}


def publish(subscriber, *events):
    for e in events:
        subscriber.client.publish("virtspool/v1/test", json.dumps(e), qos=1).wait_for_publish(5)


def test_holes_duplicates_and_disorder_are_seen():
    in_order = [cloud_event(1), cloud_event(2), cloud_event(1, "e2"), cloud_event(3)]
    assert holes(in_order) == [] and disorder(in_order) == []
    assert holes([cloud_event(2), cloud_event(4)]) == [("/h", "e1", 1), ("/h", "e1", 3)]
    assert disorder([cloud_event(2), cloud_event(1)]) == [("2", "1")]
    assert disorder([cloud_event(2), cloud_event(1, replayed=True)]) == []
    assert disorder([cloud_event(1), cloud_event(2), cloud_event(1)]) == []
    assert unique([cloud_event(1), cloud_event(1)]) == [cloud_event(1)]


def test_broker_delivers_and_keeps_a_session_over_kill(bed):
    bed.broker.start()
    subscriber = bed.subscriber()
    sender = bed.subscriber(topic="none")
    publish(sender, cloud_event(1), cloud_event(2))
    assert [e["sequence"] for e in subscriber.wait_for(2)] == ["1", "2"]
    bed.broker.kill()
    wait_until(lambda: not subscriber._subscribed.is_set(), what="the subscriber noticed")
    bed.broker.start()
    sender.wait_subscribed()
    publish(sender, cloud_event(3), cloud_event(2))
    subscriber.wait_for(3)
    # More than one if the broker was killed before it had our acknowledgement.
    wait_until(lambda: subscriber.duplicates >= 1, what="the repetition arrived")
    assert holes(subscriber.events) == [] and disorder(subscriber.events) == []


def test_broker_refuses_a_client_without_certificate(bed):
    bed.broker.start()
    context = ssl.create_default_context(cafile=str(bed.certs.ca))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    import socket

    with socket.create_connection(("127.0.0.1", bed.broker.port), 5) as s:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(s, server_hostname="localhost").recv(1)


def test_acl_is_obeyed(bed):
    bed.broker.acl = ["user host", "topic write virtspool/#", "user consumer", "topic read virtspool/#"]
    bed.broker.start()
    subscriber = bed.subscriber()
    publish(bed.subscriber(topic="none"), cloud_event(1))
    publish(bed.subscriber(topic="none", certificate="host"), cloud_event(2))
    assert [e["sequence"] for e in subscriber.wait_for(1)] == ["2"]


def test_processes_end_with_the_test(tmp_path):
    sleeper = Process(["/bin/sleep", "1000"], tmp_path / "log")
    assert sleeper.running
    assert processes.stop_all() == ["/bin/sleep"]
    assert not sleeper.running and sleeper.state() == "X"


def test_readme():
    """tests/README.md names files and tests that are there."""
    tests = Path(__file__).parent.parent
    names = re.findall(r"`((?:unit|e2e|faults|fuzz|interop|vm)/[\w./-]+)(?:::(\w+))?`", (tests / "README.md").read_text())
    assert len(names) > 30
    for path, test in names:
        assert (tests / path).is_file(), path
        assert not test or f"def {test}(" in (tests / path).read_text(), f"{path}::{test}"


def test_no_name_is_given_twice():
    """The second test or list of a name hides the first one: the bench of the drain was broken so."""
    twice = []
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        names = collections.Counter()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names[node.name] += 1
            elif isinstance(node, ast.Assign):
                names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        twice += [f"{path}: {name}" for name, n in names.items() if n > 1]
    assert twice == []
