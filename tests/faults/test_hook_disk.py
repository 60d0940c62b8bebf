# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The disk under the hook: full, read-only, out of inodes, gone, broken, hanging. The emergency spool takes over and is
bounded; what even that refuses is one line in the system log and a hole in the sequence.
"""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import threading
import time
import uuid
from pathlib import Path

import pytest
from lib import Hook, Spool, wait_until
from lib.mounts import kinds
from lib.programs import tool
from lib.record import read_records

EMERGENCY_RECORDS = 4096
EMERGENCY_BYTES = 64 << 20


@pytest.fixture
def spool(tmp_path, mounts):
    """On a tmpfs of its own, as some of these tests fill it."""
    mounts.tmpfs(tmp_path / "bed", "size=128m")
    return Spool(tmp_path / "bed")


@pytest.fixture
def hook(spool):
    return Hook(spool)


@pytest.mark.parametrize("directory", ["tmp", "new"])
def test_a_directory_that_is_a_link_leads_root_nowhere(hook, spool, directory):
    """The spool belongs to virtspool, who could put a link to /etc/cron.daily there: the emergency spool takes the event."""
    elsewhere = spool.directory / "elsewhere"
    (spool.spooldir / directory).rename(elsewhere)
    (spool.spooldir / directory).symlink_to(elsewhere)
    hook("started")
    assert os.listdir(elsewhere) == [] and os.listdir(spool.spooldir / ("tmp" if directory == "new" else "new")) == []
    assert len(spool.names("emergency/new")) == 1


class SystemLog:
    """A /dev/log that only this hook sees: its /dev is a directory with nothing but the socket.
    become: options of setpriv to run it with."""

    def __init__(self, hook, directory, become=""):
        self.dev = directory / "dev"
        self.dev.mkdir()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.dev / "log"))
        os.chmod(self.dev / "log", 0o666)
        self.socket.setblocking(False)
        inner = hook.installed()
        become = f"exec setpriv {become}" if become else "exec"
        wrapper = hook.directory / "qemu.d" / "wrapper"
        wrapper.parent.mkdir()
        wrapper.write_text(
            f'#!/bin/sh\nexec {tool("unshare")} -m --propagation private sh -c '
            f'\'mount --bind "{self.dev}" /dev && {become} "{inner}" "$@"\' sh "$@"\n'
        )
        wrapper.chmod(0o755)

    def close(self):
        self.socket.close()

    def lines(self):
        lines = []
        while True:
            try:
                lines.append(self.socket.recv(65536).decode())
            except BlockingIOError:
                return lines


@pytest.fixture
def system_log(hook, tmp_path):
    logs = []

    def make(**options):
        logs.append(SystemLog(hook, tmp_path, **options))
        return logs[0]

    yield make
    for log in logs:
        log.close()


def put_away(spool, directory="new"):
    """What lies there, whole; the directory is empty afterwards."""
    records = read_records(spool.path(directory))
    for name in records:
        (spool.path(directory) / name).unlink()
    return list(records.values())


def age_hung(spool):
    """As if the disk had been given up half a minute ago."""
    hung = spool.rundir / "hook/hung"
    os.utime(hung, (hung.stat().st_mtime - 31,) * 2)


def fill(path):
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 65536)
        except OSError:
            pass
        try:
            while True:
                f.write(b"x")
        except OSError:
            pass


def break_and_mend(name, spool, mounts):
    """Breaks the spool's disk, yields, and mends it."""
    path = spool.spooldir
    shutil.rmtree(path)

    def layout():
        for directory in ("tmp", "new"):
            (path / directory).mkdir(exist_ok=True)

    if name in ("full tmpfs", "full ext4"):
        mounts.tmpfs(path, "size=64k") if name == "full tmpfs" else mounts.ext4(path, 2)
        layout()
        fill(path / "filler")
        yield
        (path / "filler").unlink()
    elif name == "out of inodes":
        mounts.tmpfs(path, "size=1m,nr_inodes=4")
        layout()
        (path / "filler").touch()
        yield
        (path / "filler").unlink()
    elif name == "read-only":
        mounts.ext4(path, 2)
        layout()
        mounts.remount(path, "ro")
        yield
        mounts.remount(path, "rw")
    elif name == "unmounted":
        mounts.ext4(path, 2)
        layout()
        mounts.unmount(path)
        yield
        mounts.ext4(path, 2)
    elif name == "no directory":
        yield
        path.mkdir()
        layout()
    elif name == "a file":
        path.touch()
        yield
        path.unlink()
        path.mkdir()
        layout()


