# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool status: the health check, with and without daemon and spool."""

import json
import shutil

from lib import wait_until


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
