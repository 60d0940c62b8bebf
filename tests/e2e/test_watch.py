# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool watch: events, and the hosts' status, as they arrive at the broker."""

import json
import os
import subprocess

import pytest
from lib import Behaviour, program, ScriptedBroker, wait_until
from lib.watch import Watch
from lib.scripted_broker import SUBACK, SUBSCRIBE, packet


def test_options_as_mosquitto_sub_has_them(running):
    bed = running
    watch = Watch(bed, "-i", "viewer-1").watching()
    bed.hook("started", domain="vm1")
    watch.wait_for("node1", "vm1", "started")
    assert "as viewer-1" in bed.broker.output()


def test_the_status_of_hosts(running):
    """The last report of each host is there at once, marked as retained; a later one has its time."""
    bed = running
    wait_until(lambda: [m for m in bed.subscribed.messages if b"status.online" in m.payload], 15, "it is reported online")
    watch = Watch(bed).watching()
    (line,) = watch.wait_for("node1", "online")
    assert "(retained)" in line
    bed.daemon.kill()
    watch.wait_for("node1", "offline", "lost")
    bed.daemon.start()
    wait_until(lambda: len(watch.lines()) == 3, 15, "it is back")
    bed.daemon.stop()
    watch.wait_for("node1", "offline", "stopped")
    for line in watch.lines()[1:]:
        assert line.startswith("20") and "Z " in line and "(retained)" not in line


def test_filters(running):
    bed = running
    watches = {
        ("--vm", "web*"): ["web1 started", "web1 stopped"],
        ("--op", "stopped"): ["db1 stopped", "web1 stopped"],
        ("--host", "other"): [],
        ("--host", "node?", "--vm", "db1"): ["db1 started", "db1 stopped"],
    }
    running_ = {o: Watch(bed, "--json", *o, name=f"watch{i}").watching() for i, o in enumerate(watches)}
    for operation in ("started", "stopped"):
        for domain in ("web1", "db1"):
            bed.hook(operation, domain=domain)
    everything = Watch(bed, "--json", name="all").watching()
    bed.hook("release", domain="last")
    everything.wait_for("last")

    def shown(watch):
        events = [json.loads(line)["data"] for line in watch.lines()]
        return sorted(f"{e['name']} {e['operation']}" for e in events if "operation" in e)

    for options, expected in watches.items():
        wait_until(lambda: shown(running_[options]) == expected, 10, lambda: f"{options}: {shown(running_[options])}")


def test_the_identity_of_the_daemon_is_refused(running):
    """With the shipped mosquitto.conf the certificate is the client id: this would end the daemon's connection."""
    bed = running
    command = ["watch", "-c", bed.daemon.config_file]
    done = bed.run("virtspool", *command)
    assert done.returncode == 64 and "this is the certificate of the virtspoold that runs here" in done.stderr
    watch = Watch(bed, certificate="host")
    assert watch.process.wait(20) == 64
    assert bed.daemon.output().count("connected to broker") == 1
    Watch(bed, "--force", certificate="host", name="forced").watching()
    bed.daemon.stop()
    Watch(bed, certificate="host", name="alone").watching()


def test_the_client_id_of_the_daemon_is_refused(running):
    watch = Watch(running, "-i", "virtspool-node1")
    assert watch.process.wait(20) == 64 and "this is the client id of" in watch.process.output()


def test_two_with_one_identity_do_not_fight(running):
    bed = running
    first = Watch(bed, "-i", "viewer", name="first").watching()
    second = Watch(bed, "-i", "viewer", name="second").watching()
    assert "another client uses this client id" in first.fails()
    bed.hook("started", domain="vm1")
    second.wait_for("vm1")


class ThrowsOff(Behaviour):
    """A broker that closes without a reason code, as mosquitto 2.0.11 does on a take-over."""

    def packet(self, c, kind, flags, body):
        if kind == SUBSCRIBE:
            c.send(packet(SUBACK, body[:2] + b"\0\1\1"))
            c.cut()
        super().packet(c, kind, flags, body)


def test_a_take_over_without_a_reason_code_is_recognised(bed):
    broker = bed.scripted_broker(ThrowsOff())
    watch = Watch(bed, broker=broker)
    assert "another client uses this client id" in watch.fails()
    assert len(broker.connections) == 3


class Grants(Behaviour):
    def packet(self, c, kind, flags, body):
        if kind == SUBSCRIBE:
            c.send(packet(SUBACK, body[:2] + (b"\0" if c.level == 5 else b"") + b"\1\x87"))
        else:
            super().packet(c, kind, flags, body)


def test_it_announces_a_large_receive_maximum_and_goes_on_without_the_status(bed):
    """Some brokers drop what exceeds the receive maximum; libmosquitto's is 20."""
    broker = bed.scripted_broker(Grants())
    watch = Watch(bed, broker=broker).watching()
    assert b"\x21\xff\xff" in broker.connections[0].connect.properties
    watch.process.wait_output("refuses the subscription to 'virtspool/v1/+/status': Not authorized (0x87)")


def test_under_3_1_1_it_says_what_is_missed(bed):
    broker = ScriptedBroker(behaviour=Grants()).start()
    watch = Watch(bed, "--protocol-version", "3.1.1", broker=broker).watching()
    watch.process.wait_output("MQTT 3.1.1: events that arrive while the connection is lost are not shown later")
    broker.stop()


@pytest.mark.parametrize(
    "options, said",
    [
        (["-p", "1"], "--port needs a broker"),
        (["--cert", "x"], "--cert and --key belong together"),
        (["-h", "x", "--cafile", "/nonexistent"], "/nonexistent"),
        (["-h", "x", "-p", "0"], "from 1 to 65535"),
        (["--protocol-version", "4"], "'4' is not 5 or 3.1.1"),
    ],
)
def test_options_that_make_no_sense(bed, options, said):
    done = bed.run("virtspool", "watch", *options)
    assert done.returncode in (64, 78) and said in done.stderr


def test_watch_on_a_full_disk(running):
    bed = running
    config = bed.new_daemon("watch", certificate="consumer")
    config.write_config()
    script = 'exec "$V" watch -c "$1" --vm vm1 >/dev/full'
    watch = subprocess.Popen(
        ["sh", "-c", script, "sh", config.config_file],
        env={**os.environ, "V": program("virtspool"), **bed.spool.environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "watching" in watch.stderr.readline()
    bed.hook("start", domain="vm1")
    rest = watch.communicate(timeout=20)[1]
    assert watch.returncode == 1 and "cannot write the output: No space left" in rest
