# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool, the admin's tool: on a spool at rest, beside a running daemon, in pipes, and on a terminal."""

import json
import os
import random
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from lib import Behaviour, Namespaces, program, wait_until
from lib.disk import Disk
from lib.documents import domain_uuid, domain_xml
from lib.programs import ROOT, missing, tool

COMMANDS = ["status", "list", "show", "replay", "drop", "purge", "watch", "test", "doctor"]


@pytest.fixture
def running(bed):
    """Broker, subscriber and daemon, connected."""
    bed.broker.start()
    bed.subscribed = bed.subscriber()
    bed.daemon.start()
    bed.daemon.wait_connected()
    return bed


@pytest.fixture
def at_rest(bed):
    """web1 started and stopped, db1 started; nobody drains it."""
    bed.hook.start("web1")
    bed.hook.stop("web1", extra="shutdown")
    bed.hook.start("db1")
    return bed


def listed(bed, *arguments, **options):
    done = bed.run("virtspool", "list", "--json", *arguments, check=True, **options)
    return [json.loads(line) for line in done.stdout.splitlines()]


def move(bed, names, to, reason=None):
    for n in names:
        (bed.spool.path("new") / n).rename(bed.spool.path(to) / n)
        if reason:
            (bed.spool.path(to) / f"{n}.reason").write_text(reason + "\n")


# --- list


def test_list_tells_what_is_where(at_rest):
    bed = at_rest
    names = bed.spool.names("new")
    move(bed, names[:2], "sent")
    move(bed, names[2:3], "failed", "the broker refused it: Packet too large (0x95)")
    events = listed(bed, "--oldest")
    assert [e["id"] for e in events] == names
    assert [e["where"] for e in events] == ["sent", "sent", "failed"] + ["new"] * 5
    assert [e["operation"] for e in events] == ["prepare", "start", "started", "stopped", "release", "prepare", "start", "started"]
    assert [e["sequence"] for e in events] == list(range(1, 9))
    assert events[2]["failure"] == "the broker refused it: Packet too large (0x95)"
    assert events[4]["reason"] == "shutdown" and events[4]["name"] == "web1" and events[4]["uuid"] == domain_uuid("web1")
    assert [e["id"] for e in listed(bed)] == names[::-1]
    assert [e["id"] for e in listed(bed, "sent", "failed", "--oldest")] == names[:3]
    text = bed.run("virtspool", "list", "failed", check=True).stdout.splitlines()
    assert len(text) == 2 and text[0].startswith("ID ") and names[2] in text[1] and "Packet too large" in text[1]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--vm", "web1"], 5),
        (["--vm", "w*"], 5),
        (["--vm", "nobody"], 0),
        (["--vm", domain_uuid("db1")], 3),
        (["--vm", domain_uuid("db1").upper()], 3),
        (["--op", "start*"], 4),
        (["--op", "start", "--vm", "db1"], 1),
        (["--driver", "qemu"], 8),
        (["--driver", "lxc"], 0),
        (["--since", "1h"], 8),
        (["--since", "yesterday"], 8),
        (["--until", "1h"], 0),
        (["--since", "2000-01-01", "--until", "2100-01-01"], 8),
        (["--limit", "3"], 3),
        (["-n", "100"], 8),
    ],
)
def test_filters(at_rest, arguments, expected):
    assert len(listed(at_rest, *arguments)) == expected


def test_time_is_the_ids(at_rest):
    bed = at_rest
    first, *_, last = listed(bed, "--oldest")
    assert [e["id"] for e in listed(bed, "--since", last["time"])] == [last["id"]]
    assert first["id"] not in [e["id"] for e in listed(bed, "--since", last["time"])]
    assert last["id"] not in [e["id"] for e in listed(bed, "--until", last["time"])]


def test_a_directory_that_is_gone_is_told(at_rest):
    bed = at_rest
    bed.spool.path("failed").rmdir()
    done = bed.run("virtspool", "list", "--json")
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 8 and "cannot open failed/" in done.stderr
    assert bed.run("virtspool", "replay", "--all", "--from", "sent").returncode == 0
    assert bed.run("virtspool", "replay", "--all").returncode == 1


def test_a_damaged_record_is_shown_as_such(at_rest):
    bed = at_rest
    name = bed.spool.names("new")[0]
    path = bed.spool.path("new") / name
    path.write_bytes(path.read_bytes()[:-10])
    (event,) = (e for e in listed(bed) if e["id"] == name)
    assert "cut off" in event["problem"] and "name" not in event
    assert "cut off" in bed.run("virtspool", "show", name).stdout
    assert name in bed.run("virtspool", "list", check=True).stdout


def test_what_is_no_event_is_listed_shown_and_dropped(running):
    """The daemon moves it to failed/; there it is seen, and goes when it is told to, by the name that is shown."""
    bed = running
    bed.hook("start")
    bed.spool.wait_count(1, "sent")
    name, shown = "evil\x1b[2J\nö name", "evil%1B[2J%0A%C3%B6 name"
    (bed.spool.path("tmp") / "x").write_text("hello")
    (bed.spool.path("tmp") / "x").rename(bed.spool.path("new") / name)
    bed.spool.wait_count(2, "failed")
    (line,) = [line for line in bed.daemon.output().splitlines() if shown in line]
    assert "moved to failed/" in line
    (bed.spool.path("failed") / ".hidden").write_text("")
    (bed.spool.path("failed") / "directory").mkdir()
    (bed.spool.path("failed") / "directory" / "full").write_text("")
    expected = {shown, ".hidden", "directory"}

    assert {e["file"] for e in listed(bed, "failed")} == expected
    assert len(listed(bed)) == 4 and len(listed(bed, "--limit", "2")) == 2
    assert [e["id"] for e in listed(bed, "--vm", "*")] == bed.spool.names("sent")
    assert len(listed(bed, "failed", "--since", "1h")) == 3 and listed(bed, "failed", "--until", "1h") == []
    assert shown in bed.run("virtspool", "list", "failed", check=True).stdout
    done = bed.run("virtspool", "status")
    assert done.returncode == 1 and "no event (3); see `virtspool list failed`" in done.stdout
    assert json.loads(bed.run("virtspool", "status", "--json").stdout)["failed"] == {
        "events": 0,
        "bytes": 0,
        "estimated": False,
        "foreign": 3,
    }

    text = bed.run("virtspool", "show", shown, check=True).stdout
    assert re.search(r"^failure +not a record: its name is not an event's id$", text, re.M) and "5 bytes" in text
    assert bed.run("virtspool", "show", "--raw", shown, check=True).stdout == "hello"
    assert json.loads(bed.run("virtspool", "show", "--json", shown, check=True).stdout)["file"] == shown
    for arguments in (["--xml", shown], ["--raw", "directory"], ["evil"], [name]):
        done = bed.run("virtspool", "show", *arguments)
        assert done.returncode == 1 and done.stdout == "", arguments

    done = bed.run("virtspool", "replay", "--all", "--from", "failed")
    assert done.returncode == 0 and "0 events put back" in done.stderr
    assert bed.run("virtspool", "replay", shown).returncode == 1
    done = bed.run("virtspool", "drop", "--all", "--dry-run", "--json", check=True)
    assert {json.loads(line)["file"] for line in done.stdout.splitlines()} == expected
    assert "3 files that are no events would be dropped" in done.stderr
    bed.run("virtspool", "drop", "--yes", "--op", "*", check=True)
    done = bed.run("virtspool", "drop", shown)
    assert done.returncode == 1 and "drop 1 file that is no event" in done.stderr and len(bed.spool.names("failed")) == 3
    assert bed.run("virtspool", "drop", "--yes", "evil").returncode == 1
    bed.run("virtspool", "drop", "--yes", shown, check=True)
    assert set(os.listdir(bed.spool.path("failed"))) == {".hidden", "directory"}
    done = bed.run("virtspool", "drop", "--yes", "--all", "--from", "failed")
    assert done.returncode == 1 and "'directory' in failed/: Directory not empty" in done.stderr
    (bed.spool.path("failed") / "directory" / "full").unlink()
    bed.run("virtspool", "drop", "--yes", "--all", "--from", "failed", check=True)
    assert os.listdir(bed.spool.path("failed")) == []
    done = bed.run("virtspool", "drop", "--yes", "--all", "--from", "failed", check=True)
    assert done.stderr == "nothing to drop\n"


