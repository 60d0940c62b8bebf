# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Behind haproxy and nginx: TCP and TLS that ends there, idle time-outs around the keep-alive, two brokers behind one name, and
the PROXY protocol to brokers that read it.
"""

import os
import time

import pytest
from brokers import Ejabberd, RabbitMQ, daemon_of
from consumer import subscriber_of
from lib import Ledger, Traffic, wait_until
from proxies import ALL, Haproxy

SLOW = pytest.mark.skipif(not os.environ.get("VIRTSPOOL_INTEROP"), reason="scripts/test-interop runs it")


@pytest.fixture(params=list(ALL))
def kind(request):
    return ALL[request.param]


def through(bed, proxy, **mqtt):
    """The daemon, connected through this proxy."""
    bed.daemon.config["brokers"] = [proxy.url]
    bed.daemon.config["mqtt"].update(mqtt)
    bed.daemon.start()
    bed.daemon.wait_connected(1, 30)


@pytest.mark.parametrize("terminate", [False, True], ids=["tcp", "tls"])
def test_delivery_and_an_outage_behind_it(bed, kind, terminate):
    bed.broker.tls = not terminate
    bed.broker.start()
    proxy = kind(bed.directory / "proxy", bed.certs, [bed.broker], terminate).start()
    subscriber = bed.subscriber()
    through(bed, proxy)
    bed.hook.start()
    subscriber.wait_for(3)
    bed.broker.kill()
    bed.hook.many(50)
    bed.daemon.process.pause()
    bed.broker.start()
    wait_until(lambda: not subscriber._subscribed.is_set() or subscriber.client.is_connected(), 30, "the consumer sees it")
    subscriber.wait_subscribed(30)
    bed.daemon.process.resume()
    subscriber.wait_for(53, 60)
    bed.spool.wait_empty()
    subscriber.check_complete(53)


def test_tls_that_ends_at_the_proxy_demands_a_certificate(bed, kind):
    bed.broker.tls = False
    bed.broker.start()
    proxy = kind(bed.directory / "proxy", bed.certs, [bed.broker], terminate=True).start()
    bed.daemon.config["brokers"] = [proxy.url]
    del bed.daemon.config["tls"]["certificate_file"], bed.daemon.config["tls"]["key_file"]
    bed.daemon.start()
    bed.daemon.process.wait_output("client certificate", 30)
    bed.daemon.process.wait_output("set tls.certificate_file and tls.key_file", 10)
    assert "connected to broker" not in bed.daemon.output()


@SLOW
def test_a_keep_alive_below_the_idle_time_out_keeps_the_connection(bed, kind):
    bed.broker.start()
    proxy = kind(bed.directory / "proxy", bed.certs, [bed.broker], idle=8).start()
    subscriber = bed.subscriber()
    through(bed, proxy, keep_alive="5s")
    silent = time.monotonic()
    wait_until(lambda: time.monotonic() - silent > 2.5 * 8, 60, "the idle time-out has passed twice", interval=0.1)
    bed.hook("started")
    subscriber.wait_for(1)
    assert bed.daemon.output().count("connected to broker") == 1, bed.daemon.output()


@SLOW
def test_an_idle_time_out_below_the_keep_alive_loses_nothing(bed, kind):
    bed.broker.start()
    proxy = kind(bed.directory / "proxy", bed.certs, [bed.broker], idle=2).start()
    subscriber = bed.subscriber()
    through(bed, proxy, keep_alive="60s")
    for n in range(1, 4):
        bed.hook("started")
        subscriber.wait_for(n, 30)
        bed.daemon.wait_connected(n + 1, 30)
    bed.spool.wait_empty()
    subscriber.check_complete(3)


def test_two_brokers_behind_one_name(bed, kind):
    """The first is killed under load: the proxy gives the second, and between them consumers have everything."""
    first, second = bed.broker.start(), bed.new_broker("second").start()
    proxy = kind(bed.directory / "proxy", bed.certs, [first, second]).start()
    subscribers = [bed.subscriber(b) for b in (first, second)]
    ledger = Ledger(bed.hook)
    through(bed, proxy)
    with Traffic(ledger, pause=0.02):
        for broker, subscriber in zip((first, second), subscribers):
            wait_until(lambda s=subscriber: len(s.events) > 20, 60, lambda: f"events arrive\n{bed.daemon.output()[-3000:]}")
            if broker is first:
                first.kill()
    bed.spool.wait_empty(60)

    def missing():
        return set(ledger.accepted) - {e["data"]["reason"] for s in subscribers for e in list(s.events)}

    wait_until(lambda: not missing(), 30, lambda: f"lost: {missing()}")
    assert bed.spool.failed() == {}


@SLOW
@pytest.mark.parametrize("broker", [RabbitMQ, Ejabberd])
def test_proxy_protocol(bed, broker):
    """The broker's log names the client's own connection: to the proxy's port, or from the port that the daemon has."""

    class Behind(broker):
        def prepare(self):
            super().prepare()
            if broker is RabbitMQ:
                with open(self.directory / "rabbitmq.conf", "a") as f:
                    f.write("mqtt.proxy_protocol = true\n")
            else:
                path = self.directory / "ejabberd.yml"
                path.write_text(path.read_text().replace("    tls: true\n", "    tls: true\n    use_proxy_protocol: true\n"))

    behind = Behind(bed.directory / "behind", bed.certs).start()
    proxy = Haproxy(bed.directory / "proxy", bed.certs, [behind], protocol=True).start()
    behind.port, own = proxy.port, behind.port
    consumer = subscriber_of(behind)
    daemon = daemon_of(bed, behind)
    daemon.start()
    daemon.wait_connected(1, 30)
    bed.hook.start()
    consumer.wait_for(3, 30)
    bed.spool.wait_empty()
    consumer.check_complete(3)
    assert f"127.0.0.1:{proxy.port}" in behind.output(), behind.output()[-2000:]
    assert own != proxy.port
    consumer.stop()
    behind.kill()
