# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The recorder is killed before each system call between its subscription and its last acknowledgement, and at random times
while events come; nothing is lost, and nothing is there twice. On SQLite and on PostgreSQL.

That a consumer without the hold does lose is what e2e/test_hold.py shows, with the same client.
"""

import random
import time
from pathlib import Path
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib import wait_until
from lib.postgresql import PostgreSQL
from lib.recorder_rig import Rig, event
from lib.trace import LINE, Call, injecting, tracing

def read_calls(path):
    """Calls of all threads, by the n-th of its name in its thread; from the subscription on, in the order they began."""
    counts, calls, begun = Counter(), [], False
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        match = LINE.match(line)
        if not match:
            continue
        thread, name, text = match.groups()
        counts[thread, name] += 1
        begun = begun or "connected" in text or name == "connect"
        if begun:
            calls.append(Call(name, counts[thread, name], text))
    return calls


def survive(rig, points, workers=3):
    reached = []

    def one(point):
        recorder = rig.run()
        try:
            recorder.start(wait=False, prefix=injecting(point, "signal=KILL"))
            wait_until(lambda: not recorder.process.running or rig.is_over(recorder), 30, "killed, or done")
            if not recorder.process.running:
                reached.append(point)
            recorder.kill()
            rig.finish(recorder)
            return point, rig.faults(recorder)
        except AssertionError as e:
            return point, [str(e)[-600:]]
        finally:
            recorder.close()

    with ThreadPoolExecutor(workers) as pool:
        wrong = [(p, f) for p, f in pool.map(one, points) if f]
    assert not wrong, f"{len(wrong)} of {len(points)} wrong:\n" + "\n".join(f"{p}: {f}" for p, f in wrong[:5])
    return reached


def crash_points(rig):
    recorder = rig.run()
    path = recorder.directory / "trace"
    recorder.start(wait=False, prefix=tracing(path))
    wait_until(lambda: rig.is_over(recorder), 30, lambda: f"all is recorded:\n{recorder.output()}")
    wait_until(lambda: "subscribed to" in recorder.output(), what="it is subscribed")
    recorder.stop()
    assert rig.faults(recorder) == []
    seen, points = set(), []
    for call in read_calls(path):
        # A signal that stops the loop, a clock: nothing that can be seen from outside changes with them.
        if call.name in ("clock_gettime", "getpid", "gettid", "brk", "mprotect", "munmap", "mmap", "exit", "exit_group"):
            continue
        if (call.name, call.n) not in seen:
            seen.add((call.name, call.n))
            points.append(call)
    return points


def test_killed_at_every_system_call(bed):
    rig = Rig(bed)
    points = crash_points(rig)
    assert len(points) > 60, len(points)
    reached = survive(rig, points)
    assert len(reached) > 0.5 * len(points), f"{len(reached)} of {len(points)} crash points were reached"


@pytest.fixture
def server():
    server = PostgreSQL().start()
    yield server
    server.close()


def test_killed_at_system_calls_with_postgresql(bed, server):
    rig = Rig(bed, server)
    points = crash_points(rig)
    reached = survive(rig, points[:: max(1, len(points) // 40)])
    assert len(reached) > 10


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_at_random_times(bed, kind, request):
    """Events come all the time; in each round it is killed somewhere between exec and all of them."""
    server = request.getfixturevalue("server") if kind == "postgresql" else None
    rig = Rig(bed, server)
    recorder = bed.recorder("random", store=server.url("random") if server else None)
    recorder.config["mqtt"]["status_topic"] = "none"
    recorder.start()
    chance = random.Random(2026)
    made = 0
    for _ in range(40):
        for _ in range(100):
            operation, payload = event(made)
            info = rig.publisher.publish(f"virtspool/v1/node1/qemu/u/{operation}", payload, qos=1)
            made += 1
        info.wait_for_publish(20)
        time.sleep(chance.uniform(0, 0.3))
        recorder.kill()
        recorder.start(wait=False)
    wait_until(lambda: len(recorder.ids()) == made, 60, lambda: f"{made} are recorded: {len(recorder.ids())}\n{recorder.output()}")
    assert [r["sequence"] for r in recorder.rows("log", "--oldest")] == list(range(1, made + 1))
    assert recorder.rows("holes") == []
    recorder.wait_subscribed()
    recorder.stop()
