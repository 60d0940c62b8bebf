# SPDX-License-Identifier: LGPL-2.1-or-later
"""A large backlog: memory stays bounded, order is kept, each event arrives. VIRTSPOOL_BACKLOG says how large."""

import json
import os
import re
import subprocess
import time
from collections import Counter

import pytest

from lib import Hook, Namespaces, Process, program, schema, wait_until
from lib.disk import Disk
from lib.programs import sanitized, tool

BACKLOG = int(os.environ.get("VIRTSPOOL_BACKLOG", "100000"))
MEMORY_KIB = 40 * 1024
EVENT = re.compile(rb'"id":"([0-9a-f-]{36})".*?"sequence":"(\d+)","epoch":"(\w+)".*?"reason":"call-(\d+)"')


def collect(bed, path):
    """mosquitto_sub: Python would be the slowest part."""
    command = [
        *[tool("mosquitto_sub"), "-h", "localhost", "-p", bed.broker.port, "-V", "mqttv5", "-q", "1"],
        *["--cafile", bed.certs.ca, "--cert", bed.certs.pem("consumer"), "--key", bed.certs.key("consumer")],
        *["-i", "collector", "-t", "virtspool/+/+/qemu/#"],
    ]
    with open(path, "wb") as out:
        Process(command, bed.directory / "collector.log", {"PATH": "/usr/bin", "LC_ALL": "C"}, stdout=out)
    wait_until(lambda: "collector 1 virtspool" in bed.broker.output(), 10, "the collector is subscribed")


def test_large_backlog(bed):
    box = Namespaces(bed.directory, mount=True)
    disk = Disk(bed.directory, box)
    disk.tmpfs("size=6g,nr_inodes=0")
    subprocess.run([*box.prefix, program("tests/faults/make-records"), disk.point / "new", str(BACKLOG)], check=True)
    bed.broker.log_type = "subscribe"
    bed.broker.persistent = False
    bed.broker.start()
    received = bed.directory / "received"
    bed.spool = disk
    daemon = bed.daemon
    daemon.prefix = box.prefix
    collect(bed, received)
    start = time.monotonic()
    daemon.start()
    wait_until(lambda: not os.listdir(disk.path("new")), 60 + BACKLOG / 1000, lambda: f"{len(os.listdir(disk.path('new')))} wait", 0.1)
    seconds = time.monotonic() - start
    peak = daemon.process.memory_kib("VmHWM")
    wait_until(lambda: received.read_bytes().count(b"\n") >= BACKLOG, 60, "the subscriber has them", 0.2)

    events = [m.groups() for m in EVENT.finditer(received.read_bytes())]
    sequences = [int(e[1]) for e in events]
    print(f"{BACKLOG} events in {seconds:.1f} s, {BACKLOG / seconds:.0f}/s, VmHWM {peak} KiB")
    assert len(events) == BACKLOG and sequences == list(range(1, BACKLOG + 1)), "each, once, in order"
    assert all(e[1].lstrip(b"0") == e[3] and int(e[0][24:], 16) == int(e[3]) for e in events), "and whole"
    assert max(Counter(e[0] for e in events).values()) == 1
    some = received.read_bytes().splitlines()[:: BACKLOG // 1000]
    assert [schema.errors(json.loads(line)) for line in some] == [[]] * len(some), "and by the schema, all alike"
    assert peak <= MEMORY_KIB or sanitized("virtspoold"), f"{peak} KiB"
    assert len(os.listdir(disk.path("sent"))) == BACKLOG


@pytest.mark.skipif(BACKLOG < 300000, reason="VIRTSPOOL_BACKLOG is less than 300000, and takes minutes then")
def test_large_backlog_on_a_read_only_disk(bed):
    """More than there is room for (QUEUE_STUCK_MAX): memory is bounded, the emergency spool goes on, and so does the rest later."""
    box = Namespaces(bed.directory, mount=True)
    disk = Disk(bed.directory, box)
    disk.tmpfs("size=6g,nr_inodes=0")
    subprocess.run([*box.prefix, program("tests/faults/make-records"), disk.point / "new", str(BACKLOG)], check=True)
    box.run("mount", "-o", "remount,ro", disk.point)
    bed.broker.log_type = "subscribe"
    bed.broker.persistent = False
    bed.broker.start()
    received = bed.directory / "received"
    bed.spool = disk
    hook = Hook(disk)
    hook.prefix = box.prefix
    daemon = bed.daemon
    daemon.prefix = box.prefix
    daemon.config["log"] = {"level": "info"}
    collect(bed, received)

    def arrived(text=b"\n"):
        return received.read_bytes().count(text)

    daemon.start()
    wait_until(lambda: "no more events are taken" in (daemon.status().get("spool_error") or ""), 900, daemon.status, 0.5)
    for _ in range(20):
        hook("started", domain="in-memory")
    wait_until(lambda: arrived(b"in-memory") >= 20, 60, "the emergency spool goes on", 0.5)
    assert arrived() < BACKLOG and len(os.listdir(disk.path("new"))) == BACKLOG
    assert daemon.output().count("cannot remove") == 1, "the log says so once"
    box.run("mount", "-o", "remount,rw", disk.point)
    wait_until(lambda: not os.listdir(disk.path("new")), 900, lambda: f"{len(os.listdir(disk.path('new')))} wait", 0.5)
    wait_until(lambda: len({m.group(1) for m in EVENT.finditer(received.read_bytes())}) >= BACKLOG, 60, "all are there", 1)
    sequences = [int(m.group(2)) for m in EVENT.finditer(received.read_bytes())]
    assert sorted(sequences) == list(range(1, BACKLOG + 1)), "each, once"
    assert daemon.process.memory_kib("VmHWM") <= MEMORY_KIB or sanitized("virtspoold")