def test_of_many_only_what_is_shown_is_read(bed):
    """66,000 records: names are looked at, files are not opened; the size of so many is reckoned from a part."""
    subprocess.run([program("tests/faults/make-records"), bed.spool.path("sent"), "66000"], check=True, timeout=60)
    trace = bed.directory / "trace"

    def calls(call, *arguments):
        """How often it was made for a record."""
        strace = [tool("strace"), "-o", trace, "-e", f"trace={call}"]
        environment = {"PATH": "/usr/bin:/bin", **bed.spool.environment}
        subprocess.run([*strace, program("virtspool"), *arguments], env=environment, capture_output=True, timeout=60)
        return len(re.findall(r'"[0-9a-f]{8}-', trace.read_text()))

    assert calls("openat", "list", "--limit", "3") == 3
    assert calls("openat", "list", "--limit", "3", "--oldest", "sent") == 3
    newest = listed(bed, "--limit", "1")[0]
    assert newest["sequence"] == 66000
    assert calls("openat", "show", newest["id"]) == 1
    assert calls("newfstatat", "status") == 65536
    status = json.loads(bed.run("virtspool", "status", "--json").stdout)["sent"]
    assert status["events"] == 66000 and status["estimated"] and status["bytes"] == 66000 * 4096
    assert "66000 events kept, about 257.8 MiB" in bed.run("virtspool", "status").stdout


def test_what_stands_in_for_a_record_is_not_followed(bed):
    name = "01a1fcec-a57a-77cf-8000-0000000007cf"
    (bed.spool.path("failed") / name).symlink_to("/etc/passwd")
    done = bed.run("virtspool", "show", "--raw", name)
    assert done.returncode == 1 and done.stdout == "" and "a symbolic link" in done.stderr
    assert "a symbolic link" in bed.run("virtspool", "show", name, check=True).stdout


@pytest.mark.parametrize("place", ["failed", "sent", "new"])
def test_a_directory_that_is_a_link_leads_root_nowhere(bed, place):
    """It belongs to virtspool, who could put a link there; who asks is root."""
    name = "01a1fcec-a57a-77cf-8000-0000000007cf"
    elsewhere = bed.directory / "elsewhere"
    bed.spool.path(place).rename(elsewhere)
    bed.spool.path(place).symlink_to(elsewhere)
    for file in (name, f"{name}.reason", "passwd"):
        (elsewhere / file).write_text("somebody else's")
    for command in (["purge", "--keep", "0", "--yes"], ["drop", "--yes", name], ["drop", "--yes", "passwd"],
                    ["replay", "--from", "sent" if place == "new" else place, "--all", "--yes"]):  # fmt: skip
        bed.run("virtspool", *command)
    assert sorted(os.listdir(elsewhere)) == [name, f"{name}.reason", "passwd"]


def test_an_empty_id_is_none(bed):
    """drop --yes "$ID" of a script in which ID is not set, where there is one event only."""
    bed.hook("start")
    for command in (["show", ""], ["drop", "--yes", ""]):
        assert bed.run("virtspool", *command).returncode == 1
    assert len(bed.spool.names("new")) == 1


# --- names that want to drive the terminal

EVIL = "a\x1b[31mred\x1b]0;title\x07\x9b\u009b2J\r\n\t\x7fb"


def test_names_do_not_drive_the_terminal(bed):
    bed.hook("start", domain=EVIL, document=domain_xml("x").replace(b"<name>x", "<name>\u009bx\x1b[2J".encode()))
    name = bed.spool.names("new")[0]
    move(bed, [name], "failed", "because of \x1b[2J this")
    for arguments in (["list"], ["list", "--json"], ["show", name], ["show", "--json", name], ["replay", "--all", "--dry-run"]):
        done = bed.run("virtspool", *arguments)
        for stream in (done.stdout, done.stderr):
            bad = [c for c in stream if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0]
            assert not bad, (arguments, bad, stream)
    # --raw and --xml give the bytes, but not to a terminal.
    assert bed.run("virtspool", "show", "--xml", name).stdout.count("\x1b[2J") == 1
    done = bed.run("virtspool", "drop", "--yes", name)
    assert "\x1b" not in done.stderr and bed.spool.names("failed") == []


# --- show


def test_show(at_rest):
    bed = at_rest
    bed.daemon.write_config("host: node1\nbrokers: [mqtt://127.0.0.1:1]\n")
    names = bed.spool.names("new")
    name = names[4]
    config = ["-c", bed.daemon.config_file]
    text = bed.run("virtspool", "show", name, *config, check=True).stdout
    for expected in (name, "web1", "release", "shutdown", f"virtspool/v1/node1/qemu/{domain_uuid('web1')}/release", '"specversion"'):
        assert expected in text
    shown = json.loads(bed.run("virtspool", "show", "--json", name, *config, check=True).stdout)
    assert shown["event"]["id"] == name and shown["where"] == "new" and shown["wanted"] is True
    # The record is told without a configuration as well.
    done = bed.run("virtspool", "show", "--json", name, "-c", bed.directory / "nowhere", check=True)
    assert json.loads(done.stdout)["operation"] == "release" and "cannot be used" in done.stderr
    raw = subprocess.run(
        [program("virtspool"), "show", "--raw", name], capture_output=True, check=True, env={**os.environ, **bed.spool.environment}
    )
    assert raw.stdout == bed.spool.read("new", name)
    xml = bed.run("virtspool", "show", "--xml", name, check=True).stdout
    assert xml.strip() == domain_xml("web1").decode().strip()
    # Any unique beginning will do.
    n = next(i for i in range(1, 37) if sum(x.startswith(name[:i]) for x in names) == 1)
    assert name in bed.run("virtspool", "show", name[:n], *config, check=True).stdout
    if n > 1:
        done = bed.run("virtspool", "show", name[: n - 1])
        assert done.returncode == 1 and "several" in done.stderr
    done = bed.run("virtspool", "show", "ffffffff")
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) <= 2


def test_show_tells_attempts_and_the_reason_of_a_failure(bed):
    bed.broker.acl = ["user consumer", "topic read virtspool/#"]
    bed.broker.options += ["max_queued_messages 1000"]  # with 0, mosquitto 2.0.11 disconnects whom it denies
    bed.broker.start()
    bed.daemon.start()
    bed.hook("start")
    wait_until(lambda: bed.daemon.status().get("retried"), what="the refusal is in the status")
    (name,) = bed.spool.names("new")
    text = bed.run("virtspool", "show", name, "-c", bed.daemon.config_file, check=True).stdout
    assert re.search(r"attempts +\d+ without success; the last: .*0x87", text), text
    done = bed.run("virtspool", "status")
    assert done.returncode == 1 and "0x87" in done.stdout
    # Dropped, it troubles nobody any more.
    bed.run("virtspool", "drop", "--yes", name, check=True)
    assert bed.run("virtspool", "status").returncode == 0


