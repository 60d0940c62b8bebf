# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's log."""

import re


def test_log_has_no_line_per_event(running):
    bed = running
    bed.hook.many(50)
    bed.subscribed.wait_for(50)
    bed.spool.wait_empty()
    assert len(bed.daemon.output().splitlines()) < 10, bed.daemon.output()


def test_log_for_the_journal(bed):
    bed.daemon.directory.mkdir(parents=True)
    bed.daemon.log.touch()
    log = bed.daemon.log.stat()
    bed.daemon.environment["JOURNAL_STREAM"] = f"{log.st_dev}:{log.st_ino}"
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
    # Set for a service whose child writes elsewhere: sd-daemon(3).
    done = bed.run("virtspoold", "--check-config", "-c", "/nowhere", environment={"JOURNAL_STREAM": f"{log.st_dev}:{log.st_ino}"})
    assert done.returncode == 78 and not done.stderr.startswith("<"), done.stderr