@pytest.mark.parametrize(
    "name",
    ["full tmpfs", "full ext4", "out of inodes", "read-only", "unmounted", "no directory", "a file"],
)
def test_broken_disk(name, spool, hook, mounts):
    """The emergency spool takes over, and the disk again when it can; the sequence has no hole."""
    steps = break_and_mend(name, spool, mounts)
    next(steps)
    for i in range(3):
        assert hook("started", domain=f"vm{i}") < 5
    records = put_away(spool, "emergency/new")
    assert [r.object for r in records] == [b"vm0", b"vm1", b"vm2"]
    assert [r.sequence for r in records] == [1, 2, 3]
    assert spool.names("emergency/tmp") == []

    next(steps, None)
    hook("started", domain="vm3")
    (last,) = put_away(spool)
    assert last.sequence == 4 and last.epoch == records[0].epoch and last.id > records[2].id
    assert spool.names("emergency/new") == [] and spool.names("tmp") == []


@pytest.mark.parametrize("kind", kinds())
def test_hanging_disk(kind, spool, hook, mounts):
    """A frozen file system: back within five seconds, in the emergency spool, and not a second time when it thaws."""
    shutil.rmtree(spool.spooldir)
    mounts.disk(spool.spooldir, kind)
    for directory in ("tmp", "new"):
        (spool.spooldir / directory).mkdir()
    hook("prepare")
    with mounts.frozen(spool.spooldir):
        took = []
        threads = [
            threading.Thread(target=lambda i=i: took.append(hook("started", domain=f"vm{i}", timeout=20)))
            for i in range(8)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        # Not only the process has ended: Hook.raw() has read stdout and stderr to their ends, as libvirt does.
        assert len(took) == 8 and max(took) < 5, took
        records = put_away(spool, "emergency/new")
        assert sorted(r.sequence for r in records) == list(range(2, 10))

        # The next ones do not wait for it again, but for one that tries after a while.
        assert hook("started") < 2 and hook("started") < 2
        age_hung(spool)
        assert 2 < hook("started") < 5
        assert hook("started") < 2
        assert len(put_away(spool, "emergency/new")) == 4

    # What hung goes on now, finds that it was given up, and takes its half away.
    wait_until(lambda: spool.names("tmp") == [], 20, "tmp/ is empty")
    assert [r.operation for r in put_away(spool)] == [b"prepare"]
    age_hung(spool)
    hook("stopped")
    (last,) = put_away(spool)
    assert last.sequence == 14
    assert not (spool.rundir / "hook/hung").exists()


def test_hanging_at_boot(spool, hook, mounts):
    """The first hook of an epoch looks into the spool for the newest event: that may hang too."""
    shutil.rmtree(spool.spooldir)
    shutil.rmtree(spool.rundir)
    mounts.ext4(spool.spooldir, 8)
    for directory in ("tmp", "new"):
        (spool.spooldir / directory).mkdir()
    with mounts.frozen(spool.spooldir):
        assert hook("started", timeout=20) < 5
        (record,) = put_away(spool, "emergency/new")
        assert record.sequence == 1
    wait_until(lambda: spool.names("tmp") == [], 20, "tmp/ is empty")
    assert spool.names() == []


def left_behind(hook):
    """How many of its processes there are."""
    found = 0
    for exe in Path("/proc").glob("[0-9]*/exe"):
        try:
            found += os.readlink(exe) == hook.installed()
        except OSError:
            continue
    return found


@pytest.mark.parametrize("boot", [False, True])
def test_dead_server(spool, hook, mounts, boot):
    """A network file system whose server is gone: already looking the spool directory up hangs."""
    if boot:
        shutil.rmtree(spool.rundir)
    else:
        hook("prepare")
        put_away(spool)
    with mounts.dead(spool.spooldir):
        assert hook("started", timeout=20) < 5
        (record,) = put_away(spool, "emergency/new")
        assert record.sequence == (1 if boot else 2)
        assert left_behind(hook) == (2 if boot else 1)
    age_hung(spool)
    hook("stopped")
    assert [r.operation for r in put_away(spool)] == [b"stopped"]


def test_everything_hangs(spool, hook, mounts):
    """The stamp's lock is held, stdin is silent and the disk frozen: five seconds are for all of it together."""
    hook("prepare")
    put_away(spool)
    shutil.rmtree(spool.spooldir)
    mounts.ext4(spool.spooldir, 8)
    for directory in ("tmp", "new"):
        (spool.spooldir / directory).mkdir()
    r, w = os.pipe()
    with spool.locked(), mounts.frozen(spool.spooldir):
        assert hook.raw(["vm1", "started", "begin", "-"], document=r, timeout=20) < 5
        (record,) = put_away(spool, "emergency/new")
        assert record.flags == {"unordered", "document-truncated"}
    os.close(r)
    os.close(w)


DOT_FILES = 20000  # five times what the emergency spool's bound counts; 400,000 take no longer


def test_everything_at_once(spool, hook, mounts):
    """As before, with an emergency spool that is locked and full of dot files, and an endless document that is slow to
    blank. Eight hooks at the same time."""
    hook("prepare")
    shutil.rmtree(spool.spooldir)
    mounts.ext4(spool.spooldir, 8)
    for directory in ("tmp", "new"):
        (spool.spooldir / directory).mkdir()
    for i in range(DOT_FILES):
        os.mknod(spool.path("emergency/new") / f".{i}")
    r, w = os.pipe()
    emergency = os.open(spool.rundir / "emergency", os.O_RDONLY)
    fcntl.flock(emergency, fcntl.LOCK_EX)

    def write():
        with contextlib.suppress(OSError):
            while True:
                os.write(w, b"<" * 65536)

    took = []

    def call():
        took.append(hook.raw(["vm1", "started", "begin", "-"], document=r, timeout=20))

    writer = threading.Thread(target=write)
    callers = [threading.Thread(target=call) for _ in range(8)]
    writer.start()
    with spool.locked(), mounts.frozen(spool.spooldir):
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    os.close(r)
    writer.join()
    os.close(w)
    os.close(emergency)
    assert len(took) == 8 and max(took) < 5, took
    assert [n for n in spool.names("emergency/new") if not n.startswith(".")] == []


def test_emergency_spool_makes_itself(spool, hook):
    """After a boot there is no run directory, and the disk is not there either."""
    shutil.rmtree(spool.spooldir)
    shutil.rmtree(spool.rundir)
    hook("started")
    (record,) = put_away(spool, "emergency/new")
    assert record.sequence == 1 and not record.flags
    assert (spool.rundir.stat().st_mode & 0o7777) == 0o1775
    assert (spool.path("emergency/new").stat().st_mode & 0o7777) == 0o2770

    # Also when there was one, and the epoch goes on.
    shutil.rmtree(spool.rundir / "emergency")
    hook("stopped")
    (last,) = put_away(spool, "emergency/new")
    assert (last.epoch, last.sequence) == (record.epoch, 2)


@pytest.mark.parametrize(
    "age, owner, used", [(0, 0, False), (31, 0, True), (-3600, 0, True), (0, 12345, True)], ids=str
)
def test_mark_of_a_hanging_disk(spool, hook, age, owner, used):
    """It counts while it is young, not if the clock has been set back since, and not if it is somebody else's."""
    hook("prepare")
    put_away(spool)
    hung = spool.rundir / "hook/hung"
    hung.touch()
    os.chown(hung, owner, -1)
    os.utime(hung, (time.time() - age,) * 2)
    hook("started")
    assert len(put_away(spool)) == used and len(put_away(spool, "emergency/new")) == (not used)


def test_emergency_spool_takes_one_at_a_time(spool, hook):
    """So that hooks which come together do not all see the same last room; but nobody holds them up for long."""
    shutil.rmtree(spool.spooldir)
    hook("prepare")
    emergency = os.open(spool.rundir / "emergency", os.O_RDONLY)
    fcntl.flock(emergency, fcntl.LOCK_EX)
    assert 0.2 <= hook("started") < 5
    os.close(emergency)
    assert len(put_away(spool, "emergency/new")) == 2


def test_run_directory_belongs_to_the_spools_group(spool, hook):
    """The daemon's user reads what root's hook puts there."""
    shutil.rmtree(spool.rundir)
    os.chown(spool.spooldir, -1, 12345)
    hook("started")
    for path in (spool.rundir, spool.path("emergency/new")):
        assert path.stat().st_gid == 12345, path
    # But not what only the hook may write to and lock.
    hook_directory = spool.rundir / "hook"
    assert hook_directory.stat().st_gid != 12345 and hook_directory.stat().st_mode & 0o7777 == 0o711
    assert (hook_directory / "stamp").stat().st_mode & 0o777 == 0o664




def test_loss_line(spool, hook, system_log):
    """Neither the disk nor the emergency spool: a line in the system log names the event, and its number is missing."""
    log = system_log()
    hook("prepare", driver="qemu.d/wrapper")
    (first,) = put_away(spool)
    assert log.lines() == []

    shutil.rmtree(spool.spooldir / "new")
    (spool.rundir / "emergency").rename(spool.rundir / "away")
    (spool.rundir / "emergency").touch()
    assert hook("started", domain="a\nb\x1b%", driver="qemu.d/wrapper") < 5
    (line,) = log.lines()
    assert re.fullmatch(
        r"<27>virtspool-hook\[\d+\]: event lost: 'qemu' 'a%0Ab%1B%25' 'started' 'begin', "
        rf"epoch {first.epoch} sequence 2: cannot write to '.*': No such file or directory, "
        r"nor to the emergency spool in '.*': Not a directory",
        line,
    ), line

    (spool.spooldir / "new").mkdir()
    hook("stopped", driver="qemu.d/wrapper")
    (last,) = put_away(spool)
    assert (last.epoch, last.sequence) == (first.epoch, 3)


def test_root_without_rights(spool, hook, system_log):
    """As on NFS, where root may be nobody: what is lost of the system's own libvirtd is told."""
    hook("prepare")
    put_away(spool)
    for path in (spool.spooldir / "tmp", spool.path("emergency/tmp")):
        os.chown(path, 12345, 12345)
        path.chmod(0o700)
    log = system_log(become="--bounding-set=-all --inh-caps=-all")
    hook("started", driver="qemu.d/wrapper")
    (line,) = log.lines()
    assert line.count("Permission denied") == 2, line


@pytest.mark.parametrize("bound", ["records", "bytes", "tmpfs"])
def test_emergency_spool_is_bounded(bound, spool, hook, mounts, system_log):
    log = system_log()
    hook("prepare", driver="qemu.d/wrapper")
    (first,) = put_away(spool)
    shutil.rmtree(spool.spooldir)
    emergency = spool.path("emergency/new")
    if bound == "records":
        for _ in range(EMERGENCY_RECORDS - 1):
            (emergency / str(uuid.uuid4())).touch()
    elif bound == "bytes":
        with (emergency / str(uuid.uuid4())).open("wb") as f:
            f.truncate(EMERGENCY_BYTES - 2048)
    else:
        mounts.tmpfs(spool.path("emergency"), "size=16k")
        for directory in ("tmp", "new"):
            (spool.path("emergency") / directory).mkdir()
    for i in range(5):
        assert hook("started", domain=f"vm{i}", driver="qemu.d/wrapper") < 5
    kept = [p for p in emergency.iterdir() if 0 < p.stat().st_size < 4096]
    lines = log.lines()
    assert 1 <= len(kept) < 5 and len(lines) == 5 - len(kept), lines
    assert all("No space left on device" in line for line in lines)
    assert len(spool.names("emergency/new")) <= EMERGENCY_RECORDS
    assert sum(p.stat().st_size for p in emergency.iterdir()) <= EMERGENCY_BYTES
    assert spool.names("emergency/tmp") == []

    # Drained, it takes events again; the numbers of the lost ones are missing.
    for path in emergency.iterdir():
        path.unlink()
    hook("stopped", driver="qemu.d/wrapper")
    (last,) = put_away(spool, "emergency/new")
    assert (last.epoch, last.sequence) == (first.epoch, 7)


def test_log_never_waits(spool, hook, system_log):
    """Nobody reads the system log, and its queue is full."""
    log = system_log()
    shutil.rmtree(spool.spooldir)
    shutil.rmtree(spool.rundir)
    spool.rundir.touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                sender.sendto(b"x" * 1000, str(log.dev / "log"))
    assert hook("started", driver="qemu.d/wrapper") < 5
    os.unlink(log.dev / "log")
    assert hook("started", driver="qemu.d/wrapper") < 5


def test_ordinary_user(spool, hook, system_log, tmp_path):
    """A session libvirtd's hook: it may write nowhere, and nothing is said, not even in the system log."""
    hook("prepare")
    os.chmod(spool.spooldir, 0o2770)
    os.chmod(spool.rundir, 0o1775)
    for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent, spool.directory):
        os.chmod(path, 0o755)
    before = (spool.rundir / "hook/stamp").read_bytes()
    log = system_log(become="--reuid 65534 --regid 65534 --clear-groups")
    assert hook("started", driver="qemu.d/wrapper") < 5
    assert log.lines() == []
    assert len(spool.names()) == 1 and (spool.rundir / "hook/stamp").read_bytes() == before
    shutil.rmtree(spool.rundir)
    assert hook("started", driver="qemu.d/wrapper") < 5
    assert log.lines() == []