# --- replay


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
    assert 0.5 <= time.monotonic() - start < 5
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
    bed.spool.wait_empty(30)
    bed.spool.wait_count(n, "sent")
    assert bed.spool.names("sent") == names and bed.spool.names("failed") == []
    again = {e["id"] for e in bed.subscribed.events if e["replayed"]}
    assert again == set(names)
    bed.subscribed.check_complete(n)


def test_list_while_the_daemon_drains(bed):
    n = 500
    bed.hook.many(n)
    bed.broker.start()
    bed.daemon.config["mqtt"]["window"] = 1
    bed.daemon.start()
    seen = set()
    while bed.spool.names("new"):
        events = listed(bed, "--all")
        assert len(events) == n == len({e["id"] for e in events})
        seen |= {e["where"] for e in events}
    assert seen == {"new", "sent"}


# --- drop and purge


def test_drop_asks_and_removes(at_rest):
    bed = at_rest
    names = bed.spool.names("new")
    move(bed, names[:1], "failed", "made up")
    done = bed.run("virtspool", "drop", names[0])
    assert done.returncode == 1 and "--yes" in done.stderr and names[0] in bed.spool.names("failed")
    assert bed.run("virtspool", "drop").returncode == 64
    done = bed.run("virtspool", "drop", "--yes", names[0], check=True)
    assert f"dropped {names[0]} from failed/: qemu web1 prepare, sequence 1" in done.stderr
    assert bed.spool.names("failed") == []
    bed.run("virtspool", "drop", "--yes", "--from", "new", "--vm", "web*", check=True)
    assert bed.spool.names("new") == names[5:]


def test_drop_is_logged_with_who_and_what(at_rest):
    """In a mount namespace with a /dev of its own, where we are the system log."""
    bed = at_rest
    if os.geteuid() != 0:
        missing("root is needed for a /dev/log of one's own")
    name = bed.spool.names("new")[0]
    path = f"/tmp/virtspool-log-{os.getpid()}-{time.monotonic_ns()}"
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(path)
    log.settimeout(10)
    try:
        script = 'mount -t tmpfs none /dev && touch /dev/log && mount --bind "$1" /dev/log && exec "$2" drop --yes "$3"'
        subprocess.run(
            [tool("unshare"), "--mount", "--propagation", "private", "sh", "-c", script, "sh", path, program("virtspool"), name],
            check=True,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **bed.spool.environment},
            timeout=20,
        )
        line = log.recv(4096).decode()
    finally:
        log.close()
        os.unlink(path)
    assert "virtspool[" in line and f"root dropped event {name} from new/: qemu web1 prepare" in line
    assert name not in bed.spool.names("new")


def test_purge_by_age_and_size(at_rest):
    bed = at_rest
    names = bed.spool.names("new")
    move(bed, names, "sent")
    assert "0 events" in bed.run("virtspool", "purge", "--older-than", "1h", "--dry-run", check=True).stdout
    last_time = listed(bed, "--limit", "1")[0]["time"]
    bed.run("virtspool", "purge", "--older-than", last_time, "--yes", check=True)
    kept = [n for n in names if n[:13] == names[-1][:13]]  # an id tells its time to the millisecond
    assert bed.spool.names("sent") == kept
    bed.run("virtspool", "purge", "--keep", "0", "--yes", check=True)
    assert bed.spool.names("sent") == []
    assert bed.run("virtspool", "purge").returncode == 64


# --- status


def test_status_is_a_health_check(running):
    bed = running
    bed.hook.start()
    bed.subscribed.wait_for(3)
    wait_until(lambda: bed.daemon.status().get("sent") == 3, what="the daemon has counted")
    done = bed.run("virtspool", "status")
    assert done.returncode == 0 and done.stdout.startswith("healthy"), done.stdout
    for expected in (bed.broker.url, "connected since", "TLS1.3", "3 events kept", f"pid {bed.daemon.pid}", "3 in epoch"):
        assert expected in done.stdout
    status = json.loads(bed.run("virtspool", "status", "--json", check=True).stdout)
    assert status["health"] == "healthy" and status["sent"]["events"] == 3 and status["stamp"]["sequence"] == 3

    bed.broker.stop()
    wait_until(lambda: bed.daemon.status().get("connected") is False, what="the daemon noticed")
    bed.hook.start()
    done = bed.run("virtspool", "status")
    assert done.returncode == 1 and "not connected to a broker" in done.stdout and "waiting      3 events" in done.stdout
    assert "last error" in done.stdout

    bed.daemon.stop()
    done = bed.run("virtspool", "status", "--json")
    status = json.loads(done.stdout)
    assert done.returncode == 2 and status["health"] == "down" and status["waiting"]["events"] == 3


def test_status_without_a_spool(running):
    """Its file system is not mounted: down, whatever the daemon says, and what there is to tell is told."""
    bed = running
    bed.broker.stop()
    bed.hook.start()
    name = bed.spool.names("new")[0]
    bed.spool.path("emergency/new").mkdir(parents=True, exist_ok=True)
    shutil.move(bed.spool.path("new") / name, bed.spool.path("emergency/new") / name)
    bed.spool.spooldir.rename(bed.directory / "elsewhere")
    done = bed.run("virtspool", "status")
    assert done.returncode == 2 and done.stderr == "" and done.stdout.startswith("down\n")
    assert "cannot open the spool" in done.stdout and "mounted?" in done.stdout and "(1 event)" in done.stdout
    status = json.loads(bed.run("virtspool", "status", "--json").stdout)
    assert status["health"] == "down" and status["code"] == 2 and status["daemon"]["pid"] == bed.daemon.pid
    done = bed.run("virtspool", "list")
    assert done.returncode == 1 and "mounted?" in done.stderr and len(done.stderr.splitlines()) == 1
    (bed.directory / "elsewhere").rename(bed.spool.spooldir)


def test_status_sees_a_killed_daemon(running):
    bed = running
    bed.daemon.kill()
    assert (bed.spool.rundir / "status.json").exists()
    done = bed.run("virtspool", "status", "-q")
    assert done.returncode == 2 and done.stdout == ""


def test_status_tells_of_the_emergency_spool_and_of_failures(running):
    bed = running
    bed.broker.stop()
    bed.hook.start("vm1")
    name = bed.spool.names("new")[0]
    bed.spool.path("emergency/new").mkdir(parents=True, exist_ok=True)
    shutil.move(bed.spool.path("new") / name, bed.spool.path("emergency/new") / name)
    (bed.spool.path("failed") / bed.spool.names("new")[0]).write_text("x")
    done = bed.run("virtspool", "status")
    assert done.returncode == 1 and "emergency spool" in done.stdout and "could not be delivered" in done.stdout


# --- test


def probe(bed, *arguments):
    config = ["-c", bed.daemon.config_file, "--hook", bed.hook.installed("qemu")]
    done = bed.run("virtspool", "test", "--json", *config, *arguments)
    legs = json.loads(done.stdout)
    assert list(legs) == ["hook", "spool", "broker", "back"]
    return done.returncode, legs


def test_probe_times_each_leg(running):
    bed = running
    code, legs = probe(bed)
    assert code == 0 and all(leg["ok"] for leg in legs.values()), legs
    times = [leg["milliseconds"] for leg in legs.values()]
    assert times[0] <= times[1] and 0 < min(times) and max(times) < 5000
    (event,) = bed.subscribed.wait_for(1)
    assert event["data"]["operation"] == "probe" and legs["spool"]["text"] == event["id"]
    done = bed.run("virtspool", "test", "-c", bed.daemon.config_file, "--hooksdir", bed.hook.directory)
    assert done.returncode == 0 and done.stdout.count(" ok ") == 4 and done.stderr == ""


