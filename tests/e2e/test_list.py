# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool list: what is where, filters, limits; whatever lies in the spool."""

import json
import os
import re
import shutil
import signal
import subprocess

import jsonschema
import pytest
from lib import ROOT, Process, program, wait_until
from lib.admin import listed, move
from lib.documents import domain_uuid
from lib.programs import tool


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


def test_of_many_only_what_is_shown_is_read(bed):
    """66,000 records: names are looked at, files are not opened; the size of so many is reckoned from a part."""
    subprocess.run([program("tests/faults/make-records"), bed.spool.path("sent"), "66000"], check=True, timeout=60)
    trace = bed.directory / "trace"

    def calls(call, *arguments):
        """How often it was made for a record."""
        strace = [tool("strace"), "-f", "-o", trace, "-e", f"trace={call}"]
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


def test_list_while_the_daemon_drains(bed):
    n = 500
    bed.hook.many(n)
    bed.broker.start()
    bed.daemon.config["mqtt"]["window"] = 1
    bed.daemon.start()
    wait_until(lambda: bed.spool.names("sent"), 15, "it drains", interval=0.001)
    os.kill(bed.daemon.pid, signal.SIGSTOP)  # one look at both, however slow the machine is
    assert {e["where"] for e in listed(bed, "--all")} == {"new", "sent"}
    os.kill(bed.daemon.pid, signal.SIGCONT)
    while bed.spool.names("new"):
        events = listed(bed, "--all")
        assert len(events) == n == len({e["id"] for e in events})


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


# --- as JSON


SCHEMA = json.loads((ROOT / "etc/list.schema.json").read_text())


def check_schema(events):
    validator = jsonschema.Draft7Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    for event in events:
        assert not [e.message for e in validator.iter_errors(event)], event
        assert set(event) <= set(SCHEMA["properties"]), event


def test_json_keeps_to_its_schema(at_rest):
    bed = at_rest
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    names = bed.spool.names("new")
    move(bed, names[:1], "sent")
    move(bed, names[1:2], "failed", "made up")
    (bed.spool.path("new") / names[2]).write_text("torn")
    (bed.spool.path("new") / ("f" * 8 + names[3][8:])).write_text("from the year 10889")
    (bed.spool.path("failed") / "a note").write_text("")
    bed.hook("start", domain="n\xe4me \u202e", extra="shutdown")
    events = listed(bed)
    check_schema(events)
    assert {k for e in events for k in e} >= {"id", "file", "problem", "failure", "sequence", "name", "uuid", "reason", "why"}
    assert all(e["why"] == "the daemon is not running" for e in events if e["where"] == "new")
    assert not any("why" in e or "attempts" in e for e in events if e["where"] != "new")
    with pytest.raises(AssertionError):
        check_schema([{**events[0], "where": "nowhere"}])


def test_why_events_wait(bed):
    """Refused, after a refused one, and not connected: with the attempts and the time of the next."""
    bed.broker.acl = ["user consumer", "topic read virtspool/#"]
    bed.broker.options += ["max_queued_messages 1000"]  # with 0, mosquitto 2.0.11 disconnects whom it denies
    bed.broker.start()
    bed.daemon.start()
    bed.hook.start("web1")
    first, *later = bed.spool.names("new")
    uuid = domain_uuid("web1")

    def refused():
        event, *others = listed(bed, "--oldest")
        return event.get("attempts", 0) > 0 and all("waits_for" in e for e in others) and [event, *others]

    events = wait_until(refused, what=lambda: f"all say why: {listed(bed)}")
    check_schema(events)
    assert "Not authorized (0x87)" in events[0]["why"]
    assert events[0].get("topic") in (None, f"virtspool/v1/node1/qemu/{uuid}/prepare")
    assert [e["waits_for"] for e in events[1:]] == [first] * 2 and [e["id"] for e in events[1:]] == later
    text = bed.run("virtspool", "list", "new", check=True).stdout
    assert re.search(rf"{first} .*Not authorized \(0x87\).*; \d+ attempt", text), text
    assert len(re.findall(f"waits(?: for|:) {first}", text)) == 2, text
    shown = json.loads(bed.run("virtspool", "show", "--json", first, check=True).stdout)
    assert shown["attempts"] > 0 and "0x87" in shown["why"]
    assert re.search(f"^waits .*{first}", bed.run("virtspool", "show", later[0]).stdout, re.M)

    bed.broker.stop()
    wait_until(lambda: bed.daemon.status().get("connected") is False, what="the daemon noticed")
    bed.hook.start("db1")
    wait_until(lambda: all("why" in e for e in listed(bed, "--vm", "db1")), what="the others wait for the connection")
    check_schema(listed(bed))


