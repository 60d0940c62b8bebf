# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What status says is true: nothing that keeps events from being recorded or delivered passes for healthy, and metrics and log
say the same. tests/unit/test-verdict.c has every kind of finding; here are those that need a real program to be seen.
"""

import json
import os
import re
import shutil
import threading
import time

import jsonschema
import pytest
from lib import ROOT, Behaviour, program, wait_until
from lib.waiting import PATIENCE


def findings(bed):
    """{kind: finding} of virtspool status --json, and its exit code."""
    done = bed.run("virtspool", "status", "--json")
    status = json.loads(done.stdout)
    assert done.returncode == status["code"] and status["reasons"] == [f["cause"] for f in status["findings"]]
    return {f["kind"]: f for f in status["findings"]}, done.returncode


def problem(bed, kind):
    """What the metrics say: 1 or 0."""
    text = (bed.spool.rundir / "virtspool.prom").read_text()
    return int(re.search(rf'^virtspool_problem\{{kind="{kind}"\}} (\d)$', text, re.M)[1])


def test_a_hook_that_is_not_ours(running):
    """Another package overwrites it, or takes its mode away; the daemon sees that without being asked."""
    bed = running
    bed.spool.hooksdir.mkdir()
    hook = bed.spool.hooksdir / "qemu"
    shutil.copy(program("virtspool-hook"), hook)
    wait_until(lambda: findings(bed) == ({}, 0), what=lambda: f"healthy: {findings(bed)}")
    bed.daemon.restart()  # the directory is there when it starts
    wait_until(lambda: problem(bed, "hook_replaced") == 0, what="the metrics")
    hook.write_text("#!/bin/sh\ncat >/dev/null\n")
    found, code = findings(bed)
    assert code == 1 and f"'{hook}' is another hook" in found["hook_replaced"]["cause"]
    assert found["hook_replaced"]["object"] == str(hook) and "hooks install" in found["hook_replaced"]["remedy"]
    wait_until(lambda: problem(bed, "hook_replaced") == 1, what="the daemon has seen it")
    assert f"degraded: '{hook}' is another hook" in bed.daemon.output()
    hook.unlink()
    wait_until(lambda: problem(bed, "hook_missing") == 1, what="the daemon has seen it")
    assert "hook_missing" in findings(bed)[0]
    shutil.copy(program("virtspool-hook"), hook)
    hook.chmod(0o644)
    wait_until(lambda: problem(bed, "hook_not_executable") == 1, what="the daemon has seen it")
    hook.chmod(0o755)
    wait_until(lambda: problem(bed, "hook_not_executable") == 0, what="the daemon has seen it")
    wait_until(lambda: "healthy again" in bed.daemon.output(), what="the log says so")
    assert findings(bed) == ({}, 0)


def test_a_reload_that_was_refused(running):
    """Until one is not: not only when it happens."""
    bed = running
    bed.daemon.write_config("brokers: [mqtts://localhost]\nmqqt: {}\n")
    os.kill(bed.daemon.pid, 1)
    wait_until(lambda: bed.daemon.status().get("reload_refused"), what="the status has it")
    bed.hook.start()
    bed.subscribed.wait_for(3)
    found, code = findings(bed)
    assert code == 1 and "virtspool.yaml:2:1:" in found["reload_refused"]["cause"]
    assert "--check-config" in found["reload_refused"]["remedy"]
    assert bed.run("virtspool", "status").stdout.startswith("degraded\n  - the reload at ")
    bed.daemon.reload()
    wait_until(lambda: findings(bed) == ({}, 0), what="it is mended")


def test_nobody_subscribes(bed):
    """The broker acknowledges every event, and nobody gets one."""
    bed.broker.start()
    bed.daemon.start()
    bed.hook.start()
    bed.spool.wait_empty()
    wait_until(lambda: "no_subscriber" in findings(bed)[0], what="status says so")
    found, code = findings(bed)
    assert code == 1 and "(0x10): the last 3 events" in found["no_subscriber"]["cause"]
    remedy = found["no_subscriber"]["remedy"]
    assert "mqtt.require_subscriber" in remedy and "no subscriber" in bed.daemon.output()
    subscriber = bed.subscriber()
    (command,) = re.findall(r"virtspool (replay --from sent --since \S+);", remedy)
    bed.run("virtspool", *command.split(), "--yes", check=True)
    assert len(subscriber.wait_for(3)) == 3
    wait_until(lambda: findings(bed) == ({}, 0), what="somebody listens")


def test_nobody_had_subscribed_for_a_while(running):
    """As after a broker that came back without its sessions: the consumer is there again, and what it missed is not forgotten."""
    bed = running
    bed.hook.start("vm0")
    bed.subscribed.wait_for(3)
    gone = threading.Event()
    bed.subscribed.client.on_unsubscribe = lambda *a: gone.set()

    def unsubscribed():
        bed.subscribed.client.unsubscribe("virtspool/#")  # paho's loop runs in another thread, and may miss it
        return gone.wait(1)

    wait_until(unsubscribed, 10, "nobody subscribes any more")
    for i in range(12):
        bed.hook("started", domain=f"vm{i}")
    bed.spool.wait_empty()
    again = bed.subscriber()
    bed.hook("stopped", domain="vm0")
    again.wait_for(1)

    def reported():  # a problem until the answer to the last event is here, and a warning from then on
        found, code = findings(bed)
        return found if code == 0 and found.get("no_subscriber", {}).get("level") == "warning" else None

    found = wait_until(reported, what=lambda: f"status warns of it: {findings(bed)}")
    assert re.match(r"12 events of \S+ \S+ to \S+ \S+ reached nobody", found["no_subscriber"]["cause"]), found
    assert "virtspool replay --from sent --since" in bed.daemon.output()
    (command,) = re.findall(r"virtspool (replay --from sent --since \S+ --until \S+) ", found["no_subscriber"]["remedy"])
    bed.run("virtspool", *command.split(), "--yes", check=True)
    again.wait_for(13)
    wait_until(lambda: findings(bed) == ({}, 0), what=lambda: f"nothing is missing any more: {findings(bed)}")
    assert len(again.events) == 13


def test_events_wait_for_a_subscriber(bed):
    """mqtt.require_subscriber: of 40 domains nothing is lost; few probes; the first subscriber starts delivery of all."""
    domains = 40
    bed.daemon.config["mqtt"] = {"require_subscriber": True}  # and the default back-off, of up to a minute
    bed.broker.start()
    for i in range(domains):
        bed.hook("started", domain=f"vm{i}")
        bed.hook("stopped", domain=f"vm{i}")
    bed.daemon.start()
    wait_until(lambda: bed.daemon.status().get("queue", {}).get("denied_domains", 0) > 20, 20, "one after the other")
    found, code = findings(bed)
    cause = found["no_subscriber"]["cause"]
    events, guests, topic = re.match(
        r"(\d+) events of (\d+) VMs wait because nobody has subscribed: No matching subscribers \(0x10\) on topic (\S+)$", cause
    ).groups()
    assert code == 1 and int(guests) <= domains and 2 * int(guests) - 1 <= int(events) <= 2 * int(guests)
    assert topic == found["no_subscriber"]["object"]
    assert "replay" not in found["no_subscriber"]["remedy"]  # they are not in sent/
    assert bed.daemon.status()["events"]["published"] < 2 * domains
    listed = json.loads(bed.run("virtspool", "list", "new", "--json", "--oldest", "-n1").stdout)
    assert listed["why"] == "No matching subscribers (0x10)" and listed["attempts"] >= 1, listed
    assert bed.spool.names("sent") == []
    subscriber = bed.subscriber()
    subscriber.wait_for(2 * domains, 20)
    bed.spool.wait_empty()
    subscriber.check_complete(concurrent=True)
    wait_until(lambda: findings(bed) == ({}, 0), what=lambda: f"somebody listens: {findings(bed)}")


def test_a_connection_that_flaps(bed):
    class Closes(Behaviour):
        def publish(self, c, publish):
            c.puback(publish, 0)
            c.cut()

    bed.daemon.config["brokers"] = [bed.scripted_broker(Closes()).url]
    bed.daemon.start()
    wait_until(lambda: "flapping" in findings(bed)[0], 30, "three losses")
    found, code = findings(bed)
    assert code == 1 and "times within an hour" in found["flapping"]["cause"] and "client id" in found["flapping"]["remedy"]


def test_a_disk_that_takes_nothing(bed):
    """With the broker there, every event goes out through memory, and nothing waits anywhere."""
    bed.broker.start()
    subscriber = bed.subscriber()
    bed.daemon.start()
    bed.daemon.wait_connected()
    tmp = bed.spool.path("tmp")
    tmp.rmdir()
    tmp.write_text("not a directory")
    bed.hook.start()
    subscriber.wait_for(3)
    wait_until(lambda: bed.daemon.status().get("emergency_error"), what="the daemon has tried")
    found, code = findings(bed)
    assert code == 1 and "Not a directory" in found["emergency"]["cause"] and "virtspool doctor" in found["emergency"]["remedy"]
    assert "virtspool_events_emergency_total 3\n" in (bed.spool.rundir / "virtspool.prom").read_text()
    assert re.search(r"degraded: the (last \d events|spool '|emergency spool)", bed.daemon.output())
    tmp.unlink()
    tmp.mkdir()
    bed.hook("stopped")
    subscriber.wait_for(4)
    wait_until(lambda: findings(bed) == ({}, 0), 40, lambda: f"the disk takes events again: {findings(bed)}")


@pytest.mark.parametrize("command", [["status"], ["list"], ["doctor", "-c", "/dev/null"]])
def test_a_dead_file_server(bed, mounts, command):
    """Each look would hang; the answer says what was not looked at."""
    bed.hook("started")
    with mounts.dead(bed.spool.spooldir):
        begin = time.monotonic()
        done = bed.run("virtspool", *command)
        took = time.monotonic() - begin
    assert done.returncode != 0 and "does not answer" in done.stdout + done.stderr
    assert took < 5 * PATIENCE, "it waits for less than a second, on a machine that is not busy"


def test_the_documented_json(running):
    """etc/status.schema.json, with and without a daemon and a spool; nothing is in the JSON that is not in the schema."""
    bed = running
    schema = json.loads((ROOT / "etc/status.schema.json").read_text())
    validator = jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker())

    def check():
        status = json.loads(bed.run("virtspool", "status", "--json").stdout)
        assert [e.message for e in validator.iter_errors(status)] == []
        return status

    bed.hook.start()
    bed.subscribed.wait_for(3)
    wait_until(lambda: check()["sent"]["events"] == 3 and check()["daemon"]["last_delivered"], what="delivered")
    assert set(check()["daemon"]) == set(schema["definitions"]["daemon"]["properties"])
    bed.daemon.stop()
    assert check()["daemon"] is None
    shutil.rmtree(bed.spool.spooldir)
    assert check()["health"] == "down"