def test_probe_without_the_right_to_read(bed):
    bed.broker.acl = ["user host", "topic write virtspool/#"]
    bed.broker.start()
    bed.daemon.start()
    bed.daemon.wait_connected()
    code, legs = probe(bed)
    assert code == 0 and legs["broker"]["ok"] is True and legs["back"]["ok"] is None and "ACL" in legs["back"]["text"]


def test_probe_finds_a_silent_refusal(bed):
    """MQTT 3.1.1: acknowledged, and dropped by the broker's ACL."""
    bed.broker.acl = ["user host", "topic read virtspool/#"]
    bed.broker.start()
    bed.daemon.config["mqtt"]["version"] = "3.1.1"
    bed.daemon.start()
    bed.daemon.wait_connected()
    code, legs = probe(bed)
    assert code == 1 and legs["broker"]["ok"] is True and legs["back"]["ok"] is False
    assert "3.1.1" in legs["back"]["how"]


def test_probe_says_which_leg_fails(bed):
    bed.daemon.config["events"] = {"skip_operations": ["probe"]}
    bed.broker.start()
    bed.daemon.start()
    bed.daemon.wait_connected()
    code, legs = probe(bed)
    assert code == 1 and legs["spool"]["ok"] and not legs["broker"]["ok"] and "filters it out" in legs["broker"]["text"]
    bed.broker.stop()
    wait_until(lambda: bed.daemon.status().get("connected") is False, what="the daemon noticed")
    code, legs = probe(bed, "--timeout", "1")
    assert code == 1 and legs["broker"]["ok"] is False and "not connected" in legs["broker"]["text"]
    assert "doctor" in legs["broker"]["how"] and legs["back"]["ok"] is None
    bed.daemon.stop()
    code, legs = probe(bed, "--timeout", "1")
    assert code == 1 and "not running" in legs["broker"]["text"] and "systemctl start" in legs["broker"]["how"]
    code, legs = probe(bed, "--hook", "/bin/false")
    assert code == 1 and legs["hook"]["ok"] is False and "hooks install" in legs["hook"]["how"]
    code, legs = probe(bed, "--hook", "/bin/true", "--timeout", "1")
    assert code == 1 and legs["hook"]["ok"] is True and legs["spool"]["ok"] is False and "how" in legs["spool"]
    done = bed.run("virtspool", "test", "-c", bed.daemon.config_file, "--hooksdir", bed.directory / "nowhere")
    assert done.returncode == 1 and "hooks install" in done.stderr


# --- doctor


def doctor(bed, *arguments, config=None):
    done = bed.run(
        "virtspool", "doctor", "--json", "-c", config or bed.daemon.config_file, "--hooksdir", bed.hook.directory, *arguments
    )
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == (1 if any(f["grade"] == "bad" for f in findings) else 0)
    assert all("how" in f for f in findings)
    return findings


def found(findings, check, text):
    """The grade and the remedy of the finding that says this."""
    (f,) = [f for f in findings if f["check"] == check and text in f["text"]] or [{"grade": None, "how": findings}]
    return f["grade"], f["how"]


def test_doctor_of_what_is_well(running):
    bed = running
    bed.hook.start()
    wait_until(lambda: bed.daemon.status().get("connected"), what="the status is there")
    findings = doctor(bed)
    assert found(findings, "configuration", "is valid")[0] == "ok"
    assert found(findings, "certificates", "certificate and key match")[0] == "ok"
    grade, how = found(findings, "certificates", "our certificate ends in")  # the tests' are short-lived
    assert grade == "warning" and "renew" in how
    assert found(findings, "certificates", "the broker's certificate ends in")[0] == "warning"
    assert found(findings, "broker", "verified")[0] == "ok"
    assert found(findings, "daemon", "running and connected")[0] == "ok"
    assert found(findings, "hook", "records the events of qemu")[0] == "ok"
    text = bed.run("virtspool", "doctor", "-c", bed.daemon.config_file, "--hooksdir", bed.hook.directory).stdout
    assert re.search(r"^\d+ bad, \d+ warnings$", text, re.M)


def test_doctor_of_brokers_and_certificates(bed):
    bed.broker.start()
    bed.daemon.config["mqtt"]["version"] = "3.1.1"
    bed.daemon.config["tls"]["server_name"] = "elsewhere.example"
    bed.daemon.write_config()
    findings = doctor(bed)
    assert found(findings, "mqtt", "3.1.1")[0] == "warning"
    (broker,) = [f for f in findings if f["check"] == "broker"]
    assert broker["grade"] == "bad" and "elsewhere.example" in broker["text"] and "tls.ca_file" in broker["how"]
    assert found(findings, "daemon", "not running")[0] == "bad"
    bed.broker.stop()
    (broker,) = [f for f in doctor(bed) if f["check"] == "broker"]
    assert broker["grade"] == "bad" and "refused" in broker["text"]

    bed.daemon.config["tls"]["key_file"] = bed.certs.key("consumer")
    bed.daemon.write_config()
    (finding,) = [f for f in doctor(bed) if f["check"] == "certificates"]
    assert finding["grade"] == "bad" and "is not the one of the certificate" in finding["text"]
    name = bed.certs.client("ended", expired=True)
    bed.daemon.config["tls"]["certificate_file"] = bed.certs.pem(name)
    bed.daemon.config["tls"]["key_file"] = bed.certs.key(name)
    bed.daemon.write_config()
    grade, how = found(doctor(bed), "certificates", "our certificate has ended")
    assert grade == "bad" and "renew" in how

    bed.daemon.write_config("brokers: [mqtts://localhost]\nmqqt: {}\n")
    findings = doctor(bed)
    assert any(f["check"] == "configuration" and f["grade"] == "bad" and ":2:1:" in f["text"] for f in findings)


def test_doctor_of_hooks(bed):
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    bed.hook.directory.mkdir()
    main = bed.hook.directory / "qemu"
    grade, how = found(doctor(bed), "hook", "not recorded")
    assert grade == "bad" and how == "virtspool hooks install"
    main.write_text("#!/bin/sh\n")
    grade, how = found(doctor(bed), "hook", "is another hook")
    assert grade == "bad" and how == "virtspool hooks install"
    ours = bed.hook.directory / "qemu.d" / "virtspool"
    ours.parent.mkdir()
    shutil.copy(program("virtspool-hook"), ours)
    assert found(doctor(bed), "hook", f"'{ours}' records the events of qemu")[0] == "ok"
    other = ours.parent / "virtspool.bak"
    shutil.copy(main, other)
    other.chmod(0o755)
    assert found(doctor(bed), "hook", str(other))[0] == "warning"
    ours.chmod(0o644)
    grade, how = found(doctor(bed), "hook", "not executable")
    assert grade == "bad" and "chmod" in how
    ours.chmod(0o757)
    assert found(doctor(bed), "hook", "can be written by others")[0] == "bad"


