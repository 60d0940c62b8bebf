# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A real live migration between two nodes, each with its own spool and daemon, and a consumer that knows nothing but
virtspool-events(7): it tells that a domain moved, from where to where, since when it runs there, or that it failed.
"""

import threading

import pytest
from lib import Listener, ROOT, Spool, wait_until


class Consumer:
    """The section "Migration" of virtspool-events(7) in code. For one domain."""

    def __init__(self):
        self.runs_on = self.since = self.incoming_on = None
        self.history = []

    def take(self, event):
        data = event["data"]
        host, operation = data["host"], data["operation"]
        if operation == "migrate":
            self.incoming_on = host
        elif operation == "started" and host != self.incoming_on:
            self._runs(host, event, "started")
        elif operation in ("stopped", "release") and host == self.incoming_on:
            self.incoming_on = None
            self.history.append(("failed", host))
        elif operation == "stopped" and self.incoming_on and host == self.runs_on:
            destination, self.incoming_on = self.incoming_on, None
            self.history.append(("moved", host, destination))
            self._runs(destination, event, None)
        elif operation == "stopped":
            self._runs(None, event, "stopped")

    def _runs(self, host, event, told):
        self.runs_on, self.since = host, event["time"]
        if told:
            self.history.append((told, host))


class Two:
    """Two nodes with one broker; two.consumer() has seen all that arrived."""

    def __init__(self, bed):
        images = bed.directory / "images"
        images.mkdir()
        bed.broker.start()
        self.subscriber = bed.subscriber()
        self.nodes, self.spools = [], []
        for name in ("node1", "node2"):
            spool = bed.spool if name == "node1" else Spool(bed.directory / name)
            daemon = bed.new_daemon(f"daemon-{name}", spool=spool, host=name)
            daemon.start()
            self.spools.append(spool)
            self.nodes.append(bed.node(name=name, spool=spool, images=images))
        self.one, self.two = self.nodes
        self.guest = self.one.guest("vm1").start().wait_up()

    def migrate(self, *options, check=True):
        return self.guest.virsh(
            *("migrate", "--live", "--p2p", "--unsafe", f"qemu+unix:///system?socket={self.two.socket}"),
            *("--migrateuri", f"unix://{self.two.directory}/migration.sock", *options),
            check=check,
        )

    def consumer(self, n):
        """Of the first n events, in the order of their time."""
        consumer = Consumer()
        for event in sorted(self.subscriber.wait_for(n, 30), key=lambda e: e["time"]):
            consumer.take(event)
        self.subscriber.check_complete(n)
        return consumer


@pytest.fixture
def two(bed):
    return Two(bed)


def test_a_migration(two):
    before = two.consumer(3)
    assert before.runs_on == "node1"
    two.migrate()
    consumer = two.consumer(3 + 4 + 2)
    assert consumer.history == [("started", "node1"), ("moved", "node1", "node2")]
    assert consumer.runs_on == "node2"
    events = two.subscriber.wait_for(9)
    started_there, stopped_here = (
        next(e["time"] for e in events if (e["data"]["host"], e["data"]["operation"]) == what)
        for what in (("node2", "started"), ("node1", "stopped"))
    )
    assert started_there < stopped_here == consumer.since
    assert len({e["data"]["uuid"] for e in events}) == 1
    shown = (ROOT / "spooler/event/virtspool-events.7").read_text().split(".Ss Migration")[1].split(".Bd -literal -offset indent\n")[1].split(".Ed")[0]
    assert [line.split()[:3] for line in shown.splitlines()] == [
        ["A" if e["data"]["host"] == "node1" else "B", e["data"]["operation"], e["data"]["suboperation"]]
        for e in sorted(events, key=lambda e: e["time"])[3:]
    ], "as virtspool-events(7) shows it"


def test_a_migration_that_takes_its_time_and_fails(two):
    two.guest.send("d")
    thread = threading.Thread(target=two.migrate, args=("--bandwidth", "1"), kwargs={"check": False})
    thread.start()
    consumer = two.consumer(3 + 4)
    # libvirt has called "started" on the destination, while the guest still runs on the source.
    assert consumer.runs_on == "node1" and consumer.incoming_on == "node2"
    wait_until(
        lambda: "Completed" not in two.guest.virsh("domjobinfo", check=False)
        and two.guest.virsh("domjobabort", check=False) is not None
        and not thread.is_alive(),
        30,
        "the migration was aborted",
    )
    thread.join()
    consumer = two.consumer(3 + 4 + 2)
    assert consumer.history == [("started", "node1"), ("failed", "node2")]
    assert consumer.runs_on == "node1" and consumer.incoming_on is None
    assert two.guest.state == "running"


def test_the_source_dies_while_it_migrates(two):
    two.guest.send("d")
    thread = threading.Thread(target=two.migrate, args=("--bandwidth", "1"), kwargs={"check": False})
    thread.start()
    assert two.consumer(3 + 4).incoming_on == "node2"
    two.guest.kill()
    thread.join()
    consumer = two.consumer(3 + 4 + 2 + 2)
    assert consumer.runs_on is None and consumer.incoming_on is None
    assert two.guest.state == "shut off" and "vm1" not in two.two.virsh("list", "--name")


@pytest.fixture
def listened(two, bed):
    """With a listener on each node."""
    listeners = [
        Listener(bed.directory / f"listener-{node.name}", spool, node).start().wait_listening()
        for node, spool in zip(two.nodes, two.spools)
    ]
    yield two
    for listener in listeners:
        listener.stop()
        listener.close()


def arrives(two, host, operation, reason=None):
    """The first such event."""

    def find():
        data = {"host": host, "operation": operation, **({"reason": reason} if reason else {})}
        return next((e for e in list(two.subscriber.events) if data.items() <= e["data"].items()), None)

    return wait_until(find, 30, f"{operation} {reason} from {host}")


def test_the_event_api_tells_when_it_runs_there(listened):
    listened.migrate()
    resumed = arrives(listened, "node2", "lifecycle-resumed", "migrated")
    assert arrives(listened, "node2", "started")["time"] < resumed["time"]
    left = arrives(listened, "node1", "lifecycle-stopped", "migrated")
    assert left["data"]["transition"] == arrives(listened, "node1", "stopped")["id"]


def test_post_copy_runs_there_before_it_is_gone_here(listened):
    listened.guest.send("d")
    options = ("--bandwidth", "1", "--postcopy", "--postcopy-bandwidth", "1")
    output = []
    thread = threading.Thread(target=lambda: output.append(listened.migrate(*options, check=False)))
    thread.start()
    arrives(listened, "node1", "migration-iteration")
    listened.guest.virsh("migrate-postcopy", check=False)
    thread.join()
    if "not supported" in output[0]:
        pytest.skip(f"no post-copy here: {output[0]}")
    resumed, stopped = arrives(listened, "node2", "lifecycle-resumed", "postcopy"), arrives(listened, "node1", "stopped")
    assert arrives(listened, "node2", "started")["time"] < resumed["time"] < stopped["time"]
    consumer = Consumer()
    for event in sorted(list(listened.subscriber.events), key=lambda e: e["time"]):
        consumer.take(event)
    assert consumer.history == [("started", "node1"), ("moved", "node1", "node2")]


def test_there_and_back(two):
    two.migrate()
    two.consumer(9)
    two.two.virsh(
        *("migrate", "vm1", "--live", "--p2p", "--unsafe", f"qemu+unix:///system?socket={two.one.socket}"),
        *("--migrateuri", f"unix://{two.one.directory}/migration.sock"),
    )
    consumer = two.consumer(15)
    assert consumer.history[1:] == [("moved", "node1", "node2"), ("moved", "node2", "node1")]
    two.guest.destroy()
    assert two.consumer(17).runs_on is None
