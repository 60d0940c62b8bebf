# SPDX-License-Identifier: LGPL-2.1-or-later
"""The way to a broker before TLS: names, several addresses, IPv6, and a name service or a network that does not answer."""

import os
import time

import pytest
from lib import wait_until
from lib.namespaces import Namespaces
from lib.waiting import PATIENCE

IPV6 = os.path.exists("/proc/net/if_inet6")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def box(bed):
    """Namespaces with a network in which 192.0.2.9 and 2001:db8::9 are somewhere and never answer."""
    box = Namespaces(bed.directory, mount=True, network=True)
    box.run("ip", "link", "add", "hole", "type", "veth", "peer", "name", "end")
    box.run("ip", "address", "add", "192.0.2.1/24", "dev", "hole")
    for name in ("hole", "end"):
        box.run("ip", "link", "set", name, "up")
    box.run("ip", "neighbour", "add", "192.0.2.9", "lladdr", "02:00:00:00:00:09", "dev", "hole")
    if IPV6:
        box.run("ip", "address", "add", "2001:db8::1/64", "dev", "hole", "nodad")
        box.run("ip", "neighbour", "add", "2001:db8::9", "lladdr", "02:00:00:00:00:09", "dev", "hole")
    yield box
    box.process.kill()


def put(bed, box, path, text):
    file = bed.directory / path.replace("/", "_")
    file.write_text(text)
    box.run("mount", "--bind", file, os.path.realpath(path))


def start(bed, box, url, **mqtt):
    bed.hook("start", "begin")
    daemon = bed.new_daemon(brokers=[])
    daemon.prefix = box.prefix
    daemon.config["brokers"] = url if isinstance(url, list) else [url]
    daemon.config["mqtt"].update({"connect_timeout": "2s", **mqtt})
    return daemon.start()


def said(daemon, words, deadline=15):
    wait_until(lambda: words in daemon.output(), deadline, lambda: f"'{words}' in the log:\n{daemon.output()}")


def test_each_address_is_tried(bed, box):
    """One of the name's addresses is silent, one refuses, and one is the broker: all within one connect_timeout."""
    silent = "2001:db8::9" if IPV6 else "192.0.2.9"  # IPv6 is tried first
    put(bed, box, "/etc/hosts", f"{silent} broker.test\n127.0.0.9 broker.test\n192.0.2.1 broker.test\n")
    with box.inside_network():
        broker = bed.scripted_broker(certificate=bed.certs.server("t-broker.test", "broker.test"), address="192.0.2.1")
    broker.host = "broker.test"
    daemon = start(bed, box, broker.url, connect_timeout="6s")
    broker.wait_delivered(1, 10)
    assert len(daemon.output().split("connected to broker")) == 2
    assert f"broker.test (192.0.2.1:{broker.port})" in daemon.output()
    assert daemon.stop() == 0


def test_each_address_is_named_when_none_answers(bed, box):
    put(bed, box, "/etc/hosts", "192.0.2.9 broker.test\n127.0.0.1 broker.test\n")
    daemon = start(bed, box, "mqtts://broker.test:8883")
    said(daemon, "cannot connect to 'broker.test': ")
    assert "127.0.0.1:8883: Connection refused" in daemon.output()
    assert "192.0.2.9:8883: Connection timed out" in daemon.output()
    assert daemon.stop() == 0


def test_unknown_name(bed, box):
    put(bed, box, "/etc/resolv.conf", "")
    daemon = start(bed, box, "mqtts://nowhere.test:8883")
    said(daemon, "cannot resolve 'nowhere.test': ")
    assert daemon.stop() == 0


def test_silent_name_service_holds_up_nothing(bed, box):
    """Each question is given up in time; the daemon stays awake, other brokers are tried, and it stops at once."""
    put(bed, box, "/etc/resolv.conf", "nameserver 192.0.2.9\noptions timeout:20 attempts:3\n")
    with box.inside_network():
        broker = bed.scripted_broker(address="127.0.0.1")
    broker.host = "127.0.0.1"
    daemon = start(bed, box, ["mqtts://silent.test:8883", broker.url], connect_timeout="1s")
    broker.wait_delivered(1)
    said(daemon, "cannot resolve 'silent.test': no answer from the name service")
    daemon.stop()
    # Also when questions pile up: only so many are asked at a time.
    daemon.config["brokers"] = ["mqtts://silent.test:8883"]
    daemon.config["log"] = {"level": "debug"}
    daemon.start()
    wait_until(lambda: daemon.output().count("no answer from the name service") > 10, 60, daemon.output)
    threads = len(os.listdir(f"/proc/{daemon.pid}/task"))
    assert threads <= 9, threads
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 3 * PATIENCE


@pytest.mark.skipif(not IPV6, reason="no IPv6 here")
def test_ipv6(bed, box):
    with box.inside_network():
        broker = bed.scripted_broker(address="::1")
    broker.host = "::1"
    daemon = start(bed, box, broker.url)
    broker.wait_delivered(1)
    assert f"::1 ([::1]:{broker.port})" in daemon.output()
    assert broker.connections[-1].sni is None
    assert daemon.stop() == 0


@pytest.mark.skipif(not IPV6, reason="no IPv6 here")
def test_ipv6_address_not_in_the_certificate(bed, box):
    with box.inside_network():
        broker = bed.scripted_broker(certificate=bed.certs.server("t-six", "2001:db8::1"), address="::1")
    broker.host = "::1"
    daemon = start(bed, box, broker.url)
    said(daemon, "its certificate is for 2001:db8::1, not for '::1'")
    assert not broker.published
    assert daemon.stop() == 0