def test_doctor_of_hooks_that_are_not_as_they_should_be(bed):
    if os.geteuid() != 0:
        missing("root is needed for another's file")
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    hook = Path(bed.hook.installed("qemu"))
    member = bed.hook.directory / "qemu.d" / "virtspool"
    member.parent.mkdir()
    shutil.copy(hook, member)
    grade, how = found(doctor(bed), "hook", "both record each event")
    assert grade == "warning" and how == "virtspool hooks install DRIVER"
    member.unlink()
    os.chown(hook, 65534, 0)
    grade, how = found(doctor(bed), "hook", "belongs to uid 65534, and runs as root")
    assert grade == "bad" and "chown" in how
    os.chown(hook, 0, 0)
    # What was installed is another file than what lies in /usr/libexec, as after an upgrade that did not reach it.
    script = """
        mount -t tmpfs none /usr/libexec && mkdir /usr/libexec/virtspool && cp "$1" /usr/libexec/virtspool/virtspool-hook
        [ "$2" = same ] || echo more >>/usr/libexec/virtspool/virtspool-hook
        exec "$V" doctor --json -c "$C" --hooksdir "$H" """
    for case, grade in (("same", None), ("other", "warning")):
        done = subprocess.run(
            [tool("unshare"), "--mount", "--propagation", "private", "sh", "-c", script, "sh", hook, case],
            capture_output=True,
            text=True,
            timeout=20,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "V": program("virtspool"),
                "C": str(bed.daemon.config_file),
                "H": str(bed.hook.directory),
                **bed.spool.environment,
            },
        )
        assert found([json.loads(line) for line in done.stdout.splitlines()], "hook", "is of another version than")[0] == grade


def test_doctor_of_what_lies_in_the_spool(bed):
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    findings = doctor(bed)
    assert found(findings, "mqtt", "without encryption")[0] == "warning"
    assert found(findings, "space", " free")[0] == "ok"
    bed.hook.start()
    first, second, third = bed.spool.names("new")
    bed.spool.path("emergency/new").mkdir(parents=True, exist_ok=True)
    shutil.move(bed.spool.path("new") / first, bed.spool.path("emergency/new") / first)
    move(bed, [second], "failed", "made up")
    (bed.spool.path("failed") / "notes.txt").write_text("")
    (bed.spool.path("new") / third).rename(bed.spool.path("sent") / f"0f{third[2:]}")
    findings = doctor(bed)
    assert found(findings, "spool", "in the emergency spool")[0] == "warning"
    assert found(findings, "spool", "1 event could not be delivered")[0] == "warning"
    grade, how = found(findings, "spool", "what is no event: 1")
    assert grade == "warning" and "virtspool drop" in how
    grade, how = found(findings, "clock", "of the future")
    assert grade == "warning" and "until the clock has caught up" in how


def test_doctor_of_space(bed):
    """A disk that is nearly full, has nearly no inodes, is read-only."""
    if os.geteuid() != 0:
        missing("root is needed for a disk of one's own")
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    box = Namespaces(bed.directory, mount=True)
    disk = Disk(bed.directory, box)
    disk.tmpfs("size=4m,nr_inodes=200")

    def space():
        command = [*box.prefix, program("virtspool"), "doctor", "--json", "-c", bed.daemon.config_file]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **disk.environment}
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment)
        (finding,) = [f for f in map(json.loads, done.stdout.splitlines()) if f["check"] == "space"]
        return finding

    assert space()["grade"] == "ok"
    ballast = disk.path("sent") / "ballast"
    ballast.write_bytes(bytes(3900 * 1024))
    assert space()["grade"] == "bad" and "KiB are left" in space()["text"] and "virtspool purge" in space()["how"]
    ballast.unlink()
    for i in range(185):
        (disk.path("sent") / str(i)).write_text("")
    assert space()["grade"] == "bad" and "inodes are left" in space()["text"]
    box.run("mount", "-o", "remount,ro", disk.point)
    assert space()["grade"] == "bad" and "read-only" in space()["text"] and "remount,rw" in space()["how"]


def test_doctor_of_confinement(bed):
    """What AppArmor and SELinux would forbid a hook, in a mount namespace whose /sys says that they are on."""
    if os.geteuid() != 0:
        missing("root is needed for a /sys of one's own")
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    hook = bed.hook.installed("qemu")
    script = """
        mount -t tmpfs none /sys && mkdir -p /sys/module/apparmor/parameters /sys/fs/selinux/booleans /etc/libvirt
        echo "$APPARMOR" >/sys/module/apparmor/parameters/enabled; echo "$SELINUX" >/sys/fs/selinux/enforce
        echo "$BOOLEAN" >/sys/fs/selinux/booleans/virt_hooks_unconfined
        mount -t tmpfs none /etc/libvirt && mkdir /etc/libvirt/hooks && cp "$HOOK" /etc/libvirt/hooks/qemu
        ln -s "$HOOK" /etc/libvirt/hooks/lxc
        [ -z "$LABEL" ] || /usr/bin/python3 -c 'import os; os.setxattr("/etc/libvirt/hooks/qemu", "security.selinux", os.environ["LABEL"].encode())'
        exec "$V" doctor --json -c "$C" --hooksdir "$DIRECTORY" """

    def warnings(directory="/etc/libvirt/hooks", apparmor="N", selinux="0", label="", boolean="1 1"):
        done = subprocess.run(
            [tool("unshare"), "--mount", "--propagation", "private", "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=20,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "V": program("virtspool"),
                "C": str(bed.daemon.config_file),
                "HOOK": hook,
                "DIRECTORY": str(directory),
                "APPARMOR": apparmor,
                "SELINUX": selinux,
                "LABEL": label,
                "BOOLEAN": boolean,
                **bed.spool.environment,
            },
        )
        findings = [json.loads(line) for line in done.stdout.splitlines()]
        return [(f["text"], f["how"]) for f in findings if "AppArmor" in f["text"] or "SELinux" in f["text"]]

    assert warnings() == []
    ((text, how),) = warnings(apparmor="Y")  # the file is where it may be, the link leads out
    assert f"not '{hook}'" in text and "not as a link" in how
    assert len(warnings(bed.hook.directory, apparmor="Y")) == 1
    assert warnings(bed.hook.directory) == []
    ((text, how),) = warnings(selinux="1", label="system_u:object_r:etc_t:s0")
    assert "'/etc/libvirt/hooks/qemu' has the label system_u:object_r:etc_t:s0" in text
    assert "restorecon -R /etc/libvirt/hooks" in how
    assert warnings(selinux="1", label="system_u:object_r:virt_hook_t:s0") == []
    ((text, how),) = warnings(selinux="1", label="system_u:object_r:virt_hook_t:s0", boolean="0 0")
    assert "boolean virt_hooks_unconfined is off" in text and how.startswith("setsebool -P virt_hooks_unconfined on")
    assert warnings(boolean="0 0") == []
    assert warnings(selinux="0", label="system_u:object_r:etc_t:s0") == []


