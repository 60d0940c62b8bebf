# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The daemon and its disk: the archive gives way before new/ suffers, the emergency spool is drained, a spool that vanishes
is found again, and nothing is removed that was not delivered unless the configuration says so. The spool is a file
system of the test's own, in a mount namespace.
"""

import contextlib
import os
import re
import subprocess
import time

import pytest

from lib import Hook, Ledger, Namespaces, Traffic, program, wait_until
from lib.disk import Disk

RETRY = {"retry_min": "1s", "retry_max": "1s"}


@pytest.fixture
def disk(bed):
    box = Namespaces(bed.directory, mount=True)
    bed.spool = Disk(bed.directory, box)
    bed.hook = Hook(bed.spool)
    bed.hook.prefix = box.prefix
    bed.daemon.prefix = box.prefix
    bed.daemon.config["mqtt"] = dict(RETRY)
    bed.ledger = Ledger(bed.hook)
    Ledger.configure(bed.daemon)
    return bed.spool


@pytest.mark.parametrize("options, size", [("size=5m", 9000), ("size=64m,nr_inodes=300", 0)], ids=["space", "inodes"])
def test_archive_gives_way_before_new_suffers(bed, disk, options, size):
    """Several times as much as the disk holds is delivered, with the default limits of sent/."""
    disk.tmpfs(options)
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    least = [1.0]
    in_emergency = 0
    for i in range(500):
        bed.ledger.call(size=size)
        if i % 8 == 0:  # what waits is not what fills the disk here
            disk.wait_empty()
        least.append(min(disk.room()))
        in_emergency += len(disk.names("emergency/new"))
    counts = bed.ledger.check(subscriber)
    disk.wait_empty()
    assert counts["duplicated"] == 0
    assert 0 < len(disk.names("sent")) < 450, "the archive was in use, and gave way"
    assert in_emergency == 0 and min(least) > 0, "no hook met a full disk"
    assert bed.daemon.status()["events"]["dropped"] == 0


def test_archive_on_a_very_small_disk(bed, disk):
    """It has 80 blocks, fewer than there are percents: the archive gives way all the same, and not all of it."""
    disk.tmpfs("size=320k")
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    kept = []
    for _ in range(150):
        bed.ledger.call()
        disk.wait_empty()
        kept.append(len(disk.names("sent")))
    assert bed.ledger.check(subscriber)["duplicated"] == 0
    assert 40 < min(kept[75:]) <= 72, f"a tenth of the disk is made free again: {kept}"


def test_sent_is_bounded_by_size_and_age(bed):
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    bed.daemon.config["spool"] = {"sent_size": "200K", "sent_age": "7d"}
    bed.daemon.start()

    def archived():
        return sum(p.stat().st_blocks * 512 for p in (bed.spool.spooldir / "sent").iterdir())

    for _ in range(60):
        ledger.call(size=8000)
    ledger.check(subscriber)
    bed.spool.wait_empty()
    wait_until(lambda: 100_000 < archived() <= 200 * 1024, 10, lambda: f"sent/ holds {archived()} bytes")
    newest = bed.spool.names("sent")[-1]
    assert bed.spool.records("sent")[-1]["extra"] == "call-60", "the newest are kept"
    # The age counts from the delivery: an event of long ago, delivered a moment ago, stays.
    old = f"01000000-0000-7000-8000-{1:012x}"
    (bed.spool.spooldir / "sent" / newest).rename(bed.spool.spooldir / "sent" / old)
    bed.daemon.reload()
    ledger.call()
    ledger.check(subscriber)
    assert old in bed.spool.names("sent") and len(bed.spool.names("sent")) > 5
    bed.daemon.config["spool"] = {"sent_age": "1s"}
    time.sleep(1.1)  # nothing younger than this is in sent/
    bed.daemon.reload()
    wait_until(lambda: not bed.spool.names("sent"), 10, "what is too old is removed")
    bed.daemon.config["spool"] = {"sent_age": "0"}
    bed.daemon.reload()
    wait_until(lambda: not bed.spool.names("sent"), 10, "nothing is kept")
    ledger.calls(5)
    ledger.check(subscriber)
    bed.spool.wait_empty()
    assert bed.spool.names("sent") == []


def test_full_disk_goes_round_by_the_emergency_spool(bed, disk):
    disk.tmpfs("size=1m")
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.ledger.calls(5)
    ballast = disk.spooldir / "ballast"
    with open(ballast, "wb", buffering=0) as f:
        with pytest.raises(OSError):
            while True:
                f.write(bytes(4096))
    bed.ledger.calls(20)
    wait_until(lambda: not bed.ledger.missing(subscriber), 10, "the daemon drains the emergency spool")
    ballast.unlink()
    bed.ledger.calls(5)
    counts = bed.ledger.check(subscriber)
    disk.wait_empty()
    assert counts["duplicated"] == 0


def test_what_cannot_be_put_away_stays(bed, disk):
    """A record in the emergency spool that is none, and something in the way of its copy to failed/."""
    disk.tmpfs("size=4m")
    bed.ledger.calls(1)
    torn = f"01000000-0000-7000-8000-{1:012x}"
    obstacle = disk.path("tmp") / f"{torn}.copy"
    obstacle.mkdir()
    (disk.path("emergency/new") / torn).write_text("torn")
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.ledger.check(subscriber)
    wait_until(lambda: "to failed/: " in bed.daemon.output(), 10, "it cannot be put away")
    assert disk.names("emergency/new") == [torn]
    obstacle.rmdir()
    wait_until(lambda: torn in disk.failed(), 10, "it is put away when it can be")
    assert disk.read("failed", torn) == b"torn" and not disk.names("emergency/new")


def test_spool_is_unmounted_and_mounted_again(bed, disk):
    """An idle daemon does not hold it; one at work lets go of it; what waits on it comes when it is back."""
    disk.bind()
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.ledger.calls(5, "vm1")
    wait_until(lambda: not bed.ledger.missing(subscriber) and not disk.waiting(), 10, "delivered")
    disk.unmount()
    bed.ledger.calls(5, "vm1")  # to the emergency spool
    wait_until(lambda: not bed.ledger.missing(subscriber), 10, "the emergency spool is drained")
    disk.bind()
    bed.ledger.calls(5, "vm1")
    wait_until(lambda: not bed.ledger.missing(subscriber), 10, "it is found again")

    # With events on it that wait for a broker.
    bed.broker.pause()
    bed.ledger.calls(5, "vm2")
    wait_until(lambda: bed.daemon.status()["in_flight"] == 5, 10, "they are in flight")
    bed.broker.kill()
    wait_until(lambda: bed.daemon.status()["connected"] is False, 10, "the daemon knows")
    assert len(disk.names("new")) == 5
    disk.unmount()
    bed.ledger.calls(5, "vm3")
    bed.broker.start()
    wait_until(lambda: len(bed.ledger.missing(subscriber)) == 5, 15, "what is in the emergency spool arrives")
    assert "cannot open" in bed.daemon.status()["spool_error"]
    disk.bind()
    wait_until(lambda: not bed.ledger.missing(subscriber), 10, "what waited on the disk arrives")

    # In the middle of it.
    with Traffic(bed.ledger, domains=["vm4"], threads=1, pause=0.005):
        wait_until(lambda: bed.ledger.received(subscriber)[-1]["subject"] == "vm4", 10, "events flow")
        disk.unmount("--lazy")
        wait_until(lambda: disk.names("emergency/new"), 10, "hooks use the emergency spool")
        arrived = len(subscriber.events)
        wait_until(lambda: len(subscriber.events) > arrived + 20, 15, "events flow from there")
        disk.bind()
        arrived = len(subscriber.events)
        wait_until(lambda: len(subscriber.events) > arrived + 20, 15, "events flow again")
    wait_until(lambda: not bed.ledger.missing(subscriber), 15, "nothing is lost")
    disk.wait_empty()
    faults = bed.ledger.compare(bed.ledger.received(subscriber))
    # An event that was on the disk when it went comes after those that were not.
    assert not [f for f in faults if not f.startswith("order of vm4")], faults[:3]


def test_spool_is_mounted_late(bed, disk):
    """After the daemon has been started, as it may be at boot; and nothing but the mount tells that it is there."""
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.daemon.wait_connected()
    for size in ("4m", "5m"):
        disk.tmpfs(f"size={size}")
        bed.ledger.calls(2)
        wait_until(lambda: not bed.ledger.missing(subscriber), 10, "it is found")
        disk.wait_empty()
        wait_until(lambda: bed.daemon.status()["in_flight"] == 0, 10, "the daemon has let go of it")
        disk.unmount()
    bed.ledger.check(subscriber)


def test_spool_lies_elsewhere(bed):
    """Behind a link, as an administrator may arrange it: hook and daemon agree about where that is."""
    bed.spool.spooldir.rename(bed.directory / "elsewhere")
    bed.spool.spooldir.symlink_to(bed.directory / "elsewhere")
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    ledger.calls(2)
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    ledger.calls(2)
    ledger.check(subscriber)
    bed.spool.wait_count(4, "sent")
    assert bed.daemon.status()["spool_error"] is None


def test_read_only_spool_is_delivered_once(bed, disk):
    disk.tmpfs("size=4m")
    bed.ledger.calls(20)
    disk.box.run("mount", "-o", "remount,ro", disk.point)
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    wait_until(lambda: not bed.ledger.missing(subscriber), 10, "delivered")
    bed.ledger.calls(5)  # to the emergency spool; and each is a reason to look again
    wait_until(lambda: not bed.ledger.missing(subscriber), 10, "delivered")
    assert len(disk.names("new")) == 20
    disk.box.run("mount", "-o", "remount,rw", disk.point)
    disk.wait_empty()
    counts = bed.ledger.check(subscriber)
    assert counts["duplicated"] == 0


def test_queue_size_drops_the_oldest_and_says_so(bed):
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    bed.daemon.config["spool"] = {"queue_size": "100K"}
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.broker.stop()
    bed.daemon.start()
    for _ in range(60):
        ledger.call(size=8000)

    def size():
        total = 0
        for name in bed.spool.names("new"):
            with contextlib.suppress(FileNotFoundError):  # it was just dropped
                total += (bed.spool.path("new") / name).stat().st_blocks * 512
        return total

    def dropped():
        return re.findall(r"event (\S+) dropped undelivered", bed.daemon.output())

    # Each is removed and then told.
    wait_until(
        lambda: size() <= 100 * 1024 and len(dropped()) == 60 - len(bed.spool.names("new")),
        10,
        lambda: f"new/ holds {size()} bytes, {len(dropped())} were dropped",
    )
    dropped = dropped()
    kept = [r["extra"] for r in bed.spool.records("new")]
    assert 5 <= len(kept) < 60
    assert kept == [f"call-{i}" for i in range(61 - len(kept), 61)], "the newest are kept"
    assert len(dropped) == len(set(dropped)) == 60 - len(kept)
    bed.broker.start()
    wait_until(lambda: len(ledger.missing(subscriber)) == len(dropped), 15, "what was kept arrives")
    bed.spool.wait_empty()
    wait_until(lambda: bed.daemon.status()["events"]["dropped"] == len(dropped), 5, "the status says so")
    assert not ledger.compare(ledger.received(subscriber), holes_allowed=True)


def test_large_directories_are_not_gone_through_for_each_event(bed):
    """With a bound for new/, each event is a reason to look how much is there; a large spool must not make that a load."""
    subprocess.run([program("tests/faults/make-records"), bed.spool.path("sent"), "50000"], check=True)
    bed.daemon.config["spool"] = {"queue_size": "20G", "sent_size": "20G", "sent_age": "1d"}
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()

    def counted():
        bed.hook("prepare")  # the status is written when something has happened
        return bed.daemon.status().get("sent", 0) >= 50000

    wait_until(counted, 30, "all of it was looked at once")
    wall, cpu = time.monotonic(), bed.daemon.process.cpu_seconds()
    for _ in range(40):
        bed.hook("started")
        subscriber.wait_for(bed.hook.calls)
    wall, cpu = time.monotonic() - wall, bed.daemon.process.cpu_seconds() - cpu
    assert cpu < wall / 5, f"{cpu:.2f} s of processor time in {wall:.2f} s"


def test_without_queue_size_everything_is_kept(bed):
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.broker.stop()
    bed.daemon.config["spool"] = {"sent_size": "1K"}
    bed.daemon.start()
    for _ in range(60):
        ledger.call(size=20000)
    bed.broker.start()
    ledger.check(subscriber)


def test_leftovers_of_killed_hooks_are_removed_after_an_age(bed):
    bed.hook("started")  # makes the emergency spool
    old, young = "01000000-0000-7000-8000-000000000001", "01000000-0000-7000-8000-000000000002"
    for directory in ("tmp", "emergency/tmp"):
        for name in (old, f"{old}.copy", young):
            (bed.spool.path(directory) / name).write_bytes(b"virtspool-record 1\n")
        for name in (old, f"{old}.copy"):
            os.utime(bed.spool.path(directory) / name, (time.time() - 3700,) * 2)
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    subscriber.wait_for(1)
    for directory in ("tmp", "emergency/tmp"):
        bed.spool.wait_count(1, directory)
        assert bed.spool.names(directory) == [young]
    assert len(subscriber.events) == 1 and bed.spool.failed() == {}
