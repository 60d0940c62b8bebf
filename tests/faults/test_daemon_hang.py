# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A spool on a disk that hangs: a hook finds it out, and the daemon does not hang with it. What happens meanwhile lies in
memory, where a power cut would take it, and is delivered at once; what is on the disk follows when the disk answers.
"""

import os
import shutil
import time

import pytest
from lib import Ledger, wait_until
from lib.spool import DIRECTORIES


@pytest.fixture
def ledger(bed):
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    return ledger


def on_disk_of_its_own(bed, mounts):
    shutil.rmtree(bed.spool.spooldir)
    mounts.ext4(bed.spool.spooldir, 8)
    for name in DIRECTORIES:
        (bed.spool.spooldir / name).mkdir()


def test_frozen_disk(bed, mounts, ledger):
    on_disk_of_its_own(bed, mounts)
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    ledger.calls(3)
    wait_until(lambda: not ledger.missing(subscriber), 10, "delivered")
    bed.spool.wait_empty()
    with mounts.frozen(bed.spool.spooldir, limit=60):
        ledger.calls(3)
        wait_until(lambda: not ledger.missing(subscriber), 10, "delivered from memory")
        bed.spool.wait_empty()
        bed.daemon.reload()  # it is awake
        ledger.calls(3)
        wait_until(lambda: not ledger.missing(subscriber), 10, "delivered, again and again")
        bed.spool.wait_empty()
        assert "does not answer" in bed.daemon.status()["spool_error"]
        bed.daemon.wait_quiet()  # nor does it look again and again
    wait_until(lambda: bed.daemon.status()["spool_error"] is None, 10, "it answers again")
    assert (bed.spool.rundir / "hook/hung").exists()  # no hook has tried yet
    wait_until(lambda: "did not reach the disk" not in bed.run("virtspool", "status").stdout, 30, "the daemon has tried")
    ledger.check(subscriber)
    assert len(bed.spool.names("sent")) == 3


def test_what_waits_on_the_disk_follows(bed, mounts, ledger):
    """Without any hook that would tell that the disk answers again."""
    on_disk_of_its_own(bed, mounts)
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger.calls(2)
    with mounts.frozen(bed.spool.spooldir, limit=60):
        ledger.calls(2)
        bed.daemon.start()
        wait_until(lambda: len(ledger.missing(subscriber)) == 2, 10, "what is in memory is delivered")
    wait_until(lambda: not ledger.missing(subscriber), 10, "what is on the disk is delivered")
    bed.spool.wait_empty()


def test_guests_that_a_boot_ended(bed, mounts):
    """The table of the guests that ran is on the disk that hangs; it is read when that answers, and not replaced before."""
    on_disk_of_its_own(bed, mounts)
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.environment["VIRTSPOOL_BOOT_ID"] = "1" * 32
    bed.daemon.start()
    bed.hook.start("vm1")
    subscriber.wait_for(3)
    bed.daemon.stop()
    bed.spool.boot()
    bed.daemon.environment["VIRTSPOOL_BOOT_ID"] = "2" * 32
    with mounts.frozen(bed.spool.spooldir, limit=60):
        bed.hook.start("vm2")
        bed.daemon.start()
        subscriber.wait_for(6)
        begin = time.monotonic()  # it tries every 5 s
        wait_until(lambda: time.monotonic() > begin + 6, 10, "it has tried")
    subscriber.wait_for(7)
    report = subscriber.events[-1]
    assert (report["subject"], report["data"]["operation"], report["data"]["reason"]) == ("vm1", "reconciled", "host booted")


def test_dead_server(bed, mounts, ledger):
    """A network file system whose server is gone before the daemon starts: each look at it would hang."""
    bed.hook("prepare")
    bed.spool.wait_count(1)
    bed.broker.start()
    subscriber = bed.subscriber()
    with mounts.dead(bed.spool.spooldir):
        ledger.calls(2)
        bed.daemon.start()
        wait_until(lambda: not ledger.missing(subscriber), 10, "what is in memory is delivered")
        bed.daemon.restart()
        ledger.calls(1)
        wait_until(lambda: not ledger.missing(subscriber), 10, "what is in memory is delivered")
    subscriber.wait_for(4)
    assert subscriber.operations()[-1] == "prepare"
    bed.spool.wait_empty()


def test_an_old_mark_costs_nothing(bed, ledger):
    """The disk has answered long since, and no hook has come that would have taken the mark away."""
    ledger.calls(1)
    hung = bed.spool.rundir / "hook/hung"
    hung.touch()
    os.utime(hung, (0, 0))
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    ledger.check(subscriber)
    bed.spool.wait_count(1, "sent")