def test_doctor_of_owners_and_modes(bed):
    """In a mount namespace with a user virtspool."""
    if os.geteuid() != 0:
        missing("root is needed for a user that is none")
    uid = 64321
    for name, line in (("passwd", f"virtspool:x:{uid}:{uid}::/:/bin/false"), ("group", f"virtspool:x:{uid}:")):
        lines = Path(f"/etc/{name}").read_text().splitlines(keepends=True)
        text = "".join(x for x in lines if not x.startswith("virtspool:"))
        (bed.directory / name).write_text(text + line + "\n")
    key = bed.directory / "host.key"
    shutil.copy(bed.certs.key("host"), key)
    key.chmod(0o600)
    bed.daemon.config["tls"]["key_file"] = key
    bed.daemon.config["brokers"] = ["mqtts://127.0.0.1:1"]
    bed.daemon.write_config()
    for d in [bed.spool.spooldir, *bed.spool.spooldir.iterdir()]:
        os.chown(d, uid, uid)
        d.chmod(0o2770)
    os.chown(bed.spool.rundir, 0, uid)
    bed.spool.rundir.chmod(0o1775)

    def examine():
        script = 'mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group && "$2" doctor --json -c "$3"'
        done = subprocess.run(
            [tool("unshare"), "--mount", "--propagation", "private", "sh", "-c", script, "sh", bed.directory]
            + [program("virtspool"), bed.daemon.config_file],
            capture_output=True,
            text=True,
            timeout=20,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **bed.spool.environment},
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    findings = examine()
    assert found(findings, "spool", "its directories are there")[0] == "ok"
    grade, how = found(findings, "certificates", f"cannot read '{key}'")
    assert grade == "bad" and "chgrp virtspool" in how
    os.chown(key, 0, uid)
    key.chmod(0o640)
    new = bed.spool.path("new")
    new.chmod(0o700)
    bed.spool.path("failed").rmdir()
    findings = examine()
    assert not any(str(key) in f["text"] for f in findings)
    grade, how = found(findings, "spool", f"'{new}' belongs to")
    assert grade == "bad" and how == f"chown virtspool:virtspool '{new}'; chmod 2770 '{new}'"
    grade, how = found(findings, "spool", "failed': No such file")
    assert grade == "bad" and "systemd-tmpfiles" in how


def test_doctor_sees_that_libvirt_does_not_know_the_hook(bed, no_cgroup_left):
    """With a real libvirtd: a hook that came after its start is not called until it looks again, and doctor knows."""
    bed.daemon.write_config("brokers: [mqtt://127.0.0.1:1]\n")
    node = bed.node()
    container = node.container()
    hook = node.directory / "etc/hooks/lxc"
    libvirt = "libvirtd" if node.daemon == "libvirtd" else "virtlxcd"
    # It sees the node's processes.
    command = [
        *(tool("nsenter"), "--pid", "-t", node.first, tool("unshare"), "--mount", "--propagation", "private"),
        *("sh", "-c", 'mount -t proc proc /proc && exec "$0" "$@"', program("virtspool"), "doctor", "--json"),
        *("-c", bed.daemon.config_file, "--hooksdir", hook.parent),
    ]

    def told(text):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, env={"PATH": "/usr/bin:/bin", **bed.spool.environment}
        )
        return found([json.loads(line) for line in done.stdout.splitlines() if "/lxc'" in line], "hook", text)

    def is_called():
        container.destroy()
        container.start()
        return bed.spool.names()

    shutil.copy(program("virtspool-hook"), hook)
    container.start()
    assert not is_called()
    # One that came later, but does not call this hook.
    node.execute("sh", "-c", "cp /bin/sleep /run/virtqemud && exec setsid /run/virtqemud 600 >/dev/null 2>&1 &")
    wait_until(lambda: "/run/virtqemud" in node.execute("ps", "-ewwo", "args"), what="it runs")
    grade, how = told("was not called since: if it was new then, it is not known")
    assert grade == "warning" and how == f"systemctl restart {libvirt} (guests go on), or reload it"
    node.libvirtd("reload")
    wait_until(is_called, 20, "the hook is called")
    assert told("has been called since it was installed")[0] == "ok"
    container.destroy()
    node.libvirtd("stop")
    assert told("no libvirt daemon that would call")[0] == "warning"
    node.libvirtd("start")
    assert told(f"{libvirt} started after")[0] == "ok"


# --- metrics


