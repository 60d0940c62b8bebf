# SPDX-License-Identifier: LGPL-2.1-or-later
"""virtspool flush: the daemon tries what waits at once, and nobody else gets the signal."""

import json
import os
import shutil
from pathlib import Path

from lib import Process, wait_until
from lib.programs import tool


def test_a_daemon_that_waits_for_its_back_off_connects_at_once(bed):
    bed.broker.start()  # so that it has a port
    bed.broker.stop()
    bed.daemon.config["mqtt"] |= {"retry_min": "1h", "retry_max": "1h"}
    bed.daemon.start()
    wait_until(lambda: bed.daemon.status().get("next_connect"), what="it waits for an hour")
    bed.hook("start")
    bed.broker.start()
    bed.subscriber()
    done = bed.run("virtspool", "flush", check=True)
    assert "and connects first" in done.stderr
    bed.spool.wait_empty()


def test_refused_events_are_tried_again(bed):
    bed.broker.acl = ["user consumer", "topic read virtspool/#"]
    bed.broker.options += ["max_queued_messages 1000"]
    bed.broker.start()
    bed.daemon.config["mqtt"] |= {"retry_min": "1h", "retry_max": "1h"}
    bed.daemon.start()
    bed.hook("start")
    wait_until(lambda: bed.daemon.status().get("retried"), what="it was refused")
    bed.broker.acl = ["user host", "topic write virtspool/#"]
    bed.broker.reload()
    assert bed.run("virtspool", "flush", check=True).stderr == "the daemon tries 1 event now\n"

    def accepted():  # once mosquitto has read the new list
        bed.run("virtspool", "flush", check=True)
        return not bed.spool.names("new")

    wait_until(accepted, what="it is delivered long before its back-off ends")


def test_without_a_daemon(bed):
    done = bed.run("virtspool", "flush")
    assert done.returncode == 69 and "the daemon is not running" in done.stderr and done.stdout == ""


def test_the_signal_goes_to_the_daemon_only(bed):
    """Whoever took over virtspoold writes any process id into status.json, and root runs flush."""
    shutil.copy(tool("sleep"), bed.directory / "virtspoold")  # the right name, and a process that SIGUSR1 ends
    victim = Process([bed.directory / "virtspoold", "600"], bed.directory / "victim.log")
    comm = f"/proc/{victim.pid}/comm"
    wait_until(lambda: Path(comm).read_text() == "virtspoold\n", what="it runs")
    (bed.spool.rundir / "status.json").write_text(json.dumps({"pid": victim.pid, "version": "0"}))
    done = bed.run("virtspool", "flush")
    assert done.returncode == 1 and "cannot do this" in done.stderr
    if os.geteuid() == 0:
        os.chown(bed.spool.rundir / "status.json", 65534, -1)
        os.chown(bed.spool.rundir, 65534, -1)
        done = bed.run("virtspool", "flush")
        assert done.returncode == 1 and "does not belong to the file's owner" in done.stderr
    assert victim.running
