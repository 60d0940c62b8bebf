# SPDX-License-Identifier: LGPL-2.1-or-later
"""Brokers that die and come back, a broker that is down, and a network that drops everything."""

import random
import time

import pytest

from lib import Broker, Ledger, Namespaces, Subscriber, Traffic, wait_until

CYCLES = 5
ADDRESS = {"host": "10.77.0.1", "broker": "10.77.0.2"}


def check(ledger, subscriber, spool):
    counts = ledger.check(subscriber)
    spool.wait_empty()
    assert counts["lost"] == 0 and len(spool.names("sent")) == counts["made"]
    print(counts)
    return counts


def test_broker_restarted_again_and_again_under_load(bed):
    """SIGTERM, so that the broker keeps what it acknowledged: whatever is missing then is our loss."""
    chance = random.Random(4)
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    bed.daemon.start()
    with Traffic(ledger, threads=2, pause=0.002):
        for cycle in range(CYCLES):
            bed.daemon.wait_connected(cycle + 1)
            arrived = len(subscriber.events)
            wait_until(lambda: len(subscriber.events) > arrived + 10, 15, "events arrive between two outages")
            bed.broker.stop()
            time.sleep(chance.uniform(0, 0.6))
            bed.broker.start()
    counts = check(ledger, subscriber, bed.spool)
    bed.daemon.wait_connected(CYCLES + 1)
    assert counts["made"] > 10 * CYCLES


def test_broker_killed_again_and_again_under_load(bed):
    """SIGKILL: what the broker forgot after its PUBACK is not in the spool any more, and is in sent/."""
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    bed.daemon.start()
    with Traffic(ledger, threads=2, pause=0.002):
        for cycle in range(CYCLES):
            bed.daemon.wait_connected(cycle + 1)
            arrived = len(subscriber.events)
            wait_until(lambda: len(subscriber.events) > arrived + 10, 15, "events arrive between two deaths")
            bed.broker.kill()
            bed.broker.start()
            subscriber.wait_subscribed(20)
    wait_until(lambda: not bed.spool.waiting(), 30, "the spool is empty")
    sent = {r["extra"] for r in bed.spool.records("sent")}
    assert sent == set(ledger.accepted), "each event that was accepted was acknowledged by a broker"
    faults = ledger.compare(ledger.received(subscriber), holes_allowed=True)
    assert not faults, faults[:5]
    print({"made": len(sent), "forgotten by the broker": len(ledger.missing(subscriber))})


def test_second_broker_takes_over_and_the_first_is_taken_again(bed):
    first, second = bed.broker, bed.new_broker("second")
    for broker in (first, second):
        broker.start()
    subscribers = [bed.subscriber(b) for b in (first, second)]
    daemon = bed.new_daemon(brokers=[first, second])
    ledger = Ledger(bed.hook)
    ledger.configure(daemon)
    first.stop()
    daemon.start()
    with Traffic(ledger, threads=1, pause=0.005):
        wait_until(lambda: len(subscribers[1].events) > 20, 10, "the second broker gets events")
        wait_until(lambda: daemon.status().get("broker") == second.url, 5, "status names the second")
        first.start()
        subscribers[0].wait_subscribed()
        second.stop()
        wait_until(lambda: len(subscribers[0].events) > 20, 10, "the first broker gets events")
        first.stop()
        second.start()
        subscribers[1].wait_subscribed()
        arrived = len(subscribers[1].events)
        wait_until(lambda: len(subscribers[1].events) > arrived + 20, 10, "the second broker gets events again")
        first.start()
        subscribers[0].wait_subscribed()

    class Both:
        errors = []
        events = property(lambda self: sorted(
            subscribers[0].events + subscribers[1].events, key=lambda e: (e["epoch"], e["sequence"])
        ))

    # Two brokers know no order between each other; within each it is kept.
    check(ledger, Both(), bed.spool)
    for s in subscribers:
        faults = ledger.compare(ledger.received(s), holes_allowed=True)
        assert not faults, faults[:3]


class DistantBroker(Broker):
    """Listens on an address of its own namespace too."""

    def __init__(self, directory, certs, box):
        super().__init__(directory, certs, port=8883)
        self.prefix = box.prefix
        self.box = box
        self.address = ADDRESS["broker"]
        self.host = ADDRESS["broker"]

    def _accepts(self):
        with self.box.inside_network():
            return super()._accepts()


class DistantSubscriber(Subscriber):
    """Its connection is inside the broker's namespace, so it does not notice what happens to the network."""

    def __init__(self, broker, box, **options):
        super().__init__(broker, **options)
        self.client.tls_insecure_set(True)
        connect = self.client._create_socket_connection

        def inside():
            with box.inside_network():
                return connect()

        self.client._create_socket_connection = inside


@pytest.fixture
def network(bed):
    """Two namespaces and a wire between them."""
    host, there = (Namespaces(bed.directory, network=True) for _ in range(2))
    host.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", there.pid)
    for box, name in ((host, "host"), (there, "broker")):
        box.run("ip", "address", "add", f"{ADDRESS[name]}/24", "dev", "wire")
        box.run("ip", "link", "set", "wire", "up")
    return host, there


def test_network_drops_packets_and_comes_back(bed, network):
    """Nothing is reset: the daemon has to find out by itself, with a PUBACK that does not come and by its keep-alive."""
    host, there = network
    bed.certs.server("distant", ADDRESS["broker"])
    broker = DistantBroker(bed.directory / "distant", bed.certs, there)
    broker.certificate = "distant"
    broker.start()
    subscriber = DistantSubscriber(broker, there).start()
    bed._closing.append(subscriber.stop)
    daemon = bed.new_daemon(brokers=broker)
    daemon.prefix = host.prefix
    daemon.config["mqtt"].update(keep_alive="5s", connect_timeout="1s", ack_timeout="2s", window=20)
    ledger = Ledger(bed.hook)
    ledger.configure(daemon)
    daemon.start()
    def losses():
        return daemon.status().get("events", {}).get("connection_losses", 0)

    # Always at the far end of the wire: for the host nothing changes, its packets go nowhere.
    cuts = [
        (["ip", "route", "{} blackhole", ADDRESS["host"] + "/32"], "add", "del", True),
        (["ip", "address", "{}", ADDRESS["broker"] + "/24", "dev", "wire"], "del", "add", True),
        (["ip", "route", "{} blackhole", ADDRESS["host"] + "/32"], "add", "del", False),
    ]
    with Traffic(ledger, threads=1, pause=0.005):
        for i, (command, cut, mend, noticed) in enumerate(cuts):
            daemon.wait_connected(min(i, 2) + 1)
            arrived = len(subscriber.events)
            wait_until(lambda: len(subscriber.events) > arrived + 20, 15, "events arrive")
            there.run(*" ".join(command).format(cut).split())
            if noticed:
                wait_until(lambda: losses() > i, 15, lambda: f"noticed: {daemon.output()[-500:]}")
            else:  # TCP mends it
                wait_until(lambda: len(bed.spool.names("new")) > 20, 10, "events wait")
            there.run(*" ".join(command).format(mend).split())
    check(ledger, subscriber, bed.spool)
    assert losses() >= 2