def parse_metrics(text):
    """Prometheus' text format, strictly: every sample has its HELP and TYPE, in one group."""
    samples, types, helps, current = {}, {}, {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, help_ = line.split(" ", 3)
            assert name not in helps and help_.endswith(".")
            helps[name] = help_
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in helps and name not in types and kind in ("counter", "gauge", "histogram")
            types[name] = kind
            current = name
        else:
            m = re.fullmatch(r'([a-z_]+)(?:\{((?:[a-z_]+="[^"\\\n]*",?)*)\})? (-?[0-9.]+(?:e[+-]?\d+)?)', line)
            assert m, line
            base = re.sub("_(bucket|sum|count)$", "", m[1]) if types[current] == "histogram" else m[1]
            assert base == current, line
            assert (types[current] == "counter") == m[1].endswith("_total"), line
            key = m[1] + ("{" + m[2] + "}" if m[2] else "")
            assert key not in samples
            samples[key] = float(m[3])
    return samples


def answer(code, name, metric="refused"):
    return f'virtspool_events_{metric}_total{{reason_code="0x{code:02x}",reason="{name}"}}'


def failed(cause):
    return f'virtspool_events_failed_total{{cause="{cause}"}}'


TAKEN = answer(0, "Success", "acknowledged")
REFUSALS = {  # MQTT 5, 3.4.2.1
    0x80: "Unspecified error",
    0x83: "Implementation specific error",
    0x87: "Not authorized",
    0x90: "Topic Name invalid",
    0x91: "Packet Identifier in use",
    0x97: "Quota exceeded",
    0x99: "Payload format invalid",
}
CAUSES = ("refused", "too_large", "topic", "record", "connection")


def test_metrics(running):
    bed = running
    path = bed.spool.rundir / "virtspool.prom"
    bed.hook.start()
    bed.subscribed.wait_for(3)
    wait_until(lambda: path.exists() and f"{TAKEN} 3" in path.read_text(), what="three are counted")
    assert path.stat().st_mode & 0o777 == 0o644
    samples = parse_metrics(path.read_text())
    for name in ("accepted", "published"):
        assert samples[f"virtspool_events_{name}_total"] == 3
    # What may be counted one day is there from the beginning, with 0.
    assert {k: v for k, v in samples.items() if "_code=" in k or "cause=" in k} == {
        TAKEN: 3,
        **{answer(0x10, "No matching subscribers", "acknowledged"): 0},
        **{answer(code, name): 0 for code, name in REFUSALS.items()},
        **{failed(cause): 0 for cause in CAUSES},
    }
    assert samples["virtspool_connected"] == 1 and samples["virtspool_queue_events"] == 0
    assert samples["virtspool_publish_latency_seconds_count"] == 3
    assert samples['virtspool_publish_latency_seconds_bucket{le="+Inf"}'] == 3
    assert samples["virtspool_publish_latency_seconds_sum"] > 0
    manual = (ROOT / "spooler/daemon/virtspoold.8").read_text().split(".Ss Metrics")[1].split(".El")[0]
    told = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"^\.It Li (.*)$", manual, re.M))))
    given = set(re.findall(r"^# TYPE virtspool_(\S+)", path.read_text(), re.M))
    assert told == given
    buckets = [v for k, v in samples.items() if "_bucket" in k]
    assert buckets == sorted(buckets)
    promtool = shutil.which("promtool")
    if promtool:
        done = subprocess.run([promtool, "check", "metrics"], input=path.read_text(), capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr and not done.stdout, done.stderr + done.stdout

    bed.broker.stop()
    bed.hook.stop()
    wait_until(lambda: parse_metrics(path.read_text())["virtspool_connected"] == 0, what="the loss is counted")
    wait_until(lambda: parse_metrics(path.read_text())["virtspool_queue_events"] == 2, what="two wait", deadline=30)
    samples = parse_metrics(path.read_text())
    assert samples["virtspool_connection_losses_total"] == 1 and samples["virtspool_queue_oldest_age_seconds"] > 0
    bed.daemon.stop()
    assert not path.exists()


def test_metrics_tell_when_certificates_end(bed):
    bed.broker.start()
    bed.daemon.start()
    path = bed.spool.rundir / "virtspool.prom"

    def told():
        found = re.findall(r'^virtspool_certificate_expiry_timestamp_seconds\{certificate="(\w+)"\} (\d+)$', path.read_text(), re.M)
        return {name: int(value) for name, value in found}

    ends = {"own": bed.certs.end("host"), "authority": bed.certs.end("ca"), "broker": bed.certs.end("broker")}
    wait_until(lambda: path.exists() and told() == ends, what=lambda: f"{ends}: {told()}")
    bed.broker.stop()
    del ends["broker"]
    wait_until(lambda: told() == ends, what=lambda: f"{ends}: {told()}")


def test_metrics_tell_refusals_by_reason_code(bed):
    bed.broker.acl = ["user consumer", "topic read virtspool/#"]
    bed.broker.start()
    bed.daemon.config["metrics"] = {"file": bed.directory / "elsewhere.prom"}
    bed.daemon.start()
    bed.hook("start")
    path = bed.directory / "elsewhere.prom"
    key = answer(0x87, "Not authorized")
    wait_until(lambda: path.exists() and parse_metrics(path.read_text())[key] > 0, what="the refusal is counted")


def test_metrics_tell_what_became_of_events(bed):
    """Taken though nobody listens, refused for good in a way that no broker should, too large, and no record at all."""

    class Answers(Behaviour):
        connack_properties = {"maximum_packet_size": 4000}
        codes = [0x10, 0x99, 0xC0, 0]

        def publish(self, c, publish):
            c.puback(publish, self.codes[len(c.broker.published) - 1])

    daemon = bed.new_daemon(brokers=bed.scripted_broker(Answers()))
    daemon.config["mqtt"]["window"] = 1
    bed.hook.many(3)
    bed.hook("start", extra="x" * 4000)
    (bed.spool.path("new") / ("0" * 8 + bed.spool.names("new")[0][8:])).write_text("torn")
    daemon.start()
    bed.spool.wait_empty()
    path = bed.spool.rundir / "virtspool.prom"
    expected = {
        answer(0x10, "No matching subscribers", "acknowledged"): 1,
        answer(0x99, "Payload format invalid"): 1,
        answer(0xC0, "Unknown reason code"): 1,
        TAKEN: 1,
        failed("refused"): 1,
        failed("too_large"): 1,
        failed("record"): 1,
    }

    def counted():
        samples = parse_metrics(path.read_text()) if path.exists() else {}
        return {k: samples.get(k) for k in expected}

    wait_until(lambda: counted() == expected, what=lambda: f"all are counted: {counted()}")


# --- log


def test_log_has_no_line_per_event(running):
    bed = running
    bed.hook.many(50)
    bed.subscribed.wait_for(50)
    bed.spool.wait_empty()
    assert len(bed.daemon.output().splitlines()) < 10, bed.daemon.output()


def test_log_for_the_journal(bed):
    bed.daemon.environment["JOURNAL_STREAM"] = "1:1"
    bed.broker.start()
    bed.daemon.start()
    bed.daemon.wait_connected()
    (bed.spool.path("tmp") / "torn").write_text("x")
    name = "01a1fcec-a57a-77cf-8000-0000000007cf"
    (bed.spool.path("tmp") / "torn").rename(bed.spool.path("new") / name)
    bed.spool.wait_count(2, "failed")
    bed.daemon.stop()
    lines = bed.daemon.output().splitlines()
    assert all(re.match(r"<[3-7]>\S", line) for line in lines), lines
    (line,) = [line for line in lines if name in line]
    assert line.startswith("<4>") and "failed/" in line


# --- filters in the configuration


def test_what_the_configuration_filters_out_is_archived_as_skipped(bed):
    bed.daemon.config["events"] = {"skip_operations": ["prepare"], "domains": ["web*"]}
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.hook.start("web1")
    bed.hook.start("db1")
    bed.hook("start", domain="web2")
    events = subscriber.wait_for(3)
    assert [(e["data"]["name"], e["data"]["operation"]) for e in events] == [
        ("web1", "start"),
        ("web1", "started"),
        ("web2", "start"),
    ]
    bed.spool.wait_count(4, "skipped")
    bed.spool.wait_count(3, "sent")
    assert [(e["name"], e["operation"]) for e in listed(bed, "skipped", "--oldest")] == [
        ("web1", "prepare"),
        ("db1", "prepare"),
        ("db1", "start"),
        ("db1", "started"),
    ]
    # It was said by hand, so it goes out.
    bed.run("virtspool", "replay", "--from", "skipped", "--vm", "db1", "--op", "started", check=True)
    assert subscriber.wait_for(4)[3]["data"]["name"] == "db1"
    bed.spool.wait_count(3, "skipped")


# --- as a program among programs


def shell(bed, script, **options):
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "V": program("virtspool"), **bed.spool.environment}
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, env=environment, **options
    )


def test_pipes(at_rest):
    bed = at_rest
    tool("jq")
    done = shell(bed, "set -o pipefail; $V list --json | jq -r .name | sort | uniq -c | tr -s ' '")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout == " 3 db1\n 5 web1\n"
    bed.hook.many(300)
    for command in ("$V list | head -1", "$V list --json | head -1", "$V replay --from failed --all --dry-run | head -1", "$V show --raw $($V list -n 1 --json | jq -r .id) | head -1"):
        done = shell(bed, command)
        noise = done.stderr.replace("0 events would be replayed\n", "")
        assert (done.returncode, noise) == (0, ""), command
    # Also where SIGPIPE is ignored, as below some supervisors.
    done = shell(bed, "trap '' PIPE; $V list --json --all | head -1")
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1
    id_ = bed.spool.names("new")[0]
    for command in ("list", "status", f"show {id_}", "purge --keep 0 --dry-run", "doctor", "--help", "--version"):
        for where, why in (("> /dev/full", "No space left"), (">&-", "Bad file descriptor")):
            done = shell(bed, f"$V {command} {where}")
            assert done.returncode == 1 and f"cannot write the output: {why}" in done.stderr, (command, done.stderr)


