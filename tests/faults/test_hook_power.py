# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Power cuts: ext4 (and xfs, where it can be made) on a loop device on a disk that logs writes and flushes (recorder.py), hooks running on it, and the
power cut at many random moments. What was flushed before the cut is there; of what was not, any part may be, down to
the sector. Each event whose hook had returned must be in new/ after the journal's recovery, and nothing there is torn.

No device mapper is asked of the kernel for that. The same disk, stopped, is a device that hangs.

That this can fail is a test of its own: hooks whose fsync() only pretends must lose events.
"""

import importlib.util
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lib import Hook, Spool, domain_xml, wait_until
from lib.inject import Injector, syscall_names
from lib.mounts import kinds, make_filesystem
from lib.programs import missing, tool
from lib.record import Record, Torn

SECTOR = 512
MEGABYTES = 16
COARSE_MS = 1000  # small ext4 inodes have whole seconds


def _load_recorder():
    spec = importlib.util.spec_from_file_location("recorder", Path(__file__).with_name("recorder.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recorder = _load_recorder()


class Recorder:
    """recorder.py as a process."""

    def __init__(self, directory, kind):
        if not Path("/dev/fuse").exists():
            missing("there is no /dev/fuse")
        self.mountpoint, self.image, self.log = directory / "fuse", directory / "image", directory / "log"
        self.mountpoint.mkdir()
        make_filesystem(self.image, kind, MEGABYTES)
        self.process = subprocess.Popen(
            [sys.executable, recorder.__file__, self.mountpoint, self.image, self.log],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout.readline() == b"ready\n"
        self.lock = threading.Lock()

    @property
    def disk(self):
        return self.mountpoint / "disk"

    def mark(self, text):
        with self.lock:
            self.process.stdin.write(f"{text}\n".encode())
            self.process.stdin.flush()
            assert self.process.stdout.readline() == b"marked\n"

    def finish(self):
        """Returns the log."""
        subprocess.run([tool("umount"), self.mountpoint], check=True)
        self.process.wait(20)
        self.close()
        return recorder.read_log(self.log)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def record_hooks(directory, mounts, kind, hooks, lie=False):
    """Runs that many hooks, four at a time, on a recorded disk. Returns (image, log), a mark after each hook."""
    disk = Recorder(directory, kind)
    spool = Spool(directory / "bed")
    try:
        mounts.mount(spool.spooldir, "-t", kind, "-o", "loop", disk.disk)
        for name in ("tmp", "new"):
            (spool.spooldir / name).mkdir()
        subprocess.run([tool("sync"), "-f", spool.spooldir], check=True)
        disk.mark("begin")

        hook = Hook(spool)
        command = hook.installed()
        injectors = []
        for i in range(4):
            (directory / f"inject{i}").mkdir()
            injectors.append(Injector(directory / f"inject{i}") if lie else None)
        fsync = next(number for number, name in syscall_names().items() if name == "fsync")

        def run(thread):
            for i in range(hooks // 4):
                vm = f"vm{thread}-{i}"
                if lie:
                    arguments = [command, vm, "started", "begin", "-"]
                    injectors[thread].run(arguments, f"*{fsync}:lie", stdin=domain_xml(vm), env=hook.environment)
                else:
                    hook("started", domain=vm)
                disk.mark(vm)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert spool.names("emergency/new") == []
        disk.mark("end")
        mounts.unmount(spool.spooldir)
        return disk.image.read_bytes(), disk.finish()
    finally:
        disk.close()


def test_device_that_hangs(tmp_path, mounts):
    """A suspended device: open() and write() go into memory and succeed, fsync() does not come back."""
    disk = Recorder(tmp_path, "ext4")
    spool = Spool(tmp_path / "bed")
    hook = Hook(spool)
    try:
        mounts.mount(spool.spooldir, "-t", "ext4", "-o", "loop", disk.disk)
        for name in ("tmp", "new"):
            (spool.spooldir / name).mkdir()
        hook("prepare")
        assert len(spool.names()) == 1
        disk.process.send_signal(signal.SIGSTOP)
        assert 2 < hook("started", timeout=20) < 5
        assert hook("stopped") < 2
        assert len(spool.names("emergency/new")) == 2
        disk.process.send_signal(signal.SIGCONT)
        wait_until(lambda: spool.names("tmp") == [], 20, "what hung takes its half away")
        assert len(spool.names()) == 1
        mounts.unmount(spool.spooldir)
        disk.finish()
    finally:
        disk.process.send_signal(signal.SIGCONT)
        disk.close()


def write_sectors(image, offset, data, chance):
    """Each sector arrived, or not; but ext4 itself does not survive half a superblock, bytes 1024 to 2047."""
    superblock = random.random() < chance
    for at in range(0, len(data), SECTOR):
        if superblock if 1024 <= offset + at < 2048 else random.random() < chance:
            image[offset + at : offset + at + SECTOR] = data[at : at + SECTOR]


def cut_images(image, log, cuts):
    """Yields (position, image, marks) for each position of the log, with the power cut right before that entry."""
    durable, unflushed, marks = bytearray(image), [], []
    for position, entry in enumerate(log):
        if position in cuts:
            state = bytearray(durable)
            kind = random.choice(("nothing", "writes", "sectors", "all but one"))
            spared = random.randrange(len(unflushed)) if unflushed else None
            for i, (offset, data) in enumerate(unflushed):
                if kind == "sectors":
                    write_sectors(state, offset, data, random.random())
                elif (kind == "writes" and random.random() < 0.5) or (kind == "all but one" and i != spared):
                    state[offset : offset + len(data)] = data
            yield position, state, list(marks)
        if entry[0] == "W":
            unflushed.append(entry[1:])
        elif entry[0] == "F":
            for offset, data in unflushed:
                durable[offset : offset + len(data)] = data
            unflushed.clear()
        else:
            marks.append(entry[1].decode())


def faults_after(directory, mounts, kind, state, marks):
    """Mounts what the cut left, which replays the journal, and says what is lost or torn."""
    (directory / f"after.{kind}").write_bytes(state)
    mounted = mounts.disk(directory / "after", kind)
    try:
        found, faults = {}, []
        for path in (mounted / "new").iterdir():
            try:
                record = Record.parse(path.read_bytes())
                assert record.id == path.name
                found[record.object.decode()] = int(record.id.replace("-", "")[:12], 16)
            except Torn as e:
                faults.append(f"torn: {path.name}: {e}")
        done = [vm for vm in marks if vm.startswith("vm")]
        faults += [f"lost: {vm}" for vm in done if vm not in found]
        # The next id would be above all of these, whatever the clock says, though they were delivered meanwhile.
        mark = mounted / "high-water"
        highest = mark.stat().st_mtime * 1000 if mark.exists() else 0
        faults += [f"above the high water: {vm}" for vm in done if found.get(vm, 0) > highest + COARSE_MS]
        return faults
    finally:
        mounts.unmount(mounted)


def cut_at_random(directory, mounts, kind, image, log, n):
    begin, end = log.index(("M", b"begin")), log.index(("M", b"end"))
    cuts = set(random.sample(range(begin + 1, end + 1), min(n, end - begin)))
    for position, state, marks in cut_images(image, log, cuts):
        yield position, faults_after(directory, mounts, kind, state, marks)


@pytest.mark.parametrize("kind", [k for k in kinds() if k != "btrfs"])
def test_power_cut(kind, tmp_path, mounts):
    seed = random.randrange(1 << 32)
    random.seed(seed)
    image, log = record_hooks(tmp_path, mounts, kind, hooks=80)
    assert sum(e[0] == "M" for e in log) == 82
    assert sum(e[0] == "F" for e in log) > 20 and sum(e[0] == "W" for e in log) > 80
    for position, faults in cut_at_random(tmp_path, mounts, kind, image, log, 150):
        assert not faults, f"cut at {position} of {len(log)}, seed {seed}: {faults}"


def test_power_cut_can_fail(tmp_path, mounts):
    """The same with an fsync() that does nothing: if no cut loses anything, the test above proves nothing."""
    image, log = record_hooks(tmp_path, mounts, "ext4", hooks=20, lie=True)
    assert any(faults for _, faults in cut_at_random(tmp_path, mounts, "ext4", image, log, 40))
