# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Guests that a boot of the host ended: no hook is called for them, so virtspoold reports them after the boot, each once,
before everything of the new boot, whatever happened to the daemon meanwhile.
"""

import json
import os
import re
import uuid

import pytest

from lib import ROOT, schema, wait_until

BOOTS = [uuid.uuid4().hex for _ in range(4)]


def reports(events):
    return [e for e in events if e["data"]["operation"] == "reconciled"]


def names(events):
    return sorted(e["subject"] for e in reports(events))


def saved(bed):
    try:
        return json.loads((bed.spool.spooldir / "guests").read_text())
    except FileNotFoundError:
        return {"boot": None, "guests": []}


def wait_saved(bed, *guests):
    wait_until(lambda: sorted(g["name"] for g in saved(bed)["guests"]) == sorted(guests), 20, lambda: saved(bed))


@pytest.fixture
def host(bed):
    bed.broker.start()
    bed.subscribed = bed.subscriber()
    bed.boots = iter(BOOTS)
    bed.daemon.environment["VIRTSPOOL_BOOT_ID"] = next(bed.boots)

    def boot():
        bed.daemon.kill()
        bed.spool.boot()
        bed.daemon.environment["VIRTSPOOL_BOOT_ID"] = next(bed.boots)

    bed.boot = boot
    return bed


def test_guests_that_ran_are_reported(host):
    """Not those that were stopped before, and each once, also when the daemon is started again or killed."""
    host.daemon.start()
    for guest in ("vm1", "vm2", "gone"):
        host.hook.start(guest)
    host.hook.stop("gone")
    host.subscribed.wait_for(11)
    host.boot()
    host.daemon.start()
    events = host.subscribed.wait_for(13)
    host.hook.start("vm1")
    last = host.subscribed.wait_for(16)[-1]
    assert names(events) == ["vm1", "vm2"]
    for event in reports(events):
        assert schema.errors(event) == []
        assert event["type"] == "org.virtspool.qemu.reconciled.shutoff"
        data = event["data"]
        assert (data["reason"], data["origin"], data["authoritative"]) == ("host booted", "spooler", True)
        assert max(e["id"] for e in events[:11]) < event["id"] < last["id"]
        assert data["uuid"] == next(e["data"]["uuid"] for e in events if e["subject"] == event["subject"])
    host.daemon.kill()
    host.daemon.start()
    host.daemon.stop()
    host.daemon.start()
    host.daemon.wait_connected(3)
    host.hook.stop("vm1")
    host.subscribed.wait_for(18)
    assert names(host.subscribed.events) == ["vm1", "vm2"]
    # And at the next boot there is nothing that runs.
    host.boot()
    host.daemon.start()
    host.hook.start("vm9")
    host.subscribed.wait_for(21)
    assert names(host.subscribed.events) == ["vm1", "vm2"]


def test_a_filter_that_names_them_lets_them_pass(host):
    """Reports are filtered like other events, so the example of the configuration names them, as its manual page says."""
    example = re.search(r"^ *#operations: \[(.*)\]$", (ROOT / "etc/virtspool.yaml").read_text(), re.M)[1]
    operations = example.split(", ")
    host.daemon.config["events"] = {"operations": [o for o in operations if o != "reconciled"]}
    host.daemon.start()
    host.hook.start("vm1")
    host.subscribed.wait_for(1)
    host.boot()
    host.daemon.start()
    wait_until(lambda: len(host.spool.names("skipped")) == 3, what="prepare, start and the report are filtered out")
    host.hook("started", domain="vm1")
    host.subscribed.wait_for(2)
    host.boot()
    host.daemon.config["events"] = {"operations": operations}
    host.daemon.start()
    assert names(host.subscribed.wait_for(3)) == ["vm1"]


def test_events_that_wait_are_read_first(host):
    """The broker was down when the host lost power: what waits in the spool says who ran."""
    host.broker.stop()
    host.daemon.start()
    host.hook.start("vm1")
    host.hook.start("vm2")
    host.hook.stop("vm2")
    host.daemon.stop()
    host.daemon.start()
    host.hook.start("vm3")
    host.boot()
    # libvirt is faster than we are.
    host.hook.start("vm1")
    host.daemon.start()
    assert len(host.spool.names()) == 16
    host.broker.start()
    events = host.subscribed.wait_for(16)
    assert names(events) == ["vm1", "vm3"]
    assert [e["subject"] for e in events][-3:] == ["vm1"] * 3, "what came after the boot comes last"


def test_the_file_is_written_while_it_runs(host):
    """A table that is older than the archive: the file alone says who runs."""
    host.daemon.config["spool"] = {"sent_age": 0}
    host.daemon.start()
    host.hook.start("vm1")
    host.hook.start("nöt %20 <ascii>")
    host.hook.start("vm3")
    host.hook.stop("vm3")
    host.subscribed.wait_for(11)
    wait_until(lambda: len(saved(host)["guests"]) == 2, 20, lambda: saved(host))
    host.boot()
    host.daemon.start()
    assert names(host.subscribed.wait_for(13)) == ["nöt %20 <ascii>", "vm1"]


@pytest.mark.parametrize("what", ["garbage", "empty", "link", "fifo", "directory", "wrong"])
def test_a_file_that_cannot_be_used(host, what):
    path = host.spool.spooldir / "guests"
    good = {"boot": BOOTS[3], "seen": "01890000-0000-7000-8000-000000000000", "guests": [{"uuid": "x"}]}
    if what == "link":
        path.symlink_to("/etc/passwd")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    else:
        path.write_text({"garbage": "\0{", "empty": "", "wrong": json.dumps(good)}[what])
    host.daemon.start()
    host.hook.start("vm1")
    host.subscribed.wait_for(3)
    assert host.daemon.output().count("cannot use") == 1
    host.daemon.stop()
    if what != "directory":  # nothing can take its place
        wait_saved(host, "vm1")


def test_the_recorder_shows_them_as_stopped(host):
    recorder = host.recorder().start()
    host.daemon.start()
    host.hook.start("vm1")
    host.hook.start("vm2")
    recorder.wait_for(6)
    host.boot()
    host.daemon.start()
    recorder.wait_for(8)
    host.hook.start("vm2")
    recorder.wait_for(11)
    guests = {g["name"]: g for g in recorder.rows("guests")}
    assert (guests["vm1"]["state"], guests["vm2"]["state"]) == ("stopped", "running")
    assert guests["vm1"]["reason"] == "host booted"
    assert [h["missing"] for h in recorder.rows("hosts")] == [0]
    assert recorder.rows("holes") == []


def test_killed_while_it_reports(host):
    """Each guest is reported once: the records that are in the spool already say that it has ended."""
    guests = [f"vm{i:02}" for i in range(40)]
    host.daemon.start()
    for guest in guests:
        host.hook("started", domain=guest)
    host.subscribed.wait_for(40)
    host.boot()
    host.broker.stop()
    kills = 0
    while len(host.spool.names()) < 40:
        before = len(host.spool.names())
        host.daemon.start(ready=False)
        wait_until(lambda: len(host.spool.names()) > before, 15, host.daemon.output)
        host.daemon.kill()
        kills += 1
    host.daemon.start()
    host.broker.start()
    host.subscribed.wait_for(80)
    host.hook("started", domain="last")
    host.subscribed.wait_for(81)
    assert kills > 0
    assert names(host.subscribed.events) == guests, "each once"


def test_a_spool_that_takes_nothing(host):
    """The reports are written when it takes records again, and the daemon goes on meanwhile."""
    host.daemon.start()
    host.hook("started", domain="vm1")
    host.subscribed.wait_for(1)
    host.boot()
    host.spool.path("tmp").rename(host.spool.spooldir / "away")
    host.daemon.start()
    wait_until(lambda: "cannot report in" in host.daemon.output(), 15, host.daemon.output)
    (host.spool.spooldir / "away").rename(host.spool.path("tmp"))
    assert names(host.subscribed.wait_for(2)) == ["vm1"]
    assert host.daemon.output().count("cannot report in") == 1


def test_a_boot_id_that_is_the_same(host):
    """The run directory was emptied, and the host was not booted."""
    host.daemon.start()
    host.hook("started", domain="vm1")
    host.subscribed.wait_for(1)
    host.daemon.stop()
    host.spool.boot()
    host.daemon.start()
    host.hook("started", domain="vm2")
    host.subscribed.wait_for(2)
    assert names(host.subscribed.events) == []
    assert sorted(e["subject"] for e in host.subscribed.events) == ["vm1", "vm2"]
