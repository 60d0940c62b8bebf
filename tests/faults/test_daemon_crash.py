# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The daemon is killed before and after each system call between picking an event up and archiving it, and each of these
calls fails with each errno that it can have. The calls are those of a trace of the real program, so a new one is
covered without anyone thinking of it. And it is killed at random times, while hooks, broker and subscriber are live.

The trace covers a scan, two events on disk, one in the emergency spool, and one that is no record at all.
"""

import os
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib import Ledger, Process, Spool, Traffic, program, wait_until
from lib.daemon import to_yaml
from lib.programs import sanitized
from lib.trace import ERRORS, injecting, is_of_event_loop, landed_elsewhere, read_trace, tracing

POISON = "01a1fce9-c414-789b-b42c-b6dae2370565"
ROUNDS = 200


class Rig:
    """One broker and one subscriber for all; each run has a copy of the same spool and is a host of its own."""

    def __init__(self, bed):
        self.bed = bed
        self.ledger = Ledger(bed.hook)
        self.ledger.calls(2)
        bed.hook.environment["VIRTSPOOL_SPOOLDIR"] = "/nonexistent"
        self.ledger.call()
        bed.hook.environment.update(bed.spool.environment)
        assert len(bed.spool.names("new")) == 2 and len(bed.spool.names("emergency/new")) == 1
        (bed.spool.spooldir / "new" / POISON).write_bytes(b"virtspool-record 1\nid: torn")
        bed.broker.start()
        self.subscriber = bed.subscriber()
        self.runs = 0

    def run(self):
        self.runs += 1
        return Run(self, f"run{self.runs}")


class Run:
    def __init__(self, rig, name):
        self.rig, self.name = rig, name
        self.starts = 0
        bed = rig.bed
        self.directory = bed.directory / name
        self.spool = Spool(self.directory)
        shutil.copytree(bed.spool.spooldir, self.spool.spooldir, dirs_exist_ok=True)
        shutil.copytree(bed.spool.rundir, self.spool.rundir, dirs_exist_ok=True)
        config = {
            "host": name,
            "brokers": [bed.broker.url],
            "mqtt": {"retry_min": "1s", "retry_max": "1s", "ack_timeout": "2s"},
            "metrics": {"file": "none"},
            "log": {"level": "debug"},
            "events": {"xml": True},
            "tls": {
                "ca_file": bed.certs.ca,
                "certificate_file": bed.certs.pem("host"),
                "key_file": bed.certs.key("host"),
            },
        }
        (self.directory / "config").write_text(to_yaml(config))

    def start(self, prefix=()):
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **self.spool.environment}
        environment["RUNTIME_DIRECTORY"] = self.directory
        environment.update({k: v for k, v in os.environ.items() if k.startswith(("ASAN_", "UBSAN_", "LSAN_"))})
        if prefix:  # the leak check works with ptrace itself
            environment["ASAN_OPTIONS"] = "detect_leaks=0"
        command = [*prefix, program("virtspoold"), "-c", self.directory / "config"]
        self.starts += 1
        self.process = Process(command, self.directory / f"log{self.starts}", environment)
        return self

    def is_over(self):
        return not self.spool.waiting() and not self.missing()

    def missing(self):
        seen = self.rig.received.get(self.name, ())
        return [m for m in self.rig.ledger.accepted if m not in seen]

    def finish(self, deadline=15):
        """The daemon as it is delivers what is left, and ends when it is told to."""
        wait_until(
            lambda: self.is_over() and "connected to" in self.process.output() or not self.process.running,
            deadline,
            lambda: f"{self.missing()} did not arrive, {self.spool.waiting()} wait",
        )
        assert self.process.running, f"virtspoold ended: {self.process.returncode}"
        assert self.process.stop() == 0

    def faults(self):
        ledger = Ledger(self.rig.ledger.hook, self.name)
        ledger.accepted = self.rig.ledger.accepted
        faults = [f"lost: {m}" for m in self.missing()] + ledger.compare(ledger.received(self.rig.subscriber))
        # Delivered events are archived or, where that failed, removed; the archive has no torn one.
        for name in self.spool.names("sent"):
            try:
                original = self.rig.originals[name]
            except KeyError:
                faults.append(f"in sent/: {name}")
            else:
                if self.spool.read("sent", name) != original:
                    faults.append(f"torn in sent/: {name}")
        failed = [n for n in self.spool.names("failed") if not n.endswith(".reason")]
        if failed != [POISON]:
            faults.append(f"in failed/: {failed}")
        return faults


@pytest.fixture
def rig(bed):
    rig = Rig(bed)
    rig.received = {}
    rig.names = [n for d in ("new", "emergency/new") for n in bed.spool.names(d)]
    rig.originals = {
        n: bed.spool.read(d, n) for d in ("new", "emergency/new") for n in bed.spool.names(d) if n != POISON
    }
    on_message = rig.subscriber.client.on_message

    def collect(client, userdata, message):
        on_message(client, userdata, message)
        event = rig.subscriber.events[-1]
        rig.received.setdefault(event["source"].rpartition("/")[2], set()).add(event["data"].get("reason"))

    rig.subscriber.client.on_message = collect
    return rig


def window(rig, connected=False):
    """
    The calls from the scan that finds the events until the last of them is archived, and two more. An event is read twice:
    before there is a connection, to learn which guests run, and when it is published (connected).
    """
    run = rig.run()
    path = run.directory / "trace"
    run.start(tracing(path)).finish()
    assert run.faults() == []
    calls = read_trace(path)
    names = rig.names
    begin = next(i for i, c in enumerate(calls) if "connected to" in c.text) if connected else 0
    opened = next(
        i for i, c in enumerate(calls) if i > begin and c.name == "openat" and any(f'"{n}"' in c.text for n in names)
    )
    scan = max(
        i for i in range(begin, opened) if calls[i].name == "openat" and f'"{run.spool.spooldir}"' in calls[i].text
    )
    last = max(i for i, c in enumerate(calls) if any(n in c.text for n in names))
    return calls[scan : last + 3]


def survive(rig, points, one, workers):
    """Runs `one` for each point, some at a time; fails with what each of them did wrong."""

    def guarded(point):
        run = rig.run()
        try:
            return point, one(run, point) or run.faults(), run
        except AssertionError as e:
            return point, [str(e)] + run.faults(), run
        finally:
            run.process.kill()

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(guarded, points))
    wrong = [(p, f, r) for p, f, r in results if f]
    text = "\n".join(f"{p[0]} {p[1]}: {f[:3]}\n    {r.process.output()[-700:]}" for p, f, r in wrong[:8])
    assert not wrong, f"{len(wrong)} of {len(points)} wrong:\n{text}"


def test_killed_at_every_system_call(rig):
    calls = window(rig)
    reached = []

    def one(run, point):
        run.start(injecting(*point))
        wait_until(lambda: not run.process.running or run.is_over(), 15, "killed, or done")
        if not run.process.running:
            assert run.process.returncode == -9, f"exit status {run.process.returncode}"
            reached.append(point)
        run.process.kill()
        run.start().finish()

    points = [(c, "signal=KILL") for c in calls]
    survive(rig, points, one, 4)
    # Some calls are made less often when time passes differently.
    assert len(reached) > 0.4 * len(points), f"{len(reached)} of {len(points)} crash points were reached"


def test_every_system_call_fails_with_every_errno(rig):
    # Before it is connected, an error would hit other threads as well, and lines of the log that the test looks for.
    points = [
        (c, f"error={e}")
        for c in window(rig, connected=True)
        for e in ERRORS.get(c.name, ())
        if not (c.name == "read" and is_of_event_loop(c.text))
        # A record that has just been seen is not there any more: then it is gone.
        if not (e == "ENOENT" and c.name == "openat" and any(f'"{n}"' in c.text for n in rig.names))
        # A directory of the run directory that is not there holds nothing, until a hook makes it and is heard.
        if not (e == "ENOENT" and c.name == "openat" and '"emergency/new"' in c.text)
        # AddressSanitizer's own, which ends the program then.
        if not (c.name == "mmap" and sanitized("virtspoold"))
    ]

    def one(run, point):
        log = run.directory / "injected"
        try:
            run.start(injecting(*point, log)).finish()
        except AssertionError:
            if run.process.running or not landed_elsewhere(log):
                raise
            run.start().finish()

    # Most of the time is waiting for a second attempt.
    survive(rig, points, one, 16)


def test_killed_at_random_times(bed):
    """200 rounds, each ended by SIGKILL somewhere between exec and a drained spool."""
    chance = random.Random(2026)
    bed.broker.start()
    subscriber = bed.subscriber()
    ledger = Ledger(bed.hook)
    ledger.configure(bed.daemon)
    bed.daemon.config["mqtt"]["window"] = 10
    bed.daemon.write_config()
    command = [program("virtspoold"), "-c", bed.daemon.config_file]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **bed.spool.environment}
    environment["RUNTIME_DIRECTORY"] = bed.directory
    made, delivering, longest = [], 0, 0.2
    with Traffic(ledger, threads=2, pause=0.01):
        for _ in range(ROUNDS):
            before = len(subscriber.events)
            daemon = Process(command, bed.daemon.log, environment)
            time.sleep(chance.uniform(0, longest))
            assert daemon.running, daemon.output()
            daemon.kill()
            made.append(len(ledger.accepted))
            delivered = len(subscriber.events) > before
            delivering += delivered
            longest *= 0.95 if delivered else 1.05  # however fast the machine is, about half of them deliver
    bed.daemon.start()
    counts = ledger.check(subscriber)
    bed.spool.wait_empty()
    print(counts, "rounds that delivered:", delivering)
    # The rounds were real: hooks all the time, and deaths before, during and after delivery.
    assert made[-1] - made[0] >= ROUNDS and ROUNDS * 0.2 < delivering and counts["duplicated"] > 0
    assert bed.spool.names("tmp") == [] and len(bed.spool.names("sent")) == counts["made"]
    assert [p.name for p in bed.spool.rundir.iterdir() if p.name.startswith(".") and "json" in p.name] in ([], [".status.json.new"])
