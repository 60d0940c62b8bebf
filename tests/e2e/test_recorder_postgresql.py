# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recorder on a real PostgreSQL: the store's own tests again, and what it says of itself."""

import os
import subprocess

import pytest

from lib import program, wait_until
from lib.postgresql import PostgreSQL


@pytest.fixture
def server():
    server = PostgreSQL().start()
    yield server
    server.close()


def test_the_unit_tests_of_the_store(server):
    done = subprocess.run(
        [program("tests/unit/test-recorder-store")],
        env={**os.environ, "VIRTSPOOL_TEST_POSTGRESQL": server.url("unit")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_from_hook_to_commands(bed, server):
    bed.broker.start()
    recorder = bed.recorder(store=server.url("record")).start()
    bed.daemon.start()
    bed.hook.start("web1")
    bed.hook.stop("web1", "destroyed")
    recorder.wait_for(5)
    (guest,) = recorder.rows("guests")
    assert (guest["name"], guest["state"], guest["reason"]) == ("web1", "stopped", "destroyed")
    assert [o["outcome"] for o in recorder.rows("timeline", "web1")] == ["success", "success"]
    assert recorder.rows("log", "--vm", "web[1-9]", "--op", "st*") != []
    wait_until(lambda: recorder.rows("hosts")[0]["state"] == "online", what="the host is online")
    assert recorder.command("rebuild").stdout == "rebuilt\n"
    assert recorder.rows("guests") == [guest]


def test_events_are_partitioned_by_month(bed, server):
    url = server.url("months")
    subprocess.run([program("tests/bench/fill-store"), url, "10", "20", "500", "1"], check=True, stdout=subprocess.DEVNULL)
    months = server.sql("months", "SELECT tableoid::regclass, count(*) FROM events GROUP BY 1 ORDER BY 1")
    assert months and all(name.startswith("events_2") for name, _ in months)
    assert sum(int(n) for _, n in months) == 500


def test_a_server_that_is_not_there(bed):
    """Its name stands in the message; the recorder goes on trying."""
    bed.broker.start()
    recorder = bed.recorder(store=f"postgresql:///record?host={bed.directory}")
    recorder.start()
    assert "cannot open the store at" in recorder.output() and str(bed.directory) in recorder.output()
    done = recorder.command("guests", check=False)
    assert done.returncode == 69 and "cannot open the store" in done.stderr
    recorder.stop()
