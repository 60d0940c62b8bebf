# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A consumer that acknowledges after it has stored (client.h, `hold`), as virtspool-recorder does: tests/net/consumer-probe
appends each batch to a file and then commits it. Killed anywhere, it has lost nothing; the same program without the hold
has. Its session outlives it, its connection outlives a store that takes nothing, and its memory stays bounded.
"""

import random
import signal
import struct
import subprocess
import threading

import pytest
from lib import Behaviour, Broker, Daemon, Process, wait_until
from lib.programs import program, tool
from lib.scripted_broker import PUBACK, PUBLISH, SUBACK, SUBSCRIBE, packet, text

TOPIC = "virtspool/v1/node1/hold"
KEEP_ALIVE_S = 5  # the shortest that libmosquitto takes


class Consumer:
    def __init__(self, bed, brokers, version=5):
        self.bed = bed
        self.store = bed.directory / "store"
        self.log = bed.directory / "consumer.log"
        daemon = Daemon(bed.directory / "consumer", bed.spool, brokers, bed.certs)
        daemon.config["mqtt"].update(version=version, keep_alive=f"{KEEP_ALIVE_S}s", client_id="consumer")
        daemon.write_config()
        self.config = daemon.config_file
        self.process = None

    def start(self, *options, filters=(TOPIC,)):
        command = [program("tests/net/consumer-probe"), *map(str, options), self.config, self.store, *filters]
        before = self.count("subscribed")
        self.process = Process(command, self.log)
        wait_until(lambda: self.count("subscribed") >= before + len(filters), 20, "it is subscribed")
        return self

    def said(self, word):
        return [line for line in self.log.read_text().splitlines() if line.startswith(word)] if self.log.exists() else []

    def count(self, word):
        return len(self.said(word))

    def stored(self):
        return self.store.read_text().split() if self.store.exists() else []

    def wait_stored(self, expected, deadline=30):
        expected = set(expected)
        wait_until(lambda: expected <= set(self.stored()), deadline, lambda: f"{len(set(self.stored()))} stored")


def publish(broker, messages, topic=TOPIC):
    subprocess.run(
        [tool("mosquitto_pub"), "-h", broker.host, "-p", str(broker.port), "-V", "5", "-q", "1", "-t", topic, "-l"],
        input="".join(f"{m}\n" for m in messages),
        text=True,
        check=True,
        timeout=120,
    )


@pytest.fixture
def plain(bed):
    broker = Broker(bed.directory / "plain", bed.certs, tls=False)
    broker.persistent = False  # it is not killed here, and saving after each message is slow
    return broker.start()


@pytest.mark.parametrize("version", [5, "3.1.1"])
@pytest.mark.parametrize("hold", [True, False], ids=["hold", "control"])
def test_killed_at_any_moment(bed, plain, hold, version):
    """SIGKILL while messages stream in and up to 500 of them are in memory only."""
    options = ["--batch", "500", "--delay", "1000"] + ([] if hold else ["--no-hold"])
    consumer, sent = Consumer(bed, plain, version).start(*options), []
    for round_ in range(5):
        messages = [f"m{round_}-{i}" for i in range(3000)]
        sent += messages
        before = len(consumer.stored())
        publisher = threading.Thread(target=publish, args=(plain, messages))
        publisher.start()
        enough = before + random.randrange(1, 1500)
        wait_until(lambda: len(consumer.stored()) > enough, what="some are stored")
        consumer.process.kill()
        publisher.join()
        consumer.start(*options)
    if hold:
        consumer.wait_stored(sent)
    else:
        publish(plain, ["last"])
        consumer.wait_stored(["last"])
        assert not set(sent) <= set(consumer.stored()), "the control loses nothing: this test shows nothing"


@pytest.mark.parametrize("version", [5, "3.1.1"])
def test_the_session_outlives_the_consumer(bed, plain, version):
    consumer = Consumer(bed, plain, version).start()
    publish(plain, ["before"])
    consumer.wait_stored(["before"])
    consumer.process.stop()
    publish(plain, ["meanwhile"])
    consumer.start()
    consumer.wait_stored(["meanwhile"])
    assert consumer.stored() == ["before", "meanwhile"]


def test_the_connection_outlives_a_store_that_takes_nothing(bed, plain):
    """For three keep-alives nothing is committed, while more arrives than may be held."""
    consumer = Consumer(bed, plain).start("--max", 200, "--receive", 1000)
    consumer.process.signal(signal.SIGUSR1)
    wait_until(lambda: consumer.count("held"), what="the store is stuck")
    messages = [f"m{i}" for i in range(3000)]
    publish(plain, messages)
    pings = lambda: plain.output().count("Received PINGREQ from consumer")  # noqa: E731
    wait_until(lambda: pings() >= 3, 5 * KEEP_ALIVE_S, "three keep-alives have passed")
    consumer.process.signal(signal.SIGUSR1)
    wait_until(lambda: consumer.count("held") >= 2)
    held = int(consumer.said("held")[-1].split()[1])
    assert 200 <= held < 200 + 16384 // 20, "more than one read beyond the limit"
    assert consumer.stored() == []
    consumer.process.signal(signal.SIGUSR2)
    consumer.wait_stored(messages)
    assert consumer.stored() == messages
    assert consumer.count("connected") == 1 and consumer.count("lost") == 0


def test_several_filters_and_a_shared_one(bed, plain):
    consumer = Consumer(bed, plain).start(filters=["a/+", "$share/recorders/b/#"])
    publish(plain, ["one"], "a/x")
    publish(plain, ["two"], "b/y/z")
    consumer.wait_stored(["one", "two"])
    assert consumer.said("subscribed") == ["subscribed 1 a/+", "subscribed 1 $share/recorders/b/#"]


class Sends(Behaviour):
    """Sends messages, each with an identifier that is in use already, and notes the PUBACKs."""

    connack_properties = {"receive_maximum": 10}

    def __init__(self, identifiers, cut=False):
        self.identifiers, self.cut, self.pubacks = identifiers, cut, []

    def packet(self, c, kind, flags, body):
        if kind == SUBSCRIBE:
            c.send(packet(SUBACK, body[:2] + b"\0\1"))
            for i, mid in enumerate(self.identifiers):
                c.send(packet(PUBLISH, text(TOPIC) + struct.pack(">H", mid) + b"\0" + b"%d" % i, flags=2))
        elif kind == PUBACK:
            self.pubacks += [struct.unpack(">H", body[:2])[0]]
        else:
            super().packet(c, kind, flags, body)


def test_acknowledged_in_order_of_arrival_and_not_before(bed):
    identifiers = [7, 3, 7, 7, 65535, 3, 1] * 20  # a broker that does not keep the receive maximum
    behaviour = Sends(identifiers)
    broker = bed.scripted_broker(behaviour)
    consumer = Consumer(bed, broker).start("--batch", "1000", "--delay", "500")
    wait_until(lambda: len(consumer.stored()) == len(identifiers) or behaviour.pubacks, what="something is stored")
    assert len(consumer.stored()) == len(identifiers), "a PUBACK came before the commit"
    wait_until(lambda: len(behaviour.pubacks) == len(identifiers), what="all are acknowledged")
    assert behaviour.pubacks == identifiers


def test_a_commit_of_an_old_connection_acknowledges_nothing_on_a_new_one(bed):
    behaviour = Sends([1, 2, 3])
    broker = bed.scripted_broker(behaviour)
    consumer = Consumer(bed, broker).start("--batch", "1000", "--delay", "3000")
    wait_until(lambda: broker.connections[-1].packets.count(SUBSCRIBE) == 1)
    broker.connections[-1].raw_shutdown()
    behaviour.identifiers = []
    wait_until(lambda: consumer.count("subscribed") == 2, what="it is back")
    consumer.wait_stored(["0", "1", "2"])
    behaviour.identifiers = [9]
    broker.connections[-1].raw_shutdown()
    wait_until(lambda: behaviour.pubacks, what="the new connection's message is acknowledged")
    assert behaviour.pubacks == [9]


def test_receive_maximum_is_announced(bed):
    broker = bed.scripted_broker(Sends([]))
    Consumer(bed, broker).start()
    assert b"\x21" + struct.pack(">H", 1000) in broker.connections[0].connect.properties
