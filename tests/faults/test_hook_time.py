# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Time: the clock stepped back and forward between transitions, a leap to 1970, /run emptied, garbage in the stamp file.
Ids stay unique and sort in the order of the transitions, and a break in the numbering is a new epoch.

The clock that the real, static binary sees is changed by its tracer (inject.c).
"""

import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from lib import Hook, Spool, domain_xml
from lib.inject import Injector
from lib.record import read_records
from lib.waiting import wait_until

HOUR = 3600


def stamp_time(record_id):
    """The time that an id has, in seconds."""
    return int(record_id.replace("-", "")[:12], 16) / 1000


class Clocked:
    """Hooks under another clock."""

    def __init__(self, spool, directory):
        self.spool = spool
        self.hook = Hook(spool)
        self.injector = Injector(directory)
        self.n = 0

    def __call__(self, clock=None, domain="vm1", injection=None):
        """clock: seconds to add, or "100" to set it."""
        self.n += 1
        clock = f"{clock:+d}" if isinstance(clock, int) else clock
        run = self.injector.run(
            [self.hook.installed(), domain, f"step-{self.n}", "begin", "-"],
            injection=injection,
            clock=clock,
            stdin=domain_xml(domain),
            env=self.hook.environment,
        )
        assert (run.status, run.stdout, run.stderr) == (0, b"", b"")
        return run.points

    @contextmanager
    def held(self, point, clock=None):
        """A hook that stands before this system call."""
        held = self.spool.rundir.parent / "held"
        report = self.injector.report
        with ThreadPoolExecutor() as pool:
            self.injector.report = report.with_suffix(".held")
            hook = pool.submit(self, clock, "held", f"{point.process}.{point.n}:hold={held}")
            wait_until(held.exists, 10, "no hook stands at that call")
            self.injector.report = report
            try:
                yield
            finally:
                held.unlink()
                hook.result()

    def records(self):
        """In the order of their names, which is that of the spool; it must be that of the calls."""
        records = list(read_records(self.spool.path("new")).values())
        assert [r.operation for r in records] == [f"step-{i + 1}".encode() for i in range(self.n)]
        assert len({r.id for r in records}) == self.n
        return records


@pytest.fixture
def clocked():
    directory = Path(tempfile.mkdtemp(prefix="virtspool-", dir="/dev/shm"))
    yield Clocked(Spool(directory), directory)
    shutil.rmtree(directory)


def test_steps(clocked):
    """Within an epoch, whatever the clock does: one order, no hole. `recorded` says what the clock said."""
    for clock in (None, 5 * HOUR, None, -5 * HOUR, "100", "101", None, 24 * HOUR, -1, "0", None):
        clocked(clock)
    records = clocked.records()
    assert {r.epoch for r in records} == {records[0].epoch}
    assert [r.sequence for r in records] == list(range(1, 12))
    assert records[4].recorded.startswith("1970-01-01T00:01:40")
    assert records[9].recorded.startswith("1970-01-01T00:00:00")


def test_the_clock_is_changed(clocked):
    """That the tracer reaches this binary's clock at all: the ids would show it if the stamp did not."""
    clocked("100")
    (record,) = clocked.records()
    assert record.recorded.startswith("1970-01-01T00:01:4")
    assert 100 <= stamp_time(record.id) < 110


@pytest.mark.parametrize("clock", [-5 * HOUR, "100"])
def test_boot_with_a_wrong_clock(clocked, clock):
    """/run is emptied and the clock is behind: what waits in the spool keeps its place before what comes."""
    clocked()
    clocked(2 * HOUR)
    clocked.spool.boot()
    clocked(clock)
    clocked(clock)
    records = clocked.records()
    assert records[0].epoch == records[1].epoch != records[2].epoch == records[3].epoch
    assert [r.sequence for r in records] == [1, 2, 1, 2]


@pytest.mark.parametrize("clock", [-5000000, -5, "100"])
def test_boot_with_a_wrong_clock_and_everything_delivered(clocked, clock):
    """Nothing is left in the spool that a new id could be compared with, and nothing in /run."""
    clocked()
    clocked(2 * HOUR)
    before = clocked.records()
    for record in before:
        (clocked.spool.path("new") / record.id).unlink()
    for _ in range(2):
        clocked.spool.boot()
        clocked(clock)
    after = list(read_records(clocked.spool.path("new")).values())
    assert [r.operation for r in after] == [b"step-3", b"step-4"]
    assert before[-1].id < after[0].id and after[0].epoch != after[1].epoch


def test_boot_with_the_right_clock(clocked):
    """Ids show the time again as soon as the clock is above all earlier ids."""
    clocked(-HOUR)
    clocked.spool.boot()
    clocked()
    assert abs(stamp_time(clocked.records()[1].id) - time.time()) < 60


@pytest.mark.parametrize("name", ["ffffffff-ffff-7fff-bfff-ffffffffffff", "01f00000-0000-7000-8000-000000000000"])
def test_implausible_names_in_the_spool(clocked, name):
    """Whoever can write to the spool can make files of any name: they do not move the time of an epoch."""
    clocked()
    for directory in (clocked.spool.path("new"), clocked.spool.rundir / "emergency/new"):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    (clocked.spool.rundir / "hook/stamp").unlink()
    clocked()
    clocked()
    for directory in (clocked.spool.path("new"), clocked.spool.rundir / "emergency/new"):
        (directory / name).unlink()
    records = clocked.records()
    assert stamp_time(records[2].id) < time.time() + 60


