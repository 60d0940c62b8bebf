# SPDX-License-Identifier: LGPL-2.1-or-later
"""Three RabbitMQ nodes in a cluster: the one that the daemon is connected to is killed under load, another takes over."""

import concurrent.futures

from brokers import Epmd, RabbitMQ
from consumer import subscriber_of
from lib import wait_until

EVENTS = 1500
NAMES = ("one", "two", "three")


def test_a_node_is_killed_under_load(bed):
    epmd = Epmd(bed.directory)
    nodes = [RabbitMQ(bed.directory / name, bed.certs, name, epmd, NAMES) for name in NAMES]
    # They wait for each other. A process dies with the thread that started it, so the threads stay till the end.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for started in [pool.submit(node.start) for node in nodes]:
            started.result()
        kill_one(bed, *nodes)


def kill_one(bed, one, two, three):
    subscriber = subscriber_of(three)
    daemon = bed.new_daemon(brokers=[one, two])
    daemon.config["mqtt"]["version"] = "3.1.1"
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
    for node in (two, three):
        node.kill()