# --- following


class Follower:
    """`virtspool list --follow`, and the lines that it has printed so far."""

    def __init__(self, bed, *arguments):
        self.log = bed.directory / "follow.log"
        self.process = Process([program("virtspool"), "list", "--follow", *arguments], self.log, {**bed.spool.environment, "PATH": "/usr/bin:/bin"})

    def lines(self):
        return self.log.read_text().splitlines()

    def wait(self, n):
        wait_until(lambda: len(self.lines()) >= n, what=lambda: f"{n} lines: {self.lines()}")
        return [json.loads(line) for line in self.lines()]


def test_follow(at_rest):
    bed = at_rest
    names = bed.spool.names("new")
    follower = Follower(bed, "--json", "--limit", "2")
    assert [e["id"] for e in follower.wait(2)] == names[-2:]
    bed.hook.start("web2")
    events = follower.wait(5)
    assert [e["name"] for e in events[2:]] == ["web2"] * 3 and [e["operation"] for e in events[2:]] == ["prepare", "start", "started"]
    # In the emergency spool, which did not exist; and moved on before it is read.
    name = "f" * 8 + names[0][8:]
    (bed.spool.path("new") / names[0]).rename(bed.spool.path("tmp") / name)
    bed.spool.path("emergency/new").mkdir(parents=True, exist_ok=True)
    shutil.move(bed.spool.path("tmp") / name, bed.spool.rundir / "there")
    (bed.spool.rundir / "there").rename(bed.spool.path("emergency/new") / name)
    assert follower.wait(6)[5]["where"] == "emergency"
    # A failure is shown although the event was.
    move(bed, names[1:2], "failed", "made up")
    assert follower.wait(7)[6]["failure"] == "made up"
    assert follower.process.running and len(follower.lines()) == 7


def test_follow_while_the_daemon_drains(running):
    """Each event once, however often it moves."""
    bed = running
    follower = Follower(bed, "--json", "--vm", "web*")
    bed.hook.start("web0")
    follower.wait(3)
    n = 60
    for i in range(n):
        bed.hook("start", domain=f"web{i}")
    bed.spool.wait_empty()
    bed.hook("start", domain="web-last")
    events = wait_until(lambda: (e := follower.wait(4)) and e[-1]["name"] == "web-last" and e, what="the last one")
    assert sorted(e["id"] for e in events) == [e["id"] for e in listed(bed, "--oldest", "--vm", "web*")]


def test_follow_sleeps_and_ends_with_its_reader(at_rest):
    bed = at_rest
    environment = {"PATH": "/usr/bin:/bin", "V": program("virtspool"), **bed.spool.environment}
    done = subprocess.run(["bash", "-c", '"$V" list -f --json | head -n 1'], env=environment, capture_output=True, text=True, timeout=30)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""
    follower = Follower(bed, "--json")
    follower.wait(8)
    wait_until(lambda: follower.process.state() == "S", what="it sleeps")
    before = follower.process.switches()
    (bed.spool.path("tmp") / "x").write_text("")  # nobody asks for that
    assert follower.process.switches() - before <= 1
    done = bed.run("virtspool", "list", "-f", "--newest")
    assert done.returncode == 64 and "--newest" in done.stderr
