# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The hook killed before and after each of its system calls, and each of them failing with each errno.

The points come from a trace of the real binary, on three ways through it: the usual one, the first hook after a boot
(it makes the run directory and begins an epoch), and a spool that is not there (the emergency spool takes the event).
"""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from lib import Hook, Spool, domain_xml
from lib.inject import Injector
from lib.programs import sanitized
from lib.record import read_records

ERRNOS = "EINTR ENOSPC EDQUOT EROFS EIO EMFILE ENFILE ENOENT EACCES EPERM ENOMEM EAGAIN".split()

# What is tried again.
PASSING = [("read", errno.EINTR), ("read", errno.EAGAIN), ("writev", errno.EINTR), ("fsync", errno.EINTR)]

# These cannot fail, and there is no answer if they did.
CANNOT_FAIL = {"exit", "exit_group"}


class Scenario:
    """One way through the hook, on a tmpfs, where a run costs some milliseconds."""

    def __init__(self, directory, kind):
        self.kind = kind
        self.spool = Spool(directory)
        self.hook = Hook(self.spool)
        self.injector = Injector(directory)
        if kind == "emergency":
            shutil.rmtree(self.spool.spooldir)
        self.document = domain_xml("vm1")
        self.command = [self.hook.installed(), "vm1", "started", "begin", "-"]
        self.epochs = {}

    def run(self, injection=None):
        if self.kind == "boot":
            shutil.rmtree(self.spool.rundir, ignore_errors=True)
        return self.injector.run(self.command, injection, stdin=self.document, env=self.hook.environment)

    def points(self):
        self.follow()
        points = self.run().points
        self.take()
        return points

    def take(self):
        """What is recorded, whole, and removed; nothing else may be in new/. tmp/ is nobody's business."""
        taken = []
        for directory in ("new", "emergency/new"):
            path = self.spool.path(directory)
            records = read_records(path)
            for name, record in records.items():
                assert record.object == b"vm1" and record.operation == b"started", directory
                assert record.document == self.document or "document-truncated" in record.flags
                (path / name).unlink()
            taken += records.values()
        for directory in ("tmp", "emergency/tmp"):
            path = self.spool.path(directory)
            for leftover in path.iterdir() if path.exists() else ():
                leftover.unlink()
        return taken

    def follow(self):
        """A hook that is left alone, and its record."""
        self.run()
        (record,) = self.take()
        return record


@pytest.fixture(params=["usual", "boot", "emergency"])
def scenario(request):
    directory = Path(tempfile.mkdtemp(prefix="virtspool-", dir="/dev/shm"))
    yield Scenario(directory, request.param)
    shutil.rmtree(directory)


def injections(points, actions):
    for p in dict.fromkeys(points):
        for action in actions(p):
            yield p, f"{p.process}.{p.n}:{action}"


def check_sequence(before, after, recorded, where):
    """`before` and `after` are records of undisturbed hooks; a hook between them left what is `recorded`."""
    assert after.id > before.id, where
    assert all(before.id < r.id for r in recorded), where
    ordered = [r for r in recorded if "unordered" not in r.flags]
    if after.epoch != before.epoch:
        assert after.sequence == 1 + sum(r.epoch == after.epoch for r in ordered), where
        return
    # Each number that is missing belongs to an event that is missing.
    missing = after.sequence - before.sequence - 1 - len(ordered)
    assert 0 <= missing <= 1, where
    if missing:
        assert not recorded, where
    for r in ordered:
        assert r.epoch == before.epoch and r.sequence == before.sequence + 1, where


def of_main(points):
    """Without what the C library does before main(): glibc's memory for itself fails with a signal, musl needs none."""
    first = next(i for i, p in enumerate(points) if p.name == "rt_sigprocmask")
    return points[first:]


def errors_of(point):
    return [] if point.name in CANNOT_FAIL else [f"errno={getattr(errno, e)}" for e in ERRNOS]


def test_every_errno(scenario):
    """One call fails once: the event is recorded, once, whole; in the emergency way it may instead leave a hole."""
    points = scenario.points()
    before = scenario.follow()
    tried = 0
    # The way after a boot is long, and but for its own calls the usual one.
    kinds = 4 if scenario.kind == "boot" else len(ERRNOS)
    for point, injection in injections(of_main(points), lambda p: errors_of(p)[:kinds]):
        where = f"{point.name} {injection}"
        run = scenario.run(injection)
        assert (run.status, run.stdout, run.stderr) == (0, b"", b""), (where, run.stderr)
        recorded = scenario.take()
        assert len(recorded) == 1 or (scenario.kind == "emergency" and not recorded), where
        after = scenario.follow()
        if scenario.kind != "boot":
            check_sequence(before, after, recorded, where)
        if not recorded:
            assert after.epoch == before.epoch and after.sequence == before.sequence + 2, f"no hole: {where}"
        # How often it looks for its child's end shifts what comes behind: then it was another call that failed.
        if point in run.points and (point.name, int(injection.rpartition("=")[2])) in PASSING:
            assert recorded and not recorded[0].flags, f"not tried again: {where}"
            tried += 1
        before = after
    assert tried >= len(PASSING) // 2


