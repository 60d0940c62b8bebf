# SPDX-License-Identifier: LGPL-2.1-or-later
"""Three RabbitMQ nodes in a cluster: the one that the daemon is connected to is killed under load, another takes over."""

from brokers import Epmd, RabbitMQ
from consumer import subscriber_of
from lib import wait_until
from lib.intruder import Intruder

EVENTS = 1500
NAMES = ("one", "two", "three")


def test_a_node_is_killed_under_load(bed):
    one, two, three = nodes = start_cluster(bed)
    subscriber = subscriber_of(three)
    daemon = bed.new_daemon(brokers=[one, two])
    daemon.config["mqtt"].update(version="3.1.1", window=2)  # slow enough for a node to be killed meanwhile
    bed.hook.many(EVENTS)
    daemon.start()
    wait_until(lambda: len(subscriber.events) > EVENTS // 10, 60, "events arrive", interval=0.001)
    one.kill()
    assert bed.spool.waiting(), "all was over before the node was killed"
    subscriber.wait_for(EVENTS, 60)
    bed.spool.wait_empty()
    subscriber.check_complete(EVENTS)
    assert two.url in daemon.output()
    subscriber.stop()
    for node in nodes:
        node.kill()


def start_cluster(bed):
    """
    One after the other, and each knows those before it only: nodes that start together may each begin a group of their
    own for MQTT's client ids (Raft), and a client that meets such a node is never let in.
    """
    epmd = Epmd(bed.directory)
    nodes = []
    for i, name in enumerate(NAMES, 1):
        nodes.append(RabbitMQ(bed.directory / name, bed.certs, name, epmd, NAMES[:i]).start())
        wait_until(lambda: members(nodes[-1]) == i, 60, lambda: f"{name} knows {i} nodes: {members(nodes[-1])}", interval=0.1)
    for node in nodes:
        with Intruder(node, "consumer", 3) as client:
            assert client.connected, node.output()[-3000:]
    return nodes


def members(node):
    """How many nodes this one sees in MQTT's group; 0: it is not there yet."""
    said = node.control("eval", "case ra:members({mqtt_node, node()}) of {ok, M, _} -> length(M); _ -> 0 end.")
    return int(said)
