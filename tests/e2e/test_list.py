# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool list: what is where, filters, limits; whatever lies in the spool."""

import json
import re
import subprocess

import pytest
from lib import program
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
