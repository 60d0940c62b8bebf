# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A connection that is lost again and again: status and log say how often, after how much silence, and the likely cause. Here
with the causes themselves: two hosts with one client id on a mosquitto that does not say so, and a proxy (haproxy) whose idle
time-out is shorter than keep-alive.
"""

import re

from lib import Spool, free_port, wait_until
from lib.process import Process
from lib.programs import tool

from .test_verdict import findings

HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client {idle}
    timeout server {idle}
listen mqtt
    bind 127.0.0.1:{port}
    server broker 127.0.0.1:{to}
"""


def flapping(bed, deadline=30):
    wait_until(lambda: "flapping" in findings(bed)[0], deadline, lambda: f"three losses: {bed.daemon.output()}")
    found, code = findings(bed)
    assert code == 1
    line = next(l for l in bed.daemon.output().splitlines() if "degraded: the connection" in l)
    return found["flapping"], line


def test_two_hosts_with_one_client_id(bed, tmp_path):
    """mosquitto 2.0.11 closes the older connection without DISCONNECT 0x8e: the pattern shows it, on both hosts."""
    bed.broker.start()
    subscriber = bed.subscriber()
    (tmp_path / "second").mkdir()
    other = bed.new_daemon("other", spool=Spool(tmp_path / "second"), host="node2")
    for daemon in (bed.daemon, other):
        daemon.config["mqtt"]["client_id"] = "kvm"
        daemon.start()
    finding, line = flapping(bed)
    assert "another client probably uses the client id 'kvm'" in finding["remedy"]
    assert re.search(r"was lost \d+ times within an hour, typically \d+\.\d s after it was made and after \d+\.\d s of silence", line)
    assert "uses the client id 'kvm'" in line
    wait_until(lambda: "uses the client id 'kvm'" in other.output(), 30, "the other host says it, too")
    bed.hook.start()  # the connections between are good enough for events, and none is lost
    subscriber.wait_for(3, 60)


def test_a_proxy_with_a_short_idle_time_out(bed, tmp_path):
    bed.broker.start()
    bed.subscriber()
    port = free_port()
    conf = tmp_path / "haproxy.cfg"
    conf.write_text(HAPROXY.format(idle="3s", port=port, to=bed.broker.port))
    Process([tool("haproxy"), "-db", "-f", conf], tmp_path / "haproxy.log")
    bed.daemon.config["brokers"] = [f"mqtts://localhost:{port}"]
    bed.daemon.start()
    finding, line = flapping(bed)
    assert "a proxy or firewall seems to end idle connections" in finding["remedy"]
    assert "client id" not in finding["remedy"] and "idle time-out" in line
    assert re.search(r"and after [345]\.\d s of silence", finding["cause"])