def test_stamp_is_lost_while_events_wait_in_the_emergency_spool(clocked):
    """They keep their place as well."""
    shutil.rmtree(clocked.spool.spooldir)
    clocked(5 * HOUR)
    (clocked.spool.rundir / "hook/stamp").unlink()
    clocked()
    records = list(read_records(clocked.spool.path("emergency/new")).values())
    assert [r.operation for r in records] == [b"step-1", b"step-2"]
    assert records[0].epoch != records[1].epoch


def test_boot_again_and_again(clocked):
    for i in range(20):
        clocked(-HOUR * i)
        clocked.spool.boot()
    records = clocked.records()
    assert len({r.epoch for r in records}) == 20 and {r.sequence for r in records} == {1}


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\0" * 102, b"x" * 102, b"virtspool-stamp 1 ", b"\xff" * 100000, None, "fifo", "directory"],
    ids=["empty", "zeros", "letters", "cut", "long", "truncated", "fifo", "directory"],
)
def test_garbage_in_the_stamp_file(clocked, garbage):
    """A damaged stamp begins an epoch; one that cannot even be written gives each event its own, marked so."""
    stamp = clocked.spool.rundir / "hook/stamp"
    clocked()
    clocked(HOUR)
    if garbage is None:
        stamp.write_bytes(stamp.read_bytes()[:-1])
    elif isinstance(garbage, bytes):
        stamp.write_bytes(garbage)
    else:
        stamp.unlink()
        os.mkfifo(stamp) if garbage == "fifo" else stamp.mkdir()
    clocked(-HOUR)
    clocked(-2 * HOUR)
    records = clocked.records()
    assert records[2].epoch != records[0].epoch
    if garbage in ("fifo", "directory"):
        assert records[3].epoch != records[2].epoch
        assert all(r.flags == {"unordered"} for r in records[2:])
    else:
        assert records[3].epoch == records[2].epoch
        assert not any(r.flags for r in records)
    assert [r.sequence for r in records[2:]] == ([1, 1] if isinstance(garbage, str) else [1, 2])


def test_ids_are_not_ahead_of_the_clock(clocked):
    """An epoch that begins in the second in which the last one ended: the clock is not behind, so ids show its time."""
    for _ in range(5):
        clocked()
        clocked.spool.boot()
    assert stamp_time(clocked.records()[-1].id) < time.time()


def test_high_water_rises_while_a_hook_looks_at_it(clocked):
    """The hook that raised it is not a clock that is behind: ids are not ahead of the clock."""
    points = clocked()
    clocked.spool.boot()
    with clocked.held(next(p for p in points if p.process and p.name == "newfstatat")):
        clocked()
        clocked.spool.boot()
    clocked()
    records = list(read_records(clocked.spool.path("new")).values())
    assert len(records) == 4 and len({r.epoch for r in records}) == 3
    assert stamp_time(records[-1].id) < time.time()


def test_floor_is_looked_for_again_under_the_lock(clocked):
    """
    A hook sees no run directory. Until it makes one, others have made it, and it was emptied. Their records are on the
    disk by now: its epoch begins above them, also if the clock is behind.
    """
    points = clocked(0)
    clocked.spool.boot()
    with clocked.held(next(p for p in points if p.name == "mkdirat"), -HOUR):
        for _ in range(3):
            clocked(-HOUR)
        clocked.spool.boot()
    clocked(-HOUR)
    records = list(read_records(clocked.spool.path("new")).values())
    assert [r.operation for r in records] == [f"step-{i}".encode() for i in (1, 3, 4, 5, 2, 6)]


def test_stamp_removed_under_running_hooks(clocked):
    """/run is emptied again and again while hooks run: no id twice, no number of an epoch twice."""
    stop = threading.Event()

    def empty():
        while not stop.wait(0.003):
            for path in clocked.spool.rundir.iterdir():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def run(thread):
        for i in range(40):
            clocked.hook(f"step-{i}", domain=f"vm{thread}")

    emptier = threading.Thread(target=empty)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    emptier.start()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    stop.set()
    emptier.join()
    records = list(read_records(clocked.spool.path("new")).values())
    assert len(records) == 160 and len({r.epoch for r in records}) > 3
    assert len({(r.epoch, r.sequence) for r in records}) == 160
    for thread in range(4):
        own = [r.operation for r in records if r.object == f"vm{thread}".encode()]
        assert own == [f"step-{i}".encode() for i in range(40)]


def test_consumers_are_told(bed, tmp_path):
    """Delivered in the order of the transitions, by the daemon, with the epochs."""
    clocked = Clocked(bed.spool, tmp_path)
    for clock in (None, HOUR, -HOUR, "100"):
        clocked(clock)
    bed.spool.boot()
    for clock in ("50", -HOUR, None):
        clocked(clock)
    records = clocked.records()
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    events = subscriber.wait_for(7)
    bed.spool.wait_empty()
    assert [e["id"] for e in events] == [r.id for r in records]
    assert [e["epoch"] for e in events] == [r.epoch for r in records]
    assert [int(e["sequence"]) for e in events] == [1, 2, 3, 4, 1, 2, 3]