def test_watch_on_a_full_disk(running):
    bed = running
    script = 'exec "$V" watch -c "$1" >/dev/full'
    watch = subprocess.Popen(
        ["sh", "-c", script, "sh", bed.daemon.config_file],
        env={**os.environ, "V": program("virtspool"), **bed.spool.environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "watching" in watch.stderr.readline()
    bed.hook("start")
    rest = watch.communicate(timeout=20)[1]
    assert watch.returncode == 1 and "cannot write the output: No space left" in rest


def test_usage(bed):
    for command in COMMANDS:
        done = bed.run("virtspool", command, "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"Usage: virtspool {command}") and done.stderr == ""
        done = bed.run("virtspool", command, "--no-such-option")
        assert done.returncode == 64 and done.stdout == "" and "--no-such-option" in done.stderr
    assert bed.run("virtspool").returncode == 64
    assert bed.run("virtspool", "no-such-command").returncode == 64
    assert bed.run("virtspool", "--version").stdout.startswith("virtspool ")
    done = bed.run("virtspool", "list", "--since", "soon")
    assert done.returncode == 64 and "yesterday" in done.stderr


def complete(bed, *words):
    """What bash offers for the last word."""
    script = """
        PATH=$(dirname "$V"):$PATH; source "$COMPLETION"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _virtspool; printf '%s\\n' "${COMPREPLY[@]}" """
    done = subprocess.run(
        ["bash", "-c", script, "bash", "virtspool", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "V": program("virtspool"),
            "COMPLETION": str(ROOT / "etc/bash-completion/virtspool"),
            **bed.spool.environment,
        },
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completion(at_rest):
    bed = at_rest
    offered = complete(bed, "")
    help_ = bed.run("virtspool", "--help", check=True).stdout
    assert set(re.findall(r"^  ([a-z]+) ", help_, re.M)) == {w for w in offered if not w.startswith("-")} >= set(COMMANDS)
    for command in COMMANDS + ["hooks"]:
        options = set(re.findall(r"--[a-z-]+", bed.run("virtspool", command, "--help", check=True).stdout.split("Mandatory")[0]))
        assert options <= set(complete(bed, command, "--")), command
    assert complete(bed, "list", "f") == ["failed"]
    assert complete(bed, "list", "--vm", "") == ["db1", "web1"]
    assert complete(bed, "replay", "--from", "s") == ["sent", "skipped"]
    name = bed.spool.names("new")[0]
    assert name in complete(bed, "show", name[:8])
    assert complete(bed, "replay", "") == []
    (bed.spool.path("failed") / "notes.txt").write_text("")
    assert complete(bed, "drop", "no") == ["notes.txt"]
    move(bed, [name], "sent")
    assert complete(bed, "replay", "") == [name]


def test_rights_are_named_in_one_line(at_rest):
    bed = at_rest
    if os.geteuid() != 0:
        missing("root is needed to be somebody else")
    bed.daemon.config["brokers"] = ["mqtts://127.0.0.1:1"]
    bed.daemon.write_config()
    config = ["-c", bed.daemon.config_file]
    # The way there is open, the spool is not; and the program has to be where nobody may look.
    copy = f"/tmp/virtspool-copy-{os.getpid()}-{time.monotonic_ns()}"
    shutil.copy(program("virtspool"), copy)
    bed.spool.spooldir.chmod(0o700)
    bed.daemon.config_file.chmod(0o600)

    def as_nobody(*command):
        return subprocess.run(
            [tool("setpriv"), "--reuid", "65534", "--clear-groups", copy, *command],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", **bed.spool.environment},
            timeout=10,
        )

    try:
        commands = [["list"], ["show", "0"], ["replay", "--all"], ["drop", "--all"], ["purge", "--keep", "0"], ["status"]]
        for command in [*commands, ["test", *config], ["watch", *config]]:
            done = as_nobody(*command)
            assert done.returncode == 77 and done.stdout == "", (command, done)
            assert len(done.stderr.splitlines()) == 1 and "this needs root, or the group virtspool" in done.stderr, done.stderr
        # What it was not let look at is no fault of the installation.
        done = as_nobody("doctor", "--json", *config)
        findings = [json.loads(line) for line in done.stdout.splitlines()]
        hidden = [f for f in findings if "ermission denied" in f["text"]]
        assert len(hidden) > 3 and all((f["grade"], f["how"]) == ("warning", "run this as root") for f in hidden), findings
    finally:
        os.unlink(copy)


# --- on a terminal


class Terminal:
    """tmux, on a socket of its own."""

    def __init__(self, bed, environment=None):
        self.tmux = [tool("tmux"), "-f", "/dev/null", "-S", f"/tmp/virtspool-tmux-{os.getpid()}-{time.monotonic_ns()}"]
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "V": program("virtspool"),
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
            **bed.spool.environment,
            **(environment or {}),
        }
        self.environment = environment
        self.run("new-session", "-d", "-x", "160", "-y", "50", "bash --norc --noprofile -i")
        self.wait("bash-")

    def run(self, *arguments):
        return subprocess.run(
            [*self.tmux, *arguments], capture_output=True, text=True, timeout=10, check=True, env=self.environment
        ).stdout

    def type(self, line):
        self.run("send-keys", "-l", line)
        self.run("send-keys", "Enter")

    def screen(self, *options):
        return self.run("capture-pane", "-p", *options)

    def wait(self, text):
        return wait_until(lambda: (s := self.screen()) and text in s and s, 20, what=lambda: f"'{text}' on the screen:\n{self.screen()}")

    def close(self):
        subprocess.run([*self.tmux, "kill-server"], capture_output=True, timeout=10, check=False)
        if os.path.exists(self.tmux[-1]):
            os.unlink(self.tmux[-1])


@pytest.fixture
def terminal(bed):
    opened = []

    def make(environment=None):
        opened.append(Terminal(bed, environment))
        return opened[-1]

    yield make
    for t in opened:
        t.close()


def test_terminal_colours_and_limit(at_rest, terminal):
    bed = at_rest
    bed.hook("start", domain=EVIL)
    bed.hook.many(110)
    t = terminal()
    t.type("$V list new; echo end-$((1+1))")
    t.wait("end-2")
    screen = t.screen("-S", "-200")
    assert sum(" new " in line for line in screen.splitlines()) == 100 and "see --limit and --all" in screen
    assert "\x1b[" in t.screen("-e")
    t.type("clear; $V list new --vm 'a*' --all; echo end-$((1+2))")
    t.wait("end-3")
    assert "title" not in t.run("display-message", "-p", "#{pane_title}")
    t.type("clear; $V status; echo code-$?")
    t.wait("code-2")
    assert "\x1b[31mdown" in t.screen("-e")

    t = terminal({"NO_COLOR": "1"})
    t.type("$V status; $V list -n 3; echo code-$?")
    t.wait("code-0")
    assert not re.search(r"\x1b\[(3\d|1)m", t.screen("-e"))


def test_terminal_that_knows_ascii_only(bed, terminal):
    """Where UTF-8 is not understood, parts of its characters are control characters (here CSI); a pipe gets it whole."""
    bed.hook("start", domain="müller-\u66db")
    t = terminal()
    t.type("LC_ALL=C $V list; LC_ALL=C $V list --json; LC_ALL=C $V list | cat; echo end-$((1+1))")
    screen = t.wait("end-2")
    assert "start      m?ller-?\n" in screen
    assert '"name":"m\\u00fcller-\\u66db"' in screen.replace("\n", "").lower()
    assert screen.count("müller-曛") == 1
    t.type("clear; LANG=de_DE.utf8 LC_ALL= $V list; echo end-$((1+2))")
    assert "müller-曛" in t.wait("end-3")


def test_terminal_asks(at_rest, terminal):
    bed = at_rest
    t = terminal()
    t.type("$V drop --vm web1; echo code-$?")
    t.wait("drop 5 events, which nobody will hear of then [y/N]")
    t.type("n")
    t.wait("code-1")
    assert len(bed.spool.names("new")) == 8
    t.type("clear; echo mark-$((3+4)); $V drop --vm web1; echo code-$?")
    t.wait("mark-7")  # what was asked before is off the screen
    t.wait("[y/N]")
    t.type("y")
    t.wait("code-0")
    assert len(bed.spool.names("new")) == 3


def test_terminal_shows_progress(bed, terminal):
    bed.hook.many(30)
    move(bed, bed.spool.names("new"), "sent")
    t = terminal()
    t.type("$V replay --all --rate 20/s; echo code-$?")
    t.wait("replaying [")
    t.wait("code-0")
    assert "30 of 30" in t.screen() and "30 events put back into the queue" in t.screen()
    for name in bed.spool.names("replay"):
        (bed.spool.path("replay") / name).rename(bed.spool.path("sent") / name)
    t.run("resize-window", "-x", "30")
    t.type("clear; $V replay --all --rate 20/s; echo end-$((3+4))")
    t.wait("end-7")
    assert "30/30" in t.screen().splitlines() and "replaying" not in t.screen(), t.screen()  # on one line
