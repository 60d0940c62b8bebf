# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a real libvirtd makes of a hook whose disk fails: the guest starts, runs and stops, and nothing waits for ever."""

import os
import shutil
import time

from lib.record import read_records
from lib.waiting import PATIENCE


def operations(bed, directory):
    return [r.operation.decode() for r in read_records(bed.spool.path(directory)).values()]


def test_guest_on_a_hanging_spool(bed, mounts):
    """Five calls, each of which leaves a child behind that hangs; libvirt must not take one of them for its hook."""
    shutil.rmtree(bed.spool.spooldir)
    mounts.ext4(bed.spool.spooldir, 8)
    for directory in ("tmp", "new"):
        (bed.spool.spooldir / directory).mkdir()
    node = bed.node()
    guest = node.guest("vm1")
    bystander = node.guest("vm2")
    with mounts.frozen(bed.spool.spooldir, limit=60):
        begin = time.monotonic()
        guest.start()
        assert guest.state == "running"
        assert bystander.state == "shut off"
        guest.destroy()
        assert time.monotonic() - begin < 5 * 5 * PATIENCE
        assert operations(bed, "emergency/new") == ["prepare", "start", "started", "stopped", "release"]
    # All of it works again, half a minute later.
    hung = bed.spool.rundir / "hook/hung"
    os.utime(hung, (hung.stat().st_mtime - 31,) * 2)
    guest.start()
    assert guest.state == "running"
    assert operations(bed, "new") == ["prepare", "start", "started"]


def test_guest_without_any_spool(bed):
    """Neither the disk nor the emergency spool: every event is lost, and no guest."""
    node = bed.node()
    guest = node.guest("vm1")
    shutil.rmtree(bed.spool.spooldir / "new")
    for path in bed.spool.rundir.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (bed.spool.rundir / "emergency").touch()
    guest.start()
    assert guest.state == "running"
    node.libvirtd("stop")
    node.libvirtd("start")
    assert guest.state == "running"  # its `reconnect` did not fail
    guest.destroy()
    assert bed.spool.names() == []
