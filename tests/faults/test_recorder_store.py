# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store fails in every way that it can: the recorder stays connected, acknowledges nothing, says why, and goes on."""

import contextlib
import json
import os
import sqlite3
import subprocess
import time

import pytest

from lib import wait_until
from lib.postgresql import PostgreSQL
from lib.recorder_rig import Rig, event
from lib.waiting import PATIENCE

# Seconds. Three keep-alives of 5 s and more, libmosquitto's least; VIRTSPOOL_OUTAGE=600 takes ten minutes, with one of 60 s.
OUTAGE = int(os.environ.get("VIRTSPOOL_OUTAGE", 18))
KEEP_ALIVE = "60s" if OUTAGE >= 200 else "5s"


def outlast():
    end = time.monotonic() + OUTAGE
    wait_until(lambda: time.monotonic() > end, OUTAGE + 60, "time passes", interval=0.5)


@pytest.fixture
def server():
    server = PostgreSQL().start()
    yield server
    server.close()


def publish(rig, numbers):
    for n in numbers:
        operation, payload = event(n)
        info = rig.publisher.publish(f"virtspool/v1/node1/qemu/u/{operation}", payload, qos=1)
    info.wait_for_publish(20)


def start(bed, store=None):
    rig = Rig(bed)
    recorder = bed.recorder("record", store=store)
    recorder.config["mqtt"]["status_topic"] = "none"
    recorder.config["mqtt"]["keep_alive"] = KEEP_ALIVE
    recorder.start()
    publish(rig, range(5))
    recorder.wait_for(5)
    return rig, recorder


def check(recorder, n):
    wait_until(lambda: len(recorder.ids()) == n, 60, lambda: f"{n} are recorded: {len(recorder.ids())}\n{recorder.output()}")
    assert [r["sequence"] for r in recorder.rows("log", "--oldest")] == list(range(1, n + 1))
    assert recorder.output().count("subscribed to") == 1, "the connection was lost meanwhile"


def test_locked_for_three_keep_alives(bed):
    rig, recorder = start(bed)
    db = sqlite3.connect(recorder.database, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    publish(rig, range(5, 300))
    recorder.process.wait_output("the store does not take events", 30)
    assert "locked" in recorder.output()
    outlast()
    assert recorder.process.running
    db.execute("ROLLBACK")
    db.close()
    check(recorder, 300)
    assert "takes events again" in recorder.output()


def test_full_and_back(bed):
    """A disk of its own, which is full and has room again."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    path = bed.directory / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0755", "tmpfs", path], check=True)
    try:
        rig, recorder = start(bed, store=f"sqlite://{path}/recorder.db")
        filler = path / "filler"
        with open(filler, "wb", buffering=0) as f, contextlib.suppress(OSError):
            while True:
                f.write(b"x" * 4096)
        publish(rig, range(5, 600))
        recorder.process.wait_output("the store does not take events", 30)
        assert "full" in recorder.output()
        filler.unlink()
        check(recorder, 600)
        recorder.stop()
    finally:
        subprocess.run(["umount", "-l", path], check=False)


def test_the_disk_turns_read_only(bed, mounts):
    """As after an error that the file system does not survive; it is mounted anew later. Meanwhile no new file is made
    in the directory that it was mounted on, and hidden by it then."""
    path = mounts.ext4(bed.directory / "disk", 64)
    path.chmod(0o755)
    rig, recorder = start(bed, store=f"sqlite://{path}/recorder.db")
    mounts.remount(path, "abort")
    publish(rig, range(5, 100))
    recorder.process.wait_output("the store does not take events", 30)

    def unmounted():  # between two attempts it is not in use
        try:
            mounts.unmount(path)
        except subprocess.CalledProcessError:
            return False
        return True

    wait_until(unmounted, 60, lambda: f"the recorder lets go of the disk:\n{recorder.output()}")
    subprocess.run(["e2fsck", "-p", mounts.directory / "disk.ext4"], check=False)  # it says that it mended it
    mounts.ext4(path)
    check(recorder, 100)


def test_the_file_is_gone(bed):
    """Its directory is moved away, as by an unmount, and comes back: what was committed is there, and nothing is lost."""
    (bed.directory / "state").mkdir()
    rig, recorder = start(bed, store=f"sqlite://{bed.directory}/state/recorder.db")
    os.rename(bed.directory / "state", bed.directory / "away")
    publish(rig, range(5, 50))
    recorder.process.wait_output("the store does not take events", 30)
    os.rename(bed.directory / "away", bed.directory / "state")
    check(recorder, 50)


def test_postgresql_is_killed_and_comes_back(bed, server):
    rig, recorder = start(bed, store=server.url("record"))
    server.kill()
    publish(rig, range(5, 300))
    recorder.process.wait_output("the store does not take events", 30)
    outlast()
    server.start()
    check(recorder, 300)


def test_postgresql_does_not_answer(bed, server):
    """It is stopped in the middle of a connection for more than three keep-alives."""
    rig, recorder = start(bed, store=server.url("record"))
    server.pause()
    publish(rig, range(5, 300))
    outlast()
    assert recorder.process.running
    server.resume()
    check(recorder, 300)


def test_stopping_while_the_store_hangs(bed, server):
    """SIGTERM is bounded, and what was not committed comes again."""
    rig, recorder = start(bed, store=server.url("record"))
    server.pause()
    publish(rig, range(5, 100))
    begin = time.monotonic()
    recorder.stop()
    assert time.monotonic() - begin < 15 * PATIENCE
    server.resume()
    recorder.start()
    wait_until(lambda: len(recorder.ids()) == 100, 60, "all is recorded")


def test_broker_is_killed(bed):
    rig, recorder = start(bed)
    publish(rig, range(5, 200))
    bed.broker.stop()
    bed.broker.start()
    wait_until(lambda: recorder.output().count("subscribed to") == 2, 30, "it is back")
    rig.publisher = rig.client("publisher2")
    publish(rig, range(200, 300))
    wait_until(lambda: len(recorder.ids()) == 300, 60, lambda: f"300 are recorded: {len(recorder.ids())}")
    assert json.loads(recorder.command("hosts", "--json").stdout)["missing"] == 0


def test_two_recorders_share_a_subscription(bed, server):
    """Each event goes to one of them; one is killed on the way: nothing is lost, nothing is there twice."""
    rig = Rig(bed)
    recorders = []
    for name in ("one", "two"):
        recorder = bed.recorder(name, store=server.url("shared"))
        recorder.config["mqtt"].update(share="recorders", status_topic="none")
        recorders.append(recorder.start())
    publish(rig, range(1000))
    recorders[0].kill()
    publish(rig, range(1000, 2000))
    recorders[0].start()
    publish(rig, range(2000, 2500))
    last = recorders[1]
    wait_until(lambda: len(last.ids()) == 2500, 120, lambda: f"2500 are recorded: {len(last.ids())}\n{last.output()[-2000:]}")
    assert [r["sequence"] for r in last.rows("log", "--oldest")] == list(range(1, 2501))
    assert last.rows("holes") == []
    operations = [(o["operation"], o["outcome"]) for o in last.rows("timeline", "web1")]
    assert operations == [("start", "success"), ("stop", "success")] * 500
    # Both took part.
    shares = server.sql("shared", "SELECT count(DISTINCT received) FROM events")
    assert int(shares[0][0]) > 2
