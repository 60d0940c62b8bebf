# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Somebody who has taken over virtspoold, or is in its group: he cannot make the hook write outside the spool, exceed its
five seconds, stop writing to the disk, or reuse a sequence number. The directories are as tmpfiles.d makes them, or,
for a host where that has not run, with a spool that is the user's own and without hook/ in the run directory.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from lib import Hook, Spool
from lib.programs import BUILD, missing, tool
from lib.record import read_records

UID = 54321  # plays the user virtspool, and its group
LISTEN_GID = 54322


def make_as_tmpfiles_does(spool):
    """The lines of tmpfiles.d's file, with these numbers for the names."""
    ids = {"root": 0, "virtspool": UID, "virtspool-listen": LISTEN_GID, "-": -1}
    directories = {"/var/spool/virtspool": spool.spooldir, "/run/virtspool": spool.rundir}
    for line in (BUILD / "etc/tmpfiles.d/virtspool.conf").read_text().splitlines():
        if line.startswith(("d ", "f ")):
            kind, path, mode, user, group, _ = line.split()
            top = next(d for d in directories if path.startswith(d))
            path = Path(path.replace(top, str(directories[top])))
            path.mkdir(exist_ok=True) if kind == "d" else path.touch()
            os.chown(path, ids[user], ids[group])
            path.chmod(int(mode, 8))


def make_without_it(spool):
    for path in (spool.spooldir, *spool.spooldir.iterdir()):
        os.chown(path, UID, UID)
        path.chmod(0o2770)
    os.chown(spool.rundir, 0, UID)
    spool.rundir.chmod(0o1775)


@pytest.fixture(params=[make_as_tmpfiles_does, make_without_it])
def spool(request):
    if os.geteuid() != 0:
        missing("needs root: another user's spool")
    directory = Path(tempfile.mkdtemp(prefix="virtspool-", dir="/dev/shm"))
    directory.chmod(0o755)
    spool = Spool(directory)
    request.param(spool)
    spool.is_tight = request.param is make_as_tmpfiles_does
    yield spool
    shutil.rmtree(directory)


@pytest.fixture
def hook(spool):
    return Hook(spool)


def as_virtspool(*command):
    """Whether it worked."""
    become = [tool("setpriv"), "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--inh-caps=-all"]
    return subprocess.run([*become, *map(str, command)], capture_output=True).returncode == 0


def sequences(spool, directory="new"):
    records = read_records(spool.path(directory)).values()
    return {r.epoch: sorted(x.sequence for x in records if x.epoch == r.epoch) for r in records}


def test_nothing_of_the_stamp_can_be_changed(spool, hook):
    """Neither written, nor replaced, nor locked; and a number is never given twice."""
    hook("prepare")
    stamp, directory = spool.rundir / "hook/stamp", spool.rundir / "hook"
    before = stamp.read_bytes()
    for attempt in (
        ["truncate", "-s0", stamp],
        ["rm", "-f", stamp],
        ["mv", stamp, spool.rundir / "elsewhere"],
        ["mv", directory, spool.rundir / "elsewhere"],
        ["touch", directory / "hung"],
        ["touch", "-d", "2020-01-01", stamp],
        ["ln", "-sf", "/dev/null", stamp],
        ["flock", "-n", directory, "true"],
        ["chmod", "777", directory],
    ):
        assert not as_virtspool(*attempt), attempt
    assert stamp.read_bytes() == before
    assert as_virtspool("cat", stamp)  # the daemon reports it
    hook("start")
    (numbers,) = sequences(spool).values()
    assert numbers == [1, 2]


def test_files_where_they_were_once_are_not_heeded(spool, hook):
    """stamp and hung lay in the run directory itself, where the group can make files."""
    hook("prepare")
    for name in ("stamp", "hung"):
        (spool.rundir / name).touch()
        os.chown(spool.rundir / name, 0, UID)
        (spool.rundir / name).chmod(0o660)
    hook("start")
    (numbers,) = sequences(spool).values()
    assert numbers == [1, 2] and spool.names("emergency/new") == []


def test_a_directory_of_somebody_else_is_not_trusted(spool, hook):
    """It was there before the first hook. Every event gets an epoch of its own, so no number comes twice."""
    if spool.is_tight:
        assert not as_virtspool("mv", spool.rundir / "hook", spool.rundir / "elsewhere")
        return
    assert as_virtspool("mkdir", spool.rundir / "hook")
    for _ in range(3):
        hook("prepare")
    assert len(sequences(spool)) == 3
    assert all(r.flags == {"unordered"} for r in read_records(spool.path("new")).values())
    assert list((spool.rundir / "hook").iterdir()) == []


def test_the_hook_goes_on_writing_to_the_disk(spool, hook):
    """The spool's directories cannot be taken out of its way, nor led elsewhere."""
    hook("prepare")
    outside = spool.directory / "outside"
    outside.mkdir()
    os.chown(outside, UID, UID)
    for name in ("new", "tmp"):
        moved = as_virtspool("mv", spool.spooldir / name, spool.spooldir / f"{name}.old")
        assert moved != spool.is_tight
        if moved:
            assert as_virtspool("ln", "-s", outside, spool.spooldir / name)
    hook("start")
    assert list(outside.iterdir()) == []
    if spool.is_tight:
        assert len(spool.names()) == 2 and spool.names("emergency/new") == []


def test_the_high_water_is_not_forged(spool, hook):
    """Ids of the next epoch are above all earlier ones, and not pushed into the future."""
    hook("prepare")
    mark = spool.spooldir / "high-water"
    assert not as_virtspool("touch", "-d", "2090-01-01", mark)
    if spool.is_tight:
        assert not as_virtspool("rm", "-f", mark)
        assert not as_virtspool("mv", mark, spool.spooldir / "elsewhere")
        assert not as_virtspool("rm", "-f", spool.spooldir / "high-water.listen")
    else:
        assert as_virtspool("rm", "-f", mark) and as_virtspool("touch", "-d", "2090-01-01", mark)
        as_virtspool("touch", "-d", "2090-01-01", spool.spooldir / "high-water.listen")
    other = spool.spooldir / "another-of-roots"
    other.touch(0o666)
    os.utime(other, (0, 0))
    (spool.rundir / "hook/stamp").unlink()
    hook("start")
    first, second = read_records(spool.path("new")).values()
    assert first.id < second.id < "01f" and other.stat().st_mtime == 0


def test_five_seconds_for_everything_together(spool, hook):
    """The lock is held, stdin never ends, the disk is not there, and the emergency spool is full of dot files."""
    hook("prepare")
    emergency = spool.path("emergency/new")
    for i in range(50000):
        os.close(os.open(emergency / f".{i}", os.O_WRONLY | os.O_CREAT, 0o600))
    shutil.rmtree(spool.spooldir)
    fd = os.open(spool.rundir / "emergency", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    r, w = os.pipe()
    with spool.locked():
        assert hook.raw(["vm1", "started", "begin", "-"], document=r, timeout=20) < 5
    for x in (fd, r, w):
        os.close(x)
    assert not [p for p in emergency.iterdir() if re.fullmatch(r"[0-9a-f-]{36}", p.name)]  # its bounds hold
