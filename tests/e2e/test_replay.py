# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool replay: in order, at a rate, killed anywhere, beside a running daemon."""

import os
import random
import subprocess
import time

from lib import program, wait_until
from lib.admin import move
from lib.waiting import PATIENCE


def test_replay_gives_the_same_events_again(running):
    bed = running
    bed.hook.start("vm1")
    bed.hook.stop("vm2")
    first = bed.subscribed.wait_for(5)
    bed.spool.wait_count(5, "sent")
    done = bed.run("virtspool", "replay", "--vm", "vm1", "--dry-run", "--json", check=True)
    assert len(done.stdout.splitlines()) == 3 and len(bed.spool.names("sent")) == 5
    bed.run("virtspool", "replay", "--vm", "vm1", check=True)
    wait_until(lambda: len(bed.subscribed.events) == 8, what="three arrive again")
    bed.spool.wait_count(5, "sent")
    wait_until(lambda: bed.daemon.status()["events"]["replayed"] == 3, what="the daemon has counted")
    assert bed.daemon.status()["sent"] == 5 and "5 events kept" in bed.run("virtspool", "status").stdout
    again = bed.subscribed.events[5:]
    assert [e["id"] for e in again] == [e["id"] for e in first[:3]]
    assert all(e["replayed"] is True for e in again) and not any(e["replayed"] for e in first)
    assert [{**e, "replayed": False} for e in again] == first[:3]
    bed.spool.wait_empty()
    bed.spool.wait_count(5, "sent")


def test_replay_waits_for_the_broker(running):
    bed = running
    bed.hook.start()
    bed.subscribed.wait_for(3)
    bed.spool.wait_count(3, "sent")
    names = bed.spool.names("sent")
    bed.broker.stop()
    wait_until(lambda: bed.daemon.status().get("connected") is False, what="the daemon noticed")
    for _ in range(2):  # repeating it is harmless
        done = bed.run("virtspool", "replay", "--all", check=True)
    assert "not connected" in done.stderr or "0 events" in done.stderr
    assert bed.spool.names("replay") == names and bed.spool.names("sent") == []
    bed.hook.stop()
    bed.broker.start()
    bed.subscribed.wait_subscribed()

    def order():  # a broker that was stopped may repeat what it had not been thanked for
        return list(dict.fromkeys((e["replayed"], e["data"]["operation"]) for e in list(bed.subscribed.events)))[3:]

    wait_until(lambda: len(order()) >= 5, what="they arrive", deadline=20)
    assert order() == [(False, "stopped"), (False, "release"), (True, "prepare"), (True, "start"), (True, "started")]
    bed.spool.wait_count(5, "sent")


def test_replay_of_what_failed(running):
    bed = running
    bed.daemon.stop()
    bed.hook.start()
    names = bed.spool.names("new")
    move(bed, names, "failed", "made up")
    bed.run("virtspool", "replay", "--from", "failed", "--all", check=True)
    assert bed.spool.names("failed") == [] and bed.spool.names("replay") == names and bed.spool.names("tmp") == []
    bed.daemon.start()
    assert [e["id"] for e in bed.subscribed.wait_for(3)] == names


def test_replay_asks_before_more_than_a_hundred(bed):
    bed.hook.many(101)
    move(bed, bed.spool.names("new"), "sent")
    done = bed.run("virtspool", "replay", "--all")
    assert done.returncode == 1 and "--yes" in done.stderr and len(bed.spool.names("sent")) == 101
    bed.run("virtspool", "replay", "--all", "--yes", check=True)
    assert len(bed.spool.names("replay")) == 101


def test_replay_at_a_rate(bed):
    bed.hook.many(11)
    move(bed, bed.spool.names("new"), "sent")
    start = time.monotonic()
    bed.run("virtspool", "replay", "--all", "--rate", "20/s", check=True)
    assert 0.5 <= time.monotonic() - start < 5 * PATIENCE
    assert len(bed.spool.names("replay")) == 11
    done = bed.run("virtspool", "replay", "--all", "--rate", "fast")
    assert done.returncode == 64 and "50/s" in done.stderr


def test_replay_killed_anywhere_loses_and_doubles_nothing(running):
    bed = running
    n = 300
    bed.daemon.stop()
    bed.hook.many(n)
    names = bed.spool.names("new")
    move(bed, names, "sent")
    failed = names[::3]
    for name in failed:
        (bed.spool.path("sent") / name).rename(bed.spool.path("failed") / name)
        (bed.spool.path("failed") / f"{name}.reason").write_text("made up\n")
    chance = random.Random(4)
    kills = 0
    for _ in range(400):
        tool_ = subprocess.Popen(
            [program("virtspool"), "replay", "--all", "--yes"],
            env={**os.environ, **bed.spool.environment},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0, 0.004))
        tool_.kill()
        kills += tool_.wait() == -9
        # At each moment every event is in one place.
        everywhere = [x for d in ("sent", "failed", "replay") for x in bed.spool.names(d) if not x.endswith(".reason")]
        assert sorted(everywhere) == names
        if len(bed.spool.names("replay")) == n:
            break
    assert kills > 0
    bed.run("virtspool", "replay", "--all", "--yes", check=True)
    assert bed.spool.names("replay") == names
    bed.daemon.start()
    events = bed.subscribed.wait_for(n, deadline=30)
    bed.spool.wait_empty()
    assert [e["id"] for e in events] == names and bed.subscribed.duplicates == 0


def test_replays_while_the_daemon_drains(running):
    """Several at a time, killed now and then: every event is in one place, and nothing is missing at the end."""
    bed = running
    n = 200
    bed.hook.many(n)
    bed.subscribed.wait_for(n)
    bed.spool.wait_count(n, "sent")
    names = bed.spool.names("sent")
    chance = random.Random(5)
    end = time.monotonic() + 3
    replays = []
    while time.monotonic() < end:
        replays = [p for p in replays if p.poll() is None]
        replays.append(
            subprocess.Popen(
                [program("virtspool"), "replay", "--all", "--yes"],
                env={**os.environ, **bed.spool.environment},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0, 0.01))
            chance.choice(replays).kill()
        if len(replays) > 3:
            replays.pop(0).wait(10)
    for p in replays:
        p.wait(10)
    bed.run("virtspool", "replay", "--all", "--yes", check=True)  # one that nobody kills
    bed.spool.wait_empty(30)
    bed.spool.wait_count(n, "sent")
    assert bed.spool.names("sent") == names and bed.spool.names("failed") == []
    again = lambda: {e["id"] for e in list(bed.subscribed.events) if e["replayed"]}  # noqa: E731
    wait_until(lambda: again() == set(names), 20, lambda: f"missing: {set(names) - again()}")
    bed.subscribed.check_complete(n)


def test_a_directory_named_like_an_id_does_not_stop_replay(at_rest):
    bed = at_rest
    names = bed.spool.names("new")
    move(bed, names, "sent")
    blocking = bed.spool.path("sent") / "00000000-0001-7000-8000-000000000001"
    blocking.mkdir()
    done = bed.run("virtspool", "replay", "--all")
    assert done.returncode == 1 and bed.spool.names("sent") == [blocking.name] and bed.spool.names("replay") == names
    assert "8 events put back" in done.stderr and f"cannot replay event {blocking.name} in sent/: Is a directory" in done.stderr
