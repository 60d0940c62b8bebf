# SPDX-License-Identifier: LGPL-2.1-or-later
"""End to end, hook to consumer, over every broker there is: TLS, QoS 1 and 2, a backlog, an outage, a reconnect."""

import pytest
from brokers import ALL, Artemis, Nats29, RabbitMQ, daemon_of
from consumer import subscriber_of
from lib import wait_until
from lib.subscriber import holes

BACKLOG = 300
WITHOUT_QOS_2 = RabbitMQ, Nats29


@pytest.fixture(params=list(ALL))
def broker(request, bed):
    broker = ALL[request.param](bed.directory / "other", bed.certs)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def daemon(bed, broker):
    return daemon_of(bed, broker)


@pytest.mark.parametrize("qos", [1, 2])
def test_delivery_outage_backlog(bed, broker, daemon, qos):
    if qos == 2 and isinstance(broker, WITHOUT_QOS_2):
        pytest.skip("no QoS 2: see test_qos_2_of_a_broker_without")
    reorders = qos == 2 and isinstance(broker, Artemis)
    daemon.config["mqtt"]["qos"] = qos
    subscriber = subscriber_of(broker, qos=qos)
    try:
        daemon.start()
        bed.hook.start()
        bed.hook.stop(extra="destroyed")
        events = subscriber.wait_for(5, 30)
        operations = [e["data"]["operation"] for e in events]
        expected = ["prepare", "start", "started", "stopped", "release"]
        assert sorted(operations) == sorted(expected) if reorders else operations == expected
        bed.spool.wait_empty()
        assert len(bed.spool.names("sent")) == 5

        broker.kill()
        bed.hook.many(BACKLOG)
        assert len(bed.spool.waiting()) == BACKLOG
        # Held until the consumer is back: not every broker keeps a consumer's queue when it is killed.
        daemon.process.pause()
        broker.start()
        wait_until(lambda: not subscriber._subscribed.is_set() or subscriber.client.is_connected(), 30, "the consumer sees it")
        subscriber.wait_subscribed(60)
        daemon.process.resume()
        subscriber.wait_for(5 + BACKLOG, 60)
        bed.spool.wait_empty()
        if reorders:
            assert holes(subscriber.events) == [] and not subscriber.errors
        else:
            subscriber.check_complete(5 + BACKLOG)
        assert bed.spool.failed() == {}

        bed.hook("started", domain="a b")
        subscriber.wait_for(5 + BACKLOG + 1, 30)
        assert daemon.stop() == 0
    finally:
        subscriber.stop()


@pytest.mark.parametrize("kind", [RabbitMQ, Nats29])
def test_qos_2_of_a_broker_without(bed, kind):
    """RabbitMQ answers as if it were QoS 1, NATS 2.9 closes. The event stays, and the remedy is named, once."""
    broker = kind(bed.directory / "other", bed.certs).start()
    daemon = bed.new_daemon(brokers=broker)
    daemon.config["mqtt"] |= {"version": "3.1.1", "qos": 2}
    daemon.start()
    bed.hook("start")
    daemon.process.wait_output("it seems not to know QoS 2: set mqtt.qos to 1")
    wait_until(lambda: daemon.status()["events"]["connects"] >= 6, 30, "it tries again")
    assert daemon.output().count("set mqtt.qos to 1") == 1
    assert "set mqtt.qos to 1" in bed.run("virtspool", "status").stdout
    assert len(bed.spool.waiting()) == 1 and not bed.spool.names("sent")

    daemon.config["mqtt"]["qos"] = 1
    daemon.reload()
    bed.spool.wait_empty()
    broker.kill()