def test_every_kill(scenario):
    """Killed at any point, one process or all: nothing torn, nothing doubled, no number given out twice."""
    points = scenario.points()
    before = scenario.follow()
    lost = 0
    for point, injection in injections(points, lambda p: ["kill", "kill-after", "kill-all"]):
        where = f"{point.name} {injection}"
        run = scenario.run(injection)
        assert run.stdout == b"" and run.stderr == b"", where
        if point.process > 0 and not injection.endswith("kill-all"):
            assert run.status == 0, where
        recorded = scenario.take()
        # The child that writes to the disk dies alone: then the emergency spool has it.
        assert recorded or point.process == 0 or injection.endswith("kill-all") or scenario.kind == "emergency", where
        if len(recorded) == 2 and point.process > 0:
            # The child was killed when the record was in new/ already: the emergency spool has it too, by the same id.
            assert recorded[0] == recorded.pop(), where
        assert len(recorded) <= 1, where
        lost += not recorded
        after = scenario.follow()
        if scenario.kind != "boot":
            check_sequence(before, after, recorded, where)
        before = after
    assert lost > 10  # it does kill


def test_killed_child_is_seen_at_once(scenario):
    """It is not waited for, and not taken for a disk that hangs."""
    if scenario.kind != "usual":
        return
    point = next(p for p in scenario.points() if p.process == 1 and p.name == "writev")
    scenario.run(f"{point.process}.{point.n}:kill")
    assert len(scenario.take()) == 1 and not (scenario.spool.rundir / "hook/hung").exists()


def test_short_calls(scenario):
    """Half of what was asked for is read or written: the record is whole all the same."""
    points = [p for p in of_main(scenario.points()) if p.name in ("read", "write", "writev", "pread64", "pwrite64")]
    assert points
    for point, injection in injections(points, lambda p: ["half"]):
        run = scenario.run(injection)
        assert (run.status, run.stdout, run.stderr) == (0, b"", b""), injection
        (record,) = scenario.take()
        assert record.document == scenario.document, injection


def test_lasting_errors(scenario):
    """A call fails and goes on failing, in every process: it ends all the same, within the time."""
    points = scenario.points()
    seen = set()
    lasting = [e.replace("errno", "again") for e in errors_of(points[0])[:5]]
    for point, injection in injections(of_main(points), lambda p: [] if p.name in CANNOT_FAIL else lasting):
        key = (point.name, injection.partition(":")[2])
        if key in seen or point.name in ("rt_sigtimedwait", "poll"):
            continue
        if point.name == "write" and sanitized("virtspool-hook"):
            continue  # AddressSanitizer's own warnings would be tried for ever
        seen.add(key)
        run = scenario.run(injection)
        assert (run.status, run.stdout, run.stderr) == (0, b"", b""), f"{point.name} {injection}"
        assert len(scenario.take()) <= 1


def test_waits_that_fail(scenario):
    """poll() and sigtimedwait() that never work: still within five seconds (the tracer's own time is in it)."""
    points = scenario.points()
    for name in ("poll", "rt_sigtimedwait"):
        point = next(p for p in points if p.name == name)
        run = scenario.run(f"{point.process}.{point.n}:again={errno.EINTR}")
        assert (run.status, run.stdout, run.stderr) == (0, b"", b"")
        assert len(scenario.take()) == 1


def test_trace_order(scenario):
    """Nothing is visible before it is durable, and the hook does not end before the directory is."""
    if scenario.kind == "emergency" or sanitized("virtspool-hook"):
        return
    calls = [p.name for p in scenario.points()]
    write, rename, end = (
        max(i for i, c in enumerate(calls) if c == "writev"),
        max(i for i, c in enumerate(calls) if c.startswith("rename")),
        max(i for i, c in enumerate(calls) if c == "exit_group"),
    )
    syncs = [i for i, c in enumerate(calls) if c == "fsync"]
    assert any(write < i < rename for i in syncs)
    assert any(rename < i < end for i in syncs)
    assert os.path.exists(scenario.hook.installed())
